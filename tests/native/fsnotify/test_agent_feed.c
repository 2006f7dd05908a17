/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What inotify's events become for the guest's agent: tables of runs, then any run at all.
 */
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "check.h"
#include "fsnotify/agent_feed.h"
#include "fsnotify/record_ring.h"
#include "fuse/wire.h"

enum { A = 10, B = 11, X = 20, NAMELESS = 30, ROUNDS = 3000 };

struct in {
	uint64_t mask; /* 0 with UNLINKED; UINT64_MAX: a loss; UINT64_MAX - 1: forgotten */
	uint64_t node, child;
	const char *name; /* NULL: none */
	uint32_t cookie;
	uint32_t flags;
};

struct out {
	enum vfsd_agent_kind kind;
	uint64_t node;
	const char *name;
	uint64_t child, other;
	const char *other_name;
};

#define LOST UINT64_MAX
#define FORGOT (UINT64_MAX - 1)

static uint32_t type_of(void *ctx, uint64_t node, const char *name)
{
	(void)ctx;
	(void)node;
	return name && strcmp(name, "gone") == 0 ? 0 : S_IFLNK;
}

static bool has_name(void *ctx, uint64_t node)
{
	(void)ctx;
	return node != NAMELESS;
}

static void put(struct vfsd_record_ring *ring, const struct in *in)
{
	struct {
		struct fuse_notify_fsnotify_out out;
		char name[256];
	} record = {.out = {.nodeid = in->node,
			    .child = in->child,
			    .mask = in->mask,
			    .flags = in->flags,
			    .cookie = in->cookie}};
	uint32_t bytes = sizeof(record.out);

	if (in->mask == LOST) {
		vfsd_record_ring_put_loss(ring, 3);
		return;
	}
	if (in->mask == FORGOT)
		record.out.mask = record.out.flags = 0;
	if (in->name && in->mask != FORGOT) {
		record.out.namelen = (uint32_t)strlen(in->name);
		memcpy(record.name, in->name, record.out.namelen + 1);
		bytes += record.out.namelen + 1;
	}
	CHECK(vfsd_record_ring_put(ring, VFSD_RECORD_FSNOTIFY, 0, &record, bytes));
}

enum { RUN_MAX = 6 };

