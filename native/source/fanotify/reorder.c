/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/reorder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

int vfsd_fan_reorder_init(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_reorder_ops *ops,
			  void *ctx, const struct vfsd_fan_events *events)
{
	reorder->ops = ops;
	reorder->ctx = ctx;
	reorder->events = events;
	reorder->early = calloc(events->max, sizeof(*reorder->early));
	return reorder->early ? vfsd_fan_window_create(&reorder->window) : -ENOMEM;
}

void vfsd_fan_reorder_free(struct vfsd_fan_reorder *reorder)
{
	vfsd_fan_window_destroy(reorder->window);
	free(reorder->early);
}

void vfsd_fan_reorder_begin(struct vfsd_fan_reorder *reorder)
{
	memset(reorder->early, 0, reorder->early_count * sizeof(*reorder->early));
	reorder->next = reorder->early_count = reorder->n_ends = 0;
}

/* The bits of event @i that its turn is left with. */
static uint64_t left_of(const struct vfsd_fan_reorder *reorder, uint32_t i)
{
	return reorder->events->at[i].mask & ~(uint64_t)reorder->early[i];
}

static void set_early(struct vfsd_fan_reorder *reorder, uint32_t i, uint32_t bits)
{
	reorder->early[i] |= bits;
	if (reorder->early_count <= i)
		reorder->early_count = i + 1;
}

static void emit(struct vfsd_fan_reorder *reorder, struct vfsd_fan_step step)
{
	reorder->ops->step(reorder->ctx, &step);
}

static void emit_name(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event,
		      const struct vfsd_fan_place *place, uint32_t bit,
		      const struct vfsd_fan_place *child_at, uint32_t cookie)
{
	emit(reorder, (struct vfsd_fan_step){.kind = VFSD_FAN_STEP_NAME,
					     .event = event,
					     .place = place,
					     .child_at = child_at,
					     .mask = bit,
					     .cookie = cookie});
}

/* CREATE or DELETE; @step is one of enum vfsd_fan_name_bits. */
static void emit_step(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event,
		      const struct vfsd_fan_place *place, uint32_t step)
{
	if (step == VFSD_FAN_NAME_COMES)
		emit_name(reorder, event, place, FAN_CREATE, place, 0);
	else
		emit_name(reorder, event, place, FAN_DELETE, NULL, 0);
}

/* Ends of objects */

/* False: there are too many. */
static bool move_end(struct vfsd_fan_reorder *reorder, const struct vfsd_file_handle *handle,
		     const struct vfsd_fan_event *event, uint32_t before)
{
	if (reorder->n_ends == VFSD_ARRAY_SIZE(reorder->ends))
		return false;
	reorder->ends[reorder->n_ends++] = (struct vfsd_fan_end){handle, event, before};
	return true;
}

/* Put off the end of event @i behind all that is about the same object. */
static void put_off_end(struct vfsd_fan_reorder *reorder, uint32_t i)
{
	const struct vfsd_fan_event *event = &reorder->events->at[i];
	const struct vfsd_file_handle *handle = vfsd_fan_self(event)->handle;
	const uint64_t mask = left_of(reorder, i);
	uint32_t before = 0;

	if (!(mask & FAN_DELETE_SELF) || !(mask & VFSD_FAN_REPORTABLE & ~(uint64_t)FAN_DELETE_SELF))
		return;
	/* To search all that follows is worth it only for what is reported at all. */
	if (!reorder->ops->knows(reorder->ctx, handle))
		return;
	for (uint32_t k = i + 1; k < reorder->events->count; k++) {
		const struct vfsd_fan_event *later = &reorder->events->at[k];
		bool renames_onto = k == i + 1 && later->pid == event->pid && (mask & FAN_ATTRIB) &&
				    (later->mask & FAN_MOVE_SELF);

		if (renames_onto || vfsd_fan_concerns(later, handle))
			before = k + 1;
	}
	if (before != 0 && move_end(reorder, handle, event, before))
		set_early(reorder, i, FAN_DELETE_SELF);
}

/* Emit the ends that wait for event @i, of @handle or (NULL) all, in their order. */
static void emit_ends(struct vfsd_fan_reorder *reorder, uint32_t i,
		      const struct vfsd_file_handle *handle)
{
	uint32_t kept = 0;

	for (uint32_t k = 0; k < reorder->n_ends; k++) {
		const struct vfsd_fan_end end = reorder->ends[k];

		if (end.before > i || (handle && !vfsd_file_handle_equal(handle, end.handle)))
			reorder->ends[kept++] = end;
		else
			emit(reorder, (struct vfsd_fan_step){.kind = VFSD_FAN_STEP_END,
							     .event = end.event,
							     .handle = end.handle});
	}
	reorder->n_ends = kept;
}

void vfsd_fan_reorder_ends(struct vfsd_fan_reorder *reorder)
{
	emit_ends(reorder, reorder->next, NULL);
}

