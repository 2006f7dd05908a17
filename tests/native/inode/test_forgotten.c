/* SPDX-License-Identifier: BSD-3-Clause */
/* Node ids that are remembered after FORGET: which, for how long, and what they open. */
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#include "base/quota.h"
#include "check.h"
#include "inode/internal.h"
#include "tree.h"

enum { ENTRIES = 1 << 16 }; /* as inode/forgotten.c has it */

struct fixture {
	struct tree tree; /* the share is "share" in it */
	int share, proc_self_fd;
	struct vfsd_quota quota;
	struct vfsd_inodes *inodes;
	unsigned int fds;
};

/* False: no handle can be opened here. */
static bool set_up(struct fixture *f)
{
	struct vfsd_inodes_config config = {.options.file_handles = VFSD_HANDLES_MANDATORY,
					    .fd_quota = &f->quota};
	int error;

	*f = (struct fixture){.quota = {.limit = 1000}};
	f->fds = tree_count_fds();
	tree_create(&f->tree);
	CHECK_EQ(mkdirat(f->tree.fd, "share", 0700), 0);
	f->share = openat(f->tree.fd, "share", O_PATH | O_CLOEXEC);
	CHECK_EQ(mkdirat(f->share, "d", 0700), 0);
	tree_file(&f->tree, "share/d/f", "data");
	tree_file(&f->tree, "share/g", "more");
	config.proc_self_fd = f->proc_self_fd = tree_proc_self_fd();
	error = vfsd_inodes_create(&config, dup(f->share), &f->inodes);
	if (!error) {
		vfsd_inodes_set_remember(f->inodes, true);
		return true;
	}
	CHECK(error == -EPERM || error == -EOPNOTSUPP);
	(void)fprintf(stderr, "left out: opening by handle\n");
	f->inodes = NULL;
	return false;
}

static void tear_down(struct fixture *f)
{
	vfsd_inodes_destroy(f->inodes);
	CHECK_EQ(close(f->share) | close(f->proc_self_fd), 0);
	tree_destroy(&f->tree);
	CHECK_EQ(f->quota.used, 0);
	CHECK_EQ(tree_count_fds(), f->fds);
}

static uint64_t look_up_in(struct fixture *f, const char *path, struct vfsd_inode *parent)
{
	int fd = openat(f->share, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct vfsd_inode *inode;
	uint64_t nodeid;
	struct statx st;

	CHECK(fd >= 0);
	CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st), 0);
	CHECK_EQ(vfsd_inode_lookup_fd(f->inodes, fd, &st, &inode), 0);
	if (parent)
		vfsd_inode_note_parent(inode, parent);
	nodeid = inode->nodeid;
	vfsd_inode_put(f->inodes, inode);
	return nodeid;
}

static uint64_t look_up(struct fixture *f, const char *path)
{
	return look_up_in(f, path, NULL);
}

static void forget(struct fixture *f, uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_forget(f->inodes, nodeid, 1);

	CHECK(inode);
	vfsd_inode_put(f->inodes, inode);
}

