/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/internal.h"

#include "source/marks.h"
#include "base/util.h"

/* Of a name that came or went, by a rename if there is a cookie. */
static void tell_name(const struct vfsd_source_sink *sink, const struct vfsd_fan_found *place,
		      uint32_t mask, uint64_t child, uint32_t cookie)
{
	vfsd_fan_tell(sink, place,
		      (struct vfsd_source_event){.mask = mask, .child = child, .cookie = cookie});
}

/* vfsd_source_node_in() of @dir, which need not be open. */
static uint64_t node_at(struct vfsd_fan_source *source, struct vfsd_inode *dir, const char *name,
			bool *exists)
{
	int fd = vfsd_fan_open_dir(source, dir);
	uint64_t nodeid;

	*exists = false;
	if (fd < 0)
		return 0;
	nodeid = vfsd_source_node_in(source->config.inodes, fd, name, exists);
	vfsd_fan_let_go(source, nodeid, fd);
	return nodeid;
}

/* enum vfsd_name_bits of FAN_* */
static uint32_t name_bits(uint32_t mask)
{
	return (mask & (FAN_CREATE | FAN_MOVED_TO) ? VFSD_NAME_COMES : 0u) |
	       (mask & (FAN_DELETE | FAN_MOVED_FROM) ? VFSD_NAME_GOES : 0u);
}

/* What the rest of the queue says of the name @place. */
static struct vfsd_names_ahead look_ahead(struct vfsd_fan_source *source,
					  const struct vfsd_fan_place *place)
{
	const uint32_t both = VFSD_NAME_COMES | VFSD_NAME_GOES;
	struct vfsd_names_ahead ahead = {0};
	uint32_t cursor = 0, bits;

	while ((bits = name_bits(vfsd_fan_ahead_next(source->ahead, place, &cursor))) != 0) {
		ahead.last = bits == both ? 0 : bits;
		if (!ahead.any)
			ahead.first = ahead.last;
		ahead.any = true;
	}
	return ahead;
}

/*
 * A rename of @name, in the directory @place, was told: now what else the host's queue hides of it.
 * Returns whether something was.
 */
static bool settle(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
		   const struct vfsd_fan_place *name, const struct vfsd_fan_found *place,
		   uint32_t on_dir)
{
	struct vfsd_names *names = source->names;
	uint64_t child, dir;
	uint32_t step;
	bool exists;

	if (!place->inode || !place->name)
		return false;
	dir = place->inode->nodeid;
	if (!vfsd_names_may_hide(names, dir, place->name))
		return false;
	child = node_at(source, place->inode, place->name, &exists);
	step = vfsd_names_hidden(names, dir, place->name, exists);
	if (step == 0 || look_ahead(source, name).any)
		return false;
	vfsd_names_told(names, dir, place->name, step);
	if (step == VFSD_NAME_COMES)
		tell_name(sink, place, FAN_CREATE | on_dir, child, 0);
	else
		tell_name(sink, place, FAN_DELETE | on_dir, 0, 0);
	return true;
}

/* Returns whether what is told to have come is called so now. */
static bool tell_rename(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			const struct vfsd_fan_event *event)
{
	struct vfsd_fan_found from = vfsd_fan_find_dir(source, &event->old_name);
	struct vfsd_fan_found to = vfsd_fan_find_dir(source, &event->new_name);
	uint32_t on_dir = (uint32_t)event->mask & FAN_ONDIR;
	uint64_t child = 0;
	bool is_there = true;

	if (++source->last_cookie == 0)
		source->last_cookie = 1;
	if (to.inode && to.name)
		child = node_at(source, to.inode, to.name, &is_there);
	if (from.inode && from.name) {
		if (vfsd_names_moved(source->names, from.inode->nodeid, from.name, VFSD_NAME_GOES))
			tell_name(sink, &from, FAN_CREATE | on_dir, 0, 0);
		tell_name(sink, &from, FAN_MOVED_FROM | on_dir, child, source->last_cookie);
	}
	if (to.inode && to.name) {
		(void)vfsd_names_moved(source->names, to.inode->nodeid, to.name, VFSD_NAME_COMES);
		tell_name(sink, &to, FAN_MOVED_TO | on_dir, child, source->last_cookie);
	}
	(void)settle(source, sink, &event->old_name, &from, on_dir);
	is_there |= settle(source, sink, &event->new_name, &to, on_dir);
	vfsd_fan_leave(source, &from);
	vfsd_fan_leave(source, &to);
	return is_there;
}

/*
 * A rename may be merged too, into one that was the same: there, back and there again. What came
 * last and is not there has gone by a rename that was told before; it is told again.
 */
void vfsd_fan_tell_renames(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			   const struct vfsd_fan_event *event)
{
	const uint8_t *at = source->batch.buffer;
	struct vfsd_fan_event before, same = {0};

	if (tell_rename(source, sink, event) || look_ahead(source, &event->new_name).any)
		return;
	while (at < source->batch.at && vfsd_fan_next(&at, source->batch.at, &before))
		if (before.pid != source->self &&
		    (vfsd_fan_of_name(&before, &event->new_name) & FAN_MOVED_FROM))
			same = before;
	if (same.mask & FAN_RENAME)
		(void)tell_rename(source, sink, &same);
}

