/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "watch/path_tree.h"
#include "inode/inode.h"
#include "watch/internal.h"
#include "source/marks.h"
#include "source/source.h"
#include "base/util.h"

/* Whoever watches below a directory has to follow directories. */
#define FOLLOWED (FAN_CREATE | FAN_DELETE | FAN_MOVE)

/* The inode that has @fd's handle, on whatever mount. Transient reference or NULL. */
static struct vfsd_inode *find_same(struct vfsd_local *local, int fd)
{
	struct vfsd_file_handle handle;
	bool reopenable;
	struct statfs fs;

	if (vfsd_inode_encode(fd, &handle, &reopenable) < 0 || fstatfs(fd, &fs) < 0)
		return NULL;
	_Static_assert(sizeof(fs.f_fsid) == sizeof(handle.fsid), "as inode/inode.h has it");
	memcpy(&handle.fsid, &fs.f_fsid, sizeof(handle.fsid));
	return vfsd_inode_find_handle(local->inodes, &handle);
}

/*
 * The host watches inodes, whatever mount they are found on: so to us, unlike to a guest, those are
 * one.
 */
int vfsd_local_know(struct vfsd_local *local, int fd, struct vfsd_inode **ret)
{
	struct vfsd_inode *same = find_same(local, fd);
	struct statx st;
	int err = 0;

	if (same) {
		bool transient;
		int other = vfsd_inode_fd_get(local->inodes, same, &transient);

		(void)close(fd);
		fd = other < 0 ? other : fcntl(other, F_DUPFD_CLOEXEC, 0);
		err = other < 0 ? other : fd < 0 ? -errno : 0;
		if (other >= 0)
			vfsd_inode_fd_put(other, transient);
		vfsd_inode_put(local->inodes, same);
	}
	if (!err &&
	    statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID | STATX_BTIME, &st) < 0)
		err = -errno;
	if (err) {
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	return vfsd_inode_lookup_fd(local->inodes, fd, &st, ret);
}

static void forget(struct vfsd_local *local, uint64_t nodeid)
{
	vfsd_inode_put(local->inodes, vfsd_inode_forget(local->inodes, nodeid, 1));
}

int vfsd_local_set_interest(struct vfsd_local *local, const struct vfsd_local_watch *watch,
			    struct vfsd_inode *inode, uint32_t mask)
{
	struct vfsd_marks_change change;
	int err;

	err = vfsd_marks_set(local->marks, inode->nodeid, watch->owner, mask, &change);
	if (err)
		return err;
	err = local->source->ops->watch(local->source, inode, change.old_union, change.new_union);
	if (err)
		(void)vfsd_marks_set(local->marks, inode->nodeid, watch->owner, change.before,
				     &change);
	return err;
}

static uint32_t interest_of(const struct vfsd_local_watch *watch)
{
	return watch->mask | FAN_EVENT_ON_CHILD | (watch->recursive ? FOLLOWED : 0u);
}

void vfsd_local_drop(struct vfsd_local *local, const struct vfsd_local_watch *watch,
		     uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(local->inodes, nodeid);

	if (inode) {
		(void)vfsd_local_set_interest(local, watch, inode, 0);
		vfsd_local_errors_drop(local, watch, inode);
		vfsd_inode_put(local->inodes, inode);
	}
	/* The root is the table's own. */
	if (nodeid != VFSD_NODEID_ROOT)
		forget(local, nodeid);
}

void vfsd_local_watch_ready(struct vfsd_local_watch *watch)
{
	if (watch->ready || watch->to_scan > 0)
		return;
	watch->ready = true;
	vfsd_local_tell_status(watch, VFSD_WATCH_READY, 0, watch->path);
}

void vfsd_local_watch_begin(struct vfsd_local *local, struct vfsd_local_watch *watch)
{
	struct vfsd_inode *inode = NULL;
	int err = 0, errors;
	bool is_dir;

	if (watch->path[0] == '\0') {
		inode = vfsd_inode_get(local->inodes, VFSD_NODEID_ROOT);
	} else {
		int fd = vfsd_local_open(local->config.root_fd, watch->path);

		err = fd < 0 ? fd : vfsd_local_know(local, fd, &inode);
	}
	if (err) {
		vfsd_local_tell_status(watch, VFSD_WATCH_FAILED, err, watch->path);
		return;
	}
	is_dir = S_ISDIR(inode->type);
	watch->recursive = watch->recursive && is_dir;
	err = vfsd_dirtree_create(inode->nodeid, watch->path, &watch->tree);
	if (!err)
		err = vfsd_local_set_interest(local, watch, inode,
					      interest_of(watch) | FAN_MOVE_SELF);
	if (!err)
		err = vfsd_local_above_watch(local, watch);
	if (!err && vfsd_local_place(local, watch) != VFSD_PLACE_SHARED)
		err = -ENOENT; /* before that could be noticed */
	if (!err && watch->recursive)
		err = vfsd_local_scan_push(local, watch, inode->nodeid, 0);
	if (err) {
		vfsd_local_tell_status(watch, VFSD_WATCH_FAILED, err, watch->path);
		if (watch->tree)
			vfsd_local_watch_end(local, watch);
		else if (inode->nodeid != VFSD_NODEID_ROOT)
			forget(local, inode->nodeid);
	} else {
		errors = vfsd_local_errors_want(local, watch, inode);
		if (errors)
			vfsd_local_tell_status(watch, VFSD_WATCH_NO_ERRORS, errors, watch->path);
		vfsd_local_watch_ready(watch);
	}
	vfsd_inode_put(local->inodes, inode);
}

