/* SPDX-License-Identifier: BSD-3-Clause */
/* How inodes come into the table: by a descriptor, by a name alone, by an open file, and out of a reserve. */
#include "base/quota.h"
#include "check.h"
#include "inode/internal.h"
#include "tree.h"

enum { MASK = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID };

struct fixture {
	struct tree tree;
	int proc_self_fd;
	struct vfsd_quota quota;
	struct vfsd_inodes *inodes;
};

static int create(struct fixture *f, enum vfsd_handle_policy handles)
{
	struct vfsd_inodes_config config = {.options.file_handles = handles, .fd_quota = &f->quota};

	*f = (struct fixture){.quota = {.limit = 100}};
	tree_create(&f->tree);
	CHECK_EQ(mkdirat(f->tree.fd, "d", 0700), 0);
	tree_file(&f->tree, "f", "data");
	CHECK_EQ(symlinkat("f", f->tree.fd, "l"), 0);
	config.proc_self_fd = f->proc_self_fd = tree_proc_self_fd();
	f->inodes = NULL;
	return vfsd_inodes_create(&config, dup(f->tree.fd), &f->inodes);
}

static void destroy(struct fixture *f)
{
	vfsd_inodes_destroy(f->inodes);
	CHECK_EQ(close(f->proc_self_fd), 0);
	tree_destroy(&f->tree);
	CHECK_EQ(f->quota.used, 0);
}

static struct statx stat_of(struct fixture *f, const char *name)
{
	struct statx st;

	CHECK_EQ(statx(f->tree.fd, name, AT_SYMLINK_NOFOLLOW, MASK, &st), 0);
	return st;
}

static struct vfsd_inode *look_up(struct fixture *f, const char *name)
{
	struct statx st = stat_of(f, name);
	struct vfsd_inode *inode;

	CHECK_EQ(vfsd_inode_lookup_fd(f->inodes,
				      openat(f->tree.fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC),
				      &st, &inode),
		 0);
	return inode;
}

static void drop(struct fixture *f, struct vfsd_inode *inode)
{
	vfsd_inode_put(f->inodes, vfsd_inode_forget(f->inodes, inode->nodeid, UINT64_MAX));
	vfsd_inode_put(f->inodes, inode);
}

/* By a descriptor: held by that, or by a handle, which costs none of the quota. */
static void test_by_descriptor(enum vfsd_handle_policy handles)
{
	const uint64_t each = handles == VFSD_HANDLES_NEVER;
	struct vfsd_inode *a, *b, *l;
	struct fixture f;

	CHECK_EQ(create(&f, handles), 0);
	a = look_up(&f, "f");
	b = look_up(&f, "f");
	l = look_up(&f, "l");
	CHECK(a == b && a != l);
	CHECK_EQ(vfsd_inode_lookups(a), 2);
	CHECK_EQ(l->type, S_IFLNK);
	CHECK_EQ(f.quota.used, 1 + 2 * each);
	vfsd_inode_put(f.inodes, b);
	drop(&f, a);
	drop(&f, l);
	CHECK_EQ(f.quota.used, 1);
	CHECK_EQ(vfsd_inodes_count(f.inodes), 1);
	/* Without a name, always by a descriptor. */
	{
		struct vfsd_inode *nameless;
		struct statx st;
		int fd = openat(f.tree.fd, "f", O_PATH | O_CLOEXEC);

		CHECK_EQ(unlinkat(f.tree.fd, "f", 0), 0);
		CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, MASK, &st), 0);
		CHECK_EQ(vfsd_inode_lookup_fd(f.inodes, fd, &st, &nameless), 0);
		CHECK_EQ(f.quota.used, 2);
		CHECK(vfsd_inode_is_pinned(nameless));
		drop(&f, nameless);
	}
	destroy(&f);
}

/* An open file is enough where a handle can hold it, and nowhere else. */
static void test_by_open_file(enum vfsd_handle_policy handles)
{
	struct vfsd_inode *inode, *same;
	struct statx st;
	struct fixture f;
	int fd;

	CHECK_EQ(create(&f, handles), 0);
	fd = openat(f.tree.fd, "f", O_RDONLY | O_CLOEXEC);
	st = stat_of(&f, "f");
	if (handles == VFSD_HANDLES_NEVER) {
		CHECK_EQ(vfsd_inode_lookup_open(f.inodes, fd, &st, &inode), -EAGAIN);
	} else {
		CHECK_EQ(vfsd_inode_lookup_open(f.inodes, fd, &st, &inode), 0);
		same = look_up(&f, "f");
		CHECK(same == inode);
		vfsd_inode_put(f.inodes, same);
		drop(&f, inode);
		/* It has lost its name, and no handle finds it. */
		CHECK_EQ(unlinkat(f.tree.fd, "f", 0), 0);
		CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, MASK, &st), 0);
		CHECK_EQ(vfsd_inode_lookup_open(f.inodes, fd, &st, &inode), -EAGAIN);
	}
	CHECK_EQ(vfsd_inodes_count(f.inodes), 1);
	CHECK_EQ(close(fd), 0);
	destroy(&f);
}

