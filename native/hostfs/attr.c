/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attributes and flags of one inode, and what a symbolic link says.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hostfs/internal.h"
#include "base/statx.h"
#include "base/util.h"

int vfsd_hostfs_getattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd, struct statx *ret)
{
	if (fd >= 0)
		return vfsd_statx_fd(fd, 0, VFSD_STATX_MASK, ret);

	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);

	int error = path.fd < 0 ? path.fd : vfsd_statx_fd(path.fd, 0, VFSD_STATX_MASK, ret);

	/* It has no name any more, unless the guest has just found it by one. */
	if (VFSD_UNLIKELY(!error && ret->stx_nlink == 0) && !vfsd_inodes_cache_lookups(fs->inodes))
		vfsd_inode_uncache_fd(fs->inodes, inode);
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

/* Which project a file belongs to, what belongs to it that is made in there, and which device it is on. */
static const uint32_t flags_of_hosts = FS_PROJINHERIT_FL;
static const uint32_t xflags_of_hosts = FS_XFLAG_PROJINHERIT | FS_XFLAG_REALTIME |
					FS_XFLAG_RTINHERIT;

/* Does @command, with @data, leave to the host what is the host's? 0 or -errno. */
static int check_project(const struct vfsd_hostfs *fs, int fd, unsigned long command,
			 const void *data)
{
	const struct fsxattr *wanted = data;
	struct fsxattr now = {.fsx_xflags = 0};
	uint32_t flags;

	if (fs->options.allow_project_ids)
		return 0;
	if (command == FS_IOC_SETFLAGS) {
		memcpy(&flags, data, sizeof(flags));
		if (ioctl(fd, FS_IOC_GETFLAGS, &now) < 0)
			return -errno;
		/* Flags come first, also where they are all there is. */
		return (now.fsx_xflags ^ flags) & flags_of_hosts ? -EPERM : 0;
	}
	if (command != FS_IOC_FSSETXATTR)
		return 0;
	if (ioctl(fd, FS_IOC_FSGETXATTR, &now) < 0)
		return -errno;
	return (now.fsx_xflags ^ wanted->fsx_xflags) & xflags_of_hosts ||
			       now.fsx_projid != wanted->fsx_projid ?
		       -EPERM :
		       0;
}

int vfsd_hostfs_ioctl(struct vfsd_hostfs *fs, const struct vfsd_caller *caller, int fd,
		      unsigned long command, void *data)
{
	struct vfsd_creds creds;
	int error = vfsd_creds_enter(fs, caller, &creds);

	/* As the caller: not every guest's kernel has asked whether the file is his. */
	if (error)
		return error;
	error = check_project(fs, fd, command, data);
	if (!error && ioctl(fd, command, data) < 0)
		error = -errno;
	vfsd_creds_leave(fs, &creds);
	return error;
}

static int change_mode(struct vfsd_hostfs *fs, int path_fd, int fd, mode_t mode)
{
	if (fd >= 0)
		return fchmod(fd, mode) ? -errno : 0;
	return fchmodat(fs->proc_self_fd, vfsd_proc_name(path_fd).name, mode, 0) ? -errno : 0;
}

static int change_owner(struct vfsd_hostfs *fs, const struct vfsd_inode *inode, int fd,
			uint32_t uid, uint32_t gid)
{
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
		return -errno;
	return S_ISREG(inode->type) ? vfsd_hostfs_end_capability(fs, fd) : 0;
}

/* What can be known before anything has been changed. */
static int check_size(const struct vfsd_inode *inode, int fd, uint64_t size)
{
	if (S_ISDIR(inode->type))
		return -EISDIR;
	if (!S_ISREG(inode->type))
		return fd < 0 ? -EBADF : -EINVAL;
	return size <= INT64_MAX ? 0 : -EINVAL;
}

static int change_size(struct vfsd_hostfs *fs, int path_fd, int fd, const struct vfsd_setattr *set)
{
	struct vfsd_creds creds = {.fsetid_dropped = false};
	int error = fd < 0 ? vfsd_creds_own_fs(fs) : 0;

	if (error)
		return error;
	if (set->kill_priv)
		vfsd_creds_drop_fsetid(&creds);
	if (fd >= 0) {
		error = ftruncate(fd, (off_t)set->size) ? -errno : 0;
	} else {
		/* Not by opening it: others would see that, and a close after writing. */
		error = truncate(vfsd_proc_name(path_fd).name, (off_t)set->size) ? -errno : 0;
	}
	vfsd_creds_leave(fs, &creds);
	return error ? error : vfsd_hostfs_end_capability(fs, fd >= 0 ? fd : path_fd);
}

/* The descriptors that SETATTR acts through; -1 or -errno: not that one. */
struct attr_fds {
	int path; /* O_PATH */
	int open;
	int any;
};

/* Also to what it is, for the sake of ctime. */
static bool sets_owner(const struct vfsd_setattr *set)
{
	return set->touch || set->uid != (uint32_t)-1 || set->gid != (uint32_t)-1;
}

static bool sets_times(const struct vfsd_setattr *set)
{
	return set->times[0].tv_nsec != UTIME_OMIT || set->times[1].tv_nsec != UTIME_OMIT;
}

/*
 * Owner before mode, for a new owner ends set-id bits; then the size, which cannot be undone; the times
 * last, for that changes them.
 */
static int change_all(struct vfsd_hostfs *fs, const struct vfsd_inode *inode,
		      const struct attr_fds *fds, const struct vfsd_setattr *set)
{
	int error = 0;

	if (sets_owner(set))
		error = change_owner(fs, inode, fds->any, set->uid, set->gid);
	if (!error && set->set_mode)
		error = change_mode(fs, fds->path, fds->open, set->mode & 07777);
	if (!error && set->set_size)
		error = change_size(fs, fds->path, fds->open, set);
	if (!error && sets_times(set))
		error = utimensat(fds->any, "", set->times, AT_EMPTY_PATH) ? -errno : 0;
	return error;
}

/* Can a part be refused when another one has been done that could be undone? */
static bool needs_undoing(const struct vfsd_hostfs *fs, const struct vfsd_setattr *set)
{
	if (!sets_owner(set))
		return set->set_mode && (set->set_size || sets_times(set));
	return set->set_mode || set->set_size || sets_times(set) || fs->capability_name;
}

/* As it was @before. Best effort. */
static void undo(struct vfsd_hostfs *fs, const struct attr_fds *fds, const struct vfsd_setattr *set,
		 const struct statx *before)
{
	if (sets_owner(set))
		(void)fchownat(fds->any, "", before->stx_uid, before->stx_gid,
			       AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
	(void)change_mode(fs, fds->path, fds->open, before->stx_mode & 07777);
}

int vfsd_hostfs_setattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd,
			const struct vfsd_setattr *set, struct statx *ret)
{
	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);
	/* A file that is unlinked but open may have no other descriptor left. */
	const struct attr_fds fds = {path.fd, fd, path.fd >= 0 ? path.fd : fd};
	const bool undoing = needs_undoing(fs, set);
	struct statx before;
	int error = 0;

	if (fds.any < 0)
		return path.fd;
	if (set->set_size)
		error = check_size(inode, fd, set->size);
	if (!error && VFSD_UNLIKELY(undoing))
		error = vfsd_statx_fd(fds.any, 0, STATX_BASIC_STATS, &before);
	if (error)
		return error;
	error = change_all(fs, inode, &fds, set);
	if (error && undoing)
		undo(fs, &fds, set, &before);
	return error ? error : vfsd_statx_fd(fds.any, 0, VFSD_STATX_MASK, ret);
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
