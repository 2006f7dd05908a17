/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "inode/inode.h"
#include "watch/internal.h"
#include "base/log.h"
#include "source/marks.h"
#include "watch/shm_ring.h"
#include "source/source.h"
#include "base/util.h"

/* Directories looked through before events have their turn. */
enum { SCAN_BATCH = 16 };

_Static_assert((int)VFSD_RECORD_TYPE_COUNT == (int)VFSD_RECORD_SUPERBLOCK + 1, "one filter a type");

static void on_event(void *ctx, const struct vfsd_source_event *event)
{
	struct vfsd_local *local = ctx;

	for (struct vfsd_local_consumer *c = local->consumers; c; c = c->next)
		for (uint32_t i = 0; i < c->n_watches; i++)
			if (c->watches[i].tree)
				vfsd_local_tell_event(local, &c->watches[i], event);
}

static void on_lost(void *ctx)
{
	struct vfsd_local *local = ctx;

	for (struct vfsd_local_consumer *c = local->consumers; c; c = c->next) {
		vfsd_local_tell_loss(c, 1);
		for (uint32_t i = 0; i < c->n_watches; i++)
			if (c->watches[i].tree && !vfsd_local_follow_root(local, &c->watches[i]))
				vfsd_local_tell_gone(local, &c->watches[i]);
	}
	vfsd_local_scan_again(local);
}

static void pass_on(void *ctx)
{
	(void)ctx; /* each record is on its way already */
}

/*
 * What has ended has told so by the second time that everything was read: its end comes before its
 * handle is stale.
 */
static void settle_doubts(struct vfsd_local *local, struct vfsd_local_watch *watch)
{
	if (!watch->tree || watch->doubts == 0)
		return;
	if (watch->doubts++ > 1)
		vfsd_local_tell_gone(local, watch);
	else
		vfsd_local_wake(local);
}

/* What the host holds, then what else there is to do. Lock held. True: there is more of the latter. */
static bool work(struct vfsd_local *local)
{
	const struct vfsd_source_sink sink = {
		.ctx = local, .event = on_event, .lost = on_lost, .pass_on = pass_on};

	if (!local->source)
		return false;
	local->source->ops->drain(local->source, &sink);
	vfsd_local_errors_drain(local);
	for (struct vfsd_local_consumer *c = local->consumers; c; c = c->next)
		for (uint32_t i = 0; i < c->n_watches; i++) {
			settle_doubts(local, &c->watches[i]);
			vfsd_local_watch_sweep(local, &c->watches[i]);
		}
	for (int i = 0; i < SCAN_BATCH; i++)
		if (!vfsd_local_scan_one(local))
			return false;
	return true;
}

static void run(void *arg)
{
	struct vfsd_local *local = arg;
	struct epoll_event ready[3];
	bool more = true, stop;

	for (;;) {
		eventfd_t count;
		int n = epoll_wait(local->epoll_fd, ready, VFSD_ARRAY_SIZE(ready), more ? 0 : -1);

		for (int i = 0; i < n; i++)
			if (ready[i].data.fd == local->wake_fd)
				(void)eventfd_read(local->wake_fd, &count);
		vfsd_fairlock_enter_last(&local->lock);
		stop = local->stop;
		more = !stop && work(local);
		vfsd_fairlock_leave(&local->lock);
		if (stop)
			return;
	}
}

void vfsd_local_wake(struct vfsd_local *local)
{
	if (local->wake_fd >= 0)
		(void)eventfd_write(local->wake_fd, 1);
}

static int start_thread(struct vfsd_local *local)
{
	struct epoll_event wake = {.events = EPOLLIN, .data.fd = local->wake_fd};
	struct epoll_event host = {.events = EPOLLIN, .data.fd = local->source->fd};
	int err;

	if (epoll_ctl(local->epoll_fd, EPOLL_CTL_ADD, local->wake_fd, &wake) < 0 ||
	    epoll_ctl(local->epoll_fd, EPOLL_CTL_ADD, local->source->fd, &host) < 0)
		return -errno;
	err = vfsd_thread_start(&local->thread, "local-events", run, local);
	local->thread_running = err == 0;
	return err;
}

/* Give everything back that only consumers need. The caller is no consumer's thread. */
static void stop(struct vfsd_local *local)
{
	if (local->thread_running) {
		vfsd_fairlock_enter(&local->lock);
		local->stop = true;
		vfsd_fairlock_leave(&local->lock);
		(void)eventfd_write(local->wake_fd, 1);
		vfsd_thread_join(&local->thread);
	}
	local->thread_running = false;
	local->stop = false;
	if (local->source)
		local->source->ops->destroy(local->source);
	local->source = NULL;
	if (local->errors)
		local->errors->ops->destroy(local->errors);
	local->errors = NULL;
	vfsd_marks_destroy(local->marks);
	vfsd_marks_destroy(local->error_marks);
	local->marks = local->error_marks = NULL;
	vfsd_inodes_destroy(local->inodes);
	local->inodes = NULL;
	if (local->epoll_fd >= 0)
		(void)close(local->epoll_fd);
	if (local->wake_fd >= 0)
		(void)close(local->wake_fd);
	local->epoll_fd = local->wake_fd = -1;
	free(local->scans);
	local->scans = NULL;
	local->n_scans = local->room_scans = 0;
}

