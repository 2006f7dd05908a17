/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostfs/internal - what the files of this folder share. Nobody else includes this.
 */
#ifndef VFSD_HOSTFS_INTERNAL_H
#define VFSD_HOSTFS_INTERNAL_H

#include "base/proc_fd.h"
#include "hostfs/hostfs.h"
#include "inode/inode.h"

/* Births tell inodes apart: see inode/inode.h. */
enum { VFSD_STATX_MASK = STATX_BASIC_STATS | STATX_MNT_ID | STATX_BTIME };

struct vfsd_hostfs {
	struct vfsd_hostfs_options options;
	struct vfsd_inodes *inodes;
	struct vfsd_handles *handles;
	int proc_self_fd;
	uint32_t uid; /* effective, as the daemon was started */
	uint32_t gid;
	gid_t *groups; /* supplementary ones, likewise */
	size_t n_groups;
	const char *capability_name; /* NULL: the host's own */
};

/* An inode's O_PATH descriptor for one operation: have it closed on leaving the scope. */
struct vfsd_path_fd {
	int fd; /* or -errno */
	bool transient;
};

static inline struct vfsd_path_fd vfsd_path_fd(struct vfsd_hostfs *fs, struct vfsd_inode *inode)
{
	struct vfsd_path_fd path = {.fd = -1};

	path.fd = vfsd_inode_fd_borrow(fs->inodes, inode, &path.transient);
	return path;
}

static inline void vfsd_path_fd_guard(const struct vfsd_path_fd *path)
{
	vfsd_inode_fd_put(path->fd, path->transient);
}

#define VFSD_PATH_FD __attribute__((cleanup(vfsd_path_fd_guard))) struct vfsd_path_fd

/* creds.c: act as somebody else on this thread. Restore always, also after an error. */
struct vfsd_creds {
	bool uid_changed;
	bool gid_changed;
	bool groups_changed;
	bool umask_changed;
	bool fsetid_dropped;
};

/* Note the supplementary groups to come back to. 0 or -errno. */
int vfsd_creds_remember_groups(struct vfsd_hostfs *fs);

/* Take the caller's ids (only root can, others stay who they are). 0 or -errno. */
int vfsd_creds_enter(const struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		     struct vfsd_creds *creds);
/* Besides, drop CAP_FSETID, so that the kernel ends set-id bits; no error if we lack it. */
void vfsd_creds_drop_fsetid(struct vfsd_creds *creds);
void vfsd_creds_leave(const struct vfsd_hostfs *fs, const struct vfsd_creds *creds);
/*
 * Give this thread a working directory (/proc/self/fd, for good) and a umask of its own; cheap when
 * it has them. 0 or -errno.
 */
int vfsd_creds_own_fs(const struct vfsd_hostfs *fs);

/* lookup.c */
int vfsd_hostfs_lookup(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		       struct vfsd_entry *ret);
/*
 * The same with an open descriptor of @parent. @expect_new: the guest will not know it, try first what
 * is quicker then.
 */
int vfsd_hostfs_lookup_at(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int dir_fd,
			  const char *name, bool expect_new, struct vfsd_entry *ret);
/* The same where somebody is about to use what is found: vfsd_inodes_hold_lookups(). */
int vfsd_hostfs_lookup_to_use(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int dir_fd,
			      const char *name, struct vfsd_entry *ret);
int vfsd_hostfs_again(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct vfsd_entry *ret);
int vfsd_hostfs_forgotten(struct vfsd_hostfs *fs, uint64_t nodeid, struct vfsd_entry *ret);
int vfsd_hostfs_parent(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct vfsd_entry *ret);
/* The entry of an inode just created or opened; @fd is any descriptor of it and stays open. */
int vfsd_hostfs_entry_of_fd(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int fd,
			    struct vfsd_entry *ret);
bool vfsd_hostfs_is_removed(int dir_fd);
/*
 * @error of a name in the directory @dir_fd, except that -ENOENT is -ESTALE if the directory itself has
 * been removed: then there may be another one of its name, where the guest has to look.
 */
int vfsd_hostfs_error_in(int dir_fd, int error);
/* Is it that memory or descriptors have run out? */
bool vfsd_hostfs_is_short(int error);
/* Give an entry back: its lookup and its reference. */
void vfsd_hostfs_entry_drop(struct vfsd_hostfs *fs, struct vfsd_entry *entry);
int vfsd_hostfs_symlink(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			struct vfsd_inode *parent, const char *name, const char *target,
			struct vfsd_entry *ret);
int vfsd_hostfs_mknod(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		      struct vfsd_inode *parent, const char *name, mode_t mode, dev_t rdev,
		      struct vfsd_entry *ret);
