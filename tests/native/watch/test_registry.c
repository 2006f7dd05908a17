/* SPDX-License-Identifier: BSD-3-Clause */
/* Consumers that come and go, with the thread and the source that only they need. */
#include "client.h"
#include "fake_source.h"

#include <poll.h>

enum { RING_BYTES = VFSD_SHM_RING_BYTES_MIN };

struct fixture {
	struct tree tree;
	struct vfsd_watch_config config;
	struct vfsd_watch_registry *registry;
	unsigned int fds;
};

static void set_up_with(struct fixture *f, const struct vfsd_source_ops *source,
			const struct vfsd_source_ops *fallback)
{
	fake_reset();
	*f = (struct fixture){.fds = tree_count_fds()};
	tree_create(&f->tree);
	CHECK_EQ(mkdirat(f->tree.fd, "a", 0700), 0);
	f->config = (struct vfsd_watch_config){
		.source = source,
		.fallback = fallback,
		.root_fd = openat(f->tree.fd, ".", O_PATH | O_CLOEXEC),
		.proc_self_fd = tree_proc_self_fd(),
		.inode.file_handles = VFSD_HANDLES_NEVER,
	};
	CHECK_EQ(vfsd_watch_registry_create(&f->config, &f->registry), 0);
}

static void set_up(struct fixture *f)
{
	set_up_with(f, &fake_source_merged, NULL);
}

/* End all consumers. */
static void stop(struct fixture *f)
{
	vfsd_watch_registry_destroy(f->registry);
	f->registry = NULL;
	CHECK(!fake.now);
}

static void tear_down(struct fixture *f)
{
	stop(f);
	CHECK_EQ(close(f->config.root_fd) | close(f->config.proc_self_fd), 0);
	tree_destroy(&f->tree);
	CHECK_EQ(tree_count_fds(), f->fds);
}

struct consumer {
	int number;
	int connection;
	vfsd_shm_reader *reader;
};

static int add_with(struct fixture *f, struct consumer *consumer, vfsd_watch_request request)
{
	int ends[2], ring_fd = -1;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	consumer->connection = ends[1];
	consumer->reader = NULL;
	memset(request.subtypes, 0xff, sizeof(request.subtypes));
	request.types = ~0u & ~(1u << VFSD_RECORD_ERROR);
	consumer->number = vfsd_watch_add_consumer(f->registry, &request, ends[0], &ring_fd);
	if (consumer->number < 0)
		CHECK_EQ(close(consumer->connection), 0);
	else
		CHECK_EQ(vfsd_shm_reader_create(ring_fd, &consumer->reader), 0);
	return consumer->number;
}

static int add(struct fixture *f, struct consumer *consumer, const char *path)
{
	const vfsd_watch_spec watch = {
		.id = 7, .mask = VFSD_WATCH_EVENTS, .recursive = true, .path = path};

	return add_with(
		f, consumer,
		(vfsd_watch_request){.ring_bytes = RING_BYTES, .watches = &watch, .n_watches = 1});
}

/* The connection of a consumer that was removed is at its end. */
static void drop(struct consumer *consumer)
{
	char bytes[16];

	while (read(consumer->connection, bytes, sizeof(bytes)) > 0)
		;
	vfsd_shm_reader_destroy(consumer->reader);
	CHECK_EQ(close(consumer->connection), 0);
}

/* The next record as text; waits for it as a client does. */
static const char *next(struct consumer *consumer)
{
	static char text[PATH_MAX + 64];
	vfsd_ring_entry entry;
	char byte;

	while (vfsd_shm_reader_next(consumer->reader, &entry) == 0)
		CHECK_EQ(read(consumer->connection, &byte, 1), 1);
	client_format(&entry, text, sizeof(text));
	vfsd_shm_reader_release(consumer->reader);
	return text;
}

static void test_all_of_it_goes_with_the_last_one(void)
{
	struct consumer first, second;
	struct fixture f;

	set_up(&f);
	CHECK(!fake.now);
	CHECK_EQ(vfsd_watch_remove_consumer(f.registry, 1), -ENOENT);
	CHECK(add(&f, &first, "") > 0);
	CHECK_EQ(fake.created, 1);
	CHECK(fake.now->config.everything); /* what guests do, too */
	CHECK(add(&f, &second, "a") > 0);
	CHECK(second.number != first.number);
	CHECK_EQ(fake.created, 1);
	CHECK_EQ(vfsd_watch_remove_consumer(f.registry, first.number), 0);
	CHECK_EQ(vfsd_watch_remove_consumer(f.registry, first.number), -ENOENT);
	CHECK(fake.now);
	CHECK_EQ(vfsd_watch_remove_consumer(f.registry, second.number), 0);
	CHECK(!fake.now);
	drop(&first);
	drop(&second);
	/* And comes again. */
	CHECK(add(&f, &first, "") > second.number);
	CHECK_EQ(fake.created, 2);
	stop(&f);
	drop(&first);
	tear_down(&f);
}