static int open_source(struct vfsd_local *local)
{
	const struct vfsd_source_config config = {
		.inodes = local->inodes,
		.marks = local->marks,
		.proc_self_fd = local->config.proc_self_fd,
		.max_marks = local->config.max_marks,
		.max_watches = local->config.max_watches,
		.everything = true,
	};
	int err = local->config.source->create(&config, &local->source);

	if (err && local->config.fallback)
		err = local->config.fallback->create(&config, &local->source);
	return err;
}

static int start(struct vfsd_local *local)
{
	const struct vfsd_inodes_config inodes = {
		.handles = (enum vfsd_handle_policy)local->config.handles,
		.need_handles = true,
		.proc_self_fd = local->config.proc_self_fd,
		.fd_quota = local->config.max_fds ? &local->quota : NULL,
	};
	int root_fd = fcntl(local->config.root_fd, F_DUPFD_CLOEXEC, 0);
	int err;

	if (root_fd < 0)
		return -errno;
	local->quota = (struct vfsd_quota){.limit = local->config.max_fds};
	err = vfsd_inodes_create(&inodes, root_fd, &local->inodes);
	if (!err)
		err = vfsd_marks_create(&local->marks);
	if (!err)
		err = vfsd_marks_create(&local->error_marks);
	if (!err)
		err = open_source(local);
	if (err)
		return err;
	local->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	local->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (local->epoll_fd < 0 || local->wake_fd < 0)
		return -errno;
	return start_thread(local);
}

int vfsd_local_create(const struct vfsd_local_config *config, struct vfsd_local **ret)
{
	struct vfsd_local *local = calloc(1, sizeof(*local));

	if (!local)
		return -ENOMEM;
	local->config = *config;
	local->epoll_fd = local->wake_fd = -1;
	vfsd_fairlock_init(&local->lock);
	*ret = local;
	return 0;
}

static void consumer_destroy(struct vfsd_local_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->n_watches; i++)
		free(consumer->watches[i].path);
	vfsd_sharedring_destroy(consumer->ring);
	(void)close(consumer->bell_fd);
	free(consumer);
}

void vfsd_local_destroy(struct vfsd_local *local)
{
	if (!local)
		return;
	while (local->consumers)
		(void)vfsd_local_remove(local, local->consumers->number);
	vfsd_fairlock_destroy(&local->lock);
	free(local);
}

static int consumer_create(struct vfsd_local *local, const vfsd_local_request *request, int bell_fd,
			   struct vfsd_local_consumer **ret)
{
	struct vfsd_local_consumer *consumer;
	int err;

	if (request->n_watches > VFSD_LOCAL_WATCHES_MAX)
		return -EINVAL;
	consumer = calloc(1, sizeof(*consumer) + request->n_watches * sizeof(consumer->watches[0]));
	if (!consumer)
		return -ENOMEM;
	consumer->bell_fd = -1;
	consumer->types = request->types;
	memcpy(consumer->subtypes, request->subtypes, sizeof(consumer->subtypes));
	err = vfsd_sharedring_create(request->ring_bytes, &consumer->ring);
	for (; !err && consumer->n_watches < request->n_watches; consumer->n_watches++) {
		const vfsd_local_request_watch *from = &request->watches[consumer->n_watches];

		consumer->watches[consumer->n_watches] = (struct vfsd_local_watch){
			.consumer = consumer,
			.owner = ++local->last_owner,
			.id = from->id,
			.mask = from->mask & VFSD_LOCAL_EVENTS,
			.recursive = from->recursive,
			.path = strdup(from->path),
		};
		if (!consumer->watches[consumer->n_watches].path)
			err = -ENOMEM;
	}
	if (err) {
		consumer_destroy(consumer);
		return err;
	}
	consumer->bell_fd = bell_fd;
	*ret = consumer;
	return 0;
}

int vfsd_local_add(struct vfsd_local *local, const vfsd_local_request *request, int bell_fd,
		   int *ring_fd)
{
	VFSD_FD_GUARD bell = bell_fd;
	struct vfsd_local_consumer *consumer;
	uint32_t count = 0;
	int err = 0;

	for (const struct vfsd_local_consumer *c = local->consumers; c; c = c->next)
		count++;
	if (count >= VFSD_LOCAL_CONSUMERS_MAX)
		return -EUSERS;
	if (!local->consumers)
		err = start(local);
	if (!err)
		err = consumer_create(local, request, bell, &consumer);
	if (err) {
		if (!local->consumers)
			stop(local);
		return err;
	}
	(void)vfsd_fd_take(&bell);
	consumer->number = ++local->last_number;
	*ring_fd = vfsd_sharedring_fd(consumer->ring);
	vfsd_fairlock_enter(&local->lock);
	consumer->next = local->consumers;
	local->consumers = consumer;
	for (uint32_t i = 0; i < consumer->n_watches; i++)
		vfsd_local_watch_begin(local, &consumer->watches[i]);
	vfsd_fairlock_leave(&local->lock);
	vfsd_local_wake(local);
	return consumer->number;
}

int vfsd_local_remove(struct vfsd_local *local, int number)
{
	struct vfsd_local_consumer **at, *consumer;

	vfsd_fairlock_enter(&local->lock);
	for (at = &local->consumers; *at && (*at)->number != number; at = &(*at)->next)
		;
	consumer = *at;
	if (consumer) {
		for (uint32_t i = 0; i < consumer->n_watches; i++)
			vfsd_local_watch_end(local, &consumer->watches[i]);
		*at = consumer->next;
	}
	vfsd_fairlock_leave(&local->lock);
	if (!consumer)
		return -ENOENT;
	consumer_destroy(consumer);
	if (!local->consumers)
		stop(local);
	return 0;
}
