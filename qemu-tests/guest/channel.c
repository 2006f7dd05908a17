/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames over a byte stream; see channel.h. x86 is little-endian, as the wire is. */
#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

int channel_open(const char *path)
{
	struct termios tio;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (tcgetattr(fd, &tio) == 0) {
		cfmakeraw(&tio);
		tio.c_cc[VMIN] = 1;
		tio.c_cc[VTIME] = 0;
		if (tcsetattr(fd, TCSANOW, &tio) != 0) {
			int ret = -errno;

			close(fd);
			return ret;
		}
	}
	return fd;
}

static int write_all(int fd, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

static int read_all(int fd, char *data, size_t length)
{
	while (length > 0) {
		ssize_t n = read(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EPIPE;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

int channel_send(int fd, uint32_t type, const void *payload, size_t length)
{
	const uint32_t header[2] = {type, (uint32_t)length};
	int ret = write_all(fd, (const char *)header, sizeof(header));

	return ret != 0 ? ret : write_all(fd, payload, length);
}

int channel_receive(int fd, struct channel_frame *frame)
{
	uint32_t header[2];
	int ret = read_all(fd, (char *)header, sizeof(header));

	if (ret != 0)
		return ret;
	if (header[1] > sizeof(frame->payload))
		return -EBADMSG;
	frame->type = header[0];
	frame->length = header[1];
	return read_all(fd, frame->payload, frame->length);
}
