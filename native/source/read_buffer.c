/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/read_buffer.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

int vfsd_read_buffer_init(struct vfsd_read_buffer *buffer, int fd)
{
	buffer->fd = fd;
	buffer->writable = malloc(VFSD_READ_BUFFER_ALL);
	buffer->bytes = buffer->at = buffer->end = buffer->writable;
	return buffer->bytes ? 0 : -ENOMEM;
}

void vfsd_read_buffer_free(struct vfsd_read_buffer *buffer)
{
	free(buffer->writable);
	*buffer = (struct vfsd_read_buffer){.fd = -1};
}

static int append(struct vfsd_read_buffer *buffer)
{
	ssize_t got;

	do {
		got = read(buffer->fd, buffer->writable + (buffer->end - buffer->bytes),
			   VFSD_READ_BUFFER_CHUNK);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	buffer->end += got;
	return (int)got;
}

int vfsd_read_buffer_read(struct vfsd_read_buffer *buffer)
{
	buffer->at = buffer->end = buffer->bytes;
	return append(buffer);
}

bool vfsd_read_buffer_more(struct vfsd_read_buffer *buffer, uint32_t upto, bool *all)
{
	int got, waiting;

	if (buffer->end - buffer->bytes > (ptrdiff_t)upto - VFSD_READ_BUFFER_CHUNK) {
		*all = ioctl(buffer->fd, FIONREAD, &waiting) == 0 && waiting == 0;
		return false;
	}
	got = append(buffer);
	*all = got == 0;
	return got > 0;
}
