/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/marks.h"
#include "base/util.h"

/* The name that the directory @dir will lose, if the host's queue says so. */
static bool will_lose(struct vfsd_fan_source *source, const struct vfsd_file_handle *dir,
		      struct vfsd_fan_place *ret)
{
	struct vfsd_fan_event later;
	uint32_t cursor = 0;

	while (vfsd_fan_ahead_object(source->ahead, dir, &cursor, &later))
		if (later.mask & (DIRENT | FAN_RENAME)) {
			*ret = *vfsd_fan_lost_place(&later);
			return (later.mask & (FAN_DELETE | FAN_RENAME)) && ret->name;
		}
	return false;
}

static bool is_nameless(const struct vfsd_fan_nameless *nameless,
			const struct vfsd_file_handle *dir)
{
	for (uint32_t i = 0; i < nameless->count; i++)
		if (vfsd_file_handle_equal(&nameless->at[i].handle, dir))
			return true;
	return false;
}

/* Where the directory @dir, which the guest may know as @self, is now. False: it is gone. */
static bool look_up_dir(struct vfsd_fan_source *source, const struct vfsd_fan_found *self,
			const struct vfsd_file_handle *dir, struct vfsd_fan_found *ret,
			char name[VFSD_SOURCE_NAME_BYTES])
{
	struct vfsd_inodes *inodes = source->config.inodes;
	bool transient = true, is_there;
	struct stat st;
	int fd = self->inode ? vfsd_inode_fd_get(inodes, self->inode, &transient) :
			       vfsd_inode_handle_open(inodes, dir);

	if (fd < 0)
		return fd != -ESTALE;
	ret->inode = vfsd_source_parent_of(inodes, source->config.proc_self_fd, fd, name);
	if (ret->inode && !vfsd_fan_may_name(source, ret->inode, fd)) {
		vfsd_inode_put(inodes, ret->inode);
		ret->inode = NULL;
	}
	ret->name = name;
	ret->name_bytes = (uint32_t)strlen(name);
	is_there = ret->inode || fstat(fd, &st) < 0 || st.st_nlink > 0;
	if (transient)
		vfsd_fan_let_go_dir(source, fd);
	return is_there;
}

/*
 * An event of a directory names that itself, not its place: find out, for the watchers of the
 * directory that it is in. *ret stays empty if the guest does not know that one. False: it is gone, and
 * the host's queue does not have its name yet. @gone: its name, if that is known.
 */
static bool locate_dir(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
		       const struct vfsd_fan_found *self, const struct vfsd_file_handle *dir,
		       const struct vfsd_fan_place *gone, struct vfsd_fan_found *ret,
		       char name[VFSD_SOURCE_NAME_BYTES])
{
	struct vfsd_fan_place lost;
	bool is_gone = false;

	if (self->inode && self->inode->nodeid == VFSD_NODEID_ROOT)
		return true;
	if (!gone && will_lose(source, dir, &lost))
		gone = &lost;
	if (!gone)
		is_gone = is_nameless(&source->nameless, dir) ||
			  !look_up_dir(source, self, dir, ret, name);
	/* It may have gone since the queue was read. */
	if (is_gone && will_lose(source, dir, &lost))
		gone = &lost;
	if (!gone)
		return !is_gone;
	vfsd_fan_tell_nameless(source, sink, dir, gone);
	*ret = vfsd_fan_find_dir(source, gone);
	return true;
}

/* The host will say what it was called, if somebody watches where: what waits longest gives way. */
static void await_name(struct vfsd_fan_source *source, const struct vfsd_file_handle *dir,
		       uint32_t mask, bool parent_only)
{
	struct vfsd_fan_nameless *nameless = &source->nameless;
	struct vfsd_fan_visit *visit;

	if (nameless->count == VFSD_ARRAY_SIZE(nameless->at))
		memmove(&nameless->at[0], &nameless->at[1],
			--nameless->count * sizeof(nameless->at[0]));
	visit = &nameless->at[nameless->count++];
	vfsd_file_handle_copy(&visit->handle, dir);
	visit->mask = mask;
	visit->own = source->base.own;
	visit->parent_only = parent_only;
}

