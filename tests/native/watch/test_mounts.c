/* SPDX-License-Identifier: BSD-3-Clause */
/* Mounts below the share: the name leads to another directory, which a recursive watch then covers. */
#include "client.h"

static void report(struct client *client, int type, const char *path)
{
	const vfsd_watch_mount mount = {
		.type = type, .subtype = VFSD_MOUNTED, .path = path, .kind = "tmpfs"};

	vfsd_watch_report_mount(&client->registry, &mount);
	while (vfsd_watch_dispatch(&client->registry))
		;
}

static void mount_at(struct client *client, const char *path)
{
	char where[PATH_MAX + 32];

	(void)snprintf(where, sizeof(where), "%s/share/%s", client->tree.path, path);
	CHECK_EQ(mount("none", where, "tmpfs", 0, NULL), 0);
	CHECK_EQ(mkdirat(client->registry.config.root_fd, "a/b/m", 0700), 0);
}

static void unmount(struct client *client, const char *path)
{
	char where[PATH_MAX + 32];

	(void)snprintf(where, sizeof(where), "%s/share/%s", client->tree.path, path);
	CHECK_EQ(umount2(where, MNT_DETACH), 0);
}

static void test_what_is_mounted_is_covered(void)
{
	static const struct {
		bool recursive;
		int type;
		bool covered;
	} table[] = {
		{true, VFSD_RECORD_MOUNT, true},
		{true, VFSD_RECORD_SUPERBLOCK, false}, /* no name has changed */
		{false, VFSD_RECORD_MOUNT, false},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct client client;
		uint64_t before;

		client_create(&client, "", table[i].recursive);
		client_begin(&client);
		client_expect(&client, "ready \n");
		before = client_node(&client, "a/b");
		mount_at(&client, "a/b");
		report(&client, table[i].type, "a/b");
		client_expect(&client, table[i].recursive ? "mount a/b\n" : "");
		CHECK_EQ(client_node(&client, "a/b/m") != 0, table[i].covered);
		if (table[i].covered) {
			CHECK(client_node(&client, "a/b") != before);
			CHECK_EQ(vfsd_marks_union(client.registry.marks, before), 0);
		}
		unmount(&client, "a/b");
		report(&client, table[i].type, "a/b");
		if (table[i].covered)
			CHECK_EQ(client_node(&client, "a/b/m"), 0);
		client_destroy(&client);
	}
}

/* Paths that the watch has no directory for are not followed. */
static void test_paths_that_are_not_covered(void)
{
	static const char *const paths[] = {"none/b", "a/none/c", "a//b", "a/", ""};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct client client;
		size_t count;

		client_create(&client, "", true);
		client_begin(&client);
		count = vfsd_path_tree_count(client.watch->tree);
		report(&client, VFSD_RECORD_MOUNT, paths[i]);
		CHECK_EQ(vfsd_path_tree_count(client.watch->tree), count);
		client_destroy(&client);
	}
}

/* A name that is longer than any. */
static void test_a_long_name(void)
{
	struct client client;
	char path[400];

	memset(path, 'n', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	client_create(&client, "", true);
	client_begin(&client);
	report(&client, VFSD_RECORD_MOUNT, path);
	CHECK_EQ(vfsd_path_tree_count(client.watch->tree), 3);
	client_destroy(&client);
}

int main(void)
{
	test_paths_that_are_not_covered();
	test_a_long_name();
	if (tree_own_mounts())
		test_what_is_mounted_is_covered();
	return 0;
}
