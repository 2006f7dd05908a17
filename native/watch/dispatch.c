/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h>
#include <sys/fanotify.h>

#include "watch/path_tree.h"
#include "watch/internal.h"
#include "source/source.h"

/* Directories scanned before events have their turn. */
enum { SCAN_BATCH = 16 };

/* The events of a directory that the daemon's own scan of it raises. */
#define SCANNING (FAN_OPEN | FAN_ACCESS | FAN_CLOSE_NOWRITE)

static enum vfsd_origin origin_of(const struct vfsd_source *source,
				  const struct vfsd_source_event *event)
{
	if (source->ops->server_mask != 0)
		return VFSD_ORIGIN_UNKNOWN;
	return event->self_generated ? VFSD_ORIGIN_GUEST : VFSD_ORIGIN_HOST;
}

/* The root of @watch may have been moved: check where it is. False: outside of the share. */
static bool follow_root(struct vfsd_watch_registry *registry, struct vfsd_watch *watch)
{
	enum vfsd_watch_place place = vfsd_watch_place_of(registry, watch);

	if (place == VFSD_PLACE_UNKNOWN && watch->unknown_rounds == 0)
		watch->unknown_rounds = 1; /* settle() comes after all events */
	return place != VFSD_PLACE_OUTSIDE;
}

/* Record an event of the root of @watch itself. */
static void record_root(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			const struct vfsd_source_event *event,
			const struct vfsd_watch_event_payload *fields)
{
	uint64_t root = vfsd_path_tree_root(watch->tree);
	uint32_t on_dir = event->mask & FAN_ONDIR;

	if (event->mask & VFSD_WATCH_EVENTS)
		vfsd_watch_record_event(watch, root, NULL,
					event->mask & (VFSD_WATCH_EVENTS | FAN_ONDIR), fields);
	if (!event->unlinked)
		return;
	vfsd_watch_record_event(watch, root, NULL, FAN_DELETE_SELF | on_dir, fields);
	vfsd_watch_end_gone(registry, watch);
}

static void dispatch_to(struct vfsd_watch_registry *registry, struct vfsd_watch *watch,
			const struct vfsd_source_event *event)
{
	const struct vfsd_watch_event_payload fields = {
		.cookie = event->cookie, .origin = origin_of(registry->source, event)};
	uint64_t root = vfsd_path_tree_root(watch->tree);

	if ((event->mask & FAN_MOVE_SELF) && !follow_root(registry, watch)) {
		if (event->nodeid == root)
			record_root(registry, watch, event, &fields);
		vfsd_watch_end_gone(registry, watch);
		return;
	}
	if ((event->mask & FAN_ONDIR) && (event->mask & SCANNING) &&
	    fields.origin != VFSD_ORIGIN_HOST)
		return;
	if (event->name && vfsd_path_tree_has(watch->tree, event->nodeid)) {
		if (event->mask & VFSD_WATCH_EVENTS)
			vfsd_watch_record_event(watch, event->nodeid, event->name,
						event->mask & (VFSD_WATCH_EVENTS | FAN_ONDIR),
						&fields);
		if (watch->recursive && (event->mask & FAN_ONDIR))
			vfsd_watch_follow(registry, watch, event);
	} else if ((!event->name && event->nodeid == root) ||
		   (event->name && event->child == root && !event->parent_only &&
		    !(event->mask & (FAN_CREATE | FAN_DELETE | FAN_MOVE)))) {
		/* By its name in a directory that only another watch covers, or by none. */
		record_root(registry, watch, event, &fields);
	}
}

static void on_event(void *ctx, const struct vfsd_source_event *event)
{
	struct vfsd_watch_registry *registry = ctx;

	for (struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next)
		for (uint32_t i = 0; i < c->n_watches; i++)
			if (c->watches[i].tree)
				dispatch_to(registry, &c->watches[i], event);
}

static void on_lost(void *ctx)
{
	struct vfsd_watch_registry *registry = ctx;

	for (struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next) {
		vfsd_watch_record_loss(c, 1);
		for (uint32_t i = 0; i < c->n_watches; i++)
			if (c->watches[i].tree && !follow_root(registry, &c->watches[i]))
				vfsd_watch_end_gone(registry, &c->watches[i]);
	}
	vfsd_watch_scan_again(registry);
}

static void pass_on(void *ctx)
{
	(void)ctx; /* each record is in its ring already */
}

/*
 * Settle a watch whose root cannot be opened. If the root was removed, the event that says so ends the watch,
 * and has come by the time that everything was read twice: the host raises it before the file handle is
 * stale. Otherwise the root is out of reach, and the watch ends here. True: not settled yet.
 */
static bool settle(struct vfsd_watch_registry *registry, struct vfsd_watch *watch)
{
	if (!watch->tree || watch->unknown_rounds == 0)
		return false;
	if (watch->unknown_rounds++ == 1)
		return true;
	vfsd_watch_end_gone(registry, watch);
	return false;
}

bool vfsd_watch_dispatch(struct vfsd_watch_registry *registry)
{
	const struct vfsd_source_sink sink = {
		.ctx = registry, .event = on_event, .lost = on_lost, .pass_on = pass_on};
	bool unsettled = false;

	if (!registry->source)
		return false;
	registry->source->ops->drain(registry->source, &sink);
	vfsd_watch_errors_drain(registry);
	for (struct vfsd_watch_consumer *c = registry->consumers; c; c = c->next)
		for (uint32_t i = 0; i < c->n_watches; i++) {
			unsettled |= settle(registry, &c->watches[i]);
			vfsd_watch_sweep(registry, &c->watches[i]);
		}
	for (int i = 0; i < SCAN_BATCH; i++)
		if (!vfsd_watch_scan_one(registry))
			return unsettled;
	return true;
}
