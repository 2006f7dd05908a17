/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inodes that their handles hold: which descriptors stay open for a while, and by what else than the
 * handle an inode is known again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "inode/inode.h"
#include "tree.h"
#include "base/util.h"

enum {
	CACHED_MAX = 300, /* more than are closed at once */
	FILES = CACHED_MAX + 44,
	THREADS = 3,
	ROUNDS = 3000,
};

static struct tree tree;
static int refusals; /* how often the host is short of memory yet */
static struct vfsd_inodes *inodes;
static bool has_births;
static _Atomic long skipped_ms; /* time passes when we say so */

/* In the place of libc's. */
int open_by_handle_at(int mount_fd, struct file_handle *handle, int flags)
{
	if (refusals > 0) {
		refusals--;
		errno = ENOMEM;
		return -1;
	}
	return (int)syscall(SYS_open_by_handle_at, mount_fd, handle, flags);
}

/* Likewise. */
int clock_gettime(clockid_t id, struct timespec *ret)
{
	int error = (int)syscall(SYS_clock_gettime, id, ret);

	if (id == CLOCK_MONOTONIC_COARSE)
		ret->tv_sec += skipped_ms / 1000;
	return error;
}

static struct vfsd_inode *look_up(const char *name, struct statx *st)
{
	int fd = openat(tree.fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct vfsd_inode *inode;

	CHECK(fd >= 0);
	CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, st), 0);
	CHECK_EQ(vfsd_inode_lookup_fd(inodes, fd, st, &inode), 0);
	return inode;
}

