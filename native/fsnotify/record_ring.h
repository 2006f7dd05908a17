/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/record_ring - preallocated ring of typed, variable-length records.
 *
 * The producer never blocks and never allocates. A record equal to the youngest unread one is
 * merged into it, as inotify merges identical neighbours. When a record does not fit, a loss record
 * takes its place and absorbs everything until there is room again: nothing is lost silently.
 * Positions only grow; a record that would straddle the end is preceded by a skip record.
 * Owner thread: the holder of the engine's event lock, producer and consumer alike.
 */
#ifndef VFSD_FSNOTIFY_RECORD_RING_H
#define VFSD_FSNOTIFY_RECORD_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "fsnotify/records.h"

enum {
	VFSD_RECORD_ALIGN = 8,
	VFSD_RECORD_PAYLOAD_MAX = 4096,
	VFSD_EVENTRING_BYTES_MIN = 16384,
};

struct vfsd_record {
	uint16_t type;
	uint16_t subtype;
	uint32_t size; /* bytes with this header, multiple of VFSD_RECORD_ALIGN */
	uint8_t payload[];
};

struct vfsd_eventring;

/* @bytes: a power of two, at least VFSD_EVENTRING_BYTES_MIN. 0, -EINVAL or -ENOMEM. */
int vfsd_eventring_create(uint32_t bytes, struct vfsd_eventring **ret);
void vfsd_eventring_destroy(struct vfsd_eventring *ring);

/*
 * Append a record; @len bytes of payload, at most VFSD_RECORD_PAYLOAD_MAX, are copied and padded
 * with zeros. False: no room, it is accounted for in a loss record.
 */
bool vfsd_eventring_put(struct vfsd_eventring *ring, enum vfsd_record_type type, uint16_t subtype,
			const void *payload, uint32_t len);

/* Account for @count events that were lost before they became records. */
void vfsd_eventring_put_loss(struct vfsd_eventring *ring, uint64_t count);

/* The oldest unread record, borrowed until it is consumed; NULL when there is none. */
const struct vfsd_record *vfsd_eventring_peek(struct vfsd_eventring *ring);
void vfsd_eventring_consume(struct vfsd_eventring *ring);

bool vfsd_eventring_empty(const struct vfsd_eventring *ring);

/* Forget all unread records. */
void vfsd_eventring_clear(struct vfsd_eventring *ring);

#endif
