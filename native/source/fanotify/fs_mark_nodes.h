/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/fs_mark_nodes - node ids that are held for a guest which has not looked them up.
 *
 * A filesystem mark reports events of directories that the guest does not know. Such a directory gets a
 * node id, as if the guest had looked it up, until VFSD_FS_MARK_NODES others got theirs.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_FS_MARK_NODES_H
#define VFSD_SOURCE_FANOTIFY_FS_MARK_NODES_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_file_handle;
struct vfsd_inode;
struct vfsd_source_config;
struct vfsd_subtree;

enum { VFSD_FS_MARK_NODES = 1024 };

struct vfsd_fs_mark_nodes {
	const struct vfsd_source_config *config; /* borrowed, as is the next */
	const struct vfsd_subtree *subtree;
	struct vfsd_fs_mark_node { /* each at its id's index modulo the size */
		uint64_t nodeid;   /* 0: none */
		bool given;	   /* to the guest */
	} at[VFSD_FS_MARK_NODES];
};

/* Give up all of them. */
void vfsd_fs_mark_nodes_clear(struct vfsd_fs_mark_nodes *nodes);

/* An id for the directory @handle, which has none. Transient reference; NULL: it is not inside. */
struct vfsd_inode *vfsd_fs_mark_nodes_add(struct vfsd_fs_mark_nodes *nodes,
					  const struct vfsd_file_handle *handle);

/* Is this id all that the guest has of the directory? */
bool vfsd_fs_mark_nodes_only(const struct vfsd_fs_mark_nodes *nodes,
			     const struct vfsd_inode *inode);

/* May the guest have the id? Only if the directory is inside now, not just when the event happened. */
bool vfsd_fs_mark_nodes_may_give(struct vfsd_fs_mark_nodes *nodes, struct vfsd_inode *inode);

#endif
