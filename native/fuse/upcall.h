/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/upcall - requests on their way up to Python and back.
 *
 * A queue thread leaves its request, wakes the control thread by an eventfd and waits for the
 * answer. It has one request at a time, in its own preallocated memory, so there are never more than
 * there are queues. When its queue is to stop, a request that nobody has answered is given up as if
 * it had never been taken from the ring: the control thread, which stops queues, is the one that
 * answers, and could otherwise wait for itself.
 * Owner thread: queue threads for vfsd_upcall_wait(), the control thread for all else.
 */
#ifndef VFSD_FUSE_UPCALL_H
#define VFSD_FUSE_UPCALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_in_header;
struct vfsd_upcalls;

/* One queue thread's place. Zeros to begin with; all but the first part belongs to upcall.c. */
struct vfsd_upcall {
	const struct fuse_in_header *header;
	const void *body; /* what follows the header, private memory */
	size_t body_bytes;
	void *reply;	   /* where the payload goes */
	size_t room_bytes; /* how much of it there may be */

	struct vfsd_upcall *next;
	ssize_t result;
	bool waiting;
	bool stopped; /* its queue is to stop */
};

/* 0 or -errno. Destroy it after the last queue thread has ended. */
int vfsd_upcalls_create(struct vfsd_upcalls **ret);
void vfsd_upcalls_destroy(struct vfsd_upcalls *upcalls);

/* Have it answered. Returns bytes of payload or -errno; -ECANCELED: given up, the queue stops. */
ssize_t vfsd_upcall_wait(struct vfsd_upcalls *upcalls, struct vfsd_upcall *call);

/* An eventfd, readable when requests wait. Borrowed. */
int vfsd_upcalls_fd(const struct vfsd_upcalls *upcalls);

/* The oldest that waits, NULL: none. It stays good until it is answered or stopped. */
const struct vfsd_upcall *vfsd_upcalls_next(struct vfsd_upcalls *upcalls);

/*
 * Answer what vfsd_upcalls_next() gave last: @error 0 with @bytes of @payload, else -errno.
 * -ENOENT: it has gone; -EMSGSIZE: too long, the guest has been told -EIO.
 */
int vfsd_upcalls_answer(struct vfsd_upcalls *upcalls, int error, const void *payload, size_t bytes);

/* No more waiting for @call's queue thread, now and later. */
void vfsd_upcalls_stop(struct vfsd_upcalls *upcalls, struct vfsd_upcall *call);

#endif
