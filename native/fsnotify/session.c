/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/events.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fsnotify/record_ring.h"
#include "fsnotify/internal.h"
#include "base/faults.h"
#include "inode/inode.h"
#include "base/log.h"
#include "source/marks.h"
#include "fsnotify/notify.h"
#include "base/nowait.h"
#include "source/source.h"
#include "base/util.h"
#include "virtio/vring.h"

enum wakeup { WAKE_STOP, WAKE_SOURCE, WAKE_KICK };

static void run(void *arg)
{
	struct vfsd_events *events = arg;
	struct epoll_event ready[4];

	for (;;) {
		int n = epoll_wait(events->epoll_fd, ready, VFSD_ARRAY_SIZE(ready), -1);

		if (n < 0 && errno != EINTR)
			return;
		for (int i = 0; i < n; i++)
			if (ready[i].data.u32 == WAKE_STOP)
				return;
		vfsd_faults_delay(events->stop_fd);
		/* A host that always has events must not keep other threads out. */
		vfsd_fairlock_enter_last(&events->lock);
		if (events->kick_fd >= 0) {
			for (int i = 0; i < n; i++)
				if (ready[i].data.u32 == WAKE_KICK)
					vfsd_nowait_drain(events->kick_fd);
		}
		vfsd_events_pump(events);
		vfsd_events_leave(events);
	}
}

