/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/window - how a name came and went, where the host has merged what it reports of it.
 *
 * fanotify merges an event into any unread one of the same name and process, even across events of
 * the same name by others: what is read may say CREATE and DELETE at once, or end with a DELETE of a
 * name that is there. What a guest receives of one name must come and go in turns, and end as things
 * are. Renames are merged only with renames that are the same, so they say what was there before and
 * after them.
 * This is the state that reordering keeps between batches: the names of one window, which lasts from
 * an empty host queue to the next, because nothing is merged beyond.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_WINDOW_H
#define VFSD_SOURCE_FANOTIFY_WINDOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/fanotify.h>

struct vfsd_fan_place;
struct vfsd_fan_window;

/* What an event does to a name. */
enum vfsd_fan_name_bits {
	VFSD_FAN_NAME_COMES = 1, /* CREATE or MOVED_TO */
	VFSD_FAN_NAME_GOES = 2,	 /* DELETE or MOVED_FROM */
};

/* Of FAN_* bits. */
static inline uint32_t vfsd_fan_name_bits(uint32_t mask)
{
	return (mask & (FAN_CREATE | FAN_MOVED_TO) ? VFSD_FAN_NAME_COMES : 0u) |
	       (mask & (FAN_DELETE | FAN_MOVED_FROM) ? VFSD_FAN_NAME_GOES : 0u);
}

enum { VFSD_FAN_NAME_STEPS_MAX = 3 };

/* 0 or -ENOMEM. */
int vfsd_fan_window_create(struct vfsd_fan_window **ret);
void vfsd_fan_window_destroy(struct vfsd_fan_window *window);

/* The host's queue was empty: the next window begins. */
void vfsd_fan_window_clear(struct vfsd_fan_window *window);

/*
 * Does vfsd_fan_window_order() have to know whether the name is there now? Not if @bits (any of enum
 * vfsd_fan_name_bits) is one bit of a name that is new in this window.
 */
bool vfsd_fan_window_must_look(const struct vfsd_fan_window *window,
			       const struct vfsd_fan_place *place, uint32_t bits);

/* What becomes of a name in its window after the event at hand, as far as was read. */
struct vfsd_fan_ahead {
	bool any;	/* there are more events of the name, renames among them */
	uint32_t first; /* what the next of them does with it; 0: both, or there is none */
	uint32_t last;	/* what the last one does */
};

/*
 * Puts into @ret, in order, what to report for an event with @bits: each one of enum
 * vfsd_fan_name_bits. That may be more than @bits, where merging has hidden a step, or nothing, for a
 * step that was reported before. @exists: whether the name is there now; @ahead: what happens until
 * then; both are ignored where vfsd_fan_window_must_look() said no. A step that belongs further on is
 * left to vfsd_fan_window_hidden(). Returns how many.
 */
uint32_t vfsd_fan_window_order(struct vfsd_fan_window *window, const struct vfsd_fan_place *place,
			       uint32_t bits, bool exists, const struct vfsd_fan_ahead *ahead,
			       uint32_t ret[VFSD_FAN_NAME_STEPS_MAX]);

/*
 * The name comes or goes by a rename, which is reported as it is. Returns what has to be reported
 * before: 0, or VFSD_FAN_NAME_COMES of what goes now and was hidden in an earlier event.
 */
uint32_t vfsd_fan_window_moved(struct vfsd_fan_window *window, const struct vfsd_fan_place *place,
			       uint32_t bit);

/* May vfsd_fan_window_hidden() return something? If not, nobody has to look. */
bool vfsd_fan_window_may_hide(const struct vfsd_fan_window *window,
			      const struct vfsd_fan_place *place);

/*
 * If no more events of the name follow in this window: what was hidden in an earlier event and has to be
 * reported now? 0, or one of enum vfsd_fan_name_bits, to be confirmed by vfsd_fan_window_reported().
 */
uint32_t vfsd_fan_window_hidden(const struct vfsd_fan_window *window,
				const struct vfsd_fan_place *place, bool exists);
void vfsd_fan_window_reported(struct vfsd_fan_window *window, const struct vfsd_fan_place *place,
			      uint32_t step);

/* May an event of the name that was reported belong elsewhere in this window? */
bool vfsd_fan_window_is_merged(const struct vfsd_fan_window *window,
			       const struct vfsd_fan_place *place);

#endif
