/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "inodes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "words.h"

enum { CONTENT_BYTES_MAX = 65536, HANDLE_BYTES = 128 };

static int64_t closed(int fd, int64_t result)
{
	if (result < 0)
		result = -errno;
	close(fd);
	return result;
}

int64_t inodes_content(const char *path)
{
	static char content[CONTENT_BYTES_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t length;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || (length = read(fd, content, sizeof(content))) < 0)
		return closed(fd, -1);
	words_put(content, (size_t)length);
	putchar(' ');
	return closed(fd, st.st_size);
}

int64_t inodes_mtime(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? -errno : st.st_mtime;
}

int64_t inodes_attributes(const char *path)
{
	struct statx st;

	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &st) < 0)
		return -errno;
	printf("%#llx ", (unsigned long long)st.stx_attributes_mask);
	return (int64_t)st.stx_attributes;
}

int64_t inodes_set_flags(const char *path, int flags)
{
	const int ours = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int all;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, FS_IOC_GETFLAGS, &all) < 0)
		return closed(fd, -1);
	all = (all & ~ours) | flags;
	return closed(fd, ioctl(fd, FS_IOC_SETFLAGS, &all));
}

static union {
	struct file_handle head;
	char room[sizeof(struct file_handle) + HANDLE_BYTES];
} kept;

int64_t inodes_handle(const char *path)
{
	int mount;

	kept.head.handle_bytes = HANDLE_BYTES;
	return name_to_handle_at(AT_FDCWD, path, &kept.head, &mount, 0) < 0 ? -errno : 0;
}

int64_t inodes_open_handle(const char *mount, int flags)
{
	int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : closed(fd, open_by_handle_at(fd, &kept.head, flags | O_CLOEXEC));
}

int64_t inodes_forget(void)
{
	static const char all[] = "3";
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : closed(fd, write(fd, all, sizeof(all) - 1));
}
