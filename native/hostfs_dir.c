/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Open directories.
 */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "handle.h"
#include "hostfs_internal.h"

enum { WORTH_READING_BYTES = 1024 };

/* Whole records of struct dirent64; the handle's lock is held. */
static ssize_t read_entries(struct vfsd_handle *handle, int64_t offset, void *buf, size_t size)
{
	const struct dirent64 *entry;
	size_t rest = vfsd_dir_take_rest(handle, offset, buf, size);
	ssize_t n;

	if (rest > 0 && size - rest < WORTH_READING_BYTES)
		return (ssize_t)rest;
	if (rest > 0) {
		offset = handle->dir_offset;
		buf = (char *)buf + rest;
		size -= rest;
	}
	if (offset != handle->dir_offset) {
		if (lseek(handle->fd, offset, SEEK_SET) < 0)
			return -errno;
		handle->dir_offset = offset;
	}
	n = getdents64(handle->fd, buf, size);
	if (n < 0)
		return rest > 0 ? (ssize_t)rest : -errno;
	for (ssize_t at = 0; at < n; at += entry->d_reclen) {
		entry = (const struct dirent64 *)((const char *)buf + at);
		handle->dir_offset = entry->d_off;
	}
	return (ssize_t)rest + n;
}

ssize_t vfsd_hostfs_readdir(struct vfsd_hostfs *fs, struct vfsd_handle *handle, int64_t offset,
			    void *buf, size_t size)
{
	ssize_t n;

	(void)fs;
	pthread_mutex_lock(&handle->dir_lock);
	n = read_entries(handle, offset, buf, size);
	pthread_mutex_unlock(&handle->dir_lock);
	return n;
}
