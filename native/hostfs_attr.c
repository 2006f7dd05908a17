/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attributes and flags of one inode, and what a symbolic link says.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hostfs_internal.h"
#include "statx.h"
#include "util.h"

int vfsd_hostfs_getattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd, struct statx *ret)
{
	if (fd >= 0)
		return vfsd_statx_fd(fd, 0, VFSD_STATX_MASK, ret);

	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);

	int error = path.fd < 0 ? path.fd : vfsd_statx_fd(path.fd, 0, VFSD_STATX_MASK, ret);

	if (VFSD_UNLIKELY(!error && ret->stx_nlink == 0))
		vfsd_inode_let_go(fs->inodes, inode);
	return error;
}

int vfsd_hostfs_statx(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd, int flags,
		      unsigned int mask, struct statx *ret)
{
	VFSD_PATH_FD path = {.fd = -1};

	if (fd < 0) {
		path = vfsd_path_fd(fs, inode);
		fd = path.fd;
	}
	if (fd < 0)
		return fd;
	return vfsd_statx_fd(fd, flags, mask, ret);
}

/* Which of the three sets of bits counts, as access(2) would have it. */
int vfsd_hostfs_access(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		       struct vfsd_inode *inode, int mask)
{
	struct statx st;
	int error = vfsd_hostfs_getattr(fs, inode, -1, &st);
	int granted;

	if (error)
		return error;
	if (caller->uid == 0) {
		granted = R_OK | W_OK;
		if (S_ISDIR(st.stx_mode) || st.stx_mode & 0111)
			granted |= X_OK;
	} else if (caller->uid == st.stx_uid) {
		granted = st.stx_mode >> 6 & 7;
	} else if (caller->gid == st.stx_gid) {
		granted = st.stx_mode >> 3 & 7;
	} else {
		granted = st.stx_mode & 7;
	}
	return mask & ~granted ? -EACCES : 0;
}

int vfsd_hostfs_ioctl(struct vfsd_hostfs *fs, const struct vfsd_caller *caller, int fd,
		      unsigned long command, void *data)
{
	struct vfsd_creds creds;
	int error = vfsd_creds_enter(fs, caller, &creds);

	/* As the caller: not every guest's kernel has asked whether the file is his. */
	if (error)
		return error;
	error = ioctl(fd, command, data) < 0 ? -errno : 0;
	vfsd_creds_leave(fs, &creds);
	return error;
}

static int change_mode(struct vfsd_hostfs *fs, int path_fd, int fd, mode_t mode)
{
	struct vfsd_proc_name proc;

	if (fd >= 0)
		return fchmod(fd, mode) ? -errno : 0;
	proc = vfsd_hostfs_proc_name(path_fd);
	return fchmodat(fs->proc_self_fd, proc.name, mode, 0) ? -errno : 0;
}

static int change_owner(struct vfsd_hostfs *fs, const struct vfsd_inode *inode, int fd,
			const struct vfsd_setattr *set)
{
	int error = S_ISREG(inode->type) ? vfsd_hostfs_end_capability(fs, fd) : 0;

	if (error)
		return error;
	return fchownat(fd, "", set->uid, set->gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) ? -errno :
											   0;
}

static int change_size(struct vfsd_hostfs *fs, const struct vfsd_inode *inode, int path_fd, int fd,
		       const struct vfsd_setattr *set)
{
	struct vfsd_creds creds = {.fsetid_dropped = false};
	struct vfsd_proc_name proc;
	int error;

	if (fd < 0 && !S_ISREG(inode->type) && !S_ISDIR(inode->type))
		return -EBADF;
	error = vfsd_hostfs_end_capability(fs, fd >= 0 ? fd : path_fd);
	if (!error && fd < 0)
		error = vfsd_creds_own_fs(fs);
	if (error)
		return error;
	if (set->kill_priv)
		vfsd_creds_drop_fsetid(&creds);
	if (fd >= 0) {
		error = ftruncate(fd, (off_t)set->size) ? -errno : 0;
	} else {
		/* Not by opening it: others would see that, and a close after writing. */
		proc = vfsd_hostfs_proc_name(path_fd);
		error = truncate(proc.name, (off_t)set->size) ? -errno : 0;
	}
	vfsd_creds_leave(fs, &creds);
	return error;
}

int vfsd_hostfs_setattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd,
			const struct vfsd_setattr *set, struct statx *ret)
{
	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);
	int error = 0;
	int any;

	/* A file that is unlinked but open may have no other descriptor left. */
	any = path.fd >= 0 ? path.fd : fd;
	if (any < 0)
		return path.fd;

	if (set->set_mode)
		error = change_mode(fs, path.fd, fd, set->mode & 07777);
	if (!error && (set->touch || set->uid != (uint32_t)-1 || set->gid != (uint32_t)-1))
		error = change_owner(fs, inode, any, set);
	if (!error && set->set_size)
		error = change_size(fs, inode, path.fd, fd, set);
	if (!error && (set->times[0].tv_nsec != UTIME_OMIT || set->times[1].tv_nsec != UTIME_OMIT))
		error = utimensat(any, "", set->times, AT_EMPTY_PATH) ? -errno : 0;
	return error ? error : vfsd_statx_fd(any, 0, VFSD_STATX_MASK, ret);
}

int vfsd_hostfs_statfs(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct statvfs *ret)
{
	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);

	if (path.fd < 0)
		return path.fd;
	return fstatvfs(path.fd, ret) ? -errno : 0;
}

ssize_t vfsd_hostfs_readlink(struct vfsd_hostfs *fs, struct vfsd_inode *inode, char *target,
			     size_t size)
{
	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);
	ssize_t n;

	if (path.fd < 0)
		return path.fd;
	if (!S_ISLNK(inode->type)) /* the host would say ENOENT */
		return -EINVAL;
	n = readlinkat(path.fd, "", target, size);
	if (n < 0)
		return -errno;
	return (size_t)n < size ? n : -ENAMETOOLONG;
}
