/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/proc_fd - descriptors by their names in /proc/self/fd, and inodes by their paths.
 *
 * For system calls that have no AT_EMPTY_PATH, or need a capability for it. The names are relative to an O_PATH
 * descriptor of that directory, because /proc need not be below the daemon's root.
 * Owner thread: any. No state.
 */
#ifndef VFSD_BASE_PROC_FD_H
#define VFSD_BASE_PROC_FD_H

#include <limits.h>
#include <sys/types.h>

struct vfsd_proc_name {
	char name[16];
};

/* The name of @fd. */
struct vfsd_proc_name vfsd_proc_name(int fd);

/* Open the file of @fd, which may be O_PATH, again; O_CLOEXEC is added. The fd (the caller's) or -errno. */
int vfsd_proc_reopen(int proc_self_fd, int fd, int flags);

/*
 * The path of @fd in the dentry cache, NUL-terminated. Returns its length or -errno: -ENAMETOOLONG, or -ENOENT if
 * it has no path. The kernel appends " (deleted)" to the path of an inode without a name.
 */
ssize_t vfsd_proc_path(int proc_self_fd, int fd, char path[PATH_MAX]);

/*
 * Open (O_PATH) the inode at @path below @root_fd. No symbolic link is followed, a last one is opened itself, and
 * nothing above @root_fd is reached. Mounts are crossed. The fd or -errno.
 */
int vfsd_open_beneath(int root_fd, const char *path);

#endif
