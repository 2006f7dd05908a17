/* SPDX-License-Identifier: BSD-3-Clause */
#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

/*
 * Open addressing over 64-bit hashes: two names of one window meet with a chance of 2^-35, and what
 * they would lose then is a second event each. A window with more names forgets the oldest all at
 * once; the host's queue ends at 16384 events by default, so that is rare.
 */
enum {
	SLOTS = 1 << 15,
	NAMES_MAX = SLOTS / 2,
	BOTH = VFSD_NAME_COMES | VFSD_NAME_GOES,
};

struct slot {
	uint64_t hash;
	uint32_t window;
	uint32_t last; /* enum vfsd_name_bits: what was told last */
};

struct vfsd_names {
	uint64_t seed;
	uint32_t window; /* slots of others are free */
	uint32_t used;
	struct slot slots[SLOTS];
};

int vfsd_names_create(struct vfsd_names **ret)
{
	struct vfsd_names *names = calloc(1, sizeof(*names));

	if (!names)
		return -ENOMEM;
	/* So that nobody on the host can choose names that meet. */
	(void)getrandom(&names->seed, sizeof(names->seed), GRND_NONBLOCK);
	names->window = 1;
	*ret = names;
	return 0;
}

void vfsd_names_destroy(struct vfsd_names *names)
{
	free(names);
}

void vfsd_names_forget(struct vfsd_names *names)
{
	if (names->used == 0)
		return;
	names->used = 0;
	/* 0 marks slots that were never used. */
	if (++names->window == 0)
		names->window = 1;
}

static uint64_t hash_of(const struct vfsd_names *names, uint64_t dir, const char *name)
{
	uint64_t hash = (names->seed ^ dir) * UINT64_C(0x9e3779b97f4a7c15);

	for (; *name; name++) {
		hash ^= (uint8_t)*name;
		hash *= UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	return hash;
}

/* The name's slot, or the free one where it would be. */
static uint32_t find(const struct vfsd_names *names, uint64_t hash)
{
	uint32_t at = (uint32_t)(hash >> 32) & (SLOTS - 1);

	while (names->slots[at].window == names->window && names->slots[at].hash != hash)
		at = (at + 1) & (SLOTS - 1);
	return at;
}

/* What was told last of the name in this window; 0: nothing. */
static uint32_t last_of(const struct vfsd_names *names, uint64_t hash)
{
	const struct slot *slot = &names->slots[find(names, hash)];

	return slot->window == names->window ? slot->last : 0;
}

static void remember(struct vfsd_names *names, uint64_t hash, uint32_t last)
{
	struct slot *slot;

	if (names->used >= NAMES_MAX)
		vfsd_names_forget(names);
	slot = &names->slots[find(names, hash)];
	if (slot->window != names->window)
		names->used++;
	*slot = (struct slot){.hash = hash, .window = names->window, .last = last};
}

bool vfsd_names_must_look(const struct vfsd_names *names, uint64_t dir, const char *name,
			  uint32_t bits)
{
	return bits == BOTH || last_of(names, hash_of(names, dir, name)) != 0;
}

uint32_t vfsd_names_order(struct vfsd_names *names, uint64_t dir, const char *name, uint32_t bits,
			  bool exists, uint32_t ret[VFSD_NAME_STEPS_MAX])
{
	uint64_t hash = hash_of(names, dir, name);
	uint32_t last = last_of(names, hash);
	uint32_t end = exists ? VFSD_NAME_COMES : VFSD_NAME_GOES;
	uint32_t n = 0;

	if (last == 0 && bits != BOTH) {
		last = end = bits;
		ret[n++] = bits;
	} else if (last == 0) {
		last = end; /* what it was before is not known: as it is now takes the fewest steps */
	}
	if (bits == BOTH) {
		ret[n++] = BOTH & ~last;
		ret[n++] = last;
	} else if (bits != last) {
		ret[n++] = last = bits;
	}
	/* A step that hides in an event told before, or is in one further on: told now. */
	if (last != end)
		ret[n++] = end;
	remember(names, hash, end);
	return n;
}

void vfsd_names_moved(struct vfsd_names *names, uint64_t dir, const char *name, uint32_t bit)
{
	remember(names, hash_of(names, dir, name), bit);
}
