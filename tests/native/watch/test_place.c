/* SPDX-License-Identifier: BSD-3-Clause */
/* Where watched inodes are, after others have moved them. */
#include "client.h"

#include "base/proc_fd.h"

#include <errno.h>

static void test_open_stays_below_the_share(void)
{
	static const struct {
		const char *path;
		int err;
	} table[] = {
		{"a", 0},
		{"a/b", 0},
		{"none", -ENOENT},
		{"..", -EXDEV},
		{"a/../..", -EXDEV},
		{"/", -EXDEV},
		{"out", 0},
		{"out/share", -ELOOP},
		{"in", 0},
		{"in/b", -ELOOP},
		{"f/b", -ENOTDIR},
		{"f", 0},
	};
	struct client client;
	int root_fd;

	client_create(&client, "", true);
	root_fd = client.registry.config.root_fd;
	CHECK_EQ(symlinkat("..", root_fd, "out") | symlinkat("a", root_fd, "in"), 0);
	CHECK_EQ(mknodat(root_fd, "f", S_IFREG | 0600, 0), 0);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int fd = vfsd_open_beneath(root_fd, table[i].path);

		CHECK_EQ(fd < 0 ? fd : 0, table[i].err);
		CHECK(fd < 0 || close(fd) == 0);
	}
	client_destroy(&client);
}

static void test_places(void)
{
	static const struct {
		const char *watched, *from, *to; /* below the share; to NULL: removed */
		enum vfsd_watch_place place;
		bool in_place; /* by the path that was asked for */
	} table[] = {
		{"a/b", "a/b", "a/c", VFSD_PLACE_SHARED, true},
		{"a/b", "a", "c", VFSD_PLACE_SHARED, true},
		{"a/b", "a/b", "../b", VFSD_PLACE_OUTSIDE, false},
		{"a/b", "a", "../a", VFSD_PLACE_OUTSIDE, false},
		/* A name that only begins like the share's is not below it. */
		{"a/b", "a/b", "../share-too", VFSD_PLACE_OUTSIDE, false},
		{"a/b", "a/b", NULL, VFSD_PLACE_SHARED, false}, /* an event says that it is gone */
		{"", "a/b", "../b", VFSD_PLACE_SHARED, true},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct vfsd_watch_registry *registry;
		struct vfsd_inode *inode;
		struct client client;
		bool transient;
		int root_fd, fd;

		client_create(&client, table[i].watched, true);
		client_begin(&client);
		registry = &client.registry;
		root_fd = registry->config.root_fd;
		inode = vfsd_inode_get(registry->inodes, client_node(&client, ""));
		fd = vfsd_inode_fd_get(registry->inodes, inode, &transient);
		CHECK_EQ(vfsd_watch_place_of(registry, client.watch), VFSD_PLACE_SHARED);
		CHECK(vfsd_watch_is_in_place(registry, client.watch, inode->nodeid, fd));
		if (table[i].to)
			CHECK_EQ(renameat(root_fd, table[i].from, root_fd, table[i].to), 0);
		else
			CHECK_EQ(unlinkat(root_fd, table[i].from, AT_REMOVEDIR), 0);
		CHECK_EQ(vfsd_watch_place_of(registry, client.watch), table[i].place);
		CHECK_EQ(vfsd_watch_is_in_place(registry, client.watch, inode->nodeid, fd),
			 table[i].in_place);
		vfsd_inode_fd_put(fd, transient);
		vfsd_inode_put(registry->inodes, inode);
		client_destroy(&client);
	}
}

static void test_a_directory_is_in_place_by_its_name_below_the_root(void)
{
	struct vfsd_watch_registry *registry;
	struct client client;
	uint64_t below;
	int root_fd, fd;

	client_create(&client, "a", true);
	client_begin(&client);
	registry = &client.registry;
	root_fd = registry->config.root_fd;
	below = client_node(&client, "b");
	fd = openat(root_fd, "a/b", O_PATH | O_CLOEXEC);
	CHECK(vfsd_watch_is_in_place(registry, client.watch, below, fd));
	CHECK(!vfsd_watch_is_in_place(registry, client.watch, 1000, fd));
	CHECK_EQ(renameat(root_fd, "a", root_fd, "c"), 0); /* with all that is below it */
	CHECK(vfsd_watch_is_in_place(registry, client.watch, below, fd));
	CHECK_EQ(renameat(root_fd, "c/b", root_fd, "c/d"), 0);
	CHECK(!vfsd_watch_is_in_place(registry, client.watch, below, fd));
	CHECK_EQ(mkdirat(root_fd, "c/b", 0700), 0); /* the name alone is not enough */
	CHECK(!vfsd_watch_is_in_place(registry, client.watch, below, fd));
	CHECK_EQ(close(fd), 0);
	client_destroy(&client);
}

static void test_parents_are_watched_for_moves(void)
{
	struct client client;

	client_create(&client, "a/b", false);
	client_begin(&client);
	CHECK_EQ(client.watch->n_parents, 1);
	CHECK_EQ(vfsd_marks_mask(client.registry.marks, client.watch->parents[0], 1),
		 FAN_MOVE_SELF);
	CHECK_EQ(vfsd_marks_count(client.registry.marks), 2);
	vfsd_watch_end(&client.registry, client.watch);
	CHECK_EQ(vfsd_marks_count(client.registry.marks), 0);
	client_destroy(&client);
}

int main(void)
{
	test_open_stays_below_the_share();
	test_places();
	test_a_directory_is_in_place_by_its_name_below_the_root();
	test_parents_are_watched_for_moves();
	return 0;
}
