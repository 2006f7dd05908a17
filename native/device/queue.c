/* SPDX-License-Identifier: BSD-3-Clause */
#include "device/queue_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/nowait.h"
#include "base/util.h"
#include "fuse/fuse.h"

enum {
	/* The driver is signalled at least this often while a batch goes on. */
	BATCH_MAX = 32,
	/* And no later than after so many bytes: big transfers take their time. */
	BATCH_BYTES = 256 << 10,
	/* So many signals after a look for room in the call descriptor, before the next look. */
	SIGNALS_UNASKED = 64,
};

/* To ask for room costs as much as half a signal: not again while requests come one on the other. */
static void signal_driver(struct vfsd_queue *queue)
{
	pthread_mutex_lock(&queue->call_lock);
	if (queue->has_room && queue->unasked < SIGNALS_UNASKED) {
		queue->unasked++;
		(void)eventfd_write(queue->call_fd, 1);
	} else {
		queue->has_room = vfsd_nowait_signal(queue->call_fd);
		queue->unasked = 0;
	}
	pthread_mutex_unlock(&queue->call_lock);
}

static void notify(struct vfsd_queue *queue)
{
	if (vfsd_vring_should_notify(&queue->ring))
		signal_driver(queue);
}

static void push(struct vfsd_queue *queue, uint16_t head, const struct iovec *out, uint32_t n_out,
		 uint32_t written)
{
	vfsd_vring_log_out(&queue->ring, out, n_out);
	vfsd_vring_push(&queue->ring, head, written);
}

/* Of struct vfsd_reply_ring: a request that had been deferred is answered, by any thread. */
static void push_reply(void *ctx, uint16_t head, const struct iovec *out, uint32_t n_out,
		       uint32_t written)
{
	struct vfsd_queue *queue = ctx;

	pthread_mutex_lock(&queue->ring_lock);
	push(queue, head, out, n_out, written);
	notify(queue);
	pthread_mutex_unlock(&queue->ring_lock);
}

static void unpop(void *ctx, uint16_t head)
{
	struct vfsd_queue *queue = ctx;

	vfsd_vring_unpop(&queue->ring, head);
}

/*
 * For a worker that is alone: others reply only to requests that it has deferred, so that only while
 * there are such, which cannot begin behind its back, it needs the lock.
 */
static bool lock_used(struct vfsd_queue *queue)
{
	if (VFSD_LIKELY(atomic_load_explicit(&queue->replies.n, memory_order_acquire) == 0))
		return false;
	pthread_mutex_lock(&queue->ring_lock);
	return true;
}

static void unlock_used(struct vfsd_queue *queue, bool locked)
{
	if (VFSD_UNLIKELY(locked))
		pthread_mutex_unlock(&queue->ring_lock);
}

/*
 * Serve what is there, at most one batch. 1: there may be more; 0: empty; -EPROTO.
 *
 * The next request is taken before one is served: what the driver's processor has written comes
 * from its cache, which takes longer than all that we do with it, and comes meanwhile.
 */
static int serve_batch(struct vfsd_queue_worker *worker)
{
	struct vfsd_queue *queue = worker->queue;
	struct vfsd_chain *chain = &worker->chain, *next = &worker->prefetched, *served;
	uint64_t bytes = 0;
	int got = vfsd_vring_pop(&queue->ring, chain);
	bool first = true, last = false, locked;

	for (int i = 1; got > 0 && !last; i++) {
		enum vfsd_served outcome;
		uint32_t written;

		last = i == BATCH_MAX || bytes + chain->in_bytes + chain->out_bytes >= BATCH_BYTES;
		if (!last) {
			got = vfsd_vring_pop(&queue->ring, next);
			if (got > 0)
				vfsd_vring_prefetch(&queue->ring, next);
		}
		outcome = vfsd_fuse_serve(worker->fuse, chain, &written);
		if (VFSD_UNLIKELY(outcome == VFSD_SERVED_NOT_TAKEN)) {
			if (!last && got > 0)
				vfsd_vring_unpop(&queue->ring, next->head);
			vfsd_vring_unpop(&queue->ring, chain->head);
			got = 1;
			break;
		}
		bytes += chain->in_bytes + written;
		if (VFSD_LIKELY(outcome == VFSD_SERVED_DONE)) {
			locked = lock_used(queue);
			push(queue, chain->head, chain->iov + chain->n_in, chain->n_out, written);
			/*
			 * A driver that looks sees it now. One that sleeps wakes up while we go on:
			 * signalled for the first, it finds the others, and is signalled again only if
			 * it has asked for that.
			 */
			if (first)
				notify(queue);
			else
				vfsd_vring_expose_used(&queue->ring);
			first = false;
			unlock_used(queue, locked);
		}
		served = chain;
		chain = next;
		next = served;
	}
	locked = lock_used(queue);
	notify(queue);
	unlock_used(queue, locked);
	return got;
}

