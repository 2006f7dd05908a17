/* SPDX-License-Identifier: BSD-3-Clause */
/* From a source's events to the messages in the guest's buffers: which fields, which order, and what not. */
#include "event_guest.h"

static void test_fields(void)
{
	static const struct {
		struct vfsd_source_event event; /* nodeid: 1 is "d", 2 is "d/f" */
		const char *want;
	} table[] = {
		{{.nodeid = 1, .mask = FAN_CREATE, .name = "x"}, "0x100 d - 0 x\n;"},
		{{.nodeid = 1, .child = 2, .mask = FAN_MODIFY, .name = "f"}, "0x2 d f 0 f\n;"},
		{{.nodeid = 2, .mask = FAN_ATTRIB}, "0x4 f - 0 -\n;"},
		{{.nodeid = 2, .unlinked = true}, "0 f - 1 -\n;"},
		{{.nodeid = 1, .mask = FAN_OPEN, .name = "f", .parent_only = true},
		 "0x20 d - 2 f\n;"},
		{{.nodeid = 2, .mask = FAN_OPEN, .unnamed = true}, "0x20 f - 4 -\n;"},
		{{.nodeid = 1, .mask = FAN_CREATE, .name = "x", .unknown_dir = true},
		 "0x100 d - 8 x\n;"},
		{{.nodeid = 1, .mask = FAN_CREATE | FAN_ONDIR, .name = "sub"},
		 "0x40000100 d - 0 sub\n;"},
		{{.nodeid = 0, .child = 2, .mask = FAN_MOVED_FROM, .name = "f"}, "0x40 - f 0 f\n;"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct vfsd_source_event event = table[i].event;
		struct event_guest g;

		event_guest_create(&g);
		event_guest_begin(&g);
		CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_ALL), 0);
		event.nodeid = event.nodeid == 1 ? g.dir->nodeid :
			       event.nodeid == 2 ? g.file->nodeid :
						   0;
		event.child = event.child == 2 ? g.file->nodeid : 0;
		fake_event(event);
		event_guest_barrier(&g);
		event_guest_expect(&g, table[i].want);
		event_guest_destroy(&g);
	}
}

/* Equal neighbours are one, as for inotify; others are not. */
static void test_merging(void)
{
	struct event_guest g;

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_ALL), 0);
	for (int i = 0; i < 2; i++)
		fake_event((struct vfsd_source_event){
			.nodeid = g.dir->nodeid, .mask = FAN_MODIFY, .name = "f"});
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_MODIFY, .name = "g"});
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_MODIFY, .name = "f"});
	event_guest_barrier(&g);
	event_guest_expect(&g, "0x2 d - 0 f\n0x2 d - 0 g\n0x2 d - 0 f\n;");
	event_guest_destroy(&g);
}

/* What cannot be said is a loss, and so is what the host lost; neither takes the place of what can. */
static void test_losses(void)
{
	struct event_guest g;
	char name[300];

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_ALL), 0);
	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_CREATE, .name = name});
	name[255] = 'n';
	name[256] = '\0';
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_CREATE, .name = name});
	event_guest_barrier(&g);
	CHECK(strstr(event_guest_take(&g), "n\n0x4000 - - 0 -\n;"));

	fake_loss();
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_CREATE, .name = "x"});
	event_guest_barrier(&g);
	event_guest_expect(&g, "0x100 d - 0 x\n0x4000 - - 0 -\n;");

	vfsd_events_report_loss(g.events);
	event_guest_expect(&g, "0x4000 - - 0 -\n;");
	event_guest_destroy(&g);
}

/* Errors of a filesystem are counted while one of them is unread; another filesystem's are told apart. */
static void test_errors(void)
{
	struct event_guest g;
	const struct vfsd_source_event event = {
		.mask = VFSD_SOURCE_FS_ERROR, .error = EIO, .errors = 1};
	struct vfsd_source_event first = event, second = event;

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_ALL), 0);
	first.root = first.nodeid = VFSD_NODEID_ROOT;
	second.root = g.dir->nodeid;
	second.nodeid = g.file->nodeid;
	fake_event(first);
	first.error = ENOSPC;
	fake_event(first);
	fake_event(second);
	event_guest_barrier(&g);
	/* The first is unread when the second comes: that is counted, and delivered after it. */
	event_guest_expect(&g, "error 5 of root x1\nerror 5 of f x1\n;error 28 of root x1\n;");

	first.errors = UINT32_MAX;
	(void)event_guest_stop_ring(&g);
	event_guest_start_ring(&g, 0, 0, false);
	CHECK(g.hooks.session_start(g.hooks.ctx, true, &(uint32_t){0}));
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_ALL), 0);
	for (int i = 0; i < 4; i++)
		fake_event(first);
	event_guest_barrier(&g);
	event_guest_expect(&g, "");
	event_guest_post(&g, 0);
	event_guest_barrier(&g);
	event_guest_expect(&g, "error 28 of root x4294967295\n;");
	event_guest_barrier(&g);
	event_guest_expect(&g, "error 28 of root x4294967295\n;"); /* three times that, cut */
	event_guest_destroy(&g);
}

