/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/pipe - moves a block of bytes through a pipe on a thread of its own, so that a slow other end
 * keeps nobody waiting.
 *
 * Owner thread: the control thread makes and ends it.
 */
#ifndef VFSD_MIGRATE_PIPE_H
#define VFSD_MIGRATE_PIPE_H

#include <stddef.h>

struct vfsd_transfer;

/* Write @bytes of @data (from malloc) to @fd, then close it; both are consumed, also on error. */
int vfsd_transfer_send(int fd, void *data, size_t bytes, struct vfsd_transfer **ret);

/* Read @fd (consumed) to its end; more than @max bytes are an error, -EFBIG. */
int vfsd_transfer_receive(int fd, size_t max, struct vfsd_transfer **ret);

/*
 * The other end is done: finish without waiting for it any longer, and free the transfer.
 * 0 if all was moved, else -errno; -ECANCELED: the other end was not done. @data (the caller's to
 * free) and @bytes get what was received; NULL: not wanted.
 */
int vfsd_transfer_end(struct vfsd_transfer *transfer, void **data, size_t *bytes);

#endif
