/* SPDX-License-Identifier: BSD-3-Clause */
/* Which side of the border a directory is on: now, and before renames that are not processed yet. */
#include "source/fanotify/subtree.h"

#include <errno.h>

#include "share.h"

static struct share share;
static struct vfsd_subtree *subtree;

static enum vfsd_side look(const char *path)
{
	struct vfsd_file_handle handle;

	share_handle(&share, path, &handle);
	return vfsd_subtree_look(subtree, &handle);
}

static void begin(void)
{
	CHECK_EQ(vfsd_subtree_create(share.inodes, false, &subtree), 0);
	CHECK_EQ(vfsd_subtree_add_root(subtree, share.root), 0);
}

static void end(void)
{
	vfsd_subtree_destroy(subtree);
}

static void test_sides(void)
{
	struct vfsd_file_handle gone;

	begin();
	share_mkdir(&share, "share/a");
	share_mkdir(&share, "share/a/b");
	share_mkdir(&share, "outside/c");
	CHECK_EQ(look("share"), VFSD_INSIDE);
	CHECK_EQ(look("share/a/b"), VFSD_INSIDE);
	CHECK_EQ(look("outside/c"), VFSD_OUTSIDE);
	CHECK_EQ(look("."), VFSD_OUTSIDE); /* above the root */
	share_rename(&share, "share/a/b", "outside/b");
	share_rename(&share, "outside/c", "share/a/c");
	CHECK_EQ(look("outside/b"), VFSD_OUTSIDE);
	CHECK_EQ(look("share/a/c"), VFSD_INSIDE);
	share_handle(&share, "outside/b", &gone);
	CHECK_EQ(unlinkat(share.tree.fd, "outside/b", AT_REMOVEDIR), 0);
	CHECK_EQ(vfsd_subtree_look(subtree, &gone), VFSD_GONE);
	/* No root, nothing is inside. */
	vfsd_subtree_remove_root(subtree, VFSD_NODEID_ROOT);
	CHECK_EQ(look("share/a"), VFSD_OUTSIDE);
	end();
}

static void test_memory(void)
{
	struct vfsd_file_handle a, other;
	enum vfsd_side side;

	begin();
	share_handle(&share, "share/a", &a);
	other = a;
	other.data[0] ^= 1;
	CHECK(!vfsd_subtree_recall(subtree, &a, &side));
	vfsd_subtree_remember(subtree, &a, VFSD_OUTSIDE);
	CHECK(vfsd_subtree_recall(subtree, &a, &side));
	CHECK_EQ(side, VFSD_OUTSIDE);
	CHECK(!vfsd_subtree_recall(subtree, &other, &side));
	vfsd_subtree_forget(subtree);
	CHECK(!vfsd_subtree_recall(subtree, &a, &side));
	/* With a root comes another border. */
	vfsd_subtree_remember(subtree, &a, VFSD_OUTSIDE);
	vfsd_subtree_remove_root(subtree, VFSD_NODEID_ROOT);
	CHECK(!vfsd_subtree_recall(subtree, &a, &side));
	/* Too long to be remembered. */
	a.bytes = 100;
	vfsd_subtree_remember(subtree, &a, VFSD_OUTSIDE);
	CHECK(!vfsd_subtree_recall(subtree, &a, &side));
	end();
}

/* Announced renames are of the time before: below what was moved, too. */
static void test_renames_to_come(void)
{
	struct vfsd_file_handle m, inside, outside;

	begin();
	share_mkdir(&share, "share/m");
	share_mkdir(&share, "share/m/below");
	share_handle(&share, "share", &inside);
	share_handle(&share, "outside", &outside);
	share_handle(&share, "share/m", &m);
	/* In, out, and in again; none is processed. The last one is announced first. */
	share_rename(&share, "share/m", "outside/m");
	CHECK_EQ(look("outside/m/below"), VFSD_OUTSIDE);
	CHECK(vfsd_subtree_announce(subtree, &m, &inside));
	CHECK_EQ(look("outside/m/below"), VFSD_INSIDE);
	share_rename(&share, "outside/m", "share/m");
	vfsd_subtree_unannounce(subtree);
	CHECK(vfsd_subtree_announce(subtree, &m, &outside));
	CHECK(vfsd_subtree_announce(subtree, &m, &inside));
	CHECK_EQ(look("share/m/below"), VFSD_INSIDE);
	vfsd_subtree_arrive(subtree); /* the first one is done: it is outside, until the next */
	CHECK_EQ(look("share/m/below"), VFSD_OUTSIDE);
	CHECK_EQ(look("share/a"), VFSD_INSIDE);
	vfsd_subtree_arrive(subtree);
	CHECK_EQ(look("share/m/below"), VFSD_INSIDE);
	vfsd_subtree_arrive(subtree); /* of none */
	CHECK_EQ(look("share/m/below"), VFSD_INSIDE);
	for (int i = 0; i < VFSD_SUBTREE_MOVED_MAX; i++)
		CHECK(vfsd_subtree_announce(subtree, &m, &inside));
	CHECK(!vfsd_subtree_announce(subtree, &m, &inside));
	end();
}

static void test_doubt(void)
{
	struct vfsd_file_handle m;

	begin();
	share_handle(&share, "share/m", &m);
	vfsd_subtree_doubt(subtree, &m);
	CHECK_EQ(look("share/m"), VFSD_DOUBTFUL);
	CHECK_EQ(look("share/m/below"), VFSD_DOUBTFUL);
	CHECK_EQ(look("share/a"), VFSD_INSIDE);
	vfsd_subtree_trust(subtree);
	CHECK_EQ(look("share/m/below"), VFSD_INSIDE);
	/* More than can be kept apart: then of everything. */
	for (int i = 0; i <= VFSD_SUBTREE_MOVED_MAX; i++)
		vfsd_subtree_doubt(subtree, &m);
	CHECK_EQ(look("share/a"), VFSD_DOUBTFUL);
	vfsd_subtree_trust(subtree);
	CHECK_EQ(look("share/a"), VFSD_INSIDE);
	end();
}

static void test_contains(void)
{
	static const struct {
		const char *path;
		bool want;
	} table[] = {{"share", true}, {"share/m/below", true}, {"outside", false}};

	begin();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int fd = openat(share.tree.fd, table[i].path, O_PATH | O_CLOEXEC);

		CHECK_EQ(vfsd_subtree_contains(subtree, fd, 0), table[i].want);
		CHECK_EQ(close(fd), 0);
	}
	end();
}

int main(void)
{
	unsigned int fds;

	if (share_create(&share)) {
		fds = tree_count_fds();
		test_sides();
		test_memory();
		test_renames_to_come();
		test_doubt();
		test_contains();
		CHECK_EQ(tree_count_fds(), fds);
	}
	share_destroy(&share);
	return 0;
}
