/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/agent - the other way for events to reach a guest: the file that its agent reads, where the guest's
 * kernel has no notification queue. Interest, ring, order and loss are those of fsnotify/events.
 *
 * A READ waits as a deferred request until there is something in the event ring, for ten seconds at most.
 * Owner thread: the holder of the event lock for all but create and destroy.
 */
#ifndef VFSD_FSNOTIFY_AGENT_H
#define VFSD_FSNOTIFY_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vfsd_agent;
struct vfsd_events;
struct vfsd_events_agent;
struct vfsd_request;

/* @session, and @events, are borrowed. 0 or -errno. */
int vfsd_events_agent_create(struct vfsd_events *events, struct vfsd_agent *session,
			     struct vfsd_events_agent **ret);
void vfsd_events_agent_destroy(struct vfsd_events_agent *agent);

/* A timer's descriptor: readable when vfsd_events_agent_expire() should be called. Borrowed. */
int vfsd_events_agent_fd(const struct vfsd_events_agent *agent);

/* Is a session open, so that events go this way? */
bool vfsd_events_agent_is_open(const struct vfsd_events_agent *agent);

/* Give what waits in the ring to a READ that waits. */
void vfsd_events_agent_flush(struct vfsd_events_agent *agent);
/*
 * The guest forgot @nodeid, for which there was interest. It may get the id again: who watches it then has
 * to be told anew.
 */
void vfsd_events_agent_forgotten(struct vfsd_events_agent *agent, uint64_t nodeid);
/* A READ has waited for long enough: it gets nothing, and whoever sent it can be stopped. */
void vfsd_events_agent_expire(struct vfsd_events_agent *agent);
/* The session with the guest is void, and the agent's with it. */
void vfsd_events_agent_reset(struct vfsd_events_agent *agent);

/* Does a READ wait? There is one at a time. */
bool vfsd_events_agent_is_read(const struct vfsd_events_agent *agent);
/*
 * A READ with @room (VFSD_AGENT_FEED_MIN or more) for its reply. Returns the bytes of the batch that waited, now
 * at @to; if none did, 0: @req was deferred; or -errno.
 */
ssize_t vfsd_events_agent_read(struct vfsd_events_agent *agent, struct vfsd_request *req, void *to,
			       size_t room);

#endif
