/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/fs_errors - errors of host filesystems on their way to the guest.
 *
 * Each filesystem has a slot with its first error and the number of errors until that one is delivered. A
 * filesystem that fails all the time hides neither its own first error nor those of another filesystem.
 * Owner thread: the holder of the event lock.
 */
#ifndef VFSD_FSNOTIFY_FS_ERRORS_H
#define VFSD_FSNOTIFY_FS_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

enum { VFSD_FS_ERRORS_MAX = 64 };

struct vfsd_fs_error {
	uint64_t root;	 /* node id of the filesystem's root */
	uint64_t nodeid; /* of the inode at fault, if the guest knows it; else the root */
	int32_t error;	 /* the first one, a positive errno */
	uint64_t count;	 /* of errors, the first one included; 0: an empty slot */
	bool delivered;	 /* the guest has not read the last record of this slot yet: only count */
};

struct vfsd_fs_errors {
	struct vfsd_fs_error at[VFSD_FS_ERRORS_MAX];
};

/* Add one or more errors. False: there is no free slot. */
bool vfsd_fs_errors_add(struct vfsd_fs_errors *errors, const struct vfsd_fs_error *error);

/* The next error to deliver, or NULL. Call vfsd_fs_errors_delivered() when it is in the record ring. */
const struct vfsd_fs_error *vfsd_fs_errors_next(const struct vfsd_fs_errors *errors);
void vfsd_fs_errors_delivered(struct vfsd_fs_errors *errors, const struct vfsd_fs_error *error);

/* The guest has all records that were delivered. */
void vfsd_fs_errors_taken(struct vfsd_fs_errors *errors);

/* Drop what is known of the filesystem with that root. */
void vfsd_fs_errors_drop(struct vfsd_fs_errors *errors, uint64_t root);

void vfsd_fs_errors_clear(struct vfsd_fs_errors *errors);

#endif
