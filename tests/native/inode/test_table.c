/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Node ids: what they mean, for how long, and what holds the inode meanwhile. Every case runs once
 * a way of holding; where the host refuses one (no file handles, no privilege), that one is left out.
 */
#include "inode/inode.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"
#include "base/quota.h"
#include "tree.h"
#include "base/util.h"

enum {
	MASK = STATX_BASIC_STATS | STATX_MNT_ID,
	VFSD_INODE_SLOTS_MAX = 32768 * 512, /* as inode/internal.h has it */
};

struct way {
	const char *name;
	enum vfsd_handle_policy handles;
	bool need_handles;
};

static const struct way ways[] = {
	{"fd", VFSD_HANDLES_NEVER, false},
	{"fd, handles for events", VFSD_HANDLES_NEVER, true},
	{"handle", VFSD_HANDLES_MANDATORY, true},
};

struct fixture {
	struct tree tree;
	struct vfsd_quota quota;
	struct vfsd_inodes *inodes;
	int proc_self_fd;
	unsigned int fds;
	bool by_handle;
	bool handles; /* inodes have any */
};

static bool fixture_create(struct fixture *f, const struct way *way)
{
	struct vfsd_inodes_config config = {
		.options.file_handles = way->handles,
		.need_handles = way->need_handles,
		.fd_quota = &f->quota,
	};
	struct vfsd_inode *root;
	int error;

	*f = (struct fixture){.quota = {.limit = 100000}};
	f->fds = tree_count_fds();
	tree_create(&f->tree);
	config.proc_self_fd = f->proc_self_fd = tree_proc_self_fd();
	error = vfsd_inodes_create(&config, dup(f->tree.fd), &f->inodes);
	if (error) {
		CHECK(way->handles == VFSD_HANDLES_MANDATORY);
		CHECK(error == -EPERM || error == -EOPNOTSUPP);
		close(f->proc_self_fd);
		tree_destroy(&f->tree);
		(void)fprintf(stderr, "left out: %s\n", way->name);
		return false;
	}
	root = vfsd_inode_get(f->inodes, VFSD_NODEID_ROOT);
	CHECK(root && S_ISDIR(root->type));
	f->handles = vfsd_inode_handle(root)->bytes > 0;
	f->by_handle = way->handles == VFSD_HANDLES_MANDATORY;
	vfsd_inode_put(f->inodes, root);
	return true;
}

static void fixture_destroy(struct fixture *f)
{
	vfsd_inodes_destroy(f->inodes);
	close(f->proc_self_fd);
	tree_destroy(&f->tree);
	CHECK_EQ(f->quota.used, 0);
	CHECK_EQ(tree_count_fds(), f->fds);
}

static struct statx stat_name(const struct fixture *f, const char *name)
{
	struct statx st;

	CHECK_EQ(statx(f->tree.fd, name, AT_SYMLINK_NOFOLLOW, MASK, &st), 0);
	return st;
}

/* As a LOOKUP of an unknown name does. */
static struct vfsd_inode *look_up(const struct fixture *f, const char *name)
{
	struct statx st = stat_name(f, name);
	int fd = openat(f->tree.fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct vfsd_inode *inode;

	CHECK(fd >= 0);
	CHECK_EQ(vfsd_inode_lookup_fd(f->inodes, fd, &st, &inode), 0);
	CHECK_EQ(inode->ino, st.stx_ino);
	CHECK_EQ(inode->type, st.stx_mode & S_IFMT);
	return inode;
}

static bool forget(const struct fixture *f, uint64_t nodeid, uint64_t n)
{
	struct vfsd_inode *inode = vfsd_inode_forget(f->inodes, nodeid, n);

	vfsd_inode_put(f->inodes, inode);
	return inode != NULL;
}

static bool is_held(const struct fixture *f, uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(f->inodes, nodeid);

	vfsd_inode_put(f->inodes, inode);
	return inode != NULL;
}

static void test_root(const struct fixture *f)
{
	CHECK(!forget(f, VFSD_NODEID_ROOT, 1));
	CHECK(!forget(f, VFSD_NODEID_ROOT, UINT64_MAX));
	CHECK(is_held(f, VFSD_NODEID_ROOT));
	CHECK(!is_held(f, 0));
	CHECK(!is_held(f, 2));
	CHECK(!is_held(f, UINT64_MAX));
	CHECK(!is_held(f, 1ULL << 32 | VFSD_NODEID_ROOT));
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);
}

