/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostfs/hostfs - one function per operation on the host filesystem, through a table.
 *
 * Knows inodes and open files, but neither cursors nor rings nor the wire. Tests and fuzzers put
 * another table in its place. Every function returns 0 (or a count, or a descriptor, as told) or
 * -errno. Names have been checked: one path component, not "." or "..".
 * Owner thread: any. Operations that create do so as the guest's user: the calling thread's
 * effective ids change for one system call, and are as before whenever a function returns.
 */
#ifndef VFSD_HOSTFS_HOSTFS_H
#define VFSD_HOSTFS_HOSTFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "hostfs/options.h"
#include "inode/inode.h"

struct vfsd_handle;
struct vfsd_handles;
struct vfsd_hostfs;

/* The security context that something new is to have: an extended attribute of the host's name. */
struct vfsd_label {
	const char *name;
	const void *value;
	size_t bytes;
};

/* Who asks, for operations that create. (uint32_t)-1: the guest does not tell, stay who we are. */
struct vfsd_caller {
	uint32_t uid;
	uint32_t gid;
	bool has_group; /* of the caller's other groups, the one that the directory belongs to */
	uint32_t group;
	mode_t umask;			/* what is left to the host, which knows of default ACLs */
	const struct vfsd_label *label; /* NULL: none. What cannot have it is not made. */
};

/* What a name leads to. One lookup is counted; @inode is a transient reference, the caller's. */
struct vfsd_entry {
	struct vfsd_inode *inode;
	struct statx st;
	bool submount; /* a directory on another mount or filesystem than its parent */
	bool added; /* it was new, and expecting that would have been right; of a list_entry only */
};

/* Entries of one directory, on the way from it to the guest. Belongs to hostfs. */
struct vfsd_list {
	struct vfsd_listing listing;
	int dir_fd;
	bool expect_new; /* the last one was new, so the next one will be */
};

/* What to change. Ids are (uint32_t)-1 to keep; times are UTIME_OMIT to keep, or UTIME_NOW. */
struct vfsd_setattr {
	bool set_mode;
	bool set_size;
	bool touch;	/* ctime alone */
	bool kill_priv; /* truncation ends set-id bits and file capabilities */
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint64_t size;		  /* bytes */
	struct timespec times[2]; /* access, modification */
};

/* How to write. */
enum vfsd_write_flags {
	VFSD_WRITE_APPEND = 1 << 0,    /* at the end of the file, whatever the offset */
	VFSD_WRITE_KILL_PRIV = 1 << 1, /* end set-id bits and file capabilities */
};

/*
 * Whatever takes a directory and a name is -ESTALE if the directory has been removed: a guest that
 * came by a name it had cached looks that up again then. So is tmpfile().
 */
