/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/reorder.h"

#include <stddef.h>

/* The next event that may be meant, by its hash. */
static const struct vfsd_fan_event *ahead(struct vfsd_fan_reorder *reorder, uint32_t hash,
					  uint32_t *cursor)
{
	const struct vfsd_fan_events *events = reorder->events;
	uint32_t i = *cursor > reorder->next ? *cursor : reorder->next;

	do {
		const uint32_t last = reorder->next + VFSD_FAN_AHEAD_MAX;
		const uint32_t end = events->count < last ? events->count : last;

		if (i < end)
			i = vfsd_fan_find_hash(events, i, end, hash);
		*cursor = i + 1;
		if (i < end)
			return &events->at[i];
	} while (reorder->ops->more(reorder->ctx));
	return NULL;
}

const struct vfsd_fan_event *vfsd_fan_ahead_name(struct vfsd_fan_reorder *reorder,
						 const struct vfsd_fan_place *place,
						 uint32_t *cursor)
{
	const uint32_t hash = vfsd_fan_hash(place->handle, place->name, place->name_bytes);
	const struct vfsd_fan_event *event;

	while ((event = ahead(reorder, hash, cursor)) != NULL)
		if (vfsd_fan_of_name(event, place) != 0)
			return event;
	return NULL;
}

const struct vfsd_fan_event *vfsd_fan_ahead_object(struct vfsd_fan_reorder *reorder,
						   const struct vfsd_file_handle *handle,
						   uint32_t *cursor)
{
	const uint32_t hash = vfsd_fan_hash(handle, NULL, 0);
	const struct vfsd_fan_event *event;

	while ((event = ahead(reorder, hash, cursor)) != NULL)
		if (vfsd_file_handle_equal(vfsd_fan_self(event)->handle, handle))
			return event;
	return NULL;
}

struct vfsd_fan_ahead vfsd_fan_look_ahead(struct vfsd_fan_reorder *reorder,
					  const struct vfsd_fan_place *place)
{
	const uint32_t both = VFSD_FAN_NAME_COMES | VFSD_FAN_NAME_GOES;
	const struct vfsd_fan_event *event;
	struct vfsd_fan_ahead ret = {0};
	uint32_t cursor = 0;

	while ((event = vfsd_fan_ahead_name(reorder, place, &cursor)) != NULL) {
		const uint32_t bits = vfsd_fan_name_bits(vfsd_fan_of_name(event, place));

		ret.last = bits == both ? 0 : bits;
		if (!ret.any)
			ret.first = ret.last;
		ret.any = true;
	}
	return ret;
}
