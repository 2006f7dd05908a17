/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host side of inodes: descriptors, file handles, and the mounts to open handles through.
 *
 * open_by_handle_at() needs some descriptor of the mount that was really opened, not just O_PATH.
 * The first inode seen of a mount gives it (normally the mount point); it is kept as long as an
 * inode of that mount is. That pins the mount, as every O_PATH descriptor would.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

#include "base/faults.h"
#include "inode/internal.h"
#include "base/quota.h"
#include "base/util.h"

/* Linux 6.5; older headers lack it. */
enum { VFSD_AT_HANDLE_FID = 0x200 };

enum { OPEN_TRIES = 1000 }; /* the shortest, without anybody to yield to, is 1 ms */

/* A struct file_handle with room. */
union kernel_handle {
	struct file_handle head;
	char room[sizeof(struct file_handle) + VFSD_HANDLE_BYTES_MAX];
};

void vfsd_host_fd_close(struct vfsd_inodes *inodes, int fd)
{
	(void)close(vfsd_fd_number(fd));
	if (!(fd & VFSD_FD_KEPT))
		vfsd_quota_give(inodes->config.fd_quota);
	if (fd & VFSD_FD_KEPT_FILE)
		atomic_fetch_sub(&inodes->n_kept_files, 1);
}

/* The real thing behind an O_PATH descriptor. The fd or -errno. */
static int reopen(const struct vfsd_inodes *inodes, int fd, int flags)
{
	char name[16];
	int opened;

	(void)snprintf(name, sizeof(name), "%d", fd);
	opened = openat(inodes->config.proc_self_fd, name, (flags & ~O_NOFOLLOW) | O_CLOEXEC);
	return opened < 0 ? -errno : opened;
}

/* Handles */

static int encode(int dir_fd, const char *name, int flags, union kernel_handle *kernel, int *mnt_id)
{
	kernel->head.handle_bytes = VFSD_HANDLE_BYTES_MAX;
	if (name_to_handle_at(dir_fd, name, &kernel->head, mnt_id, flags))
		return -errno;
	return kernel->head.handle_bytes <= VFSD_HANDLE_BYTES_MAX ? 0 : -EOVERFLOW;
}

int vfsd_host_handle_encode(int dir_fd, const char *name, bool fid_too,
			    struct vfsd_file_handle *handle, bool *reopenable, uint64_t *mnt_id)
{
	int flags = name[0] ? 0 : AT_EMPTY_PATH;
	union kernel_handle kernel;
	int mount = 0;
	int error = encode(dir_fd, name, flags, &kernel, &mount);

	*reopenable = error == 0;
	if (error == -EOPNOTSUPP && fid_too)
		error = encode(dir_fd, name, flags | VFSD_AT_HANDLE_FID, &kernel, &mount);
	if (error)
		return error;
	handle->type = kernel.head.handle_type;
	handle->bytes = kernel.head.handle_bytes;
	memcpy(handle->data, kernel.head.f_handle, handle->bytes);
	*mnt_id = (uint64_t)(uint32_t)mount;
	return 0;
}

bool vfsd_inode_handle_is_at(const struct vfsd_file_handle *handle, int dir_fd, const char *name)
{
	struct vfsd_file_handle found = {.fsid = handle->fsid};
	bool reopenable;
	uint64_t mnt_id;

	return vfsd_host_handle_encode(dir_fd, name, true, &found, &reopenable, &mnt_id) == 0 &&
	       vfsd_file_handle_equal(&found, handle);
}

uint64_t vfsd_host_handle_ino(enum vfsd_host_fs fs, const struct vfsd_file_handle *handle)
{
	/* Types as in the kernel's include/linux/exportfs.h, and fs/xfs/xfs_export.h. */
	enum { INO32_GEN = 1, BTRFS_WITHOUT_PARENT = 0x4d, XFS_INO64_GEN = 0x81 };
	uint32_t words[3];
	uint64_t ino;

	if (handle->bytes < sizeof(ino) || handle->bytes > sizeof(words) + sizeof(ino))
		return 0;
	memcpy(&ino, handle->data, sizeof(ino));
	memcpy(words, handle->data, sizeof(ino));
	if (fs == VFSD_FS_BTRFS)
		return handle->type == BTRFS_WITHOUT_PARENT ? ino : 0;
	if (fs == VFSD_FS_XFS && handle->type == XFS_INO64_GEN)
		return ino;
	if (handle->type != INO32_GEN)
		return 0;
	if (fs == VFSD_FS_EXT4 || fs == VFSD_FS_XFS)
		return words[0];
	/* tmpfs has the generation first. */
	if (fs != VFSD_FS_TMPFS || handle->bytes != sizeof(words))
		return 0;
	memcpy(words, handle->data, sizeof(words));
	return words[1] | (uint64_t)words[2] << 32;
}

/*
 * While the number of a removed file is given to a new one, Linux answers ENOMEM for handles of the
 * old one. That takes a moment; memory that is really short stays so.
 */
int vfsd_host_handle_open(int mount_fd, const struct vfsd_file_handle *handle, int flags)
{
	union kernel_handle kernel;
	uint32_t tries = 0;
	int fd;

	if (handle->bytes == 0) /* a migration did not find it */
		return -ESTALE;
	kernel.head.handle_bytes = handle->bytes;
	kernel.head.handle_type = handle->type;
	memcpy(kernel.head.f_handle, handle->data, handle->bytes);
	while ((fd = open_by_handle_at(mount_fd, &kernel.head, flags | O_CLOEXEC)) < 0 &&
	       errno == ENOMEM && ++tries < OPEN_TRIES)
		sched_yield();
	return fd < 0 ? -errno : fd;
}

