/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/proc_fd - the names of descriptors in /proc/self/fd.
 *
 * For system calls that have no AT_EMPTY_PATH, or need a capability for it. The names are relative to an O_PATH
 * descriptor of that directory, because /proc need not be below the daemon's root.
 * Owner thread: any. No state.
 */
#ifndef VFSD_BASE_PROC_FD_H
#define VFSD_BASE_PROC_FD_H

struct vfsd_proc_name {
	char name[16];
};

/* The name of @fd. */
struct vfsd_proc_name vfsd_proc_name(int fd);

/* Open the file of @fd, which may be O_PATH, again; O_CLOEXEC is added. The fd (the caller's) or -errno. */
int vfsd_proc_reopen(int proc_self_fd, int fd, int flags);

#endif
