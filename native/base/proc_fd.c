/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/proc_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

struct vfsd_proc_name vfsd_proc_name(int fd)
{
	struct vfsd_proc_name proc;

	(void)snprintf(proc.name, sizeof(proc.name), "%d", fd);
	return proc;
}

int vfsd_proc_reopen(int proc_self_fd, int fd, int flags)
{
	int opened = openat(proc_self_fd, vfsd_proc_name(fd).name, flags | O_CLOEXEC);

	return opened < 0 ? -errno : opened;
}
