/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/record_ring - preallocated ring of typed, variable-length records.
 *
 * The producer never blocks and never allocates. A record that equals the youngest unread one is merged with
 * it, as inotify merges identical neighbours. When a record does not fit, a loss record takes its place and
 * counts all that follow until there is room again: nothing is lost silently. Positions only grow; a skip
 * record precedes a record that would straddle the end of the memory. Owner thread: the holder of the event
 * lock, producer and consumer alike.
 */
#ifndef VFSD_FSNOTIFY_RECORD_RING_H
#define VFSD_FSNOTIFY_RECORD_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "fsnotify/records.h"

enum {
	VFSD_RECORD_ALIGN = 8,
	VFSD_RECORD_PAYLOAD_MAX = 4096,
	VFSD_RECORD_RING_BYTES_MIN = 16384,
};

struct vfsd_record {
	uint16_t type;
	uint16_t subtype;
	uint32_t size; /* bytes with this header, multiple of VFSD_RECORD_ALIGN */
	uint8_t payload[];
};

struct vfsd_record_ring;

/* @bytes: a power of two, at least VFSD_RECORD_RING_BYTES_MIN. 0, -EINVAL or -ENOMEM. */
int vfsd_record_ring_create(uint32_t bytes, struct vfsd_record_ring **ret);
void vfsd_record_ring_destroy(struct vfsd_record_ring *ring);

/*
 * Append a record; @len bytes of payload, at most VFSD_RECORD_PAYLOAD_MAX, are copied and padded
 * with zeros. False: there was no room, and a loss record counts it.
 */
bool vfsd_record_ring_put(struct vfsd_record_ring *ring, enum vfsd_record_type type,
			  uint16_t subtype, const void *payload, uint32_t len);

/* Count @count lost events in a loss record. */
void vfsd_record_ring_put_loss(struct vfsd_record_ring *ring, uint64_t count);

/* The oldest unread record, borrowed until it is consumed; NULL when there is none. */
const struct vfsd_record *vfsd_record_ring_peek(struct vfsd_record_ring *ring);
void vfsd_record_ring_consume(struct vfsd_record_ring *ring);

bool vfsd_record_ring_empty(const struct vfsd_record_ring *ring);

/* Drop all unread records. */
void vfsd_record_ring_clear(struct vfsd_record_ring *ring);

#endif
