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

#include "fsnotify/records.h"
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
