/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocks of bytes through pipes whose other end is slow, early, or gone.
 */
#include "migrate/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { BYTES = 1 << 20, MAX = 4 << 20 };

static uint8_t *block(void)
{
	uint8_t *data = malloc(BYTES);

	for (size_t i = 0; i < BYTES; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	return data;
}

static void check_block(const uint8_t *data, size_t bytes)
{
	uint8_t *same = block();

	CHECK_EQ(bytes, BYTES);
	CHECK(memcmp(data, same, BYTES) == 0);
	free(same);
}

static void test_send(void)
{
	struct vfsd_transfer *transfer;
	uint8_t *got = malloc(BYTES + 1);
	size_t bytes = 0;
	ssize_t n;
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQ(vfsd_transfer_send(fds[1], block(), BYTES, &transfer), 0);
	while ((n = read(fds[0], got + bytes, BYTES + 1 - bytes)) > 0)
		bytes += (size_t)n;
	check_block(got, bytes);
	CHECK_EQ(vfsd_transfer_end(transfer, NULL, NULL), 0);
	(void)close(fds[0]);
	free(got);
}

static void test_send_to_nobody(void)
{
	struct vfsd_transfer *transfer;
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQ(vfsd_transfer_send(fds[1], block(), BYTES, &transfer), 0);
	CHECK_EQ(vfsd_transfer_end(transfer, NULL, NULL), -ECANCELED);
	(void)close(fds[0]);

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	(void)close(fds[0]);
	CHECK_EQ(vfsd_transfer_send(fds[1], block(), BYTES, &transfer), 0);
	CHECK_EQ(vfsd_transfer_end(transfer, NULL, NULL), -EPIPE);
	/* A descriptor that cannot be written to. */
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQ(vfsd_transfer_send(fds[0], block(), BYTES, &transfer), 0);
	CHECK_EQ(vfsd_transfer_end(transfer, NULL, NULL), -EBADF);
	(void)close(fds[1]);
	CHECK_EQ(vfsd_transfer_send(-1, block(), BYTES, &transfer), -EBADF);
}

static void write_all(int fd, const uint8_t *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, data, bytes);

		CHECK(n > 0);
		data += n;
		bytes -= (size_t)n;
	}
}

static void test_receive(void)
{
	struct vfsd_transfer *transfer;
	uint8_t *data = block();
	size_t bytes;
	void *got;
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQ(vfsd_transfer_receive(fds[0], MAX, &transfer), 0);
	write_all(fds[1], data, BYTES);
	(void)close(fds[1]);
	CHECK_EQ(vfsd_transfer_end(transfer, &got, &bytes), 0);
	check_block(got, bytes);
	free(got);

	/* All that came before the end, and no end. */
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQ(vfsd_transfer_receive(fds[0], MAX, &transfer), 0);
	write_all(fds[1], data, BYTES);
	CHECK_EQ(vfsd_transfer_end(transfer, &got, &bytes), -ECANCELED);
	(void)close(fds[1]);
	free(data);
}

static void test_receive_too_much(void)
{
	struct vfsd_transfer *transfer;
	uint8_t *data = block();
	size_t bytes;
	void *got;
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQ(vfsd_transfer_receive(fds[0], 1000, &transfer), 0);
	write_all(fds[1], data, 1001);
	(void)close(fds[1]);
	CHECK_EQ(vfsd_transfer_end(transfer, &got, &bytes), -EFBIG);

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	CHECK_EQ(vfsd_transfer_receive(fds[0], 1001, &transfer), 0);
	write_all(fds[1], data, 1000);
	(void)close(fds[1]);
	CHECK_EQ(vfsd_transfer_end(transfer, &got, &bytes), 0);
	CHECK_EQ(bytes, 1000);
	free(got);
	free(data);
}

int main(void)
{
	test_send();
	test_send_to_nobody();
	test_receive();
	test_receive_too_much();
	return 0;
}
