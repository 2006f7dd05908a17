/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Extended attributes, of inodes of every type.
 *
 * The f*xattr() calls refuse O_PATH descriptors, and only files and directories may be opened for
 * real. But the path of a descriptor in /proc/self/fd leads to the inode itself, a symbolic link
 * too. Since these calls take no directory, that is where the thread's working directory is.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "hostfs/internal.h"
#include "base/util.h"

/* An inode as the path calls see it. */
struct target {
	struct vfsd_path_fd path; /* guarded by whoever opened the target */
	struct vfsd_proc_name proc;
};

static int target_open(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct target *target)
{
	int error = vfsd_creds_own_fs(fs);

	if (error)
		return error;
	target->path = vfsd_path_fd(fs, inode);
	if (target->path.fd < 0)
		return target->path.fd;
	target->proc = vfsd_proc_name(target->path.fd);
	return 0;
}

static void target_guard(const struct target *target)
{
	vfsd_path_fd_guard(&target->path);
}

#define TARGET __attribute__((cleanup(target_guard))) struct target

ssize_t vfsd_hostfs_getxattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, const char *name,
			     void *value, size_t size)
{
	TARGET target = {.path.fd = -1};
	int error = target_open(fs, inode, &target);
	ssize_t n;

	if (error)
		return error;
	n = getxattr(target.proc.name, name, value, size);
	return n < 0 ? -errno : n;
}

ssize_t vfsd_hostfs_listxattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, char *names,
			      size_t size)
{
	TARGET target = {.path.fd = -1};
	int error = target_open(fs, inode, &target);
	ssize_t n;

	if (error)
		return error;
	n = listxattr(target.proc.name, names, size);
	return n < 0 ? -errno : n;
}

/*
 * Without CAP_FSETID, and in the caller's group, the kernel looks whether that group may keep the
 * bit.
 */
static int set_as(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		  const struct target *target, const char *name, const void *value, size_t size,
		  int flags)
{
	const struct vfsd_caller group_only = {.uid = (uint32_t)-1, .gid = caller->gid};
	struct vfsd_creds creds;
	int error = vfsd_creds_enter(fs, &group_only, &creds);

	if (error)
		return error;
	vfsd_creds_drop_fsetid(&creds);
	error = setxattr(target->proc.name, name, value, size, flags) ? -errno : 0;
	vfsd_creds_leave(fs, &creds);
	return error;
}

int vfsd_hostfs_setxattr(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			 struct vfsd_inode *inode, const char *name, const void *value, size_t size,
			 int flags, bool kill_sgid)
{
	TARGET target = {.path.fd = -1};
	int error = target_open(fs, inode, &target);

	if (error)
		return error;
	if (kill_sgid)
		error = set_as(fs, caller, &target, name, value, size, flags);
	else
		error = setxattr(target.proc.name, name, value, size, flags) ? -errno : 0;
	/* Afterwards: what is refused changes nothing. */
	if (!error && S_ISREG(inode->type) && fs->capability_name &&
	    strcmp(name, fs->capability_name) != 0)
		error = vfsd_hostfs_end_capability(fs, target.path.fd);
	return error;
}

int vfsd_hostfs_removexattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, const char *name)
{
	TARGET target = {.path.fd = -1};
	int error = target_open(fs, inode, &target);

	if (error)
		return error;
	return removexattr(target.proc.name, name) ? -errno : 0;
}

int vfsd_hostfs_label(int fd, const struct vfsd_label *label)
{
	return fsetxattr(fd, label->name, label->value, label->bytes, 0) ? -errno : 0;
}

int vfsd_hostfs_label_name(struct vfsd_hostfs *fs, int dir_fd, const char *name,
			   const struct vfsd_label *label)
{
	VFSD_FD_GUARD fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct vfsd_proc_name proc = vfsd_proc_name(fd);
	int error = fd < 0 ? -errno : vfsd_creds_own_fs(fs);

	if (error)
		return error;
	return setxattr(proc.name, label->name, label->value, label->bytes, 0) ? -errno : 0;
}

int vfsd_hostfs_end_capability(struct vfsd_hostfs *fs, int fd)
{
	int error;

	if (VFSD_LIKELY(!fs->capability_name))
		return 0;
	error = vfsd_creds_own_fs(fs);
	if (error)
		return error;
	if (removexattr(vfsd_proc_name(fd).name, fs->capability_name) == 0)
		return 0;
	return errno == ENODATA || errno == ENOTSUP ? 0 : -errno;
}
