/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch/internal - what registry.c (consumers and their thread), node.c (which directories a
 * watch covers), place.c (where they are), scan.c (what is in them) and dispatch.c (from
 * events to records) share. Nobody else includes this.
 * All of it is protected by local.lock.
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
struct vfsd_local_consumer;

/* All that inotify and fanotify call by the same bit: FAN_ACCESS to FAN_MOVE_SELF. */
enum { VFSD_LOCAL_EVENTS = 0xfff };

struct vfsd_local_watch {
	struct vfsd_local_consumer *consumer;
	uint64_t owner; /* in marks; never used again */
	uint32_t id;	/* the consumer's */
	uint32_t mask;
	bool recursive;
	bool ready;
	size_t to_scan; /* directories */
	char *path;
	struct vfsd_dirtree *tree; /* NULL: failed or gone */
	uint64_t *above;	   /* node ids of the directories that the path leads through */
	uint32_t n_above;
	uint32_t doubts; /* rounds since nobody knows where it is; names below it are not told */
};

struct vfsd_local_consumer {
	struct vfsd_local_consumer *next;
	int number;
	int bell_fd;
	bool broken;
	uint32_t types;
	uint64_t subtypes[VFSD_RECORD_TYPE_COUNT];
	struct vfsd_sharedring *ring;
	uint32_t n_watches;
	struct vfsd_local_watch watches[];
};

/* What is known of a directory that was found. */
enum vfsd_local_found {
	VFSD_FOUND_NEW = 1, /* so is what is in it, and to be told of */
	VFSD_FOUND_MOVED =
		2, /* where it was before, it is no more; else one of a bind mount's places */
	VFSD_FOUND_TRY = 4, /* added each time that it was not in its place when looked through */
};

/* A directory to be looked through. */
struct vfsd_local_scan {
	uint64_t owner;
	uint64_t nodeid;
	uint32_t found; /* of what is in it: enum vfsd_local_found */
};

struct vfsd_local {
	struct vfsd_local_config config;
	struct vfsd_fairlock lock;

	struct vfsd_local_consumer *consumers;
	int last_number;
	uint64_t last_owner;

	/* While there are consumers. */
	struct vfsd_quota quota;
	struct vfsd_inodes *inodes;
	struct vfsd_marks *marks;
	struct vfsd_source *source;
	struct vfsd_marks *error_marks; /* roots of filesystems of which errors are told */
	struct vfsd_source *errors;	/* NULL until somebody wants them */
	struct vfsd_thread thread;
	bool thread_running;
	int epoll_fd;
	int wake_fd;
	bool stop;

	struct vfsd_local_scan *scans; /* a stack */
	size_t n_scans, room_scans;
};

/* registry.c */

/* There is something to do for the thread, if there is one. */
void vfsd_local_wake(struct vfsd_local *local);

/* node.c */

/* Find what @watch is to watch and begin; failure is told to the consumer. */
void vfsd_local_watch_begin(struct vfsd_local *local, struct vfsd_local_watch *watch);
/* Drop its interest in everything. */
void vfsd_local_watch_end(struct vfsd_local *local, struct vfsd_local_watch *watch);
/* A directory has appeared, or has gone, as @event says, which is of one that @watch covers. */
void vfsd_local_watch_follow(struct vfsd_local *local, struct vfsd_local_watch *watch,
			     const struct vfsd_source_event *event);
/* See what is called @name in @dir, which @watch covers: if that is a directory, it does so too. */
void vfsd_local_watch_look(struct vfsd_local *local, struct vfsd_local_watch *watch, uint64_t dir,
			   const char *name);
/* Drop the interest in directories that have left. */
void vfsd_local_watch_sweep(struct vfsd_local *local, struct vfsd_local_watch *watch);
/* Everything is watched that was there when it began: tell so, once. */
void vfsd_local_watch_ready(struct vfsd_local_watch *watch);
/* @name in @dir, or that itself, cannot be watched. Tell so, unless it is gone: that tells itself. */
void vfsd_local_watch_incomplete(struct vfsd_local_watch *watch, uint64_t dir, const char *name,
				 int err);
/*
 * Watch the directory called @name in @dir_fd, which is @dir, if that is what it is. @found: enum
 * vfsd_local_found.
 */
