/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/pipe - moves a block of bytes through a pipe on a thread of its own, so that a slow other end does
 * not make the control thread wait.
 *
 * Owner thread: the control thread.
 */
#ifndef VFSD_MIGRATE_PIPE_H
#define VFSD_MIGRATE_PIPE_H

#include <stddef.h>

struct vfsd_transfer;

/* Write @bytes of @data (malloc()ed) to @fd, then close it. Both are consumed, also on error. 0 or -errno. */
int vfsd_transfer_send(int fd, void *data, size_t bytes, struct vfsd_transfer **ret);

/* Read @fd (consumed, also on error) to its end. More than @max bytes fail with -EFBIG. 0 or -errno. */
int vfsd_transfer_receive(int fd, size_t max, struct vfsd_transfer **ret);

/*
 * Finish without waiting for the other end any longer, and free the transfer. 0: everything was moved; else
 * -errno; -ECANCELED: the other end was not done. *data, which the caller frees, and *bytes are what was
 * received; @data may be NULL.
 */
int vfsd_transfer_end(struct vfsd_transfer *transfer, void **data, size_t *bytes);

#endif
