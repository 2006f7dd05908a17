/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/records - the types of records, and what is in those that watch clients read (watch/shm_ring.h).
 *
 * Python's side of all that is declared here is made from this file (native/declare.py), and cffi reads it:
 * plain declarations and include lines only. A structure has no padding.
 */
#ifndef VFSD_FSNOTIFY_RECORDS_H
#define VFSD_FSNOTIFY_RECORDS_H

#include <stdint.h>

enum vfsd_record_type {
	VFSD_RECORD_SKIP = 0, /* padding up to the end of the ring, never seen by a consumer */
	/* In the ring of a guest: struct fuse_notify_fsnotify_out and name. */
	VFSD_RECORD_FSNOTIFY = 1,
	/* In the ring of a guest: uint64_t, how many records were dropped here. */
	VFSD_RECORD_LOSS = 2,
	VFSD_RECORD_WATCH = 3, /* this and the rest: to watch clients only */
	VFSD_RECORD_ERROR = 4,
	VFSD_RECORD_MOUNT = 5,
	VFSD_RECORD_SUPERBLOCK = 6,
	VFSD_RECORD_TYPES,
};

/* What VFSD_RECORD_WATCH says of a watch; its path is the payload's. */
enum vfsd_watch_status {
	VFSD_WATCH_READY,      /* from here on no event is missed */
	VFSD_WATCH_FAILED,     /* there is no such watch: error */
	VFSD_WATCH_INCOMPLETE, /* this directory, and what is below it, is not watched: error */
	VFSD_WATCH_GONE,       /* what was watched has been removed */
	VFSD_WATCH_NO_ERRORS,  /* no VFSD_RECORD_ERROR of this filesystem will come: error */
};

/* The payload of VFSD_RECORD_FSNOTIFY, _WATCH and _ERROR; the path follows, without NUL. */
struct vfsd_watch_event_payload {
	uint32_t mask;	 /* one FAN_* bit, whose number is the record's subtype, and FAN_ONDIR */
	uint32_t cookie; /* in _ERROR: how many there were, this one is the first */
	uint32_t origin; /* enum vfsd_origin */
	int32_t error;	 /* positive errno */
	uint32_t flags;	 /* enum vfsd_watch_event_flags */
	uint32_t path_bytes;
};

/* The payload of VFSD_RECORD_MOUNT and _SUPERBLOCK; path and type follow, without NUL. */
struct vfsd_watch_mount_payload {
	uint64_t mnt_id; /* as in /proc/self/mountinfo of the daemon */
	uint32_t major;	 /* of the superblock, as the next */
	uint32_t minor;
	uint32_t flags; /* enum vfsd_mount_flags */
	uint32_t path_bytes;
	uint32_t kind_bytes;
	uint32_t padding;
};

enum vfsd_mount_flags { VFSD_MOUNT_READONLY = 1, VFSD_SUPERBLOCK_READONLY = 2 };

/* Subtypes of VFSD_RECORD_MOUNT. */
enum vfsd_mount_change {
	VFSD_MOUNTED,
	VFSD_BOUND, /* mounted: a part of a filesystem, or one that is mounted elsewhere too */
	VFSD_UNMOUNTED,
	VFSD_MOUNT_MADE_READONLY, /* this mount alone */
	VFSD_MOUNT_MADE_READWRITE,
};

/* Subtypes of VFSD_RECORD_SUPERBLOCK. */
enum vfsd_superblock_change { VFSD_SUPERBLOCK_MADE_READONLY, VFSD_SUPERBLOCK_MADE_READWRITE };

enum vfsd_origin { VFSD_ORIGIN_UNKNOWN, VFSD_ORIGIN_HOST, VFSD_ORIGIN_GUEST };

enum vfsd_watch_event_flags {
	/* The first scan of a new directory found it; its own CREATE may come as well, or never. */
	VFSD_EVENT_FOUND = 1,
};

#endif
