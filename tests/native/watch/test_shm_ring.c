/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The shared ring and its reader: against a naive queue, across threads (for ThreadSanitizer), and
 * with a consumer that scribbles.
 */
#include "watch/shm_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "watch/shm_reader.h"

enum { RING_BYTES = VFSD_SHM_RING_BYTES_MIN, MODEL_MAX = 8192 };

static uint8_t *map(const struct vfsd_shm_ring *ring)
{
	void *memory = mmap(NULL, VFSD_SHM_RING_DATA_OFFSET + RING_BYTES, PROT_READ | PROT_WRITE,
			    MAP_SHARED, vfsd_shm_ring_fd(ring), 0);

	CHECK(memory != MAP_FAILED);
	return memory;
}

static void unmap(uint8_t *memory)
{
	CHECK(munmap(memory, VFSD_SHM_RING_DATA_OFFSET + RING_BYTES) == 0);
}

/* What the ring ought to hold: a record, or so many lost ones. */
struct expected {
	uint64_t lost; /* 0: a record */
	uint32_t len;
	uint32_t watch;
	uint8_t fill;
};

struct model {
	struct expected items[MODEL_MAX];
	size_t first, count;
	uint64_t records;
};

static struct expected *last(struct model *model)
{
	return model->count ? &model->items[(model->first + model->count - 1) % MODEL_MAX] : NULL;
}

static void push(struct model *model, struct expected item)
{
	CHECK(model->count < MODEL_MAX);
	model->items[(model->first + model->count++) % MODEL_MAX] = item;
	model->records += item.lost == 0;
}

static void push_loss(struct model *model)
{
	struct expected *newest = last(model);

	if (newest && newest->lost)
		newest->lost++;
	else
		push(model, (struct expected){.lost = 1});
}

static void check_oldest(vfsd_shm_reader *reader, struct model *model)
{
	struct expected want;
	vfsd_ring_entry entry;

	if (model->count == 0) {
		CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 0);
		return;
	}
	want = model->items[model->first];
	model->first = (model->first + 1) % MODEL_MAX;
	model->count--;
	CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 1);
	if (want.lost) {
		CHECK_EQ(entry.type, VFSD_RECORD_LOSS);
		CHECK_EQ(entry.lost, want.lost);
	} else {
		model->records--;
		CHECK_EQ(entry.type, VFSD_RECORD_FSNOTIFY);
		CHECK_EQ(entry.subtype, want.fill);
		CHECK_EQ(entry.watch, want.watch);
		CHECK_EQ(entry.bytes, want.len);
		for (uint32_t i = 0; i < want.len; i++)
			CHECK(((const uint8_t *)entry.payload)[i] == want.fill);
	}
	vfsd_shm_reader_release(reader);
}

/* Is there room, by adding up what is unread? Sizes are those of the header file. */
static void test_against_model(unsigned int seed, int put_percent, uint32_t max_len)
{
	static uint8_t payload[VFSD_SHM_RING_PAYLOAD_MAX + 1];
	static struct model model;
	struct vfsd_shm_ring *ring;
	vfsd_shm_reader *reader;
	uint64_t dropped = 0;
	uint8_t *memory;

	model = (struct model){0};
	srandom(seed);
	CHECK_EQ(vfsd_shm_ring_create(RING_BYTES, &ring), 0);
	CHECK_EQ(vfsd_shm_reader_create(vfsd_shm_ring_fd(ring), &reader), 0);
	memory = map(ring);
	for (int step = 0; step < 20000; step++) {
		const struct vfsd_shm_ring_producer *shared = (void *)memory;
		uint32_t len = (uint32_t)random() % (max_len + 1);
		uint8_t fill = (uint8_t)(random() % 64);
		bool caught_up = model.records == 0;
		int result;

		if (random() % 100 >= put_percent) {
			check_oldest(reader, &model);
			continue;
		}
		if (random() % 500 == 0) {
			push_loss(&model);
			dropped++;
			CHECK_EQ(vfsd_shm_ring_put_loss(ring, 1), caught_up);
			continue;
		}
		memset(payload, fill, len);
		result = vfsd_shm_ring_put(ring, VFSD_RECORD_FSNOTIFY, fill, (uint32_t)step,
					   payload, len);
		CHECK(result == 0 || result == 1);
		if (shared->dropped != dropped) {
			CHECK_EQ(shared->dropped, ++dropped);
			/* Not while a quarter of it is free. */
			CHECK(model.records * (max_len + 64) >= RING_BYTES / 4);
			push_loss(&model);
		} else {
			push(&model,
			     (struct expected){.len = len, .watch = (uint32_t)step, .fill = fill});
			CHECK_EQ(result, caught_up);
		}
	}
	while (model.count > 0)
		check_oldest(reader, &model);
	check_oldest(reader, &model);
	unmap(memory);
	vfsd_shm_reader_destroy(reader);
	vfsd_shm_ring_destroy(ring);
}

