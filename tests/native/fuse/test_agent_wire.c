/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bytes between the guest's agent and the daemon: what one side writes the other reads, and
 * nothing else is taken for it.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "fuse/agent_wire.h"

enum { ROUNDS = 20000 };

static uint64_t state = 88172645463325252ULL;

static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void draw_name(char *to)
{
	size_t bytes = draw(4) == 0 ? VFSD_AGENT_NAME_MAX : 1 + draw(20);

	for (size_t i = 0; i < bytes; i++) {
		to[i] = (char)(1 + draw(255));
		if (to[i] == '/' || to[i] == '.')
			to[i] = 'x';
	}
	to[bytes] = '\0';
}

/* Any valid record. */
static struct vfsd_agent_record draw_record(uint64_t sequence)
{
	struct vfsd_agent_record record = {
		.kind = (enum vfsd_agent_kind)(1 + draw(VFSD_AGENT_KINDS - 1)),
		.sequence = sequence,
		.child = 1 + draw(UINT64_MAX - 1),
		.child_generation = (uint32_t)draw(UINT32_MAX),
		.node_generation = (uint32_t)draw(UINT32_MAX),
		.other_generation = (uint32_t)draw(UINT32_MAX),
		.mode = (uint32_t)draw(UINT32_MAX),
		.cookie = (uint32_t)draw(UINT32_MAX),
	};

	if (record.kind == VFSD_AGENT_RENAME) {
		record.other = 1 + draw(UINT64_MAX - 1);
		draw_name(record.other_name);
	}
	if (record.kind < VFSD_AGENT_MODIFY ||
	    (record.kind < VFSD_AGENT_MOVE_SELF && draw(2) == 0)) {
		record.node = 1 + draw(UINT64_MAX - 1);
		draw_name(record.name);
	}
	return record;
}

static void test_what_is_written_is_read(void)
{
	_Alignas(8) static uint8_t bytes[4096];
	struct vfsd_agent_record written[64], record;
	struct vfsd_agent_writer writer;
	struct vfsd_agent_reader reader;
	size_t n, total;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t first = draw(UINT64_MAX);

		vfsd_agent_batch_begin(&writer, bytes, sizeof(bytes) - draw(3000));
		for (n = 0; n < 64; n++) {
			written[n] = draw_record(first + n);
			if (!vfsd_agent_batch_add(&writer, &written[n]))
				break;
		}
		total = vfsd_agent_batch_end(&writer, first);
		CHECK(total <= writer.size);
		CHECK_EQ(vfsd_agent_batch_open(&reader, bytes, total), 0);
		for (size_t i = 0; i < n; i++) {
			CHECK_EQ(vfsd_agent_batch_next(&reader, &record), 1);
			CHECK(memcmp(&record, &written[i], sizeof(record)) == 0);
		}
		CHECK_EQ(vfsd_agent_batch_next(&reader, &record), 0);
		CHECK_EQ(vfsd_agent_batch_next(&reader, &record), 0);
	}
}

/* One byte of a batch is another: it is refused, or what it says is valid and in order. */
static void test_a_changed_byte_is_no_harm(void)
{
	_Alignas(8) uint8_t bytes[512];
	struct vfsd_agent_record record;
	struct vfsd_agent_writer writer;
	struct vfsd_agent_reader reader;

	for (int round = 0; round < ROUNDS; round++) {
		size_t total;
		int got;

		vfsd_agent_batch_begin(&writer, bytes, sizeof(bytes));
		for (uint64_t i = 0; i < 3; i++) {
			record = draw_record(7 + i);
			(void)vfsd_agent_batch_add(&writer, &record);
		}
		total = vfsd_agent_batch_end(&writer, 7);
		bytes[draw(total)] ^= (uint8_t)(1 + draw(255));
		if (vfsd_agent_batch_open(&reader, bytes, total) != 0)
			continue;
		while ((got = vfsd_agent_batch_next(&reader, &record)) == 1)
			CHECK(vfsd_agent_record_is_valid(&record));
		CHECK(got == 0 || got == -EBADMSG);
		CHECK_EQ(vfsd_agent_batch_next(&reader, &record), got);
	}
}

static void test_what_is_no_batch(void)
{
	_Alignas(8) uint8_t bytes[256];
	struct vfsd_agent_batch header;
	struct vfsd_agent_record record = {
		.kind = VFSD_AGENT_CREATE, .node = 1, .name = "n", .sequence = 5};
	struct vfsd_agent_writer writer;
	struct vfsd_agent_reader reader;
	size_t total;

	vfsd_agent_batch_begin(&writer, bytes, sizeof(bytes));
	CHECK(vfsd_agent_batch_add(&writer, &record));
	total = vfsd_agent_batch_end(&writer, 5);
	CHECK_EQ(total, 24 + 72);
	for (size_t bytes_there = 0; bytes_there < total; bytes_there++)
		CHECK_EQ(vfsd_agent_batch_open(&reader, bytes, bytes_there), -EBADMSG);

	memcpy(&header, bytes, sizeof(header));
	header.version++;
	memcpy(bytes, &header, sizeof(header));
	CHECK_EQ(vfsd_agent_batch_open(&reader, bytes, total), -EPROTONOSUPPORT);
	header.version--;
	header.sequence++; /* the record has another number */
	memcpy(bytes, &header, sizeof(header));
	CHECK_EQ(vfsd_agent_batch_open(&reader, bytes, total), 0);
	CHECK_EQ(vfsd_agent_batch_next(&reader, &record), -EBADMSG);
	header.count = 0;
	memcpy(bytes, &header, sizeof(header));
	CHECK_EQ(vfsd_agent_batch_open(&reader, bytes, total), -EBADMSG);
	header.bytes = sizeof(header);
	memcpy(bytes, &header, sizeof(header));
	CHECK_EQ(vfsd_agent_batch_open(&reader, bytes, sizeof(header)), 0);
	CHECK_EQ(vfsd_agent_batch_next(&reader, &record), 0);
}

