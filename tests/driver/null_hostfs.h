/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * null_hostfs - a host filesystem that is not there: what the fuse room asks of it is answered with
 * plausible results or ENOENT, nothing is changed. For the parser's tests and its fuzz target.
 *
 * Names starting with a..d are four real directories (so that node ids come and go); any other name
 * does not exist. Every file is endless; every directory has a few entries.
 */
#ifndef VFSD_NULL_HOSTFS_H
#define VFSD_NULL_HOSTFS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "check.h"
#include "inode/open_file.h"
#include "hostfs/hostfs.h"
#include "inode/inode.h"

enum { NULL_HOSTFS_DIRS = 4 };

struct vfsd_hostfs {
	struct vfsd_inodes *inodes;
	struct {
		int fd;
		struct statx st;
	} dirs[NULL_HOSTFS_DIRS];
	int file; /* what "open files" are copies of */
	unsigned int calls;
	uint8_t sum; /* of all that was written, so that it is read */
};

static inline void null_hostfs_create(struct vfsd_hostfs *fs)
{
	static const char *const paths[NULL_HOSTFS_DIRS] = {"/", "/proc", "/dev", "/proc/self"};

	*fs = (struct vfsd_hostfs){.file = open("/dev/null", O_RDWR | O_CLOEXEC)};
	CHECK(fs->file >= 0);
	for (int i = 0; i < NULL_HOSTFS_DIRS; i++) {
		fs->dirs[i].fd = open(paths[i], O_PATH | O_CLOEXEC);
		CHECK(fs->dirs[i].fd >= 0);
		CHECK_EQ(statx(fs->dirs[i].fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID,
			       &fs->dirs[i].st),
			 0);
	}
}

static inline void null_hostfs_destroy(struct vfsd_hostfs *fs)
{
	for (int i = 0; i < NULL_HOSTFS_DIRS; i++)
		close(fs->dirs[i].fd);
	close(fs->file);
}

static inline int null_entry(struct vfsd_hostfs *fs, const char *name, struct vfsd_entry *ret)
{
	int which = name[0] - 'a';
	int fd;

	fs->calls++;
	if (which < 0 || which >= NULL_HOSTFS_DIRS)
		return -ENOENT;
	ret->st = fs->dirs[which].st;
	ret->submount = which > 1;
	ret->inode = vfsd_inode_lookup_known(fs->inodes, &ret->st);
	if (ret->inode)
		return 0;
	fd = fcntl(fs->dirs[which].fd, F_DUPFD_CLOEXEC, 0);
	CHECK(fd >= 0);
	return vfsd_inode_lookup_fd(fs->inodes, fd, &ret->st, &ret->inode);
}

static inline int null_lookup(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
			      struct vfsd_entry *ret)
{
	(void)parent;
	ret->added = false;
	return null_entry(fs, name, ret);
}

static inline void null_readdirplus(struct vfsd_hostfs *fs, struct vfsd_inode *dir, int dir_fd,
				    bool from_start, struct vfsd_list *ret)
{
	(void)fs;
	(void)from_start;
	CHECK(dir && dir_fd >= 0);
	ret->expect_new = false;
}

static inline int null_readdirplus_entry(struct vfsd_hostfs *fs, struct vfsd_list *list,
					 const char *name, uint64_t ino, struct vfsd_entry *ret)
{
	(void)ino;
	list->expect_new = !list->expect_new;
	return null_lookup(fs, NULL, name, ret);
}

static inline int null_lookup_self(struct vfsd_hostfs *fs, struct vfsd_inode *inode,
				   struct vfsd_entry *ret)
{
	(void)inode;
	return null_entry(fs, "a", ret);
}

static inline int null_getattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd,
			       struct statx *ret)
{
	(void)inode;
	(void)fd;
	fs->calls++;
	*ret = fs->dirs[0].st;
	return 0;
}

static inline int null_setattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd,
			       const struct vfsd_setattr *set, struct statx *ret)
{
	(void)set;
	return null_getattr(fs, inode, fd, ret);
}

static inline int null_statx(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd, int flags,
			     unsigned int mask, struct statx *ret)
{
	(void)flags;
	(void)mask;
	return null_getattr(fs, inode, fd, ret);
}

static inline int null_access(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			      struct vfsd_inode *inode, int mask)
{
	(void)caller;
	(void)inode;
	fs->calls++;
	return mask & 1 ? -EACCES : 0;
}

static inline int null_ioctl(struct vfsd_hostfs *fs, const struct vfsd_caller *caller, int fd,
			     unsigned long command, void *data)
{
	(void)caller;
	(void)command;
	CHECK(fd >= 0);
	fs->calls++;
	fs->sum ^= *(uint8_t *)data;
	return 0;
}

