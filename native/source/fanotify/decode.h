/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/decode - the bytes that a fanotify group gives, taken apart. Knows nothing of our inodes.
 *
 * Spec: fanotify(7), "Reading fanotify events"; groups with FAN_REPORT_DFID_NAME.
 */
#ifndef VFSD_SOURCE_FANOTIFY_DECODE_H
#define VFSD_SOURCE_FANOTIFY_DECODE_H

#include <stdbool.h>
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

/* A (directory, name), or an object. */
struct vfsd_fan_place {
	struct vfsd_file_handle handle; /* bytes == 0: the event has no such place */
	const char *name;		/* borrowed from the buffer, NUL-terminated; NULL: none */
	uint32_t name_bytes;		/* without the NUL */
};

struct vfsd_fan_event {
	uint64_t mask;			/* FAN_* */
	pid_t pid;			/* who acted; 0: somebody we may not know */
	struct vfsd_fan_place object;	/* FID: what it happened to, or what was called so */
	struct vfsd_fan_place where;	/* DFID_NAME: where that has its name; a directory itself */
	struct vfsd_fan_place old_name; /* halves of FAN_RENAME */
	struct vfsd_fan_place new_name;
	int32_t error; /* FAN_FS_ERROR: the first one, a positive errno; of the filesystem of object */
	uint32_t error_count;
};

/*
 * Take the event at *at, which may be @end. False: there is no whole one. Malformed info records
 * leave their places empty.
 */
bool vfsd_fan_next(const uint8_t **at, const uint8_t *end, struct vfsd_fan_event *ret);

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

/* Which of FAN_CREATE, FAN_DELETE, FAN_MOVED_FROM and FAN_MOVED_TO it says of the name @place. */
uint32_t vfsd_fan_of_name(const struct vfsd_fan_event *event, const struct vfsd_fan_place *place);

#endif
