/* SPDX-License-Identifier: BSD-3-Clause */
#include "queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fuse.h"
#include "log.h"
#include "util.h"

/* The driver is signalled at least this often while a batch goes on. */
enum { BATCH_MAX = 32 };

struct vfsd_queue {
	struct vfsd_queue_config config;
	struct vfsd_vring ring;
	struct vfsd_fuse_worker *worker;
	pthread_t thread;
	int stop_fd;
	pthread_mutex_t call_lock;
	int call_fd; /* protected by call_lock */
	struct vfsd_chain chain;
};

static void signal_driver(struct vfsd_queue *queue)
{
	pthread_mutex_lock(&queue->call_lock);
	if (queue->call_fd >= 0)
		(void)eventfd_write(queue->call_fd, 1);
	pthread_mutex_unlock(&queue->call_lock);
}

/* Serve what is there, at most one batch. 1: there may be more; 0: empty; -EPROTO. */
static int serve_batch(struct vfsd_queue *queue)
{
	struct vfsd_chain *chain = &queue->chain;
	bool wanted = false;
	int got = 1;

	for (int i = 0; i < BATCH_MAX; i++) {
		uint32_t written;

		got = vfsd_vring_pop(&queue->ring, chain);
		if (got <= 0)
			break;
		written = vfsd_fuse_serve(queue->worker, chain->iov, chain->n_in,
					  chain->iov + chain->n_in, chain->n_out);
		if (VFSD_UNLIKELY(written == VFSD_FUSE_NOT_SERVED)) {
			/* We are to stop: whoever goes on from our base serves it. */
			vfsd_vring_unpop(&queue->ring);
			break;
		}
		vfsd_vring_log_chain(&queue->ring, chain);
		vfsd_vring_push(&queue->ring, chain->head, written);
		wanted |= vfsd_vring_publish(&queue->ring);
	}
	if (wanted)
		signal_driver(queue);
	return got;
}

/* Sleep until kicked. False: the queue is to stop. */
static bool wait_for_kick(struct vfsd_queue *queue)
{
	struct pollfd fds[] = {
		{.fd = queue->config.kick_fd, .events = POLLIN},
		{.fd = queue->stop_fd, .events = POLLIN},
	};
	eventfd_t count;

	while (poll(fds, VFSD_ARRAY_SIZE(fds), -1) < 0)
		if (errno != EINTR)
			return false;
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
	(void)eventfd_read(queue->config.kick_fd, &count);
	return true;
}

static bool stopping(const struct vfsd_queue *queue)
{
	struct pollfd fd = {.fd = queue->stop_fd, .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

static void wait_for_stop(struct vfsd_queue *queue)
{
	struct pollfd fd = {.fd = queue->stop_fd, .events = POLLIN};

	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
}

static void *run(void *arg)
{
	struct vfsd_queue *queue = arg;
	char name[16];
	int got;

	/* By the thread itself: others would need /proc, which a sandbox takes for the share's. */
	(void)snprintf(name, sizeof(name), "vfsd-ring-%u", queue->config.index % 1000);
	(void)pthread_setname_np(pthread_self(), name);
	do {
		vfsd_vring_disable_kick(&queue->ring);
		do {
			got = serve_batch(queue);
			/* A driver that keeps its ring full must not keep us from stopping. */
			if (got > 0 && stopping(queue))
				return NULL;
		} while (got > 0 || (got == 0 && vfsd_vring_enable_kick(&queue->ring)));
		if (got < 0) {
			vfsd_log(VFSD_LOG_ERROR, "queue: broken ring stopped ring=%u",
				 queue->config.index);
			if (queue->config.err_fd >= 0)
				(void)eventfd_write(queue->config.err_fd, 1);
			wait_for_stop(queue);
			return NULL;
		}
	} while (wait_for_kick(queue));
	return NULL;
}

static void queue_free(struct vfsd_queue *queue)
{
	vfsd_fuse_worker_destroy(queue->worker);
	if (queue->stop_fd >= 0)
		(void)close(queue->stop_fd);
	pthread_mutex_destroy(&queue->call_lock);
	free(queue);
}

int vfsd_queue_start(const struct vfsd_queue_config *config, struct vfsd_queue **ret)
{
	struct vfsd_queue *queue = calloc(1, sizeof(*queue));
	sigset_t all, before;
	int err;

	if (!queue)
		return -ENOMEM;
	queue->config = *config;
	queue->call_fd = config->call_fd;
	pthread_mutex_init(&queue->call_lock, NULL);
	queue->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (queue->stop_fd < 0) {
		err = -errno;
		goto fail;
	}
	err = vfsd_vring_init(&queue->ring, config->mem, &config->setup);
	if (err)
		goto fail;
	err = vfsd_fuse_worker_create(config->fuse, &queue->worker);
	if (err)
		goto fail;
	/* Signals are the control thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&queue->thread, NULL, run, queue);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		goto fail;
	*ret = queue;
	return 0;
fail:
	queue_free(queue);
	return err;
}

uint16_t vfsd_queue_stop(struct vfsd_queue *queue)
{
	uint16_t base;

	(void)eventfd_write(queue->stop_fd, 1);
	vfsd_fuse_worker_stop(queue->worker);
	(void)pthread_join(queue->thread, NULL);
	base = vfsd_vring_base(&queue->ring);
	queue_free(queue);
	return base;
}

void vfsd_queue_set_call(struct vfsd_queue *queue, int call_fd)
{
	pthread_mutex_lock(&queue->call_lock);
	queue->call_fd = call_fd;
	pthread_mutex_unlock(&queue->call_lock);
	/* The old one may have swallowed a signal that the driver waits for; one too many is nothing. */
	signal_driver(queue);
}
