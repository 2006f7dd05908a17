/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The mounts that file handles are opened through.
 *
 * open_by_handle_at() needs a descriptor on the mount that was not opened with O_PATH. It is made from the
 * first inode of the mount that is seen, normally the mount point, and stays open as long as the table has an
 * inode of that mount. It pins the mount, as an O_PATH descriptor would.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/faults.h"
#include "base/proc_fd.h"
#include "base/statx.h"
#include "inode/internal.h"

static void ask_filesystem(struct vfsd_host_mount *mount, int fd)
{
	struct statfs fs;
	uint32_t val[2];

	_Static_assert(sizeof(fs.f_fsid) == sizeof(val), "two words");
	if (fstatfs(fd, &fs))
		return;
	memcpy(val, &fs.f_fsid, sizeof(val));
	mount->fsid = val[0] | (uint64_t)val[1] << 32;
	switch (fs.f_type) {
	case EXT4_SUPER_MAGIC:
		mount->fs = VFSD_FS_EXT4;
		break;
	case XFS_SUPER_MAGIC:
		mount->fs = VFSD_FS_XFS;
		break;
	case BTRFS_SUPER_MAGIC:
		mount->fs = VFSD_FS_BTRFS;
		break;
	case TMPFS_MAGIC:
		mount->fs = VFSD_FS_TMPFS;
		break;
	}
}

/* mounts_lock is held. */
static struct vfsd_host_mount *mount_of(const struct vfsd_inodes *inodes, uint64_t dev,
					uint64_t mnt_id)
{
	struct vfsd_host_mount *mount = inodes->mounts;

	while (mount && (mount->mnt_id != mnt_id || mount->dev != dev))
		mount = mount->next;
	return mount;
}

struct vfsd_host_mount *vfsd_host_mount_get(struct vfsd_inodes *inodes, int fd,
					    const struct statx *st)
{
	const uint64_t dev = vfsd_statx_dev(st);
	const uint64_t mnt_id = vfsd_statx_mnt(st);
	struct vfsd_host_mount *mount;

	pthread_mutex_lock(&inodes->mounts_lock);
	mount = mount_of(inodes, dev, mnt_id);
	if (!mount) {
		mount = vfsd_faults_refuse() ? NULL : calloc(1, sizeof(*mount));
		if (mount) {
			mount->mnt_id = mnt_id;
			mount->dev = dev;
			ask_filesystem(mount, fd);
			atomic_init(&mount->fd, -1);
			mount->next = inodes->mounts;
			inodes->mounts = mount;
		}
	}
	if (mount)
		mount->refs++;
	pthread_mutex_unlock(&inodes->mounts_lock);
	return mount;
}

struct vfsd_host_mount *vfsd_host_mount_find(struct vfsd_inodes *inodes, uint64_t dev,
					     uint64_t mnt_id)
{
	struct vfsd_host_mount *mount;

	pthread_mutex_lock(&inodes->mounts_lock);
	mount = mount_of(inodes, dev, mnt_id);
	if (mount && atomic_load(&mount->fd) < 0)
		mount = NULL;
	if (mount)
		mount->refs++;
	pthread_mutex_unlock(&inodes->mounts_lock);
	return mount;
}

void vfsd_host_mount_put(struct vfsd_inodes *inodes, struct vfsd_host_mount *mount)
{
	struct vfsd_host_mount **link;
	int fd;

	pthread_mutex_lock(&inodes->mounts_lock);
	if (--mount->refs > 0) {
		pthread_mutex_unlock(&inodes->mounts_lock);
		return;
	}
	for (link = &inodes->mounts; *link != mount;)
		link = &(*link)->next;
	*link = mount->next;
	pthread_mutex_unlock(&inodes->mounts_lock);
	fd = atomic_load(&mount->fd);
	if (fd >= 0)
		(void)close(fd);
	free(mount);
}

bool vfsd_host_mount_reopens(struct vfsd_inodes *inodes, struct vfsd_host_mount *mount, int fd,
			     uint32_t type, const struct vfsd_file_handle *handle)
{
	int base;
	int tried;

	if (atomic_load_explicit(&mount->fd, memory_order_acquire) >= 0)
		return true;
	/* Opening anything else may have effects. Another inode of this mount will do. */
	if (type != S_IFDIR && type != S_IFREG)
		return false;

	pthread_mutex_lock(&inodes->mounts_lock);
	if (atomic_load(&mount->fd) < 0 && !mount->no_reopen) {
		base = vfsd_proc_reopen(inodes->config.proc_self_fd, fd,
					O_RDONLY | O_NONBLOCK | O_NOCTTY);
		tried = base < 0 ? base : vfsd_file_handle_open(base, handle, O_PATH);
		if (tried >= 0) {
			(void)close(tried);
			atomic_store_explicit(&mount->fd, base, memory_order_release);
		} else {
			mount->no_reopen = true;
			if (base >= 0)
				(void)close(base);
		}
	}
	pthread_mutex_unlock(&inodes->mounts_lock);
	return atomic_load(&mount->fd) >= 0;
}

int vfsd_inode_mount_fd(const struct vfsd_inode *inode)
{
	return atomic_load_explicit(&vfsd_inode_slot(inode)->mount->fd, memory_order_acquire);
}

int vfsd_inode_handle_open_nth(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
			       uint32_t nth)
{
	int fd = -ENOENT;

	pthread_mutex_lock(&inodes->mounts_lock);
	for (struct vfsd_host_mount *mount = inodes->mounts; mount; mount = mount->next) {
		int mount_fd = atomic_load_explicit(&mount->fd, memory_order_relaxed);

		if (mount->fsid != handle->fsid || mount_fd < 0 || nth-- > 0)
			continue;
		fd = vfsd_file_handle_open(mount_fd, handle, O_PATH | O_NOFOLLOW);
		if (fd == -ENOENT)
			fd = -ESTALE;
		break;
	}
	pthread_mutex_unlock(&inodes->mounts_lock);
	return fd;
}

int vfsd_inode_handle_open(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle)
{
	int fd = vfsd_inode_handle_open_nth(inodes, handle, 0);

	return fd == -ENOENT ? -EOPNOTSUPP : fd;
}
