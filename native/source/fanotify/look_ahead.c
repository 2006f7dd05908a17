/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/look_ahead.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>

#include "source/read_buffer.h"
#include "source/fanotify/decode.h"

/*
 * An event is no shorter than its fixed part, each entry is of a handle in it, and two of those are
 * longer. Twice as many, so that those of events that were told need not go at once.
 */
enum {
	WINDOW_MAX = 2 * VFSD_BATCH_AHEAD / FAN_EVENT_METADATA_LEN,
	ENTRIES_MAX = 2 * (WINDOW_MAX + 2),
};

struct vfsd_fan_ahead {
	struct vfsd_batch *batch;
	const uint8_t *known; /* what is in the index ends here */
	uint32_t first;	      /* entries before it are of events that were told */
	uint32_t count;
	/* Apart, so that looking for one is fast; pages that were never needed are never there. */
	uint32_t hashes[ENTRIES_MAX];
	uint32_t offsets[ENTRIES_MAX];
};

int vfsd_fan_ahead_create(struct vfsd_batch *batch, struct vfsd_fan_ahead **ret)
{
	struct vfsd_fan_ahead *ahead = malloc(sizeof(*ahead));

	if (!ahead)
		return -ENOMEM;
	ahead->batch = batch;
	vfsd_fan_ahead_reset(ahead);
	*ret = ahead;
	return 0;
}

void vfsd_fan_ahead_destroy(struct vfsd_fan_ahead *ahead)
{
	free(ahead);
}

void vfsd_fan_ahead_reset(struct vfsd_fan_ahead *ahead)
{
	ahead->known = NULL;
	ahead->first = ahead->count = 0;
}

static uint32_t hash_of_handle(const struct vfsd_file_handle *handle)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (uint32_t i = 0; i < handle->bytes; i++)
		hash = (hash ^ handle->data[i]) * 16777619u;
	return hash;
}

static uint32_t hash_of(const struct vfsd_fan_place *place)
{
	uint32_t hash = hash_of_handle(&place->handle);

	for (uint32_t i = 0; place->name && i < place->name_bytes; i++)
		hash = (hash ^ (uint8_t)place->name[i]) * 16777619u;
	return hash;
}

static void enter(struct vfsd_fan_ahead *ahead, const struct vfsd_fan_place *place,
		  const uint8_t *at)
{
	if (place->handle.bytes == 0 || ahead->count == ENTRIES_MAX)
		return;
	ahead->hashes[ahead->count] = hash_of(place);
	ahead->offsets[ahead->count++] = (uint32_t)(at - ahead->batch->buffer);
}

/* Forget what was told. */
static void shrink(struct vfsd_fan_ahead *ahead, uint32_t told)
{
	while (ahead->first < ahead->count && ahead->offsets[ahead->first] < told)
		ahead->first++;
	if (ahead->first <= ENTRIES_MAX / 2)
		return;
	ahead->count -= ahead->first;
	memmove(ahead->hashes, ahead->hashes + ahead->first, ahead->count * sizeof(uint32_t));
	memmove(ahead->offsets, ahead->offsets + ahead->first, ahead->count * sizeof(uint32_t));
	ahead->first = 0;
}

/* Index what has been read and was not told, but not what is far away. */
static void extend(struct vfsd_fan_ahead *ahead)
{
	const struct vfsd_batch *batch = ahead->batch;
	const uint8_t *next = batch->at;
	struct vfsd_fan_event event;

	if (ahead->known && ahead->known > next)
		next = ahead->known;
	while (next - batch->at < VFSD_BATCH_AHEAD) {
		const uint8_t *at = next;

		if (!vfsd_fan_next(&next, batch->end, &event))
			break;
		if (vfsd_fan_is_dir(&event) ||
		    (event.mask & (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)))
			enter(ahead, &event.where, at);
		enter(ahead, &event.object, at);
		enter(ahead, &event.old_name, at);
		enter(ahead, &event.new_name, at);
	}
	ahead->known = next;
}

/* The next event that may be meant, by its hash; NULL: there is none. */
static const uint8_t *next_of(struct vfsd_fan_ahead *ahead, uint32_t hash, uint32_t *cursor,
			      struct vfsd_fan_event *ret)
{
	struct vfsd_batch *batch = ahead->batch;
	uint32_t told = (uint32_t)(batch->at - batch->buffer);
	bool whole;

	if (*cursor == 0) {
		shrink(ahead, told);
		*cursor = ahead->first;
	}
	do {
		extend(ahead);
		while (*cursor < ahead->count) {
			uint32_t i = (*cursor)++;
			const uint8_t *at = batch->buffer + ahead->offsets[i], *end = at;

			if (ahead->hashes[i] == hash && ahead->offsets[i] >= told &&
			    vfsd_fan_next(&end, batch->end, ret))
				return at;
		}
	} while (vfsd_batch_more(batch, VFSD_BATCH_AHEAD, &whole));
	return NULL;
}

uint32_t vfsd_fan_ahead_next(struct vfsd_fan_ahead *ahead, const struct vfsd_fan_place *place,
			     uint32_t *cursor)
{
	uint32_t hash = hash_of(place), bits;
	struct vfsd_fan_event event;

	while (next_of(ahead, hash, cursor, &event)) {
		bits = vfsd_fan_of_name(&event, place);
		if (bits != 0)
			return bits;
	}
	return 0;
}

const uint8_t *vfsd_fan_ahead_object(struct vfsd_fan_ahead *ahead,
				     const struct vfsd_file_handle *handle, uint32_t *cursor,
				     struct vfsd_fan_event *ret)
{
	uint32_t hash = hash_of_handle(handle);
	const uint8_t *at;

	while ((at = next_of(ahead, hash, cursor, ret)) != NULL)
		if (vfsd_file_handle_equal(&vfsd_fan_self(ret)->handle, handle))
			return at;
	return NULL;
}
