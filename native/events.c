/* SPDX-License-Identifier: BSD-3-Clause */
#include "events.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include "eventring.h"
#include "fairlock.h"
#include "faults.h"
#include "fserrors.h"
#include "fuse.h"
#include "inode.h"
#include "log.h"
#include "marks.h"
#include "notify.h"
#include "rfc2021.h"
#include "source.h"
#include "util.h"
#include "vring.h"
#include "wire.h"

/*
 * Groups of the old dialect are names that a guest makes up: what they cost us is bounded, in
 * (inode, group) pairs.
 */
enum { GROUP_INTERESTS_MAX = 1 << 20 };

enum wakeup { WAKE_STOP, WAKE_SOURCE, WAKE_KICK };

struct vfsd_events {
	struct vfsd_events_config config;
	int epoll_fd;
	int stop_fd;
	pthread_t thread;
	bool thread_running;

	struct vfsd_fairlock lock; /* the event lock; protects all below */
	struct vfsd_marks *marks;
	struct vfsd_eventring *ring;
	struct vfsd_fserrors errors;
	struct vfsd_notify *notify;
	struct vfsd_source *source; /* NULL while no session wants events */
	bool offered;
	int kick_fd;   /* -1 while the ring is stopped */
	uint16_t base; /* where the driver's ring was when it stopped */
	bool muted;    /* until a request ring tells whose the notification ring is */
	int err_fd;

	/* Filesystems that are watched as a whole, by their roots. */
	uint32_t n_filesystems;
	struct filesystem {
		uint64_t nodeid;
		uint32_t mask;
	} filesystems[VFSD_SOURCE_FILESYSTEMS_MAX];

	/* Watched inodes and filesystems, so that an unwatched share pays one load for its barriers. */
	_Atomic size_t watched;
};

static void enter(struct vfsd_events *events)
{
	vfsd_fairlock_enter(&events->lock);
}

static void leave(struct vfsd_events *events)
{
	vfsd_fairlock_leave(&events->lock);
}

static void put_event(struct vfsd_events *events, const struct vfsd_source_event *event)
{
	struct {
		struct fuse_notify_fsnotify_out out;
		char name[256];
	} record;
	uint32_t bytes = sizeof(record.out);

	/* NAME_MAX is a host rule; a longer name could not be told anyway. */
	if (event->name_bytes >= sizeof(record.name)) {
		vfsd_eventring_put_loss(events->ring, 1);
		return;
	}
	record.out = (struct fuse_notify_fsnotify_out){
		.nodeid = event->nodeid,
		.child = event->child,
		.mask = event->mask,
		.flags = (event->unlinked ? FUSE_FSN_UNLINKED : 0u) |
			 (event->parent_only ? FUSE_FSN_PARENT_ONLY : 0u) |
			 (event->unnamed ? FUSE_FSN_UNNAMED : 0u) |
			 (event->unknown_dir ? FUSE_FSN_UNKNOWN_DIR : 0u),
		.cookie = event->cookie,
		.namelen = event->name_bytes,
	};
	if (event->name) {
		memcpy(record.name, event->name, event->name_bytes);
		record.name[event->name_bytes] = '\0';
		bytes += event->name_bytes + 1;
	}
	(void)vfsd_eventring_put(events->ring, VFSD_RECORD_FSNOTIFY, 0, &record, bytes);
}

/* Put what has failed, once for each filesystem until the guest has taken it. Event lock held. */
static void put_errors(struct vfsd_events *events)
{
	const struct vfsd_fserror *error;

	while ((error = vfsd_fserrors_next(&events->errors)) != NULL) {
		const struct fuse_notify_fsnotify_out out = {
			.nodeid = error->nodeid,
			.mask = VFSD_SOURCE_FS_ERROR,
			.cookie = error->count < UINT32_MAX ? (uint32_t)error->count : UINT32_MAX,
			.error = error->error,
		};

		if (!vfsd_eventring_put(events->ring, VFSD_RECORD_FSNOTIFY, 0, &out, sizeof(out)))
			break; /* it is told when there is room again */
		vfsd_fserrors_told(&events->errors, error);
	}
}

static void on_error(struct vfsd_events *events, const struct vfsd_source_event *event)
{
	const struct vfsd_fserror error = {.root = event->root,
					   .nodeid = event->nodeid,
					   .error = event->error,
					   .count = event->errors};

	if (!vfsd_fserrors_add(&events->errors, &error))
		vfsd_eventring_put_loss(events->ring, 1);
	put_errors(events); /* now, in its order */
}

