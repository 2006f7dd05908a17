/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handle - the guest's open files and directories.
 *
 * A file handle (fh) is a slot index plus that slot's generation, never a pointer or a descriptor.
 * A transient reference (get/put) keeps the descriptor open for the length of one operation, so a
 * RELEASE may race with a READ on another queue.
 * Owner thread: any. get and put take no lock.
 */
#ifndef VFSD_HANDLE_H
#define VFSD_HANDLE_H

#include <pthread.h>
#include <stdint.h>

struct vfsd_handle {
	int fd;		 /* constant */
	uint64_t nodeid; /* what it was opened as, constant */
	pthread_mutex_t dir_lock;
	int64_t dir_offset; /* where the next getdents64() reads; protected by dir_lock */
			    /* More follows, which belongs to handle.c. */
};

struct vfsd_handles;
struct vfsd_quota;

/* @fd_quota counts this guest's descriptors; borrowed, NULL: no limit. 0 or -ENOMEM. */
int vfsd_handles_create(struct vfsd_quota *fd_quota, struct vfsd_handles **ret);
void vfsd_handles_destroy(struct vfsd_handles *handles);

/* Release all (FUSE_DESTROY, and INIT after a guest reset). */
void vfsd_handles_clear(struct vfsd_handles *handles);

/* Add an open @fd, consumed also on error. 0, -ENFILE (the guest's quota) or -ENOMEM. */
int vfsd_handle_add(struct vfsd_handles *handles, int fd, uint64_t nodeid, uint64_t *ret_fh);

/* Take a transient reference. NULL: not open, or not opened as @nodeid. */
struct vfsd_handle *vfsd_handle_get(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid);
void vfsd_handle_put(struct vfsd_handles *handles, struct vfsd_handle *handle);

/* The guest closes it; the descriptor goes with the last transient reference. 0 or -EBADF. */
int vfsd_handle_release(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid);

/* Open now. */
uint64_t vfsd_handles_count(const struct vfsd_handles *handles);

#endif
