/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/agent_feed.h"

#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "fsnotify/record_ring.h"
#include "fuse/wire.h"

enum {
	/* A record of the ring becomes these at most: half a rename before it, itself, an end. */
	PARTS_MAX = 3,
	PART_BYTES_MAX = sizeof(struct vfsd_agent_record_head) + 2 * (VFSD_AGENT_NAME_MAX + 1),
	/* MOVE_SELF follows its rename, but for what happened to a file that it replaced. */
	MOVE_SELF_WITHIN = 4,
};

_Static_assert(sizeof(struct vfsd_agent_batch) + PARTS_MAX * PART_BYTES_MAX <=
		       (size_t)VFSD_AGENT_FEED_MIN,
	       "one record of the ring always fits");

void vfsd_agent_feed_reset(struct vfsd_agent_feed *feed)
{
	feed->from.kind = (enum vfsd_agent_kind)0;
	feed->moved = 0;
	feed->moved_left = 0;
}

static enum vfsd_agent_kind kind_of(uint64_t bit)
{
	switch (bit) {
	case FAN_CREATE:
		return VFSD_AGENT_CREATE;
	case FAN_DELETE:
		return VFSD_AGENT_DELETE;
	case FAN_MOVED_FROM:
		return VFSD_AGENT_MOVED_OUT;
	case FAN_MOVED_TO:
		return VFSD_AGENT_MOVED_IN;
	case FAN_MODIFY:
		return VFSD_AGENT_MODIFY;
	case FAN_ATTRIB:
		return VFSD_AGENT_ATTRIB;
	case FAN_ACCESS:
		return VFSD_AGENT_ACCESS;
	case FAN_OPEN:
		return VFSD_AGENT_OPEN;
	case FAN_CLOSE_WRITE:
		return VFSD_AGENT_CLOSE_WRITE;
	case FAN_CLOSE_NOWRITE:
		return VFSD_AGENT_CLOSE_NOWRITE;
	case FAN_MOVE_SELF:
		return VFSD_AGENT_MOVE_SELF;
	case 0: /* unless it is an end */
		return VFSD_AGENT_FORGOTTEN;
	default: /* what the agent has no call for */
		return (enum vfsd_agent_kind)0;
	}
}

/* There is room. A record that says too little to be done again is dropped: nobody could. */
static void put(struct vfsd_agent_feed *feed, struct vfsd_agent_writer *writer,
		struct vfsd_agent_record *record)
{
	record->sequence = feed->sequence + 1;
	if (vfsd_agent_batch_add(writer, record))
		feed->sequence++;
}

/* Does the guest's kernel raise that by itself, when the agent ends the object? */
static bool is_of_end(const struct vfsd_agent_feed *feed, const struct vfsd_agent_record *record,
		      bool ends)
{
	if (record->kind == VFSD_AGENT_FORGOTTEN)
		return ends;
	return record->kind == VFSD_AGENT_ATTRIB &&
	       (ends || (record->node == 0 && !feed->has_name(feed->ctx, record->child)));
}

/* The other half of it does not come. */
static void put_half(struct vfsd_agent_feed *feed, struct vfsd_agent_writer *writer)
{
	if (feed->from.kind != 0)
		put(feed, writer, &feed->from);
	feed->from.kind = (enum vfsd_agent_kind)0;
}

/* @out, whose name follows it, as far as it is about one event. */
static struct vfsd_agent_record convert(const struct vfsd_agent_feed *feed,
					const struct fuse_notify_fsnotify_out *out,
					const char *name)
{
	const bool named = out->namelen != 0;
	struct vfsd_agent_record record = {
		.kind = kind_of(out->mask & ~(uint64_t)FAN_ONDIR),
		.cookie = out->cookie,
		.node = named ? out->nodeid : 0,
		.child = named ? out->child : out->nodeid,
		.mode = out->mask & FAN_ONDIR ? S_IFDIR : 0,
	};

	if (named && out->namelen <= VFSD_AGENT_NAME_MAX)
		memcpy(record.name, name, out->namelen);
	if (record.mode == 0 &&
	    (record.kind == VFSD_AGENT_CREATE || record.kind == VFSD_AGENT_MOVED_IN))
		record.mode = feed->type_of(feed->ctx, record.node, record.name);
	if (record.mode == 0 && !named)
		record.mode = feed->type_of(feed->ctx, record.child, NULL);
	if (record.mode == 0)
		record.mode = S_IFREG;
	return record;
}

