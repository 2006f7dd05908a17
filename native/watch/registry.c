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
#include "source/marks.h"
#include "watch/shm_ring.h"
#include "source/source.h"
#include "base/util.h"

static void run(void *arg)
{
	struct vfsd_watch_registry *registry = arg;
	struct epoll_event ready[3];
	bool more = true, stop;

	for (;;) {
		eventfd_t count;
		int n = epoll_wait(registry->epoll_fd, ready, VFSD_ARRAY_SIZE(ready),
				   more ? 0 : -1);

		for (int i = 0; i < n; i++)
			if (ready[i].data.fd == registry->wake_fd)
				(void)eventfd_read(registry->wake_fd, &count);
		vfsd_fairlock_enter_last(&registry->lock);
		stop = registry->stop;
		more = !stop && vfsd_watch_dispatch(registry);
		vfsd_fairlock_leave(&registry->lock);
		if (stop)
			return;
	}
}

void vfsd_watch_wake(struct vfsd_watch_registry *registry)
{
	if (registry->wake_fd >= 0)
		(void)eventfd_write(registry->wake_fd, 1);
}

static int start_thread(struct vfsd_watch_registry *registry)
{
	struct epoll_event wake = {.events = EPOLLIN, .data.fd = registry->wake_fd};
	struct epoll_event host = {.events = EPOLLIN, .data.fd = registry->source->fd};
	int err;

	if (epoll_ctl(registry->epoll_fd, EPOLL_CTL_ADD, registry->wake_fd, &wake) < 0 ||
	    epoll_ctl(registry->epoll_fd, EPOLL_CTL_ADD, registry->source->fd, &host) < 0)
		return -errno;
	err = vfsd_thread_start(&registry->thread, "vfsd-watch", run, registry);
	registry->thread_running = err == 0;
	return err;
}

/* Release everything that only consumers need. The caller is not the thread of the registry. */
static void stop(struct vfsd_watch_registry *registry)
{
	if (registry->thread_running) {
		vfsd_fairlock_enter(&registry->lock);
		registry->stop = true;
		vfsd_fairlock_leave(&registry->lock);
		(void)eventfd_write(registry->wake_fd, 1);
		vfsd_thread_join(&registry->thread);
	}
	registry->thread_running = false;
	registry->stop = false;
	if (registry->source)
		registry->source->ops->destroy(registry->source);
	registry->source = NULL;
	if (registry->errors)
		registry->errors->ops->destroy(registry->errors);
	registry->errors = NULL;
	vfsd_marks_destroy(registry->marks);
	vfsd_marks_destroy(registry->error_marks);
	registry->marks = registry->error_marks = NULL;
	vfsd_inodes_destroy(registry->inodes);
	registry->inodes = NULL;
	if (registry->epoll_fd >= 0)
		(void)close(registry->epoll_fd);
	if (registry->wake_fd >= 0)
		(void)close(registry->wake_fd);
	registry->epoll_fd = registry->wake_fd = -1;
	free(registry->scans);
	registry->scans = NULL;
	registry->n_scans = registry->room_scans = 0;
}

static int open_source(struct vfsd_watch_registry *registry)
{
	const struct vfsd_source_config config = {
		.inodes = registry->inodes,
		.marks = registry->marks,
		.proc_self_fd = registry->config.proc_self_fd,
		.max_marks = registry->config.options.max_marks,
		.max_watches = registry->config.options.max_watches,
		.everything = true,
	};
	int err = registry->config.source->create(&config, &registry->source);

	if (err && registry->config.fallback)
		err = registry->config.fallback->create(&config, &registry->source);
	return err;
}

static int start(struct vfsd_watch_registry *registry)
{
	const struct vfsd_inodes_config inodes = {
		.options = registry->config.inode,
		.need_handles = true,
		.proc_self_fd = registry->config.proc_self_fd,
		.fd_quota = registry->config.options.max_fds ? &registry->quota : NULL,
	};
	int root_fd = fcntl(registry->config.root_fd, F_DUPFD_CLOEXEC, 0);
	int err;

	if (root_fd < 0)
		return -errno;
	registry->quota = (struct vfsd_quota){.limit = registry->config.options.max_fds};
	err = vfsd_inodes_create(&inodes, root_fd, &registry->inodes);
	if (!err)
		err = vfsd_marks_create(&registry->marks);
	if (!err)
		err = vfsd_marks_create(&registry->error_marks);
	if (!err)
		err = open_source(registry);
	if (err)
		return err;
	registry->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	registry->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (registry->epoll_fd < 0 || registry->wake_fd < 0)
		return -errno;
	return start_thread(registry);
}