/* Does the id open what is at @path now? NULL: it opens nothing. */
static bool opens(struct fixture *f, uint64_t nodeid, const char *path)
{
	int fd = vfsd_inode_open_forgotten(f->inodes, nodeid);
	struct stat here, there;

	if (fd < 0) {
		CHECK_EQ(fd, -ESTALE);
		return path == NULL;
	}
	CHECK_EQ(fstat(fd, &here), 0);
	CHECK_EQ(close(fd), 0);
	return path && fstatat(f->share, path, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       here.st_ino == there.st_ino;
}

static void test_an_id_means_its_inode_again(struct fixture *f)
{
	uint64_t g = look_up(f, "g"), d = look_up(f, "d");

	CHECK(opens(f, g, NULL)); /* the guest holds it: nothing is remembered */
	forget(f, g);
	CHECK(!vfsd_inode_get(f->inodes, g));
	CHECK(opens(f, g, "g"));
	CHECK(opens(f, g, "g"));		      /* it stays */
	CHECK(opens(f, g ^ UINT64_C(1) << 32, NULL)); /* another generation */
	CHECK(opens(f, 0, NULL));
	CHECK_EQ(look_up(f, "g"), g);
	CHECK(opens(f, g, NULL));
	forget(f, g);
	forget(f, d);
	CHECK_EQ(look_up(f, "d"), d);
	forget(f, d);
	/* While it is remembered no other inode gets its number. */
	tree_file(&f->tree, "share/new", "");
	CHECK((uint32_t)look_up(f, "new") != (uint32_t)g);
	vfsd_inodes_clear(f->inodes);
	CHECK(opens(f, g, NULL));
	CHECK(opens(f, d, NULL));
	CHECK(look_up(f, "g") != g);
	vfsd_inodes_clear(f->inodes);
	CHECK_EQ(unlinkat(f->share, "new", 0), 0);
}

struct opener {
	struct fixture *f;
	uint64_t nodeid;
	bool right;
};

static void *open_while_it_ends(void *arg)
{
	struct opener *opener = arg;

	opener->right = opens(opener->f, opener->nodeid, "g");
	return NULL;
}

/* A request still uses what the guest forgets: whoever asks for the id waits, and finds it. */
static void test_an_id_that_is_being_forgotten(struct fixture *f)
{
	struct opener opener = {.f = f, .nodeid = look_up(f, "g")};
	struct vfsd_inode *used = vfsd_inode_get(f->inodes, opener.nodeid);
	pthread_t thread;

	CHECK(used);
	CHECK_EQ(vfsd_inode_lookups(used), 1);
	CHECK(vfsd_inode_lookup_again(used) == used);
	vfsd_inode_put(f->inodes, used);
	CHECK_EQ(vfsd_inode_lookups(used), 2);
	CHECK(!vfsd_inode_forget(f->inodes, opener.nodeid, 1)); /* one LOOKUP is left */
	CHECK_EQ(atomic_load(&f->inodes->n_ending), 0);
	forget(f, opener.nodeid);
	CHECK(!vfsd_inode_lookup_again(used));
	CHECK_EQ(pthread_create(&thread, NULL, open_while_it_ends, &opener), 0);
	while (atomic_load(&f->inodes->n_awaiting) == 0)
		(void)sched_yield();
	vfsd_inode_put(f->inodes, used);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK(opener.right);
	CHECK_EQ(atomic_load(&f->inodes->n_ending), 0);
	vfsd_inodes_clear(f->inodes);
}

static void test_only_if_asked_for(struct fixture *f)
{
	uint64_t g;

	vfsd_inodes_set_remember(f->inodes, false);
	g = look_up(f, "g");
	forget(f, g);
	CHECK(opens(f, g, NULL));
	CHECK(look_up(f, "g") != g);
	vfsd_inodes_clear(f->inodes);
	vfsd_inodes_set_remember(f->inodes, true);
}

/* What is gone, replaced or outside is not opened, whatever its id was. */
static void test_what_is_not_there_any_more(struct fixture *f)
{
	uint64_t nodeid, d;

	tree_file(&f->tree, "share/x", "");
	nodeid = look_up(f, "x");
	forget(f, nodeid);
	CHECK(opens(f, nodeid, "x"));
	CHECK_EQ(unlinkat(f->share, "x", 0), 0);
	CHECK(opens(f, nodeid, NULL));
	tree_file(&f->tree, "share/x", "");
	CHECK(opens(f, nodeid, NULL)); /* another one, perhaps of the same number */
	CHECK(look_up(f, "x") != nodeid);
	vfsd_inodes_clear(f->inodes);

	d = look_up(f, "d");
	nodeid = look_up(f, "x");
	forget(f, d);
	forget(f, nodeid);
	CHECK_EQ(renameat(f->share, "d", f->tree.fd, "d"), 0);
	CHECK_EQ(renameat(f->share, "x", f->tree.fd, "x"), 0);
	CHECK(opens(f, d, NULL));
	CHECK(opens(f, nodeid, NULL));
	CHECK_EQ(renameat(f->tree.fd, "d", f->share, "d"), 0);
	CHECK_EQ(renameat(f->tree.fd, "x", f->share, "x"), 0);
	CHECK(opens(f, d, "d"));
	CHECK(opens(f, nodeid, "x"));
	CHECK_EQ(unlinkat(f->share, "x", 0), 0);
	vfsd_inodes_clear(f->inodes);
}

/* A file whose name the host has forgotten too is looked for where it was found. */
static void test_by_its_directory(struct fixture *f)
{
	for (int known = 0; known < 2; known++) {
		struct vfsd_inode *d;
		uint64_t dir = look_up(f, "d"), nodeid;
		struct vfsd_forgotten_id id;

		d = vfsd_inode_get(f->inodes, dir);
		nodeid = look_up_in(f, "d/f", d);
		vfsd_inode_put(f->inodes, d);
		if (!known)
			forget(f, dir);
		forget(f, nodeid);
		if (known)
			forget(f, dir);
		CHECK(vfsd_forgotten_find(f->inodes, nodeid, &id));
		CHECK_EQ(id.parent, dir);
		CHECK_EQ(id.type, S_IFREG);
		CHECK(opens(f, nodeid, "d/f"));
		/* Looked up again, it still knows where it was found. */
		CHECK_EQ(look_up(f, "d/f"), nodeid);
		forget(f, nodeid);
		CHECK(vfsd_forgotten_find(f->inodes, nodeid, &id));
		CHECK_EQ(id.parent, dir);
		vfsd_inodes_clear(f->inodes);
		CHECK(!vfsd_forgotten_find(f->inodes, nodeid, &id));
	}
}

/* Against the functions alone: the oldest make room, and each index is given back once. */
static void test_the_oldest_make_room(struct fixture *f)
{
	struct vfsd_forgotten_id id;
	uint32_t *indexes = calloc(ENTRIES + 2, sizeof(*indexes));
	uint32_t found_in, again;

	CHECK(indexes);
	for (uint32_t i = 0; i < ENTRIES + 2; i++) {
		struct vfsd_file_handle handle = {.fsid = 1, .type = 1, .bytes = sizeof(i)};
		struct vfsd_inode inode = {.dev = 1, .mnt_id = 2, .type = S_IFREG};

		memcpy(handle.data, &i, sizeof(i));
		CHECK_EQ(vfsd_slot_alloc(f->inodes, &indexes[i]), 0);
		vfsd_slot_reserve(f->inodes, indexes[i]);
		inode.nodeid = UINT64_C(1) << 32 | indexes[i];
		CHECK(vfsd_forgotten_add(f->inodes, &inode, 0, &handle));
	}
	/* The first two have gone. */
	for (uint32_t i = 0; i < 4; i++) {
		struct vfsd_file_handle handle = {.fsid = 1, .type = 1, .bytes = sizeof(i)};

		memcpy(handle.data, &i, sizeof(i));
		CHECK_EQ(vfsd_forgotten_take(f->inodes, &handle, 1, 2, S_IFREG, &found_in) != 0,
			 i >= 2);
		if (i == 2)
			vfsd_slot_unreserve(f->inodes, indexes[i]);
		else if (i == 3) /* it is in use again */
			vfsd_slot_alloc_reserved(f->inodes, indexes[i]);
	}
	vfsd_slot_free(f->inodes, indexes[3]);
	CHECK(vfsd_forgotten_drop_oldest(f->inodes)); /* number 4 */
	CHECK(!vfsd_forgotten_find(f->inodes, UINT64_C(1) << 32 | indexes[4], &id));
	CHECK(vfsd_forgotten_find(f->inodes, UINT64_C(1) << 32 | indexes[5], &id));
	vfsd_forgotten_clear(f->inodes);
	CHECK(!vfsd_forgotten_drop_oldest(f->inodes));
	/* All are free again. */
	CHECK_EQ(vfsd_slot_alloc(f->inodes, &again), 0);
	CHECK_EQ(again, 2);
	vfsd_slot_free(f->inodes, again);
	free(indexes);
}

/* An inode of another type, device or mount is another one, though the handle be the same. */
static void test_the_same_handle_elsewhere(struct fixture *f)
{
	static const struct {
		uint64_t dev, mnt_id, fsid;
		uint32_t type;
		bool is_it, stays;
	} table[] = {
		{1, 2, 9, S_IFREG, true, false},  {7, 2, 9, S_IFREG, false, true},
		{1, 7, 9, S_IFREG, false, true},  {1, 2, 7, S_IFREG, false, true},
		{1, 2, 9, S_IFDIR, false, false}, /* its number was used again */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct vfsd_file_handle handle = {.fsid = 9, .type = 1, .bytes = 4};
		struct vfsd_inode inode = {.dev = 1, .mnt_id = 2, .type = S_IFREG};
		struct vfsd_forgotten_id id;
		uint32_t index, found_in = 99;
		uint64_t got;

		CHECK_EQ(vfsd_slot_alloc(f->inodes, &index), 0);
		vfsd_slot_reserve(f->inodes, index);
		inode.nodeid = UINT64_C(3) << 32 | index;
		CHECK(vfsd_forgotten_add(f->inodes, &inode, 0, &handle));
		handle.fsid = table[i].fsid;
		got = vfsd_forgotten_take(f->inodes, &handle, table[i].dev, table[i].mnt_id,
					  table[i].type, &found_in);
		CHECK_EQ(got, table[i].is_it ? inode.nodeid : 0);
		if (got)
			vfsd_slot_unreserve(f->inodes, index);
		CHECK_EQ(vfsd_forgotten_find(f->inodes, inode.nodeid, &id), table[i].stays);
		vfsd_forgotten_clear(f->inodes);
	}
}

int main(void)
{
	struct fixture f;

	if (set_up(&f)) {
		test_an_id_means_its_inode_again(&f);
		test_an_id_that_is_being_forgotten(&f);
		test_only_if_asked_for(&f);
		test_what_is_not_there_any_more(&f);
		test_by_its_directory(&f);
		test_the_oldest_make_room(&f);
		test_the_same_handle_elsewhere(&f);
	}
	tear_down(&f);
	return 0;
}
