/* SPDX-License-Identifier: BSD-3-Clause */
#include "fanotify_internal.h"

#include <string.h>
#include <unistd.h>

#include "util.h"

struct vfsd_fan_found vfsd_fan_find(const struct vfsd_fan_source *source,
				    const struct vfsd_fan_place *place)
{
	return (struct vfsd_fan_found){
		.inode = vfsd_inode_find_handle(source->config.inodes, &place->handle),
		.name = place->name,
		.name_bytes = place->name_bytes,
	};
}

struct vfsd_fan_found vfsd_fan_find_dir(const struct vfsd_fan_source *source,
					const struct vfsd_fan_place *place)
{
	struct vfsd_fan_found found;

	if (!vfsd_whole_active(source->whole))
		return vfsd_fan_find(source, place);
	found = (struct vfsd_fan_found){.name = place->name, .name_bytes = place->name_bytes};
	found.inode = vfsd_whole_find_dir(source->whole, &place->handle, &found.unknown);
	return found;
}

void vfsd_fan_leave(const struct vfsd_fan_source *source, const struct vfsd_fan_found *place)
{
	vfsd_inode_put(source->config.inodes, place->inode);
}

void vfsd_fan_tell(const struct vfsd_source_sink *sink, const struct vfsd_fan_found *place,
		   struct vfsd_source_event event)
{
	event.nodeid = place->inode->nodeid;
	event.unknown_dir = place->unknown;
	event.name = place->name;
	event.name_bytes = place->name ? place->name_bytes : 0;
	sink->event(sink->ctx, &event);
}

void vfsd_fan_tell_end(const struct vfsd_source_sink *sink, const struct vfsd_fan_found *self)
{
	vfsd_fan_tell(sink, self, (struct vfsd_source_event){.unlinked = true});
}

bool vfsd_fan_move_end(struct vfsd_fan_source *source, const struct vfsd_file_handle *handle,
		       const uint8_t *after)
{
	struct vfsd_fan_ends *ends = &source->ends;

	if (ends->count == VFSD_ARRAY_SIZE(ends->at))
		return false;
	vfsd_file_handle_copy(&ends->at[ends->count].handle, handle);
	ends->at[ends->count++].after = after;
	return true;
}

/* The event at @at is told elsewhere. */
static void forget_end(struct vfsd_fan_source *source, const uint8_t *at)
{
	struct fanotify_event_metadata event;

	memcpy(&event, at, sizeof(event));
	event.mask &= ~(uint64_t)FAN_DELETE_SELF;
	memcpy(source->batch.buffer + (at - source->batch.buffer), &event, sizeof(event));
}

/* The first name that was removed behind all else that happened to @handle and before @upto. */
static const uint8_t *removed_before(const struct vfsd_fan_source *source,
				     const struct vfsd_file_handle *handle, const uint8_t *upto)
{
	const uint8_t *at = source->batch.at, *here = at, *removed = NULL;
	struct vfsd_fan_event event;

	for (; vfsd_fan_next(&at, upto, &event); here = at)
		if (vfsd_fan_concerns(&event, handle))
			removed = NULL;
		else if ((event.mask & FAN_DELETE) && !removed)
			removed = here;
	return removed;
}

/* Behind @fresh, does something happen to the object @handle with one of @bits? Where, or NULL. */
static const uint8_t *happens(const struct vfsd_fan_source *source, const uint8_t *fresh,
			      const struct vfsd_file_handle *handle, uint64_t bits)
{
	const uint8_t *here = fresh;
	struct vfsd_fan_event event;

	for (; vfsd_fan_next(&fresh, source->batch.end, &event); here = fresh)
		if ((event.mask & bits) &&
		    vfsd_file_handle_equal(&vfsd_fan_self(&event)->handle, handle))
			return here;
	return NULL;
}

void vfsd_fan_let_go(struct vfsd_fan_source *source, uint64_t nodeid, int dir_fd)
{
	const uint8_t *fresh = source->batch.end, *end, *removed;
	struct vfsd_inode *inode = vfsd_inode_get(source->config.inodes, nodeid);
	const struct vfsd_file_handle *handle;
	bool all;

	if (!inode || !vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &all))
		goto out;
	handle = vfsd_inode_handle(inode);
	/* ATTRIB, with the last link, comes before the name goes; the end may be the host's to tell. */
	if (dir_fd >= 0 && happens(source, fresh, handle, FAN_ATTRIB)) {
		vfsd_source_await_removals(dir_fd);
		(void)vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &all);
	}
	end = happens(source, fresh, handle, FAN_DELETE_SELF);
	removed = end ? removed_before(source, handle, end) : NULL;
	if (removed && vfsd_fan_move_end(source, handle, removed))
		forget_end(source, end);
out:
	vfsd_inode_put(source->config.inodes, inode);
}

void vfsd_fan_close_dir(struct vfsd_fan_source *source)
{
	if (source->dir_fd < 0)
		return;
	vfsd_source_outlast(source->dir_fd);
	(void)close(source->dir_fd);
	source->dir_fd = -1;
	vfsd_fan_let_go(source, source->dir_nodeid, -1);
}

int vfsd_fan_open_dir(struct vfsd_fan_source *source, struct vfsd_inode *dir)
{
	bool transient;
	int fd;

	if (source->dir_fd >= 0 && source->dir_nodeid == dir->nodeid)
		return source->dir_fd;
	fd = vfsd_inode_fd_get(source->config.inodes, dir, &transient);
	if (fd < 0 || !transient)
		return fd;
	vfsd_fan_close_dir(source);
	source->dir_fd = fd;
	source->dir_nodeid = dir->nodeid;
	return fd;
}