void vfsd_fan_tell_nameless(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			    const struct vfsd_file_handle *dir, const struct vfsd_fan_place *place)
{
	struct vfsd_fan_nameless *nameless = &source->nameless;
	struct vfsd_fan_found where = {0};
	const bool own = source->base.own;
	uint32_t kept = 0, bit;

	for (uint32_t i = 0; i < nameless->count; i++) {
		struct vfsd_fan_visit *visit = &nameless->at[i];

		if (!vfsd_file_handle_equal(&visit->handle, dir)) {
			nameless->at[kept++] = *visit;
			continue;
		}
		if (!where.inode)
			where = vfsd_fan_find_dir(source, place);
		source->base.own = visit->own;
		while (where.inode && where.name && (bit = vfsd_source_next_bit(&visit->mask)) != 0)
			vfsd_fan_tell(sink, &where,
				      (struct vfsd_source_event){
					      .mask = bit | FAN_ONDIR,
					      .parent_only = visit->parent_only,
				      });
	}
	nameless->count = kept;
	source->base.own = own;
	vfsd_fan_leave(source, &where);
}

/* @event or a later one may have taken the name away by which the object of @event was opened. */
static bool may_lose_name(struct vfsd_fan_source *source, const struct vfsd_fan_event *event,
			  bool by_name)
{
	const struct vfsd_file_handle *object = &event->object.handle;
	const uint8_t *at = source->batch.at;
	struct vfsd_fan_event later;
	bool whole;

	if (!by_name && (event->mask & (FAN_ATTRIB | FAN_MOVE_SELF)))
		return true;
	do {
		while (vfsd_fan_next(&at, source->batch.end, &later))
			if (by_name ?
				    vfsd_fan_of_name(&later, &event->where) & (FAN_DELETE | MOVED) :
				    (later.mask & (FAN_ATTRIB | FAN_MOVE_SELF)) &&
					    vfsd_file_handle_equal(&later.object.handle, object))
				return true;
	} while (vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &whole));
	return !whole;
}

/*
 * Was the name gone by which the object was opened? Looked for where somebody wants nothing of that
 * only. What is gone now may have gone after the event: then that is in the queue. In doubt, the
 * event is told.
 */
static bool is_unnamed(struct vfsd_fan_source *source, const struct vfsd_fan_event *event,
		       const struct vfsd_fan_found *self, const struct vfsd_fan_found *where)
{
	const struct vfsd_marks *marks = source->config.marks;
	uint32_t by_name, mask;
	bool gone;
	int fd;

	if (source->excluding == 0 || !(event->mask & BY_NAME) || vfsd_fan_is_dir(event) ||
	    !event->where.name)
		return false;
	by_name = mask = where->inode ? vfsd_marks_union(marks, where->inode->nodeid) : 0;
	by_name &= VFSD_SOURCE_EXCL_UNLINK;
	if (self->inode)
		mask |= vfsd_marks_union(marks, self->inode->nodeid);
	if (!(mask & VFSD_SOURCE_EXCL_UNLINK) ||
	    (where->inode &&
	     vfsd_names_is_merged(source->names, where->inode->nodeid, where->name)))
		return false;
	fd = where->inode ? vfsd_fan_open_dir(source, where->inode) :
			    vfsd_inode_handle_open(source->config.inodes, &event->where.handle);
	gone = fd >= 0 && vfsd_source_lost_name(fd, event->where.name, &event->object.handle);
	if (fd >= 0 && !where->inode)
		(void)close(fd);
	return (gone || fd == -ESTALE) && !may_lose_name(source, event, by_name != 0);
}

/*
 * What is no directory, and in *where the one that it has its name in. Whoever watches the object
 * itself hears of what is done to it by any name, whoever watches the filesystem only of names inside.
 */
static struct vfsd_fan_found find_object(const struct vfsd_fan_source *source,
					 const struct vfsd_fan_event *event,
					 struct vfsd_fan_found *where)
{
	struct vfsd_fan_found self = vfsd_fan_find(source, &event->object);

