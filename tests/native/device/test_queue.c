/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue by itself: its driver is this test, its requests ask for nothing of the host. Some are
 * answered at once, others are deferred (as those that Python serves are) and answered from here.
 */
#include "device/queue.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/util.h"
#include "check.h"
#include "fuse/deferred.h"
#include "fuse/fuse.h"
#include "fuse/upcall.h"
#include "fuse/wire.h"
#include "guest.h"
#include "null_hostfs.h"
#include "virtio/dirty_log.h"

enum {
	NUM = 64,
	SLOTS = NUM / 2,     /* a request has two descriptors: head 2 * slot is its first */
	SLOT_BYTES = 0x1000, /* a page, for the dirty log */
	IN_BYTES = 0x400,
	OUT_BYTES = 0x400,
	AT_ONCE = 3999, /* nobody serves it */
	LATER = 4000,
	DEADLINE_MS = 60000,
	STEPS = 30000,
	LOG_BYTES = 64,
};

/* Slots are where other tests have tables and data. */
_Static_assert(GUEST_TABLE + SLOTS * SLOT_BYTES <= GUEST_LOW_GPA + GUEST_LOW_BYTES, "memory");

enum state { FREE, ASKED_AT_ONCE, ASKED_LATER, ASKED_INIT };

struct slot {
	enum state state;
	uint64_t unique;
	uint64_t id;	  /* of a deferred request that has been taken; 0: it has not */
	bool answered;	  /* it has, by us */
	bool interrupted; /* it may have been */
	bool ended;	  /* the session may have, since */
};

static struct {
	struct vfsd_hostfs fs;
	struct vfsd_inodes *inodes;
	struct vfsd_open_files *handles;
	struct vfsd_upcalls *upcalls;
	struct vfsd_fuse *fuse;
	struct guest guest; /* one region */
	int memory_fd;
	struct vfsd_dirtylog *log; /* NULL: none */
	uint8_t *log_bits;
	struct guest_ring driver;
	struct vfsd_queue *queue;
	uint32_t threads;
	bool event_idx;
	int kick_fd, call_fd, err_fd;
	struct slot slots[SLOTS];
	uint64_t unique;
	uint32_t in_flight;
	uint32_t inits; /* of these */
	uint64_t random;
} test;

static uint32_t pick(uint32_t n)
{
	test.random = test.random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(test.random >> 33) % n;
}

static void map_memory(void)
{
	const struct vfsd_mem_region_desc desc = {.gpa = GUEST_LOW_GPA,
						  .size = GUEST_LOW_BYTES,
						  .uva = GUEST_UVA + GUEST_LOW_GPA,
						  .fd = dup(test.memory_fd)};

	CHECK_EQ(vfsd_mem_create(&desc, 1, &test.guest.mem), 0);
}

static void start_queue(uint16_t base)
{
	struct vfsd_queue_config config = {
		.index = 2,
		.threads = test.threads,
		.poll_us = 20,
		.fuse = test.fuse,
		.mem = test.guest.mem,
		.setup = guest_setup(NUM, test.event_idx, base),
		.kick_fd = test.kick_fd,
		.call_fd = test.call_fd,
		.err_fd = test.err_fd,
	};

	config.setup.log = test.log;
	CHECK_EQ(vfsd_queue_start(&config, &test.queue), 0);
}

/* Both sides of an empty ring at @base. */
static void start_ring(uint16_t base)
{
	struct vfsd_vring unused;

	guest_ring_init(&test.driver, &unused, &test.guest, NUM, test.event_idx, base);
	start_queue(base);
}

static uint64_t slot_gpa(uint16_t slot)
{
	return GUEST_TABLE + slot * (uint64_t)SLOT_BYTES;
}

static void kick(void)
{
	if (guest_ring_publish(&test.driver))
		CHECK_EQ(eventfd_write(test.kick_fd, 1), 0);
}

