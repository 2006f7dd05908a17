/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/internal.h"

#include <string.h>

#include "base/util.h"
#include "source/marks.h"

/* @event says what is not about the place. */
static void emit(const struct vfsd_fan_source *source, const struct vfsd_fan_found *found,
		 struct vfsd_source_event event)
{
	/* Without an id and without a name there is nothing to report. */
	if (found->left && !found->name)
		return;
	event.nodeid = found->left ? 0 : found->inode->nodeid;
	event.unknown_dir = found->unknown;
	event.name = found->name;
	event.name_bytes = found->name ? found->name_bytes : 0;
	source->sink->event(source->sink->ctx, &event);
}

static void emit_end(const struct vfsd_fan_source *source, const struct vfsd_fan_found *self,
		     const struct vfsd_fan_event *event)
{
	if (self->inode)
		emit(source, self,
		     (struct vfsd_source_event){.unlinked = true,
						.self_generated = event->self_generated});
}

static void emit_name(struct vfsd_fan_source *source, const struct vfsd_fan_step *step)
{
	uint64_t child = step->child_at ? vfsd_fan_child_at(source, step->child_at) : 0;
	const struct vfsd_fan_found *dir = vfsd_fan_dir_of(source, step->place);

	if (!dir->inode)
		return;
	emit(source, dir,
	     (struct vfsd_source_event){
		     .mask = step->mask | ((uint32_t)step->event->mask & FAN_ONDIR),
		     .child = child,
		     .cookie = step->cookie,
		     .self_generated = step->event->self_generated,
	     });
}

/*
 * The host will say what the directory was called, if somebody watches where. Until then @visit waits;
 * what waits longest gives way.
 */
static void await_name(struct vfsd_fan_source *source, const struct vfsd_file_handle *dir,
		       const struct vfsd_fan_visit *visit)
{
	struct vfsd_fan_nameless *nameless = &source->nameless;

	if (nameless->count == VFSD_ARRAY_SIZE(nameless->at))
		memmove(&nameless->at[0], &nameless->at[1],
			--nameless->count * sizeof(nameless->at[0]));
	nameless->at[nameless->count] = *visit;
	vfsd_file_handle_copy(&nameless->at[nameless->count++].handle, dir);
}

void vfsd_fan_emit_nameless(struct vfsd_fan_source *source, const struct vfsd_file_handle *dir,
			    const struct vfsd_fan_place *place)
{
	struct vfsd_fan_nameless *nameless = &source->nameless;
	struct vfsd_fan_found where = {0};
	uint32_t kept = 0, bit;

	for (uint32_t i = 0; i < nameless->count; i++) {
		struct vfsd_fan_visit *visit = &nameless->at[i];

		if (!vfsd_file_handle_equal(&visit->handle, dir)) {
			nameless->at[kept++] = *visit;
			continue;
		}
		if (!where.inode)
			where = vfsd_fan_find_dir(source, place);
		while (where.inode && where.name && (bit = vfsd_source_next_bit(&visit->mask)) != 0)
			emit(source, &where,
			     (struct vfsd_source_event){
				     .mask = bit | FAN_ONDIR,
				     .parent_only = visit->parent_only,
				     .self_generated = visit->self_generated,
			     });
	}
	nameless->count = kept;
	vfsd_fan_put(source, &where);
}

/*
 * An event of a directory names that itself, not its place: find that for the watchers of the directory
 * that it is in.
 */
static void place_dir(struct vfsd_fan_source *source, const struct vfsd_fan_step *step,
		      const struct vfsd_fan_found *self, struct vfsd_fan_found *where,
		      char name[VFSD_SOURCE_NAME_BYTES])
{
	const struct vfsd_file_handle *dir = step->event->where.handle;
	const struct vfsd_fan_place *gone = step->place;

	switch (vfsd_fan_locate_dir(source, self, dir, &gone, where, name)) {
	case VFSD_FAN_DIR_FOUND:
		break;
	case VFSD_FAN_DIR_LOST:
		vfsd_fan_emit_nameless(source, dir, gone);
		*where = vfsd_fan_find_dir(source, gone);
		break;
	case VFSD_FAN_DIR_GONE:
		await_name(source, dir,
			   &(struct vfsd_fan_visit){
				   .mask = step->mask & VFSD_FAN_ON_CHILD,
				   .self_generated = step->event->self_generated,
				   .parent_only = self->inode != NULL,
			   });
		break;
	}
}

