/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the guest's agent and the daemon read of each other: a batch if the first byte is even, else a
 * message. What is taken for one is written again to the same bytes.
 */
#include <string.h>

#include "fuzz.h"
#define VFSD_CHECK_ABORT
#include "check.h"
#include "fuse/agent_wire.h"

static void read_batch(const uint8_t *data, size_t size)
{
	_Alignas(8) static uint8_t again[VFSD_AGENT_BATCH_MAX];
	struct vfsd_agent_writer writer;
	struct vfsd_agent_reader reader;
	struct vfsd_agent_record record;
	uint64_t first;
	int got;

	if (size > sizeof(again) || vfsd_agent_batch_open(&reader, data, size) != 0)
		return;
	first = reader.sequence;
	vfsd_agent_batch_begin(&writer, again, size);
	while ((got = vfsd_agent_batch_next(&reader, &record)) == 1)
		CHECK(vfsd_agent_batch_add(&writer, &record));
	if (got == 0) {
		CHECK(vfsd_agent_batch_end(&writer, first) == size);
		CHECK(memcmp(again, data, size) == 0);
	}
}

static void read_message(const uint8_t *data, size_t size)
{
	struct vfsd_agent_message message;

	if (vfsd_agent_message_read(data, size, &message) != 0)
		return;
	message = vfsd_agent_message_make((enum vfsd_agent_type)message.type, &message);
	CHECK(memcmp(&message, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 1)
		read_message(data + 1, size - 1);
	else
		read_batch(data + 1, size - 1);
	return 0;
}

size_t vfsd_fuzz_seed(uint32_t index, uint8_t *bytes, size_t max)
{
	const struct vfsd_agent_message all = {
		.node = 1, .sequence = 2, .generation = 3, .mask = 4, .pid = 5};
	const struct vfsd_agent_record records[] = {
		{.kind = VFSD_AGENT_CREATE, .sequence = 9, .node = 1, .name = "new"},
		{.kind = VFSD_AGENT_RENAME,
		 .sequence = 10,
		 .node = 1,
		 .name = "new",
		 .other = 2,
		 .other_name = "newer"},
		{.kind = VFSD_AGENT_MODIFY, .sequence = 11, .child = 3},
		{.kind = VFSD_AGENT_LOSS, .sequence = 12},
	};
	_Alignas(8) uint8_t batch[1024];
	struct vfsd_agent_message message;
	struct vfsd_agent_writer writer;
	size_t size;

	if (index < VFSD_AGENT_TYPES - 1) {
		message = vfsd_agent_message_make((enum vfsd_agent_type)(index + 1), &all);
		bytes[0] = 1;
		memcpy(bytes + 1, &message, sizeof(message));
		return 1 + sizeof(message);
	}
	if (index > VFSD_AGENT_TYPES - 1)
		return 0;
	vfsd_agent_batch_begin(&writer, batch, sizeof(batch));
	for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
		(void)vfsd_agent_batch_add(&writer, &records[i]);
	size = vfsd_agent_batch_end(&writer, 9);
	if (size + 1 > max)
		return 0;
	bytes[0] = 0;
	memcpy(bytes + 1, batch, size);
	return 1 + size;
}
