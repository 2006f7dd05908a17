/* SPDX-License-Identifier: BSD-3-Clause */
/* What an owner of deferred requests may rely on; upcall.c is the one there is, this is another. */
#include "fuse/deferred.h"

#include <errno.h>

#include "check.h"
#include "fuse/internal.h"
#include "fuse_guest.h"

enum { UNIQUE = 77 };

static struct {
	struct fuse_guest g;
	struct vfsd_deferred *request;
	unsigned int interrupted, gone, pushed, unpopped;
	bool complete_when_called;
	uint32_t written;
	uint8_t out[64];
} test;

static struct vfsd_deferrals *deferrals(void)
{
	return vfsd_fuse_deferrals(test.g.fuse);
}

static void on_interrupted(void *owner, struct vfsd_deferred *request)
{
	CHECK(owner == &test && request == test.request);
	test.interrupted++;
	if (test.complete_when_called)
		CHECK_EQ(vfsd_deferred_complete(request, -EINTR, NULL, 0), 0);
}

static void on_gone(void *owner, struct vfsd_deferred *request)
{
	CHECK(owner == &test && request == test.request);
	test.gone++;
	if (test.complete_when_called)
		CHECK_EQ(vfsd_deferred_complete(request, 0, "late", 4), -ENOENT);
}

static void on_push(void *ctx, uint16_t head, const struct iovec *out, uint32_t n_out,
		    uint32_t written)
{
	CHECK(ctx == &test && head == 5 && n_out == 3 && out->iov_base == test.out);
	test.pushed++;
	test.written = written;
}

static void on_unpop(void *ctx, uint16_t head)
{
	CHECK(ctx == &test && head == 5);
	test.unpopped++;
}

static int defer(void)
{
	static const struct vfsd_deferred_ops ops = {.interrupted = on_interrupted,
						     .gone = on_gone};
	/* A reply in three pieces. */
	const struct iovec out[] = {{test.out, 10}, {test.out + 10, 9}, {test.out + 19, 20}};
	struct vfsd_chain chain;
	struct vfsd_request req = {.fuse = test.g.fuse,
				   .worker = test.g.worker,
				   .chain = &chain,
				   .header = {.unique = UNIQUE}};
	int error;

	chain_of(&chain, out, 0, out, 3);
	chain.head = 5;
	vfsd_cursor_init(&req.out, chain.iov, 3);
	CHECK_EQ(vfsd_cursor_skip(&req.out, sizeof(struct fuse_out_header)), 0);
	atomic_store(&test.g.worker->serving, UNIQUE);
	error = vfsd_request_defer(&req, &ops, &test, &test.request);
	/* Nothing of it is needed any more. */
	memset(&chain, 0xaa, sizeof(chain));
	CHECK_EQ(req.outcome, error == 0	  ? VFSD_SERVED_DEFERRED :
			      error == -ECANCELED ? VFSD_SERVED_NOT_TAKEN :
						    VFSD_SERVED_DONE);
	return error;
}

static void set_up(bool complete_when_called)
{
	memset(&test, 0, sizeof(test));
	fuse_guest_create(&test.g, &(struct fuse_guest_config){0});
	test.g.replies = (struct vfsd_reply_ring){.ctx = &test, .push = on_push, .limit = 1};
	test.complete_when_called = complete_when_called;
}

static void tear_down(void)
{
	CHECK_EQ(test.g.replies.n, 0);
	fuse_guest_destroy(&test.g);
}

static void check_reply(int error, const char *payload)
{
	struct fuse_out_header header;

	CHECK_EQ(test.pushed, 1);
	memcpy(&header, test.out, sizeof(header));
	CHECK_EQ(header.error, error);
	CHECK_EQ(header.unique, UNIQUE);
	CHECK_EQ(header.len, sizeof(header) + strlen(payload));
	CHECK_EQ(test.written, header.len);
	CHECK(memcmp(test.out + sizeof(header), payload, strlen(payload)) == 0);
}

