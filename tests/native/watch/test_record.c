/* SPDX-License-Identifier: BSD-3-Clause */
/* Which records a consumer's filters let through, and what becomes of those that cannot be written. */
#include "client.h"

#include <errno.h>

#define ALL (~0ull)

static void test_filters(void)
{
	static const struct {
		uint32_t types;
		uint64_t subtypes;
		uint32_t watch_mask, event;
		const char *want;
	} table[] = {
		{1u << VFSD_RECORD_FSNOTIFY, ALL, FAN_MODIFY, FAN_MODIFY, "modify f\n"},
		{1u << VFSD_RECORD_FSNOTIFY, ALL, FAN_MODIFY, FAN_MODIFY | FAN_ONDIR,
		 "modify f/\n"},
		{1u << VFSD_RECORD_FSNOTIFY, ALL, FAN_ATTRIB, FAN_MODIFY, ""},
		{1u << VFSD_RECORD_FSNOTIFY, FAN_MODIFY, ALL & 0xfff, FAN_MODIFY, "modify f\n"},
		{1u << VFSD_RECORD_FSNOTIFY, FAN_CREATE, ALL & 0xfff, FAN_MODIFY, ""},
		{1u << VFSD_RECORD_FSNOTIFY, ALL, FAN_MOVE_SELF, FAN_MOVE_SELF, "move_self f\n"},
		{1u << VFSD_RECORD_MOUNT, ALL, FAN_MODIFY, FAN_MODIFY, ""},
		{0, ALL, FAN_MODIFY, FAN_MODIFY, ""},
		{~0u, ALL, 0, FAN_MODIFY, ""},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct vfsd_watch_event_payload fields = {.cookie = 3};
		struct client client;

		client_create(&client, "", true);
		client_begin(&client);
		client_expect(&client, "ready \n");
		client.watch->mask = table[i].watch_mask;
		client.watch->consumer->types = table[i].types;
		client.watch->consumer->subtypes[VFSD_RECORD_FSNOTIFY] = table[i].subtypes;
		vfsd_watch_record_event(client.watch, VFSD_NODEID_ROOT, "f", table[i].event,
					&fields);
		client_expect(&client, table[i].want);
		client_destroy(&client);
	}
}