static void on_event(void *ctx, const struct vfsd_source_event *event)
{
	struct vfsd_events *events = ctx;
	struct vfsd_source_event parts[2];
	uint32_t n;

	if (event->mask & VFSD_SOURCE_FS_ERROR) {
		on_error(events, event);
		return;
	}
	if (!events->config.rfc2021) {
		put_event(events, event);
		return;
	}
	n = vfsd_rfc2021_split(event, vfsd_marks_union(events->marks, event->nodeid), parts);
	for (uint32_t i = 0; i < n; i++)
		put_event(events, &parts[i]);
}

static void on_lost(void *ctx)
{
	struct vfsd_events *events = ctx;

	VFSD_LOG_LIMITED(VFSD_LOG_WARN, "events: the host's queue overflowed, the guest is told");
	vfsd_eventring_put_loss(events->ring, 1);
}

/* Event ring to guest ring, as far as there are buffers. Event lock held. */
static void flush(void *ctx)
{
	struct vfsd_events *events = ctx;
	int err = 0;

	do {
		put_errors(events);
		if (events->muted)
			return;
		err = vfsd_notify_flush(events->notify);
		if (err || !vfsd_eventring_empty(events->ring))
			break;
		vfsd_fserrors_taken(&events->errors);
	} while (vfsd_fserrors_next(&events->errors));
	if (!err)
		return;
	vfsd_log(VFSD_LOG_ERROR, "events: broken notification ring stopped");
	if (events->err_fd >= 0)
		(void)eventfd_write(events->err_fd, 1);
}

/* Host queue to guest ring, all that there is now. Event lock held. */
static void pump(struct vfsd_events *events)
{
	const struct vfsd_source_sink sink = {
		.ctx = events, .event = on_event, .lost = on_lost, .pass_on = flush};

	if (events->source)
		events->source->ops->drain(events->source, &sink);
	flush(events);
}