static void test_complete(void)
{
	set_up(false);
	CHECK_EQ(defer(), 0);
	CHECK_EQ(vfsd_deferred_room(test.request), 23);
	/* Its ring takes no more. */
	{
		struct vfsd_deferred *first = test.request;

		CHECK_EQ(defer(), -EAGAIN);
		test.request = first;
	}
	CHECK_EQ(vfsd_deferred_complete(test.request, 0, "a payload of 23 bytes..", 23), 0);
	check_reply(0, "a payload of 23 bytes..");
	test.pushed = 0;
	CHECK_EQ(defer(), 0);
	CHECK_EQ(vfsd_deferred_complete(test.request, 0, test.out, 24), -EMSGSIZE);
	check_reply(-EIO, "");
	test.pushed = 0;
	CHECK_EQ(defer(), 0);
	CHECK_EQ(vfsd_deferred_complete(test.request, -ENXIO, "ignored", 7), 0);
	check_reply(-ENXIO, "");
	CHECK_EQ(test.interrupted + test.gone, 0);
	tear_down();
}

/* INTERRUPT: while it is being served and has not been deferred, while it is, and afterwards. */
static void test_interrupt(bool complete_when_called)
{
	set_up(complete_when_called);
	CHECK_EQ(vfsd_deferrals_interrupt(deferrals(), UNIQUE), -EAGAIN);
	CHECK_EQ(defer(), 0);
	CHECK_EQ(vfsd_deferrals_interrupt(deferrals(), UNIQUE + 1), -EAGAIN);
	CHECK_EQ(vfsd_deferrals_interrupt(deferrals(), UNIQUE), 0);
	CHECK_EQ(test.interrupted, 1);
	if (!complete_when_called)
		CHECK_EQ(vfsd_deferred_complete(test.request, -EINTR, NULL, 0), 0);
	check_reply(-EINTR, "");
	/* The worker has it still at hand, for all that anybody knows. */
	CHECK_EQ(vfsd_deferrals_interrupt(deferrals(), UNIQUE), 0);
	CHECK_EQ(defer(), -EINTR);
	CHECK_EQ(test.interrupted, 1);
	tear_down();
}

static void test_stop(bool complete_when_called)
{
	set_up(complete_when_called);
	CHECK_EQ(defer(), 0);
	vfsd_reply_ring_close(deferrals(), &test.g.replies);
	{
		struct vfsd_deferred *first = test.request;

		CHECK_EQ(defer(), -ECANCELED);
		test.request = first;
	}
	vfsd_reply_ring_stop(deferrals(), &test.g.replies, on_unpop);
	CHECK_EQ(test.unpopped, 1);
	CHECK_EQ(test.gone, 1);
	if (!complete_when_called)
		CHECK_EQ(vfsd_deferred_complete(test.request, 0, "late", 4), -ENOENT);
	CHECK_EQ(test.pushed, 0);
	tear_down();
}

static void test_end_of_session(bool complete_when_called)
{
	set_up(complete_when_called);
	CHECK_EQ(defer(), 0);
	vfsd_fuse_end_session(test.g.fuse);
	check_reply(-EIO, "");
	CHECK_EQ(test.gone, 1);
	if (!complete_when_called)
		CHECK_EQ(vfsd_deferred_complete(test.request, 0, "late", 4), -ENOENT);
	check_reply(-EIO, "");
	/* One that was on its way then. */
	CHECK_EQ(defer(), -EIO);
	tear_down();
}

static void test_nowhere_to_go(void)
{
	set_up(false);
	test.g.replies.push = NULL;
	CHECK_EQ(defer(), -EAGAIN);
	vfsd_fuse_worker_destroy(test.g.worker);
	CHECK_EQ(vfsd_fuse_worker_create(test.g.fuse, NULL, &test.g.worker), 0);
	CHECK_EQ(defer(), -EAGAIN);
	vfsd_deferrals_destroy(NULL);
	tear_down();
}

int main(void)
{
	test_complete();
	for (int i = 0; i < 2; i++) {
		test_interrupt(i);
		test_stop(i);
		test_end_of_session(i);
	}
	test_nowhere_to_go();
	return 0;
}
