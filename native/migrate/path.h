/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/path - paths of inodes relative to the share, and opening inodes by them.
 *
 * A path is opened without following symbolic links and without leaving the share; mounts below it are
 * crossed. A guest could look up the same inode. An open inode is below the share if it has a path that opens
 * it again. Owner thread: the control thread, while no ring runs.
 */
#ifndef VFSD_MIGRATE_PATH_H
#define VFSD_MIGRATE_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "migrate/state.h"

struct vfsd_state_root {
	struct vfsd_inodes *inodes; /* borrowed */
	int proc_self_fd;	    /* borrowed */
	size_t bytes;
	char path[VFSD_STATE_PATH_MAX]; /* of the share: the first part of all paths in /proc/self/fd */
};

/* Find the share's own path. 0 or -errno. */
int vfsd_state_root_find(struct vfsd_inodes *inodes, int proc_self_fd, struct vfsd_state_root *ret);

/*
 * Open (O_PATH) the inode at @path, which is relative to the root of the share; empty: the root. No symbolic
 * link is followed, and nothing outside of the share is opened. The fd or -errno.
 */
int vfsd_state_open_path(struct vfsd_inodes *inodes, const char *path);

/*
 * Find the path of @fd relative to the share. It is written into @buffer, and *ret points to where it begins.
 * @certain: the host's dentry cache is known to have the right name; otherwise the path is looked up to compare
 * the inode. 0 or -errno; -ENOENT: it has no path below the share.
 */
int vfsd_state_path_of(const struct vfsd_state_root *root, int fd, bool certain,
		       char buffer[VFSD_STATE_PATH_MAX], const char **ret);

/*
 * Open (O_PATH) the inode of @fd by its path below the share: by @hint, if that is not empty and leads to it,
 * or by the path in the host's dentry cache. The fd or -errno; -ENAMETOOLONG: the path is too long.
 */
int vfsd_state_find_path(const struct vfsd_state_root *root, int fd, const char *hint);

#endif