static const struct {
	const char *what;
	struct in in[RUN_MAX];
	struct out out[RUN_MAX];
} runs[] = {
	{"a rename is one",
	 {{FAN_MOVED_FROM, A, X, "a", 1, 0}, {FAN_MOVED_TO, B, X, "b", 1, 0}},
	 {{VFSD_AGENT_RENAME, A, "a", X, B, "b"}}},
	{"and raises MOVE_SELF itself",
	 {{FAN_MOVED_FROM, A, X, "a", 1, 0},
	  {FAN_MOVED_TO, B, X, "b", 1, 0},
	  {FAN_MOVE_SELF, X, 0, NULL, 0, 0}},
	 {{VFSD_AGENT_RENAME, A, "a", X, B, "b"}}},
	{"once",
	 {{FAN_MOVED_FROM, A, X, "a", 1, 0},
	  {FAN_MOVED_TO, B, X, "b", 1, 0},
	  {FAN_MOVE_SELF, X, 0, NULL, 0, 0},
	  {FAN_MODIFY, X, 0, NULL, 0, 0},
	  {FAN_MOVE_SELF, X, 0, NULL, 0, 0}},
	 {{VFSD_AGENT_RENAME, A, "a", X, B, "b"},
	  {VFSD_AGENT_MODIFY, 0, "", X, 0, ""},
	  {VFSD_AGENT_MOVE_SELF, 0, "", X, 0, ""}}},
	{"of that object only",
	 {{FAN_MOVED_FROM, A, X, "a", 1, 0},
	  {FAN_MOVED_TO, B, X, "b", 1, 0},
	  {FAN_MOVE_SELF, A, 0, NULL, 0, 0}},
	 {{VFSD_AGENT_RENAME, A, "a", X, B, "b"}, {VFSD_AGENT_MOVE_SELF, 0, "", A, 0, ""}}},
	{"half a rename leaves the share",
	 {{FAN_MOVED_FROM, A, 0, "a", 1, 0}},
	 {{VFSD_AGENT_MOVED_OUT, A, "a", 0, 0, ""}}},
	{"and another comes into it",
	 {{FAN_MOVED_FROM, A, 0, "a", 1, 0}, {FAN_MOVED_TO, B, X, "b", 2, 0}},
	 {{VFSD_AGENT_MOVED_OUT, A, "a", 0, 0, ""}, {VFSD_AGENT_MOVED_IN, B, "b", X, 0, ""}}},
	{"halves with something between them are two",
	 {{FAN_MOVED_FROM, A, 0, "a", 1, 0},
	  {FAN_CREATE, A, 0, "c", 0, 0},
	  {FAN_MOVED_TO, B, X, "b", 1, 0}},
	 {{VFSD_AGENT_MOVED_OUT, A, "a", 0, 0, ""},
	  {VFSD_AGENT_CREATE, A, "c", 0, 0, ""},
	  {VFSD_AGENT_MOVED_IN, B, "b", X, 0, ""}}},
	{"the last name's ATTRIB comes with the end",
	 {{FAN_ATTRIB, X, 0, NULL, 0, FUSE_FSN_UNLINKED}, {FAN_DELETE, A, 0, "a", 0, 0}},
	 {{VFSD_AGENT_ENDED, 0, "", X, 0, ""}, {VFSD_AGENT_DELETE, A, "a", 0, 0, ""}}},
	{"also where the host has the end later",
	 {{FAN_ATTRIB, NAMELESS, 0, NULL, 0, 0}, {0, NAMELESS, 0, NULL, 0, FUSE_FSN_UNLINKED}},
	 {{VFSD_AGENT_ENDED, 0, "", NAMELESS, 0, ""}}},
	{"but not another name's",
	 {{FAN_ATTRIB, X, 0, NULL, 0, 0}, {0, X, 0, NULL, 0, FUSE_FSN_UNLINKED}},
	 {{VFSD_AGENT_ATTRIB, 0, "", X, 0, ""}, {VFSD_AGENT_ENDED, 0, "", X, 0, ""}}},
	{"other events do not",
	 {{FAN_CLOSE_WRITE, A, X, "a", 0, FUSE_FSN_UNLINKED}},
	 {{VFSD_AGENT_CLOSE_WRITE, A, "a", X, 0, ""}, {VFSD_AGENT_ENDED, 0, "", X, 0, ""}}},
	{"an end alone",
	 {{0, X, 0, NULL, 0, FUSE_FSN_UNLINKED}},
	 {{VFSD_AGENT_ENDED, 0, "", X, 0, ""}}},
	{"a directory that has left the share is nowhere",
	 {{FAN_CREATE, 0, 0, "a", 0, 0}, {FAN_CREATE, A, 0, "b", 0, 0}},
	 {{VFSD_AGENT_CREATE, A, "b", 0, 0, ""}}},
	{"a loss has its place, and parts halves",
	 {{FAN_MOVED_FROM, A, 0, "a", 1, 0},
	  {LOST, 0, 0, NULL, 0, 0},
	  {FAN_MOVED_TO, B, X, "b", 1, 0}},
	 {{VFSD_AGENT_MOVED_OUT, A, "a", 0, 0, ""},
	  {VFSD_AGENT_LOSS, 0, "", 0, 0, ""},
	  {VFSD_AGENT_MOVED_IN, B, "b", X, 0, ""}}},
	{"so has a forgotten node",
	 {{FORGOT, X, 0, NULL, 0, 0}, {FAN_CREATE, A, 0, "a", 0, 0}},
	 {{VFSD_AGENT_FORGOTTEN, 0, "", X, 0, ""}, {VFSD_AGENT_CREATE, A, "a", 0, 0, ""}}},
};

static struct vfsd_record_ring *new_ring(void)
{
	struct vfsd_record_ring *ring;

	CHECK_EQ(vfsd_record_ring_create(VFSD_RECORD_RING_BYTES_MIN, &ring), 0);
	return ring;
}

static void test_runs(void)
{
	_Alignas(8) uint8_t batch[VFSD_AGENT_FEED_MIN];
	struct vfsd_agent_record record;
	struct vfsd_agent_reader reader;
	size_t bytes;

	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		struct vfsd_record_ring *ring = new_ring();
		struct vfsd_agent_feed feed = {.type_of = type_of, .has_name = has_name};

		for (int k = 0; k < RUN_MAX && (runs[i].in[k].mask || runs[i].in[k].flags); k++)
			put(ring, &runs[i].in[k]);
		bytes = vfsd_agent_feed_take(&feed, ring, batch, sizeof(batch));
		CHECK_EQ(vfsd_agent_batch_open(&reader, batch, bytes), 0);
		for (int k = 0; k < RUN_MAX && runs[i].out[k].kind != 0; k++) {
			const struct out *out = &runs[i].out[k];

			if (vfsd_agent_batch_next(&reader, &record) != 1 ||
			    record.kind != out->kind)
				(void)fprintf(stderr, "%s: record %d\n", runs[i].what, k);
			CHECK_EQ(record.kind, out->kind);
			CHECK_EQ(record.node, out->node);
			CHECK_EQ(record.other, out->other);
			CHECK_EQ(record.child, out->child);
			CHECK(strcmp(record.name, out->name) == 0);
			CHECK(strcmp(record.other_name, out->other_name) == 0);
		}
		CHECK_EQ(vfsd_agent_batch_next(&reader, &record), 0);
		CHECK_EQ(vfsd_agent_feed_take(&feed, ring, batch, sizeof(batch)), 0);
		vfsd_record_ring_destroy(ring);
	}
}

