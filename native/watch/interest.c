/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "inode/inode.h"
#include "watch/internal.h"
#include "source/marks.h"
#include "source/source.h"

/* Find the inode that has the handle of @fd, on whatever mount. Transient reference or NULL. */
static struct vfsd_inode *find_same(struct vfsd_watch_registry *registry, int fd)
{
	struct vfsd_file_handle handle;
	bool reopenable;
	struct statfs fs;

	if (vfsd_inode_encode(fd, &handle, &reopenable) < 0 || fstatfs(fd, &fs) < 0)
		return NULL;
	_Static_assert(sizeof(fs.f_fsid) == sizeof(handle.fsid), "as inode/inode.h has it");
	memcpy(&handle.fsid, &fs.f_fsid, sizeof(handle.fsid));
	return vfsd_inode_find_handle(registry->inodes, &handle);
}

/*
 * The host watches inodes, on whatever mount they are found: so one inode here stands for all of its
 * mounts, unlike in a guest's table.
 */
int vfsd_watch_lookup_fd(struct vfsd_watch_registry *registry, int fd, struct vfsd_inode **ret)
{
	struct vfsd_inode *same = find_same(registry, fd);
	struct statx st;
	int err = 0;

	if (same) {
		bool transient;
		int other = vfsd_inode_fd_get(registry->inodes, same, &transient);

		(void)close(fd);
		fd = other < 0 ? other : fcntl(other, F_DUPFD_CLOEXEC, 0);
		err = other < 0 ? other : fd < 0 ? -errno : 0;
		if (other >= 0)
			vfsd_inode_fd_put(other, transient);
		vfsd_inode_put(registry->inodes, same);
	}
	if (!err &&
	    statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID | STATX_BTIME, &st) < 0)
		err = -errno;
	if (err) {
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	return vfsd_inode_lookup_fd(registry->inodes, fd, &st, ret);
}

void vfsd_watch_forget(struct vfsd_watch_registry *registry, uint64_t nodeid)
{
	/* The root is the table's own. */
	if (nodeid != VFSD_NODEID_ROOT)
		vfsd_inode_put(registry->inodes, vfsd_inode_forget(registry->inodes, nodeid, 1));
}

int vfsd_watch_set_interest(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			    struct vfsd_inode *inode, uint32_t mask)
{
	struct vfsd_marks_change change;
	int err;

	err = vfsd_marks_set(registry->marks, inode->nodeid, watch->owner, mask, &change);
	if (err)
		return err;
	err = registry->source->ops->watch(registry->source, inode, change.old_union,
					   change.new_union);
	if (err)
		(void)vfsd_marks_set(registry->marks, inode->nodeid, watch->owner, change.before,
				     &change);
	return err;
}

void vfsd_watch_drop_interest(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			      uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(registry->inodes, nodeid);

	if (inode) {
		(void)vfsd_watch_set_interest(registry, watch, inode, 0);
		vfsd_watch_errors_drop(registry, watch, inode);
		vfsd_inode_put(registry->inodes, inode);
	}
	vfsd_watch_forget(registry, nodeid);
}
