/* SPDX-License-Identifier: BSD-3-Clause */
/* The event ring against a naive queue: same records, same order, every loss accounted for. */
#include "fsnotify/record_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { RING_BYTES = VFSD_RECORD_RING_BYTES_MIN, MODEL_MAX = 4096 };

/* What the ring ought to hold. */
struct expected {
	uint64_t lost; /* 0: a record */
	uint32_t len;
	uint8_t fill;
};

struct model {
	struct expected items[MODEL_MAX];
	size_t first, count;
};

static struct expected *last(struct model *model)
{
	return model->count ? &model->items[(model->first + model->count - 1) % MODEL_MAX] : NULL;
}

static void push(struct model *model, struct expected item)
{
	CHECK(model->count < MODEL_MAX);
	model->items[(model->first + model->count++) % MODEL_MAX] = item;
}

static void check_oldest(struct vfsd_record_ring *ring, struct model *model)
{
	const struct vfsd_record *record = vfsd_record_ring_peek(ring);
	struct expected want;
	uint64_t lost;

	if (model->count == 0) {
		CHECK(record == NULL);
		CHECK(vfsd_record_ring_empty(ring));
		return;
	}
	want = model->items[model->first];
	CHECK(record != NULL);
	if (want.lost) {
		CHECK(record->type == VFSD_RECORD_LOSS);
		memcpy(&lost, record->payload, sizeof(lost));
		CHECK(lost == want.lost);
	} else {
		CHECK(record->type == VFSD_RECORD_FSNOTIFY);
		CHECK(record->size % VFSD_RECORD_ALIGN == 0);
		CHECK(record->size - sizeof(*record) >= want.len);
		for (uint32_t i = 0; i < record->size - sizeof(*record); i++)
			CHECK(record->payload[i] == (i < want.len ? want.fill : 0));
	}
	model->first = (model->first + 1) % MODEL_MAX;
	model->count--;
	vfsd_record_ring_consume(ring);
}

static void test_against_model(unsigned int seed, int put_percent)
{
	struct vfsd_record_ring *ring;
	static struct model model;
	uint8_t payload[400];

	model = (struct model){0};
	srandom(seed);
	CHECK(vfsd_record_ring_create(RING_BYTES, &ring) == 0);
	for (int step = 0; step < 20000; step++) {
		if (random() % 100 < put_percent) {
			uint32_t len = (uint32_t)random() % sizeof(payload) + 1;
			uint8_t fill = (uint8_t)(random() % 3 + 1);
			struct expected *newest = last(&model);
			bool merged = newest && !newest->lost && newest->len == len &&
				      newest->fill == fill;

			memset(payload, fill, len);
			if (vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, payload, len)) {
				if (!merged)
					push(&model, (struct expected){.len = len, .fill = fill});
			} else if (newest && newest->lost) {
				newest->lost++;
			} else {
				push(&model, (struct expected){.lost = 1});
			}
		} else {
			check_oldest(ring, &model);
		}
	}
	while (model.count > 0)
		check_oldest(ring, &model);
	check_oldest(ring, &model);
	vfsd_record_ring_destroy(ring);
}

static void test_loss_has_its_place(void)
{
	struct vfsd_record_ring *ring;
	const struct vfsd_record *record;
	uint64_t payload[32] = {0}, lost;
	uint64_t stored = 0;

	CHECK(vfsd_record_ring_create(RING_BYTES, &ring) == 0);
	/* Full: five are lost at this place of the order. */
	while (vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, payload, sizeof(payload)))
		payload[0] = ++stored;
	for (int i = 0; i < 4; i++) {
		payload[0]++;
		CHECK(!vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, payload,
					    sizeof(payload)));
	}
	/* Room again: the next one is a record of its own, after the loss. */
	vfsd_record_ring_consume(ring);
	vfsd_record_ring_consume(ring);
	payload[0] = 999;
	CHECK(vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, payload, sizeof(payload)));
	for (uint64_t i = 2; i < stored; i++) {
		record = vfsd_record_ring_peek(ring);
		CHECK(record && record->type == VFSD_RECORD_FSNOTIFY);
		vfsd_record_ring_consume(ring);
	}
	record = vfsd_record_ring_peek(ring);
	CHECK(record && record->type == VFSD_RECORD_LOSS);
	memcpy(&lost, record->payload, sizeof(lost));
	CHECK(lost == 5);
	vfsd_record_ring_consume(ring);
	record = vfsd_record_ring_peek(ring);
	CHECK(record && record->type == VFSD_RECORD_FSNOTIFY);
	CHECK(memcmp(record->payload, payload, sizeof(payload)) == 0);
	vfsd_record_ring_destroy(ring);
}

static void test_only_unread_neighbours_merge(void)
{
	struct vfsd_record_ring *ring;

	CHECK(vfsd_record_ring_create(RING_BYTES, &ring) == 0);
	CHECK(vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, "a", 1));
	CHECK(vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, "a", 1));
	CHECK(vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 1, "a", 1));
	vfsd_record_ring_consume(ring);
	vfsd_record_ring_consume(ring);
	CHECK(vfsd_record_ring_peek(ring) == NULL);
	/* Read already: the guest may have acted on it, so it comes again. */
	CHECK(vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 1, "a", 1));
	CHECK(vfsd_record_ring_peek(ring) != NULL);
	vfsd_record_ring_clear(ring);
	CHECK(vfsd_record_ring_empty(ring));
	vfsd_record_ring_destroy(ring);
}

int main(void)
{
	struct vfsd_record_ring *ring;

	CHECK(vfsd_record_ring_create(RING_BYTES - 8, &ring) == -EINVAL);
	CHECK(vfsd_record_ring_create(RING_BYTES / 2, &ring) == -EINVAL);
	vfsd_record_ring_destroy(NULL);
	for (unsigned int seed = 1; seed <= 10; seed++) {
		test_against_model(seed, 50);
		test_against_model(seed, 70);
	}
	test_loss_has_its_place();
	test_only_unread_neighbours_merge();
	return 0;
}
