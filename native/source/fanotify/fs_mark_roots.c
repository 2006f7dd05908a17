/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/fs_mark_roots.h"

#include <errno.h>
#include <stddef.h>
#include <sys/fanotify.h>

#include "source/fanotify/subtree.h"
#include "source/fanotify/decode.h"
#include "inode/inode.h"
#include "base/log.h"
#include "base/proc_fd.h"

static uint64_t mask_of(const struct vfsd_fs_mark_roots *roots, uint64_t fsid)
{
	uint64_t mask = 0;

	for (uint32_t i = 0; i < roots->count; i++)
		if (roots->at[i].fsid == fsid)
			mask |= roots->at[i].mask;
	return mask;
}

static int mark(const struct vfsd_fs_mark_roots *roots, int fd, unsigned int how, uint64_t mask)
{
	return fanotify_mark(roots->group, how | FAN_MARK_FILESYSTEM, mask, roots->proc_self_fd,
			     vfsd_proc_name(fd).name) < 0 ?
		       -errno :
		       0;
}

/* Have the host's mark of the filesystem that @root is on, carrying @old, carry @new. */
static int set_mark(const struct vfsd_fs_mark_roots *roots, const struct vfsd_inode *root,
		    uint64_t old, uint64_t new)
{
	const int fd = vfsd_inode_mount_fd(root);
	int err = 0;

	/* Whose directories nobody can find by their handles, of that nothing could be reported. */
	if (fd < 0)
		return new & ~old ? -EOPNOTSUPP : 0;
	if (new & ~old)
		err = mark(roots, fd, FAN_MARK_ADD, new & ~old);
	if (!err && (old & ~new)) {
		int remove_err = mark(roots, fd, FAN_MARK_REMOVE, old & ~new);

		if (remove_err && remove_err != -ENOENT)
			VFSD_LOG_LIMITED(VFSD_LOG_WARN,
					 "fanotify: cannot trim a filesystem mark errno=%d",
					 -remove_err);
	}
	return err;
}

static struct vfsd_fs_mark_root *find(struct vfsd_fs_mark_roots *roots, uint64_t nodeid)
{
	for (uint32_t i = 0; i < roots->count; i++)
		if (roots->at[i].nodeid == nodeid)
			return &roots->at[i];
	return NULL;
}

static void drop(struct vfsd_fs_mark_roots *roots, struct vfsd_fs_mark_root *at)
{
	vfsd_subtree_remove_root(roots->subtree, at->nodeid);
	*at = roots->at[--roots->count];
}

int vfsd_fs_mark_roots_watch(struct vfsd_fs_mark_roots *roots, const struct vfsd_inode *root,
			     uint64_t mask)
{
	struct vfsd_fs_mark_root *at = find(roots, root->nodeid);
	const uint64_t fsid = vfsd_inode_handle(root)->fsid;
	const uint64_t before = mask_of(roots, fsid);
	const uint64_t old = at ? at->mask : 0;
	int err;

	/* What leaves, and what comes, has to be known, and directories are a part of it. */
	if (mask != 0)
		mask |= FAN_RENAME | FAN_ONDIR;
	if (mask == old)
		return 0;
	if (!at) {
		if (roots->count == VFSD_SOURCE_FILESYSTEMS_MAX)
			return -ENOSPC;
		err = vfsd_subtree_add_root(roots->subtree, root);
		if (err)
			return err;
		at = &roots->at[roots->count++];
		*at = (struct vfsd_fs_mark_root){.nodeid = root->nodeid, .fsid = fsid};
	}
	at->mask = mask;
	err = set_mark(roots, root, before, mask_of(roots, fsid));
	if (err)
		at->mask = old;
	if (at->mask == 0)
		drop(roots, at);
	return err;
}
