/* SPDX-License-Identifier: BSD-3-Clause */
#include "marks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Open addressing over (nodeid, owner) entries, keyed by nodeid alone: the entries of one inode lie
 * in one probe run, so its union is one walk. A node id is never 0, which marks a free slot.
 */
struct entry {
	uint64_t nodeid;
	uint64_t owner;
	uint32_t mask;
};

struct vfsd_marks {
	struct entry *slots;
	size_t capacity; /* power of two */
	size_t used;
	size_t inodes;
};

enum { INITIAL_CAPACITY = 64 };

int vfsd_marks_create(struct vfsd_marks **ret)
{
	struct vfsd_marks *marks = calloc(1, sizeof(*marks));

	if (!marks)
		return -ENOMEM;
	marks->slots = calloc(INITIAL_CAPACITY, sizeof(*marks->slots));
	if (!marks->slots) {
		free(marks);
		return -ENOMEM;
	}
	marks->capacity = INITIAL_CAPACITY;
	*ret = marks;
	return 0;
}

void vfsd_marks_destroy(struct vfsd_marks *marks)
{
	if (!marks)
		return;
	free(marks->slots);
	free(marks);
}

static size_t home(const struct vfsd_marks *marks, uint64_t nodeid)
{
	return (size_t)((nodeid * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (marks->capacity - 1);
}

static size_t after(const struct vfsd_marks *marks, size_t slot)
{
	return (slot + 1) & (marks->capacity - 1);
}

/* The entry, or the free slot that ends its probe run. */
static struct entry *find(const struct vfsd_marks *marks, uint64_t nodeid, uint64_t owner)
{
	size_t slot = home(marks, nodeid);

	while (marks->slots[slot].nodeid != 0 &&
	       (marks->slots[slot].nodeid != nodeid || marks->slots[slot].owner != owner))
		slot = after(marks, slot);
	return &marks->slots[slot];
}

uint32_t vfsd_marks_mask(const struct vfsd_marks *marks, uint64_t nodeid, uint64_t owner)
{
	return find(marks, nodeid, owner)->mask; /* of a free slot: 0 */
}

uint32_t vfsd_marks_union(const struct vfsd_marks *marks, uint64_t nodeid)
{
	uint32_t mask = 0;

	for (size_t slot = home(marks, nodeid); marks->slots[slot].nodeid != 0;
	     slot = after(marks, slot))
		if (marks->slots[slot].nodeid == nodeid)
			mask |= marks->slots[slot].mask;
	return mask;
}

static int grow(struct vfsd_marks *marks)
{
	struct entry *old = marks->slots;
	size_t old_capacity = marks->capacity;
	struct entry *slots = calloc(old_capacity * 2, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	marks->slots = slots;
	marks->capacity = old_capacity * 2;
	for (size_t i = 0; i < old_capacity; i++)
		if (old[i].nodeid != 0)
			*find(marks, old[i].nodeid, old[i].owner) = old[i];
	free(old);
	return 0;
}

/* Close the gap that a removed entry leaves in its probe run (Knuth 6.4, algorithm R). */
static void erase(struct vfsd_marks *marks, struct entry *entry)
{
	size_t gap = (size_t)(entry - marks->slots);
	size_t slot = gap;

	for (;;) {
		size_t want;

		slot = after(marks, slot);
		if (marks->slots[slot].nodeid == 0)
			break;
		want = home(marks, marks->slots[slot].nodeid);
		/* May stay if its home lies cyclically in (gap, slot]. */
		if (((slot - want) & (marks->capacity - 1)) <
		    ((slot - gap) & (marks->capacity - 1)))
			continue;
		marks->slots[gap] = marks->slots[slot];
		gap = slot;
	}
	marks->slots[gap] = (struct entry){0};
	marks->used--;
}

int vfsd_marks_set(struct vfsd_marks *marks, uint64_t nodeid, uint64_t owner, uint32_t mask,
		   struct vfsd_marks_change *ret)
{
	struct vfsd_marks_change change = {.old_union = vfsd_marks_union(marks, nodeid)};
	struct entry *entry = find(marks, nodeid, owner);
	int err;

	if (entry->nodeid != 0) {
		change.before = entry->mask;
		if (mask != 0)
			entry->mask = mask;
		else
			erase(marks, entry);
	} else if (mask != 0) {
		/* At most 7/8 full: 27 to 55 bytes for an interest, runs of five or so for a hit. */
		if ((marks->used + 1) * 8 > marks->capacity * 7) {
			err = grow(marks);
			if (err)
				return err;
			entry = find(marks, nodeid, owner);
		}
		*entry = (struct entry){.nodeid = nodeid, .owner = owner, .mask = mask};
		marks->used++;
	}
	change.new_union = vfsd_marks_union(marks, nodeid);
	if (change.old_union == 0 && change.new_union != 0)
		marks->inodes++;
	else if (change.old_union != 0 && change.new_union == 0)
		marks->inodes--;
	*ret = change;
	return 0;
}

uint32_t vfsd_marks_drop(struct vfsd_marks *marks, uint64_t nodeid)
{
	uint32_t mask = vfsd_marks_union(marks, nodeid);
	size_t slot;

	if (mask == 0)
		return 0;
	slot = home(marks, nodeid);
	while (marks->slots[slot].nodeid != 0) {
		if (marks->slots[slot].nodeid == nodeid)
			erase(marks, &marks->slots[slot]); /* refills this slot: look again */
		else
			slot = after(marks, slot);
	}
	marks->inodes--;
	return mask;
}

size_t vfsd_marks_count(const struct vfsd_marks *marks)
{
	return marks->inodes;
}

size_t vfsd_marks_entries(const struct vfsd_marks *marks)
{
	return marks->used;
}

void vfsd_marks_each(const struct vfsd_marks *marks,
		     void (*each)(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask),
		     void *ctx)
{
	for (size_t i = 0; i < marks->capacity; i++)
		if (marks->slots[i].nodeid != 0)
			each(ctx, marks->slots[i].nodeid, marks->slots[i].owner,
			     marks->slots[i].mask);
}

void vfsd_marks_clear(struct vfsd_marks *marks)
{
	memset(marks->slots, 0, marks->capacity * sizeof(*marks->slots));
	marks->used = 0;
	marks->inodes = 0;
}
