/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/decode.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/fanotify.h>

#include "base/util.h"

#ifndef FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
#define FAN_EVENT_INFO_TYPE_OLD_DFID_NAME 10
#endif
#ifndef FAN_EVENT_INFO_TYPE_NEW_DFID_NAME
#define FAN_EVENT_INFO_TYPE_NEW_DFID_NAME 12
#endif

#define DIRENT (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)
#define NAMES (DIRENT | FAN_RENAME)

/* Linux 5.16, FAN_EVENT_INFO_TYPE_ERROR */
enum { INFO_TYPE_ERROR = 5 };

struct info_error {
	struct fanotify_event_info_header hdr;
	int32_t error;
	uint32_t error_count;
};

_Static_assert(sizeof(struct info_error) == sizeof(struct fanotify_event_info_fid), "no info "
										    "record is "
										    "shorter");

/* Handle and name of one info record; a malformed one leaves @ret empty. */
static void decode_place(const struct fanotify_event_info_fid *info, struct vfsd_fan_place *ret)
{
	const uint8_t *end = (const uint8_t *)info + info->hdr.len;
	/* The handle is a struct file_handle: two words, then its bytes. */
	const uint8_t *raw = (const uint8_t *)info->handle;
	struct vfsd_file_handle *handle = &ret->handle;
	size_t left;

	if (end - raw < (ptrdiff_t)sizeof(struct file_handle))
		return;
	memcpy(&handle->bytes, raw + offsetof(struct file_handle, handle_bytes),
	       sizeof(handle->bytes));
	memcpy(&handle->type, raw + offsetof(struct file_handle, handle_type),
	       sizeof(handle->type));
	raw += sizeof(struct file_handle);
	if (handle->bytes > VFSD_HANDLE_BYTES_MAX || handle->bytes > (size_t)(end - raw)) {
		handle->bytes = 0;
		return;
	}
	memcpy(handle->data, raw, handle->bytes);
	memcpy(&handle->fsid, &info->fsid, sizeof(handle->fsid));
	raw += handle->bytes;
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

static void decode_places(const uint8_t *at, const uint8_t *end, struct vfsd_fan_event *ret)
{
	while (end - at >= (ptrdiff_t)sizeof(struct fanotify_event_info_fid)) {
		const struct fanotify_event_info_fid *info = (const void *)at;
		struct vfsd_fan_place *place = place_of(ret, info->hdr.info_type);

		if (info->hdr.len < sizeof(*info) || info->hdr.len > end - at)
			return;
		at += info->hdr.len;
		if (info->hdr.info_type == INFO_TYPE_ERROR) {
			const struct info_error *error = (const void *)info;

			ret->error = error->error;
			ret->error_count = error->error_count;
		}
		if (place && place->handle.bytes == 0)
			decode_place(info, place);
	}
}

bool vfsd_fan_next(const uint8_t **at, const uint8_t *end, struct vfsd_fan_event *ret)
{
	struct fanotify_event_metadata event;
	const uint8_t *raw = *at;

	if (end - raw < (ptrdiff_t)sizeof(event))
		return false;
	/* Lengths are multiples of 4, the struct wants 8. */
	memcpy(&event, raw, sizeof(event));
	if (event.event_len < sizeof(event) || event.event_len > end - raw ||
	    event.metadata_len > event.event_len)
		return false;
	*at = raw + event.event_len;
	*ret = (struct vfsd_fan_event){.mask = event.mask, .pid = event.pid};
	decode_places(raw + event.metadata_len, *at, ret);
	return true;
}

bool vfsd_fan_is_dir(const struct vfsd_fan_event *event)
{
	return event->where.handle.bytes != 0 && !event->where.name;
}

const struct vfsd_fan_place *vfsd_fan_self(const struct vfsd_fan_event *event)
{
	return vfsd_fan_is_dir(event) ? &event->where : &event->object;
}

bool vfsd_fan_concerns(const struct vfsd_fan_event *event, const struct vfsd_file_handle *handle)
{
	const struct vfsd_fan_place *places[] = {&event->where, &event->old_name, &event->new_name,
						 &event->object};
	/* A name that comes or goes is an event of its directory, not of the object. */
	size_t n = VFSD_ARRAY_SIZE(places) - !(event->mask & ~(uint64_t)(NAMES | FAN_ONDIR));

	for (size_t i = 0; i < n; i++)
		if (places[i]->handle.bytes != 0 &&
		    vfsd_file_handle_equal(&places[i]->handle, handle))
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
	       vfsd_file_handle_equal(&a->handle, &b->handle);
}

uint32_t vfsd_fan_of_name(const struct vfsd_fan_event *event, const struct vfsd_fan_place *place)
{
	uint32_t bits = 0;

	if (vfsd_fan_is_place(&event->where, place))
		bits = (uint32_t)event->mask & DIRENT;
	if (vfsd_fan_is_place(&event->old_name, place))
		bits |= FAN_MOVED_FROM;
	if (vfsd_fan_is_place(&event->new_name, place))
		bits |= FAN_MOVED_TO;
	return bits;
}
