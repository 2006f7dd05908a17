/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors in blocking mode, as a hostile front-end hands them over. */
#include "base/nowait.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Without a writer: a call that waits would wait for ever, and the test runner ends it. */
static void fill(int fd)
{
	char bytes[4096] = {0};

	while (vfsd_nowait_write(fd, bytes, sizeof(bytes)) > 0)
		;
	while (vfsd_nowait_write(fd, bytes, 1) > 0)
		;
	assert(errno == EAGAIN);
}

static void test_pipe(void)
{
	uint64_t got;
	int fds[2];

	assert(pipe(fds) == 0);
	assert(vfsd_nowait_read(fds[0], &got, sizeof(got)) == -1 && errno == EAGAIN);
	vfsd_nowait_drain(fds[0]);
	assert(!vfsd_nowait_signal(fds[1]));
	assert(vfsd_nowait_read(fds[0], &got, sizeof(got)) == sizeof(got) && got == 1);
	fill(fds[1]);
	assert(!vfsd_nowait_signal(fds[1]));
	close(fds[1]);
	close(fds[0]);
}

static void test_socket(void)
{
	uint64_t got;
	int fds[2];

	assert(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	vfsd_nowait_drain(fds[0]);
	assert(!vfsd_nowait_signal(fds[1]));
	assert(vfsd_nowait_read(fds[0], &got, sizeof(got)) == sizeof(got) && got == 1);
	fill(fds[1]);
	assert(!vfsd_nowait_signal(fds[1]));
	close(fds[1]);
	close(fds[0]);
}

static void test_eventfd(void)
{
	eventfd_t got;
	int fd = eventfd(0, 0);

	assert(fd >= 0);
	vfsd_nowait_drain(fd);
	assert(vfsd_nowait_signal(fd));
	assert(vfsd_nowait_signal(fd));
	assert(eventfd_read(fd, &got) == 0 && got == 2);
	assert(eventfd_write(fd, UINT64_MAX - 1) == 0);
	assert(!vfsd_nowait_signal(fd));
	assert(eventfd_read(fd, &got) == 0 && got == UINT64_MAX - 1);
	assert(!vfsd_nowait_signal(-1));
	close(fd);
}

/* Nothing makes it ready: it is read and written as ever. */
static void test_plain_file(void)
{
	char path[] = "/tmp/vfsd-nowait-XXXXXX", byte = 'a';
	int fd = mkstemp(path);

	assert(fd >= 0);
	assert(unlink(path) == 0);
	assert(vfsd_nowait_write(fd, &byte, 1) == 1);
	assert(lseek(fd, 0, SEEK_SET) == 0);
	assert(vfsd_nowait_read(fd, &byte, 1) == 1 && byte == 'a');
	assert(vfsd_nowait_read(fd, &byte, 1) == 0);
	close(fd);
}

int main(void)
{
	test_pipe();
	test_socket();
	test_eventfd();
	test_plain_file();
	return 0;
}