static void test_lookup_and_forget(const struct fixture *f)
{
	struct vfsd_inode *inode;
	struct vfsd_inode *again;
	struct statx st;
	uint64_t id;

	tree_file(&f->tree, "a", "text");
	inode = look_up(f, "a");
	id = inode->nodeid;
	CHECK_EQ(vfsd_inodes_count(f->inodes), 2);
	CHECK_EQ(linkat(f->tree.fd, "a", f->tree.fd, "b", 0), 0);
	again = look_up(f, "b");
	CHECK(again == inode);
	vfsd_inode_put(f->inodes, again);

	/* The ways without a descriptor: each works for what is held that way. */
	st = stat_name(f, "a");
	again = vfsd_inode_lookup_known(f->inodes, &st);
	CHECK((again != NULL) == !f->by_handle);
	if (!again)
		again = vfsd_inode_lookup_name(f->inodes, f->tree.fd, "a", &st);
	CHECK(again == inode);
	vfsd_inode_put(f->inodes, again);

	/* Three lookups were counted. */
	CHECK(!forget(f, id, 2));
	CHECK(is_held(f, id));
	CHECK(!forget(f, id, 0));
	CHECK(forget(f, id, 5));
	CHECK(!is_held(f, id));
	CHECK(!forget(f, id, 1));
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);

	/* Still referenced, so nobody else got its slot. A new lookup is a new id. */
	again = look_up(f, "a");
	CHECK(again != inode);
	CHECK(again->nodeid != id);
	vfsd_inode_put(f->inodes, inode);
	id = again->nodeid;
	vfsd_inode_put(f->inodes, again);
	CHECK(forget(f, id, 1));
	CHECK_EQ(f->quota.used, 1); /* the root's */
	CHECK_EQ(unlinkat(f->tree.fd, "a", 0), 0);
	CHECK_EQ(unlinkat(f->tree.fd, "b", 0), 0);
}

/* While only its handle holds an inode, its number may come back as somebody else's. */
static void test_number_used_again(const struct fixture *f)
{
	struct vfsd_inode *gone;
	struct vfsd_inode *inode;
	struct statx st;
	bool transient;

	tree_file(&f->tree, "a", "");
	gone = look_up(f, "a");
	CHECK_EQ(unlinkat(f->tree.fd, "a", 0), 0);
	for (int i = 0; i < 64; i++) {
		tree_file(&f->tree, "a", "");
		st = stat_name(f, "a");
		inode = vfsd_inode_lookup_known(f->inodes, &st);
		CHECK(!inode);
		inode = vfsd_inode_lookup_name(f->inodes, f->tree.fd, "a", &st);
		CHECK(!inode);
		inode = look_up(f, "a");
		CHECK(inode != gone);
		if (!f->by_handle)
			CHECK(inode->ino != gone->ino);
		CHECK(forget(f, inode->nodeid, 1));
		vfsd_inode_put(f->inodes, inode);
		CHECK_EQ(unlinkat(f->tree.fd, "a", 0), 0);
	}
	if (f->by_handle)
		CHECK_EQ(vfsd_inode_fd_get(f->inodes, gone, &transient), -ESTALE);
	CHECK(forget(f, gone->nodeid, 1));
	vfsd_inode_put(f->inodes, gone);
}

