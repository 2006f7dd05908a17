/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/internal - one fanotify group on its way through its source: group.c reads,
 * emit_names.c tells of names that come and go, emit_objects.c of all else, place.c finds whom an
 * event is about, and when the end of an object is told. Each calls only those behind it. Nobody else
 * includes this. Caller's lock held.
 *
 * The host says what it was that came or went by a name (Linux 5.17), and merges that with what else
 * happened to it: CREATE, MODIFY and DELETE of one file may be one event. What happened to the object
 * is told behind the CREATE and before the DELETE, also where it has events of its own behind that.
 */
#ifndef VFSD_SOURCE_FANOTIFY_INTERNAL_H
#define VFSD_SOURCE_FANOTIFY_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/fanotify.h>
#include <sys/types.h>

#include "source/read_buffer.h"
#include "source/fanotify/look_ahead.h"
#include "source/fanotify/decode.h"
#include "inode/inode.h"
#include "source/fanotify/reorder.h"
#include "source/source.h"
#include "source/fanotify/fs_mark.h"

#define MOVED (FAN_MOVED_FROM | FAN_MOVED_TO)
#define DIRENT (FAN_CREATE | FAN_DELETE | MOVED)
/* Told to the watchers of the directory too, by name. */
#define ON_CHILD (FAN_ACCESS | FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE | FAN_OPEN)
/* What is done by a name that may have gone since it was opened. */
#define BY_NAME (FAN_ACCESS | FAN_MODIFY | FAN_CLOSE | FAN_OPEN)
/* What happens to directories too, and their parents' watchers are told. */
#define OF_DIRECTORIES (FAN_ACCESS | FAN_ATTRIB | FAN_CLOSE_NOWRITE | FAN_OPEN)
/* What a guest may ask for and fanotify can tell. */
#define REPORTABLE                                                                                 \
	(FAN_ACCESS | FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE | FAN_OPEN | DIRENT | FAN_DELETE_SELF |  \
	 FAN_MOVE_SELF)

/* Ends of objects that are told elsewhere than where the host has them. */
struct vfsd_fan_ends {
	uint32_t count;
	struct vfsd_fan_end {
		struct vfsd_file_handle handle;
		const uint8_t *after; /* the event that ends here in the batch */
	} at[32];
};

/* What happened to directories that are gone, and the host has not told yet what they were called. */
struct vfsd_fan_nameless {
	uint32_t count;
	struct vfsd_fan_visit {
		struct vfsd_file_handle handle;
		uint32_t mask;
		bool own;
		bool parent_only; /* its own watchers were told */
	} at[32];
};

struct vfsd_fan_source {
	struct vfsd_source base;
	struct vfsd_source_config config;
	bool has_rename; /* the host knows FAN_RENAME */
	uint32_t watches;
	uint32_t last_cookie;
	uint32_t open_cookie; /* of a MOVED_FROM whose MOVED_TO may follow; old hosts only */
	pid_t self;
	uint32_t excluding; /* watches of which some want nothing of what has no name any more */
	struct vfsd_names *names;
	struct vfsd_whole *whole; /* NULL until one is subscribed to */
	struct vfsd_batch batch;
	struct vfsd_fan_ahead *ahead;
	struct vfsd_fan_ends ends; /* of the batch */
	struct vfsd_fan_nameless nameless;
	/* While a batch is worked off: the last directory that names were looked up in, or -1. */
	int dir_fd;
	uint64_t dir_nodeid;
};

/* A vfsd_fan_place to tell of; inode NULL: the guest does not know it. */
struct vfsd_fan_found {
	struct vfsd_inode *inode;
	const char *name;
	uint32_t name_bytes;
	bool unknown; /* a directory that the guest does not know by itself */
	bool left;    /* nor must it know it: it is outside by now */
};

/*
 * What is wanted of @event. Our own doing is an echo, except for the end of an object: whoever drops
 * the last reference is named as its author, and that may well be a descriptor of ours. The guest
 * treats an end that it knows already as nothing.
 */
static inline uint32_t vfsd_fan_begin_event(struct vfsd_fan_source *source,
					    const struct vfsd_fan_event *event)
{
	uint32_t mask = (uint32_t)event->mask & REPORTABLE;

	source->base.own = event->pid == source->self;
	return source->base.own && !source->config.everything ? mask & FAN_DELETE_SELF : mask;
}

