/* SPDX-License-Identifier: BSD-3-Clause */
/* The node-id table of a migration: ids as the other end had them, lost inodes, and ids that are none. */
#include <sys/sysmacros.h>

#include "base/quota.h"
#include "check.h"
#include "inode/internal.h"
#include "tree.h"

static struct tree tree;
static struct vfsd_quota quota;
static struct vfsd_inodes *inodes;
static int proc_self_fd;

#define ID(generation, index) ((uint64_t)(generation) << 32 | (index))

static void set_up(void)
{
	struct vfsd_inodes_config config = {.options.file_handles = VFSD_HANDLES_NEVER,
					    .fd_quota = &quota};

	quota = (struct vfsd_quota){.limit = 4};
	tree_create(&tree);
	CHECK_EQ(mkdirat(tree.fd, "d", 0700), 0);
	tree_file(&tree, "f", "data");
	config.proc_self_fd = proc_self_fd = tree_proc_self_fd();
	CHECK_EQ(vfsd_inodes_create(&config, dup(tree.fd), &inodes), 0);
}

static void tear_down(void)
{
	vfsd_inodes_destroy(inodes);
	CHECK_EQ(close(proc_self_fd), 0);
	tree_destroy(&tree);
	CHECK_EQ(quota.used, 0);
}

static int restore(uint64_t nodeid, uint64_t nlookup, const char *name)
{
	int fd = openat(tree.fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statx st;

	CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st), 0);
	return vfsd_inode_restore(inodes, nodeid, nlookup, fd, &st);
}