static void wait_for_stop(struct vfsd_queue *queue)
{
	struct pollfd fd = {.fd = queue->stop_fd, .events = POLLIN};

	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
}

static void report_broken(struct vfsd_queue *queue)
{
	vfsd_log(VFSD_LOG_ERROR, "queue: broken ring stopped ring=%u", queue->config.index);
	(void)vfsd_nowait_signal(queue->config.err_fd);
}

static void run_alone(struct vfsd_queue_worker *worker)
{
	struct vfsd_queue *queue = worker->queue;
	int got;

	do {
		vfsd_vring_disable_kick(&queue->ring);
		do {
			got = serve_batch(worker);
			(void)vfsd_fuse_expire_fds(worker->fuse);
			/* A driver that keeps its ring full must not keep us from stopping. */
			if (got > 0 && vfsd_queue_stopping(queue))
				return;
		} while (got > 0 || (got == 0 && (vfsd_queue_poll(queue) || vfsd_queue_nap(queue) ||
						  vfsd_queue_enable_kick(queue))));
		if (got < 0) {
			report_broken(queue);
			wait_for_stop(queue);
			return;
		}
	} while (vfsd_queue_wait_for_kick(worker));
}

/* Wait for a request and take it. False: there will be none. Ring lock held, but while it sleeps. */
static bool lead(struct vfsd_queue_worker *worker)
{
	struct vfsd_queue *queue = worker->queue;

	while (!vfsd_queue_stopping(queue)) {
		int got = vfsd_vring_pop(&queue->ring, &worker->chain);
		bool kicked;

		if (got > 0)
			return true;
		if (got < 0) {
			report_broken(queue);
			return false;
		}
		if (vfsd_queue_enable_kick(queue))
			continue;
		pthread_mutex_unlock(&queue->ring_lock);
		kicked = vfsd_queue_wait_for_kick(worker);
		pthread_mutex_lock(&queue->ring_lock);
		if (!kicked)
			return false;
		vfsd_vring_disable_kick(&queue->ring);
	}
	return false;
}

static void run_in_pool(struct vfsd_queue_worker *worker)
{
	struct vfsd_queue *queue = worker->queue;
	struct vfsd_chain *chain = &worker->chain;

	pthread_mutex_lock(&queue->ring_lock);
	for (;;) {
		enum vfsd_served outcome;
		uint32_t written;

		while (queue->has_leader && !vfsd_queue_stopping(queue))
			pthread_cond_wait(&queue->leader_cond, &queue->ring_lock);
		if (vfsd_queue_stopping(queue))
			break;
		queue->has_leader = true;
		if (!lead(worker)) {
			atomic_store(&queue->stopping, true);
			pthread_cond_broadcast(&queue->leader_cond);
			break;
		}
		queue->has_leader = false;
		pthread_cond_signal(&queue->leader_cond);
		pthread_mutex_unlock(&queue->ring_lock);
		outcome = vfsd_fuse_serve(worker->fuse, chain, &written);
		(void)vfsd_fuse_expire_fds(worker->fuse);
		pthread_mutex_lock(&queue->ring_lock);
		if (VFSD_LIKELY(outcome == VFSD_SERVED_DONE)) {
			push(queue, chain->head, chain->iov + chain->n_in, chain->n_out, written);
			notify(queue);
		} else if (outcome == VFSD_SERVED_NOT_TAKEN) {
			vfsd_vring_unpop(&queue->ring, chain->head);
		}
	}
	pthread_mutex_unlock(&queue->ring_lock);
}

