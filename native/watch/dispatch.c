/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/socket.h>

#include "watch/path_tree.h"
#include "watch/internal.h"
#include "base/log.h"
#include "watch/shm_ring.h"
#include "source/source.h"

/* What our own looking into a directory raises. */
#define LOOKING (FAN_OPEN | FAN_ACCESS | FAN_CLOSE_NOWRITE)

struct payload {
	struct vfsd_local_event event;
	char path[PATH_MAX];
};

_Static_assert(sizeof(struct payload) <= VFSD_SHAREDRING_PAYLOAD_MAX, "any path fits");

static void after_put(struct vfsd_local_consumer *consumer, int result)
{
	/*
	 * A socket, for each of its ends blocks or not as that one says. An eventfd is one file to both,
	 * and who fills it and makes it blocking would have us wait.
	 */
	if (result > 0)
		(void)send(consumer->bell_fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (result >= 0 || consumer->broken)
		return;
	consumer->broken = true;
	(void)shutdown(consumer->bell_fd, SHUT_RDWR);
	VFSD_LOG_LIMITED(VFSD_LOG_WARN, "local: consumer %d broke its ring and is let go",
			 consumer->number);
}

static bool wants(const struct vfsd_local_consumer *consumer, enum vfsd_record_type type,
		  unsigned int subtype)
{
	return (consumer->types >> type & 1) && (consumer->subtypes[type] >> subtype & 1);
}

static void put(struct vfsd_local_watch *watch, enum vfsd_record_type type, unsigned int subtype,
		const struct payload *payload)
{
	struct vfsd_local_consumer *consumer = watch->consumer;

	after_put(consumer, vfsd_sharedring_put(
				    consumer->ring, type, (uint16_t)subtype, watch->id, payload,
				    (uint32_t)sizeof(payload->event) + payload->event.path_bytes));
}

void vfsd_local_tell_loss(struct vfsd_local_consumer *consumer, uint64_t count)
{
	after_put(consumer, vfsd_sharedring_put_loss(consumer->ring, count));
}

void vfsd_local_tell_status(struct vfsd_local_watch *watch, enum vfsd_watch_status status,
			    int error, const char *path)
{
	struct payload payload = {.event.error = -error};
	size_t bytes = strnlen(path, sizeof(payload.path));

	memcpy(payload.path, path, bytes);
	payload.event.path_bytes = (uint32_t)bytes;
	put(watch, VFSD_RECORD_WATCH, status, &payload);
}

void vfsd_local_tell_error(struct vfsd_local_watch *watch, const struct vfsd_source_event *event)
{
	struct payload payload = {.event.error = event->error, .event.cookie = event->errors};
	int bytes;

	if (!wants(watch->consumer, VFSD_RECORD_ERROR, 0))
		return;
	bytes = vfsd_dirtree_path(watch->tree, event->nodeid, NULL, payload.path,
				  sizeof(payload.path));
	/* What is at fault need not be a directory that we know: the filesystem is. */
	if (bytes < 0)
		bytes = vfsd_dirtree_path(watch->tree, event->root, NULL, payload.path,
					  sizeof(payload.path));
	if (bytes < 0) {
		vfsd_local_tell_loss(watch->consumer, 1);
		return;
	}
	payload.event.path_bytes = (uint32_t)bytes;
	put(watch, VFSD_RECORD_ERROR, 0, &payload);
}

void vfsd_local_tell_mounted(struct vfsd_local_watch *watch, const vfsd_local_mount *mount)
{
	struct vfsd_local_consumer *consumer = watch->consumer;
	struct {
		struct vfsd_local_mounted mounted;
		char text[PATH_MAX + 64];
	} payload;
	size_t path = strlen(mount->path), kind = strlen(mount->kind);

	if (!wants(consumer, (enum vfsd_record_type)mount->type, (unsigned int)mount->subtype))
		return;
	if (path + kind > sizeof(payload.text)) {
		vfsd_local_tell_loss(consumer, 1);
		return;
	}
	payload.mounted = (struct vfsd_local_mounted){
		.mnt_id = mount->mnt_id,
		.major = mount->major,
		.minor = mount->minor,
		.flags = mount->flags,
		.path_bytes = (uint32_t)path,
		.kind_bytes = (uint32_t)kind,
	};
	memcpy(payload.text, mount->path, path);
	memcpy(payload.text + path, mount->kind, kind);
	after_put(consumer, vfsd_sharedring_put(consumer->ring, (enum vfsd_record_type)mount->type,
						(uint16_t)mount->subtype, watch->id, &payload,
						(uint32_t)(sizeof(payload.mounted) + path + kind)));
}

/* @mask: one bit, and FAN_ONDIR. */
static void tell(struct vfsd_local_watch *watch, uint64_t nodeid, const char *name, uint32_t mask,
		 const struct vfsd_local_event *rest)
{
	uint32_t bit = mask & VFSD_LOCAL_EVENTS;
	struct payload payload;
	unsigned int subtype;
	int bytes;

	if (!(bit & watch->mask))
		return;
	subtype = (unsigned int)__builtin_ctz(bit);
	if (!wants(watch->consumer, VFSD_RECORD_FSNOTIFY, subtype))
		return;
	if (watch->doubts && name) {
		vfsd_local_tell_loss(watch->consumer, 1);
		return;
	}
	bytes = vfsd_dirtree_path(watch->tree, nodeid, name, payload.path, sizeof(payload.path));
	if (bytes < 0) {
		/* Outside of the tree by now; or too deep for a path, which must not go unnoticed. */
		if (bytes == -ENAMETOOLONG)
			vfsd_local_tell_loss(watch->consumer, 1);
		return;
	}
	payload.event = *rest;
	payload.event.mask = mask;
	payload.event.path_bytes = (uint32_t)bytes;
	put(watch, VFSD_RECORD_FSNOTIFY, subtype, &payload);
}

void vfsd_local_tell_found(struct vfsd_local_watch *watch, uint64_t nodeid, const char *name,
			   bool is_dir)
{
	const struct vfsd_local_event event = {.flags = VFSD_LOCAL_FOUND};

	tell(watch, nodeid, name, FAN_CREATE | (is_dir ? FAN_ONDIR : 0u), &event);
}

static enum vfsd_origin origin_of(const struct vfsd_source *source)
{
	if (source->ops->server_mask != 0)
		return VFSD_ORIGIN_UNKNOWN;
	return source->own ? VFSD_ORIGIN_GUEST : VFSD_ORIGIN_HOST;
}

void vfsd_local_tell_gone(struct vfsd_local *local, struct vfsd_local_watch *watch)
{
	if (!watch->tree)
		return;
	vfsd_local_tell_status(watch, VFSD_WATCH_GONE, 0, watch->path);
	vfsd_local_watch_end(local, watch);
}

bool vfsd_local_follow_root(struct vfsd_local *local, struct vfsd_local_watch *watch)
{
	enum vfsd_local_place place = vfsd_local_place(local, watch);

	if (place == VFSD_PLACE_UNKNOWN) {
		watch->doubts += watch->doubts == 0;
		vfsd_local_wake(local);
	}
	return place != VFSD_PLACE_OUTSIDE;
}

/* An event of what @watch is about itself: it has no name below it. */
static void tell_root(struct vfsd_local *local, struct vfsd_local_watch *watch,
		      const struct vfsd_source_event *event, const struct vfsd_local_event *rest)
{
	uint64_t root = vfsd_dirtree_root(watch->tree);
	uint32_t on_dir = event->mask & FAN_ONDIR;

	if (event->mask & VFSD_LOCAL_EVENTS)
		tell(watch, root, NULL, event->mask & ((uint32_t)VFSD_LOCAL_EVENTS | FAN_ONDIR),
		     rest);
	if (!event->unlinked)
		return;
	tell(watch, root, NULL, FAN_DELETE_SELF | on_dir, rest);
	vfsd_local_tell_gone(local, watch);
}

void vfsd_local_tell_event(struct vfsd_local *local, struct vfsd_local_watch *watch,
			   const struct vfsd_source_event *event)
{
	const struct vfsd_local_event rest = {.cookie = event->cookie,
					      .origin = origin_of(local->source)};
	uint64_t root = vfsd_dirtree_root(watch->tree);

	if ((event->mask & FAN_MOVE_SELF) && !vfsd_local_follow_root(local, watch)) {
		if (event->nodeid == root)
			tell_root(local, watch, event, &rest);
		vfsd_local_tell_gone(local, watch);
		return;
	}
	if ((event->mask & FAN_ONDIR) && (event->mask & LOOKING) && rest.origin != VFSD_ORIGIN_HOST)
		return;
	if (event->name && vfsd_dirtree_has(watch->tree, event->nodeid)) {
		if (event->mask & VFSD_LOCAL_EVENTS)
			tell(watch, event->nodeid, event->name,
			     event->mask & ((uint32_t)VFSD_LOCAL_EVENTS | FAN_ONDIR), &rest);
		if (watch->recursive && (event->mask & FAN_ONDIR))
			vfsd_local_watch_follow(local, watch, event);
	} else if ((!event->name && event->nodeid == root) ||
		   (event->name && event->child == root && !event->parent_only &&
		    !(event->mask & (FAN_CREATE | FAN_DELETE | FAN_MOVE)))) {
		/* By its name in a directory only somebody else watches, or by none. */
		tell_root(local, watch, event, &rest);
	}
}
