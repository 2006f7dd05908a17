/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The session of the guest's agent: who it is, and which record is due.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "fuse/agent.h"
#include "fuse/agent_due.h"

enum { PID = 7 };

/* A batch of @n records from @first on, at @to. */
static size_t make_batch(uint8_t *to, size_t room, uint64_t first, uint64_t n)
{
	struct vfsd_agent_writer writer;

	vfsd_agent_batch_begin(&writer, to, room);
	for (uint64_t i = 0; i < n; i++) {
		const struct vfsd_agent_record record = {
			.kind = VFSD_AGENT_CREATE, .sequence = first + i, .node = 1, .name = "n"};

		CHECK(vfsd_agent_batch_add(&writer, &record));
	}
	return vfsd_agent_batch_end(&writer, first);
}

/* The number of the record that is due for @pid; 0: none is; -1: it is not the session's. */
static int64_t due(struct vfsd_agent *agent, uint32_t pid)
{
	struct vfsd_agent_record record;
	bool done;

	if (!vfsd_agent_due(agent, pid, &record, &done))
		return -1;
	return record.kind == 0 ? 0 : (int64_t)record.sequence;
}

static void test_one_session_at_a_time(struct vfsd_agent *agent)
{
	uint64_t first, second, ignored;

	CHECK(!vfsd_agent_is_open(agent));
	CHECK_EQ(vfsd_agent_begin(agent, &first), 0);
	CHECK_EQ(vfsd_agent_begin(agent, &ignored), -EBUSY);
	CHECK(vfsd_agent_is_open(agent));
	CHECK(!vfsd_agent_end(agent, first + 1));
	CHECK(vfsd_agent_end(agent, first));
	CHECK(!vfsd_agent_end(agent, first));
	CHECK_EQ(vfsd_agent_begin(agent, &second), 0);
	CHECK(second != first);
	/* What the last one has open is void. */
	CHECK_EQ(vfsd_agent_check(agent, first), -EBADF);
	CHECK_EQ(vfsd_agent_hello(agent, first, PID), -EBADF);
	CHECK_EQ(vfsd_agent_ack(agent, first, 1), -EBADF);
	CHECK(vfsd_agent_end(agent, second));
}

static void test_the_thread_that_said_hello(struct vfsd_agent *agent)
{
	uint64_t fh;

	CHECK_EQ(vfsd_agent_begin(agent, &fh), 0);
	CHECK_EQ(vfsd_agent_check(agent, fh), -EINVAL);
	CHECK_EQ(due(agent, PID), -1);
	CHECK_EQ(due(agent, 0), -1);
	CHECK_EQ(vfsd_agent_hello(agent, fh, 0), -EPERM);
	CHECK_EQ(vfsd_agent_hello(agent, fh, PID), 0);
	CHECK_EQ(vfsd_agent_hello(agent, fh, PID + 1), -EINVAL);
	CHECK_EQ(vfsd_agent_check(agent, fh), 0);
	CHECK_EQ(due(agent, PID), 0);
	CHECK_EQ(due(agent, PID + 1), -1);
	CHECK_EQ(due(agent, 0), -1);
	vfsd_agent_reset(agent);
	CHECK_EQ(due(agent, PID), -1);
	CHECK_EQ(vfsd_agent_check(agent, fh), -EBADF);
	CHECK(!vfsd_agent_is_open(agent));
}

static void test_records_are_due_in_order(struct vfsd_agent *agent)
{
	_Alignas(8) uint8_t batch[4096];
	struct vfsd_agent_record record;
	uint64_t fh;
	bool done;

	CHECK_EQ(vfsd_agent_begin(agent, &fh), 0);
	CHECK_EQ(vfsd_agent_hello(agent, fh, PID), 0);
	CHECK_EQ(vfsd_agent_ack(agent, fh, 1), -EINVAL);
	vfsd_agent_deliver(agent, batch, make_batch(batch, sizeof(batch), 5, 3));
	CHECK_EQ(due(agent, PID), 5);
	CHECK_EQ(vfsd_agent_ack(agent, fh, 6), -EINVAL);
	CHECK_EQ(vfsd_agent_ack(agent, fh, 5), 0);
	CHECK_EQ(vfsd_agent_ack(agent, fh, 5), -EINVAL);
	CHECK_EQ(due(agent, PID), 6);

	vfsd_agent_did(agent, 5); /* of a record that is not due any more */
	CHECK(vfsd_agent_due(agent, PID, &record, &done) && !done);
	vfsd_agent_did(agent, 6);
	CHECK(vfsd_agent_due(agent, PID, &record, &done) && done);
	CHECK_EQ(vfsd_agent_ack(agent, fh, 6), 0);
	CHECK(vfsd_agent_due(agent, PID, &record, &done) && !done);

	vfsd_agent_found(agent, 7, 99);
	CHECK(vfsd_agent_due(agent, PID, &record, &done) && record.child == 99);
	CHECK_EQ(vfsd_agent_ack(agent, fh, 7), 0);
	CHECK_EQ(due(agent, PID), 0);

	/* A READ acknowledges all that was delivered. */
	vfsd_agent_deliver(agent, batch, make_batch(batch, sizeof(batch), 8, 3));
	vfsd_agent_deliver(agent, NULL, 0);
	CHECK_EQ(due(agent, PID), 0);
	vfsd_agent_deliver(agent, batch, make_batch(batch, sizeof(batch), 11, 1));
	CHECK_EQ(due(agent, PID), 11);
	CHECK(vfsd_agent_end(agent, fh));

	/* Nothing of it is left for the next one. */
	CHECK_EQ(vfsd_agent_begin(agent, &fh), 0);
	CHECK_EQ(vfsd_agent_hello(agent, fh, PID), 0);
	CHECK_EQ(due(agent, PID), 0);
	CHECK(vfsd_agent_end(agent, fh));
}

static void test_ghosts_are_no_nodes(struct vfsd_agent *agent)
{
	uint64_t a = vfsd_agent_ghost(agent), b = vfsd_agent_ghost(agent);

	CHECK(a != b);
	CHECK_EQ((uint32_t)a, VFSD_AGENT_NODE_GHOST);
	CHECK_EQ((uint32_t)b, VFSD_AGENT_NODE_GHOST);
}

int main(void)
{
	struct vfsd_agent *agent;

	CHECK_EQ(vfsd_agent_create(&agent), 0);
	test_one_session_at_a_time(agent);
	test_the_thread_that_said_hello(agent);
	test_records_are_due_in_order(agent);
	test_ghosts_are_no_nodes(agent);
	vfsd_agent_destroy(agent);
	vfsd_agent_destroy(NULL);
	return 0;
}
