/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Open files: making and opening them, their bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostfs/internal.h"
#include "base/util.h"

enum { REPLACED_TRIES = 16 }; /* to open what others keep replacing */

int vfsd_hostfs_open(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int flags, bool kill_priv)
{
	struct vfsd_creds creds = {.fsetid_dropped = false};
	int error = 0;
	int fd;

	flags &= ~(O_CREAT | O_EXCL | O_NOCTTY | O_NOFOLLOW);
	if (kill_priv)
		vfsd_creds_drop_fsetid(&creds);
	fd = vfsd_inode_open(fs->inodes, inode, flags | O_NOCTTY);
	vfsd_creds_leave(fs, &creds);
	if (fd >= 0 && flags & O_TRUNC)
		error = vfsd_hostfs_end_capability(fs, fd);
	if (error) {
		(void)close(fd);
		return error;
	}
	return fd;
}

/*
 * The name exists already: open what it leads to, as LOOKUP and OPEN would. -EAGAIN: it has been
 * removed or replaced meanwhile.
 */
static int open_existing(struct vfsd_hostfs *fs, struct vfsd_inode *parent, int dir_fd,
			 const char *name, int flags, bool kill_priv, struct vfsd_entry *ret,
			 int *ret_fd)
{
	int error = vfsd_hostfs_lookup_to_use(fs, parent, dir_fd, name, ret);
	bool regular;
	int fd;

	if (error)
		return error == -ENOENT ? -EAGAIN : error;
	/* The guest took the name for free. ESTALE makes it look again, and follow a symlink. */
	regular = S_ISREG(ret->inode->type);
	fd = regular ? vfsd_hostfs_open(fs, ret->inode, flags, kill_priv) : -ESTALE;
	if (fd < 0) {
		vfsd_hostfs_entry_drop(fs, ret);
		return regular && fd == -ESTALE ? -EAGAIN : fd;
	}
	*ret_fd = fd;
	return 0;
}

/* Returns the descriptor or -errno. */
static int make_file(struct vfsd_hostfs *fs, const struct vfsd_caller *caller, int dir_fd,
		     const char *name, int flags, mode_t mode)
{
	struct vfsd_creds creds;
	int fd = vfsd_creds_enter(fs, caller, &creds);

	if (fd)
		return fd;
	fd = openat(dir_fd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC,
		    mode & 07777);
	fd = fd < 0 ? -errno : fd;
	vfsd_creds_leave(fs, &creds);
	return fd;
}

/*
 * What CREATE and TMPFILE have made, open as *fd, which is taken if it can be labelled and looked up.
 */
static int finish_file(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		       const struct vfsd_inode *parent, int *fd, struct vfsd_entry *ret,
		       int *ret_fd)
{
	int error = caller->label ? vfsd_hostfs_label(*fd, caller->label) : 0;

	if (!error) /* not by name: somebody else may have replaced it */
		error = vfsd_hostfs_entry_of_fd(fs, parent, *fd, ret);
	if (!error)
		*ret_fd = vfsd_fd_take(fd);
	return error;
}

/* Make @name, or open it, with what a new one needs reserved. */
static int create_file(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		       struct vfsd_inode *parent, int dir_fd, const char *name, int flags,
		       mode_t mode, bool kill_priv, struct vfsd_entry *ret, int *ret_fd)
{
	VFSD_FD_GUARD fd = -1;
	int error;

	for (int tries = 0; tries < REPLACED_TRIES; tries++) {
		fd = make_file(fs, caller, dir_fd, name, flags, mode);
		if (fd != -EEXIST || flags & O_EXCL)
			break;
		error = open_existing(fs, parent, dir_fd, name, flags, kill_priv, ret, ret_fd);
		if (error != -EAGAIN)
			return error;
		fd = -ESTALE;
	}
	if (fd < 0)
		return fd;
	error = finish_file(fs, caller, parent, &fd, ret, ret_fd);
	if (error && (caller->label || vfsd_hostfs_is_short(error)))
		(void)unlinkat(dir_fd, name, 0);
	return error;
}

int vfsd_hostfs_create(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		       struct vfsd_inode *parent, const char *name, int flags, mode_t mode,
		       bool kill_priv, struct vfsd_entry *ret, int *ret_fd)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);
	int error = dir.fd < 0 ? dir.fd : vfsd_inodes_reserve(fs->inodes, parent, false);

	if (error)
		return error;
	error = create_file(fs, caller, parent, dir.fd, name, flags, mode, kill_priv, ret, ret_fd);
	vfsd_inodes_unreserve(fs->inodes);
	return vfsd_hostfs_error_in(dir.fd, error);
}

