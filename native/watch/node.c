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

#include "base/proc_fd.h"
#include "watch/path_tree.h"
#include "inode/inode.h"
#include "watch/internal.h"
#include "source/source.h"

/* The events by which a recursive watch follows directories. */
#define FOLLOWED (FAN_CREATE | FAN_DELETE | FAN_MOVE)

static uint32_t interest_of(const struct vfsd_watch *watch)
{
	return watch->mask | FAN_EVENT_ON_CHILD | (watch->recursive ? FOLLOWED : 0u);
}

void vfsd_watch_report_ready(struct vfsd_watch *watch)
{
	if (watch->ready || watch->to_scan > 0)
		return;
	watch->ready = true;
	vfsd_watch_record_status(watch, VFSD_WATCH_READY, 0, watch->path);
}

int vfsd_watch_scan_push(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			 uint64_t nodeid, uint32_t found)
{
	if (registry->n_scans == registry->room_scans) {
		size_t room = registry->room_scans ? registry->room_scans * 2 : 64;
		void *grown = realloc(registry->scans, room * sizeof(*registry->scans));

		if (!grown)
			return -ENOMEM;
		registry->scans = grown;
		registry->room_scans = room;
	}
	registry->scans[registry->n_scans++] =
		(struct vfsd_watch_scan){.owner = watch->owner, .nodeid = nodeid, .found = found};
	watch->to_scan++;
	return 0;
}

void vfsd_watch_begin(struct vfsd_watch_registry *registry, struct vfsd_watch *watch)
{
	struct vfsd_inode *inode = NULL;
	int err = 0, errors;
	bool is_dir;

	if (watch->path[0] == '\0') {
		inode = vfsd_inode_get(registry->inodes, VFSD_NODEID_ROOT);
	} else {
		int fd = vfsd_open_beneath(registry->config.root_fd, watch->path);

		err = fd < 0 ? fd : vfsd_watch_lookup_fd(registry, fd, &inode);
	}
	if (err) {
		vfsd_watch_record_status(watch, VFSD_WATCH_FAILED, err, watch->path);
		return;
	}
	is_dir = S_ISDIR(inode->type);
	watch->recursive = watch->recursive && is_dir;
	err = vfsd_path_tree_create(inode->nodeid, watch->path, &watch->tree);
	if (!err)
		err = vfsd_watch_set_interest(registry, watch, inode,
					      interest_of(watch) | FAN_MOVE_SELF);
	if (!err)
		err = vfsd_watch_parents_add(registry, watch);
	if (!err && vfsd_watch_place_of(registry, watch) != VFSD_PLACE_SHARED)
		err = -ENOENT; /* moved before an event of that could be received */
	if (!err && watch->recursive)
		err = vfsd_watch_scan_push(registry, watch, inode->nodeid, 0);
	if (err) {
		vfsd_watch_record_status(watch, VFSD_WATCH_FAILED, err, watch->path);
		if (watch->tree)
			vfsd_watch_end(registry, watch);
		else
			vfsd_watch_forget(registry, inode->nodeid);
	} else {
		errors = vfsd_watch_errors_want(registry, watch, inode);
		if (errors)
			vfsd_watch_record_status(watch, VFSD_WATCH_NO_ERRORS, errors, watch->path);
		vfsd_watch_report_ready(watch);
	}
	vfsd_inode_put(registry->inodes, inode);
}

struct ending {
	struct vfsd_watch_registry *registry;
	struct vfsd_watch *watch;
};

static void end_one(void *raw, uint64_t nodeid)
{
	const struct ending *ending = raw;

	vfsd_watch_drop_interest(ending->registry, ending->watch, nodeid);
}

void vfsd_watch_end(struct vfsd_watch_registry *registry, struct vfsd_watch *watch)
{
	struct ending ending = {.registry = registry, .watch = watch};

	if (!watch->tree)
		return;
	vfsd_watch_parents_drop(registry, watch);
	vfsd_path_tree_each(watch->tree, end_one, &ending);
	vfsd_path_tree_destroy(watch->tree);
	watch->tree = NULL;
}

void vfsd_watch_end_gone(struct vfsd_watch_registry *registry, struct vfsd_watch *watch)
{
	if (!watch->tree)
		return;
	vfsd_watch_record_status(watch, VFSD_WATCH_GONE, 0, watch->path);
	vfsd_watch_end(registry, watch);
}