static void test_which_records_are_valid(void)
{
	static const struct {
		struct vfsd_agent_record record;
		bool valid;
	} table[] = {
		{{.kind = VFSD_AGENT_CREATE, .node = 1, .name = "a"}, true},
		{{.kind = VFSD_AGENT_CREATE, .node = 1, .name = "..."}, true},
		{{.kind = VFSD_AGENT_CREATE, .node = 0, .name = "a"}, false},
		{{.kind = VFSD_AGENT_CREATE, .node = 1, .name = ""}, false},
		{{.kind = VFSD_AGENT_CREATE, .node = 1, .name = "."}, false},
		{{.kind = VFSD_AGENT_CREATE, .node = 1, .name = ".."}, false},
		{{.kind = VFSD_AGENT_CREATE, .node = 1, .name = "a/b"}, false},
		{{.kind = VFSD_AGENT_DELETE, .node = 1, .name = "a", .other = 1}, false},
		{{.kind = VFSD_AGENT_RENAME, .node = 1, .name = "a"}, false},
		{{.kind = VFSD_AGENT_RENAME, .node = 1, .name = "a", .other = 1}, false},
		{{.kind = VFSD_AGENT_RENAME, .node = 1, .name = "a", .other = 1, .other_name = "/"},
		 false},
		{{.kind = VFSD_AGENT_RENAME, .node = 1, .name = "a", .other = 1, .other_name = "b"},
		 true},
		{{.kind = VFSD_AGENT_MODIFY, .node = 1, .name = "a"}, true},
		{{.kind = VFSD_AGENT_MODIFY, .child = 1}, true},
		{{.kind = VFSD_AGENT_MODIFY}, false},
		{{.kind = VFSD_AGENT_MODIFY, .child = 1, .name = "a"}, false},
		{{.kind = VFSD_AGENT_ENDED, .child = 1}, true},
		{{.kind = VFSD_AGENT_ENDED, .node = 1, .name = "a", .child = 1}, false},
		{{.kind = VFSD_AGENT_LOSS}, true},
		{{.kind = VFSD_AGENT_LOSS, .node = 1}, false},
		{{.kind = 0}, false},
		{{.kind = VFSD_AGENT_KINDS}, false},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		CHECK_EQ(vfsd_agent_record_is_valid(&table[i].record), table[i].valid);
	CHECK(strcmp(vfsd_agent_kind_name(VFSD_AGENT_ENDED), "ENDED") == 0);
	CHECK(strcmp(vfsd_agent_kind_name(VFSD_AGENT_KINDS), "unknown") == 0);
}

static void test_messages(void)
{
	const struct vfsd_agent_message all = {
		.node = 1, .sequence = 2, .generation = 3, .mask = 4, .pid = 5, .padding = 6};
	struct vfsd_agent_message message, read;

	for (int type = VFSD_AGENT_HELLO; type < VFSD_AGENT_TYPES; type++) {
		message = vfsd_agent_message_make((enum vfsd_agent_type)type, &all);
		CHECK_EQ(vfsd_agent_message_read(&message, sizeof(message), &read), 0);
		CHECK(memcmp(&message, &read, sizeof(read)) == 0);
		CHECK_EQ(vfsd_agent_message_read(&message, sizeof(message) - 1, &read), -EBADMSG);
		message.padding = 1;
		CHECK_EQ(vfsd_agent_message_read(&message, sizeof(message), &read), -EBADMSG);
		message.padding = 0;
		message.version++;
		CHECK_EQ(vfsd_agent_message_read(&message, sizeof(message), &read),
			 -EPROTONOSUPPORT);
		message.version--;
		message.magic++;
		CHECK_EQ(vfsd_agent_message_read(&message, sizeof(message), &read), -EBADMSG);
	}
	message = vfsd_agent_message_make(VFSD_AGENT_ACK, &all);
	message.node = 1; /* an ACK has none */
	CHECK_EQ(vfsd_agent_message_read(&message, sizeof(message), &read), -EBADMSG);
	message = vfsd_agent_message_make(VFSD_AGENT_TYPES, &all);
	CHECK_EQ(vfsd_agent_message_read(&message, sizeof(message), &read), -EBADMSG);
}

int main(void)
{
	test_what_is_written_is_read();
	test_a_changed_byte_is_no_harm();
	test_what_is_no_batch();
	test_which_records_are_valid();
	test_messages();
	return 0;
}
