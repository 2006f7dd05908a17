/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/proc_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPEN_TRIES = 64 };

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

ssize_t vfsd_proc_path(int proc_self_fd, int fd, char path[PATH_MAX])
{
	ssize_t n = readlinkat(proc_self_fd, vfsd_proc_name(fd).name, path, PATH_MAX);

	if (n < 0)
		return -errno;
	if (n == PATH_MAX)
		return -ENAMETOOLONG;
	path[n] = '\0';
	return path[0] == '/' ? n : -ENOENT;
}

int vfsd_open_beneath(int root_fd, const char *path)
{
	const struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	int fd;

	/* EAGAIN: directories are being renamed. */
	for (int i = 0; i < OPEN_TRIES; i++) {
		fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : fd;
}
