/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of inodes that only a directory of the guest can tell. */
#include "migrate/search.h"

#include <sys/sysmacros.h>

#include "saved_session.h"

static void add(struct vfsd_state_search *search, const struct share *share, const char *path,
		uint64_t nodeid)
{
	struct vfsd_state_missing one = {.nodeid = nodeid};
	struct statx st;

	CHECK_EQ(statx(share->fd, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_MNT_ID, &st),
		 0);
	one.dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	one.ino = st.stx_ino;
	one.mnt_id = st.stx_mnt_id;
	CHECK_EQ(vfsd_state_search_add(search, &one), 0);
}

static const struct vfsd_state_missing *find(const struct vfsd_state_search *search,
					     uint64_t nodeid)
{
	for (size_t i = 0; i < search->n; i++)
		if (search->missing[i].nodeid == nodeid)
			return &search->missing[i];
	CHECK(!"it was added");
	return NULL;
}

static void check_found(const struct vfsd_state_search *search, struct session *session,
			const struct share *share, uint64_t nodeid, uint64_t directory,
			const char *name, const char *path)
{
	const struct vfsd_state_missing *one = find(search, nodeid);
	int fd = vfsd_state_search_open(session->config.inodes, one);
	struct stat here, there;

	CHECK_EQ(one->directory, directory);
	CHECK(strcmp(one->name, name) == 0);
	CHECK(fd >= 0 && fstat(fd, &here) == 0);
	CHECK_EQ(fstatat(share->fd, path, &there, AT_SYMLINK_NOFOLLOW), 0);
	CHECK_EQ(here.st_ino, there.st_ino);
	CHECK_EQ(close(fd), 0);
}

/* Only in directories that the guest holds. */
static void test_found_and_not(const struct share *share)
{
	struct vfsd_state_search search = {.n = 0};
	struct session session;
	uint64_t d;

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_state_search_run(&search, session.config.inodes), 0); /* nothing to do */
	add(&search, share, "d/f", 100);
	add(&search, share, "g", 101);
	add(&search, share, "l", 102);
	add(&search, share, "../outside/f", 103);
	CHECK_EQ(vfsd_state_search_run(&search, session.config.inodes), 0);
	CHECK_EQ(find(&search, 100)->directory, 0); /* the guest has no "d" */
	CHECK_EQ(vfsd_state_search_open(session.config.inodes, find(&search, 100)), -ENOENT);
	check_found(&search, &session, share, 101, VFSD_NODEID_ROOT, "g", "g");
	check_found(&search, &session, share, 102, VFSD_NODEID_ROOT, "l", "l");
	CHECK_EQ(find(&search, 103)->directory, 0);
	vfsd_state_search_free(&search);

	d = session_look_up(&session, share->fd, "d");
	add(&search, share, "d/f", 100);
	add(&search, share, "d/f", 101); /* two ids, one inode */
	CHECK_EQ(vfsd_state_search_run(&search, session.config.inodes), 0);
	check_found(&search, &session, share, 100, d, "f", "d/f");
	check_found(&search, &session, share, 101, d, "f", "d/f");
	vfsd_state_search_free(&search);
	CHECK_EQ(search.n, 0);
	session_destroy(&session);
}

/* The name that was found may be gone, or another file's; the caller compares what is opened. */
static void test_changed_since(const struct share *share)
{
	struct vfsd_state_search search = {.n = 0};
	struct session session;

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	tree_file(&share->tree, "share/h", "");
	add(&search, share, "h", 100);
	CHECK_EQ(vfsd_state_search_run(&search, session.config.inodes), 0);
	CHECK_EQ(unlinkat(share->fd, "h", 0), 0);
	CHECK_EQ(vfsd_state_search_open(session.config.inodes, find(&search, 100)), -ENOENT);
	CHECK_EQ(symlinkat("g", share->fd, "h"), 0);
	{
		int fd = vfsd_state_search_open(session.config.inodes, find(&search, 100));
		struct stat st;

		CHECK(fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode)); /* not followed */
		CHECK_EQ(close(fd), 0);
	}
	CHECK_EQ(unlinkat(share->fd, "h", 0), 0);
	vfsd_state_search_free(&search);
	session_destroy(&session);
}

/* Many, in any order, in several directories. */
static void test_many(const struct share *share)
{
	enum { FILES = 300 };
	struct vfsd_state_search search = {.n = 0};
	struct session session;
	char path[32];

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	(void)session_look_up(&session, share->fd, "d");
	for (int i = 0; i < FILES; i++) {
		(void)snprintf(path, sizeof(path), "share/%sm%d", i % 2 ? "d/" : "", i);
		tree_file(&share->tree, path, "");
	}
	for (int i = 0; i < FILES; i++) {
		int which = i * 7 % FILES;

		(void)snprintf(path, sizeof(path), "%sm%d", which % 2 ? "d/" : "", which);
		add(&search, share, path, 1000 + (uint64_t)which);
	}
	CHECK_EQ(vfsd_state_search_run(&search, session.config.inodes), 0);
	CHECK_EQ(search.n, FILES);
	for (int i = 0; i < FILES; i++) {
		(void)snprintf(path, sizeof(path), "m%d", i);
		CHECK(strcmp(find(&search, 1000 + (uint64_t)i)->name, path) == 0);
	}
	vfsd_state_search_free(&search);
	session_destroy(&session);
}

int main(void)
{
	struct share share;

	share_create(&share);
	test_found_and_not(&share);
	test_changed_since(&share);
	test_many(&share);
	share_destroy(&share);
	return 0;
}
