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
 * Owner thread: one at a time.
 */
#ifndef VFSD_WATCH_SHM_READER_H
#define VFSD_WATCH_SHM_READER_H

#include "watch/python.h"

#endif
