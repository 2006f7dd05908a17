/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/open_file - the guest's open files and directories.
 *
 * A file handle (fh) is a slot index plus that slot's generation, never a pointer or a descriptor.
 * A transient reference (get/put) keeps the descriptor open for the length of one operation, so a
 * RELEASE may race with a READ on another queue.
 * Owner thread: any. get and put take no lock.
 */
#ifndef VFSD_INODE_OPEN_FILE_H
#define VFSD_INODE_OPEN_FILE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct vfsd_handle {
	int fd;		 /* constant */
	uint64_t nodeid; /* what it was opened as, constant */
	pthread_mutex_t dir_lock;
	int64_t dir_offset; /* where the next getdents64() reads; protected by dir_lock */
	struct vfsd_dir_rest *dir_rest; /* read, but not taken by the guest; protected by dir_lock */
	struct vfsd_quota *rest_quota;	/* the bytes of all of those; constant */
					/* More follows, which belongs to open_file.c. */
};

/* An open file on its way from one table to another. */
struct vfsd_open_file {
	uint64_t fh;
	uint64_t nodeid;
	int fd; /* -1: it could not be opened again */
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

/*
 * The same in two steps, for what may not fail any more once it has opened or made something: take what
 * it needs, 0, -ENFILE or -ENOMEM; then fill it with @fd (consumed), or give it back.
 */
int vfsd_handle_reserve(struct vfsd_handles *handles, struct vfsd_handle **ret);
uint64_t vfsd_handle_fill(struct vfsd_handle *reserved, int fd, uint64_t nodeid);
void vfsd_handle_unreserve(struct vfsd_handles *handles, struct vfsd_handle *reserved);

/* Take a transient reference. NULL: not open, or not opened as @nodeid. */
struct vfsd_handle *vfsd_handle_get(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid);
void vfsd_handle_put(struct vfsd_handles *handles, struct vfsd_handle *handle);

/* The guest closes it; the descriptor goes with the last transient reference. 0 or -EBADF. */
int vfsd_handle_release(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid);

/*
 * The guest had no room for the last @bytes of struct dirent64 that were read: keep them for when it
 * goes on at @offset, for going back is slow where directories are trees. Best effort: the open
 * directories of a guest keep a few MiB together, then the guest's next question reads again.
 */
void vfsd_dir_unread(struct vfsd_handle *handle, int64_t offset, const void *dents, size_t bytes);

/*
 * Take what has been left for @offset, if it is at most @size bytes, and is what comes before
 * dir_offset. Returns bytes; what is left for another place is dropped. dir_lock is held.
 */
size_t vfsd_dir_take_rest(struct vfsd_handle *handle, int64_t offset, void *buf, size_t size);

/* Drop what is left, for nobody has @handle any more. */
void vfsd_dir_drop_rest(struct vfsd_handle *handle);

/* Why vfsd_handle_get() found nothing: -ESTALE for a file lost in a migration, else -EBADF. */
int vfsd_handle_missing(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid);

/*
 * Migration; no other call runs meanwhile. Tell @each about every open file, @fd -1 for a lost one;
 * the first answer other than 0 ends it and is returned.
 */
int vfsd_handles_each(struct vfsd_handles *handles,
		      int (*each)(void *ctx, const struct vfsd_open_file *file), void *ctx);

/* The generation beyond which no slot has been used. */
uint32_t vfsd_handles_generation(struct vfsd_handles *handles);

/*
 * Fill an empty table with @n @files, as the guest knows them, all of their descriptors consumed
 * also on error; new ones get generations beyond @generation. 0, -EINVAL (an fh twice, or none that
 * a table gives), -ENFILE (the guest's quota) or -ENOMEM; on error nothing is open.
 */
int vfsd_handles_restore(struct vfsd_handles *handles, struct vfsd_open_file *files, size_t n,
			 uint32_t generation);

/* Open now. */
uint64_t vfsd_handles_count(const struct vfsd_handles *handles);

#endif
