/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/marks - who is interested in which events of which inode.
 *
 * Every interest is an (inode, owner) pair with an absolute mask: a guest, a group of the old dialect,
 * later a local consumer. The union over the owners is what one host watch must carry; each
 * change is returned as (old union, new union) so that the caller adjusts that watch.
 * Owner thread: the holder of the engine's event lock.
 */
#ifndef VFSD_SOURCE_MARKS_H
#define VFSD_SOURCE_MARKS_H

#include <stddef.h>
#include <stdint.h>

struct vfsd_marks;

struct vfsd_marks_change {
	uint32_t before; /* the owner's own mask until now, to undo with */
	uint32_t old_union;
	uint32_t new_union;
};

int vfsd_marks_create(struct vfsd_marks **ret);
void vfsd_marks_destroy(struct vfsd_marks *marks);

/*
 * Set @owner's mask of @nodeid (0 removes the interest). 0 or -ENOMEM; setting a mask back to its
 * earlier value, or to a subset, never fails.
 */
int vfsd_marks_set(struct vfsd_marks *marks, uint64_t nodeid, uint64_t owner, uint32_t mask,
		   struct vfsd_marks_change *ret);

/* Drop all interest in @nodeid. Returns the union that was. */
uint32_t vfsd_marks_drop(struct vfsd_marks *marks, uint64_t nodeid);

/* @owner's own mask of @nodeid, 0 without interest. */
uint32_t vfsd_marks_mask(const struct vfsd_marks *marks, uint64_t nodeid, uint64_t owner);

/* The union of all interest in @nodeid. */
uint32_t vfsd_marks_union(const struct vfsd_marks *marks, uint64_t nodeid);

/* How many owners are interested in @nodeid. What they do takes time in proportion to that. */
uint32_t vfsd_marks_owners(const struct vfsd_marks *marks, uint64_t nodeid);

/* Inodes with any interest. */
size_t vfsd_marks_count(const struct vfsd_marks *marks);

/* Interests: (inode, owner) pairs. */
size_t vfsd_marks_entries(const struct vfsd_marks *marks);

/* Call @each for every interest; the table must not change meanwhile. */
void vfsd_marks_each(const struct vfsd_marks *marks,
		     void (*each)(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask),
		     void *ctx);

void vfsd_marks_clear(struct vfsd_marks *marks);

#endif