void vfsd_local_watch_add(struct vfsd_local *local, struct vfsd_local_watch *watch, uint64_t dir,
			  int dir_fd, const char *name, uint32_t found);
/* What @fd (consumed) is, with one lookup counted; transient reference. 0 or -errno. */
int vfsd_local_know(struct vfsd_local *local, int fd, struct vfsd_inode **ret);
/* Set what @watch wants of @inode; 0 drops it. 0 or -errno. */
int vfsd_local_set_interest(struct vfsd_local *local, const struct vfsd_local_watch *watch,
			    struct vfsd_inode *inode, uint32_t mask);
/* No interest any more, and one lookup less. */
void vfsd_local_drop(struct vfsd_local *local, const struct vfsd_local_watch *watch,
		     uint64_t nodeid);

/* place.c */

/*
 * Open (O_PATH) what is at @path below @root_fd: nothing above that, and no link, for a watch is of
 * what its path says. The fd or -errno.
 */
int vfsd_local_open(int root_fd, const char *path);
/* Is @fd, which is @nodeid, where @watch takes it to be? If not, an event that says so is waiting. */
bool vfsd_local_in_place(const struct vfsd_local *local, const struct vfsd_local_watch *watch,
			 uint64_t nodeid, int fd);
/*
 * Where what @watch is of is now. Not known is where it is if it cannot be opened: it has
 * ended, and that is told next, or it is where we may not open anything.
 */
enum vfsd_local_place {
	VFSD_PLACE_SHARED,
	VFSD_PLACE_OUTSIDE,
	VFSD_PLACE_UNKNOWN,
};
enum vfsd_local_place vfsd_local_place(const struct vfsd_local *local,
				       const struct vfsd_local_watch *watch);
/* Hear of moves of the directories that the path leads through. 0 or -errno; then drop, too. */
int vfsd_local_above_watch(struct vfsd_local *local, struct vfsd_local_watch *watch);
void vfsd_local_above_drop(struct vfsd_local *local, struct vfsd_local_watch *watch);

/* scan.c */

/* Have a directory that @watch covers looked through; @found: enum vfsd_local_found. 0 or -ENOMEM. */
int vfsd_local_scan_push(struct vfsd_local *local, struct vfsd_local_watch *watch, uint64_t nodeid,
			 uint32_t found);
/* Look through one directory. False: there was none left. */
bool vfsd_local_scan_one(struct vfsd_local *local);
/* Nobody knows what was missed: look through everything again. */
void vfsd_local_scan_again(struct vfsd_local *local);

/* errors.c */

/*
 * Hear of errors of the filesystem that @root is a part of, if the consumer wants to. 0 or -errno:
 * -EPERM where we may not.
 */
int vfsd_local_errors_want(struct vfsd_local *local, const struct vfsd_local_watch *watch,
			   struct vfsd_inode *root);
void vfsd_local_errors_drop(struct vfsd_local *local, const struct vfsd_local_watch *watch,
			    struct vfsd_inode *root);
void vfsd_local_errors_drain(struct vfsd_local *local);

/* dispatch.c */

void vfsd_local_tell_event(struct vfsd_local *local, struct vfsd_local_watch *watch,
			   const struct vfsd_source_event *event);
/* What @watch is of may have been moved: see where it is. False: it has left. */
bool vfsd_local_follow_root(struct vfsd_local *local, struct vfsd_local_watch *watch);
/* What @watch is of is not in the share any more. */
void vfsd_local_tell_gone(struct vfsd_local *local, struct vfsd_local_watch *watch);
/* @name in @nodeid was found where an event for it may have been missed. */
void vfsd_local_tell_found(struct vfsd_local_watch *watch, uint64_t nodeid, const char *name,
			   bool is_dir);
/* @path: what it is about; @error: negative errno or 0. */
void vfsd_local_tell_status(struct vfsd_local_watch *watch, enum vfsd_watch_status status,
			    int error, const char *path);
void vfsd_local_tell_mounted(struct vfsd_local_watch *watch, const vfsd_local_mount *mount);
void vfsd_local_tell_error(struct vfsd_local_watch *watch, const struct vfsd_source_event *event);
void vfsd_local_tell_loss(struct vfsd_local_consumer *consumer, uint64_t count);

#endif
