/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch/path_tree - the directories that one watch covers, with their names.
 *
 * A host event has the node id of a directory and a name in it, but a consumer needs the path as it was then.
 * So the tree has the names of directories, and the events change it in their order. A directory that has
 * left the tree has no path, and no event in it is reported. Costs about 150 bytes and a name for each
 * directory. Owner thread: the holder of the registry lock.
 */
#ifndef VFSD_WATCH_PATH_TREE_H
#define VFSD_WATCH_PATH_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vfsd_path_tree;

/* @path: the path of the root, "" for the share itself. 0 or -ENOMEM. */
int vfsd_path_tree_create(uint64_t root, const char *path, struct vfsd_path_tree **ret);
void vfsd_path_tree_destroy(struct vfsd_path_tree *tree);

size_t vfsd_path_tree_count(const struct vfsd_path_tree *tree);
uint64_t vfsd_path_tree_root(const struct vfsd_path_tree *tree);
bool vfsd_path_tree_has(const struct vfsd_path_tree *tree, uint64_t nodeid);
/* Is @nodeid in the tree, with neither itself nor a directory above it detached? */
bool vfsd_path_tree_is_inside(const struct vfsd_path_tree *tree, uint64_t nodeid);

/*
 * Give @nodeid the name @name in @parent, wherever it was before, with all that is in it. Another
 * directory of that name is detached. 1: it is new; 0: it was known; -ENOMEM, -ENOENT (no such parent) or
 * -ELOOP (@parent is below @nodeid, or that is the root).
 */
int vfsd_path_tree_put(struct vfsd_path_tree *tree, uint64_t parent, const char *name,
		       uint64_t nodeid);

/* Find the directory called @name in @parent; 0: none. */
uint64_t vfsd_path_tree_child(const struct vfsd_path_tree *tree, uint64_t parent, const char *name);

/* Take the name from @nodeid, if that is not the root. */
void vfsd_path_tree_detach(struct vfsd_path_tree *tree, uint64_t nodeid);

/*
 * Take out one directory of those that are detached, or were below one. Returns its node id, or 0 when
 * there is none left.
 */
uint64_t vfsd_path_tree_sweep(struct vfsd_path_tree *tree);

/* Call @each with every directory; the tree must not change meanwhile. */
void vfsd_path_tree_each(const struct vfsd_path_tree *tree,
			 void (*each)(void *ctx, uint64_t nodeid), void *ctx);

/*
 * Write the path of what is called @name in @nodeid, or of @nodeid if @name is NULL, to @path, not
 * terminated. Returns its bytes; -ENOENT: it has none; -ENAMETOOLONG: it needs more than @room.
 */
int vfsd_path_tree_path(const struct vfsd_path_tree *tree, uint64_t nodeid, const char *name,
			char *path, size_t room);

#endif
