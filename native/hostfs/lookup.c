/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names: find, make, move and remove them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostfs/internal.h"
#include "base/statx.h"
#include "base/util.h"

static bool is_submount(const struct vfsd_inode *parent, const struct statx *st)
{
	if (!S_ISDIR(st->stx_mode))
		return false;
	if (parent->dev != vfsd_statx_dev(st))
		return true;
	return st->stx_mask & STATX_MNT_ID && parent->mnt_id && parent->mnt_id != st->stx_mnt_id;
}

/* @parent: NULL, if the guest has found its way to it before. */
static int entry_of_path_fd(struct vfsd_hostfs *fs, const struct vfsd_inode *parent,
			    int fd /* consumed */, struct vfsd_entry *ret)
{
	VFSD_FD_GUARD guard = fd;
	int error;

	error = vfsd_statx_fd(fd, 0, VFSD_STATX_MASK, &ret->st);
	if (error)
		return error;
	error = vfsd_inode_lookup_fd(fs->inodes, vfsd_fd_take(&guard), &ret->st, &ret->inode);
	if (error)
		return error;
	ret->submount = parent && is_submount(parent, &ret->st);
	if (parent)
		vfsd_inode_note_parent(ret->inode, parent);
	return 0;
}

static int open_and_look_up(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int dir_fd,
			    const char *name, struct vfsd_entry *ret)
{
	int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : entry_of_path_fd(fs, parent, fd, ret);
}

/* Of an inode that the guest knows; NULL otherwise, or if there is no such name: *ret is 0 or -errno */
static struct vfsd_inode *known_by_name(struct vfsd_hostfs *fs, int dir_fd, const char *name,
					struct statx *st, int *ret)
{
	struct vfsd_inode *inode;

	*ret = statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, VFSD_STATX_MASK, st) ?
		       -errno :
		       0;
	if (*ret)
		return NULL;
	inode = vfsd_inode_lookup_known(fs->inodes, st);
	return inode ? inode : vfsd_inode_lookup_name(fs->inodes, dir_fd, name, st);
}

/* The cheap ways first. */
int vfsd_hostfs_lookup_at(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int dir_fd,
			  const char *name, bool expect_new, struct vfsd_entry *ret)
{
	int error = 0;

	ret->inode = NULL;
	ret->added = false;
	if (!expect_new)
		ret->inode = known_by_name(fs, dir_fd, name, &ret->st, &error);
	if (error)
		return error;
	if (!ret->inode)
		ret->inode = vfsd_inode_lookup_new(fs->inodes, dir_fd, name, VFSD_STATX_MASK,
						   !expect_new, &ret->st, &ret->added);
	if (ret->inode) {
		ret->submount = is_submount(parent, &ret->st);
		vfsd_inode_note_parent(ret->inode, parent);
		return 0;
	}
	/* The name may lead elsewhere by now: what counts is the descriptor. */
	return open_and_look_up(fs, parent, dir_fd, name, ret);
}

bool vfsd_hostfs_is_removed(int dir_fd)
{
	struct stat st;

	/* Not by the C library's fstat(), which passes an empty path: names are often absent. */
	return syscall(SYS_fstat, dir_fd, &st) == 0 && st.st_nlink == 0;
}

int vfsd_hostfs_error_in(int dir_fd, int error)
{
	return error == -ENOENT && vfsd_hostfs_is_removed(dir_fd) ? -ESTALE : error;
}

int vfsd_hostfs_lookup_to_use(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int dir_fd,
			      const char *name, struct vfsd_entry *ret)
{
	if (VFSD_UNLIKELY(vfsd_inodes_cache_lookups(fs->inodes)))
		return open_and_look_up(fs, parent, dir_fd, name, ret);
	return vfsd_hostfs_lookup_at(fs, parent, dir_fd, name, false, ret);
}

int vfsd_hostfs_lookup(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		       struct vfsd_entry *ret)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);

	if (dir.fd < 0)
		return dir.fd;
	return vfsd_hostfs_error_in(dir.fd,
				    vfsd_hostfs_lookup_to_use(fs, parent, dir.fd, name, ret));
}

int vfsd_hostfs_entry_of_fd(struct vfsd_hostfs *fs, const struct vfsd_inode *parent, int fd,
			    struct vfsd_entry *ret)
{
	int path_fd;
	int error;

	ret->submount = false; /* a file that is open is none */
	error = vfsd_statx_fd(fd, 0, VFSD_STATX_MASK, &ret->st);
	if (error)
		return error;
	error = vfsd_inode_lookup_open(fs->inodes, fd, &ret->st, &ret->inode);
	if (!error)
		vfsd_inode_note_parent(ret->inode, parent);
	if (error != -EAGAIN)
		return error;
	path_fd = vfsd_proc_reopen(fs->proc_self_fd, fd, O_PATH);
	if (path_fd < 0)
		return path_fd;
	return entry_of_path_fd(fs, parent, path_fd, ret);
}

