/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/record_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* Always kept free, so that a loss record fits whatever the ring's state. */
enum { LOSS_SIZE = sizeof(struct vfsd_record) + sizeof(uint64_t) };

struct vfsd_record_ring {
	uint8_t *data;
	uint64_t size; /* power of two */
	uint64_t head; /* next byte to write */
	uint64_t tail; /* next byte to read */
	uint64_t last; /* position of the youngest record */
	bool has_last; /* ... if it is still unread */
};

_Static_assert(sizeof(struct vfsd_record) == VFSD_RECORD_ALIGN, "headers keep records aligned");

int vfsd_record_ring_create(uint32_t bytes, struct vfsd_record_ring **ret)
{
	struct vfsd_record_ring *ring;

	if (bytes < VFSD_RECORD_RING_BYTES_MIN || (bytes & (bytes - 1)) != 0)
		return -EINVAL;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	ring->data = aligned_alloc(VFSD_RECORD_ALIGN, bytes);
	if (!ring->data) {
		free(ring);
		return -ENOMEM;
	}
	ring->size = bytes;
	*ret = ring;
	return 0;
}

void vfsd_record_ring_destroy(struct vfsd_record_ring *ring)
{
	if (!ring)
		return;
	free(ring->data);
	free(ring);
}

static struct vfsd_record *record_at(const struct vfsd_record_ring *ring, uint64_t position)
{
	return (struct vfsd_record *)(void *)(ring->data + (position & (ring->size - 1)));
}

/* Bytes from @position to the end of the memory: what a record there may take at most. */
static uint64_t contiguous(const struct vfsd_record_ring *ring, uint64_t position)
{
	return ring->size - (position & (ring->size - 1));
}

static bool fits(const struct vfsd_record_ring *ring, uint64_t size, uint64_t reserve)
{
	uint64_t used = ring->head - ring->tail;
	uint64_t skip = contiguous(ring, ring->head);

	if (skip >= size)
		skip = 0;
	/* The reserve may need a skip of its own: it is smaller than one loss record. */
	if (reserve)
		reserve += LOSS_SIZE;
	return skip + size + reserve <= ring->size - used;
}

static void append(struct vfsd_record_ring *ring, enum vfsd_record_type type, uint16_t subtype,
		   const void *payload, uint32_t len)
{
	uint32_t size = (uint32_t)VFSD_ALIGN_UP(sizeof(struct vfsd_record) + len,
						(size_t)VFSD_RECORD_ALIGN);
	uint64_t room = contiguous(ring, ring->head);
	struct vfsd_record *record;

	if (room < size) {
		record = record_at(ring, ring->head);
		record->type = VFSD_RECORD_SKIP;
		record->subtype = 0;
		record->size = (uint32_t)room;
		ring->head += room;
	}
	record = record_at(ring, ring->head);
	record->type = (uint16_t)type;
	record->subtype = subtype;
	record->size = size;
	memcpy(record->payload, payload, len);
	memset(record->payload + len, 0, size - sizeof(*record) - len);
	ring->last = ring->head;
	ring->has_last = true;
	ring->head += size;
}

static struct vfsd_record *youngest(const struct vfsd_record_ring *ring)
{
	return ring->has_last ? record_at(ring, ring->last) : NULL;
}

/* Equal with its padding: a record does not say how long its payload was. */
static bool same(const struct vfsd_record *record, enum vfsd_record_type type, uint16_t subtype,
		 const void *payload, uint32_t len)
{
	static const uint8_t zeros[VFSD_RECORD_ALIGN];
	size_t padded = VFSD_ALIGN_UP((size_t)len, (size_t)VFSD_RECORD_ALIGN);

	return record->type == type && record->subtype == subtype &&
	       record->size == sizeof(*record) + padded &&
	       memcmp(record->payload, payload, len) == 0 &&
	       memcmp(record->payload + len, zeros, padded - len) == 0;
}

bool vfsd_record_ring_put(struct vfsd_record_ring *ring, enum vfsd_record_type type,
			  uint16_t subtype, const void *payload, uint32_t len)
{
	const struct vfsd_record *last = youngest(ring);

	if (len > VFSD_RECORD_PAYLOAD_MAX) {
		vfsd_record_ring_put_loss(ring, 1);
		return false;
	}
	if (last && same(last, type, subtype, payload, len))
		return true;
	if (!fits(ring, VFSD_ALIGN_UP(sizeof(*last) + len, (size_t)VFSD_RECORD_ALIGN), LOSS_SIZE)) {
		vfsd_record_ring_put_loss(ring, 1);
		return false;
	}
	append(ring, type, subtype, payload, len);
	return true;
}

void vfsd_record_ring_put_loss(struct vfsd_record_ring *ring, uint64_t count)
{
	struct vfsd_record *last = youngest(ring);
	uint64_t total;

	if (last && last->type == VFSD_RECORD_LOSS) {
		memcpy(&total, last->payload, sizeof(total));
		total += count;
		memcpy(last->payload, &total, sizeof(total));
		return;
	}
	/* Every other record left the reserve, so this always fits. */
	append(ring, VFSD_RECORD_LOSS, 0, &count, sizeof(count));
}

const struct vfsd_record *vfsd_record_ring_peek(struct vfsd_record_ring *ring)
{
	const struct vfsd_record *record;

	while (ring->tail != ring->head) {
		record = record_at(ring, ring->tail);
		if (record->type != VFSD_RECORD_SKIP)
			return record;
		ring->tail += record->size;
	}
	return NULL;
}

void vfsd_record_ring_consume(struct vfsd_record_ring *ring)
{
	const struct vfsd_record *record = vfsd_record_ring_peek(ring);

	if (!record)
		return;
	if (ring->has_last && ring->last == ring->tail)
		ring->has_last = false;
	ring->tail += record->size;
}

bool vfsd_record_ring_empty(const struct vfsd_record_ring *ring)
{
	return ring->tail == ring->head;
}

void vfsd_record_ring_clear(struct vfsd_record_ring *ring)
{
	ring->tail = ring->head;
	ring->has_last = false;
}
