/* SPDX-License-Identifier: BSD-3-Clause */
/* The cursor: across iovecs, empty ones included, and nothing moves on error. */
#include "fuse/cursor.h"

#include <errno.h>
#include <string.h>

#include "check.h"
#include "base/util.h"

enum { BYTES = 12 };

static uint8_t memory[BYTES];

/* 3 + 0 + 1 + 8 bytes and an empty end, not in the order of their addresses. */
static const struct iovec iov[] = {
	{memory + 9, 3}, {memory, 0}, {memory + 8, 1}, {memory, 8}, {memory, 0},
};
static const char text[] = "abcdefghijkl";

static struct vfsd_cursor fresh(void)
{
	struct vfsd_cursor cur;

	vfsd_cursor_init(&cur, iov, VFSD_ARRAY_SIZE(iov));
	CHECK_EQ(cur.left, BYTES);
	return cur;
}

static void fill(void)
{
	struct vfsd_cursor cur = fresh();

	memset(memory, 0, sizeof(memory));
	CHECK_EQ(vfsd_cursor_write(&cur, text, BYTES), 0);
	CHECK_EQ(cur.left, 0);
	CHECK(memcmp(memory, "efghijkldabc", BYTES) == 0);
}

static void test_read_every_split(void)
{
	fill();
	for (size_t first = 0; first <= BYTES; first++) {
		struct vfsd_cursor cur = fresh();
		char got[BYTES];

		CHECK_EQ(vfsd_cursor_read(&cur, got, first), 0);
		CHECK_EQ(cur.left, BYTES - first);
		CHECK_EQ(vfsd_cursor_read(&cur, got + first, BYTES - first), 0);
		CHECK(memcmp(got, text, BYTES) == 0);
		CHECK_EQ(vfsd_cursor_read(&cur, got, 1), -EINVAL);
		CHECK_EQ(vfsd_cursor_read(&cur, got, 0), 0);
	}
}

static void test_errors_move_nothing(void)
{
	struct vfsd_cursor cur = fresh(), before;
	struct iovec out[8];
	char got[2 * BYTES];

	fill();
	CHECK_EQ(vfsd_cursor_skip(&cur, 2), 0);
	before = cur;
	CHECK_EQ(vfsd_cursor_read(&cur, got, BYTES - 1), -EINVAL);
	CHECK_EQ(vfsd_cursor_write(&cur, text, BYTES - 1), -EINVAL);
	CHECK_EQ(vfsd_cursor_skip(&cur, SIZE_MAX), -EINVAL);
	CHECK_EQ(vfsd_cursor_take(&cur, BYTES - 1, out, 8), -EINVAL);
	CHECK_EQ(vfsd_cursor_take(&cur, 10, out, 2), -EINVAL);
	CHECK_EQ(vfsd_cursor_take(&cur, 1, out, 0), -EINVAL);
	CHECK(memcmp(&before, &cur, sizeof(cur)) == 0);
	CHECK_EQ(vfsd_cursor_read(&cur, got, BYTES - 2), 0);
	CHECK(memcmp(got, text + 2, BYTES - 2) == 0);
}

static void test_take(void)
{
	struct vfsd_cursor cur = fresh();
	struct iovec out[3];
	char got[4];

	fill();
	CHECK_EQ(vfsd_cursor_take(&cur, 0, out, 0), 0);
	CHECK_EQ(vfsd_cursor_skip(&cur, 1), 0);
	CHECK_EQ(vfsd_cursor_take(&cur, 7, out, 3), 3);
	CHECK(out[0].iov_base == memory + 10 && out[0].iov_len == 2);
	CHECK(out[1].iov_base == memory + 8 && out[1].iov_len == 1);
	CHECK(out[2].iov_base == memory && out[2].iov_len == 4);
	CHECK_EQ(vfsd_cursor_read(&cur, got, 4), 0);
	CHECK(memcmp(got, "ijkl", 4) == 0);
	CHECK_EQ(cur.left, 0);
}

static void test_empty(void)
{
	struct vfsd_cursor cur;
	char got;

	vfsd_cursor_init(&cur, NULL, 0);
	CHECK_EQ(vfsd_cursor_read(&cur, &got, 0), 0);
	CHECK_EQ(vfsd_cursor_read(&cur, &got, 1), -EINVAL);
	CHECK_EQ(vfsd_cursor_skip(&cur, 1), -EINVAL);
}

int main(void)
{
	test_read_every_split();
	test_errors_move_nothing();
	test_take();
	test_empty();
	return 0;
}
