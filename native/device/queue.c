/* SPDX-License-Identifier: BSD-3-Clause */
#include "device/queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "fuse/fuse.h"
#include "base/log.h"
#include "base/nowait.h"
#include "base/thread.h"
#include "base/util.h"

enum {
	/* The driver is signalled at least this often while a batch goes on. */
	BATCH_MAX = 32,
	/* And no later than after so many bytes: big transfers take their time. */
	BATCH_BYTES = 256 << 10,
	/* Between looks at the clock while polling. */
	SPINS = 32,
	/* So many times in a row polling may be in vain; then it is tried every so many sleeps. */
	POLL_CREDIT = 8,
	POLL_PROBE = 64,
	/* So many signals after a look for room in the call descriptor, before the next look. */
	SIGNALS_UNASKED = 64,
	/* Kicks in a row that came within rest_us of each other, before there are rests instead. */
	KICKS_TO_REST = 4,
	/* Part of a ring that, if it fills during a rest, makes the next one so much shorter. */
	REST_PARTS = 4,
};

struct member {
	struct vfsd_queue *queue;
	struct vfsd_fuse_worker *worker;
	struct vfsd_thread thread;
	struct vfsd_chain chain;
	struct vfsd_chain ahead; /* of a batch: the one behind chain, or the other way round */
};

struct vfsd_queue {
	struct vfsd_queue_config config;
	struct vfsd_vring ring;
	uint32_t poll_credit; /* times to poll yet, unless it pays again */
	uint32_t sleeps;      /* while there is none */
	uint32_t hasty_kicks; /* in a row */
	uint64_t kicked_us;   /* when it was last kicked */
	uint16_t rested_at;   /* what had been taken from the ring when it rested last */
	bool kicked;	      /* and the kick is in kick_fd yet */
	int stop_fd;
	_Atomic bool stopping; /* set before stop_fd is written to */
	pthread_mutex_t call_lock;
	int call_fd;	  /* protected by call_lock, as are the next two */
	bool has_room;	  /* it is an eventfd, and had room when we last asked */
	uint32_t unasked; /* signals since */

	/* Of a pool; protects the ring as well. */
	pthread_mutex_t ring_lock;
	pthread_cond_t turn; /* to lead, or to end */
	bool led;
	bool over;

