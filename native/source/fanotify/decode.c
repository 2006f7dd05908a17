/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/decode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#ifndef FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
#define FAN_EVENT_INFO_TYPE_OLD_DFID_NAME 10
#endif
#ifndef FAN_EVENT_INFO_TYPE_NEW_DFID_NAME
#define FAN_EVENT_INFO_TYPE_NEW_DFID_NAME 12
#endif

/* Linux 5.16, FAN_EVENT_INFO_TYPE_ERROR */
enum { INFO_TYPE_ERROR = 5 };

enum {
	EVENT_BYTES = 64, /* with its info records an event is longer */
	ALIGN = 4,	  /* of all lengths */
	HANDLE_ALIGN = _Alignof(struct vfsd_file_handle),
};

struct info_error {
	struct fanotify_event_info_header hdr;
	int32_t error;
	uint32_t error_count;
};

_Static_assert(sizeof(struct info_error) == sizeof(struct fanotify_event_info_fid), "no shorter");

static const struct vfsd_file_handle no_handle;

int vfsd_fan_events_init(struct vfsd_fan_events *events, pid_t self, size_t bytes)
{
	*events = (struct vfsd_fan_events){.self = self, .max = (uint32_t)(bytes / EVENT_BYTES)};
	/* A handle grows by less than a fourth of its info record, by its alignment. */
	events->handle_bytes_max = bytes / 4 * 5;
	events->at = malloc(events->max * sizeof(*events->at));
	events->hashes = malloc(events->max * sizeof(*events->hashes));
	events->handles = malloc(events->handle_bytes_max);
	if (events->at && events->hashes && events->handles)
		return 0;
	vfsd_fan_events_free(events);
	return -ENOMEM;
}

void vfsd_fan_events_free(struct vfsd_fan_events *events)
{
	free(events->at);
	free(events->hashes);
	free(events->handles);
	*events = (struct vfsd_fan_events){0};
}

void vfsd_fan_events_clear(struct vfsd_fan_events *events)
{
	events->count = 0;
	events->handle_bytes = 0;
}

/* The handle at @raw, a struct file_handle: two words, then its bytes. NULL: malformed, or no room. */
static const struct vfsd_file_handle *decode_handle(struct vfsd_fan_events *events,
						    const uint8_t *raw, const uint8_t *end,
						    const void *fsid)
{
	struct vfsd_file_handle *handle =
		(void *)(events->handles + events->handle_bytes); /* has room for its bytes only */
	struct file_handle head;
	size_t size;

	if (end - raw < (ptrdiff_t)sizeof(head))
		return NULL;
	memcpy(&head, raw, sizeof(head));
	raw += sizeof(head);
	/* Without bytes it still says of which filesystem a FAN_FS_ERROR is. */
	if (head.handle_bytes > VFSD_HANDLE_BYTES_MAX || head.handle_bytes > (size_t)(end - raw))
		return NULL;
	size = offsetof(struct vfsd_file_handle, data) + head.handle_bytes;
	size = (size + HANDLE_ALIGN - 1) / HANDLE_ALIGN * HANDLE_ALIGN;
	if (size > events->handle_bytes_max - events->handle_bytes)
		return NULL;
	memcpy(&handle->fsid, fsid, sizeof(handle->fsid));
	handle->type = head.handle_type;
	handle->bytes = head.handle_bytes;
	memcpy(handle->data, raw, head.handle_bytes);
	events->handle_bytes += size;
	return handle;
}

/* Handle and name of one info record; a malformed one leaves @ret empty. */
static void decode_place(struct vfsd_fan_events *events, const struct fanotify_event_info_fid *info,
			 struct vfsd_fan_place *ret)
{
	const uint8_t *end = (const uint8_t *)info + info->hdr.len;
	const uint8_t *raw = (const uint8_t *)info->handle;
	const struct vfsd_file_handle *handle = decode_handle(events, raw, end, &info->fsid);
	size_t left;

	if (!handle)
		return;
	ret->handle = handle;
	raw += sizeof(struct file_handle) + handle->bytes;
	left = (size_t)(end - raw);
	if (info->hdr.info_type != FAN_EVENT_INFO_TYPE_FID && left > 0) {
		ret->name = (const char *)raw;
		ret->name_bytes = (uint32_t)strnlen(ret->name, left);
		/* "." is the directory itself. */
		if (ret->name_bytes == left || strcmp(ret->name, ".") == 0)
			ret->name = NULL;
	}
}

static struct vfsd_fan_place *place_of(struct vfsd_fan_event *event, uint8_t info_type)
{
	switch (info_type) {
	case FAN_EVENT_INFO_TYPE_FID:
		return &event->object;
	case FAN_EVENT_INFO_TYPE_DFID:
	case FAN_EVENT_INFO_TYPE_DFID_NAME:
		return &event->where;
	case FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
		return &event->old_name;
	case FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		return &event->new_name;
	default:
		return NULL;
	}
}

