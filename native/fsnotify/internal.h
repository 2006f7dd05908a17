/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/internal - what session.c (sessions, rings, the thread), interest.c (the guest's subscriptions) and
 * deliver.c (events on their way to the guest) share. Nobody else includes this.
 */
#ifndef VFSD_FSNOTIFY_INTERNAL_H
#define VFSD_FSNOTIFY_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fsnotify/events.h"
#include "base/fair_lock.h"
#include "fsnotify/fs_errors.h"
#include "fuse/fuse.h"
#include "source/source.h"
#include "base/thread.h"

struct vfsd_events {
	struct vfsd_events_config config;
	int epoll_fd;
	int stop_fd;
	struct vfsd_thread thread;
	bool thread_running;

	struct vfsd_fairlock lock; /* the event lock; protects all below */
	struct vfsd_marks *marks;
	struct vfsd_record_ring *ring;
	struct vfsd_fs_errors errors;
	struct vfsd_notify *notify;
	struct vfsd_source *source; /* NULL while no session wants events */
	bool offered;
	int kick_fd;   /* -1 while the ring is stopped */
	uint16_t base; /* where the driver's ring was when it stopped */
	bool muted;    /* nothing is delivered until a request ring starts: it may be a new guest */
	int err_fd;

	/* Filesystem marks, by their roots. */
	uint32_t n_filesystems;
	struct filesystem {
		uint64_t nodeid;
		uint32_t mask;
	} filesystems[VFSD_SOURCE_FILESYSTEMS_MAX];

	/* How many inodes and filesystems are watched: without any, a barrier costs one load. */
	_Atomic size_t watched;
};

static inline void vfsd_events_enter(struct vfsd_events *events)
{
	vfsd_fairlock_enter(&events->lock);
}

static inline void vfsd_events_leave(struct vfsd_events *events)
{
	vfsd_fairlock_leave(&events->lock);
}

/* deliver.c; @ctx is the struct vfsd_events. Event lock held. */

/* Move records from the record ring to the guest's ring, as far as there are buffers. */
void vfsd_events_flush(void *ctx);
/* Move all events that the host has now to the guest's ring. */
void vfsd_events_pump(struct vfsd_events *events);

/* interest.c; @ctx is the struct vfsd_events */

/* Remove all watches of @inode, which the guest does not hold any more. Event lock held. */
void vfsd_events_drop_interest(void *ctx, struct vfsd_inode *inode);

/* Remove filesystem marks whose root was removed or unmounted. Event lock held. */
void vfsd_events_end_roots(void *ctx);

/* Members of struct vfsd_fuse_hooks. */
int vfsd_events_hook_subscribe(void *ctx, struct vfsd_inode *inode,
			       const struct vfsd_fuse_interest *interest);
void vfsd_events_hook_forgotten(void *ctx, struct vfsd_inode *inode);

#endif
