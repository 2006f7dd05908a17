/* SPDX-License-Identifier: BSD-3-Clause */
/* Sessions, their rings, their thread: who gets which events, and what does not outlive a session. */
#include "event_guest.h"

static void host_makes(struct event_guest *g, const char *name)
{
	fake_event((struct vfsd_source_event){
		.nodeid = g->dir->nodeid, .mask = FAN_CREATE, .name = name});
}

static bool start(struct event_guest *g, bool fsnotify, uint32_t *server_mask)
{
	return g->hooks.session_start(g->hooks.ctx, fsnotify, server_mask);
}

static void test_what_init_grants(void)
{
	static const struct {
		bool server, rfc2021, offered, asked, fails, granted;
		uint32_t server_mask;
	} table[] = {
		{false, false, true, true, false, true, 0},
		{true, false, true, true, false, true, FAKE_SERVER_MASK},
		{true, true, true, true, false, true, 0}, /* it has no word for the mask */
		{true, false, false, true, false, false, 0},
		{true, false, true, false, false, false, 0},
		{true, false, true, true, true, false, 0},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct event_guest g;
		uint32_t mask = 99;

		event_guest_create_with(&g,
					table[i].server ? &fake_source_server : &fake_source_merged,
					NULL, table[i].rfc2021);
		vfsd_events_set_offered(g.events, table[i].offered);
		fake.create_error = table[i].fails ? -EMFILE : 0;
		CHECK_EQ(start(&g, table[i].asked, &mask), table[i].granted);
		CHECK_EQ(mask, table[i].server_mask);
		CHECK_EQ(fake.now != NULL, table[i].granted);
		event_guest_destroy(&g);
	}
}

static void test_probe(void)
{
	struct event_guest g;
	int why;

	event_guest_create_with(&g, &fake_source_merged, &fake_source_server, false);
	CHECK_EQ(vfsd_events_probe(g.events, &why), 0);
	CHECK_EQ(why, 0);
	CHECK_EQ(fake.created, 1);
	CHECK_EQ(fake.destroyed, 1);
	fake.create_error = -ENOSYS;
	CHECK_EQ(vfsd_events_probe(g.events, &why), -ENOSYS);
	CHECK_EQ(why, -ENOSYS);
	event_guest_destroy(&g);
}

static int fails(const struct vfsd_source_config *config, struct vfsd_source **ret)
{
	(void)config, (void)ret;
	return -EPERM;
}

/* The fallback is what sessions use from then on. */
static void test_fallback(void)
{
	static const struct vfsd_source_ops broken = {.create = fails};
	struct event_guest g;
	uint32_t mask;
	int why;

	event_guest_create_with(&g, &broken, &fake_source_server, false);
	CHECK_EQ(vfsd_events_probe(g.events, &why), 1);
	CHECK_EQ(why, -EPERM);
	vfsd_events_set_offered(g.events, true);
	CHECK(start(&g, true, &mask));
	CHECK_EQ(mask, FAKE_SERVER_MASK);
	event_guest_destroy(&g);
}

/* INIT again, and DESTROY: neither watches nor unread events are the next session's. */
static void test_nothing_outlives_a_session(void)
{
	for (int again = 0; again < 2; again++) {
		struct event_guest g;
		uint32_t mask;

		event_guest_create(&g);
		vfsd_events_set_offered(g.events, true);
		CHECK(start(&g, true, &mask));
		CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
		event_guest_start_ring(&g, 0, 0, false);
		host_makes(&g, "old");
		event_guest_barrier(&g); /* it waits in the record ring */
		if (!again)
			g.hooks.session_end(g.hooks.ctx);
		CHECK_EQ(fake.destroyed, !again);
		CHECK(start(&g, true, &mask));
		CHECK_EQ(fake_watched(g.dir->nodeid), 0);
		CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
		host_makes(&g, "new");
		event_guest_post(&g, 0);
		event_guest_barrier(&g);
		event_guest_expect(&g, "0x100 d - 0 new\n;");
		event_guest_destroy(&g);
	}
}

