/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Directories that are listed often: when an entry's number will do for its name, and when not.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "check.h"
#include "inode/inode.h"
#include "base/statx.h"
#include "tree.h"
#include "base/util.h"

enum {
	CACHED_MAX = 8,
	FILES = CACHED_MAX + 4,
	HOT = 3,
	MASK = STATX_BASIC_STATS | STATX_MNT_ID | STATX_BTIME,
};

static struct tree tree;
static struct vfsd_inodes *inodes;
static struct vfsd_inode *root;
static struct vfsd_listing listing;

static void make(const char *name)
{
	int fd = openat(tree.fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	close(fd);
}

/* Its statx, as if it had been there for so long. */
static struct statx with_btime(const char *name, int64_t ago_s)
{
	struct statx st;

	CHECK_EQ(statx(tree.fd, name, AT_SYMLINK_NOFOLLOW, MASK, &st), 0);
	st.stx_btime.tv_sec -= ago_s;
	return st;
}

static struct vfsd_inode *look_up(const char *name, const struct statx *st)
{
	struct vfsd_inode *inode;

	CHECK_EQ(vfsd_inode_lookup_fd(inodes, openat(tree.fd, name, O_PATH | O_NOFOLLOW), st,
				      &inode),
		 0);
	return inode;
}

/* Make a file, and let the guest know it. */
static struct vfsd_inode *known_file(const char *name, int64_t ago_s, struct statx *st)
{
	make(name);
	*st = with_btime(name, ago_s);
	return look_up(name, st);
}

static void drop(struct vfsd_inode *inode, uint64_t nlookup)
{
	struct vfsd_inode *gone = vfsd_inode_forget(inodes, inode->nodeid, nlookup);

	CHECK(gone == inode);
	vfsd_inode_put(inodes, gone);
	vfsd_inode_put(inodes, inode);
}

/* Is @inode found by its number? A lookup of it more, then. */
static bool found(const struct vfsd_inode *inode)
{
	struct statx st = {.stx_ino = 0};
	struct vfsd_inode *known = vfsd_listing_find(inodes, &listing, inode->ino, MASK, &st);

	if (!known)
		return false;
	CHECK(known == inode);
	CHECK_EQ(st.stx_ino, inode->ino);
	CHECK(st.stx_mask & STATX_BTIME);
	vfsd_inode_put(inodes, known);
	return true;
}

static void list(void)
{
	vfsd_listing_begin(inodes, root, true, &listing);
}

static void list_until_hot(void)
{
	for (int i = 0; i < HOT; i++)
		list();
	CHECK(listing.mount_changes > 0);
}

static void test_only_where_it_is_listed_often(void)
{
	struct statx st;
	struct vfsd_inode *inode = known_file("a", 100, &st);

	for (int i = 1; i < HOT; i++) {
		list();
		CHECK_EQ(listing.mount_changes, 0);
		vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
		CHECK(!vfsd_inode_is_pinned(inode));
		CHECK(!found(inode));
	}
	/* Going on is not beginning anew. */
	vfsd_listing_begin(inodes, root, false, &listing);
	CHECK_EQ(listing.mount_changes, 0);
	list();
	CHECK(listing.mount_changes > 0);
	CHECK(!found(inode));
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	CHECK(vfsd_inode_is_pinned(inode));
	CHECK(found(inode));
	vfsd_listing_begin(inodes, root, false, &listing);
	CHECK(found(inode));
	CHECK_EQ(vfsd_inode_lookups(inode), 3);
	drop(inode, 3);
	CHECK_EQ(unlinkat(tree.fd, "a", 0), 0);
}

/* What the kernel before 6.11 takes, and what is shorter since. */
static void test_both_kinds_of_statx(void)
{
	const bool takes_null = vfsd_statx_takes_null();
	struct statx st, again;
	struct vfsd_inode *inode = known_file("a", 100, &st);

	list_until_hot();
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	vfsd_statx_set_takes_null(false);
	CHECK(found(inode));
	CHECK_EQ(vfsd_statx_fd(tree.fd, 0, MASK, &again), 0);
	CHECK_EQ(again.stx_ino, root->ino);
	CHECK_EQ(vfsd_statx_fd(-1, 0, MASK, &again), -EBADF);
	vfsd_statx_set_takes_null(takes_null);
	CHECK(found(inode));
	CHECK_EQ(vfsd_statx_fd(-1, 0, MASK, &again), -EBADF);
	drop(inode, 3);
	CHECK_EQ(unlinkat(tree.fd, "a", 0), 0);
}

static void test_not_what_is_young(void)
{
	struct statx st;
	struct vfsd_inode *inode = known_file("a", 0, &st);

	list_until_hot();
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	CHECK(!found(inode));
	drop(inode, 1);
	CHECK_EQ(unlinkat(tree.fd, "a", 0), 0);
}

static void test_not_what_is_not_here_or_has_more_names(void)
{
	struct statx st;
	struct vfsd_inode *inode = known_file("a", 100, &st);

	list_until_hot();
	/* Something is mounted upon the name: it leads to another inode than the directory says. */
	vfsd_listing_note(inodes, &listing, st.stx_ino + 1, inode, &st);
	CHECK(!found(inode));
	CHECK_EQ(linkat(tree.fd, "a", tree.fd, "b", 0), 0);
	st = with_btime("a", 100);
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	CHECK(!found(inode));
	CHECK_EQ(unlinkat(tree.fd, "b", 0), 0);
	/* It was noted while it had two, of which something may have been upon the other. */
	CHECK(!found(inode));
	st = with_btime("a", 100);
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	CHECK(found(inode));
	CHECK_EQ(linkat(tree.fd, "a", tree.fd, "b", 0), 0);
	CHECK(!found(inode));
	CHECK_EQ(unlinkat(tree.fd, "a", 0), 0);
	CHECK(found(inode));
	CHECK_EQ(unlinkat(tree.fd, "b", 0), 0);
	CHECK(!found(inode));
	drop(inode, 3);
}

static void test_directories_have_one_name(void)
{
	struct statx st;
	struct vfsd_inode *inode;

	CHECK_EQ(mkdirat(tree.fd, "d", 0700), 0);
	st = with_btime("d", 100);
	inode = look_up("d", &st);
	list_until_hot();
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	CHECK(found(inode));
	CHECK_EQ(unlinkat(tree.fd, "d", AT_REMOVEDIR), 0);
	CHECK(!found(inode));
	drop(inode, 2);
}

static void test_not_what_must_not_be_pinned(void)
{
	struct statx st;
	struct vfsd_inode *inode = known_file("a", 100, &st);

	list_until_hot();
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	CHECK(found(inode));
	CHECK(vfsd_inode_unpin(inodes, inode));
	CHECK(!found(inode));
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	CHECK(!vfsd_inode_is_pinned(inode));
	CHECK(!found(inode));
	drop(inode, 2);
	CHECK_EQ(unlinkat(tree.fd, "a", 0), 0);
}

static void test_nobody_makes_room(void)
{
	struct vfsd_inode *all[FILES];
	struct statx st[FILES];
	char name[FILES][8];
	unsigned int fds = tree_count_fds();

	for (int i = 0; i < FILES; i++) {
		(void)snprintf(name[i], sizeof(name[i]), "f%d", i);
		all[i] = known_file(name[i], 100, &st[i]);
	}
	list_until_hot();
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < FILES; i++)
			vfsd_listing_note(inodes, &listing, st[i].stx_ino, all[i], &st[i]);
	CHECK_EQ(tree_count_fds(), fds + CACHED_MAX);
	for (int i = 0; i < FILES; i++) {
		CHECK_EQ(found(all[i]), i < CACHED_MAX);
		drop(all[i], i < CACHED_MAX ? 2 : 1);
		CHECK_EQ(unlinkat(tree.fd, name[i], 0), 0);
	}
	CHECK_EQ(tree_count_fds(), fds);
}

