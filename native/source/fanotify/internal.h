/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/internal - a fanotify group as a pipeline: read (batch.h), decode (decode.h), reorder
 * (reorder.h), resolve and emit (here). group.c drives it. Nobody else includes this.
 *
 * Resolving asks the host at the moment of a step: which node id a name has now, where a directory is
 * now, whether a name is gone. The files call only those behind them: group.c, emit.c, resolve.c,
 * resolve_handle.c.
 * Owner thread: the source's; the caller holds its lock.
 */
#ifndef VFSD_SOURCE_FANOTIFY_INTERNAL_H
#define VFSD_SOURCE_FANOTIFY_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "source/fanotify/batch.h"
#include "source/fanotify/fs_mark.h"
#include "source/fanotify/reorder.h"
#include "source/source.h"

/* Reported to the watchers of the directory too, by name. */
#define VFSD_FAN_ON_CHILD (FAN_ACCESS | FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE | FAN_OPEN)
/* What is done by a name that may have gone since it was opened. */
#define VFSD_FAN_BY_NAME (FAN_ACCESS | FAN_MODIFY | FAN_CLOSE | FAN_OPEN)

/* A vfsd_fan_place to report something of; inode NULL: the guest does not know it. */
struct vfsd_fan_found {
	struct vfsd_inode *inode;
	const char *name;
	uint32_t name_bytes;
	bool unknown; /* a directory that the guest does not know by itself */
	bool left;    /* nor must it know it: it is outside by now */
};

/* What happened to directories that are gone, while the host has not reported their names yet. */
struct vfsd_fan_nameless {
	uint32_t count;
	struct vfsd_fan_visit {
		struct vfsd_file_handle handle;
		uint32_t mask;
		bool self_generated;
		bool parent_only; /* its own watchers have received it */
	} at[32];
};

struct vfsd_fan_source {
	struct vfsd_source base;
	struct vfsd_source_config config;
	bool has_rename; /* the host knows FAN_RENAME */
	uint32_t watches;
	uint32_t excluding; /* watches of which some want nothing of what has no name any more */
	struct vfsd_fs_mark *fs_mark; /* NULL until one is subscribed to */
	struct vfsd_fan_batch batch;
	struct vfsd_fan_reorder reorder;
	struct vfsd_fan_nameless nameless;
	const struct vfsd_source_sink *sink; /* while a batch is processed */
	/* While a batch is processed: the last directory that names were looked up in, or -1. */
	int dir_fd;
	uint64_t dir_nodeid;
	/* While an event is processed: directories of its places, and a name that was looked up. */
	struct {
		const struct vfsd_fan_place *place; /* NULL: none */
		struct vfsd_fan_found found;
	} dirs[2];
	struct {
		const struct vfsd_fan_place *place; /* NULL: none */
		uint64_t nodeid;
	} child;
};

/* resolve_handle.c: handles to inodes, names to node ids. */

/* Holds a reference to the inode until vfsd_fan_put(). */
struct vfsd_fan_found vfsd_fan_find(const struct vfsd_fan_source *source,
				    const struct vfsd_fan_place *place);
/* The same for a directory, which may be one that the guest does not know, or must not. */
struct vfsd_fan_found vfsd_fan_find_dir(const struct vfsd_fan_source *source,
					const struct vfsd_fan_place *place);
void vfsd_fan_put(const struct vfsd_fan_source *source, const struct vfsd_fan_found *found);

/* vfsd_fan_find_dir() once for an event: good until vfsd_fan_event_done(), two of them at a time. */
const struct vfsd_fan_found *vfsd_fan_dir_of(struct vfsd_fan_source *source,
					     const struct vfsd_fan_place *place);

/*
 * The node id of what is called @place now (0: not known to the guest); *exists: whether there is
 * anything. Waits for what the host is removing just then.
 */
uint64_t vfsd_fan_look_up(struct vfsd_fan_source *source, const struct vfsd_fan_place *place,
			  bool *exists);
/* The same id, as of the last vfsd_fan_look_up() of this event if that was of @place, too. */
uint64_t vfsd_fan_child_at(struct vfsd_fan_source *source, const struct vfsd_fan_place *place);

/* The event is done: release what was found for it. */
void vfsd_fan_event_done(struct vfsd_fan_source *source);

/*
 * A descriptor of @dir, good until the next call or vfsd_fan_close_dir(), or -errno. Many names in a
 * row are of one directory.
 */
int vfsd_fan_open_dir(struct vfsd_fan_source *source, struct vfsd_inode *dir);
void vfsd_fan_close_dir(struct vfsd_fan_source *source);
/* Close @fd, a directory that was held, and put the ends right of those that it is in. */
void vfsd_fan_release_dir(struct vfsd_fan_source *source, int fd);

/* resolve.c: what an event of an object needs to be known of it. */

/*
 * What is no directory, and in *where the one that it has its name in. Whoever watches the object
 * itself receives what is done to it by any name, whoever watches the filesystem only what is done by
 * names inside.
 */
struct vfsd_fan_found vfsd_fan_find_object(const struct vfsd_fan_source *source,
					   const struct vfsd_fan_event *event,
					   struct vfsd_fan_found *where);

enum vfsd_fan_dir_state {
	VFSD_FAN_DIR_FOUND, /* or it has no name that the guest may receive: inode NULL */
	VFSD_FAN_DIR_LOST,  /* the host's queue says what it was called */
	VFSD_FAN_DIR_GONE,  /* and the queue does not say that yet */
};

/*
 * Find the parent and the name of the directory @dir, which the guest may know as @self, in *ret, if
 * the guest knows the parent; @name is where that name is stored. *gone, if set, is the name that
 * it has lost; it is set for VFSD_FAN_DIR_LOST, and *ret then is empty.
 */
enum vfsd_fan_dir_state
vfsd_fan_locate_dir(struct vfsd_fan_source *source, const struct vfsd_fan_found *self,
		    const struct vfsd_file_handle *dir, const struct vfsd_fan_place **gone,
		    struct vfsd_fan_found *ret, char name[VFSD_SOURCE_NAME_BYTES]);

/*
 * Was the name gone by which the object was opened? Looked for only where somebody wants nothing of
 * that. What is gone now may have gone after the event: then that is in the queue. In doubt, the name
 * counts as there.
 */
bool vfsd_fan_is_unnamed(struct vfsd_fan_source *source, const struct vfsd_fan_event *event,
			 const struct vfsd_fan_found *self, const struct vfsd_fan_found *where);

/* emit.c: steps to the sink. */

/* @ctx is the source: one of struct vfsd_fan_reorder_ops. */
void vfsd_fan_emit_step(void *ctx, const struct vfsd_fan_step *step);
/* The directory @dir was called @place: emit what has waited for that. */
void vfsd_fan_emit_nameless(struct vfsd_fan_source *source, const struct vfsd_file_handle *dir,
			    const struct vfsd_fan_place *place);
/* To each filesystem of the guest that is a part of the one that has failed. */
void vfsd_fan_emit_error(struct vfsd_fan_source *source, const struct vfsd_fan_event *event);

#endif
