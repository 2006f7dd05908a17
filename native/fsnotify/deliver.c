/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the source's events to records in the guest's ring: events, errors of filesystems, losses.
 */
#include <string.h>
#include <sys/fanotify.h>

#include "fsnotify/record_ring.h"
#include "fsnotify/internal.h"
#include "base/log.h"
#include "source/marks.h"
#include "fsnotify/notify.h"
#include "base/nowait.h"
#include "fsnotify/rfc2021.h"
#include "source/source.h"
#include "base/util.h"
#include "fuse/wire.h"

static void put_event(struct vfsd_events *events, const struct vfsd_source_event *event)
{
	struct {
		struct fuse_notify_fsnotify_out out;
		char name[256];
	} record;
	uint32_t bytes = sizeof(record.out);

	/* NAME_MAX is the host's rule; a longer name would not fit a record. */
	if (event->name_bytes >= sizeof(record.name)) {
		vfsd_record_ring_put_loss(events->ring, 1);
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
	(void)vfsd_record_ring_put(events->ring, VFSD_RECORD_FSNOTIFY, 0, &record, bytes);
}

/* Put the errors of filesystems into the record ring, one each until the guest has read it. Event lock held. */
static void put_errors(struct vfsd_events *events)
{
	const struct vfsd_fs_error *error;

	while ((error = vfsd_fs_errors_next(&events->errors)) != NULL) {
		const struct fuse_notify_fsnotify_out out = {
			.nodeid = error->nodeid,
			.mask = VFSD_SOURCE_FS_ERROR,
			.cookie = error->count < UINT32_MAX ? (uint32_t)error->count : UINT32_MAX,
			.error = error->error,
		};

		if (!vfsd_record_ring_put(events->ring, VFSD_RECORD_FSNOTIFY, 0, &out, sizeof(out)))
			break; /* it is put when there is room again */
		vfsd_fs_errors_delivered(&events->errors, error);
	}
}

static void on_error(struct vfsd_events *events, const struct vfsd_source_event *event)
{
	const struct vfsd_fs_error error = {.root = event->root,
					    .nodeid = event->nodeid,
					    .error = event->error,
					    .count = event->errors};

	if (!vfsd_fs_errors_add(&events->errors, &error))
		vfsd_record_ring_put_loss(events->ring, 1);
	put_errors(events); /* now, to keep the order */
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

	VFSD_LOG_LIMITED(VFSD_LOG_WARN, "events: the host's queue overflowed, the guest gets an "
					"overflow");
	vfsd_record_ring_put_loss(events->ring, 1);
}

void vfsd_events_flush(void *ctx)
{
	struct vfsd_events *events = ctx;
	int err = 0;

	do {
		put_errors(events);
		if (events->muted)
			return;
		err = vfsd_notify_flush(events->notify);
		if (err || !vfsd_record_ring_empty(events->ring))
			break;
		vfsd_fs_errors_taken(&events->errors);
	} while (vfsd_fs_errors_next(&events->errors));
	if (!err)
		return;
	vfsd_log(VFSD_LOG_ERROR, "events: broken notification ring stopped");
	(void)vfsd_nowait_signal(events->err_fd);
}

void vfsd_events_pump(struct vfsd_events *events)
{
	const struct vfsd_source_sink sink = {
		.ctx = events, .event = on_event, .lost = on_lost, .pass_on = vfsd_events_flush};

	if (events->source)
		events->source->ops->drain(events->source, &sink);
	vfsd_events_flush(events);
}

/* The guest's interest in @nodeid, by marks of that inode or of filesystems. Event lock held. */
static uint32_t interest_in(const struct vfsd_events *events, uint64_t nodeid)
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

	vfsd_events_enter(events);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(bits) && (interest_in(events, nodeid) & event.mask);
	     i++)
		event.mask = bits[i];
	if (interest_in(events, nodeid) & event.mask)
		event.mask = FAN_CREATE;
	event.mask |= FAN_ONDIR;
	/* In the dialect of 2021 every record is an event for watchers. */
	if (events->source && !events->config.rfc2021) {
		put_event(events, &event);
		vfsd_events_flush(events);
	}
	vfsd_events_leave(events);
}

void vfsd_events_mounts_changed(struct vfsd_events *events)
{
	vfsd_events_enter(events);
	vfsd_events_end_roots(events);
	vfsd_events_leave(events);
}

void vfsd_events_report_loss(struct vfsd_events *events)
{
	vfsd_events_enter(events);
	vfsd_record_ring_put_loss(events->ring, 1);
	vfsd_events_flush(events);
	vfsd_events_leave(events);
}
