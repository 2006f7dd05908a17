/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where what a watch covers is. A watch follows the inode that was at its path, as inotify's do, but not out
 * of the share: so the directories that the path leads through are watched for being moved, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/proc_fd.h"
#include "inode/inode.h"
#include "watch/path_tree.h"
#include "watch/internal.h"

/* Is @fd what is at @path? Both are open, so that no other inode has the number of either. */
static bool is_at(int root_fd, const char *path, int fd)
{
	int found = vfsd_open_beneath(root_fd, path);
	struct stat here, there;
	bool same;

	if (found < 0)
		return false;
	same = fstat(found, &there) == 0 && fstat(fd, &here) == 0 && here.st_dev == there.st_dev &&
	       here.st_ino == there.st_ino;
	(void)close(found);
	return same;
}

/*
 * Is @fd below the share, or the share itself? What is outside of the daemon's root has some path in /proc
 * all the same: so the path counts only if it leads to @fd.
 */
static bool is_shared(const struct vfsd_watch_registry *registry, int fd)
{
	char share[PATH_MAX], path[PATH_MAX];
	ssize_t above =
		vfsd_proc_path(registry->config.proc_self_fd, registry->config.root_fd, share);
	ssize_t bytes = vfsd_proc_path(registry->config.proc_self_fd, fd, path);

	if (above < 1 || bytes < above || memcmp(path, share, (size_t)above) != 0)
		return false;
	if (bytes == above)
		return is_at(registry->config.root_fd, ".", fd);
	if (above > 1 && path[above] != '/')
		return false;
	return is_at(registry->config.root_fd, path + above + (above > 1), fd);
}

/* It has no name any more: an event of its own says so. */
static bool is_removed(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_nlink == 0;
}

bool vfsd_watch_is_in_place(const struct vfsd_watch_registry *registry,
			    const struct vfsd_watch *watch, uint64_t nodeid, int fd)
{
	const size_t above = strlen(watch->path);
	struct vfsd_inode *root;
	char path[PATH_MAX];
	bool transient, found = false;
	int root_fd, bytes;

	if (nodeid == vfsd_path_tree_root(watch->tree))
		return above == 0 || is_shared(registry, fd);
	bytes = vfsd_path_tree_path(watch->tree, nodeid, NULL, path, sizeof(path) - 1);
	if (bytes < 0)
		return bytes == -ENAMETOOLONG; /* no event there has a path to report */
	path[bytes] = '\0';
	root = vfsd_inode_get(registry->inodes, vfsd_path_tree_root(watch->tree));
	if (!root)
		return false;
	root_fd = vfsd_inode_fd_get(registry->inodes, root, &transient);
	if (root_fd >= 0) {
		found = is_at(root_fd, path + above + (above > 0), fd) &&
			(above == 0 || is_shared(registry, root_fd));
		vfsd_inode_fd_put(root_fd, transient);
	}
	vfsd_inode_put(registry->inodes, root);
	return found;
}

enum vfsd_watch_place vfsd_watch_place_of(const struct vfsd_watch_registry *registry,
					  const struct vfsd_watch *watch)
{
	enum vfsd_watch_place place = VFSD_PLACE_SHARED;
	struct vfsd_inode *root;
	bool transient;
	int fd;

	if (watch->path[0] == '\0')
		return VFSD_PLACE_SHARED;
	root = vfsd_inode_get(registry->inodes, vfsd_path_tree_root(watch->tree));
	if (!root)
		return VFSD_PLACE_UNKNOWN;
	fd = vfsd_inode_fd_get(registry->inodes, root, &transient);
	if (fd < 0)
		place = VFSD_PLACE_UNKNOWN;
	else if (!is_shared(registry, fd) && !is_removed(fd))
		place = VFSD_PLACE_OUTSIDE;
	if (fd >= 0)
		vfsd_inode_fd_put(fd, transient);
	vfsd_inode_put(registry->inodes, root);
	return place;
}

int vfsd_watch_parents_add(struct vfsd_watch_registry *registry, struct vfsd_watch *watch)
{
	uint32_t count = 0;
	int err = 0;

	for (const char *c = watch->path; *c; c++)
		count += *c == '/';
	watch->parents = calloc((size_t)count + 1, sizeof(*watch->parents));
	if (!watch->parents)
		return -ENOMEM;
	for (char *c = watch->path; !err && *c; c++) {
		struct vfsd_inode *inode;
		int fd;

		if (*c != '/')
			continue;
		*c = '\0';
		fd = vfsd_open_beneath(registry->config.root_fd, watch->path);
		*c = '/';
		err = fd < 0 ? fd : vfsd_watch_lookup_fd(registry, fd, &inode);
		if (err)
			break;
		watch->parents[watch->n_parents++] = inode->nodeid;
		err = vfsd_watch_set_interest(registry, watch, inode, FAN_MOVE_SELF);
		vfsd_inode_put(registry->inodes, inode);
	}
	return err;
}

void vfsd_watch_parents_drop(struct vfsd_watch_registry *registry, struct vfsd_watch *watch)
{
	for (uint32_t i = 0; i < watch->n_parents; i++)
		vfsd_watch_drop_interest(registry, watch, watch->parents[i]);
	free(watch->parents);
	watch->parents = NULL;
	watch->n_parents = 0;
}
