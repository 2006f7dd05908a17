/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/nowait.h"
#include "fsnotify/agent_feed.h"
#include "fsnotify/internal.h"
#include "fsnotify/record_ring.h"
#include "fuse/agent.h"
#include "fuse/deferred.h"
#include "inode/inode.h"

enum { WAIT_S = 10 };

struct vfsd_events_agent {
	struct vfsd_events *events;
	struct vfsd_agent *session;
	struct vfsd_agent_feed feed;
	int timer_fd;
	struct vfsd_deferred *reading; /* NULL: no READ waits */
	_Alignas(8) uint8_t batch[VFSD_AGENT_BATCH_MAX];
};

/* For the feed: what something is. */
static uint32_t type_of(void *ctx, uint64_t node, const char *name)
{
	struct vfsd_inodes *inodes = ctx;
	struct vfsd_inode *inode = vfsd_inode_get(inodes, node);
	uint32_t type = 0;
	bool transient;
	struct stat st;
	int fd;

	if (!inode)
		return 0;
	if (!name) {
		type = inode->type;
	} else {
		fd = vfsd_inode_fd_get(inodes, inode, &transient);
		if (fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			type = st.st_mode & S_IFMT;
		if (fd >= 0)
			vfsd_inode_fd_put(fd, transient);
	}
	vfsd_inode_put(inodes, inode);
	return type;
}

int vfsd_events_agent_create(struct vfsd_events *events, struct vfsd_agent *session,
			     struct vfsd_events_agent **ret)
{
	struct vfsd_events_agent *agent = calloc(1, sizeof(*agent));
	int err;

	if (!agent)
		return -ENOMEM;
	agent->events = events;
	agent->session = session;
	agent->feed.type_of = type_of;
	agent->feed.ctx = events->config.inodes;
	agent->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (agent->timer_fd < 0) {
		err = -errno;
		free(agent);
		return err;
	}
	*ret = agent;
	return 0;
}

void vfsd_events_agent_destroy(struct vfsd_events_agent *agent)
{
	if (!agent)
		return;
	(void)close(agent->timer_fd);
	free(agent);
}

int vfsd_events_agent_fd(const struct vfsd_events_agent *agent)
{
	return agent->timer_fd;
}

bool vfsd_events_agent_is_open(const struct vfsd_events_agent *agent)
{
	return vfsd_agent_is_open(agent->session);
}

/* Nobody waits any more. */
static void answer(struct vfsd_events_agent *agent, int error, size_t bytes)
{
	struct vfsd_deferred *reading = agent->reading;

	agent->reading = NULL;
	/* What a READ that had gone should have brought is lost, which the next one says. */
	if (vfsd_deferred_complete(reading, error, agent->batch, bytes) != 0 && bytes != 0)
		vfsd_eventring_put_loss(agent->events->ring, 1);
}

void vfsd_events_agent_flush(struct vfsd_events_agent *agent)
{
	size_t room, bytes;

	if (!agent->reading || vfsd_eventring_empty(agent->events->ring))
		return;
	room = vfsd_deferred_room(agent->reading);
	if (room > sizeof(agent->batch))
		room = sizeof(agent->batch);
	bytes = vfsd_agent_feed_take(&agent->feed, agent->events->ring, agent->batch, room);
	if (bytes == 0)
		return;
	vfsd_agent_deliver(agent->session, agent->batch, bytes);
	answer(agent, 0, bytes);
}

void vfsd_events_agent_forgotten(struct vfsd_events_agent *agent, uint64_t nodeid)
{
	if (!vfsd_events_agent_is_open(agent))
		return;
	(void)vfsd_eventring_put(agent->events->ring, VFSD_RECORD_FORGOTTEN, 0, &nodeid,
				 sizeof(nodeid));
	vfsd_events_agent_flush(agent);
}

void vfsd_events_agent_expire(struct vfsd_events_agent *agent)
{
	uint64_t times;

	/* A timer that was set anew meanwhile has not run out. */
	if (read(agent->timer_fd, &times, sizeof(times)) != sizeof(times) || !agent->reading)
		return;
	answer(agent, 0, 0);
}

void vfsd_events_agent_reset(struct vfsd_events_agent *agent)
{
	if (agent->reading)
		answer(agent, -EIO, 0);
	vfsd_agent_reset(agent->session);
	vfsd_agent_feed_reset(&agent->feed);
}

/* Its ring stops, or the guest begins anew. @ctx is the struct vfsd_events_agent. */
static void on_gone(void *ctx, struct vfsd_deferred *request)
{
	struct vfsd_events_agent *agent = ctx;

	vfsd_events_enter(agent->events);
	if (agent->reading == request)
		answer(agent, -EIO, 0);
	vfsd_events_leave(agent->events);
}

static void on_interrupted(void *ctx, struct vfsd_deferred *request)
{
	struct vfsd_events_agent *agent = ctx;

	vfsd_events_enter(agent->events);
	if (agent->reading == request)
		answer(agent, -EINTR, 0);
	vfsd_events_leave(agent->events);
}

static int hook_open(void *ctx, uint64_t *fh)
{
	struct vfsd_events *events = ctx;
	int err;

	vfsd_events_enter(events);
	err = vfsd_agent_begin(events->agent->session, fh);
	if (!err) {
		err = vfsd_events_begin_for_agent(events);
		if (err)
			(void)vfsd_agent_end(events->agent->session, *fh);
	}
	vfsd_events_leave(events);
	return err;
}

static void hook_close(void *ctx)
{
	struct vfsd_events *events = ctx;

	vfsd_events_enter(events);
	/* Whoever opened it anew meanwhile keeps what is his. */
	if (!vfsd_agent_is_open(events->agent->session))
		vfsd_events_end_for_agent(events);
	vfsd_events_leave(events);
	vfsd_log(VFSD_LOG_INFO, "agent: session ended");
}

static ssize_t hook_read(void *ctx, struct vfsd_request *req, void *to, size_t room)
{
	static const struct vfsd_deferred_ops ops = {.interrupted = on_interrupted,
						     .gone = on_gone};
	const struct itimerspec wait = {.it_value = {.tv_sec = WAIT_S}};
	struct vfsd_events *events = ctx;
	struct vfsd_events_agent *agent = events->agent;
	ssize_t n;

	if (room < VFSD_AGENT_FEED_MIN)
		return -EINVAL;
	vfsd_events_enter(events);
	if (agent->reading) {
		n = -EBUSY;
		goto out;
	}
	vfsd_agent_deliver(agent->session, NULL, 0); /* what was due is done */
	vfsd_events_pump(events);
	n = (ssize_t)vfsd_agent_feed_take(&agent->feed, events->ring, to, room);
	if (n > 0) {
		vfsd_agent_deliver(agent->session, to, (size_t)n);
		goto out;
	}
	n = vfsd_request_defer(req, &ops, agent, &agent->reading);
	if (n == 0)
		(void)timerfd_settime(agent->timer_fd, 0, &wait, NULL);
	else
		agent->reading = NULL;
out:
	vfsd_events_leave(events);
	return n;
}

static int hook_watch(void *ctx, struct vfsd_inode *inode, uint32_t mask)
{
	const struct vfsd_fuse_interest interest = {
		.mask = mask != 0 && inode->type == S_IFDIR ? mask | FAN_EVENT_ON_CHILD : mask};

	return vfsd_events_hook_subscribe(ctx, inode, &interest);
}

void vfsd_events_agent_hooks(struct vfsd_fuse_hooks *hooks)
{
	hooks->agent_open = hook_open;
	hooks->agent_close = hook_close;
	hooks->agent_read = hook_read;
	hooks->agent_watch = hook_watch;
}
