/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch/shm_reader - reads an event ring that another process fills (shm_ring.h).
 *
 * The memory is not trusted: head, sizes and counts are copied once, checked, and only the copies are
 * used. A hostile producer can make its reader stop with -EBADMSG, or read nonsense, but not read
 * outside of the data.
 *
 *   while ((got = vfsd_shm_reader_next(reader, &entry)) == 1) {
 *           use(entry.payload, entry.bytes);      the ring's own memory, nothing is copied
 *           vfsd_shm_reader_release(reader);      room for the producer
 *   }
 *
 * To wait: when next returns 0, drain the wakeups (a watch client reads its connection to the daemon),
 * call next once more, and only then poll. The connection stays readable until it is drained, so a
 * loop that polls it misses nothing either.
 * cffi reads this file too, so it holds plain declarations and include lines only.
 * Owner thread: one at a time.
 */
#ifndef VFSD_WATCH_SHM_READER_H
#define VFSD_WATCH_SHM_READER_H

#include <stdbool.h>
#include <stdint.h>

/* A record as its reader sees it. */
typedef struct vfsd_ring_entry {
	uint16_t type; /* enum vfsd_record_type */
	uint16_t subtype;
	uint32_t watch;
	uint32_t bytes; /* of payload */
	const void *payload;
	uint64_t lost; /* in a loss: how many records are missing here */
} vfsd_ring_entry;

typedef struct vfsd_shm_reader vfsd_shm_reader;

/*
 * Map the memory @fd, which is borrowed. 0; -EINVAL: it is no such ring, or could be cut short
 * while it is mapped; or the host's error.
 */
int vfsd_shm_reader_create(int fd, vfsd_shm_reader **ret);
void vfsd_shm_reader_destroy(vfsd_shm_reader *reader);

/*
 * Get the oldest record that was not released yet. 1: it is in *ret, whose payload is borrowed until
 * the release; the producer may still write to it, so copy before checking. 0: there is none now.
 * -EBADMSG, from then on: the ring is malformed.
 * A loss has no payload but entry.lost: how many records are missing at this place.
 */
int vfsd_shm_reader_next(vfsd_shm_reader *reader, vfsd_ring_entry *ret);

/* Release the record that next has returned, if there is one. */
void vfsd_shm_reader_release(vfsd_shm_reader *reader);

#endif