/* A request with @bytes of @body, not published. */
static void offer(uint16_t index, uint32_t opcode, const void *body, size_t bytes)
{
	struct slot *slot = &test.slots[index];
	const struct fuse_in_header header = {.len = (uint32_t)(sizeof(header) + bytes),
					      .opcode = opcode,
					      .unique = ++test.unique,
					      .nodeid = VFSD_NODEID_ROOT};
	uint64_t gpa = slot_gpa(index);

	*slot = (struct slot){.unique = test.unique,
			      .state = opcode == LATER	   ? ASKED_LATER :
				       opcode == FUSE_INIT ? ASKED_INIT :
							     ASKED_AT_ONCE,
			      .ended = test.inits > 0};
	test.inits += opcode == FUSE_INIT;
	guest_write(&test.guest, gpa, &header, sizeof(header));
	guest_write(&test.guest, gpa + sizeof(header), body, bytes);
	test.driver.desc[2 * index] =
		guest_desc(gpa, header.len, VFSD_VRING_DESC_NEXT, (uint16_t)(2 * index + 1));
	test.driver.desc[2 * index + 1] =
		guest_desc(gpa + IN_BYTES, OUT_BYTES, VFSD_VRING_DESC_WRITE, 0);
	guest_ring_offer(&test.driver, (uint16_t)(2 * index));
	test.in_flight++;
}

static void submit(uint16_t slot, uint32_t opcode)
{
	offer(slot, opcode, "body", 4);
	kick();
}

/* Whether this is a reply that the request may have. */
static void check_reply(const struct slot *slot, const struct fuse_out_header *header,
			const uint8_t *payload)
{
	switch (slot->state) {
	case ASKED_AT_ONCE:
		CHECK(header->error == -ENOSYS || (slot->ended && header->error == -EIO));
		break;
	case ASKED_LATER:
		if (header->error == 0) {
			CHECK(slot->answered);
			CHECK_EQ(header->len, sizeof(*header) + sizeof(slot->unique));
			CHECK(memcmp(payload, &slot->unique, sizeof(slot->unique)) == 0);
		} else if (header->error == -EINTR) {
			CHECK(slot->interrupted);
		} else {
			CHECK_EQ(header->error, -EIO);
			CHECK(slot->ended);
		}
		break;
	case ASKED_INIT:
		CHECK_EQ(header->error, 0);
		break;
	case FREE:
		CHECK(false);
	}
}

/* Take one reply, if there is one. Returns its slot or -1. */
static int take_reply(void)
{
	struct fuse_out_header header;
	struct slot *slot;
	uint32_t id, len;
	const uint8_t *out;

	if (!guest_ring_take(&test.driver, &id, &len))
		return -1;
	CHECK(id % 2 == 0 && id < NUM);
	slot = &test.slots[id / 2];
	CHECK(slot->state != FREE);
	out = guest_at(&test.guest, slot_gpa((uint16_t)(id / 2)) + IN_BYTES);
	memcpy(&header, out, sizeof(header));
	CHECK_EQ(header.unique, slot->unique);
	CHECK_EQ(header.len, len);
	check_reply(slot, &header, out + sizeof(header));
	test.inits -= slot->state == ASKED_INIT;
	slot->state = FREE;
	test.in_flight--;
	return (int)id / 2;
}

/* The same, waiting for it as a driver does. */
static int await_reply(void)
{
	struct pollfd fd = {.fd = test.call_fd, .events = POLLIN};
	eventfd_t ignored;
	int slot = take_reply();

	while (slot < 0) {
		if (!guest_ring_enable_call(&test.driver)) {
			CHECK_EQ(poll(&fd, 1, DEADLINE_MS), 1);
			CHECK_EQ(eventfd_read(test.call_fd, &ignored), 0);
		}
		slot = take_reply();
	}
	return slot;
}

static struct slot *slot_of(uint64_t unique)
{
	for (int i = 0; i < SLOTS; i++)
		if (test.slots[i].state != FREE && test.slots[i].unique == unique)
			return &test.slots[i];
	return NULL;
}