struct vfsd_hostfs_ops {
	int (*lookup)(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		      struct vfsd_entry *ret);
	/* @inode itself, once more. */
	int (*again)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct vfsd_entry *ret);
	/* What the guest knew as @nodeid and has forgotten. -ESTALE: nobody knows, or it is gone. */
	int (*forgotten)(struct vfsd_hostfs *fs, uint64_t nodeid, struct vfsd_entry *ret);
	/* The directory that the directory @inode is in; of the root the root. -ESTALE: not below it. */
	int (*parent)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct vfsd_entry *ret);

	/* @fd: an open descriptor of @inode to act through, or -1. */
	int (*getattr)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd, struct statx *ret);
	int (*setattr)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd,
		       const struct vfsd_setattr *set, struct statx *ret);
	int (*statfs)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct statvfs *ret);
	/* @flags and @mask: statx(2)'s. */
	int (*statx)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd, int flags,
		     unsigned int mask, struct statx *ret);
	/* @mask: R_OK, W_OK, X_OK. By the mode bits: -EACCES. */
	int (*access)(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		      struct vfsd_inode *inode, int mask);
	/* ioctl(2) of the FS_IOC_*FLAGS and FS_IOC_FS*XATTR family; @data is what @command means. */
	int (*ioctl)(struct vfsd_hostfs *fs, const struct vfsd_caller *caller, int fd,
		     unsigned long command, void *data);

	/* Names are the host's. Return bytes, of which none are written if @size is 0. */
	ssize_t (*getxattr)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, const char *name,
			    void *value, size_t size);
	ssize_t (*listxattr)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, char *names,
			     size_t size);
	/* @flags: XATTR_CREATE, XATTR_REPLACE. @kill_sgid: an ACL of @caller's may end that bit. */
	int (*setxattr)(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			struct vfsd_inode *inode, const char *name, const void *value, size_t size,
			int flags, bool kill_sgid);
	int (*removexattr)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, const char *name);

	/* Returns the bytes of the target, without NUL; -ENAMETOOLONG if they don't fit. */
	ssize_t (*readlink)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, char *target,
			    size_t size);
	int (*symlink)(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		       struct vfsd_inode *parent, const char *name, const char *target,
		       struct vfsd_entry *ret);
	int (*mknod)(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		     struct vfsd_inode *parent, const char *name, mode_t mode, dev_t rdev,
		     struct vfsd_entry *ret);
	int (*mkdir)(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		     struct vfsd_inode *parent, const char *name, mode_t mode,
		     struct vfsd_entry *ret);
	int (*link)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct vfsd_inode *parent,
		    const char *name, struct vfsd_entry *ret);
	/*
	 * @hold: the guest may go on using what has no name then, until it forgets it; it does so in any
	 * case if it has asked for hold() before, which is 0 or -ENFILE.
	 */
	int (*hold)(struct vfsd_hostfs *fs, struct vfsd_inode *inode);
	int (*unlink)(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		      bool hold);
	int (*rmdir)(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		     bool hold);
	/* @flags: RENAME_* */
	int (*rename)(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		      struct vfsd_inode *new_parent, const char *new_name, unsigned int flags,
		      bool hold);

	/* @flags: open(2)'s. Returns the descriptor, the caller's. Also for directories. */
	int (*open)(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int flags, bool kill_priv);
	/* Create, or without O_EXCL open what is there. *ret_fd is the caller's. */
	int (*create)(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		      struct vfsd_inode *parent, const char *name, int flags, mode_t mode,
		      bool kill_priv, struct vfsd_entry *ret, int *ret_fd);
	/* A file without a name, which a later link may give it. */
	int (*tmpfile)(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		       struct vfsd_inode *parent, int flags, mode_t mode, struct vfsd_entry *ret,
		       int *ret_fd);
	/* Returns bytes. */
	ssize_t (*read)(struct vfsd_hostfs *fs, int fd, const struct iovec *iov, int n_iov,
			off_t offset);
	/* @flags: enum vfsd_write_flags. Returns bytes. */
	ssize_t (*write)(struct vfsd_hostfs *fs, int fd, const struct iovec *iov, int n_iov,
			 off_t offset, unsigned int flags);
	int (*flush)(struct vfsd_hostfs *fs, int fd);
	int (*fsync)(struct vfsd_hostfs *fs, int fd, bool data_only);
	/* All of the filesystem that the inode is on. */
	int (*syncfs)(struct vfsd_hostfs *fs, struct vfsd_inode *inode);
	int (*fallocate)(struct vfsd_hostfs *fs, int fd, int mode, off_t offset, off_t length,
			 bool kill_priv);
	/* @whence: SEEK_DATA or SEEK_HOLE. Returns an offset. */
	off_t (*lseek)(struct vfsd_hostfs *fs, int fd, off_t offset, int whence);
	/* Returns bytes. */
	ssize_t (*copy_file_range)(struct vfsd_hostfs *fs, int fd_in, off_t offset_in, int fd_out,
				   off_t offset_out, size_t length, unsigned int flags,
				   bool kill_priv);

	/*
	 * Fill @buf with whole struct dirent64 from @offset on (0: start). Returns bytes; 0: end. Of
	 * them, the first *ret_early may have been read earlier and put back, with vfsd_dir_unread()
	 * or by the kernel.
	 */
	ssize_t (*readdir)(struct vfsd_hostfs *fs, struct vfsd_handle *handle, int64_t offset,
			   void *buf, size_t size, size_t *ret_early);
	/*
	 * What such entries of @dir lead to. @dir_fd: an open descriptor of it; @from_start: as for
	 * offset 0. Begin before reading; there is nothing to end.
	 */
	void (*list)(struct vfsd_hostfs *fs, struct vfsd_inode *dir, int dir_fd, bool from_start,
		     struct vfsd_list *ret);
	/* @ino: as read after the begin; 0: it was earlier. */
	int (*list_entry)(struct vfsd_hostfs *fs, struct vfsd_list *list, const char *name,
			  uint64_t ino, struct vfsd_entry *ret);
	/* What an entry leads to, across mounts: filesystem, number and type only. */
	int (*list_number)(struct vfsd_hostfs *fs, int dir_fd, const char *name, struct statx *ret);
};

/* The real one. */
extern const struct vfsd_hostfs_ops vfsd_hostfs_ops;

/*
 * @inodes, @handles and @proc_self_fd (an O_PATH descriptor of /proc/self/fd) are borrowed, @options
 * copied. Call it with the ids that the daemon will serve with.
 */
int vfsd_hostfs_create(const struct vfsd_hostfs_options *options, struct vfsd_inodes *inodes,
		       struct vfsd_handles *handles, int proc_self_fd, struct vfsd_hostfs **ret);
void vfsd_hostfs_destroy(struct vfsd_hostfs *fs);

/*
 * The guest's security.capability is an attribute called @name here (borrowed; xattrmap). The host
 * does not know what it means, so we end it where the host would. Before the first operation.
 */
void vfsd_hostfs_set_capability_name(struct vfsd_hostfs *fs, const char *name);

#endif
