/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Decoding and reordering of what a fanotify group returns. The input is those bytes, as in the corpus
 * that was recorded (tests/native/source/fanotify/record); what the host answers, and how much it
 * returns at once, is decided by their hash.
 */
#include "fuzz.h"
#define VFSD_CHECK_ABORT
#include "source/fanotify/properties.h"

static struct steps steps;

/* Something was looked up: events come meanwhile, and ends among them are moved. */
static void look_up(struct steps *self, const struct vfsd_file_handle *object)
{
	const uint32_t fresh = self->events.count;

	if (!properties.ends_move)
		return;
	(void)steps_read(self);
	vfsd_fan_reorder_late_ends(&self->reorder, fresh, self->seed & 4 ? object : NULL);
}

static void run(const uint8_t *data, size_t size, uint64_t seed)
{
	const bool ends_move = (seed & 1) != 0;

	/* Without late ends all is read at once. */
	steps_create(&steps, data, size, ends_move ? seed % 512 + 1 : size, NULL);
	steps.seed = seed >> 8;
	properties_check(&steps, ends_move);
	steps.exists = look_up;
	steps_run(&steps);
	/* The next window. */
	vfsd_fan_window_clear(steps.reorder.window);
	steps_destroy(&steps);
}

/* Every kind of event, of few names and objects. */
size_t vfsd_fuzz_seed(uint32_t index, uint8_t *bytes, size_t max)
{
	static const char *const queues[] = {
		"7 CREATE|MODIFY|CLOSE_WRITE|DELETE d1/a o2\n8 ATTRIB|DELETE_SELF o2\n"
		"8 CLOSE_WRITE d1/a o2\n1 DELETE d1/a o2\n",
		"7 RENAME d1/a> >d1/b o2\n8 MOVE_SELF o2\n7 RENAME d1/b> >d1/a o2\n"
		"7 CREATE|DELETE d1/b o3\n",
		"7 MOVED_FROM|MOVED_TO d1/a\n7 MOVED_TO d2/b\n0 OVERFLOW\n7 CREATE d1/a\n",
		"7 OPEN|ACCESS|DIR d3/.\n7 ATTRIB|DELETE_SELF|DIR d3/.\n1 DELETE|DIR d1/c o3\n",
	};
	static struct raw raw;

	if (index >= sizeof(queues) / sizeof(queues[0]))
		return 0;
	raw.size = 0;
	raw_parse(&raw, queues[index]);
	CHECK(raw.size <= max);
	memcpy(bytes, raw.bytes, raw.size);
	return raw.size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t seed = 1469598103934665603U;

	if (size > RAW_BYTES_MAX)
		return 0;
	for (size_t i = 0; i < size; i++)
		seed = (seed ^ data[i]) * 1099511628211U;
	seed ^= seed >> 32;
	run(data, size, seed);
	return 0;
}