/* The process has mounts of its own. */
static void test_not_when_something_may_be_mounted_upon_it(void)
{
	uint32_t before;
	struct statx st;
	struct vfsd_inode *inode;
	char upon[64];

	CHECK_EQ(mkdirat(tree.fd, "d", 0700), 0);
	st = with_btime("d", 100);
	inode = look_up("d", &st);
	list_until_hot();
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	list();
	CHECK(found(inode));
	before = listing.mount_changes;
	(void)snprintf(upon, sizeof(upon), "/proc/self/fd/%d/d", tree.fd);
	CHECK_EQ(mount("none", upon, "tmpfs", 0, NULL), 0);
	list();
	CHECK(listing.mount_changes != before);
	CHECK(!found(inode));
	CHECK_EQ(umount2(upon, MNT_DETACH), 0);
	list();
	CHECK(!found(inode));
	vfsd_listing_note(inodes, &listing, st.stx_ino, inode, &st);
	CHECK(found(inode));
	drop(inode, 3);
	CHECK_EQ(unlinkat(tree.fd, "d", AT_REMOVEDIR), 0);
}

static void test_not_without_a_mount_table(void)
{
	for (int i = 0; i < 2 * HOT; i++) {
		list();
		CHECK_EQ(listing.mount_changes, 0);
	}
}

/* With a table that has nothing kept and nothing noted yet. False: not on this filesystem. */
static bool run(void (*test)(void), const struct vfsd_inodes_config *config)
{
	if (vfsd_inodes_create(config, dup(tree.fd), &inodes))
		return false;
	root = vfsd_inode_get(inodes, VFSD_NODEID_ROOT);
	test();
	vfsd_inode_put(inodes, root);
	vfsd_inodes_destroy(inodes);
	return true;
}

int main(void)
{
	int proc_self_fd = tree_proc_self_fd();
	const bool may_mount = unshare(CLONE_NEWNS) == 0 &&
			       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	int table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	static void (*const tests[])(void) = {
		test_only_where_it_is_listed_often,
		test_both_kinds_of_statx,
		test_not_what_is_young,
		test_not_what_is_not_here_or_has_more_names,
		test_directories_have_one_name,
		test_not_what_must_not_be_pinned,
		test_nobody_makes_room,
	};
	struct vfsd_inodes_config config = {
		.options.file_handles = VFSD_HANDLES_MANDATORY,
		.need_handles = true,
		.proc_self_fd = proc_self_fd,
		.mount_table_fd = table,
		.cached_fds_max = CACHED_MAX,
	};
	unsigned int fds = tree_count_fds();
	struct statfs fs;

	tree_create(&tree);
	CHECK_EQ(fstatfs(tree.fd, &fs), 0);
	if ((fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC ||
	     fs.f_type == XFS_SUPER_MAGIC) &&
	    run(tests[0], &config)) {
		for (size_t i = 1; i < VFSD_ARRAY_SIZE(tests); i++)
			CHECK(run(tests[i], &config));
		CHECK(!may_mount || run(test_not_when_something_may_be_mounted_upon_it, &config));
		config.mount_table_fd = 0;
		CHECK(run(test_not_without_a_mount_table, &config));
	} else {
		(void)fprintf(stderr, "left out: no births or no file handles to open here\n");
	}
	tree_destroy(&tree);
	CHECK_EQ(tree_count_fds(), fds);
	close(table);
	close(proc_self_fd);
	return 0;
}
