/* SPDX-License-Identifier: BSD-3-Clause */
/* What read() of a group returns, taken apart; and what no kernel would write. */
#include "source/fanotify/decode.h"

#include "raw.h"

static const pid_t SELF = RAW_SELF;

static void text_event(struct text *text, struct numbers *numbers,
		       const struct vfsd_fan_event *event)
{
	text_put(text, "%d%s ", event->pid, event->self_generated ? "!" : "");
	text_bits(text, event->mask);
	text_place(text, numbers, &event->where);
	text_place(text, numbers, &event->object);
	text_place(text, numbers, &event->old_name);
	text_place(text, numbers, &event->new_name);
	text_put(text, "\n");
}

/* Decode @size bytes; returns how many of them were, and in @got the events as text. */
static size_t decode(const struct raw *raw, size_t size, char *got, size_t max)
{
	static struct numbers numbers;
	struct text text = {got, max};
	struct vfsd_fan_events events;
	size_t done;

	CHECK_EQ(vfsd_fan_events_init(&events, SELF, RAW_BYTES_MAX), 0);
	numbers.count = 0;
	*got = '\0';
	done = vfsd_fan_decode(&events, raw->bytes, size);
	for (uint32_t i = 0; i < events.count; i++)
		text_event(&text, &numbers, &events.at[i]);
	vfsd_fan_events_free(&events);
	return done;
}

static void test_events(void)
{
	static const struct {
		const char *queue, *want;
	} table[] = {
		{"", ""},
		{"7 CREATE d1/a o2\n", "7 CREATE d1/a o2\n"},
		{"0 MODIFY|CLOSE_WRITE d1/name o2\n", "0 MODIFY|CLOSE_WRITE d1/name o2\n"},
		/* The daemon's own is marked. */
		{"1 DELETE|DIR d1/a\n", "1! DELETE|DIR d1/a\n"},
		/* A directory itself has no name. */
		{"7 ATTRIB|DIR d3/.\n", "7 ATTRIB|DIR o3\n"},
		{"7 DELETE_SELF o4\n", "7 DELETE_SELF o4\n"},
		{"7 RENAME|DIR d1/a> >d2/b o3\n", "7 RENAME|DIR o3 d1/a d2/b\n"},
		/* Of one side only, where the other is not watched. */
		{"7 RENAME >d2/b\n", "7 RENAME d2/b\n"},
		{"0 OVERFLOW\n7 CREATE d1/b\n", "0 OVERFLOW\n7 CREATE d1/b\n"},
		/* The first record of a kind counts. */
		{"7 CREATE d1/a d2/b o3 o4\n", "7 CREATE d1/a o3\n"},
	};
	char got[4096];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct raw raw = {0};

		raw_parse(&raw, table[i].queue);
		CHECK_EQ(decode(&raw, raw.size, got, sizeof(got)), raw.size);
		CHECK(strcmp(got, table[i].want) == 0);
	}
}

/* A tail that is no whole event is not decoded, wherever it ends. */
static void test_truncated(void)
{
	struct raw raw = {0};
	size_t first;
	char got[4096];

	raw_parse(&raw, "7 CREATE d1/a o2\n");
	first = raw.size;
	raw_parse(&raw, "7 DELETE d1/a o2\n");
	for (size_t size = 0; size < raw.size; size++) {
		CHECK_EQ(decode(&raw, size, got, sizeof(got)), size < first ? 0 : first);
		CHECK(strcmp(got, size < first ? "" : "7 CREATE d1/a o2\n") == 0);
	}
}

/* One word of an event is wrong. */
static void test_malformed(void)
{
	enum { METADATA = sizeof(struct fanotify_event_metadata), FID = 12 };
	static const struct {
		size_t offset;
		uint32_t value;
		uint32_t bytes; /* of the value */
		const char *want;
	} table[] = {
		/* Lengths of the event: nothing is decoded. */
		{0, 0, 4, NULL},
		{0, METADATA - 4, 4, NULL},
		{0, 5000, 4, NULL},
		{0, UINT32_MAX, 4, NULL},
		{0, METADATA + 2, 4, NULL},
		{6, 5000, 2, NULL}, /* metadata_len */
		{6, METADATA + 1, 2, NULL},
		/* Length of the first info record: none is decoded. */
		{METADATA + 2, 0, 2, "7 CREATE\n"},
		{METADATA + 2, 3, 2, "7 CREATE\n"},
		{METADATA + 2, 5000, 2, "7 CREATE\n"},
		{METADATA + 2, FID + 9, 2, "7 CREATE\n"},
		/* A kind that is not known, a handle that cannot be: that place is empty. */
		{METADATA, 99, 1, "7 CREATE o2\n"},
		{METADATA + FID, 0, 4, "7 CREATE o2\n"},
		{METADATA + FID, 5000, 4, "7 CREATE o2\n"},
		{METADATA + FID, 129, 4, "7 CREATE o2\n"},
		{METADATA + FID, UINT32_MAX, 4, "7 CREATE o2\n"},
		/* A handle that takes the place of the name, a name without an end: none. */
		{METADATA + FID, 8, 4, "7 CREATE"},
		{METADATA + FID + 12, 0x61616161, 4, "7 CREATE o1 o2\n"},
	};
	char got[4096];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct raw raw = {0};
		const char *want = table[i].want;

		raw_parse(&raw, "7 CREATE d1/abc o2\n");
		memcpy(raw.bytes + table[i].offset, &table[i].value, table[i].bytes);
		CHECK_EQ(decode(&raw, raw.size, got, sizeof(got)), want ? raw.size : 0);
		CHECK(strncmp(got, want ? want : "", want ? strlen(want) : 1) == 0);
	}
}

