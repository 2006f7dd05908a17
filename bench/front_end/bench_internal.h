/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the measuring front-end share: guest memory, slots, and what each is about.
 *
 * A slot is room for one request: an indirect table, a page for its head and its reply's, and pages
 * of data with a descriptor each, as the guest's page cache has them.
 */
#ifndef VFSD_BENCH_INTERNAL_H
#define VFSD_BENCH_INTERNAL_H

#include <pthread.h>
#include <stddef.h>

#include "bench.h"
#include "guest_ring.h"
#include "fuse/wire.h"

enum {
	BENCH_PAGE_BYTES = 4096,
	BENCH_DATA_PAGES = VFSD_BENCH_DATA_BYTES / BENCH_PAGE_BYTES,
	BENCH_TABLE_BYTES = 2 * BENCH_PAGE_BYTES,
	BENCH_REPLY_AT = BENCH_PAGE_BYTES / 2, /* in the page of heads */
	BENCH_BODY_MAX = BENCH_REPLY_AT - (int)sizeof(struct fuse_in_header),
	BENCH_FORGETS = 256, /* in flight */
	BENCH_FORGET_BYTES = 64,
	BENCH_NAME_BYTES = 9, /* "n0000000" and its NUL */
};

/* What a request consists of besides its two headers, bytes. */
struct bench_shape {
	uint32_t body, data_out; /* data: whole pages */
	uint32_t reply, data_in;
};

struct bench_slot {
	struct vfsd_vring_desc *table;
	uint8_t *head;
	uint8_t *data;
	struct bench_shape shape; /* what the table describes */
	uint32_t table_entries;
	uint64_t unique;

	/* of the work at hand */
	uint64_t began_ns;
	uint64_t offset;
	uint64_t nodeid;
	uint32_t index; /* of a name */
	uint32_t step;
	char name[32];

	/* of a directory that is read; the next load may go on with it */
	uint64_t directory; /* the handle */
	uint64_t place;
	uint32_t entries; /* seen since its start */
};

struct bench_queue {
	struct vfsd_bench *bench;
	struct guest_ring ring;
	struct bench_slot slots[VFSD_BENCH_DEPTH_MAX];
	uint64_t unique;
};

struct vfsd_bench {
	int memory_fd;
	uint8_t *memory;
	size_t memory_bytes;
	unsigned int num_queues;
	struct bench_queue queues[VFSD_BENCH_QUEUES_MAX];
	int alarm_fd;	  /* borrowed; readable or closed: nothing will come any more; -1: none */
	uint64_t poll_ns; /* of a request queue, before it sleeps */

	pthread_mutex_t hiprio_lock; /* of the rest; queues share the ring for FORGETs */
	struct guest_ring hiprio;
	uint8_t *forgets;
	uint32_t forgets_out;
	uint16_t free_forgets[BENCH_FORGETS];
	uint32_t num_free_forgets;
};

struct vfsd_bench_names {
	uint32_t count;
	struct bench_name {
		uint64_t nodeid; /* 0: not looked up yet */
		uint64_t lookups;
	} name[];
};

/* The body of @slot's next request; what is in it is the caller's to fill. */
static inline void *bench_body(struct bench_slot *slot)
{
	return slot->head + sizeof(struct fuse_in_header);
}

/* What follows the header of its reply. */
static inline const void *bench_reply(const struct bench_slot *slot)
{
	return slot->head + BENCH_REPLY_AT + sizeof(struct fuse_out_header);
}

/* Until there is a used entry. 0, -ETIMEDOUT (30 s), -EPIPE (the device has hung up). */
int bench_wait(const struct vfsd_bench *bench, struct guest_ring *ring, uint64_t poll_ns);

/* Send it. 0 or -errno. */
int bench_send(struct bench_queue *queue, struct bench_slot *slot, uint32_t opcode, uint64_t nodeid,
	       const struct bench_shape *shape);

/*
 * The reply to @slot's request, @used bytes of it. Returns what follows the header, bytes, the
 * device's error, or -EPROTO if it is no reply to it.
 */
ssize_t bench_receive(const struct bench_slot *slot, uint32_t used);

/* 0, or what bench_wait() returns when there is no free buffer. */
int bench_send_forget(struct vfsd_bench *bench, uint64_t nodeid, uint64_t lookups);

/* Until the device has taken all of them. */
int bench_drain_forgets(struct vfsd_bench *bench);

void bench_name(char name[32], uint32_t index);

/* ---- bench_work.c: the requests of a load, and what their replies must be ----------------------- */

/* One queue's share of a load. */
struct bench_load {
	const vfsd_bench_work *work;
	struct bench_queue *queue;
	uint64_t next;	 /* name or block */
	uint64_t random; /* state of the generator */
	uint64_t units;	 /* done */
	const char *wrong;
};

/* Begin a unit of work in @slot. 0 or -errno. */
int bench_begin(struct bench_load *load, struct bench_slot *slot);

/*
 * @bytes of reply have come to @slot's request. 1: the unit is done; 0: its next request is under
 * way; -errno: the reply is wrong (@load->wrong says how), or there was trouble.
 */
int bench_go_on(struct bench_load *load, struct bench_slot *slot, ssize_t bytes);

/* xorshift64*: good enough to choose names and blocks by. */
static inline uint64_t bench_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- bench_run.c ------------------------------------------------------------------------------- */

/* How often times were how long; buckets 1/32 of their value wide. */
enum { BENCH_BUCKETS_LOG2 = 5, BENCH_BUCKETS = 40 << BENCH_BUCKETS_LOG2 };

struct bench_times {
	uint64_t total;
	uint32_t bucket[BENCH_BUCKETS];
};

void bench_times_add(struct bench_times *times, uint64_t ns);
uint64_t bench_times_percentile(const struct bench_times *times, unsigned int percent);

uint64_t vfsd_bench_now_ns(void); /* CLOCK_MONOTONIC */

/* Processor time of this thread. */
uint64_t bench_cpu_ns(void);

#endif