/* Make the guest look a name up again, by a kind of event that nobody there has asked for. */
static void test_expire(void)
{
	static const struct {
		uint32_t of_dir, of_filesystem;
		const char *want;
	} table[] = {
		{0, 0, "0x40000100 d - 0 x\n;"},
		{FAN_MODIFY, 0, "0x40000100 d - 0 x\n;"},
		{FAN_CREATE, 0, "0x40000040 d - 0 x\n;"},
		{FAN_CREATE | FAN_MOVED_FROM, 0, "0x40000080 d - 0 x\n;"},
		{FAN_CREATE | FAN_MOVE, 0, "0x40000200 d - 0 x\n;"},
		{FAN_CREATE, FAN_MOVE, "0x40000200 d - 0 x\n;"},
		{FAN_CREATE | FAN_MOVE | FAN_DELETE, 0, "0x40000100 d - 0 x\n;"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct event_guest g;

		event_guest_create(&g);
		event_guest_begin(&g);
		CHECK_EQ(event_guest_subscribe(&g, g.dir, table[i].of_dir), 0);
		if (table[i].of_filesystem) {
			struct vfsd_inode *root = vfsd_inode_get(g.inodes, VFSD_NODEID_ROOT);

			CHECK_EQ(vfsd_events_watch(g.events, root, VFSD_EVENTS_FILESYSTEM,
						   table[i].of_filesystem),
				 0);
			vfsd_inode_put(g.inodes, root);
		}
		vfsd_events_expire(g.events, g.dir->nodeid, "x");
		event_guest_expect(&g, table[i].want);
		event_guest_destroy(&g);
	}
}

/* Those who must not see an event: a guest without a session, and one of the dialect of 2021. */
static void test_expire_is_not_for_everybody(void)
{
	struct event_guest g;

	event_guest_create(&g);
	event_guest_start_ring(&g, 0, EVENT_GUEST_BUFFERS, false);
	vfsd_events_expire(g.events, g.dir->nodeid, "x");
	event_guest_expect(&g, "");
	event_guest_destroy(&g);

	event_guest_create_with(&g, &fake_source_merged, NULL, true);
	event_guest_begin(&g);
	vfsd_events_expire(g.events, g.dir->nodeid, "x");
	event_guest_expect(&g, "");
	event_guest_destroy(&g);
}

/* The dialect of 2021: one event a message, only what somebody has asked for, DELETE_SELF for the end. */
static void test_rfc2021(void)
{
	struct event_guest g;

	event_guest_create_with(&g, &fake_source_merged, NULL, true);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	CHECK_EQ(event_guest_subscribe(&g, g.file, FAN_ATTRIB | FAN_DELETE_SELF), 0);
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_CREATE, .name = "x"});
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_MODIFY, .name = "x"});
	fake_event((struct vfsd_source_event){
		.nodeid = g.file->nodeid, .mask = FAN_ATTRIB, .unlinked = true});
	event_guest_barrier(&g);
	event_guest_expect(&g, "0x100 d x;0x4 f -;0x400 f -;");
	event_guest_destroy(&g);
}

/* A ring that breaks is reported once, and the events are not. */
static void test_broken_ring(void)
{
	struct event_guest g;

	event_guest_create(&g);
	g.buffer_bytes = VFSD_RECORD_ALIGN;
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_ALL), 0);
	for (int i = 0; i < 2; i++) {
		fake_event((struct vfsd_source_event){
			.nodeid = g.dir->nodeid, .mask = FAN_CREATE, .name = "x"});
		event_guest_barrier(&g);
		CHECK_EQ(event_guest_is_signalled(g.err_fd), i == 0);
	}
	event_guest_expect(&g, "");
	event_guest_destroy(&g);
}

int main(void)
{
	test_fields();
	test_merging();
	test_losses();
	test_errors();
	test_expire();
	test_expire_is_not_for_everybody();
	test_rfc2021();
	test_broken_ring();
	return 0;
}
