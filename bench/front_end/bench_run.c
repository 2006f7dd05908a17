/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop that measures: so many requests in flight in each queue, for so long.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_internal.h"
#include "base/util.h"

enum { WAIT_MS = 30000 };

/* ---- times --------------------------------------------------------------------------------------- */

uint64_t vfsd_bench_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_cpu_ns(void)
{
	struct timespec used;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static unsigned int shift_of(uint64_t ns)
{
	unsigned int log2 = 63u - (unsigned int)__builtin_clzll(ns | 1);

	return log2 > BENCH_BUCKETS_LOG2 ? log2 - BENCH_BUCKETS_LOG2 : 0;
}

void bench_times_add(struct bench_times *times, uint64_t ns)
{
	unsigned int shift = shift_of(ns);
	uint64_t bucket = ((uint64_t)shift << BENCH_BUCKETS_LOG2) + (ns >> shift);

	times->total++;
	times->bucket[bucket < BENCH_BUCKETS ? bucket : BENCH_BUCKETS - 1]++;
}

uint64_t bench_times_percentile(const struct bench_times *times, unsigned int percent)
{
	const uint64_t wanted = (times->total * percent + 99) / 100;
	uint64_t seen = 0;

	for (uint64_t i = 0; i < BENCH_BUCKETS; i++) {
		seen += times->bucket[i];
		if (seen >= wanted && seen) {
			uint64_t shift = i >> BENCH_BUCKETS_LOG2;
			uint64_t low = i;

			if (shift) { /* its first 32 buckets would be those of the shift below */
				shift--;
				low = i - (shift << BENCH_BUCKETS_LOG2);
			}
			return (low << shift) + ((UINT64_C(1) << shift) >> 1);
		}
	}
	return 0;
}

/* ---- one queue ------------------------------------------------------------------------------------ */

struct share {
	struct bench_load load;
	uint64_t requests;
	uint64_t units_wanted; /* 0: by time */
	uint64_t begun;
	uint64_t end_ns;
	uint64_t cpu_ns;
	uint32_t in_flight;
	int error;
	struct bench_times times;
};

static bool goes_on(const struct share *share, uint64_t now)
{
	if (share->units_wanted)
		return share->begun < share->units_wanted;
	/* A listing's last reply has no entry: a short turn on a busy machine may see only that one. */
	return now < share->end_ns || share->begun < share->load.work->depth || !share->load.units;
}

/* The first error of a load; nothing is begun after it. */
static void fail(struct share *share, int error)
{
	if (!share->error)
		share->error = error;
}

static void begin(struct share *share, struct bench_slot *slot, uint64_t now)
{
	int error;

	if (share->error || !goes_on(share, now))
		return;
	slot->began_ns = now;
	share->begun++;
	error = bench_begin(&share->load, slot);
	if (error)
		fail(share, error);
	else
		share->in_flight++;
}

/* One used entry: check it, and keep its slot busy. */
static void take(struct share *share, uint32_t id, uint32_t used, uint64_t now)
{
	struct bench_slot *slot = &share->load.queue->slots[id];
	int done;

	share->requests++;
	done = bench_go_on(&share->load, slot, bench_receive(slot, used));
	if (done == 0)
		return;
	share->in_flight--;
	if (done < 0) {
		fail(share, done);
	} else {
		bench_times_add(&share->times, now - slot->began_ns);
		begin(share, slot, now);
	}
}

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

int bench_wait(const struct vfsd_bench *bench, struct guest_ring *ring, uint64_t poll_ns)
{
	uint64_t end;
	int error = 0;

	while (!error && guest_ring_ready(ring) == 0) {
		(void)guest_ring_enable_call(ring);
		if (poll_ns) {
			end = vfsd_bench_now_ns() + poll_ns;
			while (guest_ring_ready(ring) == 0 && vfsd_bench_now_ns() < end)
				relax();
		}
		if (guest_ring_ready(ring) == 0)
			error = guest_ring_sleep(ring, bench->alarm_fd, WAIT_MS);
	}
	return error;
}

/* After a wrong reply the others are still waited for: the next load finds the ring at rest. */
static void run_queue(struct share *share)
{
	struct guest_ring *ring = &share->load.queue->ring;
	struct vfsd_bench *bench = share->load.queue->bench;
	uint32_t id, used;
	uint64_t now = vfsd_bench_now_ns();
	uint16_t ready;
	int error = 0;

	for (uint32_t i = 0; i < share->load.work->depth; i++)
		begin(share, &share->load.queue->slots[i], now);
	while (!error && share->in_flight) {
		error = bench_wait(bench, ring, bench->poll_ns);
		now = vfsd_bench_now_ns();
		/* Those that are there now, and so were made earlier. */
		ready = guest_ring_ready(ring);
		for (; ready && !error && guest_ring_take(ring, &id, &used); ready--) {
			if (id < share->load.work->depth)
				take(share, id, used, now);
			else
				error = -EBADMSG;
		}
	}
	if (error) { /* nothing can be said about the ring any more */
		share->error = error;
		share->load.wrong = error == -EBADMSG ? "a used entry that was not offered" :
							"no reply";
	}
}

static void *queue_main(void *arg)
{
	struct share *share = arg;
	uint64_t cpu = bench_cpu_ns();

	run_queue(share);
	share->cpu_ns = bench_cpu_ns() - cpu;
	return NULL;
}

/* ---- all queues ----------------------------------------------------------------------------------- */

static bool makes_sense(const vfsd_bench_work *work)
{
	bool sized = work->request_bytes && work->request_bytes <= VFSD_BENCH_DATA_BYTES &&
		     work->request_bytes % BENCH_PAGE_BYTES == 0;

	if (work->depth < 1 || work->depth > VFSD_BENCH_DEPTH_MAX)
		return false;
	switch (work->kind) {
	case VFSD_BENCH_GETATTR:
	case VFSD_BENCH_CREATE:
		return true;
	case VFSD_BENCH_LOOKUP:
		return work->names && work->names->count;
	case VFSD_BENCH_READ:
	case VFSD_BENCH_WRITE:
		return sized && work->handles && work->file_bytes >= work->request_bytes;
	case VFSD_BENCH_READDIRPLUS:
		return sized && work->handles && work->names;
	default:
		return false;
	}
}

static void add_up(const struct share *shares, unsigned int count, vfsd_bench_result *ret)
{
	static struct bench_times all;

	memset(&all, 0, sizeof(all));
	for (unsigned int i = 0; i < count; i++) {
		ret->units += shares[i].load.units;
		ret->requests += shares[i].requests;
		ret->cpu_ns += shares[i].cpu_ns;
		all.total += shares[i].times.total;
		for (int b = 0; b < BENCH_BUCKETS; b++)
			all.bucket[b] += shares[i].times.bucket[b];
	}
	ret->p50_ns = bench_times_percentile(&all, 50);
	ret->p99_ns = bench_times_percentile(&all, 99);
}

/* Where queue @i of @count starts: queues share the names; what is created has a new name, always. */
static uint64_t first_of(const vfsd_bench_work *work, unsigned int i, unsigned int count,
			 uint64_t now)
{
	if (work->kind == VFSD_BENCH_CREATE)
		return now;
	return work->names ? (uint64_t)work->names->count * i / count : 0;
}

int vfsd_bench_run(vfsd_bench *bench, const vfsd_bench_work *work, vfsd_bench_result *ret,
		   char *complaint)
{
	const unsigned int count = bench->num_queues;
	pthread_t threads[VFSD_BENCH_QUEUES_MAX];
	unsigned int started = 1;
	struct share *shares;
	uint64_t began;
	int error = 0;

	complaint[0] = '\0';
	*ret = (vfsd_bench_result){0};
	if (!makes_sense(work))
		return -EINVAL;
	shares = calloc(count, sizeof(*shares));
	if (!shares)
		return -ENOMEM;
	bench->poll_ns = work->poll_ns;
	began = vfsd_bench_now_ns();
	for (unsigned int i = 0; i < count; i++) {
		shares[i].load = (struct bench_load){
			.work = work,
			.queue = &bench->queues[i],
			.random = began * 2 + 1 + i,
			.next = first_of(work, i, count, began),
		};
		shares[i].units_wanted = work->units / count + (i < work->units % count);
		shares[i].end_ns = began + work->duration_ns;
	}
	for (; started < count && !error; started++)
		error = -pthread_create(&threads[started], NULL, queue_main, &shares[started]);
	(void)queue_main(&shares[0]);
	for (unsigned int i = 1; i < started; i++)
		(void)pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < count && !error; i++) {
		error = shares[i].error;
		if (error)
			(void)snprintf(complaint, VFSD_BENCH_COMPLAINT_BYTES, "%s",
				       shares[i].load.wrong ? shares[i].load.wrong : "cannot ask");
	}
	if (!error)
		error = bench_drain_forgets(bench);
	ret->wall_ns = vfsd_bench_now_ns() - began;
	add_up(shares, count, ret);
	free(shares);
	return error;
}
