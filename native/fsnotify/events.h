/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/events - the event path of one guest: source, marks, event ring, notification queue, and their
 * thread. Part of the engine, which joins the folders.
 *
 * One lock, the event lock, makes the path a single line: whoever holds it (the event thread when
 * the host has news, a queue thread in the barrier) moves everything from the host's queue to the
 * guest's ring before it lets go, so the host's order is kept.
 * Lock order: event lock, then the locks inside inode. Nobody waits for the guest under it.
 * Owner thread: control thread for create, start, stop and destroy; hooks come from queue threads.
 */
#ifndef VFSD_FSNOTIFY_EVENTS_H
#define VFSD_FSNOTIFY_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "fsnotify/options.h"

struct vfsd_events;
struct vfsd_fuse_hooks;
struct vfsd_inode;
struct vfsd_inodes;
struct vfsd_mem;
struct vfsd_source_ops;
struct vfsd_vring_setup;

struct vfsd_events_config {
	struct vfsd_fsnotify_options options;
	const struct vfsd_source_ops *source;
	const struct vfsd_source_ops *fallback; /* may be NULL */
	struct vfsd_inodes *inodes;		/* borrowed */
	int proc_self_fd;			/* borrowed */
	bool cross_mounts;			/* submounts are no filesystems of their own */
	bool rfc2021;				/* the guest speaks the old dialect */
};

/* 0 or -errno. */
int vfsd_events_create(const struct vfsd_events_config *config, struct vfsd_events **ret);
void vfsd_events_destroy(struct vfsd_events *events);

/*
 * Does the source work on this host and share, or else the fallback, which is used from then on?
 * 0: the source does. 1: only the fallback, and *why is what the source failed with. -errno: none.
 * Before the first session.
 */
int vfsd_events_probe(struct vfsd_events *events, int *why);

/* The driver acked the notification queue (or not): decides what the next INIT is granted. */
void vfsd_events_set_offered(struct vfsd_events *events, bool offered);

/* The hooks through which fuse/ reaches this folder. */
struct vfsd_fuse_hooks vfsd_events_hooks(struct vfsd_events *events);

/*
 * Migration. Tell @each about every watch, after *server_mask: what the source reports for
 * everybody's doing (all bits: in the old dialect). -ENOENT: there is no session with events. The
 * guest's rings rest.
 */
int vfsd_events_save(struct vfsd_events *events, uint32_t *server_mask,
		     void (*each)(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask),
		     void *ctx);

/*
 * Go on with a session that another daemon began, without a watch at first. 0 or -errno;
 * -ENOTSUP: what the guest was told about @server_mask is not so here.
 */
int vfsd_events_resume(struct vfsd_events *events, uint32_t server_mask);

/* The owner by which vfsd_events_save() tells that the whole filesystem with that root is watched. */
#define VFSD_EVENTS_WHOLE UINT64_MAX

/* Let go of the nodes that are kept for the guest: what is saved is what it holds itself. */
void vfsd_events_let_go(struct vfsd_events *events);

/* Watch @inode, as a guest's FUSE_FSNOTIFY does. 0 or -errno. */
int vfsd_events_watch(struct vfsd_events *events, struct vfsd_inode *inode, uint64_t owner,
		      uint32_t mask);

/*
 * What is called @name in the directory @nodeid is something else now, without that anything has
 * happened to it that watchers are told of: a mount. Have the guest look it up again, by a report of
 * a kind that nobody in the guest wants of this directory. If every kind is wanted, it is told as
 * created.
 */
void vfsd_events_expire(struct vfsd_events *events, uint64_t nodeid, const char *name);

/* Something was mounted or unmounted: what is not there any more is not watched as a whole either. */
void vfsd_events_see_mounts(struct vfsd_events *events);

/* Nobody knows what happened until now: have the guest told that it missed events. */
void vfsd_events_tell_loss(struct vfsd_events *events);

/*
 * The notification ring. Descriptors and @mem are borrowed until the stop; call may be -1.
 * @alone: no request ring runs yet, so that a ring at its beginning may be a new guest's.
 */
int vfsd_events_start_ring(struct vfsd_events *events, const struct vfsd_mem *mem,
			   const struct vfsd_vring_setup *setup, int kick_fd, int call_fd,
			   int err_fd, bool alone);
/*
 * A request ring is about to run. @anew: one that had got somewhere begins anew. If the notification
 * ring does too, whoever drives them is another guest.
 */
void vfsd_events_requests_begin(struct vfsd_events *events, bool anew);
uint16_t vfsd_events_stop_ring(struct vfsd_events *events);
void vfsd_events_set_call(struct vfsd_events *events, int call_fd);

#endif
