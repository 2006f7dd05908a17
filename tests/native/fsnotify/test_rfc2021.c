/* SPDX-License-Identifier: BSD-3-Clause */
/* The dialect of 2021: its requests, its notifications byte by byte, what its guests receive. */
#include "fsnotify/rfc2021.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>

#include "check.h"
#include "fsnotify/record_ring.h"
#include "fuse/fuse.h"
#include "fuse/rfc2021.h"
#include "source/source.h"
#include "fuse/wire.h"

static void test_decode(void)
{
	static const struct {
		struct vfsd_rfc2021_in in;
		int error;
		uint64_t mask;
		bool add;
	} cases[] = {
		{{.mask = IN_CREATE, .action = 1}, 0, IN_CREATE, false},
		{{.mask = IN_CREATE | IN_MASK_ADD, .action = 1}, 0, IN_CREATE, true},
		{{.mask = IN_ALL_EVENTS | IN_ONLYDIR, .action = 1}, 0, IN_ALL_EVENTS, false},
		{{.mask = IN_CREATE, .action = 0}, 0, 0, false},
		{{.mask = UINT64_MAX, .action = 0}, 0, 0, false},
		{{.mask = 0, .action = 1}, -EINVAL, 0, false},
		{{.mask = IN_MASK_ADD, .action = 1}, -EINVAL, 0, false},
		{{.mask = IN_CREATE | 1 << 16, .action = 1}, -EINVAL, 0, false},
		{{.mask = IN_CREATE | UINT64_C(1) << 32, .action = 1}, -EINVAL, 0, false},
		{{.mask = IN_CREATE, .action = 2}, -EINVAL, 0, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct vfsd_fuse_interest got = {.mask = 99};
		struct vfsd_rfc2021_in in = cases[i].in;

		in.group = UINT64_C(0xffff888012345678);
		CHECK_EQ(vfsd_rfc2021_decode(&in, &got), cases[i].error);
		if (cases[i].error) {
			CHECK_EQ(got.mask, 99);
			continue;
		}
		CHECK(got.owner == in.group);
		CHECK_EQ(got.mask, cases[i].mask);
		CHECK_EQ(got.add, cases[i].add);
		CHECK_EQ(got.flags, 0);
	}
}

static void test_split(void)
{
	struct vfsd_source_event event = {.nodeid = 7, .mask = IN_ATTRIB, .unlinked = true};
	struct vfsd_source_event parts[2];

	CHECK_EQ(vfsd_rfc2021_split(&event, IN_ALL_EVENTS, parts), 2);
	CHECK(parts[0].mask == IN_ATTRIB && !parts[0].unlinked);
	CHECK(parts[1].nodeid == 7 && parts[1].mask == IN_DELETE_SELF);
	CHECK_EQ(vfsd_rfc2021_split(&event, IN_DELETE_SELF, parts), 1);
	CHECK(parts[0].mask == IN_DELETE_SELF);
	CHECK_EQ(vfsd_rfc2021_split(&event, IN_ATTRIB, parts), 1);
	CHECK_EQ(vfsd_rfc2021_split(&event, IN_CREATE, parts), 0);
	event = (struct vfsd_source_event){.nodeid = 7, .mask = IN_CREATE | IN_ISDIR};
	CHECK_EQ(vfsd_rfc2021_split(&event, IN_CREATE, parts), 1);
	CHECK_EQ(parts[0].mask, IN_CREATE | IN_ISDIR);
	CHECK_EQ(vfsd_rfc2021_split(&event, IN_DELETE, parts), 0);
}

static void check_message(const uint8_t *message, uint32_t len, const struct vfsd_rfc2021_out *want,
			  const char *name)
{
	struct fuse_out_header header;
	struct vfsd_rfc2021_out out;
	const uint8_t *at = message + sizeof(header) + sizeof(out);

	memcpy(&header, message, sizeof(header));
	memcpy(&out, message + sizeof(header), sizeof(out));
	CHECK_EQ(header.len, len);
	CHECK_EQ(header.error, 8);
	CHECK_EQ(header.unique, 0);
	CHECK(out.inode == want->inode && out.mask == want->mask && out.cookie == want->cookie);
	CHECK_EQ(out.namelen, name ? (strlen(name) / 16 + 1) * 16 : 0);
	CHECK_EQ(len, sizeof(header) + sizeof(out) + out.namelen);
	for (size_t i = 0; i < out.namelen; i++)
		CHECK_EQ(at[i], i < strlen(name) ? name[i] : 0);
}

static void test_encode(void)
{
	static _Alignas(8) uint8_t memory[sizeof(struct vfsd_record) + 512];
	struct vfsd_record *record = (void *)memory;
	struct fuse_notify_fsnotify_out *event = (void *)record->payload;
	struct vfsd_rfc2021_out want = {.inode = 5, .mask = IN_MOVED_TO, .cookie = 9};
	uint8_t *message = malloc(VFSD_RFC2021_BYTES_MAX); /* exactly, for the sanitizer */

	CHECK(message);
	for (uint32_t len = 0; len <= 255; len++) {
		char name[256] = "";

		memset(name, 'n', len);
		record->type = VFSD_RECORD_FSNOTIFY;
		*event = (struct fuse_notify_fsnotify_out){
			.nodeid = 5, .child = 6, .mask = IN_MOVED_TO, .cookie = 9, .namelen = len};
		memcpy(event->name, name, sizeof(name));
		memset(message, 0xaa, VFSD_RFC2021_BYTES_MAX);
		check_message(message, vfsd_rfc2021_encode(record, message), &want,
			      len ? name : NULL);
	}
	record->type = VFSD_RECORD_LOSS;
	want = (struct vfsd_rfc2021_out){.inode = FUSE_ROOT_ID, .mask = IN_Q_OVERFLOW};
	check_message(message, vfsd_rfc2021_encode(record, message), &want, NULL);
	free(message);
}

int main(void)
{
	test_decode();
	test_split();
	test_encode();
	return 0;
}
