/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Scans of directories: those that a new watch covers, those that appear below it, and all of them again
 * when events were lost.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "watch/path_tree.h"
#include "inode/inode.h"
#include "watch/internal.h"

enum {
	CHUNK_BYTES = 1 << 15, /* of a directory, read at once */
	TRIES_MAX = 8,	       /* of scanning one that moves */
};

static struct vfsd_watch *find_watch(struct vfsd_watch_registry *registry, uint64_t owner)
{
	for (struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next)
		for (uint32_t i = 0; i < c->n_watches; i++)
			if (c->watches[i].owner == owner)
				return c->watches[i].tree ? &c->watches[i] : NULL;
	return NULL;
}

/*
 * Scan @nodeid later: it has moved, as the next events say, or something was mounted above it or
 * unmounted, which MountWatch reports in its own time.
 */
static void scan_later(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
		       uint64_t nodeid, uint32_t found)
{
	if (found / VFSD_FOUND_TRY >= TRIES_MAX)
		return;
	if (vfsd_watch_scan_push(registry, watch, nodeid, found + VFSD_FOUND_TRY) < 0)
		vfsd_watch_record_loss(watch->consumer, 1);
}

static bool is_dir_entry(int dir_fd, const struct dirent64 *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR;
	return fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static void report_entry(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			 uint64_t nodeid, int fd, const struct dirent64 *entry, uint32_t found)
{
	const struct vfsd_watch_event_payload fields = {.flags = VFSD_EVENT_FOUND};
	bool is_dir;

	if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
		return;
	is_dir = is_dir_entry(fd, entry);
	if (found & VFSD_FOUND_NEW)
		vfsd_watch_record_event(watch, nodeid, entry->d_name,
					FAN_CREATE | (is_dir ? FAN_ONDIR : 0u), &fields);
	if (is_dir)
		vfsd_watch_add_dir(registry, watch, nodeid, fd, entry->d_name, found);
}

static void scan(struct vfsd_watch_registry *registry, struct vfsd_watch *watch, uint64_t nodeid,
		 uint32_t found)
{
	struct vfsd_inode *inode = vfsd_inode_get(registry->inodes, nodeid);
	_Alignas(struct dirent64) char chunk[CHUNK_BYTES];
	ssize_t bytes;
	int fd;

	if (!inode)
		return;
	fd = vfsd_inode_open(registry->inodes, inode, O_RDONLY | O_DIRECTORY);
	vfsd_inode_put(registry->inodes, inode);
	if (fd < 0) {
		vfsd_watch_report_incomplete(watch, nodeid, NULL, fd);
		return;
	}
	while ((bytes = getdents64(fd, chunk, sizeof(chunk))) > 0) {
		const struct dirent64 *entry;

		/* If not, the entries may be outside of the share: an event that says so is waiting. */
		if (!vfsd_watch_is_in_place(registry, watch, nodeid, fd)) {
			scan_later(registry, watch, nodeid, found);
			break;
		}
		for (ssize_t at = 0; at < bytes; at += entry->d_reclen) {
			entry = (const void *)(chunk + at);
			report_entry(registry, watch, nodeid, fd, entry, found);
		}
	}
	if (bytes < 0)
		vfsd_watch_report_incomplete(watch, nodeid, NULL, -errno);
	(void)close(fd);
}

bool vfsd_watch_scan_one(struct vfsd_watch_registry *registry)
{
	struct vfsd_watch_scan next;
	struct vfsd_watch *watch;

	if (registry->n_scans == 0)
		return false;
	next = registry->scans[--registry->n_scans];
	watch = find_watch(registry, next.owner);
	if (watch) {
		watch->to_scan--;
		if (vfsd_path_tree_has(watch->tree, next.nodeid))
			scan(registry, watch, next.nodeid, next.found);
		vfsd_watch_sweep(registry, watch);
		vfsd_watch_report_ready(watch);
	}
	return true;
}

struct again {
	struct vfsd_watch_registry *registry;
	struct vfsd_watch *watch;
};

static void push_again(void *raw, uint64_t nodeid)
{
	const struct again *again = raw;

	/* Without memory a directory that appeared while events were lost stays unwatched. */
	(void)vfsd_watch_scan_push(again->registry, again->watch, nodeid, VFSD_FOUND_MOVED);
}

void vfsd_watch_scan_again(struct vfsd_watch_registry *registry)
{
	for (struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next)
		for (uint32_t i = 0; i < c->n_watches; i++) {
			struct again again = {.registry = registry, .watch = &c->watches[i]};

			if (again.watch->tree && again.watch->recursive)
				vfsd_path_tree_each(again.watch->tree, push_again, &again);
		}
}