/* Holds a reference to the inode until vfsd_fan_leave(). */
struct vfsd_fan_found vfsd_fan_find(const struct vfsd_fan_source *source,
				    const struct vfsd_fan_place *place);
/* The same for a directory, which may be one that the guest does not know, or must not. */
struct vfsd_fan_found vfsd_fan_find_dir(const struct vfsd_fan_source *source,
					const struct vfsd_fan_place *place);
void vfsd_fan_leave(const struct vfsd_fan_source *source, const struct vfsd_fan_found *place);

/* May the guest hear what the directory @dir_fd is called in @parent now? */
bool vfsd_fan_may_name(const struct vfsd_fan_source *source, const struct vfsd_inode *parent,
		       int dir_fd);

/* @event says what is not about the place. */
void vfsd_fan_tell(const struct vfsd_source_sink *sink, const struct vfsd_fan_found *place,
		   struct vfsd_source_event event);
void vfsd_fan_tell_end(const struct vfsd_source_sink *sink, const struct vfsd_fan_found *self);

/* The bits @told of the event at @at in the batch are told elsewhere. */
void vfsd_fan_take(struct vfsd_fan_source *source, const uint8_t *at, uint64_t told);

/* False: there are too many. */
bool vfsd_fan_move_end(struct vfsd_fan_source *source, const struct vfsd_file_handle *handle,
		       const uint8_t *after);

/*
 * The host merges what is unread of one object at the place of the first, but after its end the
 * guest has no watch left: whatever else happened to it, or in it, has to come before. And a rename
 * onto something tells of what it moves between that one's ATTRIB and its DELETE_SELF.
 * True: the end of @event, behind which are @at to @end, is told later.
 */
bool vfsd_fan_put_off(struct vfsd_fan_source *source, const struct vfsd_fan_event *event,
		      const uint8_t *at, const uint8_t *end);

/* Tell the ends that belong before @at, of @handle or (NULL) all, in their order. */
void vfsd_fan_tell_ends(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			const uint8_t *at, const struct vfsd_file_handle *handle);

/*
 * Whoever holds an object keeps it from ending: what the host removed while we did, up to now, has
 * lost its name first. If that happened to @nodeid (0: none), which was looked up in the directory
 * @dir_fd, its end is told before its name.
 */
void vfsd_fan_let_go(struct vfsd_fan_source *source, uint64_t nodeid, int dir_fd);

/* Close @fd, a directory that was held, with those that it is in: the same for them. */
void vfsd_fan_let_go_dir(struct vfsd_fan_source *source, int fd);

/*
 * A descriptor of @dir, good until the next call or vfsd_fan_close_dir(), or -errno. Many names in a
 * row are of one directory.
 */
int vfsd_fan_open_dir(struct vfsd_fan_source *source, struct vfsd_inode *dir);
void vfsd_fan_close_dir(struct vfsd_fan_source *source);

/* The event has FAN_RENAME. */
void vfsd_fan_tell_renames(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			   const struct vfsd_fan_event *event);
/*
 * What of @mask is about names in a directory, and what of it happened to the object of that name;
 * @on_dir: FAN_ONDIR or 0.
 */
void vfsd_fan_tell_dirents(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			   const struct vfsd_fan_event *event, uint32_t mask, uint32_t on_dir);
/* What of @mask is about the object itself; @gone: it is told before this, which is what it had. */
void vfsd_fan_tell_object(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			  const struct vfsd_fan_event *event, uint32_t mask, uint32_t on_dir,
			  const struct vfsd_fan_place *gone);
/* The directory @dir was called @place: what has waited for that is told. */
void vfsd_fan_tell_nameless(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			    const struct vfsd_file_handle *dir, const struct vfsd_fan_place *place);
/* Tell now the event that begins at @at behind batch->at, see vfsd_fan_tell_object(). */
void vfsd_fan_tell_early(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			 const uint8_t *at, const struct vfsd_fan_place *gone);
/* To each filesystem of the guest that is a part of the one that has failed. */
void vfsd_fan_tell_error(const struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			 const struct vfsd_fan_event *event);

#endif
