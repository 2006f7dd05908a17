/* SPDX-License-Identifier: BSD-3-Clause */
/* Open files: ids go stale, quotas hold, and a RELEASE may race with whoever uses the file. */
#include "inode/open_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "check.h"
#include "base/quota.h"
#include "tree.h"
#include "base/util.h"

enum { NODE = 7 };

static int open_null(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static void test_ids(void)
{
	unsigned int fds = tree_count_fds();
	struct vfsd_open_files *handles;
	struct vfsd_open_file *handle;
	uint64_t first;
	uint64_t second;

	CHECK_EQ(vfsd_open_files_create(NULL, &handles), 0);
	CHECK_EQ(vfsd_open_file_add(handles, open_null(), NODE, &first), 0);
	CHECK(!vfsd_open_file_get(handles, first, NODE + 1));
	CHECK(!vfsd_open_file_get(handles, first + 1, NODE));
	CHECK(!vfsd_open_file_get(handles, first + (1ULL << 32), NODE));
	CHECK(!vfsd_open_file_get(handles, UINT64_MAX, NODE));
	CHECK_EQ(vfsd_open_file_release(handles, first, NODE + 1), -EBADF);

	/* In use, it outlives its release, but nobody else gets it. */
	handle = vfsd_open_file_get(handles, first, NODE);
	CHECK(handle);
	CHECK_EQ(vfsd_open_file_release(handles, first, NODE), 0);
	CHECK_EQ(vfsd_open_file_release(handles, first, NODE), -EBADF);
	CHECK(!vfsd_open_file_get(handles, first, NODE));
	CHECK(fcntl(handle->fd, F_GETFD) >= 0);
	CHECK_EQ(vfsd_open_files_count(handles), 1);
	vfsd_open_file_put(handles, handle);
	CHECK_EQ(vfsd_open_files_count(handles), 0);
	CHECK_EQ(tree_count_fds(), fds);

	/* The slot is used again, the id is not. */
	CHECK_EQ(vfsd_open_file_add(handles, open_null(), NODE, &second), 0);
	CHECK_EQ((uint32_t)first, (uint32_t)second);
	CHECK(first != second);
	CHECK(!vfsd_open_file_get(handles, first, NODE));
	vfsd_open_files_destroy(handles);
	CHECK_EQ(tree_count_fds(), fds);
	vfsd_open_files_destroy(NULL);
}

static void test_quota(void)
{
	enum { QUOTA = 300 }; /* more than one chunk */
	struct vfsd_quota quota = {.limit = QUOTA};
	unsigned int fds = tree_count_fds();
	struct vfsd_open_files *handles;
	uint64_t fh[QUOTA + 1];

	CHECK_EQ(vfsd_open_files_create(&quota, &handles), 0);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < QUOTA; i++)
			CHECK_EQ(vfsd_open_file_add(handles, open_null(), NODE, &fh[i]), 0);
		CHECK_EQ(vfsd_open_file_add(handles, open_null(), NODE, &fh[QUOTA]), -ENFILE);
		CHECK_EQ(tree_count_fds(), fds + QUOTA);
		CHECK_EQ(vfsd_open_file_release(handles, fh[0], NODE), 0);
		CHECK_EQ(vfsd_open_file_add(handles, open_null(), NODE, &fh[0]), 0);
		vfsd_open_files_clear(handles);
		CHECK_EQ(vfsd_open_files_count(handles), 0);
		CHECK_EQ(quota.used, 0);
		CHECK_EQ(tree_count_fds(), fds);
	}
	vfsd_open_files_destroy(handles);
}

/* Threads: one opens and releases, the others use what it opened last. */

enum { ROUNDS = 20000, USERS = 3 };

static struct vfsd_open_files *shared;
static _Atomic uint64_t last_fh;
static atomic_bool done;

static void *use(void *arg)
{
	(void)arg;
	while (!atomic_load(&done)) {
		struct vfsd_open_file *handle =
			vfsd_open_file_get(shared, atomic_load(&last_fh), NODE);

		if (handle) {
			CHECK(fcntl(handle->fd, F_GETFD) >= 0);
			vfsd_open_file_put(shared, handle);
		}
	}
	return NULL;
}