/* The thread dispatches what the source has: to those who watch there, and to nobody else. */
static void test_events_reach_those_who_watch_there(void)
{
	struct consumer all, below;
	vfsd_ring_entry entry;
	struct fixture f;

	set_up(&f);
	CHECK(add(&f, &all, "") > 0 && add(&f, &below, "a") > 0);
	CHECK(strcmp(next(&all), "ready ") == 0);
	CHECK(strcmp(next(&below), "ready a") == 0);
	fake_event((struct vfsd_source_event){
		.nodeid = VFSD_NODEID_ROOT, .mask = FAN_CREATE, .name = "x"});
	fake_event((struct vfsd_source_event){
		.nodeid = VFSD_NODEID_ROOT, .mask = FAN_CREATE, .name = "y"});
	fake_wake();
	CHECK(strcmp(next(&all), "create x") == 0);
	CHECK(strcmp(next(&all), "create y") == 0);
	fake_loss();
	fake_wake();
	CHECK(strcmp(next(&all), "loss 1") == 0);
	/* The other one has had its turn by now: the loss is all that is its. */
	CHECK(strcmp(next(&below), "loss 1") == 0);
	CHECK_EQ(vfsd_shm_reader_next(below.reader, &entry), 0);
	stop(&f);
	drop(&all);
	drop(&below);
	tear_down(&f);
}

static void test_refused(void)
{
	const vfsd_watch_spec watch = {.id = 7, .mask = FAN_CREATE, .path = ""};
	static vfsd_watch_spec many[VFSD_WATCHES_MAX + 1];
	struct consumer consumers[VFSD_WATCH_CONSUMERS_MAX], one;
	struct fixture f;

	for (size_t i = 0; i < VFSD_WATCHES_MAX + 1; i++)
		many[i] = watch;
	set_up(&f);
	for (uint32_t bytes = 0; bytes <= RING_BYTES; bytes += RING_BYTES / 2 + 1)
		CHECK_EQ(add_with(&f, &one,
				  (vfsd_watch_request){.ring_bytes = bytes ? bytes : 0,
						       .watches = &watch,
						       .n_watches = 1}),
			 -EINVAL);
	CHECK_EQ(add_with(&f, &one,
			  (vfsd_watch_request){.ring_bytes = RING_BYTES,
					       .watches = many,
					       .n_watches = VFSD_WATCHES_MAX + 1}),
		 -EINVAL);
	CHECK(!fake.now); /* what fails leaves nothing */
	for (int i = 0; i < VFSD_WATCH_CONSUMERS_MAX; i++)
		CHECK(add(&f, &consumers[i], "") > 0);
	CHECK_EQ(add(&f, &one, ""), -EUSERS);
	CHECK_EQ(vfsd_watch_remove_consumer(f.registry, consumers[3].number), 0);
	drop(&consumers[3]);
	CHECK(add(&f, &consumers[3], "") > 0);
	stop(&f);
	for (int i = 0; i < VFSD_WATCH_CONSUMERS_MAX; i++)
		drop(&consumers[i]);
	tear_down(&f);
}

static int fails(const struct vfsd_source_config *config, struct vfsd_source **ret)
{
	(void)config, (void)ret;
	return -EPERM;
}

static void test_sources(void)
{
	static const struct vfsd_source_ops broken = {.create = fails};
	struct consumer consumer;
	struct fixture f;

	set_up_with(&f, &broken, NULL);
	CHECK_EQ(add(&f, &consumer, ""), -EPERM);
	tear_down(&f);

	set_up_with(&f, &broken, &fake_source_server);
	CHECK(add(&f, &consumer, "") > 0);
	CHECK_EQ(fake.created, 1);
	stop(&f);
	drop(&consumer);
	tear_down(&f);

	set_up_with(&f, &fake_source_merged, &fake_source_server);
	fake.create_error = -EMFILE;
	CHECK_EQ(add(&f, &consumer, ""), -EMFILE);
	fake.create_error = 0;
	CHECK(add(&f, &consumer, "") > 0);
	stop(&f);
	drop(&consumer);
	tear_down(&f);
}

/* A consumer that is removed ends its watches, and not the same ones of others. */
static void test_watches_end_with_their_consumer(void)
{
	struct consumer first, second;
	struct fixture f;
	uint32_t mask;

	set_up(&f);
	CHECK(add(&f, &first, "") > 0 && add(&f, &second, "") > 0);
	CHECK(strcmp(next(&first), "ready ") == 0);
	CHECK(strcmp(next(&second), "ready ") == 0);
	mask = fake_watched(VFSD_NODEID_ROOT);
	CHECK_EQ(mask & VFSD_WATCH_EVENTS, VFSD_WATCH_EVENTS);
	CHECK_EQ(vfsd_watch_remove_consumer(f.registry, first.number), 0);
	CHECK_EQ(fake_watched(VFSD_NODEID_ROOT), mask);
	fake_event((struct vfsd_source_event){
		.nodeid = VFSD_NODEID_ROOT, .mask = FAN_CREATE, .name = "x"});
	fake_wake();
	CHECK(strcmp(next(&second), "create x") == 0);
	stop(&f);
	drop(&first);
	drop(&second);
	tear_down(&f);
}

int main(void)
{
	test_all_of_it_goes_with_the_last_one();
	test_events_reach_those_who_watch_there();
	test_refused();
	test_sources();
	test_watches_end_with_their_consumer();
	return 0;
}
