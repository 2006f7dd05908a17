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

struct payload {
	struct vfsd_watch_event_payload event;
	char path[PATH_MAX];
};

_Static_assert(sizeof(struct payload) <= VFSD_SHM_RING_PAYLOAD_MAX, "any path fits");

static void after_put(struct vfsd_watch_consumer *consumer, int result)
{
	/*
	 * A socket, because each end of it chooses alone whether it blocks. An eventfd is one file to both:
	 * a consumer that fills it and makes it blocking would block the daemon.
	 */
	if (result > 0)
		(void)send(consumer->notify_fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (result >= 0 || consumer->broken)
		return;
	consumer->broken = true;
	(void)shutdown(consumer->notify_fd, SHUT_RDWR);
	VFSD_LOG_LIMITED(VFSD_LOG_WARN, "watch: consumer %d broke its ring and is dropped",
			 consumer->number);
}

static bool wants(const struct vfsd_watch_consumer *consumer, enum vfsd_record_type type,
		  unsigned int subtype)
{
	return (consumer->types >> type & 1) && (consumer->subtypes[type] >> subtype & 1);
}

static void put(struct vfsd_watch *watch, enum vfsd_record_type type, unsigned int subtype,
		const struct payload *payload)
{
	struct vfsd_watch_consumer *consumer = watch->consumer;

	after_put(consumer,
		  vfsd_shm_ring_put(consumer->ring, type, (uint16_t)subtype, watch->id, payload,
				    (uint32_t)sizeof(payload->event) + payload->event.path_bytes));
}

void vfsd_watch_record_loss(struct vfsd_watch_consumer *consumer, uint64_t count)
{
	after_put(consumer, vfsd_shm_ring_put_loss(consumer->ring, count));
}

void vfsd_watch_record_status(struct vfsd_watch *watch, enum vfsd_watch_status status, int error,
			      const char *path)
{
	struct payload payload = {.event.error = -error};
	size_t bytes = strnlen(path, sizeof(payload.path));

	memcpy(payload.path, path, bytes);
	payload.event.path_bytes = (uint32_t)bytes;
	put(watch, VFSD_RECORD_WATCH, status, &payload);
}

void vfsd_watch_record_error(struct vfsd_watch *watch, const struct vfsd_source_event *event)
{
	struct payload payload = {.event.error = event->error, .event.cookie = event->errors};
	int bytes;

	if (!wants(watch->consumer, VFSD_RECORD_ERROR, 0))
		return;
	bytes = vfsd_path_tree_path(watch->tree, event->nodeid, NULL, payload.path,
				    sizeof(payload.path));
	/* The inode at fault need not be a directory in the tree; the root of its filesystem is one. */
	if (bytes < 0)
		bytes = vfsd_path_tree_path(watch->tree, event->root, NULL, payload.path,
					    sizeof(payload.path));
	if (bytes < 0) {
		vfsd_watch_record_loss(watch->consumer, 1);
		return;
	}
	payload.event.path_bytes = (uint32_t)bytes;
	put(watch, VFSD_RECORD_ERROR, 0, &payload);
}

void vfsd_watch_record_mount(struct vfsd_watch *watch, const vfsd_watch_mount *mount)
{
	struct vfsd_watch_consumer *consumer = watch->consumer;
	struct {
		struct vfsd_watch_mount_payload mounted;
		char text[PATH_MAX + 64];
	} payload;
	size_t path = strlen(mount->path), kind = strlen(mount->kind);

	if (!wants(consumer, (enum vfsd_record_type)mount->type, (unsigned int)mount->subtype))
		return;
	if (path + kind > sizeof(payload.text)) {
		vfsd_watch_record_loss(consumer, 1);
		return;
	}
	payload.mounted = (struct vfsd_watch_mount_payload){
		.mnt_id = mount->mnt_id,
		.major = mount->major,
		.minor = mount->minor,
		.flags = mount->flags,
		.path_bytes = (uint32_t)path,
		.kind_bytes = (uint32_t)kind,
	};
	memcpy(payload.text, mount->path, path);
	memcpy(payload.text + path, mount->kind, kind);
	after_put(consumer, vfsd_shm_ring_put(consumer->ring, (enum vfsd_record_type)mount->type,
					      (uint16_t)mount->subtype, watch->id, &payload,
					      (uint32_t)(sizeof(payload.mounted) + path + kind)));
}

void vfsd_watch_record_event(struct vfsd_watch *watch, uint64_t nodeid, const char *name,
			     uint32_t mask, const struct vfsd_watch_event_payload *fields)
{
	uint32_t bit = mask & VFSD_WATCH_EVENTS;
	struct payload payload;
	unsigned int subtype;
	int bytes;

	if (!(bit & watch->mask))
		return;
	subtype = (unsigned int)__builtin_ctz(bit);
	if (!wants(watch->consumer, VFSD_RECORD_FSNOTIFY, subtype))
		return;
	if (watch->unknown_rounds && name) {
		vfsd_watch_record_loss(watch->consumer, 1);
		return;
	}
	bytes = vfsd_path_tree_path(watch->tree, nodeid, name, payload.path, sizeof(payload.path));
	if (bytes < 0) {
		/* Outside of the tree by now; or too deep for a path, which the consumer must notice. */
		if (bytes == -ENAMETOOLONG)
			vfsd_watch_record_loss(watch->consumer, 1);
		return;
	}
	payload.event = *fields;
	payload.event.mask = mask;
	payload.event.path_bytes = (uint32_t)bytes;
	put(watch, VFSD_RECORD_FSNOTIFY, subtype, &payload);
}
