/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/fs_errors.h"

#include <errno.h>

#include "check.h"

static void add(struct vfsd_fs_errors *errors, uint64_t root, int32_t error)
{
	const struct vfsd_fs_error one = {.root = root, .nodeid = root, .error = error, .count = 1};

	CHECK(vfsd_fs_errors_add(errors, &one));
}

static void test_the_first_is_kept_and_others_are_counted(void)
{
	struct vfsd_fs_errors errors = {0};
	const struct vfsd_fs_error *next;

	CHECK(vfsd_fs_errors_next(&errors) == NULL);
	add(&errors, 1, EIO);
	for (int i = 0; i < 100000; i++)
		add(&errors, 1, ENOSPC);
	add(&errors, 2, EROFS);
	next = vfsd_fs_errors_next(&errors);
	CHECK_EQ(next->root, 1);
	CHECK_EQ(next->error, EIO);
	CHECK_EQ(next->count, 100001);
	vfsd_fs_errors_delivered(&errors, next);
	next = vfsd_fs_errors_next(&errors);
	CHECK_EQ(next->root, 2);
	CHECK_EQ(next->error, EROFS);
	vfsd_fs_errors_delivered(&errors, next);
	CHECK(vfsd_fs_errors_next(&errors) == NULL);
}

static void test_what_is_told_is_taken_before_there_is_more(void)
{
	struct vfsd_fs_errors errors = {0};

	add(&errors, 1, EIO);
	vfsd_fs_errors_delivered(&errors, vfsd_fs_errors_next(&errors));
	add(&errors, 1, ENOSPC);
	add(&errors, 1, EROFS);
	CHECK(vfsd_fs_errors_next(&errors) == NULL);
	vfsd_fs_errors_taken(&errors);
	CHECK_EQ(vfsd_fs_errors_next(&errors)->error, ENOSPC);
	CHECK_EQ(vfsd_fs_errors_next(&errors)->count, 2);
	vfsd_fs_errors_clear(&errors);
	CHECK(vfsd_fs_errors_next(&errors) == NULL);
}

static void test_who_is_dropped_hears_no_more(void)
{
	struct vfsd_fs_errors errors = {0};

	add(&errors, 1, EIO);
	add(&errors, 2, EROFS);
	vfsd_fs_errors_drop(&errors, 1);
	CHECK_EQ(vfsd_fs_errors_next(&errors)->root, 2);
	vfsd_fs_errors_delivered(&errors, vfsd_fs_errors_next(&errors));
	CHECK(vfsd_fs_errors_next(&errors) == NULL);
}

static void test_too_many_filesystems(void)
{
	const struct vfsd_fs_error more = {.root = 1000, .error = EIO, .count = 1};
	struct vfsd_fs_errors errors = {0};

	for (uint64_t root = 1; root <= VFSD_FS_ERRORS_MAX; root++)
		add(&errors, root, EIO);
	CHECK(!vfsd_fs_errors_add(&errors, &more));
	vfsd_fs_errors_delivered(&errors, vfsd_fs_errors_next(&errors));
	CHECK(!vfsd_fs_errors_add(&errors, &more));
	vfsd_fs_errors_taken(&errors);
	CHECK(vfsd_fs_errors_add(&errors, &more));
}

int main(void)
{
	test_the_first_is_kept_and_others_are_counted();
	test_what_is_told_is_taken_before_there_is_more();
	test_who_is_dropped_hears_no_more();
	test_too_many_filesystems();
	return 0;
}
