/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors by their names in /proc/self/fd, and what opens below a directory and what does not. */
#include "base/proc_fd.h"

#include "base/statx.h"
#include "tree.h"

static struct tree tree; /* "share", and "outside" beside it */
static int share, proc_self_fd;

static void set_up(void)
{
	tree_create(&tree);
	CHECK_EQ(mkdirat(tree.fd, "share", 0700), 0);
	CHECK_EQ(mkdirat(tree.fd, "share/d", 0700), 0);
	tree_file(&tree, "share/d/f", "data");
	CHECK_EQ(symlinkat("../outside", tree.fd, "share/l"), 0);
	CHECK_EQ(symlinkat("d", tree.fd, "share/m"), 0);
	tree_file(&tree, "outside", "secret");
	share = openat(tree.fd, "share", O_PATH | O_DIRECTORY | O_CLOEXEC);
	proc_self_fd = tree_proc_self_fd();
	CHECK(share >= 0);
}

static void tear_down(void)
{
	CHECK_EQ(close(share) | close(proc_self_fd), 0);
	tree_destroy(&tree);
}

static void test_open_beneath(void)
{
	static const struct {
		const char *path;
		int error;
	} table[] = {
		{"d", 0},
		{"d/f", 0},
		{".", 0},
		{"d/../d/f", 0},
		{"l", 0}, /* the link itself */
		{"m/f", -ELOOP},
		{"..", -EXDEV},
		{"../outside", -EXDEV},
		{"d/../../outside", -EXDEV},
		{"/etc", -EXDEV},
		{"none", -ENOENT},
		{"d/f/x", -ENOTDIR},
		{"", -ENOENT},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		int fd = vfsd_open_beneath(share, table[i].path), same;

		if (table[i].error) {
			CHECK_EQ(fd, table[i].error);
			continue;
		}
		CHECK(fd >= 0);
		CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		same = openat(share, table[i].path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		CHECK(vfsd_statx_same(fd, same));
		CHECK_EQ(close(fd) | close(same), 0);
	}
	CHECK_EQ(vfsd_open_beneath(-1, "d"), -EBADF);
}

static void test_path(void)
{
	char top[PATH_MAX], path[PATH_MAX];
	int fd = vfsd_open_beneath(share, "d/f"), fds[2];
	ssize_t n = vfsd_proc_path(proc_self_fd, share, top);

	CHECK(n > 0 && (size_t)n == strlen(top) && top[0] == '/');
	n = vfsd_proc_path(proc_self_fd, fd, path);
	CHECK((size_t)n == strlen(path));
	CHECK(strncmp(path, top, strlen(top)) == 0 && strcmp(path + strlen(top), "/d/f") == 0);
	/* It follows the inode, and says when there is no name any more. */
	CHECK_EQ(renameat(share, "d/f", share, "g"), 0);
	CHECK(vfsd_proc_path(proc_self_fd, fd, path) > 0);
	CHECK(strcmp(path + strlen(top), "/g") == 0);
	CHECK_EQ(unlinkat(share, "g", 0), 0);
	CHECK(vfsd_proc_path(proc_self_fd, fd, path) > 0);
	CHECK(strcmp(path + strlen(top), "/g (deleted)") == 0);
	CHECK_EQ(close(fd), 0);
	/* What is no file has none. */
	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	CHECK_EQ(vfsd_proc_path(proc_self_fd, fds[0], path), -ENOENT);
	CHECK_EQ(close(fds[0]) | close(fds[1]), 0);
	CHECK_EQ(vfsd_proc_path(proc_self_fd, fds[0], path), -ENOENT);
	CHECK_EQ(vfsd_proc_path(-1, share, path), -EBADF);
}

static void test_same(void)
{
	int a = vfsd_open_beneath(share, "d"), b = vfsd_open_beneath(share, "d");

	for (int takes_null = 0; takes_null < 2; takes_null++) {
		if (takes_null)
			vfsd_statx_probe(a);
		else
			vfsd_statx_set_takes_null(false);
		CHECK(vfsd_statx_same(a, a));
		CHECK(vfsd_statx_same(a, b));
		CHECK(!vfsd_statx_same(a, share));
		CHECK(!vfsd_statx_same(a, -1));
	}
	CHECK_EQ(close(a) | close(b), 0);
}

static void test_reopen(void)
{
	int fd, opened;
	char data[8] = "";

	tree_file(&tree, "share/d/f", "data");
	fd = vfsd_open_beneath(share, "d/f");
	CHECK_EQ(read(fd, data, sizeof(data)), -1); /* O_PATH */
	opened = vfsd_proc_reopen(proc_self_fd, fd, O_RDONLY);
	CHECK_EQ(read(opened, data, sizeof(data)), 4);
	CHECK(fcntl(opened, F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(close(fd) | close(opened), 0);
	CHECK_EQ(vfsd_proc_reopen(proc_self_fd, fd, O_RDONLY), -ENOENT);
	CHECK_EQ(vfsd_proc_reopen(proc_self_fd, share, O_WRONLY), -EISDIR);
}

int main(void)
{
	set_up();
	test_open_beneath();
	test_path();
	test_same();
	test_reopen();
	tear_down();
	return 0;
}
