/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/events - the event session of one guest: source, marks, record ring, notification queue and their
 * thread.
 *
 * The event lock keeps the host's order. Whoever holds it moves all events from the host's queue to the guest's
 * ring before releasing it: the event thread when the host's queue is readable, or a queue's thread in the
 * barrier.
 * Lock order: event lock, then the locks inside inode. Nobody waits for the guest under it.
 * Owner thread: the control thread, except for the hooks, which are called by the queues' threads.
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
	bool rfc2021;				/* the guest speaks the dialect of 2021 */
};

/* 0 or -errno. */
int vfsd_events_create(const struct vfsd_events_config *config, struct vfsd_events **ret);
void vfsd_events_destroy(struct vfsd_events *events);

/*
 * Test whether the source works on this host and share; if not, use the fallback from then on. 0: the source
 * works. 1: only the fallback does; *why is the error of the source. -errno: neither does.
 * Called before the first session.
 */
int vfsd_events_probe(struct vfsd_events *events, int *why);

/* Has the driver negotiated the notification queue? Only then does the next INIT grant fsnotify. */
void vfsd_events_set_offered(struct vfsd_events *events, bool offered);

/* The hooks through which fuse/ reaches this folder. */
struct vfsd_fuse_hooks vfsd_events_hooks(struct vfsd_events *events);

/*
 * Migration. Set *server_mask to the events that the daemon reports for the guest's own operations too (all
 * bits in the dialect of 2021), then call @each for every watch. 0; -ENOENT: there is no session with events.
 * No ring of the guest runs.
 */
int vfsd_events_save(struct vfsd_events *events, uint32_t *server_mask,
		     void (*each)(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask),
		     void *ctx);

/*
 * Resume a session that another daemon began, without watches at first. 0 or -errno; -ENOTSUP: this daemon
 * cannot report @server_mask as the guest was promised at INIT.
 */
int vfsd_events_resume(struct vfsd_events *events, uint32_t server_mask);

/* The owner of a filesystem mark in vfsd_events_save() and vfsd_events_watch(). */
#define VFSD_EVENTS_FILESYSTEM UINT64_MAX

/* Release the node ids that the source holds for the guest, so that only the guest's own are saved. */
void vfsd_events_release_nodes(struct vfsd_events *events);

/* Watch @inode, as a guest's FUSE_FSNOTIFY does. 0 or -errno. */
int vfsd_events_watch(struct vfsd_events *events, struct vfsd_inode *inode, uint64_t owner,
		      uint32_t mask);

/*
 * Make the guest look @name in the directory @nodeid up again: a mount has changed what it leads to, which is
 * no event for watchers. The guest drops its dentry on any event of that name, so a kind of event is sent that
 * nobody in the guest has asked for in this directory. If there is no such kind, CREATE is sent.
 */
void vfsd_events_expire(struct vfsd_events *events, uint64_t nodeid, const char *name);

/* The host's mount table has changed: remove filesystem marks whose root is gone. */
void vfsd_events_mounts_changed(struct vfsd_events *events);

/* Report a loss to the guest: events may have been missed. */
void vfsd_events_report_loss(struct vfsd_events *events);

/*
 * Start the notification ring. @mem and the descriptors are borrowed until it is stopped; call_fd may be -1.
 * @alone: no request ring runs yet, so a ring at index 0 may be a new guest's.
 */
int vfsd_events_start_ring(struct vfsd_events *events, const struct vfsd_mem *mem,
			   const struct vfsd_vring_setup *setup, int kick_fd, int call_fd,
			   int err_fd, bool alone);
/*
 * A request ring is about to start. @anew: it starts at index 0 and had been used before. If the notification
 * ring has started at 0 as well, this is another guest, and the session ends.
 */
void vfsd_events_requests_begin(struct vfsd_events *events, bool anew);
/* Stop the notification ring. Returns its next avail index. */
uint16_t vfsd_events_stop_ring(struct vfsd_events *events);
/* Replace the call descriptor, -1: none. The driver is signalled once, for what the old one may have missed. */
void vfsd_events_set_call(struct vfsd_events *events, int call_fd);

#endif
