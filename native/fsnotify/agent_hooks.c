/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the requests for the agent's file mean for the events of this guest.
 */
#include <errno.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fsnotify/agent.h"
#include "fsnotify/agent_feed.h"
#include "fsnotify/internal.h"
#include "fuse/agent.h"
#include "inode/inode.h"

static int hook_open(void *ctx, uint64_t *fh)
{
	struct vfsd_events *events = ctx;
	int err;

	vfsd_events_enter(events);
	err = vfsd_agent_begin(events->config.agent, fh);
	if (!err) {
		err = vfsd_events_begin_for_agent(events);
		if (err)
			(void)vfsd_agent_end(events->config.agent, *fh);
	}
	vfsd_events_leave(events);
	return err;
}

static void hook_close(void *ctx)
{
	struct vfsd_events *events = ctx;

	vfsd_events_enter(events);
	/* Whoever opened it anew meanwhile keeps what is his. */
	if (!vfsd_agent_is_open(events->config.agent))
		vfsd_events_end_for_agent(events);
	vfsd_events_leave(events);
	vfsd_log(VFSD_LOG_INFO, "agent: session ended");
}

static ssize_t hook_read(void *ctx, struct vfsd_request *req, void *to, size_t room)
{
	struct vfsd_events *events = ctx;
	ssize_t n = -EBUSY;

	if (room < VFSD_AGENT_FEED_MIN)
		return -EINVAL;
	vfsd_events_enter(events);
	if (!vfsd_events_agent_is_read(events->agent)) {
		vfsd_agent_deliver(events->config.agent, NULL, 0); /* what was due is done */
		vfsd_events_pump(events);
		n = vfsd_events_agent_read(events->agent, req, to, room);
	}
	vfsd_events_leave(events);
	return n;
}

static int hook_watch(void *ctx, struct vfsd_inode *inode, uint32_t mask)
{
	const struct vfsd_fuse_interest interest = {
		.mask = mask != 0 && inode->type == S_IFDIR ? mask | FAN_EVENT_ON_CHILD : mask};

	return vfsd_events_hook_subscribe(ctx, inode, &interest);
}

void vfsd_events_agent_hooks(struct vfsd_events *events, struct vfsd_fuse_hooks *hooks)
{
	if (!events->agent)
		return;
	hooks->agent_open = hook_open;
	hooks->agent_close = hook_close;
	hooks->agent_read = hook_read;
	hooks->agent_watch = hook_watch;
}
