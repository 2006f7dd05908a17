/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * queue - one thread that serves one ring of requests.
 *
 * It sleeps in poll until kicked, then takes requests until the ring is empty, makes each reply
 * visible at once and signals the driver once per batch. A broken ring is left alone: the thread
 * logs it, signals the error descriptor and waits for its stop; other queues go on.
 * Owner thread: the control thread makes and stops it.
 */
#ifndef VFSD_QUEUE_H
#define VFSD_QUEUE_H

#include <stdint.h>

#include "vring.h"

struct vfsd_fuse;
struct vfsd_mem;
struct vfsd_queue;

struct vfsd_queue_config {
	uint32_t index; /* of the ring, for names and logs */
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

/* Finish the request at hand, end the thread, free the queue. Returns the next avail index. */
uint16_t vfsd_queue_stop(struct vfsd_queue *queue);

/* From now on signal @call_fd (borrowed, -1: nobody); the old one is not used after the return. */
void vfsd_queue_set_call(struct vfsd_queue *queue, int call_fd);

#endif
