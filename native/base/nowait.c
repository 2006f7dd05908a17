/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/nowait.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Whether @fd is ready for @events now, and with which of them. */
static short ready(int fd, short events)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};

	return poll(&poll_fd, 1, 0) > 0 ? poll_fd.revents : 0;
}

/*
 * Whether RWF_NOWAIT is the reason for an error: older kernels do not know it for pipes and sockets,
 * eventfds have no such write, and a plain file that is not in memory would never be ready.
 */
static bool must_ask(int fd)
{
	struct stat st;

	if (errno == EAGAIN && fstat(fd, &st) == 0)
		return S_ISREG(st.st_mode);
	return errno == EOPNOTSUPP || errno == EINVAL;
}

static ssize_t if_ready(ssize_t (*act)(int fd, const struct iovec *iov, int n), int fd,
			const struct iovec *iov, short events)
{
	if (ready(fd, events) != 0)
		return act(fd, iov, 1);
	errno = EAGAIN;
	return -1;
}

ssize_t vfsd_nowait_read(int fd, void *buffer, size_t bytes)
{
	const struct iovec iov = {.iov_base = buffer, .iov_len = bytes};
	ssize_t got = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

	return got < 0 && must_ask(fd) ? if_ready(readv, fd, &iov, POLLIN) : got;
}

ssize_t vfsd_nowait_write(int fd, const void *buffer, size_t bytes)
{
	const struct iovec iov = {.iov_base = (void *)buffer, .iov_len = bytes};
	ssize_t put = pwritev2(fd, &iov, 1, -1, RWF_NOWAIT);

	return put < 0 && must_ask(fd) ? if_ready(writev, fd, &iov, POLLOUT) : put;
}

bool vfsd_nowait_signal(int fd)
{
	const uint64_t one = 1;
	short room;

	if (fd < 0)
		return false;
	/* Pipes and sockets answer the second as well: eventfds need not try what they do not have. */
	room = ready(fd, POLLOUT | POLLWRNORM);
	if (room & POLLWRNORM)
		(void)vfsd_nowait_write(fd, &one, sizeof(one));
	else if (room & POLLOUT)
		return write(fd, &one, sizeof(one)) == sizeof(one);
	return false;
}

void vfsd_nowait_drain(int fd)
{
	uint64_t count;

	(void)vfsd_nowait_read(fd, &count, sizeof(count));
}