static void decode_places(struct vfsd_fan_events *events, const uint8_t *at, const uint8_t *end,
			  struct vfsd_fan_event *ret)
{
	while (end - at >= (ptrdiff_t)sizeof(struct fanotify_event_info_fid)) {
		const struct fanotify_event_info_fid *info = (const void *)at;
		struct vfsd_fan_place *place = place_of(ret, info->hdr.info_type);

		if (info->hdr.len < sizeof(*info) || info->hdr.len > end - at ||
		    info->hdr.len % ALIGN != 0)
			return;
		at += info->hdr.len;
		if (info->hdr.info_type == INFO_TYPE_ERROR) {
			const struct info_error *error = (const void *)info;

			ret->error = error->error;
			ret->error_count = error->error_count;
		}
		if (place && place->handle->bytes == 0)
			decode_place(events, info, place);
	}
}

/* Of a name that only opened an object nobody asks: FID alone finds that. */
static void hash_places(const struct vfsd_fan_event *event, uint32_t ret[VFSD_FAN_PLACES])
{
	const struct vfsd_fan_place *places[VFSD_FAN_PLACES] = {&event->where, &event->object,
								&event->old_name, &event->new_name};

	for (size_t i = 0; i < VFSD_FAN_PLACES; i++)
		ret[i] = places[i]->handle->bytes == 0 ?
				 0 :
				 vfsd_fan_hash(places[i]->handle, places[i]->name,
					       places[i]->name_bytes);
	if (event->where.name && !(event->mask & VFSD_FAN_DIRENT))
		ret[0] = 0;
}

size_t vfsd_fan_decode(struct vfsd_fan_events *events, const uint8_t *bytes, size_t size)
{
	const struct vfsd_fan_place nowhere = {.handle = &no_handle};
	struct fanotify_event_metadata raw;
	size_t done = 0;

	while (events->count < events->max && size - done >= sizeof(raw)) {
		const uint8_t *at = bytes + done;
		struct vfsd_fan_event *event = &events->at[events->count];

		/* The struct wants an alignment of 8. */
		memcpy(&raw, at, sizeof(raw));
		if (raw.event_len < sizeof(raw) || raw.event_len > size - done ||
		    raw.metadata_len > raw.event_len || (raw.event_len | raw.metadata_len) % ALIGN)
			break;
		*event = (struct vfsd_fan_event){
			.mask = raw.mask,
			.pid = raw.pid,
			.self_generated = raw.pid == events->self,
			.where = nowhere,
			.object = nowhere,
			.old_name = nowhere,
			.new_name = nowhere,
		};
		decode_places(events, at + raw.metadata_len, at + raw.event_len, event);
		hash_places(event, events->hashes[events->count++]);
		done += raw.event_len;
	}
	return done;
}

bool vfsd_fan_is_dir(const struct vfsd_fan_event *event)
{
	return event->where.handle->bytes != 0 && !event->where.name;
}

const struct vfsd_fan_place *vfsd_fan_self(const struct vfsd_fan_event *event)
{
	return vfsd_fan_is_dir(event) ? &event->where : &event->object;
}

bool vfsd_fan_concerns(const struct vfsd_fan_event *event, const struct vfsd_file_handle *handle)
{
	const struct vfsd_fan_place *places[] = {&event->where, &event->old_name, &event->new_name,
						 &event->object};
	const uint64_t names = VFSD_FAN_DIRENT | FAN_RENAME | FAN_ONDIR;
	/* A name that comes or goes is an event of its directory, not of the object. */
	size_t n = VFSD_ARRAY_SIZE(places) - !(event->mask & ~names);

	for (size_t i = 0; i < n; i++)
		if (places[i]->handle->bytes != 0 &&
		    vfsd_file_handle_equal(places[i]->handle, handle))
			return true;
	return false;
}

const struct vfsd_fan_place *vfsd_fan_lost_place(const struct vfsd_fan_event *event)
{
	return event->mask & FAN_RENAME ? &event->old_name : &event->where;
}

bool vfsd_fan_is_place(const struct vfsd_fan_place *a, const struct vfsd_fan_place *b)
{
	return a->name && b->name && a->name_bytes == b->name_bytes &&
	       memcmp(a->name, b->name, a->name_bytes) == 0 &&
	       vfsd_file_handle_equal(a->handle, b->handle);
}

uint32_t vfsd_fan_of_name(const struct vfsd_fan_event *event, const struct vfsd_fan_place *place)
{
	uint32_t bits = 0;

	if (vfsd_fan_is_place(&event->where, place))
		bits = (uint32_t)event->mask & VFSD_FAN_DIRENT;
	if (vfsd_fan_is_place(&event->old_name, place))
		bits |= FAN_MOVED_FROM;
	if (vfsd_fan_is_place(&event->new_name, place))
		bits |= FAN_MOVED_TO;
	return bits;
}

uint32_t vfsd_fan_hash(const struct vfsd_file_handle *handle, const char *name, uint32_t name_bytes)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (uint32_t i = 0; i < handle->bytes; i++)
		hash = (hash ^ handle->data[i]) * 16777619u;
	for (uint32_t i = 0; name && i < name_bytes; i++)
		hash = (hash ^ (uint8_t)name[i]) * 16777619u;
	return hash != 0 ? hash : 1;
}

uint32_t vfsd_fan_find_hash(const struct vfsd_fan_events *events, uint32_t from, uint32_t end,
			    uint32_t hash)
{
	while (from < end) {
		const uint32_t *its = events->hashes[from];

		if (its[0] == hash || its[1] == hash || its[2] == hash || its[3] == hash)
			break;
		from++;
	}
	return from;
}
