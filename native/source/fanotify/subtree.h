/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/subtree - is a directory of the host below one of some roots, and was it when an event happened?
 *
 * Finds out by opening the directory by its handle and climbing up, and remembers the answer: a
 * directory changes sides only when it, or one above it, is renamed across the border. An event is
 * looked at later than it happened, when such renames may have taken place that are reported only further
 * on: those have to be announced, and what was below them is judged by where it was before.
 * Owner thread: the holder of the engine's event lock.
 */
#ifndef VFSD_SOURCE_FANOTIFY_SUBTREE_H
#define VFSD_SOURCE_FANOTIFY_SUBTREE_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_subtree;
struct vfsd_file_handle;
struct vfsd_inode;
struct vfsd_inodes;

enum vfsd_side {
	VFSD_OUTSIDE,
	VFSD_INSIDE,
	VFSD_GONE,     /* there is no such directory any more, nobody knows */
	VFSD_DOUBTFUL, /* it is not known which renames have moved it */
};

/* @cross_mounts: what is mounted below a root belongs to it. 0 or -ENOMEM. */
int vfsd_subtree_create(struct vfsd_inodes *inodes, bool cross_mounts, struct vfsd_subtree **ret);
void vfsd_subtree_destroy(struct vfsd_subtree *subtree);

/*
 * 0, -ENOSPC, or -EOPNOTSUPP for what has no handle. A root is known by its handle, on its mount: its
 * numbers may come to mean another directory. @inode is not kept.
 */
int vfsd_subtree_add_root(struct vfsd_subtree *subtree, const struct vfsd_inode *inode);
void vfsd_subtree_remove_root(struct vfsd_subtree *subtree, uint64_t nodeid);

/* The side of @dir now. Asks the host. */
enum vfsd_side vfsd_subtree_look(struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir);

/* The same of the directory @fd, opened by vfsd_inode_handle_open_nth() as the @nth. */
bool vfsd_subtree_contains(const struct vfsd_subtree *subtree, int fd, uint32_t nth);

/* The side that @dir is known to be on; false: not known. */
bool vfsd_subtree_recall(const struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir,
			 enum vfsd_side *ret);
void vfsd_subtree_remember(struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir,
			   enum vfsd_side side);
/*
 * A directory has changed sides, or a root has come or gone, or a mount has. (That a directory ends is
 * no reason: no other will have its handle, which is more than a number.)
 */
void vfsd_subtree_forget(struct vfsd_subtree *subtree);

enum { VFSD_SUBTREE_MOVED_MAX = 1024 };

/*
 * Renames of directories that were done, but are not processed yet. Until they are taken back, @dir counts as
 * being in @from. The latest has to be announced first, so that the one announced last is the next.
 * False: there are too many.
 */
bool vfsd_subtree_announce(struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir,
			   const struct vfsd_file_handle *from);
/* The next one is processed now. */
void vfsd_subtree_arrive(struct vfsd_subtree *subtree);
void vfsd_subtree_unannounce(struct vfsd_subtree *subtree);

/* What is @dir, or below it, is VFSD_DOUBTFUL, until all is trusted again. */
void vfsd_subtree_doubt(struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir);
void vfsd_subtree_trust(struct vfsd_subtree *subtree);

#endif
