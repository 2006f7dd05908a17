/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Finding inodes by an inode number that the host may have reused: no index has that.
 */
#include "inode/internal.h"

struct search {
	uint64_t dev;
	uint64_t ino;
	void (*each)(void *ctx, const struct vfsd_inode *inode);
	void *ctx;
};

static int compare(void *ctx, struct vfsd_inode *inode, uint64_t nlookup)
{
	const struct search *search = ctx;

	(void)nlookup;
	if (inode->dev == search->dev && inode->ino == search->ino)
		search->each(search->ctx, inode);
	return 0;
}

void vfsd_inodes_find_ident(struct vfsd_inodes *inodes, uint64_t dev, uint64_t ino,
			    void (*each)(void *ctx, const struct vfsd_inode *inode), void *ctx)
{
	struct search search = {.dev = dev, .ino = ino, .each = each, .ctx = ctx};

	(void)vfsd_inodes_each(inodes, compare, &search);
}
