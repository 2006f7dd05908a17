/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * event_guest - the event session of a pretended guest: a share with a few inodes, a fake source of host events,
 * and the driver's side of the notification queue, whose messages a test reads as text.
 */
#ifndef VFSD_EVENT_GUEST_H
#define VFSD_EVENT_GUEST_H

#include <poll.h>
#include <sys/fanotify.h>

#include "check.h"
#include "fake_source.h"
#include "fsnotify/events.h"
#include "fsnotify/record_ring.h"
#include "fsnotify/rfc2021.h"
#include "fuse/fuse.h"
#include "fuse/wire.h"
#include "guest.h"
#include "tree.h"

enum {
	EVENT_GUEST_BUFFERS = 8,
	EVENT_GUEST_BUFFER_BYTES = 1024,
	EVENT_GUEST_TEXT_BYTES = 1 << 15,
	FAN_ALL = 0xfff, /* all bits that inotify has, too */
};

struct event_guest {
	struct tree tree;
	int proc_self_fd;
	struct vfsd_inodes *inodes;
	struct vfsd_events *events;
	struct vfsd_fuse_hooks hooks;
	struct vfsd_inode *dir, *file; /* "d" and "d/f"; the references are the test's */

	struct guest memory;
	struct guest_ring driver;
	struct vfsd_vring scratch;
	uint32_t buffer_bytes;
	int kick_fd, call_fd, err_fd;
	bool rfc2021;
	bool ring_runs;
};

static inline struct vfsd_inode *event_guest_look_up(const struct event_guest *g, const char *name)
{
	int fd = openat(g->tree.fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct vfsd_inode *inode;
	struct statx st;

	CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st), 0);
	CHECK_EQ(vfsd_inode_lookup_fd(g->inodes, fd, &st, &inode), 0);
	return inode;
}

static inline void event_guest_create_with(struct event_guest *g,
					   const struct vfsd_source_ops *source,
					   const struct vfsd_source_ops *fallback, bool rfc2021)
{
	struct vfsd_inodes_config inodes = {.options.file_handles = VFSD_HANDLES_NEVER};
	struct vfsd_events_config config = {
		.source = source,
		.fallback = fallback,
		.options.ring_kib = VFSD_RECORD_RING_BYTES_MIN / 1024,
		.rfc2021 = rfc2021,
	};

	fake_reset();
	*g = (struct event_guest){.rfc2021 = rfc2021, .buffer_bytes = EVENT_GUEST_BUFFER_BYTES};
	tree_create(&g->tree);
	CHECK_EQ(mkdirat(g->tree.fd, "d", 0700), 0);
	tree_file(&g->tree, "d/f", "data");
	inodes.proc_self_fd = config.proc_self_fd = g->proc_self_fd = tree_proc_self_fd();
	CHECK_EQ(vfsd_inodes_create(&inodes, dup(g->tree.fd), &g->inodes), 0);
	g->dir = event_guest_look_up(g, "d");
	g->file = event_guest_look_up(g, "d/f");
	config.inodes = g->inodes;
	CHECK_EQ(vfsd_events_create(&config, &g->events), 0);
	g->hooks = vfsd_events_hooks(g->events);
	guest_create(&g->memory);
	g->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(g->kick_fd >= 0 && g->call_fd >= 0 && g->err_fd >= 0);
}

static inline void event_guest_create(struct event_guest *g)
{
	event_guest_create_with(g, &fake_source_merged, NULL, false);
}

static inline void event_guest_post(struct event_guest *g, uint16_t head)
{
	g->driver.desc[head] = guest_desc(GUEST_DATA + (uint64_t)head * EVENT_GUEST_BUFFER_BYTES,
					  g->buffer_bytes, VFSD_VRING_DESC_WRITE, 0);
	guest_ring_offer(&g->driver, head);
	(void)guest_ring_publish(&g->driver);
}

/* Start the notification ring at @base, with @buffers posted. */
static inline void event_guest_start_ring(struct event_guest *g, uint16_t base, uint16_t buffers,
					  bool alone)
{
	const struct vfsd_vring_setup setup = guest_setup(16, false, base);

	guest_ring_init(&g->driver, &g->scratch, &g->memory, 16, false, base);
	for (uint16_t i = 0; i < buffers; i++)
		event_guest_post(g, i);
	CHECK_EQ(vfsd_events_start_ring(g->events, g->memory.mem, &setup, g->kick_fd, g->call_fd,
					g->err_fd, alone),
		 0);
	g->ring_runs = true;
}

static inline uint16_t event_guest_stop_ring(struct event_guest *g)
{
	g->ring_runs = false;
	return vfsd_events_stop_ring(g->events);
}

/* A session as after INIT, with the ring running. */
static inline void event_guest_begin(struct event_guest *g)
{
	uint32_t server_mask;

	vfsd_events_set_offered(g->events, true);
	CHECK(g->hooks.session_start(g->hooks.ctx, true, &server_mask));
	event_guest_start_ring(g, 0, EVENT_GUEST_BUFFERS, false);
}

