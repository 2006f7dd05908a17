/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Iterating over all inodes, and migration: restoring a table while no ring runs.
 */
#include <errno.h>
#include <fcntl.h>

#include "inode/internal.h"
#include "base/util.h"

int vfsd_inodes_each(struct vfsd_inodes *inodes,
		     int (*each)(void *ctx, struct vfsd_inode *inode, uint64_t nlookup), void *ctx)
{
	int result = 0;

	for (uint32_t c = 0; c < VFSD_INODE_CHUNKS_MAX && !result; c++) {
		struct vfsd_inode_slot *slots = atomic_load(&inodes->chunks[c].slots);

		if (!slots) /* chunks are mapped in order */
			break;
		if (vfsd_slot_chunk_empty(inodes, c))
			continue;
		for (uint32_t i = 0; i < VFSD_INODE_CHUNK_SLOTS && !result; i++) {
			uint64_t nlookup;

			if (!vfsd_slot_ref(&slots[i]))
				continue;
			nlookup = atomic_load(&slots[i].nlookup);
			if (nlookup > 0)
				result = each(ctx, &slots[i].inode, nlookup);
			vfsd_slot_put(inodes, &slots[i]);
		}
	}
	return result;
}

/* Finding inodes by a number that the host may have reused, which no index has. */
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

uint32_t vfsd_inodes_generation(const struct vfsd_inodes *inodes)
{
	return atomic_load(&inodes->generation);
}

void vfsd_inodes_set_generation(struct vfsd_inodes *inodes, uint32_t generation)
{
	atomic_store(&inodes->generation, generation);
}

static bool is_restorable(uint64_t nodeid, uint64_t nlookup)
{
	/* Index 0 is no id, the root is there already, and only the root has generation 0. */
	return (uint32_t)nodeid > VFSD_NODEID_ROOT && nodeid >> 32 != 0 && nlookup > 0;
}

int vfsd_inode_restore(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup, int fd,
		       const struct statx *st)
{
	VFSD_FD_GUARD guard = fd;
	struct vfsd_inode *inode;
	int error;

	if (!is_restorable(nodeid, nlookup))
		return -EINVAL;
	error = vfsd_inode_add(inodes, nodeid, &guard, st, &inode);
	if (error)
		return error;
	if (inode->nodeid == nodeid) {
		atomic_store(&vfsd_inode_slot(inode)->nlookup, nlookup);
	} else {
		vfsd_inode_put(inodes, vfsd_inode_forget(inodes, inode->nodeid, 1));
		error = -EEXIST;
	}
	vfsd_inode_put(inodes, inode);
	return error;
}

int vfsd_inode_restore_lost(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup,
			    uint32_t type)
{
	struct vfsd_inode *inode;
	int error;

	if (!is_restorable(nodeid, nlookup))
		return -EINVAL;
	error = vfsd_inode_add_lost(inodes, nodeid, type, &inode);
	if (error)
		return error;
	atomic_store(&vfsd_inode_slot(inode)->nlookup, nlookup);
	vfsd_inode_put(inodes, inode);
	return 0;
}

int vfsd_inode_encode(int fd, struct vfsd_file_handle *handle, bool *reopenable)
{
	uint64_t mnt_id;

	handle->fsid = 0;
	return vfsd_file_handle_encode(fd, "", true, handle, reopenable, &mnt_id);
}

int vfsd_inode_decode(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle)
{
	struct vfsd_inode *root = vfsd_inode_get(inodes, VFSD_NODEID_ROOT);
	int fd = -EOPNOTSUPP;
	int base;

	if (!root)
		return -ESTALE;
	base = vfsd_inode_open(inodes, root, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	vfsd_inode_put(inodes, root);
	if (base < 0)
		return base;
	fd = vfsd_file_handle_open(base, handle, O_PATH | O_NOFOLLOW);
	(void)close(base);
	return fd;
}