int vfsd_hostfs_mkdir(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		      struct vfsd_inode *parent, const char *name, mode_t mode,
		      struct vfsd_entry *ret);
int vfsd_hostfs_link(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct vfsd_inode *parent,
		     const char *name, struct vfsd_entry *ret);
int vfsd_hostfs_hold(struct vfsd_hostfs *fs, struct vfsd_inode *inode);
int vfsd_hostfs_unlink(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		       bool hold);
int vfsd_hostfs_rmdir(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		      bool hold);
int vfsd_hostfs_rename(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		       struct vfsd_inode *new_parent, const char *new_name, unsigned int flags,
		       bool hold);

/* attr.c */
int vfsd_hostfs_getattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd,
			struct statx *ret);
int vfsd_hostfs_setattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd,
			const struct vfsd_setattr *set, struct statx *ret);
int vfsd_hostfs_statfs(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct statvfs *ret);
int vfsd_hostfs_statx(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int fd, int flags,
		      unsigned int mask, struct statx *ret);
int vfsd_hostfs_access(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		       struct vfsd_inode *inode, int mask);
int vfsd_hostfs_ioctl(struct vfsd_hostfs *fs, const struct vfsd_caller *caller, int fd,
		      unsigned long command, void *data);
ssize_t vfsd_hostfs_readlink(struct vfsd_hostfs *fs, struct vfsd_inode *inode, char *target,
			     size_t size);

/* xattr.c */
ssize_t vfsd_hostfs_getxattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, const char *name,
			     void *value, size_t size);
ssize_t vfsd_hostfs_listxattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, char *names,
			      size_t size);
int vfsd_hostfs_setxattr(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			 struct vfsd_inode *inode, const char *name, const void *value, size_t size,
			 int flags, bool kill_sgid);
int vfsd_hostfs_removexattr(struct vfsd_hostfs *fs, struct vfsd_inode *inode, const char *name);
/* Give @fd, any descriptor but O_PATH's, or what is called @name in @dir_fd, a label. */
int vfsd_hostfs_label(int fd, const struct vfsd_label *label);
int vfsd_hostfs_label_name(struct vfsd_hostfs *fs, int dir_fd, const char *name,
			   const struct vfsd_label *label);
/*
 * End the capabilities of a regular file, where the host does not know them as such; @fd may be
 * O_PATH's. 0 or -errno.
 */
int vfsd_hostfs_end_capability(struct vfsd_hostfs *fs, int fd);

/* file.c */
int vfsd_hostfs_open(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int flags, bool kill_priv);
int vfsd_hostfs_create_file(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			    struct vfsd_inode *parent, const char *name, int flags, mode_t mode,
			    bool kill_priv, struct vfsd_entry *ret, int *ret_fd);
int vfsd_hostfs_tmpfile(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			struct vfsd_inode *parent, int flags, mode_t mode, struct vfsd_entry *ret,
			int *ret_fd);
ssize_t vfsd_hostfs_read(struct vfsd_hostfs *fs, int fd, const struct iovec *iov, int n_iov,
			 off_t offset);
ssize_t vfsd_hostfs_write(struct vfsd_hostfs *fs, int fd, const struct iovec *iov, int n_iov,
			  off_t offset, unsigned int flags);
int vfsd_hostfs_flush(struct vfsd_hostfs *fs, int fd);
int vfsd_hostfs_fsync(struct vfsd_hostfs *fs, int fd, bool data_only);
int vfsd_hostfs_syncfs(struct vfsd_hostfs *fs, struct vfsd_inode *inode);
int vfsd_hostfs_fallocate(struct vfsd_hostfs *fs, int fd, int mode, off_t offset, off_t length,
			  bool kill_priv);
off_t vfsd_hostfs_lseek(struct vfsd_hostfs *fs, int fd, off_t offset, int whence);
ssize_t vfsd_hostfs_copy_file_range(struct vfsd_hostfs *fs, int fd_in, off_t offset_in, int fd_out,
				    off_t offset_out, size_t length, unsigned int flags,
				    bool kill_priv);

/* dir.c */
ssize_t vfsd_hostfs_readdir(struct vfsd_hostfs *fs, struct vfsd_handle *handle, int64_t offset,
			    void *buf, size_t size, size_t *ret_early);
void vfsd_hostfs_list(struct vfsd_hostfs *fs, struct vfsd_inode *dir, int dir_fd, bool from_start,
		      struct vfsd_list *ret);
int vfsd_hostfs_list_entry(struct vfsd_hostfs *fs, struct vfsd_list *list, const char *name,
			   uint64_t ino, struct vfsd_entry *ret);
int vfsd_hostfs_list_number(struct vfsd_hostfs *fs, int dir_fd, const char *name,
			    struct statx *ret);

#endif