static void *run(void *arg)
{
	struct vfsd_events *events = arg;
	struct epoll_event ready[4];

	/* By the thread itself: others would need /proc, which a sandbox takes for the share's. */
	(void)pthread_setname_np(pthread_self(), "vfsd-events");
	for (;;) {
		int n = epoll_wait(events->epoll_fd, ready, VFSD_ARRAY_SIZE(ready), -1);

		if (n < 0 && errno != EINTR)
			return NULL;
		for (int i = 0; i < n; i++)
			if (ready[i].data.u32 == WAKE_STOP)
				return NULL;
		vfsd_faults_delay(events->stop_fd);
		/* A host that never rests must not keep anybody else out. */
		vfsd_fairlock_enter_last(&events->lock);
		if (events->kick_fd >= 0) {
			eventfd_t count;

			for (int i = 0; i < n; i++)
				if (ready[i].data.u32 == WAKE_KICK)
					(void)eventfd_read(events->kick_fd, &count);
		}
		pump(events);
		leave(events);
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

/* Event lock held. */
static void count_watched(struct vfsd_events *events)
{
	atomic_store(&events->watched, vfsd_marks_count(events->marks) + events->n_filesystems);
}

static struct filesystem *find_filesystem(struct vfsd_events *events, uint64_t nodeid)
{
	for (uint32_t i = 0; i < events->n_filesystems; i++)
		if (events->filesystems[i].nodeid == nodeid)
			return &events->filesystems[i];
	return NULL;
}

/* Event lock held. */
static int set_whole(struct vfsd_events *events, struct vfsd_inode *root, uint32_t mask)
{
	struct filesystem *filesystem = find_filesystem(events, root->nodeid);
	int err;

	if (!events->source)
		return -ENOSYS;
	if (!filesystem && mask == 0)
		return 0;
	if (!events->source->ops->watch_whole)
		return -EPERM; /* the guest then watches this filesystem locally */
	if (!filesystem && events->n_filesystems == VFSD_SOURCE_FILESYSTEMS_MAX)
		return -ENOSPC;
	err = events->source->ops->watch_whole(events->source, root, mask);
	if (err)
		return err;
	if (!filesystem)
		filesystem = &events->filesystems[events->n_filesystems++];
	*filesystem = (struct filesystem){.nodeid = root->nodeid, .mask = mask};
	if (mask == 0)
		*filesystem = events->filesystems[--events->n_filesystems];
	count_watched(events);
	return 0;
}

/* Nobody holds @inode any more: nor do we watch it. Event lock held. */
static void drop_interest(void *ctx, struct vfsd_inode *inode)
{
	struct vfsd_events *events = ctx;
	uint32_t mask = vfsd_marks_drop(events->marks, inode->nodeid);

	if (mask != 0 && events->source)
		(void)events->source->ops->watch(events->source, inode, mask, 0);
	(void)set_whole(events, inode, 0);
	count_watched(events);
}

static int open_source(struct vfsd_events *events, struct vfsd_source **ret)
{
	const struct vfsd_source_config config = {
		.inodes = events->config.inodes,
		.marks = events->marks,
		.proc_self_fd = events->config.proc_self_fd,
		.max_watches = events->config.max_watches,
		.everything = events->config.rfc2021,
		.cross_mounts = events->config.cross_mounts,
		.ctx = events,
		.forgotten = drop_interest,
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

/* Nothing of the session that was may reach the one that comes. Event lock held. */
static void end_session(struct vfsd_events *events)
{
	struct vfsd_source *source = events->source;

	events->source = NULL; /* first: it tells us about nodes that nobody holds any more */
	if (source) {
		unwatch_fd(events, source->fd);
		source->ops->destroy(source);
	}
	events->n_filesystems = 0;
	vfsd_marks_clear(events->marks);
	atomic_store(&events->watched, 0);
	vfsd_eventring_clear(events->ring);
	vfsd_fserrors_clear(&events->errors);
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
	enter(events);
	end_session(events);
	if (fsnotify && events->offered) {
		err = start_session(events);
		if (err) {
			vfsd_log(VFSD_LOG_WARN,
				 "events: no host events, the guest hears local ones only errno=%d",
				 -err);
			end_session(events);
		} else {
			/* The old dialect has no word for it: its guests suppress all. */
			if (!events->config.rfc2021)
				*server_mask = events->config.source->server_mask;
		}
	}
	leave(events);
	return err == 0;
}

static void hook_session_end(void *ctx)
{
	struct vfsd_events *events = ctx;

	enter(events);
	end_session(events);
	leave(events);
}

static int set_interest(struct vfsd_events *events, struct vfsd_inode *inode,
			const struct vfsd_fuse_interest *interest)
{
	uint32_t mask = (uint32_t)interest->mask;
	struct vfsd_marks_change change;
	uint32_t before;
	int err;

	enter(events);
	if (!events->source) {
		err = -ENOSYS;
		goto out;
	}
	before = vfsd_marks_mask(events->marks, inode->nodeid, interest->owner);
	err = -ENOSPC;
	if (events->config.rfc2021 && before == 0 &&
	    vfsd_marks_entries(events->marks) >= GROUP_INTERESTS_MAX)
		goto out;
	if (interest->add)
		mask |= before;
	err = vfsd_marks_set(events->marks, inode->nodeid, interest->owner, mask, &change);
	if (err)
		goto out;
	err = events->source->ops->watch(events->source, inode, change.old_union, change.new_union);
	if (err)
		(void)vfsd_marks_set(events->marks, inode->nodeid, interest->owner, before,
				     &change);
	count_watched(events);
out:
	leave(events);
	return err;
}

static int set_whole_interest(struct vfsd_events *events, struct vfsd_inode *root, uint32_t mask)
{
	int err;

	enter(events);
	err = set_whole(events, root, mask);
	leave(events);
	return err;
}

static int hook_subscribe(void *ctx, struct vfsd_inode *inode,
			  const struct vfsd_fuse_interest *interest)
{
	if (interest->flags == FUSE_FSNOTIFY_SB)
		return set_whole_interest(ctx, inode, (uint32_t)interest->mask);
	if (interest->flags != 0)
		return -EINVAL;
	return set_interest(ctx, inode, interest);
}

int vfsd_events_watch(struct vfsd_events *events, struct vfsd_inode *inode, uint64_t owner,
		      uint32_t mask)
{
	const struct vfsd_fuse_interest interest = {.owner = owner, .mask = mask};

	if (owner == VFSD_EVENTS_WHOLE && !events->config.rfc2021)
		return set_whole_interest(events, inode, mask);
	return set_interest(events, inode, &interest);
}

static void hook_forgotten(void *ctx, struct vfsd_inode *inode)
{
	struct vfsd_events *events = ctx;

	if (atomic_load(&events->watched) == 0)
		return;
	enter(events);
	drop_interest(events, inode);
	leave(events);
}

static void hook_barrier(void *ctx, bool own)
{
	struct vfsd_events *events = ctx;

	if (atomic_load(&events->watched) == 0 || vfsd_faults_no_barrier())
		return;
	/* Guests of the old dialect would not look before they go on. */
	if (own && (events->config.source->server_mask == 0 || events->config.rfc2021))
		return;
	enter(events);
	pump(events);
	leave(events);
}

struct vfsd_fuse_hooks vfsd_events_hooks(struct vfsd_events *events)
{
	return (struct vfsd_fuse_hooks){
		.ctx = events,
		.session_start = hook_session_start,
		.session_end = hook_session_end,
		.subscribe = hook_subscribe,
		.forgotten = hook_forgotten,
		.barrier = hook_barrier,
	};
}

void vfsd_events_set_offered(struct vfsd_events *events, bool offered)
{
	enter(events);
	events->offered = offered;
	leave(events);
}

/* What a guest goes by: who reports what, or the old dialect, which is like no such mask. */
static uint32_t agreement(const struct vfsd_events *events)
{
	return events->config.rfc2021 ? UINT32_MAX : events->config.source->server_mask;
}

int vfsd_events_save(struct vfsd_events *events, uint32_t *server_mask,
		     void (*each)(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask),
		     void *ctx)
{
	int err = -ENOENT;

	enter(events);
	if (events->source) {
		*server_mask = agreement(events);
		vfsd_marks_each(events->marks, each, ctx);
		for (uint32_t i = 0; i < events->n_filesystems; i++)
			each(ctx, events->filesystems[i].nodeid, VFSD_EVENTS_WHOLE,
			     events->filesystems[i].mask);
		err = 0;
	}
	leave(events);
	return err;
}

void vfsd_events_let_go(struct vfsd_events *events)
{
	enter(events);
	if (events->source && events->source->ops->let_go)
		events->source->ops->let_go(events->source);
	leave(events);
}

int vfsd_events_resume(struct vfsd_events *events, uint32_t server_mask)
{
	int err = -ENOTSUP;

	enter(events);
	end_session(events);
	if (server_mask == agreement(events))
		err = start_session(events);
	if (err)
		end_session(events);
	leave(events);
	return err;
}

/* What is wanted of @nodeid, by its own marks or those of whole filesystems. Event lock held. */
static uint32_t wanted_of(const struct vfsd_events *events, uint64_t nodeid)
{
	uint32_t mask = vfsd_marks_union(events->marks, nodeid);

	for (uint32_t i = 0; i < events->n_filesystems; i++)
		mask |= events->filesystems[i].mask;
	return mask;
}

void vfsd_events_expire(struct vfsd_events *events, uint64_t nodeid, const char *name)
{
	static const uint32_t bits[] = {FAN_MOVED_FROM, FAN_MOVED_TO, FAN_DELETE};
	struct vfsd_source_event event = {.nodeid = nodeid,
					  .mask = FAN_CREATE,
					  .name = name,
					  .name_bytes = (uint32_t)strlen(name)};

	enter(events);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(bits) && (wanted_of(events, nodeid) & event.mask);
	     i++)
		event.mask = bits[i];
	if (wanted_of(events, nodeid) & event.mask)
		event.mask = FAN_CREATE;
	event.mask |= FAN_ONDIR;
	/* The old dialect knows no reports but events. */
	if (events->source && !events->config.rfc2021) {
		put_event(events, &event);
		flush(events);
	}
	leave(events);
}

void vfsd_events_tell_loss(struct vfsd_events *events)
{
	enter(events);
	vfsd_eventring_put_loss(events->ring, 1);
	flush(events);
	leave(events);
}

int vfsd_events_start_ring(struct vfsd_events *events, const struct vfsd_mem *mem,
			   const struct vfsd_vring_setup *setup, int kick_fd, int call_fd,
			   int err_fd, bool alone)
{
	int err;

	enter(events);
	/*
	 * A ring that begins anew may belong to a guest that does, and has not said INIT yet: what
	 * waits for its predecessor is not for it.
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
		flush(events);
	} else {
		(void)vfsd_notify_stop(events->notify);
	}
	leave(events);
	return err;
}

void vfsd_events_requests_begin(struct vfsd_events *events, bool anew)
{
	enter(events);
	if (anew && events->muted)
		end_session(events);
	events->muted = false;
	flush(events);
	leave(events);
}

uint16_t vfsd_events_stop_ring(struct vfsd_events *events)
{
	uint16_t base;

	enter(events);
	if (events->kick_fd >= 0)
		unwatch_fd(events, events->kick_fd);
	events->kick_fd = -1;
	events->err_fd = -1;
	base = vfsd_notify_stop(events->notify);
	events->base = base;
	leave(events);
	return base;
}

void vfsd_events_set_call(struct vfsd_events *events, int call_fd)
{
	enter(events);
	vfsd_notify_set_call(events->notify, call_fd);
	/* The old one may have swallowed a signal that the driver waits for. */
	if (call_fd >= 0)
		(void)eventfd_write(call_fd, 1);
	leave(events);
}

static int start_thread(struct vfsd_events *events)
{
	sigset_t all, before;
	int err;

	/* Signals are the control thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&events->thread, NULL, run, events);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
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
		err = vfsd_eventring_create(config->ring_bytes, &events->ring);
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
		(void)pthread_join(events->thread, NULL);
	}
	if (events->ring)
		end_session(events);
	vfsd_notify_destroy(events->notify);
	vfsd_eventring_destroy(events->ring);
	vfsd_marks_destroy(events->marks);
	if (events->stop_fd >= 0)
		(void)close(events->stop_fd);
	if (events->epoll_fd >= 0)
		(void)close(events->epoll_fd);
	vfsd_fairlock_destroy(&events->lock);
	free(events);
}
