/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/batch - the first two steps of the pipeline: what was read of the group, decoded.
 *
 * A batch begins with one read() and grows when somebody needs to know what comes next. Its events are
 * constant once they are there; how far they are processed is the business of reorder.h.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_BATCH_H
#define VFSD_SOURCE_FANOTIFY_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "source/fanotify/decode.h"
#include "source/read_buffer.h"

struct vfsd_fan_batch {
	struct vfsd_read_buffer buffer;
	struct vfsd_fan_events events;
	bool malformed; /* some of what was read could not be decoded, and was dropped */
};

/* @group is borrowed. 0 or -ENOMEM. */
int vfsd_fan_batch_init(struct vfsd_fan_batch *batch, int group, pid_t self);
void vfsd_fan_batch_free(struct vfsd_fan_batch *batch);

/* Begin anew: no event of before is valid any more. Bytes, 0: the queue is empty, or -errno. */
int vfsd_fan_batch_read(struct vfsd_fan_batch *batch);

/* Append to the batch, as vfsd_read_buffer_more() does. */
bool vfsd_fan_batch_more(struct vfsd_fan_batch *batch, uint32_t upto, bool *all);

#endif
