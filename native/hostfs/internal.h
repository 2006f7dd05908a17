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
	struct vfsd_open_files *handles;
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

	path.fd = vfsd_inode_acquire_fd(fs->inodes, inode, &path.transient);
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

/* The operations. */
#define VFSD_HOSTFS_DECLARATION(type, name, ...)                                                   \
	type vfsd_hostfs_##name(struct vfsd_hostfs *fs, __VA_ARGS__);
VFSD_HOSTFS_OPERATIONS(VFSD_HOSTFS_DECLARATION)
#undef VFSD_HOSTFS_DECLARATION

/* lookup.c */
/*
 * lookup() with an open descriptor of @parent. @expect_new: the guest will not know it, try first what
 * is quicker then.
 */
int vfsd_hostfs_lookup_at(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int dir_fd,
			  const char *name, bool expect_new, struct vfsd_entry *ret);
/* The same where somebody is about to use what is found: vfsd_inodes_cache_lookups(). */
int vfsd_hostfs_lookup_to_use(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int dir_fd,
			      const char *name, struct vfsd_entry *ret);
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

/* xattr.c */
/* Give @fd, any descriptor but O_PATH's, or what is called @name in @dir_fd, a label. */
int vfsd_hostfs_label(int fd, const struct vfsd_label *label);
int vfsd_hostfs_label_name(struct vfsd_hostfs *fs, int dir_fd, const char *name,
			   const struct vfsd_label *label);
/*
 * End the capabilities of a regular file, where the host does not know them as such; @fd may be
 * O_PATH's. 0 or -errno.
 */
int vfsd_hostfs_end_capability(struct vfsd_hostfs *fs, int fd);

#endif