static int watch_fd(struct vfsd_events *events, int fd, enum wakeup why)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = why};

	return epoll_ctl(events->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void unwatch_fd(struct vfsd_events *events, int fd)
{
	(void)epoll_ctl(events->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static int open_source(struct vfsd_events *events, struct vfsd_source **ret)
{
	const struct vfsd_source_config config = {
		.inodes = events->config.inodes,
		.marks = events->marks,
		.proc_self_fd = events->config.proc_self_fd,
		.max_marks = events->config.options.max_marks,
		.max_watches = events->config.options.max_watches,
		.everything = events->config.rfc2021,
		.cross_mounts = events->config.cross_mounts,
		.ctx = events,
		.forgotten = vfsd_events_drop_interest,
		.roots_may_end = vfsd_events_end_roots,
	};

	return events->config.source->create(&config, ret);
}

int vfsd_events_probe(struct vfsd_events *events, int *why)
{
	struct vfsd_source *source;

	if (!vfsd_inodes_can_unpin(events->config.inodes))
		vfsd_log(VFSD_LOG_WARN, "events: directories are held open for want of file "
					"handles "
					"(CAP_DAC_READ_SEARCH, --inode-file-handles): "
					"who watches one does not see the host remove it");
	*why = open_source(events, &source);
	if (*why && events->config.fallback) {
		events->config.source = events->config.fallback;
		if (open_source(events, &source) == 0) {
			source->ops->destroy(source);
			return 1;
		}
	}
	if (*why == 0)
		source->ops->destroy(source);
	return *why;
}

/* Drop all state of the session, so that nothing of it reaches the next one. Event lock held. */
static void end_session(struct vfsd_events *events)
{
	struct vfsd_source *source = events->source;

	events->source = NULL; /* first: its destruction calls vfsd_events_drop_interest() */
	if (source) {
		unwatch_fd(events, source->fd);
		source->ops->destroy(source);
	}
	events->n_filesystems = 0;
	vfsd_marks_clear(events->marks);
	atomic_store(&events->watched, 0);
	vfsd_record_ring_clear(events->ring);
	vfsd_fs_errors_clear(&events->errors);
}

/* Event lock held; there is no session. */
static int start_session(struct vfsd_events *events)
{
	int err = open_source(events, &events->source);

	return err ? err : watch_fd(events, events->source->fd, WAKE_SOURCE);
}

static bool hook_session_start(void *ctx, bool fsnotify, uint32_t *server_mask)
{
	struct vfsd_events *events = ctx;
	int err = -ENOTSUP;

	*server_mask = 0;
	vfsd_events_enter(events);
	end_session(events);
	if (fsnotify && events->offered) {
		err = start_session(events);
		if (err) {
			vfsd_log(VFSD_LOG_WARN,
				 "events: no host events, the guest has its own only errno=%d",
				 -err);
			end_session(events);
		} else {
			/* The dialect of 2021 has no such mask: the guest suppresses all of its own events. */
			if (!events->config.rfc2021)
				*server_mask = events->config.source->server_mask;
		}
	}
	vfsd_events_leave(events);
	return err == 0;
}

static void hook_session_end(void *ctx)
{
	struct vfsd_events *events = ctx;

	vfsd_events_enter(events);
	end_session(events);
	vfsd_events_leave(events);
}

static void hook_barrier(void *ctx, bool own)
{
	struct vfsd_events *events = ctx;

	if (atomic_load(&events->watched) == 0 || vfsd_faults_no_barrier())
		return;
	/* A guest of the dialect of 2021 does not read the queue before it goes on. */
	if (own && (events->config.source->server_mask == 0 || events->config.rfc2021))
		return;
	vfsd_events_enter(events);
	vfsd_events_pump(events);
	vfsd_events_leave(events);
}

struct vfsd_fuse_hooks vfsd_events_hooks(struct vfsd_events *events)
{
	return (struct vfsd_fuse_hooks){
		.ctx = events,
		.session_start = hook_session_start,
		.session_end = hook_session_end,
		.subscribe = vfsd_events_hook_subscribe,
		.forgotten = vfsd_events_hook_forgotten,
		.barrier = hook_barrier,
	};
}

void vfsd_events_set_offered(struct vfsd_events *events, bool offered)
{
	vfsd_events_enter(events);
	events->offered = offered;
	vfsd_events_leave(events);
}

/* What was agreed at INIT: the server mask, or all bits for the dialect of 2021. */
static uint32_t agreement(const struct vfsd_events *events)
{
	return events->config.rfc2021 ? UINT32_MAX : events->config.source->server_mask;
}

int vfsd_events_save(struct vfsd_events *events, uint32_t *server_mask,
		     void (*each)(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask),
		     void *ctx)
{
	int err = -ENOENT;

	vfsd_events_enter(events);
	if (events->source) {
		*server_mask = agreement(events);
		vfsd_marks_each(events->marks, each, ctx);
		for (uint32_t i = 0; i < events->n_filesystems; i++)
			each(ctx, events->filesystems[i].nodeid, VFSD_EVENTS_FILESYSTEM,
			     events->filesystems[i].mask);
		err = 0;
	}
	vfsd_events_leave(events);
	return err;
}

void vfsd_events_release_nodes(struct vfsd_events *events)
{
	vfsd_events_enter(events);
	if (events->source && events->source->ops->release_nodes)
		events->source->ops->release_nodes(events->source);
	vfsd_events_leave(events);
}

int vfsd_events_resume(struct vfsd_events *events, uint32_t server_mask)
{
	int err = -ENOTSUP;

	vfsd_events_enter(events);
	end_session(events);
	if (server_mask == agreement(events))
		err = start_session(events);
	if (err)
		end_session(events);
	vfsd_events_leave(events);
	return err;
}

int vfsd_events_start_ring(struct vfsd_events *events, const struct vfsd_mem *mem,
			   const struct vfsd_vring_setup *setup, int kick_fd, int call_fd,
			   int err_fd, bool alone)
{
	int err;

	vfsd_events_enter(events);
	/*
	 * A ring that starts at 0 may belong to a new guest, which has not sent INIT yet and must not receive
	 * what waits for the previous one.
	 */
	events->muted = setup->base == 0 && alone;
	if (setup->base == 0 && events->base != 0 && !alone)
		end_session(events);
	err = vfsd_notify_start(events->notify, mem, setup, call_fd);
	if (!err)
		err = watch_fd(events, kick_fd, WAKE_KICK);
	if (!err) {
		events->kick_fd = kick_fd;
		events->err_fd = err_fd;
		vfsd_events_flush(events);
	} else {
		(void)vfsd_notify_stop(events->notify);
	}
	vfsd_events_leave(events);
	return err;
}

void vfsd_events_requests_begin(struct vfsd_events *events, bool anew)
{
	vfsd_events_enter(events);
	if (anew && events->muted)
		end_session(events);
	events->muted = false;
	vfsd_events_flush(events);
	vfsd_events_leave(events);
}

uint16_t vfsd_events_stop_ring(struct vfsd_events *events)
{
	uint16_t base;

	vfsd_events_enter(events);
	if (events->kick_fd >= 0)
		unwatch_fd(events, events->kick_fd);
	events->kick_fd = -1;
	events->err_fd = -1;
	base = vfsd_notify_stop(events->notify);
	events->base = base;
	vfsd_events_leave(events);
	return base;
}

void vfsd_events_set_call(struct vfsd_events *events, int call_fd)
{
	vfsd_events_enter(events);
	vfsd_notify_set_call(events->notify, call_fd);
	/* The old one may have swallowed a signal that the driver waits for. */
	(void)vfsd_nowait_signal(call_fd);
	vfsd_events_leave(events);
}

static int start_thread(struct vfsd_events *events)
{
	int err = vfsd_thread_start(&events->thread, "vfsd-events", run, events);

	events->thread_running = err == 0;
	return err;
}

int vfsd_events_create(const struct vfsd_events_config *config, struct vfsd_events **ret)
{
	struct vfsd_events *events = calloc(1, sizeof(*events));
	int err;

	if (!events)
		return -ENOMEM;
	vfsd_faults_init();
	events->config = *config;
	events->kick_fd = -1;
	events->err_fd = -1;
	vfsd_fairlock_init(&events->lock);
	events->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	events->stop_fd = eventfd(0, EFD_CLOEXEC);
	err = events->epoll_fd < 0 || events->stop_fd < 0 ? -errno : 0;
	if (!err)
		err = watch_fd(events, events->stop_fd, WAKE_STOP);
	if (!err)
		err = vfsd_marks_create(&events->marks);
	if (!err)
		err = vfsd_record_ring_create(config->options.ring_kib * 1024, &events->ring);
	if (!err)
		err = vfsd_notify_create(events->ring, config->rfc2021, &events->notify);
	if (!err)
		err = start_thread(events);
	if (err) {
		vfsd_events_destroy(events);
		return err;
	}
	*ret = events;
	return 0;
}

void vfsd_events_destroy(struct vfsd_events *events)
{
	if (!events)
		return;
	if (events->thread_running) {
		(void)eventfd_write(events->stop_fd, 1);
		vfsd_thread_join(&events->thread);
	}
	if (events->ring)
		end_session(events);
	vfsd_notify_destroy(events->notify);
	vfsd_record_ring_destroy(events->ring);
	vfsd_marks_destroy(events->marks);
	if (events->stop_fd >= 0)
		(void)close(events->stop_fd);
	if (events->epoll_fd >= 0)
		(void)close(events->epoll_fd);
	vfsd_fairlock_destroy(&events->lock);
	free(events);
}