int vfsd_hostfs_tmpfile(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			struct vfsd_inode *parent, int flags, mode_t mode, struct vfsd_entry *ret,
			int *ret_fd)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);
	VFSD_FD_GUARD fd = -1;
	struct vfsd_creds creds;
	int error = dir.fd < 0 ? dir.fd : vfsd_creds_enter(fs, caller, &creds);

	if (error)
		return error;
	/* Whether it may get a name is kept by the guest's kernel, which alone asks for that. */
	fd = openat(dir.fd, ".", (flags & ~(O_EXCL | O_TRUNC)) | O_TMPFILE | O_NOCTTY | O_CLOEXEC,
		    mode & 07777);
	error = fd < 0 ? -errno : 0;
	vfsd_creds_leave(fs, &creds);
	/* Some filesystems make them there all the same. */
	if ((!error || error == -ENOENT || error == -EPERM) && vfsd_hostfs_is_removed(dir.fd))
		error = -ESTALE;
	/* Nothing has to be reserved: what fails leaves no name. */
	return error ? error : finish_file(fs, caller, parent, &fd, ret, ret_fd);
}

/*
 * Not by the C library's functions, at which a thread can be cancelled: that takes two atomic
 * operations each time. And if there is one buffer, the kernel need not fetch a list of them.
 */
_Static_assert(sizeof(off_t) == sizeof(long), "an offset is one argument of a system call");

static ssize_t read_at(int fd, const struct iovec *iov, int n_iov, off_t offset)
{
	if (VFSD_LIKELY(n_iov == 1))
		return syscall(SYS_pread64, fd, iov->iov_base, iov->iov_len, offset);
	return syscall(SYS_preadv, fd, iov, (long)n_iov, offset, 0L);
}

static ssize_t write_at(int fd, const struct iovec *iov, int n_iov, off_t offset, int flags)
{
	if (VFSD_LIKELY(n_iov == 1 && flags == 0))
		return syscall(SYS_pwrite64, fd, iov->iov_base, iov->iov_len, offset);
	return syscall(SYS_pwritev2, fd, iov, (long)n_iov, offset, 0L, flags);
}

ssize_t vfsd_hostfs_read(struct vfsd_hostfs *fs, int fd, const struct iovec *iov, int n_iov,
			 off_t offset)
{
	ssize_t n = read_at(fd, iov, n_iov, offset);

	(void)fs;
	return n < 0 ? -errno : n;
}

ssize_t vfsd_hostfs_write(struct vfsd_hostfs *fs, int fd, const struct iovec *iov, int n_iov,
			  off_t offset, unsigned int flags)
{
	struct vfsd_creds creds = {.fsetid_dropped = false};
	ssize_t n = vfsd_hostfs_end_capability(fs, fd);

	if (n < 0)
		return n;
	if (flags & VFSD_WRITE_KILL_PRIV)
		vfsd_creds_drop_fsetid(&creds);
	n = write_at(fd, iov, n_iov, offset, flags & VFSD_WRITE_APPEND ? RWF_APPEND : 0);
	n = n < 0 ? -errno : n;
	vfsd_creds_leave(fs, &creds);
	return n;
}

int vfsd_hostfs_flush(struct vfsd_hostfs *fs, int fd)
{
	/* The guest closed one of its descriptors; tell the host filesystem, keep ours. */
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	(void)fs;
	if (copy < 0)
		return -errno;
	return close(copy) ? -errno : 0;
}

int vfsd_hostfs_fsync(struct vfsd_hostfs *fs, int fd, bool data_only)
{
	(void)fs;
	return (data_only ? fdatasync(fd) : fsync(fd)) ? -errno : 0;
}

int vfsd_hostfs_syncfs(struct vfsd_hostfs *fs, struct vfsd_inode *inode)
{
	VFSD_FD_GUARD fd = vfsd_inode_open(fs->inodes, inode, O_RDONLY | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return fd;
	return syncfs(fd) ? -errno : 0;
}

int vfsd_hostfs_fallocate(struct vfsd_hostfs *fs, int fd, int mode, off_t offset, off_t length,
			  bool kill_priv)
{
	struct vfsd_creds creds = {.fsetid_dropped = false};
	int error = vfsd_hostfs_end_capability(fs, fd);

	if (error)
		return error;
	if (kill_priv)
		vfsd_creds_drop_fsetid(&creds);
	error = fallocate(fd, mode, offset, length) ? -errno : 0;
	vfsd_creds_leave(fs, &creds);
	return error;
}

off_t vfsd_hostfs_lseek(struct vfsd_hostfs *fs, int fd, off_t offset, int whence)
{
	/* Nothing else here uses the position of a file. */
	off_t at = lseek(fd, offset, whence);

	(void)fs;
	return at < 0 ? -errno : at;
}

ssize_t vfsd_hostfs_copy_file_range(struct vfsd_hostfs *fs, int fd_in, off_t offset_in, int fd_out,
				    off_t offset_out, size_t length, unsigned int flags,
				    bool kill_priv)
{
	struct vfsd_creds creds = {.fsetid_dropped = false};
	ssize_t n = vfsd_hostfs_end_capability(fs, fd_out);

	if (n < 0)
		return n;
	if (kill_priv)
		vfsd_creds_drop_fsetid(&creds);
	n = copy_file_range(fd_in, &offset_in, fd_out, &offset_out, length, flags);
	n = n < 0 ? -errno : n;
	vfsd_creds_leave(fs, &creds);
	return n;
}
