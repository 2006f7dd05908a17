/* SPDX-License-Identifier: BSD-3-Clause */
/* Paths below the share: what they open, and which inode has which. */
#include "migrate/path.h"

#include "base/statx.h"
#include "saved_session.h"

struct fixture {
	struct share share;
	struct session session;
	struct vfsd_state_root root;
};

static void set_up(struct fixture *f)
{
	share_create(&f->share);
	session_create(&f->session, f->share.fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_state_root_find(f->session.config.inodes, f->session.config.proc_self_fd,
				      &f->root),
		 0);
}

static void tear_down(struct fixture *f)
{
	session_destroy(&f->session);
	share_destroy(&f->share);
}

static int open_at(const struct fixture *f, const char *path)
{
	int fd = openat(f->share.fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static void test_open(const struct fixture *f)
{
	static const struct {
		const char *path;
		int error;
	} table[] = {
		{"", 0},
		{"d", 0},
		{"d/f", 0},
		{"l", 0}, /* the link itself */
		{"l/f", -ELOOP},
		{"..", -EXDEV},
		{"../outside/f", -EXDEV},
		{"d/../../outside", -EXDEV},
		{"/etc", -EXDEV},
		{"nothing", -ENOENT},
		{"g/x", -ENOTDIR},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		int fd = vfsd_state_open_path(f->session.config.inodes, table[i].path);
		int same;

		if (table[i].error) {
			CHECK_EQ(fd, table[i].error);
			continue;
		}
		CHECK(fd >= 0);
		same = open_at(f, table[i].path[0] ? table[i].path : ".");
		CHECK(vfsd_statx_same(fd, same));
		CHECK_EQ(close(fd) | close(same), 0);
	}
}

static void test_same_inode(const struct fixture *f)
{
	int a = open_at(f, "d"), b = open_at(f, "d"), c = open_at(f, "g");

	CHECK(vfsd_statx_same(a, a));
	CHECK(vfsd_statx_same(a, b));
	CHECK(!vfsd_statx_same(a, c));
	CHECK(!vfsd_statx_same(a, -1));
	CHECK_EQ(close(a) | close(b) | close(c), 0);
}

static int path_of(const struct fixture *f, int fd, bool certain, char *ret)
{
	char buffer[VFSD_STATE_PATH_MAX];
	const char *path;
	int error = vfsd_state_path_of(&f->root, fd, certain, buffer, &path);

	if (!error)
		strcpy(ret, path);
	return error;
}

static void test_path_of(const struct fixture *f)
{
	char path[VFSD_STATE_PATH_MAX];

	for (int certain = 0; certain < 2; certain++) {
		int fd = open_at(f, "d/f");

		CHECK_EQ(path_of(f, fd, certain, path), 0);
		CHECK(strcmp(path, "d/f") == 0);
		CHECK_EQ(close(fd), 0);
		/* Outside, and in front of the share: neither has a path in it. */
		fd = openat(f->share.tree.fd, "outside/f", O_PATH | O_CLOEXEC);
		CHECK_EQ(path_of(f, fd, certain, path), -ENOENT);
		CHECK_EQ(path_of(f, f->share.tree.fd, certain, path), -ENOENT);
		CHECK_EQ(path_of(f, f->share.fd, certain, path), -ENOENT);
		CHECK_EQ(close(fd), 0);
	}
	/* A neighbour whose name begins as the share's. */
	CHECK_EQ(mkdirat(f->share.tree.fd, "share2", 0700), 0);
	{
		int fd = openat(f->share.tree.fd, "share2", O_PATH | O_CLOEXEC);

		CHECK_EQ(path_of(f, fd, true, path), -ENOENT);
		CHECK_EQ(close(fd), 0);
	}
}

/* The kernel's text for what has no name may also be a name. */
static void test_deleted(const struct fixture *f)
{
	static const char *const names[] = {"x", "x (deleted)"};
	char path[VFSD_STATE_PATH_MAX];

	for (size_t i = 0; i < 2; i++) {
		int fd;

		CHECK_EQ(close(openat(f->share.fd, names[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600)),
			 0);
		fd = open_at(f, names[i]);
		CHECK_EQ(path_of(f, fd, true, path), 0);
		CHECK(strcmp(path, names[i]) == 0);
		CHECK_EQ(unlinkat(f->share.fd, names[i], 0), 0);
		CHECK_EQ(path_of(f, fd, true, path), -ENOENT);
		CHECK_EQ(path_of(f, fd, false, path), -ENOENT);
		CHECK_EQ(close(fd), 0);
	}
	/* Another file has taken the very text. */
	{
		int fd, other;

		CHECK_EQ(close(openat(f->share.fd, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
		fd = open_at(f, "x");
		CHECK_EQ(unlinkat(f->share.fd, "x", 0), 0);
		CHECK_EQ(close(openat(f->share.fd, "x (deleted)", O_WRONLY | O_CREAT | O_CLOEXEC,
				      0600)),
			 0);
		other = open_at(f, "x (deleted)");
		CHECK_EQ(path_of(f, fd, true, path), -ENOENT);
		CHECK_EQ(path_of(f, other, true, path), 0);
		CHECK_EQ(close(fd) | close(other), 0);
	}
}

/* By the hint if that is right, by the host's cache if not, and not at all outside. */
static void test_find(const struct fixture *f)
{
	static const struct {
		const char *path, *hint;
		bool found;
	} table[] = {
		{"d/f", "d/f", true},
		{"d/f", "", true},
		{"d/f", "g", true},
		{"d/f", "nothing", true},
		{"d/f", "../share/d/f", true},
		{"../outside/f", "", false},
		{"../outside/f", "d/f", false},
		{"../outside/f", "l/f", false},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		int fd = open_at(f, table[i].path);
		int found = vfsd_state_find_path(&f->root, fd, table[i].hint);

		CHECK_EQ(found >= 0, table[i].found);
		if (found >= 0) {
			CHECK(vfsd_statx_same(fd, found));
			CHECK_EQ(close(found), 0);
		}
		CHECK_EQ(close(fd), 0);
	}
}

/* A path longer than any has no text. */
static void test_too_deep(const struct fixture *f)
{
	char name[201], path[VFSD_STATE_PATH_MAX];
	int fd = open_at(f, "d"), up[24];
	size_t n;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (n = 0; n < sizeof(up) / sizeof(*up); n++) {
		CHECK_EQ(mkdirat(fd, name, 0700), 0);
		up[n] = fd;
		fd = openat(fd, name, O_PATH | O_CLOEXEC);
		CHECK(fd >= 0);
	}
	CHECK_EQ(path_of(f, fd, true, path), -ENAMETOOLONG);
	CHECK_EQ(vfsd_state_find_path(&f->root, fd, ""), -ENAMETOOLONG);
	CHECK_EQ(close(fd), 0);
	while (n-- > 0) {
		CHECK_EQ(unlinkat(up[n], name, AT_REMOVEDIR), 0);
		CHECK_EQ(close(up[n]), 0);
	}
}

int main(void)
{
	struct fixture f;

	set_up(&f);
	test_open(&f);
	test_same_inode(&f);
	test_path_of(&f);
	test_deleted(&f);
	test_find(&f);
	test_too_deep(&f);
	tear_down(&f);
	return 0;
}