static void run(void *arg)
{
	struct vfsd_queue_worker *worker = arg;

	if (worker->queue->config.threads == 1)
		run_alone(worker);
	else
		run_in_pool(worker);
}

/* End the threads there are, and free all but the queue itself. */
static void queue_end(struct vfsd_queue *queue)
{
	struct vfsd_deferrals *deferrals = vfsd_fuse_deferrals(queue->config.fuse);

	atomic_store(&queue->stopping, true);
	if (queue->stop_fd >= 0)
		(void)eventfd_write(queue->stop_fd, 1);
	pthread_mutex_lock(&queue->ring_lock);
	pthread_cond_broadcast(&queue->leader_cond);
	pthread_mutex_unlock(&queue->ring_lock);
	vfsd_reply_ring_close(deferrals, &queue->replies);
	for (uint32_t i = 0; i < queue->running; i++)
		vfsd_thread_join(&queue->workers[i].thread);
	vfsd_reply_ring_stop(deferrals, &queue->replies, unpop);
	vfsd_queue_take_kick(queue);
	for (uint32_t i = 0; i < queue->config.threads; i++)
		vfsd_fuse_worker_destroy(queue->workers[i].fuse);
	if (queue->stop_fd >= 0)
		(void)close(queue->stop_fd);
	pthread_cond_destroy(&queue->leader_cond);
	pthread_mutex_destroy(&queue->ring_lock);
	pthread_mutex_destroy(&queue->call_lock);
}

static int start_worker(struct vfsd_queue *queue, struct vfsd_queue_worker *worker)
{
	char name[VFSD_THREAD_NAME_BYTES];
	int err;

	worker->queue = queue;
	err = vfsd_fuse_worker_create(queue->config.fuse, &queue->replies, &worker->fuse);
	if (err)
		return err;
	(void)snprintf(name, sizeof(name), "vfsd-ring-%u", queue->config.index % 1000);
	err = vfsd_thread_start(&worker->thread, name, run, worker);
	if (!err)
		queue->running++;
	return err;
}

int vfsd_queue_start(const struct vfsd_queue_config *config, struct vfsd_queue **ret)
{
	struct vfsd_queue *queue;
	int err;

	queue = calloc(1, sizeof(*queue) + config->threads * sizeof(queue->workers[0]));
	if (!queue)
		return -ENOMEM;
	queue->config = *config;
	queue->call_fd = config->call_fd;
	queue->replies = (struct vfsd_reply_ring){
		.ctx = queue, .push = push_reply, .limit = config->setup.num};
	pthread_mutex_init(&queue->call_lock, NULL);
	pthread_mutex_init(&queue->ring_lock, NULL);
	pthread_cond_init(&queue->leader_cond, NULL);
	queue->stop_fd = eventfd(0, EFD_CLOEXEC);
	err = queue->stop_fd < 0 ? -errno : 0;
	if (!err)
		err = vfsd_vring_init(&queue->ring, config->mem, &config->setup);
	for (uint32_t i = 0; !err && i < config->threads; i++)
		err = start_worker(queue, &queue->workers[i]);
	if (err && queue->running == 0) {
		queue_end(queue);
		free(queue);
		return err;
	}
	if (err)
		vfsd_log(VFSD_LOG_WARN,
			 "queue: fewer threads than asked for ring=%u threads=%u errno=%d",
			 config->index, queue->running, -err);
	*ret = queue;
	return 0;
}

uint16_t vfsd_queue_stop(struct vfsd_queue *queue)
{
	uint16_t base;

	queue_end(queue);
	base = vfsd_vring_base(&queue->ring);
	free(queue);
	return base;
}

void vfsd_queue_set_call(struct vfsd_queue *queue, int call_fd)
{
	pthread_mutex_lock(&queue->call_lock);
	queue->call_fd = call_fd;
	queue->has_room = false;
	/* The old one may have swallowed a signal that the driver waits for; one too many is nothing. */
	(void)vfsd_nowait_signal(call_fd);
	pthread_mutex_unlock(&queue->call_lock);
}
