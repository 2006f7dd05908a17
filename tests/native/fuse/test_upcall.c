/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that go up: answered in order, given up when their queue stops, and only registered ones. */
#include "fuse/upcall.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "fuse_guest.h"
#include "base/util.h"

enum { ROOT = VFSD_NODEID_ROOT, QUEUES = 4, ROUNDS = 2000, OPCODE = 4000 };

static void await(const struct vfsd_upcalls *upcalls)
{
	struct pollfd fd = {.fd = vfsd_upcalls_fd(upcalls), .events = POLLIN};

	CHECK_EQ(poll(&fd, 1, 60000), 1);
}

/* Several queues ask, one thread answers; now and then a queue stops. */

struct queue {
	struct vfsd_upcalls *upcalls;
	struct vfsd_upcall call;
	pthread_t thread;
	atomic_uint done;
	unsigned int given_up;
};

static void *ask(void *arg)
{
	struct queue *queue = arg;
	char reply[32];

	for (uint64_t i = 0; i < ROUNDS; i++) {
		const struct fuse_in_header header = {.unique = i};
		ssize_t n;

		queue->call.header = &header;
		queue->call.reply = reply;
		queue->call.room_bytes = i % 5 ? sizeof(reply) : 3;
		n = vfsd_upcall_wait(queue->upcalls, &queue->call);
		if (n == -ECANCELED)
			queue->given_up++;
		else if (i % 7 == 0)
			CHECK_EQ(n, -ENOENT);
		else if (i % 5 == 0)
			CHECK_EQ(n, -EIO);
		else
			CHECK(n == 6 && memcmp(reply, "answer", 6) == 0);
		atomic_fetch_add(&queue->done, 1);
	}
	return NULL;
}

static void test_threads(void)
{
	struct queue queues[QUEUES] = {0};
	struct vfsd_upcalls *upcalls;
	unsigned int answered = 0;
	unsigned int done = 0;

	CHECK_EQ(vfsd_upcalls_create(&upcalls), 0);
	for (int q = 0; q < QUEUES; q++) {
		queues[q].upcalls = upcalls;
		CHECK_EQ(pthread_create(&queues[q].thread, NULL, ask, &queues[q]), 0);
	}
	while (done < QUEUES * ROUNDS) {
		const struct vfsd_upcall *call = vfsd_upcalls_next(upcalls);
		uint64_t unique = call ? call->header->unique : 0;

		done = 0;
		for (int q = 0; q < QUEUES; q++)
			done += atomic_load(&queues[q].done);
		if (!call)
			continue;
		if (++answered == ROUNDS)
			vfsd_upcalls_stop(upcalls, &queues[0].call);
		if (unique % 7 == 0) {
			int error = vfsd_upcalls_answer(upcalls, -ENOENT, NULL, 0);

			CHECK(error == 0 || (error == -ENOENT && answered == ROUNDS));
		} else {
			int error = vfsd_upcalls_answer(upcalls, 0, "answer", 6);

			CHECK(error == 0 || error == -EMSGSIZE ||
			      (error == -ENOENT && answered == ROUNDS));
		}
	}
	CHECK_EQ(vfsd_upcalls_answer(upcalls, 0, NULL, 0), -ENOENT);
	for (int q = 0; q < QUEUES; q++)
		CHECK_EQ(pthread_join(queues[q].thread, NULL), 0);
	CHECK(queues[0].given_up > 0);
	for (int q = 1; q < QUEUES; q++)
		CHECK_EQ(queues[q].given_up, 0);
	vfsd_upcalls_destroy(upcalls);
	vfsd_upcalls_destroy(NULL);
}

/* Through the fuse room. */

struct asked {
	struct fuse_guest *guest;
	uint32_t opcode;
	size_t room;
	int error;
};

static void *ask_fuse(void *arg)
{
	struct asked *asked = arg;

	asked->error = fuse_guest_call(asked->guest, asked->opcode, ROOT, "body", 4, asked->room);
	return NULL;
}

static void *ask_in_vain(void *arg)
{
	struct fuse_guest *g = arg;
	struct fuse_in_header header = {.len = sizeof(header), .opcode = OPCODE, .unique = 9};
	const struct iovec in = {&header, sizeof(header)};
	const struct iovec out = {g->out, 100};

	g->out[0] = 0x77;
	CHECK_EQ(vfsd_fuse_serve(g->worker, &in, 1, &out, 1), VFSD_FUSE_NOT_SERVED);
	CHECK_EQ(g->out[0], 0x77);
	return NULL;
}

static void test_fuse(void)
{
	static const uint32_t opcodes[] = {OPCODE, FUSE_STATFS, FUSE_GETLK, UINT32_MAX};
	struct fuse_guest_config config = {
		.fuse = {.upcall_opcodes = opcodes, .n_upcall_opcodes = VFSD_ARRAY_SIZE(opcodes)}};
	struct vfsd_upcalls *upcalls;
	struct fuse_guest g;
	pthread_t thread;

	CHECK_EQ(vfsd_upcalls_create(&upcalls), 0);
	config.fuse.upcalls = upcalls;
	fuse_guest_create(&g, &config);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(opcodes); i++) {
		struct asked asked = {.guest = &g, .opcode = opcodes[i], .room = 100};
		const struct vfsd_upcall *call;

		CHECK_EQ(pthread_create(&thread, NULL, ask_fuse, &asked), 0);
		await(upcalls);
		call = vfsd_upcalls_next(upcalls);
		CHECK(call);
		CHECK_EQ(call->header->opcode, opcodes[i]);
		CHECK_EQ(call->header->nodeid, ROOT);
		CHECK_EQ(call->body_bytes, 4);
		CHECK(memcmp(call->body, "body", 4) == 0);
		CHECK_EQ(call->room_bytes, 100);
		CHECK_EQ(vfsd_upcalls_answer(upcalls, 0, "payload", i ? 7 : 0), 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		CHECK_EQ(asked.error, 0);
		CHECK_EQ(g.reply_bytes, i ? 7 : 0);
		CHECK(memcmp(g.reply, "payload", g.reply_bytes) == 0);
		CHECK(!vfsd_upcalls_next(upcalls));
	}
	/* Others are served as ever, or not at all. */
	CHECK_EQ(fuse_guest_call(&g, OPCODE + 1, ROOT, "body", 4, 100), -ENOSYS);
	CHECK_EQ(fuse_guest_call(&g, FUSE_SETLK, ROOT, "body", 4, 100), -ENOSYS);
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "none", &(struct fuse_entry_out){0}), -ENOENT);

	/* The queue stops: the request has not been touched. */
	CHECK_EQ(pthread_create(&thread, NULL, ask_in_vain, &g), 0);
	await(upcalls);
	CHECK(vfsd_upcalls_next(upcalls));
	vfsd_fuse_worker_stop(g.worker);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(vfsd_upcalls_answer(upcalls, 0, NULL, 0), -ENOENT);
	CHECK(!ask_in_vain(&g));
	fuse_guest_destroy(&g);
	vfsd_upcalls_destroy(upcalls);
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
}

int main(void)
{
	test_threads();
	test_fuse();
	test_registration();
	return 0;
}