static void test_find(const struct fixture *f)
{
	struct vfsd_file_handle handle;
	struct vfsd_inode *inode;
	struct vfsd_inode *found;
	bool exists;

	CHECK_EQ(mkdirat(f->tree.fd, "d", 0755), 0);
	CHECK(!vfsd_inode_find_name(f->inodes, f->tree.fd, "d", &exists) && exists);
	inode = look_up(f, "d");
	found = vfsd_inode_find_name(f->inodes, f->tree.fd, "d", &exists);
	CHECK(found == inode && exists);
	vfsd_inode_put(f->inodes, found);
	CHECK(!vfsd_inode_find_name(f->inodes, f->tree.fd, "e", &exists) && !exists);

	CHECK_EQ(vfsd_inode_handle(inode)->bytes > 0, f->handles);
	vfsd_file_handle_copy(&handle, vfsd_inode_handle(inode));
	CHECK(vfsd_file_handle_equal(&handle, vfsd_inode_handle(inode)));
	found = vfsd_inode_find_handle(f->inodes, &handle);
	CHECK(found == (f->handles ? inode : NULL));
	vfsd_inode_put(f->inodes, found);
	handle.fsid++;
	CHECK(!vfsd_inode_find_handle(f->inodes, &handle));
	handle.fsid--;
	handle.bytes = UINT32_MAX;
	CHECK(!vfsd_inode_find_handle(f->inodes, &handle));

	/* None of this counted a lookup, and the forgotten are not found. */
	vfsd_file_handle_copy(&handle, vfsd_inode_handle(inode));
	CHECK(forget(f, inode->nodeid, 1));
	CHECK(!vfsd_inode_find_handle(f->inodes, &handle));
	CHECK(!vfsd_inode_find_name(f->inodes, f->tree.fd, "d", &exists) && exists);
	vfsd_inode_put(f->inodes, inode);
	CHECK_EQ(unlinkat(f->tree.fd, "d", AT_REMOVEDIR), 0);
}

static void test_types(const struct fixture *f)
{
	static const char *const names[] = {"file", "dir", "link", "fifo"};
	struct vfsd_inode *inode;
	struct statx st;
	bool transient;
	int fd;

	tree_file(&f->tree, "file", "text");
	CHECK_EQ(mkdirat(f->tree.fd, "dir", 0755), 0);
	CHECK_EQ(symlinkat("/etc/passwd", f->tree.fd, "link"), 0);
	CHECK_EQ(mkfifoat(f->tree.fd, "fifo", 0644), 0);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(names); i++) {
		inode = look_up(f, names[i]);
		fd = vfsd_inode_fd_get(f->inodes, inode, &transient);
		CHECK(fd >= 0);
		CHECK_EQ(transient, f->by_handle);
		CHECK_EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
		CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, MASK, &st), 0);
		CHECK_EQ(st.stx_ino, inode->ino);
		vfsd_inode_fd_put(fd, transient);

		/* Neither a symlink's target nor a fifo's other end. */
		fd = vfsd_inode_open(f->inodes, inode, O_RDONLY | O_NONBLOCK);
		CHECK(i < 2 ? fd >= 0 : fd == -EBADF);
		if (fd >= 0) {
			CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
			CHECK_EQ(close(fd), 0);
		}
		CHECK(forget(f, inode->nodeid, 1));
		vfsd_inode_put(f->inodes, inode);
		CHECK_EQ(unlinkat(f->tree.fd, names[i], i == 1 ? AT_REMOVEDIR : 0), 0);
	}
}

static void test_unpin(const struct fixture *f, bool can_open_handles)
{
	struct vfsd_inode *root = vfsd_inode_get(f->inodes, VFSD_NODEID_ROOT);
	struct vfsd_inode *inode;
	unsigned int fds;
	bool transient;
	int fd;

	CHECK(!vfsd_inode_unpin(f->inodes, root));
	vfsd_inode_put(f->inodes, root);
	CHECK_EQ(mkdirat(f->tree.fd, "d", 0755), 0);
	inode = look_up(f, "d");
	fds = tree_count_fds();
	if (!can_open_handles || !f->handles) {
		CHECK(!vfsd_inode_unpin(f->inodes, inode));
	} else if (f->by_handle) {
		CHECK(vfsd_inode_unpin(f->inodes, inode));
		CHECK_EQ(tree_count_fds(), fds);
	} else {
		/* Not while somebody borrows it... */
		struct vfsd_inode *user = vfsd_inode_get(f->inodes, inode->nodeid);

		fd = vfsd_inode_fd_get(f->inodes, user, &transient);
		CHECK(fd >= 0 && !transient);
		CHECK(vfsd_inode_unpin(f->inodes, inode));
		CHECK(vfsd_inode_unpin(f->inodes, inode));
		CHECK(fcntl(fd, F_GETFD) >= 0);
		vfsd_inode_fd_put(fd, transient);
		vfsd_inode_put(f->inodes, inode);
		CHECK_EQ(tree_count_fds(), fds);
		vfsd_inode_put(f->inodes, user);
		CHECK_EQ(tree_count_fds(), fds - 1);

		/* ...and at once when nobody does. */
		inode = look_up(f, "d");
		CHECK_EQ(tree_count_fds(), fds - 1);
		CHECK(forget(f, inode->nodeid, 2));
		vfsd_inode_put(f->inodes, inode);
		inode = look_up(f, "d");
		CHECK_EQ(tree_count_fds(), fds);
		CHECK(vfsd_inode_unpin(f->inodes, inode));
		CHECK_EQ(tree_count_fds(), fds - 1);
		fd = vfsd_inode_fd_get(f->inodes, inode, &transient);
		CHECK(fd >= 0 && transient);
		vfsd_inode_fd_put(fd, transient);

		/* An inode that is forgotten with its descriptor still waiting to be closed. */
		vfsd_inode_put(f->inodes, inode);
		CHECK(forget(f, inode->nodeid, 1));
		inode = look_up(f, "d");
		user = vfsd_inode_get(f->inodes, inode->nodeid);
		CHECK(vfsd_inode_unpin(f->inodes, inode));
		CHECK(forget(f, inode->nodeid, 1));
		vfsd_inode_put(f->inodes, inode);
		CHECK_EQ(tree_count_fds(), fds);
		vfsd_inode_put(f->inodes, user);
		CHECK_EQ(tree_count_fds(), fds - 1);
		CHECK_EQ(unlinkat(f->tree.fd, "d", AT_REMOVEDIR), 0);
		return;
	}
	CHECK(forget(f, inode->nodeid, 1));
	vfsd_inode_put(f->inodes, inode);
	CHECK_EQ(unlinkat(f->tree.fd, "d", AT_REMOVEDIR), 0);
}

