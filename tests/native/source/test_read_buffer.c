/* SPDX-License-Identifier: BSD-3-Clause */
/* What is read stays where it is; how much is read; when there is no more. A pipe stands for a queue. */
#include "source/read_buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "check.h"

enum { CHUNK = VFSD_READ_BUFFER_CHUNK };

static int queue[2];
static uint8_t next; /* of what is written */

static void put(size_t n)
{
	static uint8_t bytes[2 * CHUNK];

	CHECK(n <= sizeof(bytes));
	for (size_t i = 0; i < n; i++)
		bytes[i] = next++;
	CHECK_EQ(write(queue[1], bytes, n), n);
}

static void check_bytes(const struct vfsd_read_buffer *buffer)
{
	for (const uint8_t *at = buffer->bytes; at < buffer->end; at++)
		CHECK_EQ(*at, (uint8_t)(at - buffer->bytes));
}

static void test_reading(struct vfsd_read_buffer *buffer)
{
	const uint8_t *end;
	bool all = false;

	CHECK_EQ(vfsd_read_buffer_read(buffer), 0); /* it does not wait */
	put(1000);
	CHECK_EQ(vfsd_read_buffer_read(buffer), 1000);
	CHECK_EQ(buffer->at - buffer->bytes, 0);
	end = buffer->end;
	CHECK(!vfsd_read_buffer_more(buffer, VFSD_READ_BUFFER_AHEAD, &all));
	CHECK(all);
	put(2 * CHUNK);
	CHECK(vfsd_read_buffer_more(buffer, VFSD_READ_BUFFER_AHEAD, &all));
	CHECK(!all);
	CHECK_EQ(buffer->end - end, CHUNK);
	check_bytes(buffer);
	/* Another chunk would be more than is read ahead. */
	CHECK(!vfsd_read_buffer_more(buffer, VFSD_READ_BUFFER_AHEAD, &all));
	CHECK(!all);
	CHECK(vfsd_read_buffer_more(buffer, VFSD_READ_BUFFER_ALL, &all));
	CHECK(!vfsd_read_buffer_more(buffer, VFSD_READ_BUFFER_AHEAD, &all));
	CHECK(all);
	CHECK_EQ(buffer->end - buffer->bytes, 1000 + 2 * CHUNK);
	check_bytes(buffer);
}

static void test_anew(struct vfsd_read_buffer *buffer)
{
	next = 0;
	put(10);
	buffer->at = buffer->end;
	CHECK_EQ(vfsd_read_buffer_read(buffer), 10);
	CHECK(buffer->at == buffer->bytes && buffer->end == buffer->bytes + 10);
	check_bytes(buffer);
}

static void test_errors(struct vfsd_read_buffer *buffer)
{
	bool all = true;

	CHECK_EQ(close(queue[0]), 0);
	CHECK_EQ(vfsd_read_buffer_read(buffer), -EBADF);
	CHECK(!vfsd_read_buffer_more(buffer, VFSD_READ_BUFFER_ALL, &all));
	CHECK(!all);
}

int main(void)
{
	struct vfsd_read_buffer buffer;

	CHECK_EQ(pipe2(queue, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQ(fcntl(queue[1], F_SETPIPE_SZ, 1 << 20), 1 << 20);
	CHECK_EQ(vfsd_read_buffer_init(&buffer, queue[0]), 0);
	test_reading(&buffer);
	test_anew(&buffer);
	test_errors(&buffer);
	vfsd_read_buffer_free(&buffer);
	CHECK_EQ(close(queue[1]), 0);
	return 0;
}