static void test_bounds(void)
{
	static uint8_t payload[VFSD_SHM_RING_PAYLOAD_MAX + 1];
	struct vfsd_shm_ring *ring;
	vfsd_shm_reader *reader;
	vfsd_ring_entry entry;
	uint8_t *memory;
	int fd;

	CHECK_EQ(vfsd_shm_ring_create(RING_BYTES / 2, &ring), -EINVAL);
	CHECK_EQ(vfsd_shm_ring_create(RING_BYTES + 8, &ring), -EINVAL);
	CHECK_EQ(vfsd_shm_ring_create(0, &ring), -EINVAL);
	vfsd_shm_ring_destroy(NULL);
	vfsd_shm_reader_destroy(NULL);

	CHECK_EQ(vfsd_shm_ring_create(RING_BYTES, &ring), 0);
	/* The consumer cannot take the memory away under the producer. */
	CHECK(ftruncate(vfsd_shm_ring_fd(ring), 4096) < 0 && errno == EPERM);
	CHECK_EQ(vfsd_shm_reader_create(vfsd_shm_ring_fd(ring), &reader), 0);
	CHECK_EQ(vfsd_shm_ring_put(ring, VFSD_RECORD_WATCH, 0, 0, payload, sizeof(payload)), 1);
	CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 1);
	CHECK_EQ(entry.type, VFSD_RECORD_LOSS);
	CHECK_EQ(entry.lost, 1);
	CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 0);
	/* What is not given back is shown again. */
	CHECK_EQ(vfsd_shm_ring_put(ring, VFSD_RECORD_WATCH, 7, 0, NULL, 0), 1);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 1);
		CHECK_EQ(entry.subtype, 7);
	}
	vfsd_shm_reader_destroy(reader);
	/* A cursor that would have it read over the end. */
	memory = map(ring);
	((struct vfsd_shm_ring_consumer *)(void *)(memory + 4096))->tail = RING_BYTES - 4;
	CHECK_EQ(vfsd_shm_reader_create(vfsd_shm_ring_fd(ring), &reader), -EINVAL);
	unmap(memory);
	vfsd_shm_ring_destroy(ring);

	/* And the reader wants no memory that could be. */
	fd = memfd_create("test", MFD_CLOEXEC);
	CHECK(ftruncate(fd, VFSD_SHM_RING_DATA_OFFSET + RING_BYTES) == 0);
	CHECK_EQ(vfsd_shm_reader_create(fd, &reader), -EINVAL);
	CHECK_EQ(close(fd), 0);
}

