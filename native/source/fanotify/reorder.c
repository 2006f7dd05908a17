/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/reorder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/*
 * Open addressing over 64-bit hashes: two names of one window meet with a chance of 2^-35, and what
 * they would lose then is a second event each. A window with more names forgets the oldest all at
 * once; the host's queue ends at 16384 events by default, so that is rare.
 */
enum {
	SLOTS = 1 << 15,
	NAMES_MAX = SLOTS / 2,
	WINDOW_MAX = (1 << 26) - 1,
	BOTH = VFSD_NAME_COMES | VFSD_NAME_GOES,
};

struct slot {
	uint32_t hash[2]; /* two halves, or each slot would end with a hole */
	uint32_t window : 26;
	uint32_t last : 2;   /* enum vfsd_name_bits: what was told last */
	uint32_t seen : 2;   /* the bits of all events but renames */
	uint32_t merged : 1; /* an event had both, or something was told that no event stood for */
	uint32_t early : 1;  /* so was what was told last: an event that says it may yet come */
};

_Static_assert(sizeof(struct slot) == 12, "384 KiB of them");

struct vfsd_names {
	uint64_t seed;
	uint32_t window; /* 1 to WINDOW_MAX; slots of others are free */
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
	if (names->window++ < WINDOW_MAX)
		return;
	memset(names->slots, 0, sizeof(names->slots));
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
	uint32_t low = (uint32_t)hash, high = (uint32_t)(hash >> 32);
	uint32_t at = high & (SLOTS - 1);

	while (names->slots[at].window == names->window &&
	       (names->slots[at].hash[0] != low || names->slots[at].hash[1] != high))
		at = (at + 1) & (SLOTS - 1);
	return at;
}

/* What this window knows of the name; zeros: nothing. */
static struct slot look_up(const struct vfsd_names *names, uint64_t hash)
{
	const struct slot *slot = &names->slots[find(names, hash)];

	return slot->window == names->window ?
		       *slot :
		       (struct slot){.hash = {(uint32_t)hash, (uint32_t)(hash >> 32)}};
}

static void remember(struct vfsd_names *names, struct slot what)
{
	struct slot *slot;

	if (names->used >= NAMES_MAX)
		vfsd_names_forget(names);
	slot = &names->slots[find(names, what.hash[0] | (uint64_t)what.hash[1] << 32)];
	if (slot->window != names->window)
		names->used++;
	what.window = names->window & WINDOW_MAX;
	*slot = what;
}

bool vfsd_names_must_look(const struct vfsd_names *names, uint64_t dir, const char *name,
			  uint32_t bits)
{
	return bits == BOTH || look_up(names, hash_of(names, dir, name)).last != 0;
}

/*
 * The steps of an event with both bits, when @last is what was told last (0: nothing) and @end what
 * it has to leave behind: as few as can be.
 */
static uint32_t both_steps(uint32_t last, uint32_t end, uint32_t ret[VFSD_NAME_STEPS_MAX])
{
	uint32_t n = 0;

	if (last != 0 && last != end)
		ret[n++] = end;
	ret[n++] = BOTH & ~end;
	ret[n++] = end;
	return n;
}

uint32_t vfsd_names_order(struct vfsd_names *names, uint64_t dir, const char *name, uint32_t bits,
			  bool exists, const struct vfsd_names_ahead *ahead,
			  uint32_t ret[VFSD_NAME_STEPS_MAX])
{
	struct slot slot = look_up(names, hash_of(names, dir, name));
	uint32_t now = exists ? VFSD_NAME_COMES : VFSD_NAME_GOES;
	uint32_t end = now, n = 0;

	if (bits != BOTH) {
		/* Of a name that is new in this window nobody knows more. */
		if (slot.last == 0 || ahead->any)
			end = bits;
	} else if (ahead->any && ahead->first != 0) {
		end = BOTH & ~ahead->first; /* what comes is not there, what goes is */
	}
	if (bits != BOTH) {
		/* It comes twice: what was between hides in an event told before. */
		if (slot.last == bits && !slot.early && (slot.seen & ~bits))
			ret[n++] = BOTH & ~bits;
		if (slot.last != bits || n > 0)
			ret[n++] = bits;
		slot.early = bits != end;
		/* Another that hides there, for nothing more is to come: told now. */
		if (slot.early)
			ret[n++] = end;
		slot.merged |= n > 1;
	} else if (ahead->any && now != end && ahead->last == end && slot.last != end) {
		ret[n++] = end; /* the other bit is behind all that is ahead */
		slot.early = false;
		slot.merged = true;
	} else {
		n = both_steps(slot.last, end, ret);
		slot.early = slot.last != 0 && slot.last != end;
		slot.merged = true;
	}
	slot.last = end & BOTH;
	slot.seen |= bits & BOTH;
	remember(names, slot);
	return n;
}

uint32_t vfsd_names_moved(struct vfsd_names *names, uint64_t dir, const char *name, uint32_t bit)
{
	struct slot slot = look_up(names, hash_of(names, dir, name));
	bool hidden = bit == VFSD_NAME_GOES && slot.last == VFSD_NAME_GOES &&
		      (slot.seen & VFSD_NAME_COMES);

	slot.last = bit & BOTH;
	slot.early = false;
	slot.merged |= hidden;
	remember(names, slot);
	return hidden ? VFSD_NAME_COMES : 0;
}

bool vfsd_names_may_hide(const struct vfsd_names *names, uint64_t dir, const char *name)
{
	return look_up(names, hash_of(names, dir, name)).seen != 0;
}

uint32_t vfsd_names_hidden(const struct vfsd_names *names, uint64_t dir, const char *name,
			   bool exists)
{
	struct slot slot = look_up(names, hash_of(names, dir, name));
	uint32_t now = exists ? VFSD_NAME_COMES : VFSD_NAME_GOES;

	return slot.last == now ? 0 : slot.seen & now;
}

void vfsd_names_told(struct vfsd_names *names, uint64_t dir, const char *name, uint32_t step)
{
	struct slot slot = look_up(names, hash_of(names, dir, name));

	slot.last = step & BOTH;
	slot.early = slot.merged = 1;
	remember(names, slot);
}

bool vfsd_names_is_merged(const struct vfsd_names *names, uint64_t dir, const char *name)
{
	return look_up(names, hash_of(names, dir, name)).merged;
}