void vfsd_watch_sweep(struct vfsd_watch_registry *registry, struct vfsd_watch *watch)
{
	uint64_t nodeid;

	while (watch->tree && (nodeid = vfsd_path_tree_sweep(watch->tree)) != 0)
		vfsd_watch_drop_interest(registry, watch, nodeid);
}

/* @inode is new in @dir, and may be the root of another filesystem: want its errors, too. */
static void want_errors(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			uint64_t dir, const char *name, struct vfsd_inode *inode)
{
	struct vfsd_inode *parent = vfsd_inode_get(registry->inodes, dir);
	char path[4096];
	int err = 0, bytes;

	if (parent && parent->dev != inode->dev)
		err = vfsd_watch_errors_want(registry, watch, inode);
	vfsd_inode_put(registry->inodes, parent);
	bytes = err ? vfsd_path_tree_path(watch->tree, dir, name, path, sizeof(path) - 1) : -1;
	if (bytes < 0)
		return;
	path[bytes] = '\0';
	vfsd_watch_record_status(watch, VFSD_WATCH_NO_ERRORS, err, path);
}

void vfsd_watch_report_incomplete(struct vfsd_watch *watch, uint64_t dir, const char *name, int err)
{
	char path[4096];
	int bytes = vfsd_path_tree_path(watch->tree, dir, name, path, sizeof(path) - 1);

	if (bytes < 0 || err == -ENOENT || err == -ESTALE)
		return;
	path[bytes] = '\0';
	vfsd_watch_record_status(watch, VFSD_WATCH_INCOMPLETE, err, path);
}

void vfsd_watch_add_dir(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			uint64_t dir, int dir_fd, const char *name, uint32_t found)
{
	struct vfsd_inode *inode;
	bool added = false;
	uint64_t nodeid;
	int fd, err;

	fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		/* It is something else by now: events of that are on their way. */
		if (errno != ENOTDIR && errno != ELOOP)
			vfsd_watch_report_incomplete(watch, dir, name, -errno);
		return;
	}
	err = vfsd_watch_lookup_fd(registry, fd, &inode);
	if (err) {
		vfsd_watch_report_incomplete(watch, dir, name, err);
		return;
	}
	nodeid = inode->nodeid;
	if ((found & VFSD_FOUND_MOVED) || !vfsd_path_tree_is_inside(watch->tree, nodeid))
		err = vfsd_path_tree_put(watch->tree, dir, name, nodeid);
	if (err == 1) {
		added = true;
		err = vfsd_watch_set_interest(registry, watch, inode, interest_of(watch));
		if (!err)
			err = vfsd_watch_scan_push(registry, watch, nodeid, found & VFSD_FOUND_NEW);
		if (!err)
			want_errors(registry, watch, dir, name, inode);
		else
			vfsd_path_tree_detach(watch->tree, nodeid); /* swept soon */
	}
	vfsd_inode_put(registry->inodes, inode);
	if (!added)
		vfsd_watch_forget(registry, nodeid); /* it is counted already */
	if (err < 0)
		vfsd_watch_report_incomplete(watch, dir, name, err);
}

static void look(struct vfsd_watch_registry *registry, struct vfsd_watch *watch, uint64_t nodeid,
		 const char *name, uint32_t found)
{
	struct vfsd_inode *dir = vfsd_inode_get(registry->inodes, nodeid);
	bool transient;
	int fd;

	if (!dir)
		return;
	fd = vfsd_inode_fd_get(registry->inodes, dir, &transient);
	if (fd >= 0) {
		vfsd_watch_add_dir(registry, watch, nodeid, fd, name, found);
		vfsd_inode_fd_put(fd, transient);
	}
	vfsd_inode_put(registry->inodes, dir);
}

void vfsd_watch_look_up(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			uint64_t dir, const char *name)
{
	look(registry, watch, dir, name, 0);
}

void vfsd_watch_follow(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
		       const struct vfsd_source_event *event)
{
	uint64_t child;

	if (event->mask & (FAN_DELETE | FAN_MOVED_FROM)) {
		/* Not swept before the next event but one: that may be the other half of a rename. */
		vfsd_watch_sweep(registry, watch);
		child = vfsd_path_tree_child(watch->tree, event->nodeid, event->name);
		if (child)
			vfsd_path_tree_detach(watch->tree, child);
	}
	if (event->mask & (FAN_CREATE | FAN_MOVED_TO))
		look(registry, watch, event->nodeid, event->name,
		     VFSD_FOUND_MOVED | (event->mask & FAN_CREATE ? VFSD_FOUND_NEW : 0u));
}
