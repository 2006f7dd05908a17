/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch/internal - what the files of this folder share; nobody else includes it. Each of them calls only
 * those that stand before it: record, errors, interest, place, node, scan, dispatch, registry, mounts.
 * registry.lock protects all of it.
 */
#ifndef VFSD_WATCH_INTERNAL_H
#define VFSD_WATCH_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/fair_lock.h"
#include "watch/watch.h"
#include "base/quota.h"
#include "base/thread.h"

struct vfsd_inode;
struct vfsd_source_event;
struct vfsd_watch_consumer;

/* All that inotify and fanotify call by the same bit: FAN_ACCESS to FAN_MOVE_SELF. */
enum { VFSD_WATCH_EVENTS = 0xfff };

struct vfsd_watch {
	struct vfsd_watch_consumer *consumer;
	uint64_t owner; /* in marks; never used again */
	uint32_t id;	/* the consumer's */
	uint32_t mask;
	bool recursive;
	bool ready;
	size_t to_scan; /* directories */
	char *path;
	struct vfsd_path_tree *tree; /* NULL: failed or gone */
	uint64_t *parents;	     /* node ids of the directories that the path leads through */
	uint32_t n_parents;
	uint32_t unknown_rounds; /* since its place is unknown; names below it are not reported then */
};

struct vfsd_watch_consumer {
	struct vfsd_watch_consumer *next;
	int number;
	int notify_fd;
	bool broken;
	uint32_t types;
	uint64_t subtypes[VFSD_RECORD_TYPES];
	struct vfsd_shm_ring *ring;
	uint32_t n_watches;
	struct vfsd_watch watches[];
};

/* How a directory was found. */
enum vfsd_watch_found {
	VFSD_FOUND_NEW = 1,   /* the directory is new: its entries are reported */
	VFSD_FOUND_MOVED = 2, /* it left its old place; else this is one place of a bind mount */
	VFSD_FOUND_TRY = 4,   /* added each time that a scan did not find it in its place */
};

/* A directory to be scanned. */
struct vfsd_watch_scan {
	uint64_t owner;
	uint64_t nodeid;
	uint32_t found; /* enum vfsd_watch_found, of its entries */
};

struct vfsd_watch_registry {
	struct vfsd_watch_config config;
	struct vfsd_fairlock lock;

	struct vfsd_watch_consumer *consumers;
	int last_number;
	uint64_t last_owner;

	/* While there are consumers. */
	struct vfsd_quota quota;
	struct vfsd_inodes *inodes;
	struct vfsd_marks *marks;
	struct vfsd_source *source;
	struct vfsd_marks *error_marks; /* roots of filesystems whose errors are reported */
	struct vfsd_source *errors;	/* NULL until a consumer wants errors */
	struct vfsd_thread thread;
	bool thread_running;
	int epoll_fd;
	int wake_fd;
	bool stop;

	struct vfsd_watch_scan *scans; /* a stack */
	size_t n_scans, room_scans;
};

/*
 * record.c: writes records, those that the consumer's filters let through, into its ring.
 */

/* @path: what it is about; @error: negative errno or 0. */
void vfsd_watch_record_status(struct vfsd_watch *watch, enum vfsd_watch_status status, int error,
			      const char *path);
/*
 * An event of @name in @nodeid, or of that itself if @name is NULL. @mask: one bit, and FAN_ONDIR;
 * @fields: what of the payload neither mask nor path says.
 */
void vfsd_watch_record_event(struct vfsd_watch *watch, uint64_t nodeid, const char *name,
			     uint32_t mask, const struct vfsd_watch_event_payload *fields);
void vfsd_watch_record_error(struct vfsd_watch *watch, const struct vfsd_source_event *event);
void vfsd_watch_record_mount(struct vfsd_watch *watch, const vfsd_watch_mount *mount);
void vfsd_watch_record_loss(struct vfsd_watch_consumer *consumer, uint64_t count);

/*
 * errors.c: errors of the filesystems that are watched.
 */

/*
 * Begin to report errors of the filesystem that @root is a part of, if the consumer asked for errors.
 * 0 or -errno: -EPERM without the privilege.
 */
int vfsd_watch_errors_want(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			   struct vfsd_inode *root);
void vfsd_watch_errors_drop(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			    struct vfsd_inode *root);
void vfsd_watch_errors_drain(struct vfsd_watch_registry *registry);

/*
 * interest.c: what a watch wants to receive of one inode.
 */

