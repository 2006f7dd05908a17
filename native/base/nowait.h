/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/nowait - reading and writing descriptors of the front-end without waiting for it.
 *
 * The front-end shares the open file and may clear O_NONBLOCK at any time. So each call asks for itself not to
 * block: RWF_NOWAIT for reads and for writes to pipes and sockets. An eventfd has no such write; it is polled
 * for room first. A front-end that fills it between the poll and the write can make its own daemon wait until
 * vfsd_threads_interrupt().
 * Owner thread: any. No state.
 */
#ifndef VFSD_BASE_NOWAIT_H
#define VFSD_BASE_NOWAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* As read(2) and write(2), but -1 with EAGAIN instead of waiting. Regular files work as usual. */
ssize_t vfsd_nowait_read(int fd, void *buffer, size_t bytes);
ssize_t vfsd_nowait_write(int fd, const void *buffer, size_t bytes);

/*
 * Write 8 bytes to an eventfd, pipe or socket; nothing to fd -1. If it is full nothing is written, because its
 * reader is woken anyway. True: it is an eventfd with room, which is not full again for years unless the
 * front-end fills it.
 */
bool vfsd_nowait_signal(int fd);

/* Read what vfsd_nowait_signal() or a front-end has written; there may be nothing. */
void vfsd_nowait_drain(int fd);

#endif