static void test_threads(void)
{
	struct vfsd_quota quota = {.limit = 16};
	pthread_t users[USERS];
	uint64_t fh;

	CHECK_EQ(vfsd_open_files_create(&quota, &shared), 0);
	for (int i = 0; i < USERS; i++)
		CHECK_EQ(pthread_create(&users[i], NULL, use, NULL), 0);
	for (int i = 0; i < ROUNDS; i++) {
		CHECK_EQ(vfsd_open_file_add(shared, open_null(), NODE, &fh), 0);
		atomic_store(&last_fh, fh);
		if (i % 100 == 0)
			vfsd_open_files_clear(shared);
		else
			CHECK_EQ(vfsd_open_file_release(shared, fh, NODE), 0);
	}
	atomic_store(&done, true);
	for (int i = 0; i < USERS; i++)
		CHECK_EQ(pthread_join(users[i], NULL), 0);
	CHECK_EQ(vfsd_open_files_count(shared), 0);
	vfsd_open_files_destroy(shared);
}

static int note(void *ctx, const struct vfsd_open_file_state *file)
{
	struct vfsd_open_file_state *files = ctx;

	for (int i = 0; i < 3; i++) {
		if (files[i].fh)
			continue;
		files[i] = *file;
		return 0;
	}
	return -1;
}

/* From one table to another: the same ids, and new ones beyond them. */
static void test_restore(void)
{
	unsigned int fds = tree_count_fds();
	struct vfsd_quota quota = {.limit = 5};
	struct vfsd_open_file_state files[3] = {{.fh = 0}}, again[3] = {{.fh = 0}};
	struct vfsd_open_files *from, *to;
	uint64_t fh[4];

	CHECK_EQ(vfsd_open_files_create(NULL, &from), 0);
	CHECK_EQ(vfsd_open_files_create(&quota, &to), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(vfsd_open_file_add(from, open_null(), NODE + (uint64_t)i, &fh[i]), 0);
	CHECK_EQ(vfsd_open_file_release(from, fh[1], NODE + 1), 0);
	CHECK_EQ(vfsd_open_file_add(from, open_null(), NODE + 1, &fh[1]), 0);
	CHECK_EQ(vfsd_open_file_release(from, fh[0], NODE), 0);
	CHECK_EQ(vfsd_open_files_each(from, note, files), 0);
	CHECK(files[0].fh == fh[1] && files[1].fh == fh[2] && files[2].fh == fh[3]);

	for (int i = 0; i < 3; i++)
		files[i].fd = i == 1 ? -1 : open_null();
	CHECK_EQ(vfsd_open_files_restore(to, files, 3, vfsd_open_files_generation(from)), 0);
	CHECK_EQ(vfsd_open_files_count(to), 3);
	CHECK_EQ(vfsd_open_files_each(to, note, again), 0);
	for (int i = 0; i < 3; i++) {
		struct vfsd_open_file *handle =
			vfsd_open_file_get(to, files[i].fh, files[i].nodeid);

		CHECK(again[i].fh == files[i].fh && again[i].nodeid == files[i].nodeid);
		CHECK((handle == NULL) == (i == 1));
		CHECK_EQ(vfsd_open_file_missing(to, files[i].fh, files[i].nodeid), -ESTALE);
		CHECK_EQ(vfsd_open_file_missing(to, files[i].fh, files[i].nodeid + 1), -EBADF);
		vfsd_open_file_put(to, handle);
	}
	CHECK_EQ(vfsd_open_file_add(to, open_null(), NODE, &fh[0]), 0);
	CHECK_EQ(fh[0] >> 32, vfsd_open_files_generation(from) + 1);
	CHECK_EQ((uint32_t)fh[0], 0);
	CHECK_EQ(vfsd_open_file_release(to, files[1].fh, files[1].nodeid), 0);
	CHECK_EQ(vfsd_open_file_release(to, files[0].fh, files[0].nodeid), 0);
	vfsd_open_files_clear(to);
	CHECK_EQ(quota.used, 0);

	/* Twice the same, none that there can be, more than the guest may have: then nothing is open. */
	for (int i = 0; i < 3; i++) {
		const int errors[] = {-EINVAL, -EINVAL, -ENFILE};
		struct vfsd_open_file_state bad[] = {
			{.fh = 1, .nodeid = NODE, .fd = open_null()},
			{.fh = i == 1 ? UINT32_MAX : (uint64_t)(i + 1),
			 .nodeid = NODE,
			 .fd = open_null()},
		};

		quota.limit = i == 2 ? 1 : 5;
		CHECK_EQ(vfsd_open_files_restore(to, bad, 2, 0), errors[i]);
		CHECK_EQ(vfsd_open_files_count(to), 0);
		CHECK_EQ(quota.used, 0);
	}
	vfsd_open_files_destroy(from);
	vfsd_open_files_destroy(to);
	CHECK_EQ(tree_count_fds(), fds);
}

int main(void)
{
	test_ids();
	test_restore();
	test_quota();
	test_threads();
	return 0;
}
