/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostfs/operations - every operation on the host filesystem, once: what it is called, takes and returns.
 *
 * X(type, name, parameters but the first, which is struct vfsd_hostfs *fs). From this list come struct
 * vfsd_hostfs_ops, the declarations of the functions and the tables of pointers to them, here and in
 * tests. Operations have the names of FUSE; one that serves a part of a request begins with its name.
 * What each returns unless said otherwise is in hostfs.h.
 */
#ifndef VFSD_HOSTFS_OPERATIONS_H
#define VFSD_HOSTFS_OPERATIONS_H

/*
 * Whatever takes a directory and a name is -ESTALE if the directory has been removed: a guest that
 * came by a name it had cached looks that up again then. So is tmpfile().
 */
/* clang-format off */
#define VFSD_HOSTFS_OPERATIONS(X) \
	X(int, lookup, struct vfsd_inode *parent, const char *name, struct vfsd_entry *ret) \
	/* @inode itself, once more. */ \
	X(int, lookup_self, struct vfsd_inode *inode, struct vfsd_entry *ret) \
	/* What the guest knew as @nodeid and has forgotten. -ESTALE: nobody knows, or it is gone. */ \
	X(int, lookup_forgotten, uint64_t nodeid, struct vfsd_entry *ret) \
	/* \
	 * The directory that the directory @inode is in; of the root the root. -ESTALE: not below \
	 * it. \
	 */ \
	X(int, lookup_parent, struct vfsd_inode *inode, struct vfsd_entry *ret) \
	/* @fd: an open descriptor of @inode to act through, or -1. */ \
	X(int, getattr, struct vfsd_inode *inode, int fd, struct statx *ret) \
	X(int, setattr, struct vfsd_inode *inode, int fd, const struct vfsd_setattr *set, \
	  struct statx *ret) \
	X(int, statfs, struct vfsd_inode *inode, struct statvfs *ret) \
	/* @flags and @mask: statx(2)'s. */ \
	X(int, statx, struct vfsd_inode *inode, int fd, int flags, unsigned int mask, \
	  struct statx *ret) \
	/* @mask: R_OK, W_OK, X_OK. By the mode bits: -EACCES. */ \
	X(int, access, const struct vfsd_caller *caller, struct vfsd_inode *inode, int mask) \
	/* ioctl(2) of the FS_IOC_*FLAGS and FS_IOC_FS*XATTR family; @data is what @command means. */ \
	X(int, ioctl, const struct vfsd_caller *caller, int fd, unsigned long command, \
	  void *data) \
	/* Names are the host's. Return bytes, of which none are written if @size is 0. */ \
	X(ssize_t, getxattr, struct vfsd_inode *inode, const char *name, void *value, \
	  size_t size) \
	X(ssize_t, listxattr, struct vfsd_inode *inode, char *names, size_t size) \
	/* @flags: XATTR_CREATE, XATTR_REPLACE. @kill_sgid: an ACL of @caller's may end that bit. */ \
	X(int, setxattr, const struct vfsd_caller *caller, struct vfsd_inode *inode, \
	  const char *name, const void *value, size_t size, int flags, bool kill_sgid) \
	X(int, removexattr, struct vfsd_inode *inode, const char *name) \
	/* Returns the bytes of the target, without NUL; -ENAMETOOLONG if they don't fit. */ \
	X(ssize_t, readlink, struct vfsd_inode *inode, char *target, size_t size) \
	X(int, symlink, const struct vfsd_caller *caller, struct vfsd_inode *parent, \
	  const char *name, const char *target, struct vfsd_entry *ret) \
	X(int, mknod, const struct vfsd_caller *caller, struct vfsd_inode *parent, \
	  const char *name, mode_t mode, dev_t rdev, struct vfsd_entry *ret) \
	X(int, mkdir, const struct vfsd_caller *caller, struct vfsd_inode *parent, \
	  const char *name, mode_t mode, struct vfsd_entry *ret) \
	X(int, link, struct vfsd_inode *inode, struct vfsd_inode *parent, const char *name, \
	  struct vfsd_entry *ret) \
	/* \
	 * @hold: the guest may go on using what has no name then, until it forgets it; it does so \
	 * in any case if it has asked for hold() before, which is 0 or -ENFILE. \
	 */ \
	X(int, hold, struct vfsd_inode *inode) \
	X(int, unlink, struct vfsd_inode *parent, const char *name, bool hold) \
	X(int, rmdir, struct vfsd_inode *parent, const char *name, bool hold) \
	/* @flags: RENAME_* */ \
	X(int, rename, struct vfsd_inode *parent, const char *name, \
	  struct vfsd_inode *new_parent, const char *new_name, unsigned int flags, bool hold) \
	/* @flags: open(2)'s. Returns the descriptor, the caller's. Also for directories. */ \
	X(int, open, struct vfsd_inode *inode, int flags, bool kill_priv) \
	/* Create, or without O_EXCL open what is there. *ret_fd is the caller's. */ \
	X(int, create, const struct vfsd_caller *caller, struct vfsd_inode *parent, \
	  const char *name, int flags, mode_t mode, bool kill_priv, struct vfsd_entry *ret, \
	  int *ret_fd) \
	/* A file without a name, which a later link may give it. */ \
	X(int, tmpfile, const struct vfsd_caller *caller, struct vfsd_inode *parent, \
	  int flags, mode_t mode, struct vfsd_entry *ret, int *ret_fd) \
	/* Returns bytes. */ \
	X(ssize_t, read, int fd, const struct iovec *iov, int n_iov, off_t offset) \
	/* @flags: enum vfsd_write_flags. Returns bytes. */ \
	X(ssize_t, write, int fd, const struct iovec *iov, int n_iov, off_t offset, \
	  unsigned int flags) \
	X(int, flush, int fd) \
	X(int, fsync, int fd, bool data_only) \
	/* All of the filesystem that the inode is on. */ \
	X(int, syncfs, struct vfsd_inode *inode) \
	X(int, fallocate, int fd, int mode, off_t offset, off_t length, bool kill_priv) \
	/* @whence: SEEK_DATA or SEEK_HOLE. Returns an offset. */ \
	X(off_t, lseek, int fd, off_t offset, int whence) \
	/* Returns bytes. */ \
	X(ssize_t, copy_file_range, int fd_in, off_t offset_in, int fd_out, off_t offset_out, \
	  size_t length, unsigned int flags, bool kill_priv) \
	/* \
	 * Fill @buf with whole struct dirent64 from @offset on (0: start). Returns bytes; 0: end. \
	 * Of them, the first *ret_early may have been read earlier and put back, with \
	 * vfsd_dir_unread() or by the kernel. \
	 */ \
	X(ssize_t, readdir, struct vfsd_open_file *file, int64_t offset, void *buf, \
	  size_t size, size_t *ret_early) \
	/* \
	 * What such entries of @dir lead to. @dir_fd: an open descriptor of it; @from_start: as \
	 * for offset 0. Begin before reading; there is nothing to end. \
	 */ \
	X(void, readdirplus, struct vfsd_inode *dir, int dir_fd, bool from_start, \
	  struct vfsd_list *ret) \
	/* @ino: as read after the begin; 0: it was earlier. */ \
	X(int, readdirplus_entry, struct vfsd_list *list, const char *name, uint64_t ino, \
	  struct vfsd_entry *ret) \
	/* What an entry leads to, across mounts: filesystem, number and type only. */ \
	X(int, readdir_number, int dir_fd, const char *name, struct statx *ret)
/* clang-format on */

#endif
