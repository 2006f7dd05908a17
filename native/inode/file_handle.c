/* SPDX-License-Identifier: BSD-3-Clause */
/* File handles: to compare them, and to have the host make and open them. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "inode/internal.h"

/* Linux 6.5; older headers lack it. */
enum { VFSD_AT_HANDLE_FID = 0x200 };

enum { OPEN_TRIES = 1000 }; /* the shortest, without anybody to yield to, is 1 ms */

/* A struct file_handle with room. */
union kernel_handle {
	struct file_handle head;
	char room[sizeof(struct file_handle) + VFSD_HANDLE_BYTES_MAX];
};

bool vfsd_file_handle_equal(const struct vfsd_file_handle *a, const struct vfsd_file_handle *b)
{
	return a->fsid == b->fsid && a->type == b->type && a->bytes == b->bytes &&
	       memcmp(a->data, b->data, a->bytes) == 0;
}

void vfsd_file_handle_copy(struct vfsd_file_handle *dst, const struct vfsd_file_handle *src)
{
	dst->fsid = src->fsid;
	dst->type = src->type;
	dst->bytes = src->bytes;
	memcpy(dst->data, src->data, src->bytes);
}

static int encode(int dir_fd, const char *name, int flags, union kernel_handle *kernel, int *mnt_id)
{
	kernel->head.handle_bytes = VFSD_HANDLE_BYTES_MAX;
	if (name_to_handle_at(dir_fd, name, &kernel->head, mnt_id, flags))
		return -errno;
	return kernel->head.handle_bytes <= VFSD_HANDLE_BYTES_MAX ? 0 : -EOVERFLOW;
}

int vfsd_file_handle_encode(int dir_fd, const char *name, bool fid_too,
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

	return vfsd_file_handle_encode(dir_fd, name, true, &found, &reopenable, &mnt_id) == 0 &&
	       vfsd_file_handle_equal(&found, handle);
}

uint64_t vfsd_file_handle_ino(enum vfsd_host_fs fs, const struct vfsd_file_handle *handle)
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
int vfsd_file_handle_open(int mount_fd, const struct vfsd_file_handle *handle, int flags)
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
