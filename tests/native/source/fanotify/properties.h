/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * properties - what holds of the steps of any batch:
 *   - what happened to an object is reported once, all of it, and nothing else; so is its end;
 *   - an end that was put off comes after all else of its object, if all was read at once;
 *   - a name is created only where it is not known to be, and deleted only where it is not known to be
 *     gone; of names without renames that means in turns;
 *   - both halves of a rename are one after the other, with a cookie that is theirs alone.
 */
#ifndef VFSD_PROPERTIES_H
#define VFSD_PROPERTIES_H

#include "steps.h"

enum { PROPERTIES_MAX = 4096, REPORTED = (int)(VFSD_FAN_REPORTABLE & ~VFSD_FAN_DIRENT) };

static struct {
	bool ends_move;		       /* by reorder_late_ends(), so not to behind everything */
	uint32_t bits[PROPERTIES_MAX]; /* that were reported, of each event */
	uint32_t n_ends;
	const struct vfsd_file_handle *ended[PROPERTIES_MAX];
	uint32_t n_names;
	struct {
		const struct vfsd_fan_place *place;
		uint32_t last; /* enum vfsd_fan_name_bits */
	} names[PROPERTIES_MAX];
	const struct vfsd_fan_event *half; /* a MOVED_FROM was just reported */
	uint32_t cookie;
} properties;

static inline uint32_t *properties_name(const struct vfsd_fan_place *place)
{
	uint32_t i = 0;

	while (i < properties.n_names && !vfsd_fan_is_place(properties.names[i].place, place))
		i++;
	CHECK(i < PROPERTIES_MAX);
	if (i == properties.n_names) {
		properties.names[i].place = place;
		properties.names[i].last = 0;
		properties.n_names++;
	}
	return &properties.names[i].last;
}

static inline void properties_of_name(struct steps *steps, const struct vfsd_fan_step *step)
{
	const struct vfsd_fan_event *event = step->event;
	const uint32_t does = vfsd_fan_name_bits(step->mask);
	uint32_t *last = properties_name(step->place);

	CHECK(step->place->name);
	CHECK(!event->self_generated);
	CHECK(vfsd_fan_of_name(event, step->place) != 0);
	CHECK(does == VFSD_FAN_NAME_COMES || does == VFSD_FAN_NAME_GOES);
	if (step->mask & VFSD_FAN_MOVED) {
		CHECK(step->cookie != 0);
		if (step->place == &event->new_name && steps_reports(NULL, &event->old_name))
			CHECK(properties.half == event && properties.cookie == step->cookie);
		else if (step->place != &event->where)
			CHECK(step->cookie > properties.cookie);
		properties.half = step->place == &event->old_name ? event : NULL;
		properties.cookie = step->cookie;
	} else {
		CHECK_EQ(step->cookie, 0);
		CHECK(*last != does);
	}
	*last = does;
	(void)steps;
}

static inline void properties_each(struct steps *steps, const struct vfsd_fan_step *step)
{
	const size_t i = (size_t)(step->event - steps->events.at);
	const struct vfsd_fan_event *half = properties.half;

	CHECK(i < steps->events.count);
	properties.half = NULL;
	switch (step->kind) {
	case VFSD_FAN_STEP_NAME:
		properties.half = half;
		properties_of_name(steps, step);
		break;
	case VFSD_FAN_STEP_OBJECT:
		CHECK(step->mask != 0);
		CHECK((step->mask & step->event->mask & REPORTED) == step->mask);
		CHECK(!(properties.bits[i] & step->mask));
		properties.bits[i] |= step->mask;
		for (uint32_t k = 0; k < properties.n_ends && !properties.ends_move; k++)
			CHECK(!vfsd_file_handle_equal(properties.ended[k],
						      vfsd_fan_self(step->event)->handle));
		break;
	case VFSD_FAN_STEP_END:
		CHECK(properties.n_ends < PROPERTIES_MAX);
		properties.ended[properties.n_ends++] = step->handle;
		break;
	}
	/* The other half of a rename is next, if there is one. */
	if (half && properties.half != half)
		CHECK(!(half->mask & FAN_RENAME) || !steps_reports(NULL, &half->new_name) ||
		      step->kind == VFSD_FAN_STEP_NAME);
}

static inline void properties_batch(struct steps *steps)
{
	uint32_t n_ends = 0;

	for (uint32_t i = 0; i < steps->events.count; i++) {
		const struct vfsd_fan_event *event = &steps->events.at[i];
		uint32_t wanted = (uint32_t)event->mask & REPORTED;

		if (event->self_generated)
			wanted &= FAN_DELETE_SELF;
		CHECK_EQ(wanted & ~(uint32_t)FAN_DELETE_SELF,
			 properties.bits[i] & ~(uint32_t)FAN_DELETE_SELF);
		n_ends += (wanted & ~properties.bits[i]) != 0;
		properties.bits[i] = 0;
	}
	CHECK_EQ(n_ends, properties.n_ends);
	properties.n_ends = properties.n_names = 0;
	properties.half = NULL;
}

/* Check @steps, which was created, when it is run. */
static inline void properties_check(struct steps *steps, bool ends_move)
{
	properties.ends_move = ends_move;
	properties.n_ends = properties.n_names = properties.cookie = 0;
	properties.half = NULL;
	memset(properties.bits, 0, sizeof(properties.bits));
	steps->each = properties_each;
	steps->batch = properties_batch;
}

#endif