/* What unpin is for: the host tells that a watched directory is gone, though the guest holds it. */
static void test_delete_self(const struct fixture *f, bool can_open_handles)
{
	struct inotify_event event;
	struct vfsd_inode *inode;
	char path[64];
	bool transient;
	int watch;
	int fd;

	if (!can_open_handles || !f->handles)
		return;
	CHECK_EQ(mkdirat(f->tree.fd, "d", 0755), 0);
	inode = look_up(f, "d");
	CHECK(vfsd_inode_unpin(f->inodes, inode));
	watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	fd = vfsd_inode_fd_get(f->inodes, inode, &transient);
	CHECK(watch >= 0 && fd >= 0 && transient);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(inotify_add_watch(watch, path, IN_DELETE_SELF) >= 0);
	vfsd_inode_fd_put(fd, transient);
	CHECK_EQ(unlinkat(f->tree.fd, "d", AT_REMOVEDIR), 0);
	CHECK_EQ(read(watch, &event, sizeof(event)), sizeof(event));
	CHECK_EQ(event.mask & IN_DELETE_SELF, IN_DELETE_SELF);
	CHECK_EQ(vfsd_inode_fd_get(f->inodes, inode, &transient), -ESTALE);
	CHECK_EQ(close(watch), 0);
	CHECK(forget(f, inode->nodeid, 1));
	vfsd_inode_put(f->inodes, inode);
}

static void test_quota(struct fixture *f)
{
	struct vfsd_inode *inode;
	struct statx st;
	int fd;

	if (f->by_handle)
		return;
	f->quota.limit = 2;
	tree_file(&f->tree, "a", "");
	tree_file(&f->tree, "b", "");
	inode = look_up(f, "a");
	st = stat_name(f, "b");
	fd = openat(f->tree.fd, "b", O_PATH | O_NOFOLLOW);
	CHECK_EQ(vfsd_inode_lookup_fd(f->inodes, fd, &st, &inode), -ENFILE);
	CHECK_EQ(vfsd_inodes_count(f->inodes), 2);
	vfsd_inode_put(f->inodes, inode);
	CHECK(forget(f, inode->nodeid, 1));
	inode = look_up(f, "b");
	vfsd_inode_put(f->inodes, inode);
	vfsd_inodes_clear(f->inodes);
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);
	f->quota.limit = 100000;
}

static void name_of(int i, char name[16])
{
	(void)snprintf(name, 16, "many%d", i);
}