static void test_ids(void)
{
	static const struct {
		uint64_t nodeid, nlookup;
		int error;
	} table[] = {
		{0, 1, -EINVAL},
		{VFSD_NODEID_ROOT, 1, -EINVAL},
		{ID(1, 0), 1, -EINVAL},
		{ID(1, VFSD_NODEID_ROOT), 1, -EINVAL},
		{ID(0, 9), 1, -EINVAL},
		{ID(1, 9), 0, -EINVAL},
		{ID(1, UINT32_MAX), 1, -EINVAL},
		{ID(1, 600), 7, 0}, /* in a chunk that is not mapped yet */
		{ID(UINT32_MAX, 601), UINT64_MAX, 0},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		for (int lost = 0; lost < 2; lost++) {
			struct vfsd_inode *inode;

			set_up();
			CHECK_EQ(lost ? vfsd_inode_restore_lost(inodes, table[i].nodeid,
								table[i].nlookup, S_IFREG) :
					restore(table[i].nodeid, table[i].nlookup, "f"),
				 table[i].error);
			CHECK_EQ(vfsd_inodes_count(inodes), table[i].error ? 1 : 2);
			CHECK_EQ(quota.used, table[i].error || lost ? 1 : 2);
			inode = table[i].error ? NULL : vfsd_inode_get(inodes, table[i].nodeid);
			if (inode)
				CHECK_EQ(vfsd_inode_lookups(inode), table[i].nlookup);
			CHECK_EQ(inode != NULL, table[i].error == 0);
			vfsd_inode_put(inodes, inode);
			tear_down();
		}
}

/* Neither two inodes of one id, nor two ids of one inode; what is there stays as it is. */
static void test_twice(void)
{
	struct vfsd_inode *inode;

	set_up();
	CHECK_EQ(restore(ID(1, 5), 3, "f"), 0);
	CHECK_EQ(restore(ID(1, 5), 1, "d"), -EINVAL);
	CHECK_EQ(restore(ID(2, 5), 1, "d"), -EINVAL);
	CHECK_EQ(restore(ID(1, 6), 1, "f"), -EEXIST);
	CHECK_EQ(vfsd_inode_restore_lost(inodes, ID(1, 5), 1, S_IFREG), -EINVAL);
	inode = vfsd_inode_get(inodes, ID(1, 5));
	CHECK_EQ(vfsd_inode_lookups(inode), 3);
	vfsd_inode_put(inodes, inode);
	CHECK_EQ(vfsd_inodes_count(inodes), 2);
	tear_down();
}

static void test_quota(void)
{
	set_up();
	quota.limit = 2;
	CHECK_EQ(restore(ID(1, 5), 1, "f"), 0);
	CHECK_EQ(restore(ID(1, 6), 1, "d"), -ENFILE);
	CHECK_EQ(vfsd_inodes_count(inodes), 2);
	CHECK_EQ(vfsd_inode_restore_lost(inodes, ID(1, 6), 1, S_IFDIR), 0); /* costs none */
	tear_down();
}

/* A lost inode is there, and nothing opens it. */
static void test_lost(void)
{
	struct vfsd_inode *inode;
	bool transient;

	set_up();
	CHECK_EQ(vfsd_inode_restore_lost(inodes, ID(1, 5), 2, S_IFDIR), 0);
	inode = vfsd_inode_get(inodes, ID(1, 5));
	CHECK_EQ(inode->type, S_IFDIR);
	CHECK_EQ(vfsd_inode_fd_get(inodes, inode, &transient), -ESTALE);
	CHECK_EQ(vfsd_inode_open(inodes, inode, O_RDONLY), -ESTALE);
	CHECK_EQ(vfsd_inode_hold(inodes, inode, false), 0);
	CHECK_EQ(quota.used, 1);
	vfsd_inode_put(inodes, vfsd_inode_forget(inodes, ID(1, 5), 2));
	vfsd_inode_put(inodes, inode);
	CHECK_EQ(vfsd_inodes_count(inodes), 1);
	tear_down();
}

static int add_up(void *ctx, struct vfsd_inode *inode, uint64_t nlookup)
{
	uint64_t *sum = ctx;

	(void)inode;
	*sum += nlookup;
	return *sum >= 100 ? 77 : 0;
}

static void test_each(void)
{
	uint64_t sum = 0;

	set_up();
	CHECK_EQ(restore(ID(1, 5), 3, "f"), 0);
	CHECK_EQ(restore(ID(1, 2000), 10, "d"), 0); /* chunks between them are empty */
	CHECK_EQ(vfsd_inodes_each(inodes, add_up, &sum), 0);
	CHECK_EQ(sum, 1 + 3 + 10);
	sum = 97; /* the answer of the second ends it */
	CHECK_EQ(vfsd_inodes_each(inodes, add_up, &sum), 77);
	CHECK_EQ(sum, 97 + 1 + 3);
	tear_down();
}

static void note(void *ctx, const struct vfsd_inode *inode)
{
	*(uint64_t *)ctx += inode->nodeid;
}

static void test_by_number(void)
{
	struct stat st;
	uint64_t sum = 0;

	set_up();
	CHECK_EQ(restore(ID(1, 5), 3, "f"), 0);
	CHECK_EQ(fstatat(tree.fd, "f", &st, 0), 0);
	vfsd_inodes_find_ident(inodes, st.st_dev, st.st_ino, note, &sum);
	CHECK(sum == ID(1, 5));
	vfsd_inodes_find_ident(inodes, st.st_dev, ~st.st_ino, note, &sum);
	vfsd_inodes_find_ident(inodes, st.st_dev + 1, st.st_ino, note, &sum);
	CHECK(sum == ID(1, 5));
	tear_down();
}

/* The next id comes after those that the guest has. */
static void test_generation(void)
{
	struct vfsd_inode *inode;
	struct statx st;
	int fd;

	set_up();
	CHECK_EQ(restore(ID(40, 5), 1, "f"), 0);
	vfsd_inodes_set_generation(inodes, UINT32_MAX);
	CHECK_EQ(vfsd_inodes_generation(inodes), UINT32_MAX);
	for (int i = 0; i < 2; i++) {
		fd = openat(tree.fd, "d", O_PATH | O_CLOEXEC);
		CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st), 0);
		CHECK_EQ(vfsd_inode_lookup_fd(inodes, fd, &st, &inode), 0);
		/* It wraps around, without the root's. */
		CHECK_EQ(inode->nodeid >> 32, i == 0 ? UINT32_MAX : 1);
		vfsd_inode_put(inodes, vfsd_inode_forget(inodes, inode->nodeid, 1));
		vfsd_inode_put(inodes, inode);
	}
	tear_down();
}

int main(void)
{
	test_ids();
	test_twice();
	test_quota();
	test_lost();
	test_each();
	test_by_number();
	test_generation();
	return 0;
}