/* Mounts */

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
static struct vfsd_host_mount *mount_of(const struct vfsd_inodes *inodes, const struct statx *st)
{
	uint64_t mnt_id = vfsd_statx_mnt(st);
	uint64_t dev = vfsd_statx_dev(st);
	struct vfsd_host_mount *mount = inodes->mounts;

	while (mount && (mount->mnt_id != mnt_id || mount->dev != dev))
		mount = mount->next;
	return mount;
}

struct vfsd_host_mount *vfsd_host_mount_get(struct vfsd_inodes *inodes, int fd,
					    const struct statx *st)
{
	struct vfsd_host_mount *mount;

	pthread_mutex_lock(&inodes->mounts_lock);
	mount = mount_of(inodes, st);
	if (!mount) {
		mount = vfsd_faults_refuse() ? NULL : calloc(1, sizeof(*mount));
		if (mount) {
			mount->mnt_id = vfsd_statx_mnt(st);
			mount->dev = vfsd_statx_dev(st);
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

struct vfsd_host_mount *vfsd_host_mount_find(struct vfsd_inodes *inodes, const struct statx *st)
{
	struct vfsd_host_mount *mount;

	pthread_mutex_lock(&inodes->mounts_lock);
	mount = mount_of(inodes, st);
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
	/* Opening anything else may have effects; the next inode of this mount may do. */
	if (type != S_IFDIR && type != S_IFREG)
		return false;

	pthread_mutex_lock(&inodes->mounts_lock);
	if (atomic_load(&mount->fd) < 0 && !mount->no_reopen) {
		base = reopen(inodes, fd, O_RDONLY | O_NONBLOCK | O_NOCTTY);
		tried = base < 0 ? base : vfsd_host_handle_open(base, handle, O_PATH);
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

/* Descriptors */

int vfsd_inode_fd_get(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	int fd = atomic_load(&slot->fd); /* sequentially consistent: pairs with unpin */

	(void)inodes;
	*transient = fd < 0;
	if (fd >= 0)
		return vfsd_fd_number(fd);
	return vfsd_host_handle_open(atomic_load_explicit(&slot->mount->fd, memory_order_acquire),
				     vfsd_slot_handle(slot), O_PATH);
}

void vfsd_inode_fd_put(int fd, bool transient)
{
	if (transient && fd >= 0)
		(void)close(fd);
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
		fd = vfsd_host_handle_open(mount_fd, handle, O_PATH | O_NOFOLLOW);
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

int vfsd_inode_open(struct vfsd_inodes *inodes, struct vfsd_inode *inode, int flags)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	int opened;
	int fd;

	if (inode->type != S_IFREG && inode->type != S_IFDIR)
		return -EBADF;
	fd = atomic_load(&slot->fd);
	if (fd >= 0 && !(fd & VFSD_FD_KEPT))
		return reopen(inodes, fd, flags);
	opened = vfsd_host_handle_open(atomic_load_explicit(&slot->mount->fd, memory_order_acquire),
				       vfsd_slot_handle(slot), flags & ~O_NOFOLLOW);
	if (VFSD_LIKELY(opened != -ESTALE))
		return opened;
	/* Not every filesystem finds what has no name any more, though it is held. */
	if (fd >= 0)
		return reopen(inodes, vfsd_fd_number(fd), flags);
	vfsd_inodes_note_stale(inodes);
	return -ESTALE;
}

int vfsd_slot_take_fd(struct vfsd_inode_slot *slot)
{
	int fd = atomic_exchange(&slot->fd, -1);
	uint32_t refs;

	if (fd < 0)
		return -1;
	/*
	 * Who takes a reference from now on finds no descriptor; who had one before may be using it.
	 * Besides the table's and our own there is nobody, or the last one closes.
	 */
	refs = atomic_load(&slot->refs);
	if (refs == 2 && atomic_load(&slot->nlookup) > 0)
		return fd;
	slot->closing_fd = fd;
	atomic_fetch_or(&slot->refs, VFSD_INODE_CLOSING);
	return -1;
}

bool vfsd_inode_unpin(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	int fd;

	if (inode->nodeid == VFSD_NODEID_ROOT || !slot->reopenable)
		return atomic_load(&slot->fd) < 0;

	pthread_mutex_lock(&inodes->unpin_lock);
	fd = atomic_load(&slot->fd);
	if (fd >= 0 && !vfsd_host_mount_reopens(inodes, slot->mount, vfsd_fd_number(fd),
						inode->type, vfsd_slot_handle(slot))) {
		pthread_mutex_unlock(&inodes->unpin_lock);
		return false;
	}
	slot->never_kept = true;
	if (slot->held) {
		pthread_mutex_unlock(&inodes->unpin_lock);
		return false;
	}
	fd = vfsd_slot_take_fd(slot);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (fd >= 0)
		vfsd_host_fd_close(inodes, fd);
	return true;
}

bool vfsd_inode_is_pinned(const struct vfsd_inode *inode)
{
	return atomic_load(&vfsd_inode_slot(inode)->fd) >= 0;
}