static void emit_object(struct vfsd_fan_source *source, const struct vfsd_fan_step *step)
{
	const struct vfsd_fan_event *event = step->event;
	const bool is_dir = vfsd_fan_is_dir(event);
	/* The guest's own dcache raises DELETE_SELF and IGNORED once it receives the lost link. */
	uint32_t mask = step->mask & ~(uint32_t)FAN_DELETE_SELF, bit;
	struct vfsd_fan_found self, where = {0};
	char name[VFSD_SOURCE_NAME_BYTES] = "";
	bool unlinked = false, reported = false, unnamed;

	self = is_dir ? vfsd_fan_find_dir(source, &event->where) :
			vfsd_fan_find_object(source, event, &where);
	if (is_dir && (mask & VFSD_FAN_ON_CHILD) && !self.unknown)
		place_dir(source, step, &self, &where, name);
	if (self.inode && (step->mask & (FAN_ATTRIB | FAN_DELETE_SELF)))
		unlinked = (step->mask & FAN_DELETE_SELF) ||
			   vfsd_source_is_unlinked(source->config.inodes, self.inode);
	unnamed = !step->place && vfsd_fan_is_unnamed(source, event, &self, &where);
	/* The end comes last: after it the guest has no watch left to report the other bits to. */
	while ((bit = vfsd_source_next_bit(&mask)) != 0) {
		/* With a known directory the guest informs that one's watchers too, by name. */
		bool named = where.inode && where.name && (bit & VFSD_FAN_ON_CHILD);

		reported = unlinked && mask == 0;
		if (named || self.inode)
			emit(source, named ? &where : &self,
			     (struct vfsd_source_event){
				     .mask = bit | ((uint32_t)event->mask & FAN_ONDIR),
				     .child = named && self.inode ? self.inode->nodeid : 0,
				     .unlinked = reported,
				     .unnamed = unnamed && (bit & VFSD_FAN_BY_NAME),
				     .self_generated = event->self_generated,
			     });
	}
	if (unlinked && !reported)
		emit_end(source, &self, event);
	vfsd_fan_put(source, &self);
	vfsd_fan_put(source, &where);
}

void vfsd_fan_emit_step(void *ctx, const struct vfsd_fan_step *step)
{
	struct vfsd_fan_source *source = ctx;
	struct vfsd_fan_found self;

	switch (step->kind) {
	case VFSD_FAN_STEP_NAME:
		emit_name(source, step);
		break;
	case VFSD_FAN_STEP_OBJECT:
		emit_object(source, step);
		break;
	case VFSD_FAN_STEP_END:
		self = vfsd_fan_find(source, &(struct vfsd_fan_place){.handle = step->handle});
		emit_end(source, &self, step->event);
		vfsd_fan_put(source, &self);
		break;
	}
}

void vfsd_fan_emit_error(struct vfsd_fan_source *source, const struct vfsd_fan_event *event)
{
	struct vfsd_fan_found self = vfsd_fan_find(source, &event->object);
	struct vfsd_source_event error = {
		.mask = VFSD_SOURCE_FS_ERROR, .error = event->error, .errors = event->error_count};

	for (uint32_t nth = 0; source->fs_mark; nth++) {
		error.root = vfsd_fs_mark_root(source->fs_mark, event->object.handle->fsid, nth);
		if (error.root == 0)
			break;
		error.nodeid = self.inode ? self.inode->nodeid : error.root;
		source->sink->event(source->sink->ctx, &error);
	}
	vfsd_fan_put(source, &self);
}
