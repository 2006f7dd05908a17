/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/fs_mark_roots - the roots of filesystem marks, and the host's marks for them.
 *
 * Of one host filesystem several parts can be watched, each with a root of its own: its one mark
 * carries the union of their masks. Taking interest away never fails: that needs no more than the mount
 * which the root was found on, not the root.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_FS_MARK_ROOTS_H
#define VFSD_SOURCE_FANOTIFY_FS_MARK_ROOTS_H

#include <stdint.h>

#include "source/source.h"

struct vfsd_subtree;

struct vfsd_fs_mark_roots {
	int group; /* the fanotify group, borrowed as is the rest */
	int proc_self_fd;
	struct vfsd_subtree *subtree; /* which has the same roots */
	uint32_t count;
	struct vfsd_fs_mark_root {
		uint64_t nodeid;
		uint64_t fsid;
		uint64_t mask;
	} at[VFSD_SOURCE_FILESYSTEMS_MAX];
};

/* As vfsd_fs_mark_watch(). */
int vfsd_fs_mark_roots_watch(struct vfsd_fs_mark_roots *roots, const struct vfsd_inode *root,
			     uint64_t mask);

#endif