/* Its cursor may say anything: the producer goes on, or stops for good, and stays in its memory. */
static void test_scribbler(unsigned int seed)
{
	struct vfsd_shm_ring *ring, *other;
	vfsd_shm_reader *reader;
	vfsd_ring_entry entry;
	uint64_t payload[32] = {0};
	uint8_t *memory;
	struct vfsd_shm_ring_consumer *consumer;
	int result = 0;

	srandom(seed);
	CHECK_EQ(vfsd_shm_ring_create(RING_BYTES, &ring), 0);
	CHECK_EQ(vfsd_shm_ring_create(RING_BYTES, &other), 0);
	CHECK_EQ(vfsd_shm_reader_create(vfsd_shm_ring_fd(other), &reader), 0);
	memory = map(ring);
	consumer = (void *)(memory + 4096);
	for (int i = 0; i < 1000 && result >= 0; i++) {
		/* Everything but the cursor, all the time. */
		for (int k = 0; k < 64; k++)
			memory[random() % 4096] = (uint8_t)random();
		memset(memory + VFSD_SHM_RING_DATA_OFFSET, (int)random(), RING_BYTES);
		if (random() % 100 == 0)
			consumer->tail += (uint64_t)(random() % 64 - 32);
		result = vfsd_shm_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, 0, payload,
					   (uint32_t)random() % sizeof(payload));
		/* Nobody else notices. */
		payload[0]++;
		CHECK(vfsd_shm_ring_put(other, VFSD_RECORD_FSNOTIFY, 0, 0, payload, 8) >= 0);
		CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 1);
		CHECK(memcmp(entry.payload, payload, 8) == 0);
		vfsd_shm_reader_release(reader);
	}
	if (result < 0) {
		CHECK_EQ(result, -EPROTO);
		consumer->tail = 0;
		CHECK_EQ(vfsd_shm_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, 0, payload, 8), -EPROTO);
		CHECK_EQ(vfsd_shm_ring_put_loss(ring, 1), -EPROTO);
	}
	unmap(memory);
	vfsd_shm_reader_destroy(reader);
	vfsd_shm_ring_destroy(other);
	vfsd_shm_ring_destroy(ring);
}

/* One that says it has read what is not written yet, one that goes back, one between records. */
static void test_cursors_that_make_no_sense(void)
{
	static const int64_t steps[] = {8, 1 << 20, -8, 4, INT64_MIN};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct vfsd_shm_ring *ring;
		vfsd_shm_reader *reader;
		vfsd_ring_entry entry;
		uint8_t *memory;

		CHECK_EQ(vfsd_shm_ring_create(RING_BYTES, &ring), 0);
		CHECK_EQ(vfsd_shm_reader_create(vfsd_shm_ring_fd(ring), &reader), 0);
		CHECK_EQ(vfsd_shm_ring_put(ring, VFSD_RECORD_WATCH, 0, 0, "12345678", 8), 1);
		CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 1);
		vfsd_shm_reader_release(reader);
		CHECK_EQ(vfsd_shm_ring_put(ring, VFSD_RECORD_WATCH, 0, 0, NULL, 0), 1);
		CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 1);
		vfsd_shm_reader_release(reader);
		CHECK_EQ(vfsd_shm_ring_put_loss(ring, 1), 1);
		memory = map(ring);
		((struct vfsd_shm_ring_consumer *)(void *)(memory + 4096))->tail +=
			(uint64_t)steps[i];
		CHECK_EQ(vfsd_shm_ring_put(ring, VFSD_RECORD_WATCH, 0, 0, NULL, 0), -EPROTO);
		unmap(memory);
		vfsd_shm_reader_destroy(reader);
		vfsd_shm_ring_destroy(ring);
	}
}

/*
 * Two producers, as many as may be with a lock, and consumers of which one is slow and one stops: each
 * other one gets every record or the count of those that it missed, in order.
 */
enum { CONSUMERS = 4, STALLED = 3, PRODUCERS = 2, ROUNDS = 20000 };

struct message {
	uint64_t number; /* in the order of the lock */
	uint8_t rest[48];
};

static struct {
	pthread_mutex_t lock;
	struct vfsd_shm_ring *rings[CONSUMERS];
	uint64_t next;
	int wakeups[CONSUMERS][2]; /* pipes: what a socket is to the real ones */
} hub = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void wake(int i, int result)
{
	CHECK(result >= 0);
	if (result > 0)
		CHECK_EQ(write(hub.wakeups[i][1], "!", 1), 1);
}

static void *produce(void *arg)
{
	struct message message;

	(void)arg;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&hub.lock);
		message.number = hub.next++;
		memset(message.rest, (int)message.number, sizeof(message.rest));
		for (int k = 0; k < CONSUMERS; k++)
			wake(k, vfsd_shm_ring_put(
					hub.rings[k], VFSD_RECORD_FSNOTIFY, 0, 0, &message,
					(uint32_t)sizeof(message) - i % sizeof(message.rest)));
		pthread_mutex_unlock(&hub.lock);
	}
	return NULL;
}

