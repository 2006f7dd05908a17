/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/open_file - the table of files and directories that the guest has open.
 *
 * FUSE's fh is a slot index plus that slot's generation, never a pointer or a descriptor.
 * A transient reference (get/put) keeps the descriptor open for the length of one operation, so a
 * RELEASE may race with a READ on another queue.
 * Owner thread: any. get and put take no lock.
 */
#ifndef VFSD_INODE_OPEN_FILE_H
#define VFSD_INODE_OPEN_FILE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct vfsd_open_file {
	int fd;		 /* constant */
	uint64_t nodeid; /* what it was opened as, constant */
	pthread_mutex_t dir_lock;
	int64_t dir_offset; /* where the next getdents64() reads; protected by dir_lock */
	struct vfsd_dir_rest *dir_rest; /* read, but not in the guest yet; protected by dir_lock */
	struct vfsd_quota *rest_quota;	/* the bytes of all of those; constant */
					/* More follows, which belongs to open_file.c. */
};

/* An open file that is saved or restored by a migration. */
struct vfsd_open_file_state {
	uint64_t fh;
	uint64_t nodeid;
	int fd; /* -1: it could not be opened again */
};

struct vfsd_open_files;
struct vfsd_quota;

/* @fd_quota counts this guest's descriptors; borrowed, NULL: no limit. 0 or -ENOMEM. */
int vfsd_open_files_create(struct vfsd_quota *fd_quota, struct vfsd_open_files **ret);
void vfsd_open_files_destroy(struct vfsd_open_files *files);

/* Release all open files (FUSE_DESTROY, and INIT after a guest reset). */
void vfsd_open_files_clear(struct vfsd_open_files *files);

/* Add @fd, which is consumed also on error. 0, -ENFILE (the guest's quota) or -ENOMEM. */
int vfsd_open_file_add(struct vfsd_open_files *files, int fd, uint64_t nodeid, uint64_t *ret_fh);

/*
 * The same in two steps, for an operation that must not fail after it has opened or made something. Reserve
 * a slot first: 0, -ENFILE or -ENOMEM. Then either fill it with @fd (consumed), which returns its fh, or
 * unreserve it.
 */
int vfsd_open_file_reserve(struct vfsd_open_files *files, struct vfsd_open_file **ret);
uint64_t vfsd_open_file_fill(struct vfsd_open_file *reserved, int fd, uint64_t nodeid);
void vfsd_open_file_unreserve(struct vfsd_open_files *files, struct vfsd_open_file *reserved);

/* Take a transient reference. NULL: not open, or not opened as @nodeid. */
struct vfsd_open_file *vfsd_open_file_get(struct vfsd_open_files *files, uint64_t fh,
					  uint64_t nodeid);
void vfsd_open_file_put(struct vfsd_open_files *files, struct vfsd_open_file *file);

/* FUSE_RELEASE. The descriptor is closed with the last transient reference. 0 or -EBADF. */
int vfsd_open_file_release(struct vfsd_open_files *files, uint64_t fh, uint64_t nodeid);

/*
 * Keep the last @bytes of struct dirent64 that were read, because the guest's buffer had no room for them. Its
 * next READDIR starts at @offset; a seek back to that is slow in filesystems whose directories are trees. The
 * open directories of a guest keep a few MiB together. Beyond that nothing is kept, and the guest's next
 * READDIR reads the host's directory again.
 */
void vfsd_dir_unread(struct vfsd_open_file *file, int64_t offset, const void *dents, size_t bytes);

/*
 * Take the entries that were kept for @offset, if they are at most @size bytes and end at dir_offset. Returns
 * their bytes. Entries that were kept for another offset are dropped. dir_lock is held.
 */
size_t vfsd_dir_take_rest(struct vfsd_open_file *file, int64_t offset, void *buf, size_t size);

/* Drop the entries that were kept. dir_lock is held, or nobody else has @file. */
void vfsd_dir_drop_rest(struct vfsd_open_file *file);

/* Why vfsd_open_file_get() found nothing: -ESTALE for a file lost in a migration, else -EBADF. */
int vfsd_open_file_missing(struct vfsd_open_files *files, uint64_t fh, uint64_t nodeid);

/*
 * For migration: no other call runs meanwhile. Call @each for every open file; the fd of a lost one is -1. The
 * first result other than 0 ends the iteration and is returned.
 */
int vfsd_open_files_each(struct vfsd_open_files *files,
			 int (*each)(void *ctx, const struct vfsd_open_file_state *state),
			 void *ctx);

/* The highest generation that a slot has had. */
uint32_t vfsd_open_files_generation(struct vfsd_open_files *files);

/*
 * Fill an empty table with @n @states. All of their descriptors are consumed, also on error. Files that are
 * opened later get generations beyond @generation. 0, -EINVAL (an fh occurs twice, or is no fh of a table),
 * -ENFILE (the guest's quota) or -ENOMEM; on error nothing is open.
 */
int vfsd_open_files_restore(struct vfsd_open_files *files, struct vfsd_open_file_state *states,
			    size_t n, uint32_t generation);

/* How many files are open. */
uint64_t vfsd_open_files_count(const struct vfsd_open_files *files);

#endif
