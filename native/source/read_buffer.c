/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/read_buffer.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { READ_BYTES = VFSD_BATCH_AHEAD / 2 };

int vfsd_batch_init(struct vfsd_batch *batch, int fd)
{
	batch->fd = fd;
	batch->buffer = malloc(VFSD_BATCH_ALL);
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

bool vfsd_batch_more(struct vfsd_batch *batch, uint32_t upto, bool *whole)
{
	int got, waiting;

	if (batch->end - batch->buffer > (ptrdiff_t)(upto - READ_BYTES)) {
		*whole = ioctl(batch->fd, FIONREAD, &waiting) == 0 && waiting == 0;
		return false;
	}
	got = append(batch);
	*whole = got == 0;
	return got > 0;
}