/* Take all requests that were deferred, and hear of those that have gone. */
static void take_upcalls(void)
{
	const struct vfsd_upcall *call;
	enum vfsd_upcall_news news;

	while ((news = vfsd_upcalls_next(test.upcalls, &call)) != VFSD_UPCALL_NONE) {
		struct slot *slot = slot_of(call->header.unique);

		if (news == VFSD_UPCALL_REQUEST) {
			CHECK(slot && slot->id == 0 && slot->state == ASKED_LATER);
			CHECK(call->body_bytes == 4 && memcmp(call->body, "body", 4) == 0);
			slot->id = call->id;
		} else if (slot && slot->id == call->id) {
			slot->id = 0;
		}
	}
}

/* Answer a request that has been taken. */
static int answer(struct slot *slot)
{
	uint64_t id = slot->id;
	int result;

	slot->id = 0;
	slot->answered = true;
	result = vfsd_upcalls_answer(test.upcalls, id, 0, &slot->unique, sizeof(slot->unique));
	slot->answered = result == 0;
	return result;
}

/* Wait until the request in @index has been taken. */
static void await_taken(uint16_t index)
{
	struct pollfd fd = {.fd = vfsd_upcalls_fd(test.upcalls), .events = POLLIN};

	while (test.slots[index].id == 0) {
		CHECK_EQ(poll(&fd, 1, DEADLINE_MS), 1);
		take_upcalls();
	}
}

/*
 * Stop the queue. Whatever was not answered goes back: it lies between the base and what the driver has
 * offered. Nothing is placed on the ring from then on.
 */
static uint16_t stop_queue(void)
{
	uint16_t base = vfsd_queue_stop(test.queue);
	uint16_t used;

	while (take_reply() >= 0)
		;
	CHECK_EQ((uint16_t)(test.driver.next_avail - base), test.in_flight);
	used = vfsd_vring_load(&test.driver.used->idx);
	CHECK_EQ(base, used);
	for (int i = 0; i < SLOTS; i++)
		if (test.slots[i].state != FREE && test.slots[i].id != 0)
			CHECK_EQ(answer(&test.slots[i]), -ENOENT);
	/* What has gone is heard of here, so that the next is not taken for it. */
	for (const struct vfsd_upcall *call;;)
		if (vfsd_upcalls_next(test.upcalls, &call) == VFSD_UPCALL_NONE)
			break;
	CHECK_EQ(vfsd_vring_load(&test.driver.used->idx), used);
	return base;
}

static void offer_init(uint16_t slot)
{
	const struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION,
					.minor = FUSE_KERNEL_MINOR_VERSION};

	offer(slot, FUSE_INIT, &in, FUSE_INIT_IN_OLD_BYTES);
	for (int i = 0; i < SLOTS; i++)
		test.slots[i].ended = test.slots[i].state != FREE;
	kick();
}

static void set_up(uint32_t threads, bool event_idx, uint16_t base)
{
	static const uint32_t opcodes[] = {LATER};
	struct vfsd_fuse_config config = {.upcall_opcodes = opcodes, .n_upcall_opcodes = 1};
	const struct vfsd_inodes_config inodes = {.options.file_handles = VFSD_HANDLES_NEVER,
						  .proc_self_fd = -1};

	memset(&test, 0, sizeof(test));
	test.threads = threads;
	test.event_idx = event_idx;
	null_hostfs_create(&test.fs);
	CHECK_EQ(vfsd_inodes_create(&inodes, open("/usr", O_PATH | O_CLOEXEC), &test.inodes), 0);
	test.fs.inodes = test.inodes;
	CHECK_EQ(vfsd_open_files_create(NULL, &test.handles), 0);
	CHECK_EQ(vfsd_upcalls_create(&test.upcalls), 0);
	config.upcalls = test.upcalls;
	CHECK_EQ(vfsd_fuse_create(&config, NULL, &null_hostfs_ops, &test.fs, test.inodes,
				  test.handles, &test.fuse),
		 0);
	test.memory_fd = memfd_create("guest", MFD_CLOEXEC);
	CHECK_EQ(ftruncate(test.memory_fd, GUEST_LOW_BYTES), 0);
	test.guest.regions[0].gpa = GUEST_LOW_GPA;
	test.guest.regions[0].bytes = GUEST_LOW_BYTES;
	test.guest.regions[0].view =
		mmap(NULL, GUEST_LOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, test.memory_fd, 0);
	CHECK(test.guest.regions[0].view != MAP_FAILED);
	map_memory();
	test.kick_fd = eventfd(0, EFD_CLOEXEC);
	test.call_fd = eventfd(0, EFD_CLOEXEC);
	test.err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	start_ring(base);
	offer_init(0);
	CHECK_EQ(await_reply(), 0);
}

