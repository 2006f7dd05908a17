/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/nowait - descriptors that a front-end handed over, used without ever waiting for it.
 *
 * Such a descriptor shares its file description with the front-end, which may take O_NONBLOCK back
 * whenever it likes. So each call says for itself that it must not block, as far as the kernel lets
 * it: RWF_NOWAIT for reads and for writes to pipes and sockets. An eventfd has no such write. It is
 * asked for room first, and a front-end that takes the room away in between can hold up its own
 * daemon until vfsd_threads_interrupt().
 * Owner thread: any. No state.
 */
#ifndef VFSD_BASE_NOWAIT_H
#define VFSD_BASE_NOWAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* As read(2) and write(2); -1 and EAGAIN instead of waiting. A plain file is read and written. */
ssize_t vfsd_nowait_read(int fd, void *buffer, size_t bytes);
ssize_t vfsd_nowait_write(int fd, const void *buffer, size_t bytes);

/*
 * Write 8 bytes to an eventfd, pipe or socket; -1 is nobody. One that is full wakes its reader
 * anyway: then nothing is written. True: it is an eventfd that had room, for years of signals unless
 * somebody fills it.
 */
bool vfsd_nowait_signal(int fd);

/* Take out what vfsd_nowait_signal(), or a front-end, has put in; nothing may be there. */
void vfsd_nowait_drain(int fd);

#endif
