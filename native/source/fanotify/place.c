/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/internal.h"

#include <string.h>
#include <unistd.h>

#include "source/marks.h"
#include "base/util.h"

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

	if (!source->whole)
		return vfsd_fan_find(source, place);
	found = (struct vfsd_fan_found){.name = place->name, .name_bytes = place->name_bytes};
	found.inode =
		vfsd_whole_find_dir(source->whole, &place->handle, &found.unknown, &found.left);
	return found;
}

bool vfsd_fan_may_name(const struct vfsd_fan_source *source, const struct vfsd_inode *parent,
		       int dir_fd)
{
	/* The name is that of now. Who watches the parent hears of it wherever that is. */
	return !source->whole || vfsd_marks_union(source->config.marks, parent->nodeid) != 0 ||
	       vfsd_inode_is_below_root(source->config.inodes, dir_fd);
}

void vfsd_fan_leave(const struct vfsd_fan_source *source, const struct vfsd_fan_found *place)
{
	vfsd_inode_put(source->config.inodes, place->inode);
}

void vfsd_fan_tell(const struct vfsd_source_sink *sink, const struct vfsd_fan_found *place,
		   struct vfsd_source_event event)
{
	/* Without an id and without a name there is nothing to tell. */
	if (place->left && !place->name)
		return;
	event.nodeid = place->left ? 0 : place->inode->nodeid;
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

bool vfsd_fan_put_off(struct vfsd_fan_source *source, const struct vfsd_fan_event *event,
		      const uint8_t *at, const uint8_t *end)
{
	struct vfsd_inode *known;
	const struct vfsd_file_handle *handle = &vfsd_fan_self(event)->handle;
	const uint8_t *after = NULL;
	struct vfsd_fan_event later;
	bool is_next = true;

	if (!(event->mask & FAN_DELETE_SELF) ||
	    !(event->mask & REPORTABLE & ~(uint64_t)FAN_DELETE_SELF))
		return false;
	/* To look through all that follows is worth it only for what is told at all. */
	known = vfsd_inode_find_handle(source->config.inodes, handle);
	vfsd_inode_put(source->config.inodes, known);
	if (!known)
		return false;
	while (vfsd_fan_next(&at, end, &later)) {
		bool renames_onto = is_next && later.pid == event->pid &&
				    (event->mask & FAN_ATTRIB) && (later.mask & FAN_MOVE_SELF);

		is_next = false;
		if (renames_onto || vfsd_fan_concerns(&later, handle))
			after = at;
	}
	return after && vfsd_fan_move_end(source, handle, after);
}

void vfsd_fan_tell_ends(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			const uint8_t *at, const struct vfsd_file_handle *handle)
{
	struct vfsd_fan_ends *ends = &source->ends;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < ends->count; i++) {
		struct vfsd_fan_found self = {0};

		if (ends->at[i].after > at ||
		    (handle && !vfsd_file_handle_equal(handle, &ends->at[i].handle))) {
			ends->at[kept++] = ends->at[i];
			continue;
		}
		self.inode = vfsd_inode_find_handle(source->config.inodes, &ends->at[i].handle);
		if (self.inode)
			vfsd_fan_tell_end(sink, &self);
		vfsd_fan_leave(source, &self);
	}
	ends->count = kept;
}

void vfsd_fan_take(struct vfsd_fan_source *source, const uint8_t *at, uint64_t told)
{
	struct fanotify_event_metadata event;

	memcpy(&event, at, sizeof(event));
	event.mask &= ~told;
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

/* Is the object @handle told of behind @fresh, with FAN_ATTRIB? */
static bool may_be_ending(const struct vfsd_fan_source *source, const uint8_t *fresh,
			  const struct vfsd_file_handle *handle)
{
	struct vfsd_fan_event event;

	while (vfsd_fan_next(&fresh, source->batch.end, &event))
		if ((event.mask & FAN_ATTRIB) &&
		    vfsd_file_handle_equal(&event.object.handle, handle))
			return true;
	return false;
}

/*
 * Tell the ends behind @fresh, of @handle (NULL: of directories that were ours to end), before what was
 * removed since each of these was last told of.
 */
static void put_ends_right(struct vfsd_fan_source *source, const uint8_t *fresh,
			   const struct vfsd_file_handle *handle)
{
	const uint8_t *at = fresh, *here = at, *removed;
	struct vfsd_fan_event event;

	for (; vfsd_fan_next(&at, source->batch.end, &event); here = at) {
		const struct vfsd_file_handle *its = &vfsd_fan_self(&event)->handle;
		bool meant = handle ? vfsd_file_handle_equal(its, handle) :
				      vfsd_fan_is_dir(&event) && event.pid == source->self;

		if (!meant || !(event.mask & FAN_DELETE_SELF))
			continue;
		removed = removed_before(source, its, here);
		if (removed && vfsd_fan_move_end(source, its, removed))
			vfsd_fan_take(source, here, FAN_DELETE_SELF);
	}
}

void vfsd_fan_let_go(struct vfsd_fan_source *source, uint64_t nodeid, int dir_fd)
{
	const uint8_t *fresh = source->batch.end;
	struct vfsd_inode *inode = vfsd_inode_get(source->config.inodes, nodeid);
	bool all;

	/* ATTRIB, with the last link, comes before the name goes; the end may be the host's to tell. */
	if (inode && vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &all) &&
	    may_be_ending(source, fresh, vfsd_inode_handle(inode))) {
		vfsd_source_await_removals(dir_fd);
		(void)vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &all);
		put_ends_right(source, fresh, vfsd_inode_handle(inode));
	}
	vfsd_inode_put(source->config.inodes, inode);
}

void vfsd_fan_let_go_dir(struct vfsd_fan_source *source, int fd)
{
	const uint8_t *fresh = source->batch.end;
	bool all;

	vfsd_source_outlast(fd);
	(void)close(fd);
	if (vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &all))
		put_ends_right(source, fresh, NULL);
}

void vfsd_fan_close_dir(struct vfsd_fan_source *source)
{
	int fd = source->dir_fd;

	source->dir_fd = -1;
	if (fd >= 0)
		vfsd_fan_let_go_dir(source, fd);
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