int vfsd_hostfs_lookup_self(struct vfsd_hostfs *fs, struct vfsd_inode *inode,
			    struct vfsd_entry *ret)
{
	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);
	int error = path.fd < 0 ? path.fd : vfsd_statx_fd(path.fd, 0, VFSD_STATX_MASK, &ret->st);

	if (error)
		return error;
	/* Not by the indexes: while a FORGET ends the inode they would give it another id. */
	ret->inode = vfsd_inode_lookup_again(inode);
	ret->submount = ret->added = false;
	return ret->inode ? 0 : -ESTALE;
}

int vfsd_hostfs_lookup_forgotten(struct vfsd_hostfs *fs, uint64_t nodeid, struct vfsd_entry *ret)
{
	int fd = vfsd_inode_open_forgotten(fs->inodes, nodeid);
	int error;

	if (fd < 0)
		return fd;
	error = entry_of_path_fd(fs, NULL, fd, ret);
	if (error || ret->inode->nodeid == nodeid)
		return error;
	/* It has been looked up anew in the moment that it was not known, and is another node since. */
	vfsd_hostfs_entry_drop(fs, ret);
	return -ESTALE;
}

int vfsd_hostfs_hold(struct vfsd_hostfs *fs, struct vfsd_inode *inode)
{
	return vfsd_inode_hold(fs->inodes, inode, true);
}

int vfsd_hostfs_lookup_parent(struct vfsd_hostfs *fs, struct vfsd_inode *inode,
			      struct vfsd_entry *ret)
{
	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);
	int fd, error;

	if (path.fd < 0)
		return path.fd;
	if (inode->nodeid == VFSD_NODEID_ROOT)
		return vfsd_hostfs_entry_of_fd(fs, inode, path.fd, ret);
	fd = openat(path.fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	/* It was below the root when the guest found it; somebody may have moved it elsewhere. */
	if (!vfsd_inode_is_below_root(fs->inodes, fd)) {
		(void)close(fd);
		return -ESTALE;
	}
	error = entry_of_path_fd(fs, inode, fd, ret);
	ret->submount = false; /* what is above one is none for that */
	return error;
}

void vfsd_hostfs_entry_drop(struct vfsd_hostfs *fs, struct vfsd_entry *entry)
{
	vfsd_inode_put(fs->inodes, vfsd_inode_forget(fs->inodes, entry->inode->nodeid, 1));
	vfsd_inode_put(fs->inodes, entry->inode);
	entry->inode = NULL;
}

bool vfsd_hostfs_is_short(int error)
{
	return error == -ENOMEM || error == -ENFILE || error == -EMFILE;
}

/* Before making a name: take what it needs, and the caller's ids. To be ended by finish_new(). */
static int begin_new(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		     const struct vfsd_inode *parent, struct vfsd_creds *creds)
{
	int error = vfsd_inodes_reserve(fs->inodes, parent, false);

	if (error)
		return error;
	error = vfsd_creds_enter(fs, caller, creds);
	if (error)
		vfsd_inodes_unreserve(fs->inodes);
	return error;
}

/*
 * @name has been made: label it (NULL: not) and look it up. What cannot be labelled must not stay, nor
 * what the host is too short of something to look up. @flags: unlinkat(2)'s.
 */
static int look_up_new(struct vfsd_hostfs *fs, const struct vfsd_label *label,
		       const struct vfsd_inode *parent, int dir_fd, const char *name, int flags,
		       struct vfsd_entry *ret)
{
	int error = label ? vfsd_hostfs_label_name(fs, dir_fd, name, label) : 0;
	bool stays = error == 0;

	if (!error)
		error = vfsd_hostfs_lookup_at(fs, parent, dir_fd, name, false, ret);
	if (!stays || vfsd_hostfs_is_short(error))
		(void)unlinkat(dir_fd, name, flags);
	return error;
}

/* After making @name, unless that was an @error. */
static int finish_new(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		      const struct vfsd_creds *creds, int error, const struct vfsd_inode *parent,
		      int dir_fd, const char *name, int flags, struct vfsd_entry *ret)
{
	vfsd_creds_leave(fs, creds);
	if (!error)
		error = look_up_new(fs, caller->label, parent, dir_fd, name, flags, ret);
	vfsd_inodes_unreserve(fs->inodes);
	return vfsd_hostfs_error_in(dir_fd, error);
}

