/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
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
#include "fuse/wire.h"
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

/* stat(2) of what is called @name in @inode, "": of that itself. 0 or -errno. */
static int stat_node(struct vfsd_inodes *inodes, struct vfsd_inode *inode, const char *name,
		     struct stat *ret)
{
	bool transient;
	int fd = vfsd_inode_fd_get(inodes, inode, &transient);
	int error = 0;

	if (fd < 0)
		return fd;
	if (fstatat(fd, name, ret, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0)
		error = -errno;
	vfsd_inode_fd_put(fd, transient);
	return error;
}

/* For the feed: what something is. */
static uint32_t type_of(void *ctx, uint64_t node, const char *name)
{
	struct vfsd_inodes *inodes = ctx;
	struct vfsd_inode *inode = vfsd_inode_get(inodes, node);
	uint32_t type = 0;
	struct stat st;

	if (!inode)
		return 0;
	if (!name)
		type = inode->type;
	else if (*name && stat_node(inodes, inode, name, &st) == 0)
		type = st.st_mode & S_IFMT;
	vfsd_inode_put(inodes, inode);
	return type;
}

/* For the feed: has it a link left? */
static bool has_name(void *ctx, uint64_t node)
{
	struct vfsd_inodes *inodes = ctx;
	struct vfsd_inode *inode = vfsd_inode_get(inodes, node);
	struct stat st = {.st_nlink = 1};
	int error;

	if (!inode)
		return true;
	error = stat_node(inodes, inode, "", &st);
	vfsd_inode_put(inodes, inode);
	return error != -ESTALE && st.st_nlink > 0;
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
	agent->feed.has_name = has_name;
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
		vfsd_record_ring_put_loss(agent->events->ring, 1);
}

void vfsd_events_agent_flush(struct vfsd_events_agent *agent)
{
	size_t room, bytes;

	if (!agent->reading || vfsd_record_ring_empty(agent->events->ring))
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
	/* No event has neither a bit nor an end. */
	const struct fuse_notify_fsnotify_out out = {.nodeid = nodeid};

	if (!vfsd_events_agent_is_open(agent))
		return;
	(void)vfsd_record_ring_put(agent->events->ring, VFSD_RECORD_FSNOTIFY, 0, &out, sizeof(out));
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

ssize_t vfsd_events_agent_read(struct vfsd_events_agent *agent, struct vfsd_request *req, void *to,
			       size_t room)
{
	static const struct vfsd_deferred_ops ops = {.interrupted = on_interrupted,
						     .gone = on_gone};
	const struct itimerspec wait = {.it_value = {.tv_sec = WAIT_S}};
	size_t bytes = vfsd_agent_feed_take(&agent->feed, agent->events->ring, to, room);
	int err;

	if (bytes > 0) {
		vfsd_agent_deliver(agent->session, to, bytes);
		return (ssize_t)bytes;
	}
	err = vfsd_request_defer(req, &ops, agent, &agent->reading);
	if (err)
		agent->reading = NULL;
	else
		(void)timerfd_settime(agent->timer_fd, 0, &wait, NULL);
	return err;
}

bool vfsd_events_agent_is_read(const struct vfsd_events_agent *agent)
{
	return agent->reading != NULL;
}