static void make(const char *name)
{
	int fd = openat(tree.fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	close(fd);
}

static void drop(struct vfsd_inode *inode, uint64_t nlookup, const char *name)
{
	struct vfsd_inode *gone = vfsd_inode_forget(inodes, inode->nodeid, nlookup);

	CHECK(gone == inode);
	vfsd_inode_put(inodes, gone);
	vfsd_inode_put(inodes, inode);
	CHECK_EQ(unlinkat(tree.fd, name, 0), 0);
}

/* Borrow and give back. True: the descriptor stays open. */
static bool use(struct vfsd_inode *inode)
{
	bool transient;
	int fd = vfsd_inode_acquire_fd(inodes, inode, &transient);

	CHECK(fd >= 0);
	CHECK(fcntl(fd, F_GETFD) >= 0);
	vfsd_inode_fd_put(fd, transient);
	return !transient;
}

static void test_stays_open(void)
{
	struct vfsd_inode *inode, *user;
	unsigned int fds;
	struct statx st;
	bool transient;
	int fd;

	make("a");
	inode = look_up("a", &st);
	fds = tree_count_fds();
	CHECK_EQ(vfsd_inodes_expire_fds(inodes), -1);

	/* Those who only look at it from aside leave nothing open... */
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	CHECK(fd >= 0 && transient);
	vfsd_inode_fd_put(fd, transient);
	CHECK_EQ(tree_count_fds(), fds);
	/* ...a guest does... */
	CHECK(use(inode) && use(inode));
	CHECK_EQ(tree_count_fds(), fds + 1);
	CHECK(vfsd_inodes_expire_fds(inodes) > 0 && vfsd_inodes_expire_fds(inodes) <= 1000);
	/* ...until there is no name any more, as far as nobody uses it. */
	user = vfsd_inode_get(inodes, inode->nodeid);
	fd = vfsd_inode_acquire_fd(inodes, user, &transient);
	CHECK(fd >= 0 && !transient);
	vfsd_inode_uncache_fd(inodes, inode);
	CHECK(fcntl(fd, F_GETFD) >= 0);
	/* The next one has none to wait for, and leaves that one alone. */
	CHECK(!use(inode));
	vfsd_inode_put(inodes, inode);
	CHECK_EQ(tree_count_fds(), fds + 1);
	vfsd_inode_put(inodes, user);
	CHECK_EQ(tree_count_fds(), fds);

	inode = vfsd_inode_get(inodes, inode->nodeid);
	CHECK(use(inode));
	vfsd_inode_uncache_fd(inodes, inode);
	CHECK_EQ(tree_count_fds(), fds);
	CHECK(use(inode));
	drop(inode, 1, "a");
	CHECK_EQ(tree_count_fds(), fds);
}

static void test_never_once_unpinned(void)
{
	struct vfsd_inode *inode;
	unsigned int fds;
	struct statx st;

	make("a");
	inode = look_up("a", &st);
	fds = tree_count_fds();
	CHECK(use(inode));
	CHECK(vfsd_inode_is_pinned(inode));
	CHECK(vfsd_inode_unpin(inodes, inode));
	CHECK_EQ(tree_count_fds(), fds);
	CHECK(!use(inode));
	CHECK(!vfsd_inode_is_pinned(inode));
	drop(inode, 1, "a");
}

/* Make, look up and use so many. */
static void use_new_ones(uint64_t nodeids[FILES])
{
	struct vfsd_inode *inode;
	struct statx st;
	char name[16];

	for (int i = 0; i < FILES; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		make(name);
		inode = look_up(name, &st);
		nodeids[i] = inode->nodeid;
		CHECK(use(inode));
		vfsd_inode_put(inodes, inode);
	}
}

static void test_not_too_many(void)
{
	static uint64_t all[FILES];
	struct vfsd_inode *inode;
	unsigned int fds = tree_count_fds();
	char name[16];

	use_new_ones(all);
	CHECK(tree_count_fds() - fds <= CACHED_MAX);
	for (int i = 0; i < FILES; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		inode = vfsd_inode_get(inodes, all[i]);
		/* The youngest are there. */
		CHECK(vfsd_inode_is_pinned(inode) == (i >= FILES - CACHED_MAX));
		drop(inode, 1, name);
	}
	CHECK_EQ(tree_count_fds(), fds);
}

static void test_closed_after_a_while(void)
{
	static uint64_t all[FILES];
	struct vfsd_inode *inode;
	unsigned int fds = tree_count_fds(), calls = 0;
	char name[16];
	int wait_ms;

	while ((wait_ms = vfsd_inodes_expire_fds(inodes)) >= 0) /* of earlier ones */
		(void)usleep((useconds_t)wait_ms * 1000);
	use_new_ones(all);
	CHECK_EQ(tree_count_fds(), fds + CACHED_MAX);
	/* Not all in one go, which somebody's request would have to wait for. */
	while ((wait_ms = vfsd_inodes_expire_fds(inodes)) >= 0) {
		CHECK(wait_ms == 0 || tree_count_fds() == fds + CACHED_MAX);
		calls += wait_ms == 0;
		(void)usleep((useconds_t)wait_ms * 1000);
	}
	CHECK(calls > 0);
	CHECK_EQ(tree_count_fds(), fds);
	for (int i = 0; i < FILES; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		inode = vfsd_inode_get(inodes, all[i]);
		drop(inode, 1, name);
	}
}

/* So that whatever is not held for good is closed. */
static void expire_all(void)
{
	while (vfsd_inodes_expire_fds(inodes) >= 0)
		skipped_ms += 1000;
}

/* After an ESTALE the descriptors of what the guest looks up are cached, at least for a while. */
static void test_held_when_looked_up(void)
{
	struct vfsd_inode *gone, *inode;
	struct statx st;
	bool transient;

	expire_all();
	make("a");
	make("b");
	gone = look_up("a", &st);
	inode = look_up("b", &st);
	CHECK_EQ(unlinkat(tree.fd, "a", 0), 0);
	CHECK(!vfsd_inode_is_pinned(gone) && !vfsd_inode_is_pinned(inode));
	CHECK_EQ(vfsd_inode_acquire_fd(inodes, gone, &transient), -ESTALE);
	CHECK(vfsd_inodes_cache_lookups(inodes));
	vfsd_inode_put(inodes, vfsd_inode_forget(inodes, gone->nodeid, 1));
	vfsd_inode_put(inodes, gone);

	vfsd_inode_put(inodes, look_up("b", &st));
	CHECK(vfsd_inode_is_pinned(inode));
	/* Its time has nearly come when it is looked up again. */
	skipped_ms += 1000;
	CHECK(vfsd_inodes_expire_fds(inodes) > 0);
	vfsd_inode_put(inodes, look_up("b", &st));
	skipped_ms += 1000;
	CHECK(vfsd_inodes_expire_fds(inodes) > 0);
	CHECK(vfsd_inode_is_pinned(inode));
	/* And so it can be used without its name. */
	CHECK_EQ(unlinkat(tree.fd, "b", 0), 0);
	CHECK(use(inode));
	expire_all();
	CHECK(!vfsd_inode_is_pinned(inode));

	/* That was long ago. */
	skipped_ms += 10000;
	CHECK(!vfsd_inodes_cache_lookups(inodes));
	vfsd_inode_put(inodes, vfsd_inode_forget(inodes, inode->nodeid, 3));
	vfsd_inode_put(inodes, inode);
	make("a");
	inode = look_up("a", &st);
	CHECK(!vfsd_inode_is_pinned(inode));
	drop(inode, 1, "a");
}

/* The guest's request opens it for real. */
static void test_opening_what_is_gone(void)
{
	struct vfsd_inode *inode;
	struct statx st;

	skipped_ms += 10000;
	make("a");
	inode = look_up("a", &st);
	CHECK_EQ(unlinkat(tree.fd, "a", 0), 0);
	CHECK(!vfsd_inodes_cache_lookups(inodes));
	CHECK_EQ(vfsd_inode_open(inodes, inode, O_RDONLY), -ESTALE);
	CHECK(vfsd_inodes_cache_lookups(inodes));
	skipped_ms += 10000;
	vfsd_inode_put(inodes, vfsd_inode_forget(inodes, inode->nodeid, 1));
	vfsd_inode_put(inodes, inode);
}

static struct vfsd_inode *known(const struct statx *st)
{
	return vfsd_inode_lookup_known(inodes, st);
}

static void test_known_while_open(void)
{
	struct vfsd_inode *inode;
	struct statx st;

	make("a");
	inode = look_up("a", &st);
	CHECK(!known(&st));
	CHECK(use(inode));
	CHECK(known(&st) == inode);
	vfsd_inode_put(inodes, inode);
	vfsd_inode_uncache_fd(inodes, inode);
	CHECK(!known(&st));
	drop(inode, 2, "a");
}

/* With a btime of @ago seconds ago. */
static struct statx with_btime(const struct statx *st, int64_t ago)
{
	struct statx then = *st;

	then.stx_mask |= STATX_BTIME;
	then.stx_btime.tv_sec = st->stx_mtime.tv_sec - ago;
	then.stx_btime.tv_nsec = 123456789;
	return then;
}

static void test_known_by_btime(void)
{
	struct statx st, young, old, other;
	struct vfsd_inode *inode;

	if (!has_births) {
		(void)fprintf(stderr, "left out: no births here\n");
		return;
	}
	make("a");
	inode = look_up("a", &st);
	young = with_btime(&st, 0);
	old = with_btime(&st, 100);
	other = old;
	other.stx_btime.tv_nsec++;
	CHECK(!known(&st) && !known(&young) && !known(&old));

	/* What is young may be another one tomorrow. */
	CHECK(vfsd_inode_lookup_name(inodes, tree.fd, "a", &young) == inode);
	vfsd_inode_put(inodes, inode);
	CHECK(!known(&young));
	/* What has been old when it was certainly this one is this one. */
	CHECK(vfsd_inode_lookup_name(inodes, tree.fd, "a", &old) == inode);
	vfsd_inode_put(inodes, inode);
	CHECK(known(&old) == inode);
	vfsd_inode_put(inodes, inode);
	CHECK(!known(&other) && !known(&young) && !known(&st));
	other = old;
	other.stx_ino ^= 1ull << 62; /* the next number may be the root's */
	CHECK(!known(&other));
	drop(inode, 4, "a");
	CHECK(!known(&old));

	/* Likewise where it comes in. */
	make("a");
	CHECK_EQ(statx(tree.fd, "a", 0, STATX_BASIC_STATS | STATX_MNT_ID, &st), 0);
	old = with_btime(&st, 100);
	CHECK_EQ(vfsd_inode_lookup_fd(inodes, openat(tree.fd, "a", O_PATH), &old, &inode), 0);
	CHECK(known(&old) == inode);
	vfsd_inode_put(inodes, inode);
	drop(inode, 2, "a");
}

static struct vfsd_inode *shared[2];
static _Atomic bool done;

static void *users(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct vfsd_inode *inode = vfsd_inode_get(inodes, shared[i % 2]->nodeid);

		(void)use(inode);
		vfsd_inode_put(inodes, inode);
	}
	return NULL;
}