static void test_types(void)
{
	static const struct {
		struct in in;
		uint32_t mode;
	} table[] = {
		{{FAN_CREATE | FAN_ONDIR, A, 0, "a", 0, 0}, S_IFDIR},
		{{FAN_CREATE, A, 0, "a", 0, 0}, S_IFLNK},
		{{FAN_CREATE, A, 0, "gone", 0, 0}, S_IFREG},
		{{FAN_DELETE, A, 0, "a", 0, 0}, S_IFREG},
		{{FAN_ATTRIB, X, 0, NULL, 0, 0}, S_IFLNK},
	};
	_Alignas(8) uint8_t batch[VFSD_AGENT_FEED_MIN];
	struct vfsd_agent_record record;
	struct vfsd_agent_reader reader;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct vfsd_record_ring *ring = new_ring();
		struct vfsd_agent_feed feed = {.type_of = type_of, .has_name = has_name};
		size_t bytes;

		put(ring, &table[i].in);
		bytes = vfsd_agent_feed_take(&feed, ring, batch, sizeof(batch));
		CHECK_EQ(vfsd_agent_batch_open(&reader, batch, bytes), 0);
		CHECK_EQ(vfsd_agent_batch_next(&reader, &record), 1);
		CHECK_EQ(record.mode & S_IFMT, table[i].mode);
		vfsd_record_ring_destroy(ring);
	}
}

static uint64_t state = 88172645463325252ULL;

static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

/* Whatever comes: batches are whole and in order, and a reader that is slow loses no end. */
static void test_any_run(void)
{
	static const uint64_t masks[] = {FAN_CREATE,
					 FAN_DELETE,
					 FAN_MOVED_FROM,
					 FAN_MOVED_TO,
					 FAN_MOVE_SELF,
					 FAN_MODIFY,
					 FAN_ATTRIB,
					 FAN_OPEN,
					 FAN_CLOSE_WRITE,
					 LOST,
					 FORGOT,
					 0,
					 FAN_CREATE | FAN_ONDIR};
	_Alignas(8) static uint8_t batch[VFSD_AGENT_BATCH_MAX];
	struct vfsd_record_ring *ring = new_ring();
	struct vfsd_agent_feed feed = {.type_of = type_of, .has_name = has_name};
	struct vfsd_agent_record record;
	struct vfsd_agent_reader reader;
	uint64_t sequence = 0, ends_in = 0, ends_out = 0;
	char name[256];
	size_t bytes;

	for (int round = 0; round < ROUNDS; round++) {
		for (uint64_t n = draw(20); n > 0; n--) {
			struct in in = {.mask = masks[draw(13)],
					.node = draw(4),
					.child = draw(3),
					.cookie = (uint32_t)draw(3)};

			memset(name, 'n', sizeof(name));
			name[1 + draw(draw(8) == 0 ? 255 : 8)] = '\0';
			in.name = draw(3) ? name : NULL;
			in.flags = in.mask == 0 || draw(5) == 0 ? FUSE_FSN_UNLINKED : 0;
			ends_in += in.flags != 0 && in.mask < FORGOT &&
				   (in.name ? in.child : in.node) != 0;
			put(ring, &in);
			in.mask = FAN_ACCESS; /* so that no two are merged */
			in.flags = 0;
			in.cookie = (uint32_t)n + 1000;
			put(ring, &in);
		}
		do {
			bytes = vfsd_agent_feed_take(&feed, ring, batch,
						     VFSD_AGENT_FEED_MIN + draw(4000));
			if (bytes == 0)
				break;
			CHECK_EQ(vfsd_agent_batch_open(&reader, batch, bytes), 0);
			CHECK_EQ(reader.sequence, sequence + 1);
			while (vfsd_agent_batch_next(&reader, &record) == 1) {
				sequence = record.sequence;
				ends_out += record.kind == VFSD_AGENT_ENDED;
			}
			CHECK_EQ(reader.count, 0);
		} while (!vfsd_record_ring_empty(ring));
	}
	CHECK_EQ(ends_out, ends_in);
	vfsd_record_ring_destroy(ring);
}

int main(void)
{
	test_runs();
	test_types();
	test_any_run();
	return 0;
}
