/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors of the filesystems that are watched. The host reports them to a filesystem mark only, which takes
 * privilege. The mark is in a group of its own, so that the group of names need not filter its events.
 * The host keeps the first error and a count of those that came until it was read.
 */
#include <errno.h>
#include <sys/epoll.h>

#include "inode/inode.h"
#include "watch/internal.h"
#include "source/marks.h"
#include "watch/shm_ring.h"
#include "source/source.h"

static int open_errors(struct vfsd_watch_registry *registry)
{
	const struct vfsd_source_config config = {
		.inodes = registry->inodes,
		.marks = registry->error_marks,
		.proc_self_fd = registry->config.proc_self_fd,
		.everything = true,
	};
	struct epoll_event event = {.events = EPOLLIN};
	int err;

	if (registry->errors)
		return 0;
	err = vfsd_source_fanotify.create(&config, &registry->errors);
	if (err)
		return err;
	event.data.fd = registry->errors->fd;
	if (epoll_ctl(registry->epoll_fd, EPOLL_CTL_ADD, registry->errors->fd, &event) < 0)
		return -errno;
	return 0;
}

static int set_interest(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			struct vfsd_inode *root, uint32_t mask)
{
	struct vfsd_marks_change change;
	int err;

	err = vfsd_marks_set(registry->error_marks, root->nodeid, watch->owner, mask, &change);
	if (err || change.old_union == change.new_union)
		return err;
	err = registry->errors->ops->watch_filesystem(registry->errors, root, change.new_union);
	if (err)
		(void)vfsd_marks_set(registry->error_marks, root->nodeid, watch->owner,
				     change.before, &change);
	return err;
}

int vfsd_watch_errors_want(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			   struct vfsd_inode *root)
{
	int err;

	if (!(watch->consumer->types >> VFSD_RECORD_ERROR & 1))
		return 0;
	err = open_errors(registry);
	return err ? err : set_interest(registry, watch, root, VFSD_SOURCE_FS_ERROR);
}

void vfsd_watch_errors_drop(struct vfsd_watch_registry *registry, const struct vfsd_watch *watch,
			    struct vfsd_inode *root)
{
	if (vfsd_marks_mask(registry->error_marks, root->nodeid, watch->owner) != 0)
		(void)set_interest(registry, watch, root, 0);
}

static void on_event(void *ctx, const struct vfsd_source_event *event)
{
	struct vfsd_watch_registry *registry = ctx;

	if (event->error == 0)
		return; /* a move: reported to sort other events, of which this group has none */
	for (struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next)
		for (uint32_t i = 0; i < c->n_watches; i++) {
			struct vfsd_watch *watch = &c->watches[i];

			if (watch->tree &&
			    vfsd_marks_mask(registry->error_marks, event->root, watch->owner) != 0)
				vfsd_watch_record_error(watch, event);
		}
}

static void on_lost(void *ctx)
{
	struct vfsd_watch_registry *registry = ctx;

	/* Moves, most likely; but errors may be among them. */
	for (struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next)
		if (c->types >> VFSD_RECORD_ERROR & 1)
			vfsd_watch_record_loss(c, 1);
}

static void pass_on(void *ctx)
{
	(void)ctx;
}

void vfsd_watch_errors_drain(struct vfsd_watch_registry *registry)
{
	const struct vfsd_source_sink sink = {
		.ctx = registry, .event = on_event, .lost = on_lost, .pass_on = pass_on};

	if (registry->errors)
		registry->errors->ops->drain(registry->errors, &sink);
}
