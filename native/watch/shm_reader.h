/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch/shm_reader - reads an event ring that another process fills (shm_ring.h).
 *
 * Believes nothing of what is in the memory: head, sizes and counts are copied once, checked, and
 * only the copies used. A producer that lies can make its reader stop with -EBADMSG, or read
 * nonsense, but not read outside of the data.
 *
 *   while ((got = vfsd_shm_reader_next(reader, &entry)) == 1) {
 *           use(entry.payload, entry.bytes);      the ring's own memory, nothing is copied
 *           vfsd_shm_reader_release(reader);      room for the producer
 *   }
 *
 * To wait: when next has said 0, take what waits on the descriptor that wakes (for watch clients of
 * the daemon the connection to it), ask next once more, and only then poll. That descriptor stays
 * readable until it is taken, so one that polls it in a loop of its own misses nothing either.
 * Owner thread: one at a time.
 */
#ifndef VFSD_WATCH_SHM_READER_H
#define VFSD_WATCH_SHM_READER_H

#include "watch/python.h"

#endif