/* The first name that was removed behind all else that happened to @handle, before event @end; @end: none. */
static uint32_t removed_before(const struct vfsd_fan_reorder *reorder,
			       const struct vfsd_file_handle *handle, uint32_t end)
{
	uint32_t removed = end;

	for (uint32_t i = reorder->next; i < end; i++)
		if (vfsd_fan_concerns(&reorder->events->at[i], handle))
			removed = end;
		else if ((reorder->events->at[i].mask & FAN_DELETE) && removed == end)
			removed = i;
	return removed;
}

void vfsd_fan_reorder_late_ends(struct vfsd_fan_reorder *reorder, uint32_t fresh,
				const struct vfsd_file_handle *handle)
{
	for (uint32_t i = fresh; i < reorder->events->count; i++) {
		const struct vfsd_fan_event *event = &reorder->events->at[i];
		const struct vfsd_file_handle *its = vfsd_fan_self(event)->handle;
		bool meant = handle ? vfsd_file_handle_equal(its, handle) :
				      vfsd_fan_is_dir(event) && event->self_generated;
		uint32_t removed;

		if (!meant || !(left_of(reorder, i) & FAN_DELETE_SELF))
			continue;
		removed = removed_before(reorder, its, i);
		if (removed < i && move_end(reorder, its, &reorder->events->at[removed], removed))
			set_early(reorder, i, FAN_DELETE_SELF);
	}
}

/* Events of objects */

/*
 * What is wanted of event @i. What is self-generated is not, except for the end of an object: whoever drops
 * the last reference is named as its author, and that may well be a descriptor of this daemon. The
 * guest treats an end that it knows already as nothing.
 */
static uint32_t wanted_of(const struct vfsd_fan_reorder *reorder, uint32_t i)
{
	uint32_t mask = (uint32_t)left_of(reorder, i) & VFSD_FAN_REPORTABLE;

	return reorder->events->at[i].self_generated && !reorder->everything ?
		       mask & FAN_DELETE_SELF :
		       mask;
}

static void emit_object(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event,
			uint32_t mask, const struct vfsd_fan_place *gone)
{
	mask &= ~(uint32_t)VFSD_FAN_DIRENT;
	if (mask != 0)
		emit(reorder, (struct vfsd_fan_step){.kind = VFSD_FAN_STEP_OBJECT,
						     .event = event,
						     .place = gone,
						     .mask = mask});
}

/* Report event @i, of an object that has lost its name @gone, before its turn. */
static void report_early(struct vfsd_fan_reorder *reorder, uint32_t i,
			 const struct vfsd_fan_place *gone)
{
	uint32_t mask;

	put_off_end(reorder, i);
	mask = wanted_of(reorder, i);
	set_early(reorder, i, VFSD_FAN_REPORTABLE);
	emit_object(reorder, &reorder->events->at[i], mask, gone);
}

/* What happened to the object whose name came or went by @event, which may be merged with that. */
static void its_object(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event,
		       uint32_t mask)
{
	const struct vfsd_fan_events *events = reorder->events;
	/* A DELETE that was merged may have come behind all that follows. */
	const bool any_time = (event->mask & FAN_DELETE) &&
			      (event->mask & ~(uint64_t)(FAN_DELETE | FAN_ONDIR));
	const struct vfsd_fan_place *gone = any_time ? &event->where : NULL;
	const struct vfsd_fan_event *later;
	bool all_early = true;
	uint32_t cursor = 0;

	emit_object(reorder, event, mask, gone);
	if (!any_time || event->object.handle->bytes == 0)
		return;
	while ((later = vfsd_fan_ahead_object(reorder, event->object.handle, &cursor)) != NULL) {
		if (later->mask & (VFSD_FAN_DIRENT | FAN_RENAME | FAN_Q_OVERFLOW))
			break; /* another of its names, or another time that it has this; or a loss */
		/* Not what was done by another name of it. */
		if (vfsd_fan_is_dir(later) || !later->where.name ||
		    vfsd_fan_is_place(&later->where, &event->where))
			report_early(reorder, (uint32_t)(later - events->at), gone);
		else
			all_early = false;
	}
	if (all_early)
		emit_ends(reorder, later ? (uint32_t)(later - events->at) : events->count,
			  event->object.handle);
}

/* Events of names */

/* Report what else the host's queue hides of a name in a rename. Returns whether something was. */
static bool report_hidden(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event,
			  const struct vfsd_fan_place *place)
{
	struct vfsd_fan_window *window = reorder->window;
	uint32_t step;

	if (!vfsd_fan_window_may_hide(window, place))
		return false;
	step = vfsd_fan_window_hidden(window, place,
				      reorder->ops->exists(reorder->ctx, place, NULL));
	if (step == 0 || vfsd_fan_look_ahead(reorder, place).any)
		return false;
	vfsd_fan_window_reported(window, place, step);
	emit_step(reorder, event, place, step);
	return true;
}

static uint32_t new_cookie(struct vfsd_fan_reorder *reorder)
{
	if (++reorder->last_cookie == 0)
		reorder->last_cookie = 1;
	return reorder->last_cookie;
}