static void test_mount_filters(void)
{
	static const struct {
		uint32_t types;
		uint64_t subtypes;
		int type, subtype;
		const char *want;
	} table[] = {
		{1u << VFSD_RECORD_MOUNT, ALL, VFSD_RECORD_MOUNT, VFSD_UNMOUNTED, "mount m\n"},
		{1u << VFSD_RECORD_MOUNT, 1u << VFSD_MOUNTED, VFSD_RECORD_MOUNT, VFSD_UNMOUNTED,
		 ""},
		{1u << VFSD_RECORD_MOUNT, 1u << VFSD_MOUNTED, VFSD_RECORD_MOUNT, VFSD_MOUNTED,
		 "mount m\n"},
		{1u << VFSD_RECORD_MOUNT, ALL, VFSD_RECORD_SUPERBLOCK, 0, ""},
		{1u << VFSD_RECORD_SUPERBLOCK, ALL, VFSD_RECORD_SUPERBLOCK, 0, "mount m\n"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const vfsd_watch_mount mount = {.type = table[i].type,
						.subtype = table[i].subtype,
						.path = "m",
						.kind = "tmpfs"};
		struct client client;

		client_create(&client, "", true);
		client.watch->consumer->types = table[i].types;
		client.watch->consumer->subtypes[table[i].type] = table[i].subtypes;
		vfsd_watch_record_mount(client.watch, &mount);
		client_expect(&client, table[i].want);
		client_destroy(&client);
	}
}

static void test_errors_have_the_path_of_a_directory_or_of_the_filesystem(void)
{
	struct vfsd_source_event event = {.error = EIO, .errors = 2};
	struct client client;

	client_create(&client, "a", true);
	client_begin(&client);
	client_expect(&client, "ready a\n");
	event.root = client_node(&client, "");
	event.nodeid = client_node(&client, "b");
	vfsd_watch_record_error(client.watch, &event);
	client_expect(&client, ""); /* not asked for */
	client.watch->consumer->types |= 1u << VFSD_RECORD_ERROR;
	vfsd_watch_record_error(client.watch, &event);
	client_expect(&client, "error a/b\n");
	event.nodeid = 1000;
	vfsd_watch_record_error(client.watch, &event);
	client_expect(&client, "error a\n");
	event.root = 1000;
	vfsd_watch_record_error(client.watch, &event);
	client_expect(&client, "loss 1\n");
	client.watch->consumer->types = 0; /* or the end of the watch would drop the errors */
	client_destroy(&client);
}

static void test_what_has_no_path(void)
{
	const struct vfsd_watch_event_payload fields = {0};
	char name[PATH_MAX + 1];
	struct client client;

	client_create(&client, "a", true);
	client_begin(&client);
	client_expect(&client, "ready a\n");
	vfsd_watch_record_event(client.watch, 1000, "f", FAN_CREATE, &fields);
	client_expect(&client, ""); /* not in the tree */
	memset(name, 'n', PATH_MAX);
	name[PATH_MAX] = '\0';
	vfsd_watch_record_event(client.watch, client_node(&client, "b"), name, FAN_CREATE, &fields);
	client_expect(&client, "loss 1\n");
	name[PATH_MAX - strlen("a/b/")] = '\0';
	vfsd_watch_record_event(client.watch, client_node(&client, "b"), name, FAN_CREATE, &fields);
	client_destroy(&client);
}

static void test_names_are_not_reported_while_the_place_is_unknown(void)
{
	const struct vfsd_watch_event_payload fields = {0};
	struct client client;

	client_create(&client, "a", true);
	client_begin(&client);
	client_expect(&client, "ready a\n");
	client.watch->unknown_rounds = 1;
	vfsd_watch_record_event(client.watch, client_node(&client, ""), "f", FAN_CREATE, &fields);
	vfsd_watch_record_event(client.watch, client_node(&client, ""), NULL, FAN_ATTRIB, &fields);
	client_expect(&client, "loss 1\nattrib a\n");
	client_destroy(&client);
}

static void test_a_wakeup_is_sent_to_a_consumer_that_has_read_everything(void)
{
	struct client client;
	char wakeup[2];

	client_create(&client, "", true);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++)
			vfsd_watch_record_status(client.watch, VFSD_WATCH_READY, 0, "p");
		CHECK_EQ(recv(client.wakeups, wakeup, sizeof(wakeup), 0), 1);
		CHECK_EQ(wakeup[0], '!');
		CHECK(recv(client.wakeups, wakeup, sizeof(wakeup), 0) < 0 && errno == EAGAIN);
		client_expect(&client, "ready p\nready p\nready p\n");
	}
	client_destroy(&client);
}

static void test_a_consumer_that_corrupts_its_ring_is_disconnected(void)
{
	int fd, err;
	uint64_t tail = 1;
	struct client client;
	char wakeup;

	client_create(&client, "", true);
	fd = vfsd_shm_ring_fd(client.watch->consumer->ring);
	CHECK_EQ(pwrite(fd, &tail, sizeof(tail), 4096), sizeof(tail));
	for (int i = 0; i < 2; i++)
		vfsd_watch_record_loss(client.watch->consumer, 1);
	CHECK(client.watch->consumer->broken);
	err = (int)recv(client.wakeups, &wakeup, 1, 0);
	CHECK_EQ(err, 0);
	client_destroy(&client);
}

int main(void)
{
	test_filters();
	test_mount_filters();
	test_errors_have_the_path_of_a_directory_or_of_the_filesystem();
	test_what_has_no_path();
	test_names_are_not_reported_while_the_place_is_unknown();
	test_a_wakeup_is_sent_to_a_consumer_that_has_read_everything();
	test_a_consumer_that_corrupts_its_ring_is_disconnected();
	return 0;
}
