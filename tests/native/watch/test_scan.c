/* SPDX-License-Identifier: BSD-3-Clause */
/* Scans: what a watch covers when it begins, what it finds in new directories, and after a loss. */
#include "client.h"

static void dispatch(struct client *client)
{
	while (vfsd_watch_dispatch(&client->registry))
		;
}

static void mkdir_in(struct client *client, const char *path)
{
	CHECK_EQ(mkdirat(client->registry.config.root_fd, path, 0700), 0);
}

static void announce(struct client *client, uint32_t mask, const char *name)
{
	client->host.events[client->host.n_events++] = (struct vfsd_source_event){
		.nodeid = client_node(client, ""),
		.mask = mask | FAN_ONDIR,
		.name = name,
		.name_bytes = (uint32_t)strlen(name),
	};
}

static void test_what_is_covered(void)
{
	static const struct {
		const char *watched;
		bool recursive;
		size_t count; /* of directories */
	} table[] = {{"", true, 3}, {"a", true, 2}, {"a/b", true, 1}, {"", false, 1}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct client client;

		client_create(&client, table[i].watched, table[i].recursive);
		CHECK_EQ(mknodat(client.registry.config.root_fd, "a/f", S_IFREG | 0600, 0), 0);
		CHECK_EQ(symlinkat("b", client.registry.config.root_fd, "a/link"), 0);
		vfsd_watch_begin(&client.registry, client.watch);
		CHECK_EQ(client.watch->ready, !table[i].recursive); /* not before the scan */
		dispatch(&client);
		CHECK(client.watch->ready);
		CHECK_EQ(vfsd_path_tree_count(client.watch->tree), table[i].count);
		CHECK(!vfsd_watch_scan_one(&client.registry));
		client_destroy(&client);
	}
}

static void test_the_entries_of_a_new_directory_are_reported(void)
{
	static const struct {
		uint32_t mask;
		const char *want;
	} table[] = {
		{FAN_CREATE, "create n/\nfound create n/m/\nfound create n/m/f\n"},
		{FAN_MOVED_TO, "moved_to n/\n"}, /* they are not new */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct client client;

		client_create(&client, "", true);
		client_begin(&client);
		client_expect(&client, "ready \n");
		mkdir_in(&client, "n");
		mkdir_in(&client, "n/m");
		CHECK_EQ(mknodat(client.registry.config.root_fd, "n/m/f", S_IFREG | 0600, 0), 0);
		announce(&client, table[i].mask, "n");
		dispatch(&client);
		client_expect(&client, table[i].want);
		CHECK(client_node(&client, "n/m") != 0);
		client_destroy(&client);
	}
}

static void test_a_loss_has_everything_scanned_again(void)
{
	struct client client;

	client_create(&client, "", true);
	client_begin(&client);
	client_expect(&client, "ready \n");
	mkdir_in(&client, "a/n");
	dispatch(&client);
	CHECK_EQ(client_node(&client, "a/n"), 0); /* no event, no scan */
	client.host.lost = true;
	dispatch(&client);
	client_expect(&client, "loss 1\n");
	CHECK(client_node(&client, "a/n") != 0);
	client_destroy(&client);
}

static void test_a_directory_that_left_the_share_is_not_scanned(void)
{
	struct client client;
	int root_fd;

	client_create(&client, "", true);
	root_fd = client.registry.config.root_fd;
	client_begin(&client);
	client_expect(&client, "ready \n");
	/* Covered by the event, elsewhere by the time of the scan. */
	mkdir_in(&client, "a/b/n");
	CHECK_EQ(vfsd_watch_scan_push(&client.registry, client.watch, client_node(&client, "a/b"),
				      VFSD_FOUND_NEW),
		 0);
	CHECK_EQ(renameat(root_fd, "a/b", root_fd, "../b"), 0);
	for (int tries = 0; vfsd_watch_scan_one(&client.registry); tries++)
		CHECK(tries < 100);
	client_expect(&client, "");
	CHECK_EQ(client_node(&client, "a/b/n"), 0);
	CHECK_EQ(client.watch->to_scan, 0);

	CHECK_EQ(renameat(root_fd, "../b", root_fd, "a/b"), 0);
	CHECK_EQ(vfsd_watch_scan_push(&client.registry, client.watch, client_node(&client, "a/b"),
				      VFSD_FOUND_NEW),
		 0);
	dispatch(&client);
	client_expect(&client, "found create a/b/n/\n");
	client_destroy(&client);
}

static void test_a_directory_that_ended_is_skipped(void)
{
	struct client client;

	client_create(&client, "", true);
	client_begin(&client);
	CHECK_EQ(vfsd_watch_scan_push(&client.registry, client.watch, client_node(&client, "a"), 0),
		 0);
	vfsd_watch_end(&client.registry, client.watch);
	CHECK(vfsd_watch_scan_one(&client.registry));
	CHECK(!vfsd_watch_scan_one(&client.registry));
	client_destroy(&client);
}

int main(void)
{
	test_what_is_covered();
	test_the_entries_of_a_new_directory_are_reported();
	test_a_loss_has_everything_scanned_again();
	test_a_directory_that_left_the_share_is_not_scanned();
	test_a_directory_that_ended_is_skipped();
	return 0;
}