static void *consume(void *arg)
{
	int me = *(const int *)arg;
	uint64_t next = 0;
	vfsd_shm_reader *reader;
	vfsd_ring_entry entry;
	char wakeup[64];

	CHECK_EQ(vfsd_shm_reader_create(vfsd_shm_ring_fd(hub.rings[me]), &reader), 0);
	while (next < PRODUCERS * ROUNDS) {
		struct message message;

		if (vfsd_shm_reader_next(reader, &entry) == 0) {
			/* Emptied without waiting, then looked at again; then it may block. */
			CHECK_EQ(fcntl(hub.wakeups[me][0], F_SETFL, O_NONBLOCK), 0);
			while (read(hub.wakeups[me][0], wakeup, sizeof(wakeup)) > 0)
				;
			if (vfsd_shm_reader_next(reader, &entry) == 0) {
				CHECK_EQ(fcntl(hub.wakeups[me][0], F_SETFL, 0), 0);
				CHECK(read(hub.wakeups[me][0], wakeup, 1) == 1);
				continue;
			}
		}
		if (entry.type == VFSD_RECORD_LOSS) {
			CHECK(entry.lost > 0);
			next += entry.lost;
		} else {
			memcpy(&message, entry.payload, offsetof(struct message, rest));
			CHECK_EQ(message.number, next++);
			for (uint32_t i = offsetof(struct message, rest); i < entry.bytes; i++)
				CHECK(((const uint8_t *)entry.payload)[i] ==
				      (uint8_t)message.number);
			/* The slow one. */
			for (int i = 0; me == 1 && i < 20; i++)
				sched_yield();
		}
		vfsd_shm_reader_release(reader);
	}
	CHECK_EQ(next, PRODUCERS * ROUNDS);
	vfsd_shm_reader_destroy(reader);
	return NULL;
}

static void test_threads(void)
{
	static const int numbers[CONSUMERS] = {0, 1, 2, 3};
	pthread_t consumers[CONSUMERS], producers[PRODUCERS];
	vfsd_shm_reader *reader;
	vfsd_ring_entry entry;
	uint64_t got = 0;

	for (int i = 0; i < CONSUMERS; i++) {
		CHECK_EQ(vfsd_shm_ring_create(i == 2 ? RING_BYTES * 64 : RING_BYTES, &hub.rings[i]),
			 0);
		CHECK_EQ(pipe2(hub.wakeups[i], O_CLOEXEC), 0);
	}
	for (int i = 0; i < CONSUMERS; i++)
		if (i != STALLED)
			CHECK_EQ(pthread_create(&consumers[i], NULL, consume, (void *)&numbers[i]),
				 0);
	for (int i = 0; i < PRODUCERS; i++)
		CHECK_EQ(pthread_create(&producers[i], NULL, produce, NULL), 0);
	for (int i = 0; i < PRODUCERS; i++)
		CHECK_EQ(pthread_join(producers[i], NULL), 0);
	for (int i = 0; i < CONSUMERS; i++)
		if (i != STALLED)
			CHECK_EQ(pthread_join(consumers[i], NULL), 0);
	/* Who never reads has what fitted, small ones perhaps behind a loss, and the rest as a number. */
	CHECK_EQ(vfsd_shm_reader_create(vfsd_shm_ring_fd(hub.rings[STALLED]), &reader), 0);
	while (vfsd_shm_reader_next(reader, &entry) == 1) {
		got += entry.type == VFSD_RECORD_LOSS ? entry.lost : 1;
		vfsd_shm_reader_release(reader);
	}
	CHECK_EQ(got, PRODUCERS * ROUNDS);
	CHECK_EQ(vfsd_shm_reader_next(reader, &entry), 0);
	vfsd_shm_reader_destroy(reader);
	for (int i = 0; i < CONSUMERS; i++) {
		vfsd_shm_ring_destroy(hub.rings[i]);
		CHECK_EQ(close(hub.wakeups[i][0]) | close(hub.wakeups[i][1]), 0);
	}
}

int main(void)
{
	test_bounds();
	for (unsigned int seed = 1; seed <= 5; seed++) {
		test_against_model(seed, 50, 400);
		test_against_model(seed, 70, 400);
		test_against_model(seed, 60, VFSD_SHM_RING_PAYLOAD_MAX);
	}
	for (unsigned int seed = 1; seed <= 20; seed++)
		test_scribbler(seed);
	test_cursors_that_make_no_sense();
	test_threads();
	return 0;
}