static void *closer(void *arg)
{
	(void)arg;
	while (!atomic_load(&done)) {
		vfsd_inode_uncache_fd(inodes, shared[0]);
		(void)vfsd_inodes_expire_fds(inodes);
	}
	return NULL;
}

/* Whoever borrows a descriptor has it open, whatever others do. */
static void test_threads(void)
{
	unsigned int fds = tree_count_fds();
	pthread_t threads[THREADS + 1];
	struct statx st;

	make("a");
	make("b");
	shared[0] = look_up("a", &st);
	shared[1] = look_up("b", &st);
	atomic_store(&done, false);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, users, NULL), 0);
	CHECK_EQ(pthread_create(&threads[THREADS], NULL, closer, NULL), 0);
	CHECK(vfsd_inode_unpin(inodes, shared[1]));
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	atomic_store(&done, true);
	CHECK_EQ(pthread_join(threads[THREADS], NULL), 0);
	CHECK(!vfsd_inode_is_pinned(shared[1]));
	drop(shared[0], 1, "a");
	drop(shared[1], 1, "b");
	CHECK_EQ(tree_count_fds(), fds);
}

/* As a host is that gives the number of a removed file to a new one. */
static void test_short_of_memory_for_a_moment(void)
{
	struct vfsd_inode *inode;
	struct statx st;
	bool transient;
	int fd;

	make("a");
	inode = look_up("a", &st);
	CHECK(vfsd_inode_unpin(inodes, inode));
	refusals = 3;
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	CHECK(fd >= 0 && transient);
	vfsd_inode_fd_put(fd, transient);
	CHECK_EQ(refusals, 0);
	/* And one that is short of it for good. */
	refusals = INT_MAX;
	CHECK_EQ(vfsd_inode_fd_get(inodes, inode, &transient), -ENOMEM);
	refusals = 0;
	drop(inode, 1, "a");
}

