/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/proc_fd - descriptors by their names in /proc/self/fd.
 *
 * For system calls that know no AT_EMPTY_PATH, or ask for a capability with it. The names are relative to
 * an O_PATH descriptor of that directory: /proc itself need not be reachable from the root.
 * Owner thread: any. No state.
 */
#ifndef VFSD_BASE_PROC_FD_H
#define VFSD_BASE_PROC_FD_H

struct vfsd_proc_name {
	char name[16];
};

/* What @fd is called there. */
struct vfsd_proc_name vfsd_proc_name(int fd);

/* Open anew what @fd, O_PATH's too, is open for; O_CLOEXEC is added. The fd (the caller's) or -errno. */
int vfsd_proc_reopen(int proc_self_fd, int fd, int flags);

#endif