/* By a name alone: only what is old enough that its number has not been another's just now. */
static void test_by_name(enum vfsd_handle_policy handles)
{
	struct vfsd_inode *inode;
	struct statx st;
	struct fixture f;
	bool added;

	CHECK_EQ(create(&f, handles), 0);
	CHECK(!vfsd_inode_lookup_new(f.inodes, f.tree.fd, "f", MASK, false, &st, &added));
	CHECK(!vfsd_inode_lookup_new(f.inodes, f.tree.fd, "none", MASK, false, &st, &added));
	st = stat_of(&f, "f");
	CHECK(!vfsd_inode_lookup_new(f.inodes, f.tree.fd, "f", MASK, true, &st, &added));
	CHECK_EQ(vfsd_inodes_count(f.inodes), 1);
	/* What the table has not seen is known by no name, and by no number. */
	CHECK(!vfsd_inode_lookup_name(f.inodes, f.tree.fd, "f", &st));
	CHECK(!vfsd_inode_lookup_known(f.inodes, &st));
	inode = look_up(&f, "f");
	if (handles == VFSD_HANDLES_NEVER) {
		CHECK(!vfsd_inode_lookup_name(f.inodes, f.tree.fd, "f", &st));
		CHECK(vfsd_inode_lookup_known(f.inodes, &st) == inode);
		vfsd_inode_put(f.inodes, inode);
	} else {
		CHECK(vfsd_inode_lookup_name(f.inodes, f.tree.fd, "f", &st) == inode);
		vfsd_inode_put(f.inodes, inode);
		CHECK(!vfsd_inode_lookup_known(f.inodes, &st)); /* it is young */
	}
	CHECK_EQ(vfsd_inode_lookups(inode), 2);
	drop(&f, inode);
	destroy(&f);
}

/* What was reserved is used by the lookup, and the rest is given back. */
static void test_reserve(enum vfsd_handle_policy handles)
{
	const uint64_t each = handles == VFSD_HANDLES_NEVER;
	struct vfsd_inode *root, *inode;
	struct fixture f;
	uint64_t nodeid;

	CHECK_EQ(create(&f, handles), 0);
	root = vfsd_inode_get(f.inodes, VFSD_NODEID_ROOT);
	CHECK_EQ(vfsd_inodes_reserve(f.inodes, root, false), 0);
	CHECK_EQ(f.quota.used, 1 + each);
	inode = look_up(&f, "f");
	nodeid = inode->nodeid;
	CHECK_EQ(f.quota.used, 1 + each);
	vfsd_inodes_unreserve(f.inodes);
	CHECK_EQ(f.quota.used, 1 + each);
	drop(&f, inode);
	/* Not used: the slot is free for the next one. */
	CHECK_EQ(vfsd_inodes_reserve(f.inodes, root, true), 0);
	CHECK_EQ(f.quota.used, 2);
	vfsd_inodes_unreserve(f.inodes);
	vfsd_inodes_unreserve(f.inodes);
	CHECK_EQ(f.quota.used, 1);
	inode = look_up(&f, "f");
	CHECK_EQ((uint32_t)inode->nodeid, (uint32_t)nodeid);
	drop(&f, inode);
	/* There is none left: nothing is taken. */
	f.quota.limit = 1;
	CHECK_EQ(vfsd_inodes_reserve(f.inodes, root, true), -ENFILE);
	CHECK_EQ(f.quota.used, 1);
	CHECK_EQ(vfsd_inodes_reserve(f.inodes, root, false), each ? -ENFILE : 0);
	vfsd_inodes_unreserve(f.inodes);
	vfsd_inode_put(f.inodes, root);
	destroy(&f);
}

/* A quota without room for the root, and a descriptor that is none. */
static void test_tables_that_cannot_be_made(void)
{
	struct vfsd_quota quota = {.limit = 0};
	struct vfsd_inodes_config config = {.options.file_handles = VFSD_HANDLES_NEVER,
					    .fd_quota = &quota};
	struct vfsd_inodes *inodes = NULL;
	unsigned int fds = tree_count_fds();
	struct tree tree;

	tree_create(&tree);
	config.proc_self_fd = tree_proc_self_fd();
	CHECK_EQ(vfsd_inodes_create(&config, dup(tree.fd), &inodes), -ENFILE);
	quota.limit = 1;
	CHECK_EQ(vfsd_inodes_create(&config, -1, &inodes), -EBADF);
	CHECK(!inodes);
	CHECK_EQ(quota.used, 0);
	CHECK_EQ(close(config.proc_self_fd), 0);
	tree_destroy(&tree);
	CHECK_EQ(tree_count_fds(), fds);
}

int main(void)
{
	static const enum vfsd_handle_policy policies[] = {VFSD_HANDLES_NEVER,
							   VFSD_HANDLES_MANDATORY};

	for (size_t i = 0; i < 2; i++) {
		struct fixture f;
		int error = create(&f, policies[i]);

		destroy(&f);
		if (error) {
			(void)fprintf(stderr, "left out: file handles\n");
			continue;
		}
		test_by_descriptor(policies[i]);
		test_by_open_file(policies[i]);
		test_by_name(policies[i]);
		test_reserve(policies[i]);
	}
	test_tables_that_cannot_be_made();
	return 0;
}