int vfsd_hostfs_symlink(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			struct vfsd_inode *parent, const char *name, const char *target,
			struct vfsd_entry *ret)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);
	struct vfsd_creds creds;
	int error = dir.fd < 0 ? dir.fd : begin_new(fs, caller, parent, &creds);

	if (error)
		return error;
	error = symlinkat(target, dir.fd, name) ? -errno : 0;
	return finish_new(fs, caller, &creds, error, parent, dir.fd, name, 0, ret);
}

int vfsd_hostfs_mknod(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		      struct vfsd_inode *parent, const char *name, mode_t mode, dev_t rdev,
		      struct vfsd_entry *ret)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);
	struct vfsd_creds creds;
	int error = dir.fd < 0 ? dir.fd : begin_new(fs, caller, parent, &creds);

	if (error)
		return error;
	error = mknodat(dir.fd, name, mode, rdev) ? -errno : 0;
	return finish_new(fs, caller, &creds, error, parent, dir.fd, name, 0, ret);
}

int vfsd_hostfs_mkdir(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		      struct vfsd_inode *parent, const char *name, mode_t mode,
		      struct vfsd_entry *ret)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);
	struct vfsd_creds creds;
	int error = dir.fd < 0 ? dir.fd : begin_new(fs, caller, parent, &creds);

	if (error)
		return error;
	error = mkdirat(dir.fd, name, mode) ? -errno : 0;
	return finish_new(fs, caller, &creds, error, parent, dir.fd, name, AT_REMOVEDIR, ret);
}

int vfsd_hostfs_link(struct vfsd_hostfs *fs, struct vfsd_inode *inode, struct vfsd_inode *parent,
		     const char *name, struct vfsd_entry *ret)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);
	VFSD_PATH_FD path = vfsd_path_fd(fs, inode);

	if (dir.fd < 0)
		return dir.fd;
	if (path.fd < 0)
		return path.fd;
	/* Through /proc: AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH. */
	if (linkat(fs->proc_self_fd, vfsd_proc_name(path.fd).name, dir.fd, name, AT_SYMLINK_FOLLOW))
		return vfsd_hostfs_error_in(dir.fd, -errno);
	/* Nothing was reserved: the guest has this inode. */
	return look_up_new(fs, NULL, parent, dir.fd, name, 0, ret);
}

/*
 * What is about to go must not be held by a descriptor that was kept for speed: others who watch it,
 * on the host and in other guests, hear of its end when the last reference goes, and before its
 * directory's watchers hear of the name. It must be held if the guest may be using it (@hold), and
 * then they hear of its end when the guest has forgotten it, as they would of a local user.
 */
static void prepare_end(struct vfsd_hostfs *fs, int dir_fd, const char *name, bool hold)
{
	bool exists;
	struct vfsd_inode *inode = vfsd_inode_find_name(fs->inodes, dir_fd, name, &exists);

	/* Without a descriptor to spare it ends here: removing must be possible. */
	if (inode && !(hold && vfsd_inode_hold(fs->inodes, inode, false) == 0))
		vfsd_inode_uncache_fd(fs->inodes, inode);
	vfsd_inode_put(fs->inodes, inode);
}

static int remove_name(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		       int flags, bool hold)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);

	if (dir.fd < 0)
		return dir.fd;
	hold = hold && vfsd_inodes_are_by_handle(fs->inodes);
	if (hold || flags & AT_REMOVEDIR || vfsd_inodes_have_cached_files(fs->inodes))
		prepare_end(fs, dir.fd, name, hold);
	return unlinkat(dir.fd, name, flags) ? vfsd_hostfs_error_in(dir.fd, -errno) : 0;
}

int vfsd_hostfs_unlink(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		       bool hold)
{
	return remove_name(fs, parent, name, 0, hold);
}

int vfsd_hostfs_rmdir(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		      bool hold)
{
	return remove_name(fs, parent, name, AT_REMOVEDIR, hold);
}

int vfsd_hostfs_rename(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
		       struct vfsd_inode *new_parent, const char *new_name, unsigned int flags,
		       bool hold)
{
	VFSD_PATH_FD dir = vfsd_path_fd(fs, parent);
	VFSD_PATH_FD new_dir = vfsd_path_fd(fs, new_parent);

	if (dir.fd < 0)
		return dir.fd;
	if (new_dir.fd < 0)
		return new_dir.fd;
	if (!(flags & (RENAME_EXCHANGE | RENAME_NOREPLACE)))
		prepare_end(fs, new_dir.fd, new_name, hold);
	if (renameat2(dir.fd, name, new_dir.fd, new_name, flags) == 0)
		return 0;
	return vfsd_hostfs_error_in(dir.fd, vfsd_hostfs_error_in(new_dir.fd, -errno));
}