/* Look up the inode of @fd (consumed), with one lookup counted; transient reference. 0 or -errno. */
int vfsd_watch_lookup_fd(struct vfsd_watch_registry *registry, int fd, struct vfsd_inode **ret);
/* Set what @watch wants of @inode; 0 drops it. 0 or -errno. */
int vfsd_watch_set_interest(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			    struct vfsd_inode *inode, uint32_t mask);
/* Give back the lookup that vfsd_watch_lookup_fd() has counted. The root has none. */
void vfsd_watch_forget(struct vfsd_watch_registry *registry, uint64_t nodeid);
/* End the interest of @watch in @nodeid, in its errors too, and forget it. */
void vfsd_watch_drop_interest(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			      uint64_t nodeid);

/*
 * place.c: where what a watch covers is.
 */

/* Is @fd, which is @nodeid, where @watch takes it to be? If not, an event that says so is waiting. */
bool vfsd_watch_is_in_place(const struct vfsd_watch_registry *registry,
			    const struct vfsd_watch *watch, uint64_t nodeid, int fd);
/*
 * Where the root of @watch is now. UNKNOWN: it cannot be opened. Either it was removed, which is
 * reported next, or it is where the daemon may not open anything.
 */
enum vfsd_watch_place {
	VFSD_PLACE_SHARED,
	VFSD_PLACE_OUTSIDE,
	VFSD_PLACE_UNKNOWN,
};
enum vfsd_watch_place vfsd_watch_place_of(const struct vfsd_watch_registry *registry,
					  const struct vfsd_watch *watch);
/* Watch the directories that the path leads through for being moved. 0 or -errno; then drop, too. */
int vfsd_watch_parents_add(struct vfsd_watch_registry *registry, struct vfsd_watch *watch);
void vfsd_watch_parents_drop(struct vfsd_watch_registry *registry, struct vfsd_watch *watch);

/*
 * node.c: which directories a watch covers.
 */

/* Find what @watch is to watch and begin; the consumer receives a record of a failure. */
void vfsd_watch_begin(struct vfsd_watch_registry *registry, struct vfsd_watch *watch);
/* Drop its interest in everything. */
void vfsd_watch_end(struct vfsd_watch_registry *registry, struct vfsd_watch *watch);
/* Report that the root of @watch is in the share no more, and end the watch, once. */
void vfsd_watch_end_gone(struct vfsd_watch_registry *registry, struct vfsd_watch *watch);
/* Follow @event: a directory has appeared in, or left, one that @watch covers. */
void vfsd_watch_follow(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
		       const struct vfsd_source_event *event);
/* Cover what is called @name in @dir, which @watch covers, if that is a directory. */
void vfsd_watch_look_up(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			uint64_t dir, const char *name);
/* Drop the interest in directories that have left. */
void vfsd_watch_sweep(struct vfsd_watch_registry *registry, struct vfsd_watch *watch);
/* Report, once, that everything is watched that was there when the watch began, if so. */
void vfsd_watch_report_ready(struct vfsd_watch *watch);
/* Report that @name in @dir, or @dir, cannot be watched. If it is gone, an event says so instead. */
void vfsd_watch_report_incomplete(struct vfsd_watch *watch, uint64_t dir, const char *name,
				  int err);
/*
 * Cover the directory called @name in @dir_fd, which is @dir, if that is what it is. @found: enum
 * vfsd_watch_found.
 */
void vfsd_watch_add_dir(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			uint64_t dir, int dir_fd, const char *name, uint32_t found);
/* Have a directory that @watch covers scanned; @found: enum vfsd_watch_found. 0 or -ENOMEM. */
int vfsd_watch_scan_push(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			 uint64_t nodeid, uint32_t found);

/*
 * scan.c: what is in these directories.
 */

/* Scan one directory. False: there was none left. */
bool vfsd_watch_scan_one(struct vfsd_watch_registry *registry);
/* Have everything scanned again: events were lost. */
void vfsd_watch_scan_again(struct vfsd_watch_registry *registry);

/*
 * dispatch.c: from host events to the watches they concern.
 */

/* Receive what the host holds, then do some of what else there is to do. True: there is more of that. */
bool vfsd_watch_dispatch(struct vfsd_watch_registry *registry);

/*
 * registry.c: consumers, and the thread that serves them.
 */

/* Wake the thread, if there is one. */
void vfsd_watch_wake(struct vfsd_watch_registry *registry);

#endif
