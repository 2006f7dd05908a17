/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that go up: several at once, in any order, interrupted, gone; and only registered ones. */
#include "fuse/upcall.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/util.h"
#include "check.h"
#include "fuse_guest.h"

enum { ROOT = VFSD_NODEID_ROOT, OPCODE = 4000, SLOTS = 64, ROUNDS = 20000, ROOM = 32 };

static const uint32_t opcodes[] = {OPCODE, FUSE_STATFS, FUSE_GETLK, UINT32_MAX};

/* A pretended ring, whose chains are the slots; each has its own room for a reply. */
static struct {
	struct fuse_guest g;
	struct vfsd_upcalls *upcalls;
	uint8_t out[SLOTS][sizeof(struct fuse_out_header) + 100];
	_Atomic uint32_t written[SLOTS]; /* 0: not answered */
	uint32_t unpopped;
} test;

static void on_push(void *ctx, uint16_t head, const struct iovec *out, uint32_t n_out,
		    uint32_t written)
{
	(void)ctx;
	CHECK(head < SLOTS);
	CHECK(n_out == 1 && out->iov_base == test.out[head]);
	CHECK(written >= sizeof(struct fuse_out_header));
	CHECK_EQ(atomic_load(&test.written[head]), 0);
	atomic_store(&test.written[head], written);
}

static void on_unpop(void *ctx, uint16_t head)
{
	(void)ctx;
	CHECK_EQ(atomic_load(&test.written[head]), 0);
	test.unpopped++;
}

static void set_up(void)
{
	struct fuse_guest_config config = {
		.fuse = {.upcall_opcodes = opcodes, .n_upcall_opcodes = VFSD_ARRAY_SIZE(opcodes)}};

	CHECK_EQ(vfsd_upcalls_create(&test.upcalls), 0);
	config.fuse.upcalls = test.upcalls;
	fuse_guest_create(&test.g, &config);
	test.g.replies = (struct vfsd_reply_ring){.push = on_push, .limit = SLOTS};
	test.unpopped = 0;
}

static void tear_down(void)
{
	vfsd_reply_ring_stop(vfsd_fuse_deferrals(test.g.fuse), &test.g.replies, on_unpop);
	CHECK_EQ(test.g.replies.n, 0);
	fuse_guest_destroy(&test.g);
	vfsd_upcalls_destroy(test.upcalls);
}

/* Ask with the chain @slot, whose number is the request's unique, too. */
static enum vfsd_served ask(uint16_t slot, uint32_t opcode, uint64_t unique)
{
	const struct fuse_in_header header = {
		.len = sizeof(header) + 4, .opcode = opcode, .unique = unique, .nodeid = ROOT};
	const struct iovec in[] = {{(void *)(uintptr_t)&header, sizeof(header)},
				   {(void *)(uintptr_t)"body", 4}};
	const struct iovec out = {test.out[slot], sizeof(test.out[slot])};
	struct vfsd_chain chain;
	enum vfsd_served outcome;
	uint32_t written;

	atomic_store(&test.written[slot], 0);
	chain_of(&chain, in, 2, &out, 1);
	chain.head = slot;
	outcome = vfsd_fuse_serve(test.g.worker, &chain, &written);
	if (outcome == VFSD_SERVED_DONE)
		atomic_store(&test.written[slot], written);
	return outcome;
}

static const struct vfsd_upcall *take(void)
{
	struct pollfd fd = {.fd = vfsd_upcalls_fd(test.upcalls), .events = POLLIN};
	const struct vfsd_upcall *call;

	CHECK_EQ(poll(&fd, 1, 60000), 1);
	CHECK_EQ(vfsd_upcalls_next(test.upcalls, &call), VFSD_UPCALL_REQUEST);
	return call;
}

static int interrupt(uint64_t unique)
{
	return fuse_guest_call(&test.g, FUSE_INTERRUPT, 0, &unique, sizeof(unique), 0);
}

/* No reply: it has been passed on. */
static void tell_interrupt(uint64_t unique)
{
	fuse_guest_tell(&test.g, FUSE_INTERRUPT, 0, &unique, sizeof(unique));
}

static int error_of(uint16_t slot)
{
	struct fuse_out_header header;

	CHECK(atomic_load(&test.written[slot]) >= sizeof(header));
	memcpy(&header, test.out[slot], sizeof(header));
	CHECK_EQ(header.len, test.written[slot]);
	return header.error;
}

static bool has_news(void)
{
	const struct vfsd_upcall *call;

	return vfsd_upcalls_next(test.upcalls, &call) != VFSD_UPCALL_NONE;
}

