/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * steps - decoding and reordering of bytes without a kernel: the host's answers are made up, steps become text.
 *
 *   CREATE dN/NAME            DELETE, MOVED_FROM, MOVED_TO the same; MOVED_* with " =COOKIE"
 *   oN BIT[|BIT]... [gone]    something happened to object oN; gone: its name is by now
 *   END oN
 */
#ifndef VFSD_STEPS_H
#define VFSD_STEPS_H

#include <stdbool.h>

#include "raw.h"
#include "source/fanotify/reorder.h"

struct steps {
	struct vfsd_fan_events events;
	struct vfsd_fan_reorder reorder;
	struct numbers numbers;
	const uint8_t *bytes;
	size_t size;  /* of what the host has */
	size_t chunk; /* read(2) returns so much at once, whole events */
	size_t at;
	bool malformed; /* so reading has ended */
	/*
	 * What names there are: words, each with a blank before and behind, that are dN/NAME, NAME or
	 * NAME:HANDLE. NULL: @seed and their hash decide.
	 */
	const char *there;
	uint64_t seed;
	/* Called if not NULL: with each step, when a batch is done, and before the host answers. */
	void (*each)(struct steps *steps, const struct vfsd_fan_step *step);
	void (*batch)(struct steps *steps);
	void (*exists)(struct steps *steps, const struct vfsd_file_handle *object);
	struct text text;
	char got[1 << 18];
};

static inline bool steps_read(struct steps *steps)
{
	const uint8_t *bytes = steps->bytes + steps->at;
	size_t size = 0, left = steps->size - steps->at, n;
	uint32_t len;

	while (left - size >= sizeof(struct fanotify_event_metadata)) {
		memcpy(&len, bytes + size, sizeof(len));
		if (len < sizeof(struct fanotify_event_metadata) || len > left - size ||
		    (size > 0 && size + len > steps->chunk))
			break;
		size += len;
	}
	if (steps->malformed || size == 0)
		return false;
	n = vfsd_fan_decode(&steps->events, bytes, size);
	steps->at += n;
	steps->malformed = n < size;
	return n > 0;
}

static inline bool steps_reports(void *ctx, const struct vfsd_fan_place *place)
{
	(void)ctx;
	return place->name && place->handle->bytes != 0;
}

static inline bool steps_knows(void *ctx, const struct vfsd_file_handle *handle)
{
	(void)ctx;
	return handle->bytes != 0;
}

/* Is @hex the handle @object? */
static inline bool steps_is(const char *hex, const struct vfsd_file_handle *object)
{
	for (uint32_t i = 0; i < object->bytes; i++) {
		char byte[3];

		(void)snprintf(byte, sizeof(byte), "%02x", object->data[i]);
		if (strncmp(hex + (size_t)2 * i, byte, 2) != 0)
			return false;
	}
	return true;
}

static inline bool steps_exists(void *ctx, const struct vfsd_fan_place *place,
				const struct vfsd_file_handle *object)
{
	struct steps *steps = ctx;
	char word[600];

	if (steps->exists)
		steps->exists(steps, object);
	if (!steps->there)
		return vfsd_fan_hash(place->handle, place->name, place->name_bytes) >>
			       (steps->seed % 31) &
		       1;
	(void)snprintf(word, sizeof(word), " %s ", place->name);
	if (strstr(steps->there, word))
		return true;
	(void)snprintf(word, sizeof(word), " %s:", place->name);
	if (strstr(steps->there, word))
		return !object || object->bytes == 0 ||
		       steps_is(strstr(steps->there, word) + strlen(word), object);
	(void)snprintf(word, sizeof(word), " d%u/%s ", number_of(&steps->numbers, place->handle),
		       place->name);
	return strstr(steps->there, word) != NULL;
}

static inline bool steps_more(void *ctx)
{
	return steps_read(ctx);
}

static inline void steps_step(void *ctx, const struct vfsd_fan_step *step)
{
	struct steps *steps = ctx;
	struct text *text = &steps->text;

	if (steps->each)
		steps->each(steps, step);
	switch (step->kind) {
	case VFSD_FAN_STEP_NAME:
		text_bits(text, step->mask);
		text_place(text, &steps->numbers, step->place);
		text_put(text, step->cookie ? " =%u\n" : "\n", step->cookie);
		break;
	case VFSD_FAN_STEP_OBJECT:
		text_put(text, "o%u ",
			 number_of(&steps->numbers, vfsd_fan_self(step->event)->handle));
		text_bits(text, step->mask);
		text_put(text, step->place ? " gone\n" : "\n");
		break;
	case VFSD_FAN_STEP_END:
		text_put(text, "END o%u\n", number_of(&steps->numbers, step->handle));
		break;
	}
}

static const struct vfsd_fan_reorder_ops steps_ops = {
	.reports = steps_reports,
	.knows = steps_knows,
	.exists = steps_exists,
	.more = steps_more,
	.step = steps_step,
};

/* @chunk 0: all at once. */
static inline void steps_create(struct steps *steps, const uint8_t *bytes, size_t size,
				size_t chunk, const char *there)
{
	steps->numbers.count = 0;
	steps->bytes = bytes;
	steps->size = size;
	steps->chunk = chunk ? chunk : size;
	steps->at = 0;
	steps->malformed = false;
	steps->there = there;
	steps->seed = 0;
	steps->each = NULL;
	steps->batch = NULL;
	steps->exists = NULL;
	steps->text = (struct text){steps->got, sizeof(steps->got)};
	*steps->got = '\0';
	steps->reorder = (struct vfsd_fan_reorder){.everything = false};
	CHECK_EQ(vfsd_fan_events_init(&steps->events, RAW_SELF, 3 * size + 64), 0);
	CHECK_EQ(vfsd_fan_reorder_init(&steps->reorder, &steps_ops, steps, &steps->events), 0);
}

static inline void steps_destroy(struct steps *steps)
{
	vfsd_fan_reorder_free(&steps->reorder);
	vfsd_fan_events_free(&steps->events);
}

/* As the source does it: batch by batch, until all is read. */
static inline void steps_run(struct steps *steps)
{
	do {
		vfsd_fan_events_clear(&steps->events);
		steps->numbers.count = 0; /* they point into the events */
		if (!steps_read(steps))
			break;
		vfsd_fan_reorder_begin(&steps->reorder);
		while (steps->reorder.next < steps->events.count)
			vfsd_fan_reorder_next(&steps->reorder);
		vfsd_fan_reorder_ends(&steps->reorder);
		if (steps->batch)
			steps->batch(steps);
	} while (true);
}

#endif
