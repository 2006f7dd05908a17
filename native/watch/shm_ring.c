/* SPDX-License-Identifier: BSD-3-Clause */
#include "watch/shm_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

struct vfsd_shm_ring {
	int fd;
	struct vfsd_shm_ring_producer *producer;
	struct vfsd_shm_ring_consumer *consumer;
	uint8_t *data;
	/* What holds; the shared copies are for the consumer, which can write to them. */
	uint64_t size;
	uint64_t head;
	uint64_t tail; /* as last seen */
	uint64_t dropped;
	uint64_t reported; /* of dropped: in loss records */
	bool broken;
};

_Static_assert(sizeof(struct vfsd_shm_ring_producer) <= 4096, "a page for each side");
_Static_assert((int)VFSD_SHM_RING_BYTES_MIN >= 4 * (int)VFSD_SHM_RING_PAYLOAD_MAX, "an empty ring "
										   "has room for "
										   "any record, "
										   "wherever it "
										   "is");

static int map(struct vfsd_shm_ring *ring)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	size_t bytes_all = (size_t)ring->size + VFSD_SHM_RING_DATA_OFFSET;
	uint8_t *memory;

	ring->fd = memfd_create("virtiofsd-py-events", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (ring->fd < 0)
		return -errno;
	/* If the consumer could cut the memory short, SIGBUS would end the daemon. */
	if (ftruncate(ring->fd, (off_t)bytes_all) < 0 || fcntl(ring->fd, F_ADD_SEALS, seals) < 0)
		return -errno;
	memory = mmap(NULL, bytes_all, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	ring->producer = (struct vfsd_shm_ring_producer *)(void *)memory;
	ring->consumer = (struct vfsd_shm_ring_consumer *)(void *)(memory + 4096);
	ring->data = memory + VFSD_SHM_RING_DATA_OFFSET;
	return 0;
}

int vfsd_shm_ring_create(uint32_t bytes, struct vfsd_shm_ring **ret)
{
	struct vfsd_shm_ring *ring;
	int err;

	if (bytes < VFSD_SHM_RING_BYTES_MIN || bytes > VFSD_SHM_RING_BYTES_MAX ||
	    (bytes & (bytes - 1)) != 0)
		return -EINVAL;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	ring->size = bytes;
	err = map(ring);
	if (err) {
		vfsd_shm_ring_destroy(ring);
		return err;
	}
	ring->producer->magic = VFSD_SHM_RING_MAGIC;
	ring->producer->version = VFSD_SHM_RING_VERSION;
	ring->producer->data_bytes = bytes;
	*ret = ring;
	return 0;
}

void vfsd_shm_ring_destroy(struct vfsd_shm_ring *ring)
{
	if (!ring)
		return;
	if (ring->producer)
		(void)munmap(ring->producer, (size_t)ring->size + VFSD_SHM_RING_DATA_OFFSET);
	if (ring->fd >= 0)
		(void)close(ring->fd);
	free(ring);
}

int vfsd_shm_ring_fd(const struct vfsd_shm_ring *ring)
{
	return ring->fd;
}

/* Load the consumer's cursor. It may only have moved on, at most to the head. */
static int load_tail(struct vfsd_shm_ring *ring)
{
	uint64_t tail = atomic_load(&ring->consumer->tail);

	if (tail - ring->tail > ring->head - ring->tail || tail % VFSD_RECORD_ALIGN != 0) {
		ring->broken = true;
		return -EPROTO;
	}
	ring->tail = tail;
	return 0;
}

static uint64_t contiguous(const struct vfsd_shm_ring *ring, uint64_t position)
{
	return ring->size - (position & (ring->size - 1));
}

static void write_header(struct vfsd_shm_ring *ring, uint64_t position,
			 const struct vfsd_shm_record *header)
{
	memcpy(ring->data + (position & (ring->size - 1)), header, sizeof(*header));
}

static void append(struct vfsd_shm_ring *ring, uint64_t *head, const struct vfsd_shm_record *header,
		   const void *payload)
{
	uint64_t room = contiguous(ring, *head);
	uint8_t *at;

	if (room < header->size) {
		const struct vfsd_shm_record skip = {.type = VFSD_RECORD_SKIP,
						     .size = (uint32_t)room};

		/* The end may be nearer than a whole header: type and size are in its first half. */
		memcpy(ring->data + (*head & (ring->size - 1)), &skip,
		       room < sizeof(skip) ? (size_t)room : sizeof(skip));
		*head += room;
	}
	write_header(ring, *head, header);
	at = ring->data + (*head & (ring->size - 1)) + sizeof(*header);
	if (header->bytes > 0)
		memcpy(at, payload, header->bytes);
	memset(at + header->bytes, 0, header->size - sizeof(*header) - header->bytes);
	*head += header->size;
}

/* Bytes that a record of @size takes at @position, with the skip before it. */
static uint64_t takes(const struct vfsd_shm_ring *ring, uint64_t position, uint64_t size)
{
	uint64_t room = contiguous(ring, position);

	return room < size ? room + size : size;
}

static uint32_t record_size(uint32_t bytes)
{
	return (uint32_t)VFSD_ALIGN_UP(sizeof(struct vfsd_shm_record) + bytes,
				       (size_t)VFSD_RECORD_ALIGN);
}

/* Publish the records up to @head. 1: the consumer had read everything before them. */
static int publish(struct vfsd_shm_ring *ring, uint64_t head)
{
	uint64_t before = ring->head;
	int err;

	ring->head = head;
	/*
	 * Both in the one order that all such operations have, as are the consumer's store to tail and
	 * its load of head after it: either the consumer sees the record, or its tail says that it waits.
	 */
	atomic_store(&ring->producer->head, head);
	err = load_tail(ring);
	return err ? err : ring->tail == before;
}

int vfsd_shm_ring_put_loss(struct vfsd_shm_ring *ring, uint64_t count)
{
	int err = ring->broken ? -EPROTO : load_tail(ring);

	if (err)
		return err;
	ring->dropped += count;
	atomic_store(&ring->producer->dropped, ring->dropped);
	err = load_tail(ring);
	return err ? err : ring->tail == ring->head;
}

int vfsd_shm_ring_put(struct vfsd_shm_ring *ring, enum vfsd_record_type type, uint16_t subtype,
		      uint32_t watch, const void *payload, uint32_t bytes)
{
	const struct vfsd_shm_record loss = {.type = VFSD_RECORD_LOSS,
					     .size = record_size(sizeof(ring->dropped)),
					     .bytes = sizeof(ring->dropped)};
	const struct vfsd_shm_record record = {.type = (uint16_t)type,
					       .subtype = subtype,
					       .size = record_size(bytes),
					       .watch = watch,
					       .bytes = bytes};
	bool must_report = ring->reported != ring->dropped;
	uint64_t head = ring->head;
	uint64_t end;

	if (ring->broken || load_tail(ring) < 0)
		return -EPROTO;
	end = head + (must_report ? takes(ring, head, loss.size) : 0);
	end += takes(ring, end, record.size);
	if (bytes > VFSD_SHM_RING_PAYLOAD_MAX || end - ring->tail > ring->size)
		return vfsd_shm_ring_put_loss(ring, 1);
	if (must_report) {
		append(ring, &head, &loss, &ring->dropped);
		ring->reported = ring->dropped;
	}
	append(ring, &head, &record, payload);
	return publish(ring, head);
}