	*where = vfsd_fan_find_dir(source, &event->where);
	if (source->whole && self.inode && event->where.handle.bytes != 0 && !where->inode &&
	    vfsd_marks_union(source->config.marks, self.inode->nodeid) == 0) {
		vfsd_fan_leave(source, &self);
		self.inode = NULL;
	}
	return self;
}

void vfsd_fan_tell_object(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			  const struct vfsd_fan_event *event, uint32_t mask, uint32_t on_dir,
			  const struct vfsd_fan_place *gone)
{
	const bool is_dir = vfsd_fan_is_dir(event);
	struct vfsd_fan_found self, where = {0};
	uint64_t child;
	char name[VFSD_SOURCE_NAME_BYTES] = "";
	bool unlinked = false, told = false, unnamed;
	uint32_t bit;

	self = is_dir ? vfsd_fan_find_dir(source, &event->where) :
			find_object(source, event, &where);
	child = self.inode ? self.inode->nodeid : 0;
	if (is_dir && (mask & ON_CHILD) && !self.unknown &&
	    !locate_dir(source, sink, &self, &event->where.handle, gone, &where, name))
		await_name(source, &event->where.handle, mask & ON_CHILD, self.inode != NULL);
	if (self.inode && (mask & (FAN_ATTRIB | FAN_DELETE_SELF)))
		unlinked = (mask & FAN_DELETE_SELF) ||
			   vfsd_source_is_unlinked(source->config.inodes, self.inode);
	unnamed = !gone && is_unnamed(source, event, &self, &where);
	/* The guest's own dcache raises DELETE_SELF and IGNORED once it hears of the lost link. */
	mask &= ~(uint32_t)FAN_DELETE_SELF;
	/* The end comes last: after it the guest has no watch left to report the other bits to. */
	while ((bit = vfsd_source_next_bit(&mask)) != 0) {
		/* With a known directory the guest tells that one's watchers too, by name. */
		bool named = where.inode && where.name && (bit & ON_CHILD);

		told = unlinked && mask == 0;
		if (named || self.inode)
			vfsd_fan_tell(sink, named ? &where : &self,
				      (struct vfsd_source_event){
					      .mask = bit | on_dir,
					      .child = named ? child : 0,
					      .unlinked = told,
					      .unnamed = unnamed && (bit & BY_NAME),
				      });
	}
	if (unlinked && !told)
		vfsd_fan_tell_end(sink, &self);
	vfsd_fan_leave(source, &self);
	vfsd_fan_leave(source, &where);
}

void vfsd_fan_tell_early(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			 const uint8_t *at, const struct vfsd_fan_place *gone)
{
	const uint8_t *next = at;
	const bool own = source->base.own;
	struct vfsd_fan_event event;
	uint32_t mask;

	if (!vfsd_fan_next(&next, source->batch.end, &event) || (event.mask & FAN_Q_OVERFLOW))
		return;
	if (vfsd_fan_put_off(source, &event, next, source->batch.end))
		event.mask &= ~(uint64_t)FAN_DELETE_SELF;
	mask = vfsd_fan_begin_event(source, &event);
	vfsd_fan_take(source, at, REPORTABLE);
	if (mask != 0)
		vfsd_fan_tell_object(source, sink, &event, mask, (uint32_t)event.mask & FAN_ONDIR,
				     gone);
	source->base.own = own;
}

void vfsd_fan_tell_error(const struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			 const struct vfsd_fan_event *event)
{
	struct vfsd_fan_found self = vfsd_fan_find(source, &event->object);
	struct vfsd_source_event error = {
		.mask = VFSD_SOURCE_FS_ERROR, .error = event->error, .errors = event->error_count};

	for (uint32_t nth = 0; source->whole; nth++) {
		error.root = vfsd_whole_root(source->whole, event->object.handle.fsid, nth);
		if (error.root == 0)
			break;
		error.nodeid = self.inode ? self.inode->nodeid : error.root;
		sink->event(sink->ctx, &error);
	}
	vfsd_fan_leave(source, &self);
}
