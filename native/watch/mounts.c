/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mounts below the share are reported to the watches that cover the place, and followed: the name leads to
 * another directory now.
 */
#include <errno.h>
#include <string.h>

#include "watch/path_tree.h"
#include "fsnotify/record_ring.h"
#include "watch/internal.h"

/* Is @path the root of @watch, or below that if @watch is recursive? */
static bool covers(const struct vfsd_watch *watch, const char *path)
{
	size_t n = strlen(watch->path);

	if (strncmp(path, watch->path, n) != 0)
		return false;
	return path[n] == '\0' || (watch->recursive && (n == 0 || path[n] == '/'));
}

/* Find the directory that @path is in, below the watch's own; @name receives the last name. 0: none. */
static uint64_t find_parent(const struct vfsd_watch *watch, const char *path, char *name,
			    size_t room)
{
	uint64_t dir = vfsd_path_tree_root(watch->tree);
	size_t above = strlen(watch->path);
	const char *part = path + above + (above > 0 && path[above] == '/');

	for (;;) {
		size_t bytes = strcspn(part, "/");

		if (bytes == 0 || bytes >= room)
			return 0;
		memcpy(name, part, bytes);
		name[bytes] = '\0';
		if (part[bytes] == '\0')
			return dir;
		dir = vfsd_path_tree_child(watch->tree, dir, name);
		if (dir == 0)
			return 0;
		part += bytes + 1;
	}
}

static void follow(struct vfsd_watch_registry *registry, struct vfsd_watch *watch, const char *path)
{
	char name[256];
	uint64_t dir = find_parent(watch, path, name, sizeof(name));

	if (dir != 0)
		vfsd_watch_look_up(registry, watch, dir, name);
}

void vfsd_watch_report_mount(struct vfsd_watch_registry *registry, const vfsd_watch_mount *mount)
{
	bool is_topology = mount->type == VFSD_RECORD_MOUNT;

	vfsd_fairlock_enter(&registry->lock);
	for (struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next)
		for (uint32_t i = 0; i < c->n_watches; i++) {
			struct vfsd_watch *watch = &c->watches[i];

			if (!watch->tree || !covers(watch, mount->path))
				continue;
			vfsd_watch_record_mount(watch, mount);
			if (is_topology && watch->recursive)
				follow(registry, watch, mount->path);
		}
	vfsd_fairlock_leave(&registry->lock);
	vfsd_watch_wake(registry);
}