int vfsd_watch_registry_create(const struct vfsd_watch_config *config,
			       struct vfsd_watch_registry **ret)
{
	struct vfsd_watch_registry *registry = calloc(1, sizeof(*registry));

	if (!registry)
		return -ENOMEM;
	registry->config = *config;
	registry->epoll_fd = registry->wake_fd = -1;
	vfsd_fairlock_init(&registry->lock);
	*ret = registry;
	return 0;
}

static void consumer_destroy(struct vfsd_watch_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->n_watches; i++)
		free(consumer->watches[i].path);
	vfsd_shm_ring_destroy(consumer->ring);
	(void)close(consumer->notify_fd);
	free(consumer);
}

void vfsd_watch_registry_destroy(struct vfsd_watch_registry *registry)
{
	if (!registry)
		return;
	while (registry->consumers)
		(void)vfsd_watch_remove_consumer(registry, registry->consumers->number);
	vfsd_fairlock_destroy(&registry->lock);
	free(registry);
}

static int consumer_create(struct vfsd_watch_registry *registry, const vfsd_watch_request *request,
			   int notify_fd, struct vfsd_watch_consumer **ret)
{
	struct vfsd_watch_consumer *consumer;
	int err;

	if (request->n_watches > VFSD_WATCHES_MAX)
		return -EINVAL;
	consumer = calloc(1, sizeof(*consumer) + request->n_watches * sizeof(consumer->watches[0]));
	if (!consumer)
		return -ENOMEM;
	consumer->notify_fd = -1;
	consumer->types = request->types;
	memcpy(consumer->subtypes, request->subtypes, sizeof(consumer->subtypes));
	err = vfsd_shm_ring_create(request->ring_bytes, &consumer->ring);
	for (; !err && consumer->n_watches < request->n_watches; consumer->n_watches++) {
		const vfsd_watch_spec *from = &request->watches[consumer->n_watches];

		consumer->watches[consumer->n_watches] = (struct vfsd_watch){
			.consumer = consumer,
			.owner = ++registry->last_owner,
			.id = from->id,
			.mask = from->mask & VFSD_WATCH_EVENTS,
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
	consumer->notify_fd = notify_fd;
	*ret = consumer;
	return 0;
}

int vfsd_watch_add_consumer(struct vfsd_watch_registry *registry, const vfsd_watch_request *request,
			    int notify_fd, int *ring_fd)
{
	VFSD_FD_GUARD notify = notify_fd;
	struct vfsd_watch_consumer *consumer;
	uint32_t count = 0;
	int err = 0;

	for (const struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next)
		count++;
	if (count >= VFSD_WATCH_CONSUMERS_MAX)
		return -EUSERS;
	if (!registry->consumers)
		err = start(registry);
	if (!err)
		err = consumer_create(registry, request, notify, &consumer);
	if (err) {
		if (!registry->consumers)
			stop(registry);
		return err;
	}
	(void)vfsd_fd_take(&notify);
	consumer->number = ++registry->last_number;
	*ring_fd = vfsd_shm_ring_fd(consumer->ring);
	vfsd_fairlock_enter(&registry->lock);
	consumer->next = registry->consumers;
	registry->consumers = consumer;
	for (uint32_t i = 0; i < consumer->n_watches; i++)
		vfsd_watch_begin(registry, &consumer->watches[i]);
	vfsd_fairlock_leave(&registry->lock);
	vfsd_watch_wake(registry);
	return consumer->number;
}

int vfsd_watch_remove_consumer(struct vfsd_watch_registry *registry, int number)
{
	struct vfsd_watch_consumer **at, *consumer;

	vfsd_fairlock_enter(&registry->lock);
	for (at = &registry->consumers; *at && (*at)->number != number; at = &(*at)->next)
		;
	consumer = *at;
	if (consumer) {
		for (uint32_t i = 0; i < consumer->n_watches; i++)
			vfsd_watch_end(registry, &consumer->watches[i]);
		*at = consumer->next;
	}
	vfsd_fairlock_leave(&registry->lock);
	if (!consumer)
		return -ENOENT;
	consumer_destroy(consumer);
	if (!registry->consumers)
		stop(registry);
	return 0;
}