static void test_any_order(void)
{
	const struct vfsd_upcall *calls[4];

	set_up();
	for (uint16_t i = 0; i < 4; i++)
		CHECK_EQ(ask(i, opcodes[i], 100u + i), VFSD_SERVED_DEFERRED);
	for (int i = 0; i < 4; i++) {
		calls[i] = take();
		CHECK_EQ(calls[i]->header.opcode, opcodes[i]);
		CHECK_EQ(calls[i]->header.nodeid, ROOT);
		CHECK_EQ(calls[i]->body_bytes, 4);
		CHECK(memcmp(calls[i]->body, "body", 4) == 0);
		CHECK_EQ(calls[i]->room_bytes, 100);
	}
	CHECK(!has_news());
	/* Others are answered meanwhile, or not served at all. */
	CHECK_EQ(fuse_guest_call(&test.g, OPCODE + 1, ROOT, "body", 4, 100), -ENOSYS);
	CHECK_EQ(fuse_guest_call(&test.g, FUSE_SETLK, ROOT, "body", 4, 100), -ENOSYS);
	CHECK_EQ(fuse_guest_lookup(&test.g, ROOT, "none", &(struct fuse_entry_out){0}), -ENOENT);
	for (uint16_t i = 4; i-- > 0;) {
		uint64_t id = calls[i]->id;

		CHECK_EQ(test.written[i], 0);
		CHECK_EQ(vfsd_upcalls_answer(test.upcalls, id, 0, "payload", i ? 7 : 0), 0);
		CHECK_EQ(error_of(i), 0);
		CHECK_EQ(test.written[i], sizeof(struct fuse_out_header) + (i ? 7 : 0));
		CHECK(memcmp(test.out[i] + sizeof(struct fuse_out_header), "payload", i ? 7 : 0) ==
		      0);
		CHECK_EQ(vfsd_upcalls_answer(test.upcalls, id, 0, "payload", 7), -ENOENT);
	}
	/* What cannot be passed on. */
	CHECK_EQ(ask(0, OPCODE, 1), VFSD_SERVED_DEFERRED);
	CHECK_EQ(vfsd_upcalls_answer(test.upcalls, take()->id, -EPERM, "x", 1), 0);
	CHECK_EQ(error_of(0), -EPERM);
	CHECK_EQ(ask(0, OPCODE, 1), VFSD_SERVED_DEFERRED);
	CHECK_EQ(vfsd_upcalls_answer(test.upcalls, take()->id, -70000, NULL, 0), 0);
	CHECK_EQ(error_of(0), -EIO);
	CHECK_EQ(ask(0, OPCODE, 1), VFSD_SERVED_DEFERRED);
	CHECK_EQ(vfsd_upcalls_answer(test.upcalls, take()->id, 0, test.out, 101), -EMSGSIZE);
	CHECK_EQ(error_of(0), -EIO);
	tear_down();
}

static void test_interrupt(void)
{
	const struct vfsd_upcall *call;
	uint64_t id;

	set_up();
	CHECK_EQ(interrupt(7), -EAGAIN);
	/* Before it is taken, and after that. */
	CHECK_EQ(ask(0, OPCODE, 7), VFSD_SERVED_DEFERRED);
	tell_interrupt(7);
	CHECK_EQ(error_of(0), -EINTR);
	CHECK(!has_news());
	CHECK_EQ(ask(0, OPCODE, 8), VFSD_SERVED_DEFERRED);
	CHECK_EQ(ask(1, OPCODE, 9), VFSD_SERVED_DEFERRED);
	id = take()->id;
	CHECK_EQ(interrupt(10), -EAGAIN);
	tell_interrupt(8);
	CHECK_EQ(error_of(0), -EINTR);
	CHECK_EQ(test.written[1], 0);
	CHECK_EQ(vfsd_upcalls_next(test.upcalls, &call), VFSD_UPCALL_GONE);
	CHECK_EQ(call->id, id);
	CHECK_EQ(vfsd_upcalls_answer(test.upcalls, id, 0, NULL, 0), -ENOENT);
	/* The answer may be earlier than the news. */
	id = take()->id;
	tell_interrupt(9);
	CHECK_EQ(vfsd_upcalls_answer(test.upcalls, id, 0, NULL, 0), -ENOENT);
	CHECK(!has_news());
	tear_down();
}

static void test_end_of_session(void)
{
	struct fuse_init_out init;
	const struct vfsd_upcall *call;

	for (int again = 0; again < 2; again++) {
		set_up();
		CHECK_EQ(ask(0, OPCODE, 1), VFSD_SERVED_DEFERRED);
		CHECK_EQ(ask(1, OPCODE, 2), VFSD_SERVED_DEFERRED);
		(void)take();
		if (again)
			CHECK_EQ(fuse_guest_init(&test.g, FUSE_KERNEL_MINOR_VERSION, UINT64_MAX,
						 &init),
				 0);
		else
			CHECK_EQ(fuse_guest_call(&test.g, FUSE_DESTROY, 0, NULL, 0, 0), 0);
		CHECK_EQ(error_of(0), -EIO);
		CHECK_EQ(error_of(1), -EIO);
		CHECK_EQ(vfsd_upcalls_next(test.upcalls, &call), VFSD_UPCALL_GONE);
		CHECK(!has_news());
		tear_down();
	}
}

