/* SPDX-License-Identifier: BSD-3-Clause */
#include "inode/numbers.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "inode/inode.h"
#include "tree.h"

enum { DEVICES = 20, INOS = 4000, MANY = 300000 };

static struct tree tree;
static struct vfsd_inodes *inodes;
static struct vfsd_numbers *numbers;
static uint64_t root_dev;

static void set_up(void)
{
	const struct vfsd_inodes_config config = {.proc_self_fd = tree_proc_self_fd()};
	struct stat st;

	tree_create(&tree);
	CHECK_EQ(fstat(tree.fd, &st), 0);
	root_dev = st.st_dev;
	CHECK_EQ(vfsd_inodes_create(&config, openat(tree.fd, ".", O_PATH | O_CLOEXEC), &inodes), 0);
	CHECK_EQ(vfsd_numbers_create(inodes, &numbers), 0);
}

static void tear_down(void)
{
	vfsd_numbers_destroy(numbers);
	vfsd_inodes_destroy(inodes);
	tree_destroy(&tree);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Small ones, the largest of all, and those beside where numbers of ours begin. */
static uint64_t nth_ino(uint64_t i)
{
	switch (i % 4) {
	case 0:
		return i;
	case 1:
		return UINT64_MAX - i;
	case 2:
		return (UINT64_C(1) << 48) - INOS + i;
	default:
		return i << 50 | i;
	}
}

static void test_no_two_have_one_number(void)
{
	static uint64_t given[DEVICES * INOS];
	uint32_t n = 0;

	set_up();
	CHECK_EQ(vfsd_numbers_of(numbers, root_dev, 7), 7);
	CHECK(!vfsd_numbers_differ(numbers));
	for (uint64_t d = 0; d < DEVICES; d++)
		for (uint64_t i = 0; i < INOS; i++)
			given[n++] = vfsd_numbers_of(numbers, root_dev + d, nth_ino(i));
	CHECK(vfsd_numbers_differ(numbers));
	qsort(given, n, sizeof(given[0]), compare);
	for (uint32_t i = 1; i < n; i++)
		CHECK(given[i - 1] != given[i]);
	CHECK_EQ(given[n - 1] >> 63, 0);
	tear_down();
}

static void test_filesystems_that_are_more_than_there_are_indexes(void)
{
	static uint64_t given[MANY];

	set_up();
	for (uint64_t d = 0; d < MANY / 10; d++)
		given[d] = vfsd_numbers_of(numbers, root_dev + d, 5);
	qsort(given, MANY / 10, sizeof(given[0]), compare);
	for (uint32_t i = 1; i < MANY / 10; i++)
		CHECK(given[i - 1] != given[i]);
	tear_down();
}

/* What the guest holds keeps its number, whatever it looks at beside it; the rest is not kept for ever. */
static void test_what_is_held_is_remembered(void)
{
	struct vfsd_inode *inode;
	struct statx st;
	uint64_t number;
	int fd;

	set_up();
	tree_file(&tree, "f", "");
	fd = openat(tree.fd, "f", O_PATH | O_CLOEXEC);
	CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st), 0);
	st.stx_ino = UINT64_C(1) << 60; /* as the filesystem had it */
	CHECK_EQ(vfsd_inode_lookup_fd(inodes, fd, &st, &inode), 0);
	number = vfsd_numbers_of(numbers, inode->dev, inode->ino);
	for (uint64_t i = 1; i < MANY; i++)
		CHECK(vfsd_numbers_of(numbers, root_dev, (UINT64_C(1) << 60) + i) != number);
	CHECK_EQ(vfsd_numbers_of(numbers, inode->dev, inode->ino), number);
	CHECK(vfsd_numbers_counted(numbers) < 1024);
	vfsd_inode_put(inodes, inode);
	tear_down();
}

int main(void)
{
	test_no_two_have_one_number();
	test_filesystems_that_are_more_than_there_are_indexes();
	test_what_is_held_is_remembered();
	return 0;
}
