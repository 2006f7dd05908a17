/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rule of safety: whatever record is due and whatever the agent's thread asks for, nothing that
 * changes the host is served.
 */
#include <fcntl.h>
#include <stddef.h>

#include "check.h"
#include "fuse/agent_due.h"
#include "fuse/agent_wire.h"
#include "fuse/wire.h"

enum { DIR = 10, OTHER = 11, CHILD = 12 };

#define AT(o, n, text) {.opcode = FUSE_##o, .node = (n), .name = (text)}
#define OF(o, n, bits) {.opcode = FUSE_##o, .node = (n), .flags = (bits)}
#define MOVE(o, n, text, to, new_text, bits)                                                       \
	{.opcode = FUSE_##o,                                                                       \
	 .node = (n),                                                                              \
	 .name = (text),                                                                           \
	 .other = (to),                                                                            \
	 .other_name = (new_text),                                                                 \
	 .flags = (bits)}

/* What reads, or gives back, and so may reach the host as it is. */
static const uint32_t harmless[] = {
	FUSE_LOOKUP,	   FUSE_FORGET,	     FUSE_GETATTR, FUSE_READLINK,  FUSE_OPEN,
	FUSE_READ,	   FUSE_STATFS,	     FUSE_RELEASE, FUSE_FSYNC,	   FUSE_GETXATTR,
	FUSE_LISTXATTR,	   FUSE_FLUSH,	     FUSE_INIT,	   FUSE_OPENDIR,   FUSE_READDIR,
	FUSE_RELEASEDIR,   FUSE_FSYNCDIR,    FUSE_ACCESS,  FUSE_INTERRUPT, FUSE_DESTROY,
	FUSE_BATCH_FORGET, FUSE_READDIRPLUS, FUSE_LSEEK,   FUSE_SYNCFS,	   FUSE_STATX,
	FUSE_HOLD,
};

static struct vfsd_agent_record record_of(enum vfsd_agent_kind kind)
{
	struct vfsd_agent_record record = {.kind = kind};

	if (kind != VFSD_AGENT_LOSS)
		record.child = CHILD;
	if (kind < VFSD_AGENT_MOVE_SELF) {
		record.node = DIR;
		record.name[0] = 'a';
	}
	if (kind == VFSD_AGENT_RENAME) {
		record.other = OTHER;
		record.other_name[0] = 'b';
	}
	return record;
}

static bool is_harmless(uint32_t opcode)
{
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		if (harmless[i] == opcode)
			return true;
	return false;
}