static void tear_down(void)
{
	if (test.queue)
		(void)stop_queue();
	vfsd_fuse_destroy(test.fuse);
	vfsd_upcalls_destroy(test.upcalls);
	vfsd_open_files_destroy(test.handles);
	vfsd_inodes_destroy(test.inodes);
	null_hostfs_destroy(&test.fs);
	vfsd_dirtylog_destroy(test.log);
	guest_destroy(&test.guest);
	CHECK_EQ(close(test.memory_fd), 0);
	CHECK_EQ(close(test.kick_fd), 0);
	CHECK_EQ(close(test.call_fd), 0);
	CHECK_EQ(close(test.err_fd), 0);
}

/* More than a batch, round and round; in order where one thread serves them. */
static void test_answers(uint32_t threads, bool event_idx)
{
	set_up(threads, event_idx, 0xfff0);
	for (int round = 0; round < 200; round++) {
		uint16_t n = (uint16_t)(1 + pick(SLOTS));

		for (uint16_t i = 0; i < n; i++)
			offer(i, AT_ONCE, "body", 4);
		kick();
		for (uint16_t i = 0; i < n; i++) {
			int slot = await_reply();

			if (threads == 1)
				CHECK_EQ(slot, i);
		}
	}
	CHECK_EQ(test.in_flight, 0);
	tear_down();
}

/* A request behind one that is deferred is answered before it; it comes when it is answered. */
static void test_later(uint32_t threads, bool event_idx)
{
	set_up(threads, event_idx, 0);
	submit(0, LATER);
	await_taken(0);
	for (int i = 0; i < 100; i++) {
		submit(1, AT_ONCE);
		CHECK_EQ(await_reply(), 1);
	}
	CHECK_EQ(answer(&test.slots[0]), 0);
	CHECK_EQ(await_reply(), 0);
	tear_down();
}

