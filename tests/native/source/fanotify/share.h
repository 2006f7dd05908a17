/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * share - a directory tree with a table of inodes whose root is in it: outside/ and share/ beside each other.
 */
#ifndef VFSD_SHARE_H
#define VFSD_SHARE_H

#include <sys/statfs.h>

#include "base/quota.h"
#include "inode/inode.h"
#include "tree.h"

struct share {
	struct tree tree;
	struct vfsd_quota quota;
	struct vfsd_inodes *inodes;
	struct vfsd_inode *root;
	int proc_self_fd;
};

/* False, and told: the host's file handles cannot be opened, which needs CAP_DAC_READ_SEARCH. */
static inline bool share_create(struct share *share)
{
	struct vfsd_inodes_config config = {.options.file_handles = VFSD_HANDLES_PREFER,
					    .need_handles = true,
					    .fd_quota = &share->quota};
	int fd;

	share->quota = (struct vfsd_quota){.limit = 100};
	tree_create(&share->tree);
	CHECK_EQ(mkdirat(share->tree.fd, "share", 0755), 0);
	CHECK_EQ(mkdirat(share->tree.fd, "outside", 0755), 0);
	share->proc_self_fd = config.proc_self_fd = tree_proc_self_fd();
	fd = openat(share->tree.fd, "share", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(vfsd_inodes_create(&config, fd, &share->inodes), 0);
	share->root = vfsd_inode_get(share->inodes, VFSD_NODEID_ROOT);
	CHECK(share->root);
	if (vfsd_inodes_can_unpin(share->inodes))
		return true;
	(void)fprintf(stderr, "left out: file handles cannot be opened here\n");
	return false;
}

static inline void share_destroy(struct share *share)
{
	vfsd_inode_put(share->inodes, share->root);
	vfsd_inodes_destroy(share->inodes);
	CHECK_EQ(close(share->proc_self_fd), 0);
	tree_destroy(&share->tree);
}

static inline void share_mkdir(const struct share *share, const char *path)
{
	CHECK_EQ(mkdirat(share->tree.fd, path, 0755), 0);
}

static inline void share_rename(const struct share *share, const char *from, const char *to)
{
	CHECK_EQ(renameat(share->tree.fd, from, share->tree.fd, to), 0);
}

/* The handle of what is at @path, as events have it. */
static inline void share_handle(const struct share *share, const char *path,
				struct vfsd_file_handle *ret)
{
	int fd = openat(share->tree.fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	bool reopenable;

	CHECK(fd >= 0);
	CHECK_EQ(vfsd_inode_encode(fd, ret, &reopenable), 0);
	CHECK(reopenable);
	ret->fsid = vfsd_inode_handle(share->root)->fsid; /* it is all one filesystem */
	CHECK_EQ(close(fd), 0);
}

/* Look @path up for the guest. Its node id. */
static inline uint64_t share_look_up(const struct share *share, const char *path)
{
	int fd = openat(share->tree.fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct vfsd_inode *inode;
	struct statx st;
	uint64_t nodeid;

	CHECK(fd >= 0);
	CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st), 0);
	CHECK_EQ(vfsd_inode_lookup_fd(share->inodes, fd, &st, &inode), 0);
	nodeid = inode->nodeid;
	vfsd_inode_put(share->inodes, inode);
	return nodeid;
}

#endif
