/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch/shm_ring - event ring in memory that is shared with one watch client: the producer's side.
 *
 * Each consumer has a ring, and with it a cursor and filters, of its own. What one does to its memory
 * harms no other, and a record stays in its place until the reader releases it. A ring for several
 * would have to wait for the slowest, or overwrite what is being read.
 *
 * The memory is a memfd that cannot change its size:
 *
 *   0     struct vfsd_shm_ring_producer, written by the daemon and never read
 *   4096  struct vfsd_shm_ring_consumer, written by the consumer, checked at each load
 *   8192  data, a power of two of bytes
 *
 * Positions are bytes since the beginning and only grow; data[position mod size] holds them. A record
 * is contiguous: one that would straddle the end follows a skip record. The producer neither
 * blocks nor allocates. What finds no room is counted in @dropped; with the next record that does, a
 * loss record is put first. A consumer that has read everything sees by @dropped what it missed at
 * the very end. Both carry the sum since the beginning, so that nothing is counted twice.
 *
 * Equal neighbours are not merged here, unlike in fsnotify/record_ring.h: the consumer may be reading
 * the older one.
 * Owner thread: the holder of the caller's lock.
 */
#ifndef VFSD_WATCH_SHM_RING_H
#define VFSD_WATCH_SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fsnotify/record_ring.h"

enum {
	VFSD_SHM_RING_MAGIC = 0x76667264,
	VFSD_SHM_RING_VERSION = 1,
	VFSD_SHM_RING_DATA_OFFSET = 8192,
	VFSD_SHM_RING_BYTES_MIN = 1 << 16, /* of data */
	VFSD_SHM_RING_BYTES_MAX = 1 << 26,
	VFSD_SHM_RING_PAYLOAD_MAX = 8192,
};

struct vfsd_shm_ring_producer {
	uint32_t magic;
	uint32_t version;
	uint64_t data_bytes;
	_Atomic uint64_t head;	  /* where the next record goes */
	_Atomic uint64_t dropped; /* records since the beginning; read before head */
};

struct vfsd_shm_ring_consumer {
	_Atomic uint64_t tail; /* what is before it is read and done with */
};

/* Native endian, as all in the ring. */
struct vfsd_shm_record {
	uint16_t type; /* enum vfsd_record_type */
	uint16_t subtype;
	uint32_t size;	/* bytes with this header, multiple of VFSD_RECORD_ALIGN */
	uint32_t watch; /* the consumer's own number for what it watches; 0: none in particular */
	uint32_t bytes; /* of payload; zeros up to size */
	uint8_t payload[];
};

_Static_assert(sizeof(struct vfsd_shm_record) == 16, "headers keep records aligned");
_Static_assert(sizeof(atomic_uint_least64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2, "cursors are "
										  "plain words to "
										  "every process");

struct vfsd_shm_ring;

/* @bytes of data: a power of two between the bounds above. 0, -EINVAL or the host's error. */
int vfsd_shm_ring_create(uint32_t bytes, struct vfsd_shm_ring **ret);
/* The memory lasts as long as the consumer's mapping. */
void vfsd_shm_ring_destroy(struct vfsd_shm_ring *ring);

/* The memory, to be passed to the consumer. Borrowed. */
int vfsd_shm_ring_fd(const struct vfsd_shm_ring *ring);

/*
 * Append a record with @bytes of payload, at most VFSD_SHM_RING_PAYLOAD_MAX, copied.
 *  1: the consumer had read everything, and may be waiting to be woken.
 *  0: it has more to read before this one; or there was no room, which is accounted for.
 *  -EPROTO, from then on: the consumer's cursor is invalid. It receives nothing more.
 */
int vfsd_shm_ring_put(struct vfsd_shm_ring *ring, enum vfsd_record_type type, uint16_t subtype,
		      uint32_t watch, const void *payload, uint32_t bytes);

/* Account for @count events that were lost before they became records. Returns as put does. */
int vfsd_shm_ring_put_loss(struct vfsd_shm_ring *ring, uint64_t count);

#endif
