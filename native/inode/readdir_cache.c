/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * READDIRPLUS of directories that are listed over and over, without a lookup of each name.
 *
 * getdents64() returns the inode number of each name. READDIRPLUS finds the inode by that number, and calls
 * statx() on a descriptor, which takes half as long as by name. That is correct if
 *
 *  - the table has a descriptor of the inode, its own or a cached one (fd_cache.c);
 *  - the inode's btime is some seconds old, so that the number was its number when the directory was read;
 *  - nothing is mounted on the name, which getdents64() does not show. Nothing was when the name was last
 *    looked up, the inode had and has no other name, and the mount table has not changed since.
 *
 * Only directories that are listed often are served so, because the descriptors have to be opened first.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>

#include "inode/internal.h"
#include "base/proc_fd.h"
#include "base/statx.h"

enum {
	/* so often within a second or two */
	LISTINGS_HOT = 3,
	LISTINGS_BITS = 2,
	LISTINGS_MASK = (1 << LISTINGS_BITS) - 1,
	SECONDS_MASK = 0xff >> LISTINGS_BITS,
};

_Static_assert(LISTINGS_HOT <= LISTINGS_MASK, "it is counted so far");

void vfsd_inodes_open_mount_table(struct vfsd_inodes *inodes)
{
	inodes->mount_table_fd = -1;
	if (inodes->config.mount_table_fd <= 0)
		return;
	/* An open file of its own: poll() reports each change once to each open file. */
	inodes->mount_table_fd = vfsd_proc_reopen(inodes->config.proc_self_fd,
						  inodes->config.mount_table_fd, O_RDONLY);
	inodes->mount_changes = 1;
}

uint32_t vfsd_inodes_mount_changes(struct vfsd_inodes *inodes)
{
	struct pollfd table = {.fd = inodes->mount_table_fd, .events = POLLPRI};
	uint32_t changes;

	if (table.fd < 0)
		return 0;
	/* The lock covers the count too: a thread for which poll() reports nothing must see the new count. */
	pthread_mutex_lock(&inodes->mount_changes_lock);
	if (poll(&table, 1, 0) != 0 && ++inodes->mount_changes == 0)
		inodes->mount_changes = 1;
	changes = inodes->mount_changes;
	pthread_mutex_unlock(&inodes->mount_changes_lock);
	return changes;
}

/* Is the directory listed so often that it pays to cache descriptors of its entries? */
static bool is_hot(struct vfsd_inode_slot *dir, bool from_start)
{
	uint8_t noted = atomic_load_explicit(&dir->listings, memory_order_relaxed);
	uint32_t count = noted & LISTINGS_MASK;
	struct timespec now;
	uint32_t age_s;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	age_s = ((uint32_t)now.tv_sec - (noted >> LISTINGS_BITS)) & SECONDS_MASK;
	if (age_s > 1)
		count = 0;
	if (from_start) {
		if (count < LISTINGS_MASK)
			count++;
		noted = (uint8_t)(((uint32_t)now.tv_sec & SECONDS_MASK) << LISTINGS_BITS | count);
		atomic_store_explicit(&dir->listings, noted, memory_order_relaxed);
	}
	return count >= LISTINGS_HOT;
}

void vfsd_listing_begin(struct vfsd_inodes *inodes, struct vfsd_inode *dir, bool from_start,
			struct vfsd_listing *ret)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(dir);
	const enum vfsd_host_fs fs = slot->mount->fs;
	/* On these filesystems the numbers in directories are those of inodes. Subvolumes of Btrfs differ. */
	const bool numbers = fs == VFSD_FS_EXT4 || fs == VFSD_FS_XFS || fs == VFSD_FS_TMPFS;

	ret->dir = dir;
	ret->mount_changes = 0;
	if (numbers && inodes->config.cached_fds_max > 0 && is_hot(slot, from_start))
		ret->mount_changes = vfsd_inodes_mount_changes(inodes);
}

/* A directory has one name at most. */
static bool has_one_name(const struct statx *st)
{
	return S_ISDIR(st->stx_mode) ? st->stx_nlink > 0 : st->stx_nlink == 1;
}

struct vfsd_inode *vfsd_listing_find(struct vfsd_inodes *inodes, const struct vfsd_listing *listing,
				     uint64_t ino, unsigned int mask, struct statx *st)
{
	const struct vfsd_inode_key key = {
		.which = VFSD_BY_IDENT,
		.match_dev_ino = true,
		.match_mnt = true,
		.dev = listing->dir->dev,
		.ino = ino,
		.mnt_id = listing->dir->mnt_id,
	};
	struct vfsd_inode_slot *slot;
	int fd;

	if (listing->mount_changes == 0)
		return NULL;
	slot = vfsd_slot_find(inodes, &key, false);
	if (!slot)
		return NULL;
	fd = atomic_load(&slot->fd); /* after the reference: pairs with unpin */
	if (fd >= 0 && atomic_load_explicit(&slot->btime, memory_order_relaxed) != 0 &&
	    atomic_load_explicit(&slot->uncovered, memory_order_relaxed) ==
		    listing->mount_changes &&
	    vfsd_statx_fd(vfsd_fd_number(fd), 0, mask, st) == 0 && has_one_name(st) &&
	    vfsd_slot_count_lookup(slot))
		return &slot->inode;
	vfsd_slot_put(inodes, slot);
	return NULL;
}

void vfsd_listing_note(struct vfsd_inodes *inodes, const struct vfsd_listing *listing, uint64_t ino,
		       struct vfsd_inode *inode, const struct statx *st)
{
	const struct vfsd_inode *dir = listing->dir;

	if (listing->mount_changes == 0 || inode->ino != ino || inode->dev != dir->dev ||
	    inode->mnt_id != dir->mnt_id || !has_one_name(st))
		return;
	atomic_store_explicit(&vfsd_inode_slot(inode)->uncovered, listing->mount_changes,
			      memory_order_relaxed);
	vfsd_inode_cache_fd(inodes, inode);
}