/* More events than there is room for are left. */
static void test_full(void)
{
	struct vfsd_fan_events events;
	struct raw raw = {0};
	size_t one;

	raw_parse(&raw, "7 CREATE d1/a o2\n");
	one = raw.size;
	for (int i = 0; i < 9; i++)
		raw_parse(&raw, "7 CREATE d1/a o2\n");
	CHECK_EQ(vfsd_fan_events_init(&events, SELF, 4 * 64), 0);
	CHECK_EQ(vfsd_fan_decode(&events, raw.bytes, raw.size), 4 * one);
	CHECK_EQ(events.count, 4);
	CHECK_EQ(vfsd_fan_decode(&events, raw.bytes + 4 * one, raw.size - 4 * one), 0);
	vfsd_fan_events_clear(&events);
	CHECK_EQ(vfsd_fan_decode(&events, raw.bytes + 4 * one, raw.size - 4 * one), 4 * one);
	vfsd_fan_events_free(&events);
}

/* An error names its object, or nothing but the filesystem. */
static void test_errors(void)
{
	const int32_t words[] = {117, 3}; /* EUCLEAN, three times */
	const uint64_t fsid = 0x1234567890;
	struct fanotify_event_info_header header = {.info_type = 5, .len = 4 + sizeof(words)};

	for (uint32_t bytes = 0; bytes <= 4; bytes += 4) {
		struct vfsd_fan_events events;
		struct raw raw = {0};

		raw_event(&raw, 0x8000 /* FAN_FS_ERROR */, 0);
		memcpy(raw.bytes + raw.size, &header, sizeof(header));
		memcpy(raw.bytes + raw.size + sizeof(header), words, sizeof(words));
		raw.size += header.len;
		raw_info(&raw, FAN_EVENT_INFO_TYPE_FID, 9, NULL);
		memcpy(raw.bytes + raw.size - 20, &fsid, sizeof(fsid));
		memcpy(raw.bytes + raw.size - 12, &bytes, sizeof(bytes));
		CHECK_EQ(vfsd_fan_events_init(&events, SELF, 4096), 0);
		CHECK_EQ(vfsd_fan_decode(&events, raw.bytes, raw.size), raw.size);
		CHECK_EQ(events.at[0].error, 117);
		CHECK_EQ(events.at[0].error_count, 3);
		CHECK_EQ(events.at[0].object.handle->bytes, bytes);
		CHECK_EQ(events.at[0].object.handle->fsid, fsid);
		vfsd_fan_events_free(&events);
	}
}

/* What is found by its hash is what is there. */
static void test_hashes(void)
{
	static const struct {
		const char *place;
		uint32_t at;
	} table[] = {
		{"d1/a", 0},
		{"o2", 0},
		{"d1/b", 3},
		{"d3/.", 1},
		{"d4/c", 3},
		{"d1/none", 4},
		/* By what name something was opened is not asked. */
		{"d5/e", 4},
		{"o6", 2},
	};
	struct vfsd_fan_events events;
	struct raw raw = {0};

	raw_parse(&raw, "7 CREATE d1/a o2\n7 ATTRIB d3/.\n7 OPEN d5/e o6\n7 RENAME d1/b> >d4/c\n");
	CHECK_EQ(vfsd_fan_events_init(&events, SELF, 4096), 0);
	CHECK_EQ(vfsd_fan_decode(&events, raw.bytes, raw.size), raw.size);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *name = strchr(table[i].place, '/');
		const uint32_t number = (uint32_t)strtoul(table[i].place + 1, NULL, 10);
		struct vfsd_file_handle handle = {.type = 1, .bytes = 4};

		memcpy(handle.data, &number, 4);
		name = name && name[1] != '.' ? name + 1 : NULL;
		CHECK_EQ(vfsd_fan_find_hash(&events, 0, events.count,
					    vfsd_fan_hash(&handle, name,
							  name ? (uint32_t)strlen(name) : 0)),
			 table[i].at);
	}
	vfsd_fan_events_free(&events);
}

int main(void)
{
	test_events();
	test_truncated();
	test_malformed();
	test_full();
	test_errors();
	test_hashes();
	return 0;
}