/* Many chunks and buckets, given back in another order; then by clear(). */
static void test_many(const struct fixture *f)
{
	enum { MANY = 3000 };
	static uint64_t ids[MANY];
	char name[16];

	for (int i = 0; i < MANY; i++) {
		struct vfsd_inode *inode;

		name_of(i, name);
		tree_file(&f->tree, name, "");
		inode = look_up(f, name);
		ids[i] = inode->nodeid;
		vfsd_inode_put(f->inodes, inode);
	}
	CHECK_EQ(vfsd_inodes_count(f->inodes), MANY + 1);
	for (int i = 0; i < MANY; i++)
		CHECK(is_held(f, ids[i]));
	for (int i = 0; i < MANY; i++)
		CHECK(forget(f, ids[(i * 7 + 5) % MANY], 1));
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);
	for (int i = 0; i < MANY; i++)
		CHECK(!is_held(f, ids[i]));
	for (int i = 0; i < MANY; i++) {
		name_of(i, name);
		vfsd_inode_put(f->inodes, look_up(f, name));
		CHECK_EQ(unlinkat(f->tree.fd, name, 0), 0);
	}
	for (int i = 0; i < MANY; i++)
		CHECK(!is_held(f, ids[i]));
	vfsd_inodes_clear(f->inodes);
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);
	CHECK_EQ(f->quota.used, 1);
}

/* Another mount below the share: other inodes, and its descriptor is closed when they are gone. */
static void mount_inside(const struct fixture *f)
{
	struct vfsd_inode *point;
	struct vfsd_inode *inside;

	CHECK_EQ(mkdirat(f->tree.fd, "m", 0755), 0);
	point = look_up(f, "m");
	CHECK_EQ(chdir(f->tree.path), 0);
	CHECK_EQ(mount("vfsd", "m", "tmpfs", 0, NULL), 0);
	tree_file(&f->tree, "m/x", "");
	inside = look_up(f, "m");
	CHECK(inside != point);
	CHECK(inside->mnt_id != point->mnt_id);
	CHECK(inside->dev != point->dev);
	vfsd_inode_put(f->inodes, look_up(f, "m/x"));
	CHECK_EQ(umount2("m", 0), -1);
	CHECK_EQ(errno, EBUSY);
	vfsd_inode_put(f->inodes, point);
	vfsd_inode_put(f->inodes, inside);
	vfsd_inodes_clear(f->inodes);
	CHECK_EQ(umount2("m", 0), 0);
	CHECK_EQ(unlinkat(f->tree.fd, "m", AT_REMOVEDIR), 0);
}

/* In a child with mounts of its own, so that nothing stays behind. */
static void test_mounts(const struct way *way)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		struct fixture f;

		if (!tree_own_mounts())
			_exit(0);
		if (!fixture_create(&f, way))
			_exit(0);
		mount_inside(&f);
		fixture_destroy(&f);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
}

/* Threads: look up, use, unpin and forget the same few names all the time. */

enum { THREADS = 4, NAMES = 6, ROUNDS = 3000 };

static struct fixture *shared;

static void use(const struct fixture *f, struct vfsd_inode *inode)
{
	/* NULL if somebody forgets faster than we look. */
	struct vfsd_inode *again = vfsd_inode_get(f->inodes, inode->nodeid);
	struct statx st;
	bool transient;
	int fd = vfsd_inode_fd_get(f->inodes, inode, &transient);

	CHECK(!again || again == inode);
	vfsd_inode_put(f->inodes, again);
	CHECK(fd >= 0);
	CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, MASK, &st), 0);
	CHECK_EQ(st.stx_ino, inode->ino);
	vfsd_inode_fd_put(fd, transient);
}