/* Every attribute has a value of 100 bytes. */
static inline ssize_t null_getxattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode,
				    const char *name, void *value, size_t size)
{
	(void)inode;
	CHECK(name[0] != '\0');
	fs->calls++;
	if (size > 0 && size < 100)
		return -ERANGE;
	if (size > 0)
		memset(value, 'v', 100);
	return 100;
}

static inline ssize_t null_listxattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, char *names,
				     size_t size)
{
	static const char list[] = "user.a\0user.hidden.b\0system.posix_acl_access\0trusted.c";

	(void)inode;
	fs->calls++;
	CHECK(size >= sizeof(list));
	memcpy(names, list, sizeof(list));
	return sizeof(list);
}

static inline int null_setxattr(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
				struct vfsd_inode *inode, const char *name, const void *value,
				size_t size, int flags, bool kill_sgid)
{
	(void)caller;
	(void)inode;
	(void)flags;
	(void)kill_sgid;
	CHECK(name[0] != '\0');
	fs->calls++;
	for (size_t i = 0; i < size; i++)
		fs->sum ^= ((const uint8_t *)value)[i];
	return 0;
}

static inline int null_removexattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode,
				   const char *name)
{
	return null_setxattr(fs, NULL, inode, name, NULL, 0, 0, false);
}

static inline int null_statfs(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct statvfs *ret)
{
	(void)inode;
	fs->calls++;
	*ret = (struct statvfs){.f_bsize = 4096, .f_namemax = 255};
	return 0;
}

static inline ssize_t null_readlink(struct vfsd_hostfs *fs, struct vfsd_inode *inode, char *target,
				    size_t size)
{
	(void)inode;
	fs->calls++;
	CHECK(size > 100);
	memset(target, 't', 100);
	return 100;
}

/* What a guest says of itself is read as the real thing would. */
static inline void null_caller(struct vfsd_hostfs *fs, const struct vfsd_caller *caller)
{
	CHECK(caller->umask <= 0777);
	if (caller->label)
		(void)null_setxattr(fs, caller, NULL, caller->label->name, caller->label->value,
				    caller->label->bytes, 0, false);
}

static inline int null_symlink(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			       struct vfsd_inode *parent, const char *name, const char *target,
			       struct vfsd_entry *ret)
{
	(void)parent;
	null_caller(fs, caller);
	fs->sum ^= (uint8_t)strlen(target);
	return null_entry(fs, name, ret);
}

static inline int null_mknod(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			     struct vfsd_inode *parent, const char *name, mode_t mode, dev_t rdev,
			     struct vfsd_entry *ret)
{
	(void)parent;
	(void)mode;
	(void)rdev;
	null_caller(fs, caller);
	return null_entry(fs, name, ret);
}

static inline int null_mkdir(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			     struct vfsd_inode *parent, const char *name, mode_t mode,
			     struct vfsd_entry *ret)
{
	return null_mknod(fs, caller, parent, name, mode, 0, ret);
}

static inline int null_link(struct vfsd_hostfs *fs, struct vfsd_inode *inode,
			    struct vfsd_inode *parent, const char *name, struct vfsd_entry *ret)
{
	(void)inode;
	(void)parent;
	return null_entry(fs, name, ret);
}

static inline int null_lookup_forgotten(struct vfsd_hostfs *fs, uint64_t nodeid,
					struct vfsd_entry *ret)
{
	(void)nodeid;
	(void)ret;
	fs->calls++;
	return -ESTALE;
}

static inline int null_hold(struct vfsd_hostfs *fs, struct vfsd_inode *inode)
{
	(void)inode;
	fs->calls++;
	return 0;
}

static inline int null_unlink(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
			      bool hold)
{
	(void)hold;
	(void)parent;
	fs->calls++;
	return name[0] == 'a' ? 0 : -ENOENT;
}

static inline int null_rename(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
			      struct vfsd_inode *new_parent, const char *new_name,
			      unsigned int flags, bool hold)
{
	(void)new_parent;
	(void)flags;
	fs->sum ^= (uint8_t)strlen(new_name);
	return null_unlink(fs, parent, name, hold);
}

static inline int null_open(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int flags,
			    bool kill_priv)
{
	(void)inode;
	(void)flags;
	(void)kill_priv;
	fs->calls++;
	return fcntl(fs->file, F_DUPFD_CLOEXEC, 0);
}

static inline int null_create(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			      struct vfsd_inode *parent, const char *name, int flags, mode_t mode,
			      bool kill_priv, struct vfsd_entry *ret, int *ret_fd)
{
	int error = null_mknod(fs, caller, parent, name, mode, 0, ret);

	if (!error)
		*ret_fd = null_open(fs, parent, flags, kill_priv);
	return error;
}

