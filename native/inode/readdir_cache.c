/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Directories that are listed over and over.
 *
 * A listing tells the inode number of each name, so a name need not be looked up again to know what it
 * leads to, if
 *
 *  - the number is that of an inode which we hold open: what is held has its attributes for a system
 *    call that is half as long as one by name (descriptors are kept as fd_cache.c has it);
 *  - it was born some seconds ago: so the number was that inode's when the directory was read;
 *  - nothing is mounted upon the name, which a listing does not tell. It was not when the name was
 *    last looked up, the inode had and has no other name, and no mount has changed since: nothing at
 *    all is mounted or moved where that is so, or the kernel says that the table has changed.
 *
 * None of it is done for a directory that is read now and then: the descriptors have to be opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>

#include "inode/internal.h"
#include "base/proc_fd.h"
#include "base/statx.h"

enum {
	/* So often within a second or two. */
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
	/* Our own: the kernel tells each open file once of each change. */
	inodes->mount_table_fd = vfsd_proc_reopen(inodes->config.proc_self_fd,
						  inodes->config.mount_table_fd, O_RDONLY);
	inodes->mount_changes = 1;
}

/* How often the mount table has changed. */
uint32_t vfsd_inodes_mount_changes(struct vfsd_inodes *inodes)
{
	struct pollfd table = {.fd = inodes->mount_table_fd, .events = POLLPRI};
	uint32_t changes;

	if (table.fd < 0)
		return 0;
	/* Also while it is counted: whoever finds nothing new has to find the new count. */
	pthread_mutex_lock(&inodes->mount_changes_lock);
	if (poll(&table, 1, 0) != 0 && ++inodes->mount_changes == 0)
		inodes->mount_changes = 1;
	changes = inodes->mount_changes;
	pthread_mutex_unlock(&inodes->mount_changes_lock);
	return changes;
}

/* Is the directory listed so often that descriptors of what is in it pay? */
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
	/* Those where the numbers in directories are those of inodes; subvolumes have others. */
	const bool numbers = fs == VFSD_FS_EXT4 || fs == VFSD_FS_XFS || fs == VFSD_FS_TMPFS;

	ret->dir = dir;
	ret->mount_changes = 0;
	if (numbers && inodes->config.cached_fds_max > 0 && is_hot(slot, from_start))
		ret->mount_changes = vfsd_inodes_mount_changes(inodes);
}

/* With its one name, or a directory, which has never more. */
static bool has_one_name(const struct statx *st)
{
	return S_ISDIR(st->stx_mode) ? st->stx_nlink > 0 : st->stx_nlink == 1;
}

struct vfsd_inode *vfsd_listing_find(struct vfsd_inodes *inodes, const struct vfsd_listing *listing,
				     uint64_t ino, unsigned int mask, struct statx *st)
{
	const struct vfsd_wanted wanted = {
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
	slot = vfsd_slot_find(inodes, &wanted, false);
	if (!slot)
		return NULL;
	fd = atomic_load(&slot->fd); /* after the reference: pairs with unpin */
	if (fd >= 0 && atomic_load_explicit(&slot->birth, memory_order_relaxed) != 0 &&
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
