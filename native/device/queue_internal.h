/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What queue.c (requests, and the threads that serve them) and queue_wait.c (what those do when the ring
 * is empty) share.
 * Owner thread: as the fields' comments say; what has none is the worker's that is alone, or leads.
 */
#ifndef VFSD_DEVICE_QUEUE_INTERNAL_H
#define VFSD_DEVICE_QUEUE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/thread.h"
#include "device/queue.h"
#include "fuse/deferred.h"

struct vfsd_fuse_worker;

struct vfsd_queue_worker {
	struct vfsd_queue *queue;
	struct vfsd_fuse_worker *fuse;
	struct vfsd_thread thread;
	struct vfsd_chain chain;
	struct vfsd_chain prefetched; /* of a batch: the one behind chain, or the other way round */
};

struct vfsd_queue {
	struct vfsd_queue_config config;
	struct vfsd_vring ring;
	uint32_t poll_credit; /* times to poll yet, unless it pays again */
	uint32_t sleeps;      /* while there is none */
	uint32_t rapid_kicks; /* in a row */
	uint64_t kicked_us;   /* when it was last kicked */
	uint16_t nap_taken;   /* what had been taken from the ring at the last nap */
	bool kicked;	      /* and the kick is in kick_fd yet */
	int stop_fd;
	_Atomic bool stopping; /* set before stop_fd is written to */
	pthread_mutex_t call_lock;
	int call_fd;	  /* protected by call_lock, as are the next two */
	bool has_room;	  /* it is an eventfd, and had room when we last asked */
	uint32_t unasked; /* signals since */

	/* Protects the ring of a pool; of a worker that is alone the used entries, while replies.n > 0. */
	pthread_mutex_t ring_lock;
	struct vfsd_reply_ring replies; /* to requests that have been deferred */

	/* Of a pool, under ring_lock. */
	pthread_cond_t leader_cond; /* there is no leader, or the queue is to stop */
	bool has_leader;

	uint32_t running; /* workers with a thread */
	struct vfsd_queue_worker workers[];
};

static inline bool vfsd_queue_stopping(const struct vfsd_queue *queue)
{
	return atomic_load_explicit(&queue->stopping, memory_order_acquire);
}

/* Look at the empty ring for a while, where that pays. True: there is something. */
bool vfsd_queue_poll(struct vfsd_queue *queue);

/*
 * Where nobody waits for a reply: instead of being woken for each request, look after them every nap_us as
 * long as there are any. False: there were none, or kicks are not that rapid.
 */
bool vfsd_queue_nap(struct vfsd_queue *queue);

/* Take the last kick out of its descriptor, if that is due. */
void vfsd_queue_take_kick(struct vfsd_queue *queue);

/* Ask for a kick. True: there are requests already. */
bool vfsd_queue_enable_kick(struct vfsd_queue *queue);

/* Sleep until kicked. False: the queue is to stop. */
bool vfsd_queue_wait_for_kick(struct vfsd_queue_worker *worker);

#endif
