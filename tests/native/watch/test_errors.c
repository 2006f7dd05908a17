/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors of filesystems: who asked for them, who receives them, and when the marks end. */
#include "client.h"

#include <errno.h>

struct error_source {
	struct vfsd_source source; /* first */
	uint32_t mask;		   /* of the root's filesystem */
	int refuse;
	struct vfsd_source_event event;
	bool waiting, lost;
};

static int set_mark(struct vfsd_source *base, struct vfsd_inode *root, uint32_t mask)
{
	struct error_source *source = (struct error_source *)(void *)base;

	(void)root;
	if (mask && source->refuse)
		return source->refuse;
	source->mask = mask;
	return 0;
}

static void drain(struct vfsd_source *base, const struct vfsd_source_sink *sink)
{
	struct error_source *source = (struct error_source *)(void *)base;

	if (source->waiting)
		sink->event(sink->ctx, &source->event);
	if (source->lost)
		sink->lost(sink->ctx);
	source->waiting = source->lost = false;
}

static const struct vfsd_source_ops error_ops = {.watch_filesystem = set_mark, .drain = drain};

static void create(struct client *client, struct error_source *source, bool wants_errors)
{
	client_create(client, "", true);
	*source = (struct error_source){.source.ops = &error_ops};
	client->registry.errors = &source->source;
	if (wants_errors)
		client->registry.consumers->types |= 1u << VFSD_RECORD_ERROR;
}

static void fail(struct client *client, struct error_source *source, uint64_t nodeid)
{
	source->event = (struct vfsd_source_event){.mask = VFSD_SOURCE_FS_ERROR,
						   .nodeid = nodeid,
						   .root = VFSD_NODEID_ROOT,
						   .error = EIO,
						   .errors = 3};
	source->waiting = true;
	while (vfsd_watch_dispatch(&client->registry))
		;
}

static void test_only_who_asked_receives_them(void)
{
	for (int wants = 0; wants < 2; wants++) {
		struct error_source source;
		struct client client;

		create(&client, &source, wants);
		client_begin(&client);
		client_expect(&client, "ready \n");
		CHECK_EQ(source.mask, wants ? VFSD_SOURCE_FS_ERROR : 0);
		fail(&client, &source, client_node(&client, "a/b"));
		client_expect(&client, wants ? "error a/b\n" : "");
		source.lost = true;
		while (vfsd_watch_dispatch(&client.registry))
			;
		client_expect(&client, wants ? "loss 1\n" : "");
		vfsd_watch_end(&client.registry, client.watch);
		CHECK_EQ(source.mask, 0);
		CHECK_EQ(vfsd_marks_count(client.registry.error_marks), 0);
		client_destroy(&client);
	}
}

/* Without the privilege the consumer is told so, and everything else works. */
static void test_refused(void)
{
	struct error_source source;
	struct client client;

	create(&client, &source, true);
	source.refuse = -EPERM;
	client_begin(&client);
	client_expect(&client, "no_errors \nready \n");
	CHECK_EQ(vfsd_marks_count(client.registry.error_marks), 0);
	fail(&client, &source, VFSD_NODEID_ROOT);
	client_expect(&client, "");
	client.host.events[client.host.n_events++] = (struct vfsd_source_event){
		.nodeid = VFSD_NODEID_ROOT, .mask = FAN_CREATE, .name = "x", .name_bytes = 1};
	while (vfsd_watch_dispatch(&client.registry))
		;
	client_expect(&client, "create x\n");
	client_destroy(&client);
}

/* The group of errors has moves in it, too, which are none. */
static void test_a_move_is_no_error(void)
{
	struct error_source source;
	struct client client;

	create(&client, &source, true);
	client_begin(&client);
	client_expect(&client, "ready \n");
	source.event = (struct vfsd_source_event){.mask = FAN_MOVED_FROM,
						  .nodeid = VFSD_NODEID_ROOT,
						  .root = VFSD_NODEID_ROOT,
						  .name = "x"};
	source.waiting = true;
	while (vfsd_watch_dispatch(&client.registry))
		;
	client_expect(&client, "");
	client_destroy(&client);
}

/* Of a filesystem that nobody has asked about. */
static void test_another_filesystem(void)
{
	struct error_source source;
	struct client client;

	create(&client, &source, true);
	client_begin(&client);
	client_expect(&client, "ready \n");
	source.event = (struct vfsd_source_event){.mask = VFSD_SOURCE_FS_ERROR,
						  .nodeid = VFSD_NODEID_ROOT,
						  .root = 12345,
						  .error = EIO,
						  .errors = 1};
	source.waiting = true;
	while (vfsd_watch_dispatch(&client.registry))
		;
	client_expect(&client, "");
	client_destroy(&client);
}

int main(void)
{
	test_only_who_asked_receives_them();
	test_refused();
	test_a_move_is_no_error();
	test_another_filesystem();
	return 0;
}
