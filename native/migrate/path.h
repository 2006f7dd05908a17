/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/path - where inodes are below the share: paths from its root on, and what opens by them.
 *
 * A path opens without a symbolic link and without leaving the share, over mounts below it: what it
 * opens, a guest could look up as well. What is open already is below the share if it has a path that
 * opens the same inode.
 * Owner thread: the control thread, while no ring runs.
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
	char path[VFSD_STATE_PATH_MAX]; /* what the share's own path is, in front of the others' */
};

/* 0 or -errno. */
int vfsd_state_root_find(struct vfsd_inodes *inodes, int proc_self_fd, struct vfsd_state_root *ret);

/*
 * Open (O_PATH, no symbolic link is followed) what is at @path, a string relative to the root of
 * the share and never outside of it; empty: the root. The fd or -errno.
 */
int vfsd_state_open_path(struct vfsd_inodes *inodes, const char *path);

/* On the same mount, too. */
bool vfsd_state_same_inode(int a, int b);

/*
 * The path of @fd relative to the share; it is in @buffer, and begins where *ret points. @certain: the
 * host's cache has the right name, otherwise it is looked up. 0 or -errno; -ENOENT: it has no path, or
 * none below the share.
 */
int vfsd_state_path_of(const struct vfsd_state_root *root, int fd, bool certain,
		       char buffer[VFSD_STATE_PATH_MAX], const char **ret);

/*
 * Open (O_PATH) the inode of @fd by its path below the share: by @hint, if that is not empty and leads
 * to it, or by what the host's cache has. The fd or -errno, -ENAMETOOLONG: the path cannot be told.
 */
int vfsd_state_find_path(const struct vfsd_state_root *root, int fd, const char *hint);

#endif