/* Hosts before FAN_RENAME queue the two halves next to each other. */
static uint32_t half_cookie(struct vfsd_fan_source *source, uint32_t bit)
{
	uint32_t cookie = source->open_cookie;

	source->open_cookie = 0;
	if (bit == FAN_MOVED_TO && cookie != 0)
		return cookie;
	if (++source->last_cookie == 0)
		source->last_cookie = 1;
	if (bit == FAN_MOVED_FROM)
		source->open_cookie = source->last_cookie;
	return source->last_cookie;
}

/*
 * Is @place now the name of @object (bytes == 0: any will do)? Another object of that name
 * has events of its own. What took the name away has been told when this returns false.
 */
static bool is_named(struct vfsd_fan_source *source, const struct vfsd_fan_found *place,
		     const struct vfsd_file_handle *object)
{
	int fd = vfsd_fan_open_dir(source, place->inode);

	return fd >= 0 &&
	       !vfsd_source_lost_name(fd, place->name, object->bytes != 0 ? object : NULL);
}

/* What happened to the object whose name came or went by @event, which may be merged with that. */
static void tell_its_object(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			    const struct vfsd_fan_event *event, uint32_t mask, uint32_t on_dir)
{
	/* A DELETE that was merged may have come behind all that follows. */
	const bool any_time = (event->mask & FAN_DELETE) &&
			      (event->mask & ~(uint64_t)(FAN_DELETE | FAN_ONDIR));
	const struct vfsd_fan_place *gone = any_time ? &event->where : NULL;
	struct vfsd_fan_event later;
	const uint8_t *at, *upto;
	uint32_t cursor = 0;

	mask &= ~(uint32_t)DIRENT;
	if (mask != 0)
		vfsd_fan_tell_object(source, sink, event, mask, on_dir, gone);
	if (!any_time || event->object.handle.bytes == 0)
		return;
	while ((at = vfsd_fan_ahead_object(source->ahead, &event->object.handle, &cursor,
					   &later)) != NULL) {
		if (later.mask & (DIRENT | FAN_RENAME))
			break; /* another of its names, or another time that it has this */
		/* Not what was done by another name of it. */
		if (vfsd_fan_is_dir(&later) || !later.where.name ||
		    vfsd_fan_is_place(&later.where, &event->where))
			vfsd_fan_tell_early(source, sink, at, gone);
	}
	upto = at ? at : source->batch.end;
	vfsd_fan_tell_ends(source, sink, upto, &event->object.handle);
}

void vfsd_fan_tell_dirents(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			   const struct vfsd_fan_event *event, uint32_t mask, uint32_t on_dir)
{
	bool object_told = false, came = !(mask & FAN_CREATE);
	struct vfsd_fan_found found = vfsd_fan_find_dir(source, &event->where), *where = &found;
	uint32_t bits = name_bits(mask & ~(uint32_t)MOVED);
	uint32_t steps[VFSD_NAME_STEPS_MAX], n = 0;
	struct vfsd_names_ahead ahead = {0};
	uint64_t child = 0;
	uint32_t bit, names;
	bool exists = false, must_look;

	if (!where->inode || !where->name)
		goto out;
	must_look = vfsd_names_must_look(source->names, where->inode->nodeid, where->name, bits);
	if (must_look || (mask & (FAN_CREATE | FAN_MOVED_TO)))
		child = node_at(source, where->inode, where->name, &exists);
	if (must_look) {
		exists = is_named(source, where, &event->object.handle);
		/* Behind that: what took the name away is in the queue by now. */
		ahead = look_ahead(source, &event->where);
	}
	if (bits != 0)
		n = vfsd_names_order(source->names, where->inode->nodeid, where->name, bits, exists,
				     &ahead, steps);
	for (uint32_t i = 0; i < n; i++) {
		if (steps[i] == VFSD_NAME_GOES && came && !object_told) {
			tell_its_object(source, sink, event, mask, on_dir);
			object_told = true;
		}
		came |= steps[i] == VFSD_NAME_COMES;
		if (steps[i] == VFSD_NAME_COMES)
			tell_name(sink, where, FAN_CREATE | on_dir, child, 0);
		else
			tell_name(sink, where, FAN_DELETE | on_dir, 0, 0);
	}
	names = mask & MOVED;
	while ((bit = vfsd_source_next_bit(&names)) != 0) {
		(void)vfsd_names_moved(source->names, where->inode->nodeid, where->name,
				       bit == FAN_MOVED_TO ? VFSD_NAME_COMES : VFSD_NAME_GOES);
		tell_name(sink, where, bit | on_dir, bit == FAN_MOVED_TO ? child : 0,
			  half_cookie(source, bit));
	}
out:
	if (!object_told)
		tell_its_object(source, sink, event, mask, on_dir);
	vfsd_fan_leave(source, where);
}
