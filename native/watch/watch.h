/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch/watch - watch clients: programs of the daemon's user that receive the events of the share. A
 * connected client is a consumer of records.
 *
 * Consumers have an inode table, marks and a source of their own: what they watch costs no guest its
 * quota, takes no part in a migration, and goes on when a guest's session ends. The host's own aggregation
 * joins the two sets of watches. All of it, the thread too, exists only as long as there is a
 * consumer, so that the guest's event path does not depend on it.
 *
 * A consumer receives the events of what it watches and, below a directory, those of names: each
 * change once, whether a guest or the host has caused it. The reading of directories by guests is
 * not reported, because it looks the same as the daemon's own scans.
 * Owner thread: any thread, one at a time per function; a lock inside.
 */
#ifndef VFSD_WATCH_WATCH_H
#define VFSD_WATCH_WATCH_H

#include <stdint.h>

#include "inode/options.h"
#include "watch/options.h"
#include "watch/python.h"

struct vfsd_watch_registry;
struct vfsd_quota;
struct vfsd_source_ops;

struct vfsd_watch_config {
	struct vfsd_watch_options options;
	struct vfsd_inode_options inode;
	const struct vfsd_source_ops *source;
	const struct vfsd_source_ops *fallback; /* may be NULL */
	int root_fd;				/* O_PATH of the share; borrowed */
	int proc_self_fd;			/* borrowed */
};

enum { VFSD_WATCH_CONSUMERS_MAX = 16, VFSD_WATCHES_MAX = 64 };

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

/* 0 or -ENOMEM. Nothing is watched yet. */
int vfsd_watch_registry_create(const struct vfsd_watch_config *config,
			       struct vfsd_watch_registry **ret);
void vfsd_watch_registry_destroy(struct vfsd_watch_registry *registry);

/*
 * Add a consumer. A byte is sent on @notify_fd (owned; a connected socket) when records wait for one
 * that has read everything; it is shut down if the consumer corrupts its ring. *ring_fd, borrowed, is
 * the memory. Returns the consumer's number > 0, or -errno: -EUSERS, -EINVAL, or the host's
 * error. The failure of a single watch is a record in the ring.
 */
int vfsd_watch_add_consumer(struct vfsd_watch_registry *registry, const vfsd_watch_request *request,
			    int notify_fd, int *ring_fd);

/* Report a change of a mount below the share to the consumers that watch there. */
void vfsd_watch_report_mount(struct vfsd_watch_registry *registry, const vfsd_watch_mount *mount);

/* Remove a consumer and its watches. -ENOENT: there is none of this number. */
int vfsd_watch_remove_consumer(struct vfsd_watch_registry *registry, int consumer);

#endif