struct ending {
	struct vfsd_local *local;
	struct vfsd_local_watch *watch;
};

static void end_one(void *raw, uint64_t nodeid)
{
	const struct ending *ending = raw;

	vfsd_local_drop(ending->local, ending->watch, nodeid);
}

void vfsd_local_watch_end(struct vfsd_local *local, struct vfsd_local_watch *watch)
{
	struct ending ending = {.local = local, .watch = watch};

	if (!watch->tree)
		return;
	vfsd_local_above_drop(local, watch);
	vfsd_dirtree_each(watch->tree, end_one, &ending);
	vfsd_dirtree_destroy(watch->tree);
	watch->tree = NULL;
}

void vfsd_local_watch_sweep(struct vfsd_local *local, struct vfsd_local_watch *watch)
{
	uint64_t nodeid;

	while (watch->tree && (nodeid = vfsd_dirtree_sweep(watch->tree)) != 0)
		vfsd_local_drop(local, watch, nodeid);
}

/* @inode is new in @dir: it may be the root of another filesystem. */
static void want_errors(struct vfsd_local *local, struct vfsd_local_watch *watch, uint64_t dir,
			const char *name, struct vfsd_inode *inode)
{
	struct vfsd_inode *parent = vfsd_inode_get(local->inodes, dir);
	char path[4096];
	int err = 0, bytes;

	if (parent && parent->dev != inode->dev)
		err = vfsd_local_errors_want(local, watch, inode);
	vfsd_inode_put(local->inodes, parent);
	bytes = err ? vfsd_dirtree_path(watch->tree, dir, name, path, sizeof(path) - 1) : -1;
	if (bytes < 0)
		return;
	path[bytes] = '\0';
	vfsd_local_tell_status(watch, VFSD_WATCH_NO_ERRORS, err, path);
}

void vfsd_local_watch_incomplete(struct vfsd_local_watch *watch, uint64_t dir, const char *name,
				 int err)
{
	char path[4096];
	int bytes = vfsd_dirtree_path(watch->tree, dir, name, path, sizeof(path) - 1);

	if (bytes < 0 || err == -ENOENT || err == -ESTALE)
		return;
	path[bytes] = '\0';
	vfsd_local_tell_status(watch, VFSD_WATCH_INCOMPLETE, err, path);
}

void vfsd_local_watch_add(struct vfsd_local *local, struct vfsd_local_watch *watch, uint64_t dir,
			  int dir_fd, const char *name, uint32_t found)
{
	struct vfsd_inode *inode;
	bool added = false;
	uint64_t nodeid;
	int fd, err;

	fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		/* Something else by now: the events about that are on their way. */
		if (errno != ENOTDIR && errno != ELOOP)
			vfsd_local_watch_incomplete(watch, dir, name, -errno);
		return;
	}
	err = vfsd_local_know(local, fd, &inode);
	if (err) {
		vfsd_local_watch_incomplete(watch, dir, name, err);
		return;
	}
	nodeid = inode->nodeid;
	if ((found & VFSD_FOUND_MOVED) || !vfsd_dirtree_is_inside(watch->tree, nodeid))
		err = vfsd_dirtree_put(watch->tree, dir, name, nodeid);
	if (err == 1) {
		added = true;
		err = vfsd_local_set_interest(local, watch, inode, interest_of(watch));
		if (!err)
			err = vfsd_local_scan_push(local, watch, nodeid, found & VFSD_FOUND_NEW);
		if (!err)
			want_errors(local, watch, dir, name, inode);
		else
			vfsd_dirtree_detach(watch->tree, nodeid); /* swept soon */
	}
	vfsd_inode_put(local->inodes, inode);
	if (!added && nodeid != VFSD_NODEID_ROOT)
		forget(local, nodeid); /* it is counted already */
	if (err < 0)
		vfsd_local_watch_incomplete(watch, dir, name, err);
}

static void look(struct vfsd_local *local, struct vfsd_local_watch *watch, uint64_t nodeid,
		 const char *name, uint32_t found)
{
	struct vfsd_inode *dir = vfsd_inode_get(local->inodes, nodeid);
	bool transient;
	int fd;

	if (!dir)
		return;
	fd = vfsd_inode_fd_get(local->inodes, dir, &transient);
	if (fd >= 0) {
		vfsd_local_watch_add(local, watch, nodeid, fd, name, found);
		vfsd_inode_fd_put(fd, transient);
	}
	vfsd_inode_put(local->inodes, dir);
}

void vfsd_local_watch_look(struct vfsd_local *local, struct vfsd_local_watch *watch, uint64_t dir,
			   const char *name)
{
	look(local, watch, dir, name, 0);
}

void vfsd_local_watch_follow(struct vfsd_local *local, struct vfsd_local_watch *watch,
			     const struct vfsd_source_event *event)
{
	uint64_t child;

	if (event->mask & (FAN_DELETE | FAN_MOVED_FROM)) {
		/* Not swept before the next event but one: that may be the other half of a rename. */
		vfsd_local_watch_sweep(local, watch);
		child = vfsd_dirtree_child(watch->tree, event->nodeid, event->name);
		if (child)
			vfsd_dirtree_detach(watch->tree, child);
	}
	if (event->mask & (FAN_CREATE | FAN_MOVED_TO))
		look(local, watch, event->nodeid, event->name,
		     VFSD_FOUND_MOVED | (event->mask & FAN_CREATE ? VFSD_FOUND_NEW : 0u));
}