static inline void event_guest_destroy(struct event_guest *g)
{
	if (g->ring_runs)
		(void)event_guest_stop_ring(g);
	vfsd_events_destroy(g->events);
	CHECK(!fake.now);
	vfsd_inode_put(g->inodes, g->dir);
	vfsd_inode_put(g->inodes, g->file);
	vfsd_inodes_destroy(g->inodes);
	guest_destroy(&g->memory);
	CHECK_EQ(close(g->kick_fd) | close(g->call_fd) | close(g->err_fd) | close(g->proc_self_fd),
		 0);
	tree_destroy(&g->tree);
}

static inline int event_guest_subscribe(struct event_guest *g, struct vfsd_inode *inode,
					uint64_t mask)
{
	const struct vfsd_fuse_interest interest = {.mask = mask};

	return g->hooks.subscribe(g->hooks.ctx, inode, &interest);
}

/* Everything that the host has is delivered when this returns, if anything is watched. */
static inline void event_guest_barrier(struct event_guest *g)
{
	g->hooks.barrier(g->hooks.ctx, false);
}

static inline const char *event_guest_who(const struct event_guest *g, uint64_t nodeid)
{
	return nodeid == VFSD_NODEID_ROOT ? "root" :
	       nodeid == g->dir->nodeid	  ? "d" :
	       nodeid == g->file->nodeid  ? "f" :
	       nodeid == 0		  ? "-" :
					    "?";
}

/* "MASK WHO CHILD FLAGS NAME\n" each; a semicolon ends each message. */
static inline size_t event_guest_print(const struct event_guest *g, const uint8_t *message,
				       uint32_t bytes, char *text, size_t room)
{
	struct fuse_out_header header;
	size_t n = 0;
	uint32_t at = sizeof(header);

	CHECK(bytes >= sizeof(header));
	memcpy(&header, message, sizeof(header));
	CHECK_EQ(header.len, bytes);
	CHECK_EQ(header.unique, 0);
	if (g->rfc2021) {
		struct vfsd_rfc2021_out out;

		CHECK_EQ(header.error, VFSD_RFC2021_NOTIFY);
		CHECK(bytes - at >= sizeof(out));
		memcpy(&out, message + at, sizeof(out));
		CHECK_EQ(bytes, at + sizeof(out) + out.namelen);
		return (size_t)snprintf(text, room, "%#llx %s %s;", (unsigned long long)out.mask,
					event_guest_who(g, out.inode),
					out.namelen ? (const char *)message + at + sizeof(out) :
						      "-");
	}
	CHECK_EQ(header.error, FUSE_NOTIFY_FSNOTIFY);
	while (at < bytes) {
		struct fuse_notify_fsnotify_out out;
		const char *name = "-";

		CHECK(bytes - at >= sizeof(out));
		memcpy(&out, message + at, sizeof(out));
		at += sizeof(out);
		if (out.namelen) {
			name = (const char *)message + at;
			CHECK(out.namelen < bytes - at && strlen(name) == out.namelen);
			at += (out.namelen + 1 + 7) & ~7u;
		}
		if (out.mask & VFSD_SOURCE_FS_ERROR)
			n += (size_t)snprintf(text + n, room - n, "error %d of %s x%u\n", out.error,
					      event_guest_who(g, out.nodeid), out.cookie);
		else
			n += (size_t)snprintf(text + n, room - n, "%#llx %s %s %u %s\n",
					      (unsigned long long)out.mask,
					      event_guest_who(g, out.nodeid),
					      event_guest_who(g, out.child), out.flags, name);
		CHECK(n < room);
	}
	CHECK_EQ(at, bytes);
	return n + (size_t)snprintf(text + n, room - n, ";");
}

/* Take what the device has used, as text, and post the buffers again. */
static inline const char *event_guest_take(struct event_guest *g)
{
	static char text[EVENT_GUEST_TEXT_BYTES];
	uint32_t id, bytes;
	size_t n = 0;

	text[0] = '\0';
	while (guest_ring_take(&g->driver, &id, &bytes)) {
		const uint8_t *buffer =
			guest_at(&g->memory, GUEST_DATA + (uint64_t)id * EVENT_GUEST_BUFFER_BYTES);

		n += event_guest_print(g, buffer, bytes, text + n, sizeof(text) - n);
		event_guest_post(g, (uint16_t)id);
	}
	return text;
}

static inline void event_guest_expect(struct event_guest *g, const char *want)
{
	const char *got = event_guest_take(g);

	if (strcmp(got, want) != 0) {
		(void)fprintf(stderr, "got:\n%s\nwant:\n%s\n", got, want);
		CHECK(!"the messages");
	}
}

static inline bool event_guest_is_signalled(int fd)
{
	eventfd_t count;

	return eventfd_read(fd, &count) == 0;
}

#endif