static void *churn(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	const struct fixture *f = shared;

	for (int i = 0; i < ROUNDS; i++) {
		int r = rand_r(&seed);
		struct vfsd_inode *inode = NULL;
		struct vfsd_file_handle handle;
		struct statx st;
		char name[16];
		uint64_t nodeid;
		bool exists;
		int fd;

		name_of(r % NAMES, name);
		st = stat_name(f, name);
		inode = vfsd_inode_lookup_known(f->inodes, &st);
		if (!inode)
			inode = vfsd_inode_lookup_name(f->inodes, f->tree.fd, name, &st);
		if (!inode)
			inode = look_up(f, name);
		use(f, inode);
		if (r / NAMES % 4 == 0)
			(void)vfsd_inode_unpin(f->inodes, inode);
		if (r / NAMES % 8 == 1)
			CHECK_EQ(vfsd_inode_hold(f->inodes, inode, r / NAMES % 16 == 1), 0);
		vfsd_file_handle_copy(&handle, vfsd_inode_handle(inode));
		vfsd_inode_put(f->inodes, vfsd_inode_find_handle(f->inodes, &handle));
		vfsd_inode_put(f->inodes,
			       vfsd_inode_find_name(f->inodes, f->tree.fd, name, &exists));
		CHECK(exists);
		/* Each thread forgets what it looked up; now and then, much too much. */
		(void)forget(f, inode->nodeid, r / NAMES % 64 == 1 ? 100 : 1);
		nodeid = inode->nodeid;
		vfsd_inode_put(f->inodes, inode);
		fd = vfsd_inode_open_forgotten(f->inodes, nodeid);
		if (fd >= 0)
			close(fd);
		if (i % 1000 == 999)
			vfsd_inodes_clear(f->inodes);
	}
	return NULL;
}

static void test_threads(struct fixture *f)
{
	pthread_t threads[THREADS];
	char name[16];

	shared = f;
	vfsd_inodes_set_remember(f->inodes, true);
	for (int i = 0; i < NAMES; i++) {
		name_of(i, name);
		tree_file(&f->tree, name, "");
	}
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, (void *)(uintptr_t)(i + 1)), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	vfsd_inodes_clear(f->inodes);
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);
	CHECK_EQ(f->quota.used, 1);
}

struct visited {
	uint64_t nodeid, nlookup;
};

static int visit(void *ctx, struct vfsd_inode *inode, uint64_t nlookup)
{
	struct visited *visited = ctx;

	if (inode->nodeid == VFSD_NODEID_ROOT)
		return 0;
	CHECK_EQ(visited->nodeid, 0);
	*visited = (struct visited){inode->nodeid, nlookup};
	return 0;
}

static int stop_at_once(void *ctx, struct vfsd_inode *inode, uint64_t nlookup)
{
	(void)ctx;
	(void)inode;
	(void)nlookup;
	return -7;
}

static int restore(const struct fixture *f, uint64_t nodeid, uint64_t nlookup, const char *name)
{
	struct statx st = stat_name(f, name);
	int fd = openat(f->tree.fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return vfsd_inode_restore(f->inodes, nodeid, nlookup, fd, &st);
}

/* Ids of another table. */
static void test_restore(const struct fixture *f)
{
	uint64_t id = UINT64_C(77) << 32 | 5000;
	uint64_t high = UINT64_C(78) << 32 | 1000000;
	struct visited visited = {0};
	struct vfsd_inode *inode;
	bool transient;

	tree_file(&f->tree, "restored", "x");
	tree_file(&f->tree, "other", "x");
	CHECK_EQ(restore(f, 0, 1, "restored"), -EINVAL);
	CHECK_EQ(restore(f, VFSD_NODEID_ROOT, 1, "restored"), -EINVAL);
	CHECK_EQ(restore(f, UINT32_MAX, 1, "restored"), -EINVAL);
	CHECK_EQ(restore(f, VFSD_INODE_SLOTS_MAX, 1, "restored"), -EINVAL);
	CHECK_EQ(restore(f, id, 0, "restored"), -EINVAL);
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);

	CHECK_EQ(restore(f, id, 3, "restored"), 0);
	CHECK_EQ(vfsd_inodes_each(f->inodes, visit, &visited), 0);
	CHECK_EQ(visited.nodeid, id);
	CHECK_EQ(visited.nlookup, 3);
	CHECK_EQ(vfsd_inodes_each(f->inodes, stop_at_once, NULL), -7);
	CHECK_EQ(restore(f, id, 1, "other"), -EINVAL);
	CHECK_EQ(restore(f, id + 1, 1, "restored"), -EEXIST);
	CHECK_EQ(restore(f, high, 1, "other"), 0);
	CHECK(is_held(f, high) && forget(f, high, 1));

	vfsd_inodes_set_generation(f->inodes, 100);
	inode = look_up(f, "restored");
	CHECK_EQ(inode->nodeid, id);
	vfsd_inode_put(f->inodes, inode);
	inode = look_up(f, "other");
	CHECK_EQ(inode->nodeid >> 32, 100);
	CHECK(forget(f, inode->nodeid, 1));
	vfsd_inode_put(f->inodes, inode);
	CHECK(!forget(f, id, 3));
	CHECK(forget(f, id, 1));

	/* One that nobody finds takes up an id, and nothing else. */
	CHECK_EQ(vfsd_inode_restore_lost(f->inodes, id, 2, S_IFREG), 0);
	CHECK_EQ(vfsd_inode_restore_lost(f->inodes, id, 2, S_IFREG), -EINVAL);
	inode = vfsd_inode_get(f->inodes, id);
	CHECK(inode && inode->type == S_IFREG);
	CHECK_EQ(vfsd_inode_fd_get(f->inodes, inode, &transient), -ESTALE);
	CHECK_EQ(vfsd_inode_open(f->inodes, inode, O_RDONLY), -ESTALE);
	CHECK(vfsd_inode_unpin(f->inodes, inode));
	vfsd_inode_put(f->inodes, inode);
	CHECK_EQ(restore(f, id + 1, 1, "restored"), 0);
	CHECK(forget(f, id + 1, 1));
	CHECK(forget(f, id, 2));
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);
	CHECK_EQ(f->quota.used, 1);
}