int main(void)
{
	int proc_self_fd = tree_proc_self_fd();
	const struct vfsd_inodes_config config = {
		.options.file_handles = VFSD_HANDLES_MANDATORY,
		.need_handles = true,
		.proc_self_fd = proc_self_fd,
		.cached_fds_max = CACHED_MAX,
	};
	unsigned int fds = tree_count_fds();
	struct statfs fs;
	int error;

	tree_create(&tree);
	CHECK_EQ(fstatfs(tree.fd, &fs), 0);
	has_births = fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC ||
		     fs.f_type == XFS_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC;
	error = vfsd_inodes_create(&config, dup(tree.fd), &inodes);
	if (error) {
		CHECK(error == -EPERM || error == -EOPNOTSUPP);
		(void)fprintf(stderr, "left out: no file handles to open here\n");
	} else {
		test_stays_open();
		test_never_once_unpinned();
		test_not_too_many();
		test_closed_after_a_while();
		test_held_when_looked_up();
		test_opening_what_is_gone();
		test_known_while_open();
		test_known_by_btime();
		test_short_of_memory_for_a_moment();
		test_threads();
		vfsd_inodes_destroy(inodes);
	}
	tree_destroy(&tree);
	CHECK_EQ(tree_count_fds(), fds);
	close(proc_self_fd);
	return 0;
}