static bool is_signalled(void)
{
	struct pollfd fd = {.fd = test.call_fd, .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

/* A late reply signals the driver if that wants it, as any other. */
static void test_suppression(bool event_idx)
{
	eventfd_t ignored;

	set_up(1, event_idx, 0);
	if (is_signalled())
		CHECK_EQ(eventfd_read(test.call_fd, &ignored), 0);
	for (int wanted = 0; wanted < 2; wanted++) {
		submit(0, LATER);
		await_taken(0);
		if (wanted)
			CHECK(!guest_ring_enable_call(&test.driver));
		else if (event_idx)
			vfsd_vring_store(&test.driver.avail->ring[NUM],
					 (uint16_t)(test.driver.next_used + 100));
		else
			guest_ring_disable_call(&test.driver);
		CHECK_EQ(answer(&test.slots[0]), 0);
		/* The answer was ours: it has signalled by now, or has not. */
		CHECK_EQ(is_signalled(), wanted);
		CHECK_EQ(take_reply(), 0);
	}
	tear_down();
}

static bool is_marked(uint64_t gpa)
{
	uint64_t page = gpa / VFSD_DIRTYLOG_PAGE_BYTES;

	return test.log_bits[page / 8] & (1 << page % 8);
}

/* Pages that a late reply has written to are marked; so is an available entry that is written to. */
static void test_dirty_log(void)
{
	int fd = memfd_create("log", MFD_CLOEXEC);
	uint16_t base;

	set_up(1, true, 0);
	CHECK_EQ(ftruncate(fd, LOG_BYTES), 0);
	test.log_bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(test.log_bits != MAP_FAILED);
	CHECK_EQ(vfsd_dirtylog_create(fd, LOG_BYTES, 0, &test.log), 0);
	base = stop_queue();
	start_queue(base);
	submit(1, LATER);
	submit(2, LATER);
	submit(3, AT_ONCE);
	await_taken(1);
	await_taken(2);
	CHECK_EQ(await_reply(), 3);
	CHECK(is_marked(slot_gpa(3)));
	CHECK(!is_marked(slot_gpa(1)));
	CHECK_EQ(answer(&test.slots[1]), 0);
	CHECK(is_marked(slot_gpa(1)));
	CHECK(!is_marked(slot_gpa(2)));
	CHECK_EQ(await_reply(), 1);
	CHECK(!is_marked(GUEST_AVAIL));
	base = stop_queue();
	CHECK(is_marked(GUEST_AVAIL));
	CHECK(!is_marked(slot_gpa(2)));
	start_queue(base);
	await_taken(2);
	CHECK_EQ(answer(&test.slots[2]), 0);
	CHECK_EQ(await_reply(), 2);
	(void)munmap(test.log_bits, LOG_BYTES);
	tear_down();
}

/* A broken ring is reported, and nothing more comes from it, but what was deferred before. */
static void test_broken(uint32_t threads)
{
	struct pollfd fd;
	uint16_t base;

	set_up(threads, true, 0);
	submit(0, LATER);
	await_taken(0);
	vfsd_vring_store_release(&test.driver.avail->idx,
				 (uint16_t)(test.driver.next_avail + NUM + 1));
	CHECK_EQ(eventfd_write(test.kick_fd, 1), 0);
	fd = (struct pollfd){.fd = test.err_fd, .events = POLLIN};
	CHECK_EQ(poll(&fd, 1, DEADLINE_MS), 1);
	CHECK_EQ(answer(&test.slots[0]), 0);
	CHECK_EQ(await_reply(), 0);
	/* The front-end mends it. */
	base = stop_queue();
	vfsd_vring_store_release(&test.driver.avail->idx, test.driver.next_avail);
	start_queue(base);
	submit(1, AT_ONCE);
	CHECK_EQ(await_reply(), 1);
	tear_down();
}

static void test_call(void)
{
	int other = eventfd(0, EFD_CLOEXEC), first;
	struct pollfd fd = {.fd = other, .events = POLLIN};

	set_up(1, false, 0);
	first = test.call_fd;
	vfsd_queue_set_call(test.queue, other);
	/* The old one may have swallowed a signal. */
	CHECK_EQ(poll(&fd, 1, 0), 1);
	test.call_fd = other;
	submit(0, LATER);
	await_taken(0);
	CHECK_EQ(answer(&test.slots[0]), 0);
	CHECK_EQ(await_reply(), 0);
	CHECK_EQ(close(first), 0);
	tear_down();
}

/* Everything in any order, against what a driver may expect. */

static uint16_t free_slot(void)
{
	uint16_t index = (uint16_t)pick(SLOTS);

	while (test.slots[index].state != FREE)
		index = (uint16_t)((index + 1) % SLOTS);
	return index;
}

static void stop_and_go_on(void)
{
	const uint16_t base = stop_queue();

	if (pick(2)) {
		vfsd_mem_destroy(test.guest.mem);
		map_memory();
	}
	if (pick(4) == 0) {
		/* Another guest: an empty ring somewhere else. */
		memset(test.slots, 0, sizeof(test.slots));
		test.in_flight = test.inits = 0;
		start_ring((uint16_t)pick(UINT16_MAX));
		offer_init(0);
		CHECK_EQ(await_reply(), 0);
		return;
	}
	start_queue(base);
}

static void interrupt_one(void)
{
	struct slot *slot = &test.slots[pick(SLOTS)];
	bool asked = slot->state == ASKED_LATER;

	slot->interrupted |= asked;
	/* One that has not been taken from the ring yet is not known. */
	if (vfsd_deferrals_interrupt(vfsd_fuse_deferrals(test.fuse), slot->unique))
		return;
	take_upcalls();
}

static void answer_one(void)
{
	struct slot *slot = &test.slots[pick(SLOTS)];

	take_upcalls();
	if (slot->state == ASKED_LATER && slot->id != 0) {
		int result = answer(slot);

		CHECK(result == 0 || slot->interrupted || slot->ended);
	}
}

static void test_anything(uint32_t threads, bool event_idx, uint64_t seed)
{
	set_up(threads, event_idx, (uint16_t)seed);
	test.random = seed;
	for (int step = 0; step < STEPS; step++) {
		uint32_t what = pick(100);

		if (what < 30 && test.in_flight < SLOTS)
			submit(free_slot(), AT_ONCE);
		else if (what < 55 && test.in_flight < SLOTS)
			submit(free_slot(), LATER);
		else if (what < 80)
			answer_one();
		else if (what < 90)
			interrupt_one();
		else if (what < 98)
			(void)take_reply();
		else if (what == 98 && test.in_flight < SLOTS)
			offer_init(free_slot());
		else if (step % 8 == 0)
			stop_and_go_on();
	}
	/* Each is answered in the end. */
	while (test.in_flight > 0) {
		take_upcalls();
		for (int i = 0; i < SLOTS; i++)
			if (test.slots[i].state == ASKED_LATER && test.slots[i].id != 0)
				(void)answer(&test.slots[i]);
		(void)take_reply();
	}
	tear_down();
}

/* Threads that answer all the time, while the queue is stopped and started. */

static atomic_bool done;

static void *answer_all(void *arg)
{
	struct pollfd fd = {.fd = vfsd_upcalls_fd(test.upcalls), .events = POLLIN};

	(void)arg;
	while (!atomic_load(&done)) {
		const struct vfsd_upcall *call;

		(void)poll(&fd, 1, 10);
		while (vfsd_upcalls_next(test.upcalls, &call) == VFSD_UPCALL_REQUEST) {
			uint64_t unique = call->header.unique;
			int error = vfsd_upcalls_answer(test.upcalls, call->id, 0, &unique,
							sizeof(unique));

			CHECK(error == 0 || error == -ENOENT);
		}
	}
	return NULL;
}

static void test_stop_while_answered(uint32_t threads)
{
	pthread_t thread;

	set_up(threads, true, 0);
	atomic_store(&done, false);
	CHECK_EQ(pthread_create(&thread, NULL, answer_all, NULL), 0);
	for (int round = 0; round < 300; round++) {
		uint16_t base;

		for (uint16_t i = 0; i < SLOTS; i++) {
			offer(i, i % 3 ? LATER : AT_ONCE, "body", 4);
			test.slots[i].answered = true;
		}
		kick();
		for (uint32_t n = pick(SLOTS); n > 0; n--)
			(void)await_reply();
		base = vfsd_queue_stop(test.queue);
		while (take_reply() >= 0)
			;
		CHECK_EQ((uint16_t)(test.driver.next_avail - base), test.in_flight);
		vfsd_mem_destroy(test.guest.mem);
		map_memory();
		start_queue(base);
		while (test.in_flight > 0)
			(void)await_reply();
	}
	atomic_store(&done, true);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	tear_down();
}

int main(void)
{
	for (uint32_t threads = 1; threads <= 3; threads += 2) {
		for (int event_idx = 0; event_idx < 2; event_idx++) {
			test_answers(threads, event_idx);
			test_later(threads, event_idx);
			test_anything(threads, event_idx, 1 + threads);
			test_anything(threads, event_idx, 0xfffe);
		}
		test_broken(threads);
		test_stop_while_answered(threads);
	}
	test_suppression(false);
	test_suppression(true);
	test_dirty_log();
	test_call();
	return 0;
}
