/* SPDX-License-Identifier: BSD-3-Clause */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Room for all that a host keeps for us; pages that were never needed are never there. */
enum { READ_BYTES = 65536, BATCH_BYTES = 256 * READ_BYTES };

int vfsd_batch_init(struct vfsd_batch *batch, int fd)
{
	batch->fd = fd;
	batch->buffer = malloc(BATCH_BYTES);
	batch->at = batch->end = batch->buffer;
	return batch->buffer ? 0 : -ENOMEM;
}

void vfsd_batch_free(struct vfsd_batch *batch)
{
	free(batch->buffer);
	batch->buffer = NULL;
}

static int append(struct vfsd_batch *batch)
{
	ssize_t got;

	do {
		got = read(batch->fd, batch->buffer + (batch->end - batch->buffer), READ_BYTES);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	batch->end += got;
	return (int)got;
}

int vfsd_batch_read(struct vfsd_batch *batch)
{
	batch->at = batch->end = batch->buffer;
	return append(batch);
}

bool vfsd_batch_more(struct vfsd_batch *batch, bool *whole)
{
	int got;

	*whole = false;
	if (batch->buffer + BATCH_BYTES - batch->end < READ_BYTES)
		return false;
	got = append(batch);
	*whole = got == 0;
	return got > 0;
}
