/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/fs_mark_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inode/inode.h"
#include "source/fanotify/subtree.h"
#include "source/source.h"

static void drop(struct vfsd_fs_mark_nodes *nodes, struct vfsd_fs_mark_node *node)
{
	const struct vfsd_source_config *config = nodes->config;
	struct vfsd_inode *inode;

	if (node->nodeid == 0)
		return;
	inode = vfsd_inode_forget(config->inodes, node->nodeid, 1);
	node->nodeid = 0;
	if (inode && config->forgotten)
		config->forgotten(config->ctx, inode);
	vfsd_inode_put(config->inodes, inode);
}

void vfsd_fs_mark_nodes_clear(struct vfsd_fs_mark_nodes *nodes)
{
	for (size_t i = 0; i < VFSD_FS_MARK_NODES; i++)
		drop(nodes, &nodes->at[i]);
}

static uint32_t slot_of(const struct vfsd_inode *inode)
{
	return (uint32_t)inode->nodeid % VFSD_FS_MARK_NODES;
}

bool vfsd_fs_mark_nodes_only(const struct vfsd_fs_mark_nodes *nodes, const struct vfsd_inode *inode)
{
	return nodes->at[slot_of(inode)].nodeid == inode->nodeid && vfsd_inode_lookups(inode) == 1;
}

struct vfsd_inode *vfsd_fs_mark_nodes_add(struct vfsd_fs_mark_nodes *nodes,
					  const struct vfsd_file_handle *handle)
{
	struct vfsd_inodes *inodes = nodes->config->inodes;
	struct vfsd_inode *inode = NULL;
	struct vfsd_fs_mark_node *node;
	struct statx st;
	int fd = -ENOENT;

	/* On that of the mounts through which it is inside. */
	for (uint32_t nth = 0;; nth++) {
		fd = vfsd_inode_handle_open_nth(inodes, handle, nth);
		if (fd == -ENOENT)
			return NULL;
		if (fd >= 0 && vfsd_subtree_contains(nodes->subtree, fd, nth))
			break;
		if (fd >= 0)
			(void)close(fd);
	}
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0) {
		(void)close(fd);
		return NULL;
	}
	if (vfsd_inode_lookup_fd(inodes, fd, &st, &inode) < 0)
		return NULL;
	vfsd_inode_note_event(inode);
	node = &nodes->at[slot_of(inode)];
	if (node->nodeid != inode->nodeid)
		drop(nodes, node);
	else /* a queue's thread was faster to forget it than this one to find it */
		vfsd_inode_put(inodes, vfsd_inode_forget(inodes, inode->nodeid, 1));
	*node = (struct vfsd_fs_mark_node){.nodeid = inode->nodeid};
	return inode;
}

bool vfsd_fs_mark_nodes_may_give(struct vfsd_fs_mark_nodes *nodes, struct vfsd_inode *inode)
{
	struct vfsd_inodes *inodes = nodes->config->inodes;
	struct vfsd_fs_mark_node *node = &nodes->at[slot_of(inode)];
	bool transient;
	int fd;

	if (node->given)
		return true;
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	node->given = fd >= 0 && vfsd_inode_is_below_root(inodes, fd);
	vfsd_inode_fd_put(fd, transient);
	return node->given;
}