/* An id that an event alone has given is void when its directory has left. */
static void test_by_event(const struct fixture *f)
{
	struct vfsd_inode *inode, *lost;
	struct tree outside;
	uint64_t id;

	tree_create(&outside);
	CHECK_EQ(mkdirat(f->tree.fd, "d", 0700), 0);
	inode = look_up(f, "d");
	id = inode->nodeid;
	CHECK(!vfsd_inode_is_by_event(inode));
	vfsd_inode_note_event(inode);
	CHECK(vfsd_inode_is_by_event(inode));
	CHECK_EQ(vfsd_inode_check_place(f->inodes, inode, &lost), 0);
	CHECK(!vfsd_inode_is_mounted(f->inodes, inode));

	CHECK_EQ(renameat(f->tree.fd, "d", outside.fd, "d"), 0);
	CHECK_EQ(renameat(outside.fd, "d", f->tree.fd, "e"), 0);
	vfsd_inode_put(f->inodes, look_up(f, "e"));
	CHECK_EQ(renameat(f->tree.fd, "e", outside.fd, "e"), 0);
	/* The guest holds it itself. */
	CHECK_EQ(vfsd_inode_check_place(f->inodes, inode, &lost), 0);
	CHECK(!forget(f, id, 1));
	CHECK_EQ(vfsd_inode_check_place(f->inodes, inode, &lost), -ESTALE);
	CHECK(lost == inode);
	CHECK(!is_held(f, id));
	vfsd_inode_put(f->inodes, lost);
	CHECK_EQ(vfsd_inode_check_place(f->inodes, inode, &lost), -ESTALE);
	CHECK(!lost);
	vfsd_inode_put(f->inodes, inode);
	CHECK_EQ(vfsd_inodes_count(f->inodes), 1);

	inode = vfsd_inode_get(f->inodes, VFSD_NODEID_ROOT);
	CHECK(vfsd_inode_is_mounted(f->inodes, inode));
	vfsd_inode_put(f->inodes, inode);
	CHECK_EQ(unlinkat(outside.fd, "e", AT_REMOVEDIR), 0);
	tree_destroy(&outside);
}

static bool can_open_handles(void)
{
	struct fixture f;
	bool can = fixture_create(&f, &ways[VFSD_ARRAY_SIZE(ways) - 1]);

	if (can)
		fixture_destroy(&f);
	return can;
}

int main(void)
{
	bool privileged = can_open_handles();
	struct rlimit files;

	if (!tree_tells_mounts())
		return 77; /* meson's word for left out */
	/* Some cases hold thousands of descriptors. */
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(ways); i++) {
		struct fixture f;

		if (!fixture_create(&f, &ways[i]))
			continue;
		test_root(&f);
		test_lookup_and_forget(&f);
		test_number_used_again(&f);
		test_find(&f);
		test_types(&f);
		test_by_event(&f);
		test_unpin(&f, privileged);
		test_delete_self(&f, privileged);
		test_quota(&f);
		test_many(&f);
		test_restore(&f);
		test_threads(&f);
		fixture_destroy(&f);
		test_mounts(&ways[i]);
	}
	vfsd_inodes_destroy(NULL);
	return 0;
}
