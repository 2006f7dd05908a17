/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a queue does when its ring is empty: poll, take a nap, or sleep until it is kicked.
 */
#include "device/queue_internal.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#include "base/log.h"
#include "base/nowait.h"
#include "base/util.h"
#include "fuse/fuse.h"

enum {
	/* Between looks at the clock while polling. */
	SPINS = 32,
	/* So many times in a row polling may be in vain; then it is tried every so many sleeps. */
	POLL_CREDIT = 8,
	POLL_PROBE = 64,
	/* Kicks in a row that came within nap_us of each other, before there are naps instead. */
	RAPID_KICKS = 4,
	/* Part of a ring that, if it fills during a nap, makes the next one so much shorter. */
	NAP_PARTS = 4,
};

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
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

bool vfsd_queue_poll(struct vfsd_queue *queue)
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
	} while (now_us() < end_us && !vfsd_queue_stopping(queue));
	return false;
}

bool vfsd_queue_nap(struct vfsd_queue *queue)
{
	const uint16_t taken = vfsd_vring_base(&queue->ring);
	struct timespec time = {.tv_nsec = (long)queue->config.nap_us * 1000};
	struct pollfd fd = {.fd = queue->stop_fd, .events = POLLIN};

	if (queue->config.nap_us == 0 || queue->rapid_kicks < RAPID_KICKS)
		return false;
	/* The ring must not be full before we look again. */
	if ((uint16_t)(taken - queue->nap_taken) > queue->ring.num / NAP_PARTS)
		time.tv_nsec /= NAP_PARTS;
	queue->nap_taken = taken;
	if (ppoll(&fd, 1, &time, NULL) == 0 && vfsd_vring_pending(&queue->ring))
		return true;
	queue->rapid_kicks = 0;
	return false;
}

static void note_kick(struct vfsd_queue *queue)
{
	uint64_t now;

	if (queue->config.nap_us == 0)
		return;
	now = now_us();
	queue->rapid_kicks =
		now - queue->kicked_us < queue->config.nap_us ? queue->rapid_kicks + 1 : 0;
	queue->kicked_us = now;
}

/*
 * Take the kick that has woken us out of its descriptor, not before it has been answered: nobody waits
 * for this. Only then may another be asked for.
 */
void vfsd_queue_take_kick(struct vfsd_queue *queue)
{
	/* Whoever else reads from it may have been first. */
	if (queue->kicked)
		vfsd_nowait_drain(queue->config.kick_fd);
	queue->kicked = false;
}

bool vfsd_queue_enable_kick(struct vfsd_queue *queue)
{
	vfsd_queue_take_kick(queue);
	return vfsd_vring_enable_kick(&queue->ring);
}

/* While we slept the front-end may have done anything. */
static void ask_for_room(struct vfsd_queue *queue)
{
	pthread_mutex_lock(&queue->call_lock);
	queue->has_room = false;
	pthread_mutex_unlock(&queue->call_lock);
}

bool vfsd_queue_wait_for_kick(struct vfsd_queue_worker *worker)
{
	struct vfsd_queue *queue = worker->queue;
	struct pollfd fds[] = {
		{.fd = queue->config.kick_fd, .events = POLLIN},
		{.fd = queue->stop_fd, .events = POLLIN},
	};
	uint64_t begin_us = queue->config.poll_us ? now_us() : 0;
	int n;

	do {
		n = poll(fds, VFSD_ARRAY_SIZE(fds), vfsd_fuse_expire_fds(worker->fuse));
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
