/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/marks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Open addressing, an entry for each inode. Nearly always one owner is interested in it: he is in the
 * entry. Several have an array, so that whatever one of them does, and the end of all, takes time for
 * the owners of this inode alone. A node id is never 0, which marks a free slot.
 */
struct owner {
	uint64_t id;
	uint32_t mask;
};

struct entry {
	uint64_t nodeid;
	union {
		uint64_t owner;	       /* the only one */
		struct owner *several; /* room for n rounded up to a power of two */
	};
	uint32_t mask; /* the union */
	uint32_t n;
};

struct vfsd_marks {
	struct entry *slots;
	size_t capacity; /* power of two */
	size_t used;
	size_t owners;
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

static void free_several(const struct entry *entry)
{
	if (entry->n > 1)
		free(entry->several);
}

void vfsd_marks_clear(struct vfsd_marks *marks)
{
	for (size_t i = 0; i < marks->capacity; i++)
		free_several(&marks->slots[i]);
	memset(marks->slots, 0, marks->capacity * sizeof(*marks->slots));
	marks->used = 0;
	marks->owners = 0;
}

void vfsd_marks_destroy(struct vfsd_marks *marks)
{
	if (!marks)
		return;
	vfsd_marks_clear(marks);
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

/* The entry, or the free slot that ends its probe run, where mask and n are 0. */
static struct entry *find(const struct vfsd_marks *marks, uint64_t nodeid)
{
	size_t slot = home(marks, nodeid);

	while (marks->slots[slot].nodeid != 0 && marks->slots[slot].nodeid != nodeid)
		slot = after(marks, slot);
	return &marks->slots[slot];
}

/* Where @owner is among several; n if he is not. */
static uint32_t place_of(const struct entry *entry, uint64_t owner)
{
	uint32_t i = 0;

	while (i < entry->n && entry->several[i].id != owner)
		i++;
	return i;
}

static uint32_t mask_of(const struct entry *entry, uint64_t owner)
{
	uint32_t i;

	if (entry->n <= 1)
		return entry->n == 1 && entry->owner == owner ? entry->mask : 0;
	i = place_of(entry, owner);
	return i < entry->n ? entry->several[i].mask : 0;
}

uint32_t vfsd_marks_mask(const struct vfsd_marks *marks, uint64_t nodeid, uint64_t owner)
{
	return mask_of(find(marks, nodeid), owner);
}

uint32_t vfsd_marks_union(const struct vfsd_marks *marks, uint64_t nodeid)
{
	return find(marks, nodeid)->mask;
}

uint32_t vfsd_marks_owners(const struct vfsd_marks *marks, uint64_t nodeid)
{
	return find(marks, nodeid)->n;
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
			*find(marks, old[i].nodeid) = old[i];
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

static void unite(struct entry *entry)
{
	entry->mask = 0;
	for (uint32_t i = 0; i < entry->n; i++)
		entry->mask |= entry->several[i].mask;
}

/* One more owner of an inode that has some. */
static int add_owner(struct entry *entry, uint64_t owner, uint32_t mask)
{
	struct owner *several = entry->several;

	if (entry->n == 1) {
		several = malloc(2 * sizeof(*several));
		if (several)
			several[0] = (struct owner){.id = entry->owner, .mask = entry->mask};
	} else if ((entry->n & (entry->n - 1)) == 0) {
		several = realloc(several, 2 * entry->n * sizeof(*several));
	}
	if (!several)
		return -ENOMEM;
	several[entry->n++] = (struct owner){.id = owner, .mask = mask};
	entry->several = several;
	entry->mask |= mask;
	return 0;
}

static void remove_owner(struct entry *entry, uint32_t place)
{
	struct owner *several = entry->several;

	several[place] = several[--entry->n];
	if (entry->n > 1) {
		unite(entry);
		return;
	}
	entry->mask = several[0].mask;
	entry->owner = several[0].id;
	free(several);
}

static int add_entry(struct vfsd_marks *marks, uint64_t nodeid, uint64_t owner, uint32_t mask)
{
	/* At most 7/8 full: 27 to 55 bytes for an inode, runs of five or so for a hit. */
	if ((marks->used + 1) * 8 > marks->capacity * 7) {
		int err = grow(marks);

		if (err)
			return err;
	}
	*find(marks, nodeid) =
		(struct entry){.nodeid = nodeid, .owner = owner, .mask = mask, .n = 1};
	marks->used++;
	return 0;
}

int vfsd_marks_set(struct vfsd_marks *marks, uint64_t nodeid, uint64_t owner, uint32_t mask,
		   struct vfsd_marks_change *ret)
{
	struct entry *entry = find(marks, nodeid);
	struct vfsd_marks_change change = {
		.before = mask_of(entry, owner),
		.old_union = entry->mask,
	};
	int err;

	if (change.before == 0 && mask != 0) {
		err = entry->n == 0 ? add_entry(marks, nodeid, owner, mask) :
				      add_owner(entry, owner, mask);
		if (err)
			return err;
		marks->owners++;
	} else if (change.before != 0 && mask == 0) {
		if (entry->n == 1)
			erase(marks, entry);
		else
			remove_owner(entry, place_of(entry, owner));
		marks->owners--;
	} else if (entry->n > 1 && mask != 0) {
		entry->several[place_of(entry, owner)].mask = mask;
		unite(entry);
	} else if (mask != 0) {
		entry->mask = mask;
	}
	change.new_union = vfsd_marks_union(marks, nodeid);
	*ret = change;
	return 0;
}

uint32_t vfsd_marks_drop(struct vfsd_marks *marks, uint64_t nodeid)
{
	struct entry *entry = find(marks, nodeid);
	uint32_t mask = entry->mask;

	if (entry->n == 0)
		return 0;
	marks->owners -= entry->n;
	free_several(entry);
	erase(marks, entry);
	return mask;
}

size_t vfsd_marks_count(const struct vfsd_marks *marks)
{
	return marks->used;
}

size_t vfsd_marks_entries(const struct vfsd_marks *marks)
{
	return marks->owners;
}

void vfsd_marks_each(const struct vfsd_marks *marks,
		     void (*each)(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask),
		     void *ctx)
{
	for (size_t i = 0; i < marks->capacity; i++) {
		const struct entry *entry = &marks->slots[i];

		if (entry->n == 1)
			each(ctx, entry->nodeid, entry->owner, entry->mask);
		for (uint32_t k = 0; entry->n > 1 && k < entry->n; k++)
			each(ctx, entry->nodeid, entry->several[k].id, entry->several[k].mask);
	}
}