static void test_barriers(void)
{
	static const struct {
		bool server, rfc2021, watched, own, drains;
	} table[] = {
		{false, false, false, false, false},
		{false, false, true, false, true},
		{false, false, true, true, false}, /* the guest's own events are not the host's */
		{true, false, true, true, true},
		{true, true, true, true, false}, /* it would not look */
		{true, true, true, false, true},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct event_guest g;
		unsigned int drained;

		event_guest_create_with(&g,
					table[i].server ? &fake_source_server : &fake_source_merged,
					NULL, table[i].rfc2021);
		event_guest_begin(&g);
		if (table[i].watched)
			CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
		drained = fake.drained;
		host_makes(&g, "x");
		g.hooks.barrier(g.hooks.ctx, table[i].own);
		CHECK_EQ(fake.drained - drained, table[i].drains);
		CHECK_EQ(event_guest_take(&g)[0] != '\0', table[i].drains);
		event_guest_destroy(&g);
	}
}

static void wait_for(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	eventfd_t count;

	while (poll(&readable, 1, -1) < 0)
		CHECK_EQ(errno, EINTR);
	CHECK_EQ(eventfd_read(fd, &count), 0);
}

/* The thread delivers what the host raises, and what waits when the driver posts a buffer and kicks. */
static void test_thread(void)
{
	struct event_guest g;
	uint32_t mask;

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	host_makes(&g, "x");
	fake_wake();
	wait_for(g.call_fd);
	event_guest_expect(&g, "0x100 d - 0 x\n;");
	(void)event_guest_stop_ring(&g);

	event_guest_start_ring(&g, 0, 0, false);
	CHECK(start(&g, true, &mask));
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	host_makes(&g, "y");
	event_guest_barrier(&g);
	event_guest_post(&g, 0);
	CHECK_EQ(eventfd_write(g.kick_fd, 1), 0);
	wait_for(g.call_fd);
	event_guest_expect(&g, "0x100 d - 0 y\n;");
	event_guest_destroy(&g);
}

/* Stopped and started where it was, the ring goes on with the same session. */
static void test_the_ring_goes_on(void)
{
	struct event_guest g;
	uint16_t base;

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	host_makes(&g, "x");
	event_guest_barrier(&g);
	event_guest_expect(&g, "0x100 d - 0 x\n;");
	base = event_guest_stop_ring(&g);
	CHECK_EQ(base, 1);
	host_makes(&g, "y");
	event_guest_barrier(&g); /* there is no ring to put it into */
	event_guest_start_ring(&g, base, 1, false);
	event_guest_expect(&g, "0x100 d - 0 y\n;");
	event_guest_destroy(&g);
}

/*
 * A ring that begins anew may be another guest's. What waits for the one before is not for it, unless a request
 * ring says that it is the same.
 */
static void test_another_guest(void)
{
	static const struct {
		bool alone, anew;
		const char *want;
	} table[] = {
		{true, true, ""},
		{true, false, "0x100 d - 0 x\n;"}, /* the same guest */
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct event_guest g;

		event_guest_create(&g);
		event_guest_begin(&g);
		CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
		(void)event_guest_stop_ring(&g);
		host_makes(&g, "x");
		event_guest_barrier(&g);
		event_guest_start_ring(&g, 0, EVENT_GUEST_BUFFERS, table[i].alone);
		event_guest_expect(&g, "");
		vfsd_events_requests_begin(g.events, table[i].anew);
		event_guest_expect(&g, table[i].want);
		CHECK_EQ(fake.now == NULL, table[i].anew);
		event_guest_destroy(&g);
	}
}

/* While request rings run, a notification ring that had got somewhere and begins anew ends the session. */
static void test_a_ring_that_begins_anew(void)
{
	struct event_guest g;

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	host_makes(&g, "x");
	event_guest_barrier(&g);
	CHECK_EQ(event_guest_stop_ring(&g), 1);
	host_makes(&g, "y");
	event_guest_barrier(&g);
	event_guest_start_ring(&g, 0, EVENT_GUEST_BUFFERS, false);
	event_guest_expect(&g, "");
	CHECK(!fake.now);
	event_guest_destroy(&g);
}

/* A ring that cannot be started is not watched for kicks, and the next one works. */
static void test_a_ring_that_cannot_be_started(void)
{
	struct vfsd_vring_setup setup = guest_setup(3, false, 0); /* no power of two */
	struct event_guest g;

	event_guest_create(&g);
	CHECK(vfsd_events_start_ring(g.events, g.memory.mem, &setup, g.kick_fd, g.call_fd, g.err_fd,
				     false) < 0);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	host_makes(&g, "x");
	event_guest_barrier(&g);
	event_guest_expect(&g, "0x100 d - 0 x\n;");
	event_guest_destroy(&g);
}