static void test_stop(void)
{
	const struct vfsd_upcall *call;

	set_up();
	for (uint16_t i = 0; i < SLOTS; i++)
		CHECK_EQ(ask(i, OPCODE, i + 1u), VFSD_SERVED_DEFERRED);
	/* A guest that uses its chains twice. */
	CHECK_EQ(ask(0, OPCODE, 1000), VFSD_SERVED_DONE);
	CHECK_EQ(error_of(0), -EAGAIN);
	test.written[0] = 0;
	for (int i = 0; i < SLOTS / 2; i++)
		(void)take();
	vfsd_reply_ring_close(vfsd_fuse_deferrals(test.g.fuse), &test.g.replies);
	CHECK_EQ(ask(0, OPCODE, 1000), VFSD_SERVED_NOT_TAKEN);
	vfsd_reply_ring_stop(vfsd_fuse_deferrals(test.g.fuse), &test.g.replies, on_unpop);
	CHECK_EQ(test.unpopped, SLOTS);
	for (int i = 0; i < SLOTS / 2; i++) {
		CHECK_EQ(vfsd_upcalls_next(test.upcalls, &call), VFSD_UPCALL_GONE);
		CHECK_EQ(vfsd_upcalls_answer(test.upcalls, call->id, 0, NULL, 0), -ENOENT);
	}
	CHECK(!has_news());
	for (int i = 0; i < SLOTS; i++)
		CHECK_EQ(test.written[i], 0);
	tear_down();
}

/* One thread asks and interrupts, another answers. */

static atomic_bool done;

static void *answer_all(void *arg)
{
	struct pollfd fd = {.fd = vfsd_upcalls_fd(test.upcalls), .events = POLLIN};
	unsigned int *missed = arg;

	while (!atomic_load(&done)) {
		const struct vfsd_upcall *call;

		(void)poll(&fd, 1, 10);
		while (vfsd_upcalls_next(test.upcalls, &call) == VFSD_UPCALL_REQUEST) {
			int error = call->header.unique % 7 ? 0 : -ENOENT;
			int result =
				vfsd_upcalls_answer(test.upcalls, call->id, error, "answer", 6);

			CHECK(result == 0 || result == -ENOENT);
			*missed += result == -ENOENT;
		}
	}
	return NULL;
}

static void test_threads(void)
{
	unsigned int missed = 0, interrupted = 0;
	pthread_t thread;

	set_up();
	atomic_store(&done, false);
	CHECK_EQ(pthread_create(&thread, NULL, answer_all, &missed), 0);
	for (uint64_t unique = 1; unique <= ROUNDS; unique++) {
		uint16_t slot = (uint16_t)(unique % SLOTS);

		if (unique > SLOTS) {
			uint64_t before = unique - SLOTS;
			int error;

			while (atomic_load(&test.written[slot]) == 0)
				sched_yield();
			error = error_of(slot);
			CHECK(error == -EINTR || error == (before % 7 ? 0 : -ENOENT));
			interrupted += error == -EINTR;
		}
		CHECK_EQ(ask(slot, OPCODE, unique), VFSD_SERVED_DEFERRED);
		if (unique % 3 == 0)
			(void)vfsd_deferrals_interrupt(vfsd_fuse_deferrals(test.g.fuse), unique);
	}
	for (int i = 0; i < SLOTS; i++)
		while (atomic_load(&test.written[i]) == 0)
			sched_yield();
	atomic_store(&done, true);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK(missed <= interrupted + SLOTS);
	tear_down();
}

static void test_registration(void)
{
	static const uint32_t refused[] = {FUSE_INIT,	 FUSE_DESTROY,	    FUSE_FORGET,
					   FUSE_RELEASE, FUSE_BATCH_FORGET, FUSE_INTERRUPT,
					   FUSE_FSNOTIFY};
	struct vfsd_fuse_config config = {.n_upcall_opcodes = 1};
	struct vfsd_fuse *fuse;

	CHECK_EQ(vfsd_upcalls_create(&config.upcalls), 0);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(refused); i++) {
		config.upcall_opcodes = &refused[i];
		CHECK_EQ(vfsd_fuse_create(&config, NULL, NULL, NULL, NULL, NULL, &fuse), -EINVAL);
	}
	vfsd_upcalls_destroy(config.upcalls);
	vfsd_upcalls_destroy(NULL);
}

int main(void)
{
	test_any_order();
	test_interrupt();
	test_end_of_session();
	test_stop();
	test_threads();
	test_registration();
	return 0;
}
