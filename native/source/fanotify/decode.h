/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/decode - what read() of a fanotify group returned, as an array of events.
 *
 * Each byte is decoded once, and nobody writes to the bytes or to a decoded event afterwards. Events
 * are only appended, until vfsd_fan_events_clear(); pointers to them and into them stay good so long.
 * This file knows the kernel's format and nothing of node ids, and makes no system call.
 * Owner thread: the source's.
 *
 * Spec: fanotify(7), "Reading fanotify events"; groups with FAN_REPORT_DFID_NAME, and where the host
 * has it FAN_REPORT_TARGET_FID.
 */
#ifndef VFSD_SOURCE_FANOTIFY_DECODE_H
#define VFSD_SOURCE_FANOTIFY_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/fanotify.h>
#include <sys/types.h>

#include "inode/inode.h"

/* Linux 5.17. */
#ifndef FAN_RENAME
#define FAN_RENAME 0x10000000
#endif
#ifndef FAN_REPORT_TARGET_FID
#define FAN_REPORT_TARGET_FID 0x00001000
#endif

#define VFSD_FAN_MOVED (FAN_MOVED_FROM | FAN_MOVED_TO)
#define VFSD_FAN_DIRENT (FAN_CREATE | FAN_DELETE | VFSD_FAN_MOVED)

/* A (directory, name), or an object. */
struct vfsd_fan_place {
	const struct vfsd_file_handle *handle; /* borrowed; bytes == 0: the event has no such place */
	const char *name;		       /* borrowed, NUL-terminated; NULL: none */
	uint32_t name_bytes;		       /* without the NUL */
};

struct vfsd_fan_event {
	uint64_t mask;			/* FAN_* */
	pid_t pid;			/* who acted; 0: the host does not say */
	bool self_generated;		/* this daemon acted, for a guest */
	int32_t error;			/* FAN_FS_ERROR: the first one, a positive errno */
	uint32_t error_count;		/* FAN_FS_ERROR: how many */
	struct vfsd_fan_place where;	/* DFID_NAME: the name's directory; a directory itself */
	struct vfsd_fan_place object;	/* FID: what it happened to, or what was called so */
	struct vfsd_fan_place old_name; /* OLD_DFID_NAME and NEW_DFID_NAME, of FAN_RENAME */
	struct vfsd_fan_place new_name;
};

enum { VFSD_FAN_PLACES = 4 };

struct vfsd_fan_events {
	pid_t self; /* whose events are self_generated */
	uint32_t count;
	uint32_t max;
	struct vfsd_fan_event *at;
	/* Hashes of each event's places by which events are found, in the order of the struct; 0: none. */
	uint32_t (*hashes)[VFSD_FAN_PLACES];
	uint8_t *handles; /* what the places' handles point to */
	size_t handle_bytes;
	size_t handle_bytes_max;
};

/* Room for the events in @bytes bytes of the kernel's; at most one event each 64 bytes. 0 or -ENOMEM. */
int vfsd_fan_events_init(struct vfsd_fan_events *events, pid_t self, size_t bytes);
void vfsd_fan_events_free(struct vfsd_fan_events *events);
void vfsd_fan_events_clear(struct vfsd_fan_events *events);

/*
 * Append the events in the @size bytes at @bytes, which are borrowed until vfsd_fan_events_clear().
 * A malformed info record leaves its place empty. Returns the length of what was decoded: less than
 * @size if an event is truncated or has lengths that cannot be, or if there is no room.
 */
size_t vfsd_fan_decode(struct vfsd_fan_events *events, const uint8_t *bytes, size_t size);

/* The object that an event other than of a name happened to. */
const struct vfsd_fan_place *vfsd_fan_self(const struct vfsd_fan_event *event);
/* That object is a directory. */
bool vfsd_fan_is_dir(const struct vfsd_fan_event *event);

/* Does the event happen to the object @handle, or to a name in it? */
bool vfsd_fan_concerns(const struct vfsd_fan_event *event, const struct vfsd_file_handle *handle);

/* The name that @event, which is of a name, takes away, if it does. */
const struct vfsd_fan_place *vfsd_fan_lost_place(const struct vfsd_fan_event *event);

/* Are they one name in one directory? */
bool vfsd_fan_is_place(const struct vfsd_fan_place *a, const struct vfsd_fan_place *b);

/* Which of FAN_CREATE, FAN_DELETE, FAN_MOVED_FROM and FAN_MOVED_TO it reports of the name @place. */
uint32_t vfsd_fan_of_name(const struct vfsd_fan_event *event, const struct vfsd_fan_place *place);

/* Not 0. An object is a place without a name. */
uint32_t vfsd_fan_hash(const struct vfsd_file_handle *handle, const char *name,
		       uint32_t name_bytes);

/*
 * The index of the next event, from @from on and before @end, that may be about what has @hash; @end:
 * there is none.
 */
uint32_t vfsd_fan_find_hash(const struct vfsd_fan_events *events, uint32_t from, uint32_t end,
			    uint32_t hash);

#endif
