/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device/queue - one thread, or a pool of them, that serves one ring of requests.
 *
 * One thread sleeps in poll until kicked, then takes requests until the ring is empty. It makes each
 * reply visible at once, and looks after the first and the last of a batch whether the driver wants a
 * signal: that is one, unless the driver goes to sleep again meanwhile. Before the thread sleeps again
 * it looks at the ring for poll_us, as long as requests come sooner than that every now and then.
 * In a pool one thread at a time, the leader, waits for requests; it takes one, has another thread
 * lead, and serves it. So a request that has to wait for the host keeps no other waiting, at the price
 * of a wake-up for each.
 * A request that is deferred (fuse/deferred.h) keeps no other waiting either. Whoever answers it puts the
 * reply into the ring.
 * A broken ring is left alone: that is logged, the error descriptor signalled; other queues go on.
 * Owner thread: the control thread makes and stops it.
 */
#ifndef VFSD_DEVICE_QUEUE_H
#define VFSD_DEVICE_QUEUE_H

#include <stdint.h>

#include "virtio/vring.h"

struct vfsd_fuse;
struct vfsd_mem;
struct vfsd_queue;

struct vfsd_queue_config {
	uint32_t index;	  /* of the ring, for names and logs */
	uint32_t threads; /* at least 1 */
	uint32_t poll_us; /* 0: don't poll; nor does a pool */
	uint32_t nap_us;  /* not 0: requests that come that fast may wait so long; not in a pool */
	struct vfsd_fuse *fuse;
	const struct vfsd_mem *mem;
	struct vfsd_vring_setup setup;
	/* Descriptors are borrowed until the stop; call and err may be -1. */
	int kick_fd;
	int call_fd;
	int err_fd;
};

/* 0 or -errno. */
int vfsd_queue_start(const struct vfsd_queue_config *config, struct vfsd_queue **ret);

/*
 * Finish the requests at hand, end the threads, free the queue. Requests that were deferred go back to the
 * ring. Returns the next avail index, from which whoever runs the ring next gets them.
 */
uint16_t vfsd_queue_stop(struct vfsd_queue *queue);

/* From now on signal @call_fd (borrowed, -1: nobody); the old one is not used after the return. */
void vfsd_queue_set_call(struct vfsd_queue *queue, int call_fd);

#endif
