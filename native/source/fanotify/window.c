/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/window.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "source/fanotify/decode.h"

/*
 * Open addressing over 64-bit hashes: two names of one window meet with a chance of 2^-35, and what
 * they would lose then is a second event each. A window with more names forgets the oldest all at
 * once; the host's queue ends at 16384 events by default, so that is rare.
 */
enum {
	SLOTS = 1 << 15,
	NAMES_MAX = SLOTS / 2,
	WINDOW_MAX = (1 << 26) - 1,
	BOTH = VFSD_FAN_NAME_COMES | VFSD_FAN_NAME_GOES,
};

struct slot {
	uint32_t hash[2]; /* two halves, or each slot would end with a hole */
	uint32_t number : 26;
	uint32_t last : 2; /* enum vfsd_fan_name_bits: what was reported last */
	uint32_t seen : 2; /* the bits of all events but renames */
	uint32_t merged
		: 1; /* an event had both, or something was reported that no event stood for */
	uint32_t early : 1; /* so was what was reported last: an event that says it may yet come */
};

_Static_assert(sizeof(struct slot) == 12, "384 KiB of them");

struct vfsd_fan_window {
	uint64_t seed;
	uint32_t number; /* 1 to WINDOW_MAX; slots of others are free */
	uint32_t used;
	struct slot slots[SLOTS];
};

int vfsd_fan_window_create(struct vfsd_fan_window **ret)
{
	struct vfsd_fan_window *window = calloc(1, sizeof(*window));

	if (!window)
		return -ENOMEM;
	/* So that nobody on the host can choose names that meet. */
	(void)getrandom(&window->seed, sizeof(window->seed), GRND_NONBLOCK);
	window->number = 1;
	*ret = window;
	return 0;
}

void vfsd_fan_window_destroy(struct vfsd_fan_window *window)
{
	free(window);
}

void vfsd_fan_window_clear(struct vfsd_fan_window *window)
{
	if (window->used == 0)
		return;
	window->used = 0;
	if (window->number++ < WINDOW_MAX)
		return;
	memset(window->slots, 0, sizeof(window->slots));
	window->number = 1;
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t size)
{
	for (const uint8_t *at = bytes, *end = at + size; at < end; at++) {
		hash ^= *at;
		hash *= UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	return hash;
}

static uint64_t hash_of(const struct vfsd_fan_window *window, const struct vfsd_fan_place *place)
{
	const struct vfsd_file_handle *handle = place->handle;
	uint64_t hash =
		mix(window->seed, handle, offsetof(struct vfsd_file_handle, data) + handle->bytes);

	return mix(hash, place->name, place->name_bytes);
}

/* The name's slot, or the free one where it would be. */
static uint32_t find(const struct vfsd_fan_window *window, uint64_t hash)
{
	uint32_t low = (uint32_t)hash, high = (uint32_t)(hash >> 32);
	uint32_t at = high & (SLOTS - 1);

	while (window->slots[at].number == window->number &&
	       (window->slots[at].hash[0] != low || window->slots[at].hash[1] != high))
		at = (at + 1) & (SLOTS - 1);
	return at;
}

/* What this window knows of the name; zeros: nothing. */
static struct slot look_up(const struct vfsd_fan_window *window, uint64_t hash)
{
	const struct slot *slot = &window->slots[find(window, hash)];

	return slot->number == window->number ?
		       *slot :
		       (struct slot){.hash = {(uint32_t)hash, (uint32_t)(hash >> 32)}};
}

static void remember(struct vfsd_fan_window *window, struct slot what)
{
	struct slot *slot;

	if (window->used >= NAMES_MAX)
		vfsd_fan_window_clear(window);
	slot = &window->slots[find(window, what.hash[0] | (uint64_t)what.hash[1] << 32)];
	if (slot->number != window->number)
		window->used++;
	what.number = window->number & WINDOW_MAX;
	*slot = what;
}

bool vfsd_fan_window_must_look(const struct vfsd_fan_window *window,
			       const struct vfsd_fan_place *place, uint32_t bits)
{
	return bits == BOTH || look_up(window, hash_of(window, place)).last != 0;
}

/*
 * The steps of an event with both bits, when @last is what was reported last (0: nothing) and @end what
 * it has to leave behind: as few as can be.
 */
static uint32_t both_steps(uint32_t last, uint32_t end, uint32_t ret[VFSD_FAN_NAME_STEPS_MAX])
{
	uint32_t n = 0;

	if (last != 0 && last != end)
		ret[n++] = end;
	ret[n++] = BOTH & ~end;
	ret[n++] = end;
	return n;
}

uint32_t vfsd_fan_window_order(struct vfsd_fan_window *window, const struct vfsd_fan_place *place,
			       uint32_t bits, bool exists, const struct vfsd_fan_ahead *ahead,
			       uint32_t ret[VFSD_FAN_NAME_STEPS_MAX])
{
	struct slot slot = look_up(window, hash_of(window, place));
	uint32_t now = exists ? VFSD_FAN_NAME_COMES : VFSD_FAN_NAME_GOES;
	uint32_t end = now, n = 0;

	if (bits != BOTH) {
		/* Of a name that is new in this window nobody knows more. */
		if (slot.last == 0 || ahead->any)
			end = bits;
	} else if (ahead->any && ahead->first != 0) {
		end = BOTH & ~ahead->first; /* what comes is not there, what goes is */
	}
	if (bits != BOTH) {
		/* It comes twice: what was between hides in an earlier event. */
		if (slot.last == bits && !slot.early && (slot.seen & ~bits))
			ret[n++] = BOTH & ~bits;
		if (slot.last != bits || n > 0)
			ret[n++] = bits;
		slot.early = bits != end;
		/* Another that hides there, for nothing more is to come: reported now. */
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
	remember(window, slot);
	return n;
}

uint32_t vfsd_fan_window_moved(struct vfsd_fan_window *window, const struct vfsd_fan_place *place,
			       uint32_t bit)
{
	struct slot slot = look_up(window, hash_of(window, place));
	bool hidden = bit == VFSD_FAN_NAME_GOES && slot.last == VFSD_FAN_NAME_GOES &&
		      (slot.seen & VFSD_FAN_NAME_COMES);

	slot.last = bit & BOTH;
	slot.early = false;
	slot.merged |= hidden;
	remember(window, slot);
	return hidden ? VFSD_FAN_NAME_COMES : 0;
}

bool vfsd_fan_window_may_hide(const struct vfsd_fan_window *window,
			      const struct vfsd_fan_place *place)
{
	return look_up(window, hash_of(window, place)).seen != 0;
}

uint32_t vfsd_fan_window_hidden(const struct vfsd_fan_window *window,
				const struct vfsd_fan_place *place, bool exists)
{
	struct slot slot = look_up(window, hash_of(window, place));
	uint32_t now = exists ? VFSD_FAN_NAME_COMES : VFSD_FAN_NAME_GOES;

	return slot.last == now ? 0 : slot.seen & now;
}

void vfsd_fan_window_reported(struct vfsd_fan_window *window, const struct vfsd_fan_place *place,
			      uint32_t step)
{
	struct slot slot = look_up(window, hash_of(window, place));

	slot.last = step & BOTH;
	slot.early = slot.merged = 1;
	remember(window, slot);
}

bool vfsd_fan_window_is_merged(const struct vfsd_fan_window *window,
			       const struct vfsd_fan_place *place)
{
	return look_up(window, hash_of(window, place)).merged;
}