	uint32_t running; /* members with a thread */
	struct member members[];
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

static void publish(struct vfsd_queue *queue)
{
	if (vfsd_vring_publish(&queue->ring))
		signal_driver(queue);
}

/*
 * Serve what is there, at most one batch. 1: there may be more; 0: empty; -EPROTO.
 *
 * The next request is taken before one is served: what the driver's processor has written comes
 * from its cache, which takes longer than all that we do with it, and comes meanwhile.
 */
static int serve_batch(struct member *member)
{
	struct vfsd_queue *queue = member->queue;
	struct vfsd_chain *chain = &member->chain, *next = &member->ahead, *served;
	uint64_t bytes = 0;
	int got = vfsd_vring_pop(&queue->ring, chain);
	bool last = false;

	for (int i = 1; got > 0 && !last; i++) {
		uint32_t written;

		last = i == BATCH_MAX || bytes + chain->in_bytes + chain->out_bytes >= BATCH_BYTES;
		if (!last) {
			got = vfsd_vring_pop(&queue->ring, next);
			if (got > 0)
				vfsd_vring_fetch(&queue->ring, next);
		}
		written = vfsd_fuse_serve(member->worker, chain->iov, chain->n_in,
					  chain->iov + chain->n_in, chain->n_out);
		if (VFSD_UNLIKELY(written == VFSD_FUSE_NOT_SERVED)) {
			/* We are to stop: whoever goes on from our base serves it. */
			if (!last && got > 0)
				vfsd_vring_unpop(&queue->ring);
			vfsd_vring_unpop(&queue->ring);
			got = 1;
			break;
		}
		vfsd_vring_log_chain(&queue->ring, chain);
		vfsd_vring_push(&queue->ring, chain->head, written);
		bytes += chain->in_bytes + written;
		/*
		 * A driver that looks sees it now. One that sleeps wakes up while we go on: told of the
		 * first, it finds the others, and is told again only if it has asked for that.
		 */
		if (i == 1)
			publish(queue);
		else
			vfsd_vring_show(&queue->ring);
		served = chain;
		chain = next;
		next = served;
	}
	publish(queue);
	return got;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool stopping(const struct vfsd_queue *queue)
{
	return atomic_load_explicit(&queue->stopping, memory_order_acquire);
}

/* Whether to poll before the next sleep: polling pays where requests come sooner than poll_us. */
static bool may_poll(struct vfsd_queue *queue)
{
	if (queue->config.poll_us == 0)
		return false;
	if (queue->poll_credit == 0)
		return ++queue->sleeps % POLL_PROBE == 0;
	queue->poll_credit--;
	return true;
}

/* Look at the empty ring for a while. True: there is something. */
static bool poll_ring(struct vfsd_queue *queue)
{
	uint64_t end_us;

	if (!may_poll(queue))
		return false;
	end_us = now_us() + queue->config.poll_us;
	do {
		for (int i = 0; i < SPINS; i++) {
			if (vfsd_vring_pending(&queue->ring)) {
				queue->poll_credit = POLL_CREDIT;
				return true;
			}
			vfsd_cpu_relax();
		}
	} while (now_us() < end_us && !stopping(queue));
	return false;
}

/*
 * Where nobody waits for a reply: instead of being woken for each request, look after them every
 * rest_us as long as there are any. False: there were none, or there is no such haste.
 */
static bool rest(struct vfsd_queue *queue)
{
	const uint16_t taken = vfsd_vring_base(&queue->ring);
	struct timespec time = {.tv_nsec = (long)queue->config.rest_us * 1000};
	struct pollfd fd = {.fd = queue->stop_fd, .events = POLLIN};

	if (queue->config.rest_us == 0 || queue->hasty_kicks < KICKS_TO_REST)
		return false;
	/* The ring must not be full before we look again. */
	if ((uint16_t)(taken - queue->rested_at) > queue->ring.num / REST_PARTS)
		time.tv_nsec /= REST_PARTS;
	queue->rested_at = taken;
	if (ppoll(&fd, 1, &time, NULL) == 0 && vfsd_vring_pending(&queue->ring))
		return true;
	queue->hasty_kicks = 0;
	return false;
}

static void note_kick(struct vfsd_queue *queue)
{
	uint64_t now;

	if (queue->config.rest_us == 0)
		return;
	now = now_us();
	queue->hasty_kicks =
		now - queue->kicked_us < queue->config.rest_us ? queue->hasty_kicks + 1 : 0;
	queue->kicked_us = now;
}

/*
 * Take the kick that has woken us out of its descriptor, not before it has been answered: nobody waits
 * for this. Only then may another be asked for.
 */
static void take_kick(struct vfsd_queue *queue)
{
	/* Whoever else reads from it may have been first. */
	if (queue->kicked)
		vfsd_nowait_drain(queue->config.kick_fd);
	queue->kicked = false;
}

static bool enable_kick(struct vfsd_queue *queue)
{
	take_kick(queue);
	return vfsd_vring_enable_kick(&queue->ring);
}

/* While we slept the front-end may have done anything. */
static void ask_for_room(struct vfsd_queue *queue)
{
	pthread_mutex_lock(&queue->call_lock);
	queue->has_room = false;
	pthread_mutex_unlock(&queue->call_lock);
}

/* Sleep until kicked. False: the queue is to stop. */
static bool wait_for_kick(struct member *member)
{
	struct vfsd_queue *queue = member->queue;
	struct pollfd fds[] = {
		{.fd = queue->config.kick_fd, .events = POLLIN},
		{.fd = queue->stop_fd, .events = POLLIN},
	};
	uint64_t begin_us = queue->config.poll_us ? now_us() : 0;
	int n;

	do {
		n = poll(fds, VFSD_ARRAY_SIZE(fds), vfsd_fuse_worker_tend(member->worker));
		if (n < 0 && errno != EINTR)
			return false;
	} while (n <= 0);
	if (fds[1].revents)
		return false;
	if (fds[0].revents & (POLLERR | POLLNVAL)) {
		VFSD_LOG_LIMITED(VFSD_LOG_ERROR, "queue: kick descriptor failed ring=%u",
				 queue->config.index);
		fds[0].fd = -1;
		while (poll(fds, VFSD_ARRAY_SIZE(fds), -1) < 0 && errno == EINTR)
			;
		return false;
	}
	queue->kicked = true;
	ask_for_room(queue);
	if (queue->config.poll_us && now_us() - begin_us < queue->config.poll_us)
		queue->poll_credit = POLL_CREDIT;
	note_kick(queue);
	return true;
}

static void wait_for_stop(struct vfsd_queue *queue)
{
	struct pollfd fd = {.fd = queue->stop_fd, .events = POLLIN};

	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
}

static void tell_broken(struct vfsd_queue *queue)
{
	vfsd_log(VFSD_LOG_ERROR, "queue: broken ring stopped ring=%u", queue->config.index);
	(void)vfsd_nowait_signal(queue->config.err_fd);
}

static void run_alone(struct member *member)
{
	struct vfsd_queue *queue = member->queue;
	int got;

	do {
		vfsd_vring_disable_kick(&queue->ring);
		do {
			got = serve_batch(member);
			(void)vfsd_fuse_worker_tend(member->worker);
			/* A driver that keeps its ring full must not keep us from stopping. */
			if (got > 0 && stopping(queue))
				return;
		} while (got > 0 ||
			 (got == 0 && (poll_ring(queue) || rest(queue) || enable_kick(queue))));
		if (got < 0) {
			tell_broken(queue);
			wait_for_stop(queue);
			return;
		}
	} while (wait_for_kick(member));
}

/* Wait for a request and take it. False: there will be none. Ring lock held, but while it sleeps. */
static bool lead(struct member *member)
{
	struct vfsd_queue *queue = member->queue;

	while (!queue->over) {
		int got = vfsd_vring_pop(&queue->ring, &member->chain);
		bool kicked;

		if (got > 0)
			return true;
		if (got < 0) {
			tell_broken(queue);
			return false;
		}
		if (enable_kick(queue))
			continue;
		pthread_mutex_unlock(&queue->ring_lock);
		kicked = wait_for_kick(member);
		pthread_mutex_lock(&queue->ring_lock);
		if (!kicked)
			return false;
		vfsd_vring_disable_kick(&queue->ring);
	}
	return false;
}

static void run_in_pool(struct member *member)
{
	struct vfsd_queue *queue = member->queue;
	struct vfsd_chain *chain = &member->chain;

	pthread_mutex_lock(&queue->ring_lock);
	for (;;) {
		uint32_t written;
		bool wanted;

		while (queue->led && !queue->over)
			pthread_cond_wait(&queue->turn, &queue->ring_lock);
		if (queue->over)
			break;
		queue->led = true;
		if (!lead(member)) {
			queue->over = true;
			pthread_cond_broadcast(&queue->turn);
			break;
		}
		queue->led = false;
		pthread_cond_signal(&queue->turn);
		pthread_mutex_unlock(&queue->ring_lock);
		written = vfsd_fuse_serve(member->worker, chain->iov, chain->n_in,
					  chain->iov + chain->n_in, chain->n_out);
		(void)vfsd_fuse_worker_tend(member->worker);
		pthread_mutex_lock(&queue->ring_lock);
		vfsd_vring_log_chain(&queue->ring, chain);
		vfsd_vring_push(&queue->ring, chain->head, written);
		wanted = vfsd_vring_publish(&queue->ring);
		if (wanted)
			signal_driver(queue);
	}
	pthread_mutex_unlock(&queue->ring_lock);
}

static void run(void *arg)
{
	struct member *member = arg;

	if (member->queue->config.threads == 1)
		run_alone(member);
	else
		run_in_pool(member);
}

/* End the threads there are, and free all but the queue itself. */
static void queue_end(struct vfsd_queue *queue)
{
	atomic_store_explicit(&queue->stopping, true, memory_order_release);
	if (queue->stop_fd >= 0)
		(void)eventfd_write(queue->stop_fd, 1);
	pthread_mutex_lock(&queue->ring_lock);
	queue->over = true;
	pthread_cond_broadcast(&queue->turn);
	pthread_mutex_unlock(&queue->ring_lock);
	for (uint32_t i = 0; i < queue->running; i++)
		vfsd_fuse_worker_stop(queue->members[i].worker);
	for (uint32_t i = 0; i < queue->running; i++)
		vfsd_thread_join(&queue->members[i].thread);
	take_kick(queue);
	for (uint32_t i = 0; i < queue->config.threads; i++)
		vfsd_fuse_worker_destroy(queue->members[i].worker);
	if (queue->stop_fd >= 0)
		(void)close(queue->stop_fd);
	pthread_cond_destroy(&queue->turn);
	pthread_mutex_destroy(&queue->ring_lock);
	pthread_mutex_destroy(&queue->call_lock);
}

static int start_member(struct vfsd_queue *queue, struct member *member)
{
	char name[VFSD_THREAD_NAME_BYTES];
	int err;

	member->queue = queue;
	err = vfsd_fuse_worker_create(queue->config.fuse, &member->worker);
	if (err)
		return err;
	(void)snprintf(name, sizeof(name), "vfsd-ring-%u", queue->config.index % 1000);
	err = vfsd_thread_start(&member->thread, name, run, member);
	if (!err)
		queue->running++;
	return err;
}

int vfsd_queue_start(const struct vfsd_queue_config *config, struct vfsd_queue **ret)
{
	struct vfsd_queue *queue;
	int err;

	queue = calloc(1, sizeof(*queue) + config->threads * sizeof(queue->members[0]));
	if (!queue)
		return -ENOMEM;
	queue->config = *config;
	queue->call_fd = config->call_fd;
	pthread_mutex_init(&queue->call_lock, NULL);
	pthread_mutex_init(&queue->ring_lock, NULL);
	pthread_cond_init(&queue->turn, NULL);
	queue->stop_fd = eventfd(0, EFD_CLOEXEC);
	err = queue->stop_fd < 0 ? -errno : 0;
	if (!err)
		err = vfsd_vring_init(&queue->ring, config->mem, &config->setup);
	for (uint32_t i = 0; !err && i < config->threads; i++)
		err = start_member(queue, &queue->members[i]);
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
