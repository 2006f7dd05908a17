/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/look_ahead - what the rest of a batch, and of the host's queue, says of a name or an object.
 *
 * An index by hash, made when somebody asks first and extended as the batch is: a flood in which
 * each event asks is looked at once, and then only in what has the same hash.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_LOOK_AHEAD_H
#define VFSD_SOURCE_FANOTIFY_LOOK_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_batch;
struct vfsd_fan_ahead;
struct vfsd_fan_event;
struct vfsd_fan_place;
struct vfsd_file_handle;

/* 0 or -ENOMEM. @batch is borrowed. */
int vfsd_fan_ahead_create(struct vfsd_batch *batch, struct vfsd_fan_ahead **ret);
void vfsd_fan_ahead_destroy(struct vfsd_fan_ahead *ahead);

/* The batch was read anew. */
void vfsd_fan_ahead_reset(struct vfsd_fan_ahead *ahead);

/*
 * The next event behind batch->at that says something of the name @place, which is borrowed from the
 * batch; reads on. *cursor is 0 at first. Returns the bits of vfsd_fan_of_name(), 0: there is none.
 */
uint32_t vfsd_fan_ahead_next(struct vfsd_fan_ahead *ahead, const struct vfsd_fan_place *place,
			     uint32_t *cursor);

/*
 * The same for the object @handle: the next event that happens to it, or, where the host says so, to
 * one of its names. Returns where that begins and, in @ret, what it says; NULL: there is none.
 */
const uint8_t *vfsd_fan_ahead_object(struct vfsd_fan_ahead *ahead,
				     const struct vfsd_file_handle *handle, uint32_t *cursor,
				     struct vfsd_fan_event *ret);

#endif