/* Are @record and the one before it the halves of a rename? Then that is put. */
static bool put_rename(struct vfsd_agent_feed *feed, struct vfsd_agent_writer *writer,
		       const struct vfsd_agent_record *record)
{
	struct vfsd_agent_record rename = feed->from;

	if (feed->from.kind == 0 || record->kind != VFSD_AGENT_MOVED_IN ||
	    record->cookie != feed->from.cookie)
		return false;
	rename.kind = VFSD_AGENT_RENAME;
	rename.other = record->node;
	rename.child = record->child;
	memcpy(rename.other_name, record->name, sizeof(rename.other_name));
	feed->from.kind = (enum vfsd_agent_kind)0;
	put(feed, writer, &rename);
	feed->moved = record->child;
	feed->moved_left = MOVE_SELF_WITHIN;
	return true;
}

/* Did the guest's kernel raise that by itself, when the agent renamed the object? */
static bool is_of_rename(struct vfsd_agent_feed *feed, const struct vfsd_agent_record *record)
{
	if (feed->moved_left == 0)
		return false;
	feed->moved_left--;
	if (record->kind != VFSD_AGENT_MOVE_SELF || record->child != feed->moved)
		return false;
	feed->moved_left = 0;
	return true;
}

static void put_event(struct vfsd_agent_feed *feed, struct vfsd_agent_writer *writer,
		      const struct fuse_notify_fsnotify_out *out, const char *name)
{
	const bool ends = out->flags & FUSE_FSN_UNLINKED;
	struct vfsd_agent_record record = convert(feed, out, name);
	struct vfsd_agent_record end = {
		.kind = VFSD_AGENT_ENDED, .child = record.child, .mode = record.mode};

	if (!put_rename(feed, writer, &record)) {
		put_half(feed, writer);
		if (record.kind == VFSD_AGENT_MOVED_OUT && record.cookie != 0)
			feed->from = record;
		else if (record.kind != 0 && !is_of_rename(feed, &record) &&
			 !is_of_end(feed, &record, ends))
			put(feed, writer, &record);
	}
	if (ends) {
		put_half(feed, writer);
		put(feed, writer, &end);
	}
}

size_t vfsd_agent_feed_take(struct vfsd_agent_feed *feed, struct vfsd_record_ring *ring, void *to,
			    size_t room)
{
	const uint64_t first = feed->sequence + 1;
	struct vfsd_agent_record loss = {.kind = VFSD_AGENT_LOSS};
	struct vfsd_agent_writer writer;
	const struct vfsd_record *from;

	vfsd_agent_batch_begin(&writer, to, room);
	while (writer.size - writer.used >= (size_t)PARTS_MAX * PART_BYTES_MAX &&
	       (from = vfsd_record_ring_peek(ring)) != NULL) {
		if (from->type == VFSD_RECORD_FSNOTIFY) {
			const struct fuse_notify_fsnotify_out *out = (const void *)from->payload;

			put_event(feed, &writer, out, (const char *)(out + 1));
		} else {
			put_half(feed, &writer);
			put(feed, &writer, &loss);
		}
		vfsd_record_ring_consume(ring);
	}
	/* Both halves are queued at once: what is not there now does not come. */
	if (vfsd_record_ring_empty(ring))
		put_half(feed, &writer);
	return writer.count == 0 ? 0 : vfsd_agent_batch_end(&writer, first);
}
