/* SPDX-License-Identifier: BSD-3-Clause */
/* The two indexes: which key finds which inode, and when an inode number is enough. */
#include <sys/sysmacros.h>

#include "check.h"
#include "inode/internal.h"
#include "tree.h"

struct fixture {
	struct tree tree;
	int proc_self_fd;
	struct vfsd_inodes *inodes;
	struct vfsd_inode *inode;
	struct statx st;
};

static void set_up(struct fixture *f)
{
	struct vfsd_inodes_config config = {.options.file_handles = VFSD_HANDLES_NEVER,
					    .need_handles = true};

	tree_create(&f->tree);
	tree_file(&f->tree, "f", "data");
	config.proc_self_fd = f->proc_self_fd = tree_proc_self_fd();
	CHECK_EQ(vfsd_inodes_create(&config, dup(f->tree.fd), &f->inodes), 0);
	CHECK_EQ(statx(f->tree.fd, "f", 0, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &f->st),
		 0);
	CHECK_EQ(vfsd_inode_lookup_fd(f->inodes, openat(f->tree.fd, "f", O_PATH | O_CLOEXEC),
				      &f->st, &f->inode),
		 0);
}

static void tear_down(struct fixture *f)
{
	vfsd_inode_put(f->inodes, f->inode);
	vfsd_inodes_destroy(f->inodes);
	CHECK_EQ(close(f->proc_self_fd), 0);
	tree_destroy(&f->tree);
}

static bool finds(struct fixture *f, struct vfsd_inode_key key)
{
	struct vfsd_inode_slot *slot = vfsd_slot_find(f->inodes, &key, false);

	if (!slot)
		return false;
	CHECK(&slot->inode == f->inode);
	vfsd_slot_put(f->inodes, slot);
	return true;
}

static void test_keys(struct fixture *f)
{
	const struct vfsd_inode_key ident = vfsd_inode_key_of(&f->st);
	struct vfsd_file_handle handle;
	struct vfsd_inode_key key = ident;

	CHECK(finds(f, ident));
	key.ino = ~key.ino; /* a neighbour may be the root */
	CHECK(!finds(f, key));
	key = ident;
	key.dev++;
	CHECK(!finds(f, key));
	key = ident;
	key.mnt_id++;
	CHECK(!finds(f, key));
	if (vfsd_inode_handle(f->inode)->bytes == 0) {
		(void)fprintf(stderr, "left out: file handles\n");
		return;
	}
	vfsd_file_handle_copy(&handle, vfsd_inode_handle(f->inode));
	key = (struct vfsd_inode_key){.which = VFSD_BY_HANDLE, .handle = &handle};
	CHECK(finds(f, key));
	key.match_fsid = true;
	CHECK(finds(f, key));
	handle.fsid++;
	CHECK(!finds(f, key));
	key.match_fsid = false;
	CHECK(finds(f, key));
	key.match_mnt = true;
	key.mnt_id = f->inode->mnt_id + 1;
	CHECK(!finds(f, key));
	key.match_mnt = false;
	handle.data[0] ^= 1;
	CHECK(!finds(f, key));
	handle.data[0] ^= 1;
	handle.bytes--;
	CHECK(!finds(f, key));
}

/* Held by a descriptor, its number is its own; without one its btime has to say so. */
static void test_a_number_that_may_have_been_used_again(struct fixture *f)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(f->inode);
	struct vfsd_inode_key key = vfsd_inode_key_of(&f->st);
	const int fd = slot->fd;
	const uint64_t btime = slot->btime;

	key.ino_is_identity = true;
	key.btime = 0;
	CHECK(finds(f, key));
	slot->fd = -1;
	slot->btime = 0;
	CHECK(!finds(f, key)); /* nobody knows either */
	key.btime = 1000;
	CHECK(!finds(f, key));
	slot->btime = 1000;
	CHECK(finds(f, key));
	key.btime = 1001;
	CHECK(!finds(f, key));
	key.btime = 0;
	CHECK(!finds(f, key));
	key.ino_is_identity = false;
	CHECK(finds(f, key));
	slot->fd = fd;
	slot->btime = btime;
}

static void test_old_enough(void)
{
	static const struct {
		int64_t btime;
		bool asked, old;
	} table[] = {
		{1000, true, false}, {1001, true, false}, {995, true, false}, {994, true, true},
		{1, true, true},     {0, true, false},	  {-5, true, false},  {1, false, false},
	};
	const struct timespec now = {.tv_sec = 1000};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		const struct statx st = {.stx_mask = table[i].asked ? STATX_BTIME : 0,
					 .stx_btime.tv_sec = table[i].btime};

		CHECK_EQ(vfsd_statx_btime_is_old(&st, &now), table[i].old);
	}
}

static void test_the_btime_of_a_key(void)
{
	const struct statx st = {.stx_mask = STATX_BTIME | STATX_MNT_ID,
				 .stx_ino = 7,
				 .stx_dev_major = 8,
				 .stx_dev_minor = 9,
				 .stx_mnt_id = 10,
				 .stx_btime = {.tv_sec = 2, .tv_nsec = 3}};
	const struct statx without = {.stx_ino = 7, .stx_mnt_id = 10, .stx_btime.tv_sec = 2};
	struct vfsd_inode_key key = vfsd_inode_key_of(&st);

	CHECK_EQ(key.btime, 2000000003);
	CHECK(key.ino == 7 && key.mnt_id == 10 && key.dev == makedev(8, 9));
	CHECK(key.match_dev_ino && key.match_mnt && !key.ino_is_identity);
	key = vfsd_inode_key_of(&without);
	CHECK(key.btime == 0 && key.mnt_id == 0);
}

/* A lookup is counted only where it is asked for, and never of what the guest has forgotten. */
static void test_counting(struct fixture *f)
{
	const struct vfsd_inode_key key = vfsd_inode_key_of(&f->st);
	struct vfsd_inode_slot *slot = vfsd_inode_slot(f->inode);

	CHECK(vfsd_slot_find(f->inodes, &key, true) == slot);
	vfsd_slot_put(f->inodes, slot);
	CHECK_EQ(vfsd_inode_lookups(f->inode), 2);
	CHECK(finds(f, key));
	CHECK_EQ(vfsd_inode_lookups(f->inode), 2);
	vfsd_inode_put(f->inodes, vfsd_inode_forget(f->inodes, f->inode->nodeid, 2));
	CHECK(!finds(f, key));
	CHECK(!vfsd_slot_find(f->inodes, &key, true));
}

int main(void)
{
	struct fixture f;

	test_old_enough();
	test_the_btime_of_a_key();
	set_up(&f);
	test_keys(&f);
	test_a_number_that_may_have_been_used_again(&f);
	test_counting(&f);
	tear_down(&f);
	return 0;
}
