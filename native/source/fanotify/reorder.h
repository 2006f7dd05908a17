/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/reorder - the third step of the pipeline: decoded events in, ordered steps out.
 *
 * The host merges what is unread of one name or one object into one event, at the place of the first.
 * Reordering takes that apart again:
 *   - a name comes and goes in turns, as window.h has it; both halves of a rename are one after the other,
 *     with one cookie that no other rename has;
 *   - what happened to the object of a name is reported after the CREATE of the name and before its
 *     DELETE, also where the host has it in later events (with FAN_REPORT_TARGET_FID, Linux 5.17, it
 *     says which object a name was of, and one event may be CREATE, MODIFY and DELETE of a file);
 *   - the end of an object (DELETE_SELF) comes after all else that happened to it or in it, because
 *     afterwards the guest has no watch left. A rename onto something reports what it moves between
 *     that object's ATTRIB and its DELETE_SELF.
 *
 * These functions are pure: they make no system call and read nothing but decoded events. Between events
 * they keep which bits were reported early and which ends wait (for the length of a batch), the names
 * of the window, and cookies. What only the host can answer they ask by struct vfsd_fan_reorder_ops.
 * There are questions because an answer is of the moment when it is asked for: the host goes on
 * meanwhile, and what it did until then is in the queue, where more() finds it.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_REORDER_H
#define VFSD_SOURCE_FANOTIFY_REORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "source/fanotify/decode.h"
#include "source/fanotify/window.h"

/* What a guest may ask for and fanotify can report. */
#define VFSD_FAN_REPORTABLE                                                                        \
	(FAN_ACCESS | FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE | FAN_OPEN | VFSD_FAN_DIRENT |           \
	 FAN_DELETE_SELF | FAN_MOVE_SELF)

/* How many events ahead of the one at hand are searched: more than are read for that. */
enum { VFSD_FAN_AHEAD_MAX = 3072 };

/* One thing to report. */
struct vfsd_fan_step {
	enum {
		VFSD_FAN_STEP_NAME,   /* a name comes or goes */
		VFSD_FAN_STEP_OBJECT, /* something happened to an object, or a directory */
		VFSD_FAN_STEP_END,    /* an object has ended */
	} kind;
	const struct vfsd_fan_event *event; /* END: the one to whose process it is due */
	/* NAME: the name. OBJECT: the name of the object, which is gone by now, NULL: not known to be. */
	const struct vfsd_fan_place *place;
	const struct vfsd_fan_place
		*child_at; /* NAME: what the object is called now; NULL: unknown */
	const struct vfsd_file_handle *handle; /* END: the object */
	uint32_t mask;	 /* NAME: CREATE, DELETE, MOVED_FROM or MOVED_TO; OBJECT: one bit or more */
	uint32_t cookie; /* NAME: of a rename */
};

struct vfsd_fan_reorder_ops {
	/* Is anything reported of names in the directory of @place? */
	bool (*reports)(void *ctx, const struct vfsd_fan_place *place);
	/* May the guest know the object? If not, its end need not be put in order. */
	bool (*knows)(void *ctx, const struct vfsd_file_handle *handle);
	/*
	 * Is @place now a name of @object (bytes == 0: of anything)? What took it away is in the queue
	 * when this returns false. @object NULL: of anything, and it may not be in the queue yet.
	 */
	bool (*exists)(void *ctx, const struct vfsd_fan_place *place,
		       const struct vfsd_file_handle *object);
	/* Append events that came meanwhile. False: none came, or there are so many already. */
	bool (*more)(void *ctx);
	void (*step)(void *ctx, const struct vfsd_fan_step *step);
};

struct vfsd_fan_reorder {
	const struct vfsd_fan_reorder_ops *ops;
	void *ctx;
	const struct vfsd_fan_events *events;
	struct vfsd_fan_window *window;
	bool everything; /* report what is self-generated, too */
	uint32_t next;	 /* events before it are done */
	uint32_t last_cookie;
	uint32_t open_cookie; /* of a MOVED_FROM whose MOVED_TO may follow; old hosts only */
	uint32_t *early;      /* of each event, the bits that were reported before its turn */
	uint32_t early_count; /* how many of them are set */
	uint32_t n_ends;
	struct vfsd_fan_end {
		const struct vfsd_file_handle *handle;
		const struct vfsd_fan_event *event; /* the one to whose process it is due */
		uint32_t before; /* it is reported before the event of this index */
	} ends[32];
};

/* 0 or -ENOMEM. @events and @ops are borrowed; @reorder is zeroed but for its field everything. */
int vfsd_fan_reorder_init(struct vfsd_fan_reorder *reorder, const struct vfsd_fan_reorder_ops *ops,
			  void *ctx, const struct vfsd_fan_events *events);
void vfsd_fan_reorder_free(struct vfsd_fan_reorder *reorder);

/* The events were cleared: forget what was kept for the length of the batch. */
void vfsd_fan_reorder_begin(struct vfsd_fan_reorder *reorder);

/* Emit the steps of the event number next, and count that up. */
void vfsd_fan_reorder_next(struct vfsd_fan_reorder *reorder);

/* Emit the ends that wait for the event number next, and those of events that never came. */
void vfsd_fan_reorder_ends(struct vfsd_fan_reorder *reorder);

/*
 * Who looks something up holds it for a moment, and so keeps it from ending: what the host has removed
 * meanwhile lost its name first. The events from number @fresh on came meanwhile. Move the ends among
 * them (of @handle, NULL: of directories that the daemon itself has ended) before what was removed
 * since the last event of each object.
 */
void vfsd_fan_reorder_late_ends(struct vfsd_fan_reorder *reorder, uint32_t fresh,
				const struct vfsd_file_handle *handle);

/*
 * The next event behind the one at hand that is of the name @place, or happens to the object @handle
 * or, where the host says so, to one of its names. *cursor is 0 at first. NULL: there is none.
 */
const struct vfsd_fan_event *vfsd_fan_ahead_name(struct vfsd_fan_reorder *reorder,
						 const struct vfsd_fan_place *place,
						 uint32_t *cursor);
const struct vfsd_fan_event *vfsd_fan_ahead_object(struct vfsd_fan_reorder *reorder,
						   const struct vfsd_file_handle *handle,
						   uint32_t *cursor);

/* What the rest of the queue says of the name @place. */
struct vfsd_fan_ahead vfsd_fan_look_ahead(struct vfsd_fan_reorder *reorder,
					  const struct vfsd_fan_place *place);

#endif
