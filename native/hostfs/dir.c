/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Open directories.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inode/open_file.h"
#include "hostfs/internal.h"

enum { WORTH_READING_BYTES = 1024 };

/* Whole records of struct dirent64; the handle's lock is held. */
static ssize_t read_entries(struct vfsd_open_file *handle, int64_t offset, void *buf, size_t size,
			    size_t *ret_early)
{
	const struct dirent64 *entry;
	size_t rest = vfsd_dir_take_rest(handle, offset, buf, size);
	ssize_t n;

	*ret_early = rest;
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
	/* ext4 puts an entry back for which there was no room, as we do, and gives it unseen. */
	if (n > 0)
		*ret_early += ((const struct dirent64 *)buf)->d_reclen;
	return (ssize_t)rest + n;
}

ssize_t vfsd_hostfs_readdir(struct vfsd_hostfs *fs, struct vfsd_open_file *handle, int64_t offset,
			    void *buf, size_t size, size_t *ret_early)
{
	ssize_t n;

	(void)fs;
	pthread_mutex_lock(&handle->dir_lock);
	n = read_entries(handle, offset, buf, size, ret_early);
	pthread_mutex_unlock(&handle->dir_lock);
	return n;
}

void vfsd_hostfs_readdirplus(struct vfsd_hostfs *fs, struct vfsd_inode *dir, int dir_fd,
			     bool from_start, struct vfsd_list *ret)
{
	vfsd_listing_begin(fs->inodes, dir, from_start, &ret->listing);
	ret->dir_fd = dir_fd;
	ret->expect_new = false;
}

int vfsd_hostfs_readdirplus_entry(struct vfsd_hostfs *fs, struct vfsd_list *list, const char *name,
				  uint64_t ino, struct vfsd_entry *ret)
{
	struct vfsd_inode *dir = list->listing.dir;
	int error;

	ret->inode = ino ? vfsd_listing_find(fs->inodes, &list->listing, ino, VFSD_STATX_MASK,
					     &ret->st) :
			   NULL;
	if (ret->inode) {
		ret->submount = false; /* of the same mount */
		vfsd_inode_note_parent(ret->inode, dir);
		ret->added = false;
		return 0;
	}
	error = vfsd_hostfs_lookup_at(fs, dir, list->dir_fd, name, list->expect_new, ret);
	if (error)
		return error;
	list->expect_new = ret->added;
	if (ino)
		vfsd_listing_note(fs->inodes, &list->listing, ino, ret->inode, &ret->st);
	return 0;
}

int vfsd_hostfs_readdir_number(struct vfsd_hostfs *fs, int dir_fd, const char *name,
			       struct statx *ret)
{
	const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;

	(void)fs;
	return statx(dir_fd, name, flags, STATX_TYPE | STATX_INO, ret) < 0 ? -errno : 0;
}
