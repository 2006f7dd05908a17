/* SPDX-License-Identifier: BSD-3-Clause */
/* From events to records: which watch they concern, by what path, and what they lead the watch to. */
#include "client.h"

#include <errno.h>

enum { ELSEWHERE = 1000 }; /* no node id of the tree */

static void queue(struct client *client, struct vfsd_source_event event)
{
	CHECK(client->host.n_events < CLIENT_EVENTS_MAX);
	if (event.name)
		event.name_bytes = (uint32_t)strlen(event.name);
	client->host.events[client->host.n_events++] = event;
}

static void dispatch(struct client *client)
{
	while (vfsd_watch_dispatch(&client->registry))
		;
}

/* What a watch of "a" reports of an event in, or of, a directory. */
static void test_events(void)
{
	static const struct {
		bool recursive, own;
		const char *dir; /* below "a"; NULL: elsewhere */
		const char *name;
		bool of_root; /* the child is "a" */
		bool parent_only;
		uint32_t mask;
		const char *want;
	} table[] = {
		{true, false, "", "f", false, false, FAN_CREATE, "create a/f\n"},
		{true, true, "", "f", false, false, FAN_CREATE, "create a/f\n"},
		{true, false, "b", "f", false, false, FAN_MODIFY, "modify a/b/f\n"},
		{true, false, NULL, "f", false, false, FAN_MODIFY, ""},
		{false, false, "", "f", false, false, FAN_CREATE, "create a/f\n"},
		/* Of "a" itself, without a name and by its name. */
		{true, false, "", NULL, false, false, FAN_ATTRIB | FAN_ONDIR, "attrib a/\n"},
		{true, false, NULL, "a", true, false, FAN_ATTRIB | FAN_ONDIR, "attrib a/\n"},
		{true, false, NULL, "a", true, true, FAN_ATTRIB | FAN_ONDIR, ""},
		{true, false, NULL, "a", true, false, FAN_CREATE | FAN_ONDIR, ""},
		{true, false, NULL, "a", true, false, FAN_MOVED_FROM | FAN_ONDIR, ""},
		/* Of a directory below it, without a name: its parent's event has the name. */
		{true, false, "b", NULL, false, false, FAN_ATTRIB | FAN_ONDIR, ""},
		/* A scan looks like a guest; a program of the host is told apart. */
		{true, true, "", "b", false, false, FAN_OPEN | FAN_ONDIR, ""},
		{true, false, "", "b", false, false, FAN_OPEN | FAN_ONDIR, "open a/b/\n"},
		{true, true, "", "f", false, false, FAN_OPEN, "open a/f\n"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct client client;

		client_create(&client, "a", table[i].recursive);
		client_begin(&client);
		client_expect(&client, "ready a\n");
		queue(&client, (struct vfsd_source_event){
				       .nodeid = table[i].dir ? client_node(&client, table[i].dir) :
								ELSEWHERE,
				       .child = table[i].of_root ? client_node(&client, "") : 0,
				       .mask = table[i].mask,
				       .self_generated = table[i].own,
				       .parent_only = table[i].parent_only,
				       .name = table[i].name,
			       });
		dispatch(&client);
		client_expect(&client, table[i].want);
		client_destroy(&client);
	}
}

static void test_a_rename_changes_the_path_of_what_is_below(void)
{
	struct client client;
	uint64_t root, b;
	int root_fd;

	client_create(&client, "", true);
	root_fd = client.registry.config.root_fd;
	client_begin(&client);
	client_expect(&client, "ready \n");
	root = client_node(&client, "");
	b = client_node(&client, "a/b");
	CHECK_EQ(renameat(root_fd, "a", root_fd, "c"), 0);
	queue(&client, (struct vfsd_source_event){
			       .nodeid = root, .mask = FAN_MOVED_FROM | FAN_ONDIR, .name = "a"});
	queue(&client, (struct vfsd_source_event){
			       .nodeid = root, .mask = FAN_MOVED_TO | FAN_ONDIR, .name = "c"});
	queue(&client, (struct vfsd_source_event){.nodeid = b, .mask = FAN_CREATE, .name = "f"});
	dispatch(&client);
	client_expect(&client, "moved_from a/\nmoved_to c/\ncreate c/b/f\n");

	/* It moves out of the share, where no client may receive events of it. */
	CHECK_EQ(renameat(root_fd, "c", root_fd, "../c"), 0);
	queue(&client, (struct vfsd_source_event){
			       .nodeid = root, .mask = FAN_MOVED_FROM | FAN_ONDIR, .name = "c"});
	queue(&client, (struct vfsd_source_event){.nodeid = b, .mask = FAN_CREATE, .name = "g"});
	dispatch(&client);
	client_expect(&client, "moved_from c/\n");
	CHECK(!vfsd_path_tree_has(client.watch->tree, b));
	client_destroy(&client);
}

static void test_a_removed_root_ends_the_watch(void)
{
	struct client client;
	uint64_t b;

	client_create(&client, "a/b", true);
	client_begin(&client);
	client_expect(&client, "ready a/b\n");
	b = client_node(&client, "");
	for (int i = 0; i < 2; i++)
		queue(&client,
		      (struct vfsd_source_event){.nodeid = b, .mask = FAN_ONDIR, .unlinked = true});
	dispatch(&client);
	client_expect(&client, "delete_self a/b/\ngone a/b\n");
	CHECK(!client.watch->tree);
	client_destroy(&client);
}

static void test_a_root_that_leaves_the_share_ends_the_watch(void)
{
	static const struct {
		const char *from, *to;
		bool of_parent;
		const char *want;
	} table[] = {
		{"a/b", "a/c", false, "move_self a/b/\n"},
		{"a", "c", true, ""},
		{"a/b", "../b", false, "move_self a/b/\ngone a/b\n"},
		{"a", "../a", true, "gone a/b\n"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct client client;
		int root_fd;

		client_create(&client, "a/b", true);
		root_fd = client.registry.config.root_fd;
		client_begin(&client);
		client_expect(&client, "ready a/b\n");
		CHECK_EQ(renameat(root_fd, table[i].from, root_fd, table[i].to), 0);
		queue(&client, (struct vfsd_source_event){
				       .nodeid = table[i].of_parent ? client.watch->parents[0] :
								      client_node(&client, ""),
				       .mask = FAN_MOVE_SELF | FAN_ONDIR});
		dispatch(&client);
		client_expect(&client, table[i].want);
		client_destroy(&client);
	}
}

static void test_a_loss_finds_roots_that_have_left(void)
{
	struct client client;
	int root_fd;

	client_create(&client, "a/b", true);
	root_fd = client.registry.config.root_fd;
	client_begin(&client);
	client_expect(&client, "ready a/b\n");
	client.host.lost = true;
	dispatch(&client);
	client_expect(&client, "loss 1\n");
	CHECK_EQ(renameat(root_fd, "a/b", root_fd, "../b"), 0);
	client.host.lost = true;
	dispatch(&client);
	client_expect(&client, "loss 1\ngone a/b\n");
	client_destroy(&client);
}

static void test_an_unknown_place_is_settled_by_the_second_round(void)
{
	struct client client;

	client_create(&client, "a", false);
	client_begin(&client);
	client_expect(&client, "ready a\n");
	client.watch->unknown_rounds = 1;
	CHECK(vfsd_watch_dispatch(&client.registry));
	client_expect(&client, "");
	CHECK(!vfsd_watch_dispatch(&client.registry));
	client_expect(&client, "gone a\n");
	client_destroy(&client);
}

static void test_a_path_that_cannot_be_watched(void)
{
	static const char *const paths[] = {"none", "a/none", "none/b"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct client client;
		char want[64];

		client_create(&client, paths[i], true);
		client_begin(&client);
		(void)snprintf(want, sizeof(want), "failed %s\n", paths[i]);
		client_expect(&client, want);
		CHECK(!client.watch->tree);
		client_destroy(&client);
	}
}

static void test_mounts_are_reported_to_watches_that_cover_them(void)
{
	static const struct {
		const char *watched;
		bool recursive;
		const char *mounted;
		const char *want;
	} table[] = {
		{"", true, "a/b", "mount a/b\n"},
		{"", true, "", "mount \n"},
		{"a", true, "a/b", "mount a/b\n"},
		{"a", false, "a/b", ""},
		{"a", false, "a", "mount a\n"},
		{"a/b", true, "a", ""},
		{"a", true, "ab", ""},
		{"a", true, "c", ""},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const vfsd_watch_mount mount = {.type = VFSD_RECORD_MOUNT,
						.subtype = VFSD_MOUNTED,
						.path = table[i].mounted,
						.kind = "tmpfs"};
		vfsd_ring_entry ready;
		struct client client;

		client_create(&client, table[i].watched, table[i].recursive);
		client_begin(&client);
		while (vfsd_shm_reader_next(client.reader, &ready) == 1)
			vfsd_shm_reader_release(client.reader);
		vfsd_watch_report_mount(&client.registry, &mount);
		client_expect(&client, table[i].want);
		client_destroy(&client);
	}
}

int main(void)
{
	test_events();
	test_a_rename_changes_the_path_of_what_is_below();
	test_a_removed_root_ends_the_watch();
	test_a_root_that_leaves_the_share_ends_the_watch();
	test_a_loss_finds_roots_that_have_left();
	test_an_unknown_place_is_settled_by_the_second_round();
	test_a_path_that_cannot_be_watched();
	test_mounts_are_reported_to_watches_that_cover_them();
	return 0;
}