static inline int null_tmpfile(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			       struct vfsd_inode *parent, int flags, mode_t mode,
			       struct vfsd_entry *ret, int *ret_fd)
{
	return null_create(fs, caller, parent, "d", flags, mode, false, ret, ret_fd);
}

static inline ssize_t null_read(struct vfsd_hostfs *fs, int fd, const struct iovec *iov, int n_iov,
				off_t offset)
{
	ssize_t n = 0;

	(void)offset;
	CHECK(fd >= 0);
	fs->calls++;
	for (int i = 0; i < n_iov; i++) {
		memset(iov[i].iov_base, 'r', iov[i].iov_len);
		n += (ssize_t)iov[i].iov_len;
	}
	return n;
}

static inline ssize_t null_write(struct vfsd_hostfs *fs, int fd, const struct iovec *iov, int n_iov,
				 off_t offset, unsigned int flags)
{
	ssize_t n = 0;

	(void)offset;
	(void)flags;
	CHECK(fd >= 0);
	fs->calls++;
	for (int i = 0; i < n_iov; i++) {
		for (size_t k = 0; k < iov[i].iov_len; k++)
			fs->sum ^= ((const uint8_t *)iov[i].iov_base)[k];
		n += (ssize_t)iov[i].iov_len;
	}
	return n;
}

static inline int null_flush(struct vfsd_hostfs *fs, int fd)
{
	CHECK(fd >= 0);
	fs->calls++;
	return 0;
}

static inline int null_fsync(struct vfsd_hostfs *fs, int fd, bool data_only)
{
	(void)data_only;
	return null_flush(fs, fd);
}

static inline int null_syncfs(struct vfsd_hostfs *fs, struct vfsd_inode *inode)
{
	(void)inode;
	fs->calls++;
	return 0;
}

static inline int null_fallocate(struct vfsd_hostfs *fs, int fd, int mode, off_t offset,
				 off_t length, bool kill_priv)
{
	(void)kill_priv;
	(void)mode;
	(void)offset;
	(void)length;
	CHECK(fd >= 0);
	fs->calls++;
	return 0;
}

static inline off_t null_lseek(struct vfsd_hostfs *fs, int fd, off_t offset, int whence)
{
	(void)whence;
	CHECK(fd >= 0);
	fs->calls++;
	return offset < 0 ? -EINVAL : offset;
}

static inline ssize_t null_copy_file_range(struct vfsd_hostfs *fs, int fd_in, off_t offset_in,
					   int fd_out, off_t offset_out, size_t length,
					   unsigned int flags, bool kill_priv)
{
	(void)kill_priv;
	(void)offset_in;
	(void)offset_out;
	(void)flags;
	CHECK(fd_in >= 0 && fd_out >= 0);
	CHECK(length <= SSIZE_MAX);
	fs->calls++;
	return (ssize_t)length;
}

static inline ssize_t null_readdir(struct vfsd_hostfs *fs, struct vfsd_open_file *handle,
				   int64_t offset, void *buf, size_t size, size_t *ret_early)
{
	static const char *const names[] = {".", "..", "a", "b", "none", "dlong", "e"};
	size_t used = 0;

	CHECK(handle->fd >= 0);
	fs->calls++;
	*ret_early = (size_t)offset % 2 * size; /* anything: also more than there is */
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct dirent64 *entry = (struct dirent64 *)((char *)buf + used);
		size_t bytes = offsetof(struct dirent64, d_name) + strlen(names[i]) + 1;

		bytes = (bytes + 7) / 8 * 8;
		if ((int64_t)i < offset)
			continue;
		if (bytes > size - used)
			break;
		entry->d_ino = i + 1;
		entry->d_off = (int64_t)i + 1;
		entry->d_reclen = (unsigned short)bytes;
		entry->d_type = DT_DIR;
		strcpy(entry->d_name, names[i]);
		used += bytes;
	}
	return (ssize_t)used;
}

static inline int null_readdir_number(struct vfsd_hostfs *fs, int dir_fd, const char *name,
				      struct statx *ret)
{
	(void)name;
	return null_getattr(fs, NULL, dir_fd, ret);
}

static inline int null_lookup_parent(struct vfsd_hostfs *fs, struct vfsd_inode *inode,
				     struct vfsd_entry *ret)
{
	return null_lookup_self(fs, inode, ret);
}

static inline int null_rmdir(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
			     bool hold)
{
	return null_unlink(fs, parent, name, hold);
}

static const struct vfsd_hostfs_ops null_hostfs_ops = {
#define NULL_POINTER(type, name, ...) .name = null_##name,
	VFSD_HOSTFS_OPERATIONS(NULL_POINTER)
#undef NULL_POINTER
};

#endif