/* Returns whether what is reported to have come is called so now. */
static bool rename_once(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event)
{
	const struct vfsd_fan_place *from = &event->old_name, *to = &event->new_name;
	const uint32_t cookie = new_cookie(reorder);
	bool is_there = true;

	if (!reorder->ops->reports(reorder->ctx, from))
		from = NULL;
	if (!reorder->ops->reports(reorder->ctx, to))
		to = NULL;
	if (to)
		is_there = reorder->ops->exists(reorder->ctx, to, NULL);
	if (from) {
		if (vfsd_fan_window_moved(reorder->window, from, VFSD_FAN_NAME_GOES))
			emit_name(reorder, event, from, FAN_CREATE, NULL, 0);
		emit_name(reorder, event, from, FAN_MOVED_FROM, to, cookie);
	}
	if (to) {
		(void)vfsd_fan_window_moved(reorder->window, to, VFSD_FAN_NAME_COMES);
		emit_name(reorder, event, to, FAN_MOVED_TO, to, cookie);
	}
	if (from)
		(void)report_hidden(reorder, event, from);
	return (to && report_hidden(reorder, event, to)) || is_there;
}

/*
 * A rename may be merged too, into one that was the same: there, back and there again. What came
 * last and is not there has gone by a rename that was reported before; it is reported again.
 */
static void renames(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event)
{
	const struct vfsd_fan_event *same = NULL;

	if (rename_once(reorder, event) || vfsd_fan_look_ahead(reorder, &event->new_name).any)
		return;
	for (const struct vfsd_fan_event *before = reorder->events->at; before < event; before++)
		if (!before->self_generated &&
		    (vfsd_fan_of_name(before, &event->new_name) & FAN_MOVED_FROM))
			same = before;
	if (same && (same->mask & FAN_RENAME))
		(void)rename_once(reorder, same);
}

/* Hosts before FAN_RENAME queue the two halves next to each other. */
static void half_of_rename(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event,
			   uint32_t bit)
{
	const struct vfsd_fan_place *place = &event->where;
	const bool comes = bit == FAN_MOVED_TO;
	uint32_t cookie = reorder->open_cookie;

	reorder->open_cookie = 0;
	if (!comes || cookie == 0)
		cookie = new_cookie(reorder);
	if (!comes)
		reorder->open_cookie = cookie;
	(void)vfsd_fan_window_moved(reorder->window, place,
				    comes ? VFSD_FAN_NAME_COMES : VFSD_FAN_NAME_GOES);
	emit_name(reorder, event, place, bit, comes ? place : NULL, cookie);
}

/* What of @mask is about a name in a directory, and what of it happened to the object of that name. */
static void dirents(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_event *event,
		    uint32_t mask)
{
	const struct vfsd_fan_place *place = &event->where;
	const uint32_t bits = vfsd_fan_name_bits(mask & ~(uint32_t)VFSD_FAN_MOVED);
	bool object_done = false, came = !(mask & FAN_CREATE), exists = false;
	uint32_t steps[VFSD_FAN_NAME_STEPS_MAX], n = 0;
	struct vfsd_fan_ahead later = {0};

	if (!reorder->ops->reports(reorder->ctx, place)) {
		its_object(reorder, event, mask);
		return;
	}
	if (vfsd_fan_window_must_look(reorder->window, place, bits)) {
		exists = reorder->ops->exists(reorder->ctx, place, event->object.handle);
		/* Behind that: what took the name away is in the queue by now. */
		later = vfsd_fan_look_ahead(reorder, place);
	}
	if (bits != 0)
		n = vfsd_fan_window_order(reorder->window, place, bits, exists, &later, steps);
	for (uint32_t i = 0; i < n; i++) {
		if (steps[i] == VFSD_FAN_NAME_GOES && came && !object_done) {
			its_object(reorder, event, mask);
			object_done = true;
		}
		came |= steps[i] == VFSD_FAN_NAME_COMES;
		emit_step(reorder, event, place, steps[i]);
	}
	if (mask & FAN_MOVED_FROM)
		half_of_rename(reorder, event, FAN_MOVED_FROM);
	if (mask & FAN_MOVED_TO)
		half_of_rename(reorder, event, FAN_MOVED_TO);
	if (!object_done)
		its_object(reorder, event, mask);
}

void vfsd_fan_reorder_next(struct vfsd_fan_reorder *reorder)
{
	const uint32_t i = reorder->next;
	const struct vfsd_fan_event *event = &reorder->events->at[i];
	uint32_t mask;

	put_off_end(reorder, i);
	reorder->next++;
	mask = wanted_of(reorder, i);
	/* Which Linux merges with nothing else. */
	if ((event->mask & FAN_RENAME) && (!event->self_generated || reorder->everything))
		renames(reorder, event);
	if (mask & VFSD_FAN_DIRENT)
		dirents(reorder, event, mask);
	else
		emit_object(reorder, event, mask, NULL);
	vfsd_fan_reorder_ends(reorder);
}