static void test_another_call(void)
{
	struct event_guest g;
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	vfsd_events_set_call(g.events, other);
	CHECK(event_guest_is_signalled(other)); /* what the old one may have swallowed */
	host_makes(&g, "x");
	event_guest_barrier(&g);
	CHECK(event_guest_is_signalled(other));
	CHECK(!event_guest_is_signalled(g.call_fd));
	vfsd_events_set_call(g.events, -1);
	host_makes(&g, "y");
	event_guest_barrier(&g);
	CHECK(!event_guest_is_signalled(other));
	event_guest_expect(&g, "0x100 d - 0 x\n;0x100 d - 0 y\n;");
	event_guest_destroy(&g);
	CHECK_EQ(close(other), 0);
}

struct saved {
	uint64_t nodeid[4], owner[4];
	uint32_t mask[4];
	size_t n;
};

static void save_one(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask)
{
	struct saved *saved = ctx;

	CHECK(saved->n < 4);
	saved->nodeid[saved->n] = nodeid;
	saved->owner[saved->n] = owner;
	saved->mask[saved->n++] = mask;
}

static void test_migration(void)
{
	struct saved saved = {.n = 0};
	struct vfsd_inode *root;
	struct event_guest g;
	uint32_t mask = 99;

	event_guest_create(&g);
	CHECK_EQ(vfsd_events_save(g.events, &mask, save_one, &saved), -ENOENT);
	vfsd_events_release_nodes(g.events);
	CHECK_EQ(fake.released, 0);
	event_guest_begin(&g);
	root = vfsd_inode_get(g.inodes, VFSD_NODEID_ROOT);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	CHECK_EQ(vfsd_events_watch(g.events, root, VFSD_EVENTS_FILESYSTEM, FAN_OPEN), 0);
	vfsd_inode_put(g.inodes, root);
	vfsd_events_release_nodes(g.events);
	CHECK_EQ(fake.released, 1);
	CHECK_EQ(vfsd_events_save(g.events, &mask, save_one, &saved), 0);
	CHECK_EQ(mask, 0);
	CHECK_EQ(saved.n, 2);
	CHECK(saved.nodeid[0] == g.dir->nodeid && saved.owner[0] == 0 &&
	      saved.mask[0] == FAN_CREATE);
	CHECK(saved.nodeid[1] == VFSD_NODEID_ROOT && saved.owner[1] == VFSD_EVENTS_FILESYSTEM &&
	      saved.mask[1] == FAN_OPEN);

	/* The session of another daemon: without watches, and only if this one's source is the same. */
	CHECK_EQ(vfsd_events_resume(g.events, FAKE_SERVER_MASK), -ENOTSUP);
	CHECK(!fake.now);
	CHECK_EQ(vfsd_events_resume(g.events, UINT32_MAX), -ENOTSUP);
	fake.create_error = -EMFILE;
	CHECK_EQ(vfsd_events_resume(g.events, 0), -EMFILE);
	CHECK(!fake.now);
	fake.create_error = 0;
	CHECK_EQ(vfsd_events_resume(g.events, 0), 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), 0);
	CHECK_EQ(vfsd_events_watch(g.events, g.dir, 0, FAN_CREATE), 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_CREATE);
	event_guest_destroy(&g);

	event_guest_create_with(&g, &fake_source_server, NULL, true);
	event_guest_begin(&g);
	saved.n = 0;
	CHECK_EQ(vfsd_events_save(g.events, &mask, save_one, &saved), 0);
	CHECK_EQ(mask, UINT32_MAX);
	vfsd_events_release_nodes(g.events); /* the source holds none */
	CHECK_EQ(vfsd_events_resume(g.events, FAKE_SERVER_MASK), -ENOTSUP);
	CHECK_EQ(vfsd_events_resume(g.events, UINT32_MAX), 0);
	event_guest_destroy(&g);
}

int main(void)
{
	test_what_init_grants();
	test_probe();
	test_fallback();
	test_nothing_outlives_a_session();
	test_barriers();
	test_thread();
	test_the_ring_goes_on();
	test_another_guest();
	test_a_ring_that_begins_anew();
	test_a_ring_that_cannot_be_started();
	test_another_call();
	test_migration();
	return 0;
}