static void try(const struct vfsd_agent_record *due, bool done,
		const struct vfsd_agent_request *request)
{
	enum vfsd_agent_answer answer = vfsd_agent_answer(due, done, request);

	if (answer != VFSD_ANSWER_PLAIN)
		return;
	CHECK(is_harmless(request->opcode));
	if (request->opcode == FUSE_OPEN)
		CHECK((request->flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY);
	/* The table of inodes knows nothing of it. */
	CHECK(request->node != VFSD_AGENT_NODE_ELSEWHERE || request->opcode != FUSE_LOOKUP);
}

/* Every opcode that there is and some that are not, in every state. */
static void test_nothing_that_changes_is_served(void)
{
	static const uint64_t nodes[] = {FUSE_ROOT_ID, DIR, OTHER, CHILD,
					 VFSD_AGENT_NODE_ELSEWHERE};
	static const char *const names[] = {"a", "b", "c", "..", VFSD_AGENT_ELSEWHERE};
	static const uint32_t flags[] = {0, O_WRONLY, O_RDWR, O_TRUNC, UINT32_MAX};

	for (uint32_t opcode = 0; opcode < FUSE_HOLD + 10; opcode++)
		for (int kind = 0; kind < VFSD_AGENT_KINDS; kind++)
			for (size_t i = 0; i < 5 * 5 * 5 * 5; i++) {
				const struct vfsd_agent_record due =
					record_of((enum vfsd_agent_kind)kind);
				struct vfsd_agent_request request = {
					.opcode = opcode,
					.node = nodes[i % 5],
					.flags = flags[i / 5 % 5],
				};

				if (vfsd_agent_has_name(opcode))
					request.name = names[i / 25 % 5];
				if (vfsd_agent_is_rename(opcode)) {
					request.other = nodes[i / 125];
					request.other_name = names[(i + 1) % 5];
				}
				try(kind == 0 ? NULL : &due, false, &request);
				try(kind == 0 ? NULL : &due, true, &request);
			}
}

static void test_what_records_are_done_by(void)
{
	const uint32_t now = FATTR_MTIME | FATTR_MTIME_NOW;
	const uint64_t away = VFSD_AGENT_NODE_ELSEWHERE;
	const struct {
		enum vfsd_agent_kind kind;
		struct vfsd_agent_request request;
		enum vfsd_agent_answer answer;
	} table[] = {
		{VFSD_AGENT_CREATE, AT(LOOKUP, DIR, "a"), VFSD_ANSWER_ABSENT},
		{VFSD_AGENT_CREATE, AT(LOOKUP, DIR, "b"), VFSD_ANSWER_PLAIN},
		{VFSD_AGENT_CREATE, AT(LOOKUP, OTHER, "a"), VFSD_ANSWER_PLAIN},
		{VFSD_AGENT_CREATE, AT(MKNOD, DIR, "a"), VFSD_ANSWER_NOW},
		{VFSD_AGENT_CREATE, AT(MKDIR, DIR, "a"), VFSD_ANSWER_NOW},
		{VFSD_AGENT_CREATE, AT(SYMLINK, DIR, "a"), VFSD_ANSWER_NOW},
		{VFSD_AGENT_CREATE, AT(MKNOD, DIR, "b"), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_CREATE, AT(MKNOD, OTHER, "a"), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_CREATE, AT(UNLINK, DIR, "a"), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_DELETE, AT(LOOKUP, DIR, "a"), VFSD_ANSWER_CHILD},
		{VFSD_AGENT_DELETE, AT(UNLINK, DIR, "a"), VFSD_ANSWER_DONE},
		{VFSD_AGENT_DELETE, AT(RMDIR, DIR, "a"), VFSD_ANSWER_DONE},
		{VFSD_AGENT_DELETE, AT(UNLINK, DIR, "b"), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_DELETE, AT(UNLINK, away, "a"), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_RENAME, AT(LOOKUP, DIR, "a"), VFSD_ANSWER_CHILD},
		{VFSD_AGENT_RENAME, AT(LOOKUP, OTHER, "b"), VFSD_ANSWER_ABSENT},
		{VFSD_AGENT_RENAME, MOVE(RENAME2, DIR, "a", OTHER, "b", 0), VFSD_ANSWER_DONE},
		{VFSD_AGENT_RENAME, MOVE(RENAME, DIR, "a", OTHER, "b", 0), VFSD_ANSWER_DONE},
		{VFSD_AGENT_RENAME, MOVE(RENAME2, DIR, "a", OTHER, "b", 1), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_RENAME, MOVE(RENAME2, DIR, "a", DIR, "b", 0), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_RENAME, MOVE(RENAME2, DIR, "a", away, "b", 0), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_MOVED_OUT, AT(LOOKUP, away, "x"), VFSD_ANSWER_ABSENT},
		{VFSD_AGENT_MOVED_OUT, MOVE(RENAME2, DIR, "a", away, "x", 0), VFSD_ANSWER_DONE},
		{VFSD_AGENT_MOVED_OUT, MOVE(RENAME2, away, "x", DIR, "a", 0), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_MOVED_IN, AT(LOOKUP, away, "x"), VFSD_ANSWER_NOW},
		{VFSD_AGENT_MOVED_IN, AT(LOOKUP, DIR, "a"), VFSD_ANSWER_ABSENT},
		{VFSD_AGENT_MOVED_IN, MOVE(RENAME2, away, "x", DIR, "a", 0), VFSD_ANSWER_DONE},
		{VFSD_AGENT_MOVED_IN, MOVE(RENAME2, DIR, "a", away, "x", 0), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_MODIFY, AT(LOOKUP, DIR, "a"), VFSD_ANSWER_CHILD},
		{VFSD_AGENT_MODIFY, OF(GETATTR, CHILD, 0), VFSD_ANSWER_STALE_ATTR},
		{VFSD_AGENT_MODIFY, OF(SETATTR, CHILD, now), VFSD_ANSWER_ATTR},
		{VFSD_AGENT_MODIFY, OF(SETATTR, CHILD, now | FATTR_SIZE), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_ATTRIB, OF(GETATTR, CHILD, 0), VFSD_ANSWER_ATTR},
		{VFSD_AGENT_ATTRIB, OF(SETATTR, CHILD, now), VFSD_ANSWER_ATTR},
		{VFSD_AGENT_ATTRIB, OF(SETATTR, CHILD, FATTR_MODE), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_ATTRIB, OF(OPEN, CHILD, 0), VFSD_ANSWER_PLAIN},
		{VFSD_AGENT_ATTRIB, OF(OPEN, CHILD, O_RDWR), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_CREATE, OF(SETATTR, CHILD, now), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_CLOSE_WRITE, OF(OPEN, CHILD, O_WRONLY), VFSD_ANSWER_OPEN},
		{VFSD_AGENT_CLOSE_NOWRITE, OF(OPENDIR, CHILD, 0), VFSD_ANSWER_OPEN},
		{VFSD_AGENT_CLOSE_NOWRITE, OF(OPENDIR, DIR, 0), VFSD_ANSWER_PLAIN},
		{VFSD_AGENT_CLOSE_NOWRITE, OF(OPEN, OTHER, O_WRONLY), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_MOVE_SELF, AT(LOOKUP, away, "x"), VFSD_ANSWER_CHILD},
		{VFSD_AGENT_MOVE_SELF, AT(LOOKUP, away, VFSD_AGENT_ELSEWHERE), VFSD_ANSWER_ABSENT},
		{VFSD_AGENT_MOVE_SELF, MOVE(RENAME2, away, "x", away, "y", 0), VFSD_ANSWER_DONE},
		{VFSD_AGENT_ENDED, AT(LOOKUP, away, "x"), VFSD_ANSWER_CHILD},
		{VFSD_AGENT_ENDED, AT(UNLINK, away, "x"), VFSD_ANSWER_DONE},
		{VFSD_AGENT_ENDED, AT(UNLINK, DIR, "a"), VFSD_ANSWER_REFUSE},
		{VFSD_AGENT_LOSS, OF(SETATTR, DIR, now), VFSD_ANSWER_ATTR},
		{VFSD_AGENT_LOSS, AT(LOOKUP, away, "x"), VFSD_ANSWER_ABSENT},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct vfsd_agent_record due = record_of(table[i].kind);

		CHECK_EQ(vfsd_agent_answer(&due, false, &table[i].request), table[i].answer);
		if (table[i].answer == VFSD_ANSWER_DONE)
			CHECK_EQ(vfsd_agent_answer(&due, true, &table[i].request),
				 VFSD_ANSWER_REFUSE);
	}
}

static void test_without_a_record(void)
{
	const struct vfsd_agent_request lookup = AT(LOOKUP, DIR, "a");
	const struct vfsd_agent_request attr = OF(GETATTR, DIR, 0);
	const struct vfsd_agent_request touch = OF(SETATTR, DIR, FATTR_MTIME);
	const struct vfsd_agent_request away = AT(LOOKUP, FUSE_ROOT_ID, VFSD_AGENT_ELSEWHERE);

	CHECK_EQ(vfsd_agent_answer(NULL, false, &lookup), VFSD_ANSWER_PLAIN);
	CHECK_EQ(vfsd_agent_answer(NULL, false, &attr), VFSD_ANSWER_PLAIN);
	CHECK_EQ(vfsd_agent_answer(NULL, false, &touch), VFSD_ANSWER_REFUSE);
	CHECK_EQ(vfsd_agent_answer(NULL, false, &away), VFSD_ANSWER_ELSEWHERE);
}

/* What happened to an object by a name that the guest does not know it by. */
static void test_of_an_object_alone(void)
{
	const struct vfsd_agent_record due = {.kind = VFSD_AGENT_ATTRIB, .child = CHILD};
	const struct vfsd_agent_request there = AT(LOOKUP, VFSD_AGENT_NODE_ELSEWHERE, "x");
	const struct vfsd_agent_request here = AT(LOOKUP, DIR, "x");

	CHECK_EQ(vfsd_agent_answer(&due, false, &there), VFSD_ANSWER_CHILD);
	CHECK_EQ(vfsd_agent_answer(&due, false, &here), VFSD_ANSWER_PLAIN);
}

int main(void)
{
	test_nothing_that_changes_is_served();
	test_what_records_are_done_by();
	test_without_a_record();
	test_of_an_object_alone();
	return 0;
}
