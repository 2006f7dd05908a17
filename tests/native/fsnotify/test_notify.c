/* SPDX-License-Identifier: BSD-3-Clause */
/* From records to the driver's buffers: what fits, what waits, and which buffers are refused. */
#include "fsnotify/notify.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>

#include "fsnotify/record_ring.h"
#include "fsnotify/rfc2021.h"
#include "fuse/wire.h"
#include "guest.h"

enum { NUM = 16, BUFFER_BYTES = 8192 };

struct queue {
	struct guest guest;
	struct guest_ring driver;
	struct vfsd_vring scratch;
	struct vfsd_record_ring *records;
	struct vfsd_notify *notify;
	int call_fd;
};

static void queue_create(struct queue *q, bool rfc2021)
{
	const struct vfsd_vring_setup setup = guest_setup(NUM, false, 0);

	guest_create(&q->guest);
	guest_ring_init(&q->driver, &q->scratch, &q->guest, NUM, false, 0);
	CHECK_EQ(vfsd_record_ring_create(VFSD_RECORD_RING_BYTES_MIN, &q->records), 0);
	CHECK_EQ(vfsd_notify_create(q->records, rfc2021, &q->notify), 0);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK_EQ(vfsd_notify_start(q->notify, q->guest.mem, &setup, q->call_fd), 0);
}

static void queue_destroy(struct queue *q)
{
	(void)vfsd_notify_stop(q->notify);
	vfsd_notify_destroy(q->notify);
	vfsd_record_ring_destroy(q->records);
	CHECK_EQ(close(q->call_fd), 0);
	guest_destroy(&q->guest);
}

/* True: the device wants a kick. */
static bool post(struct queue *q, uint16_t head, struct vfsd_vring_desc desc)
{
	q->driver.desc[head] = desc;
	guest_ring_offer(&q->driver, head);
	return guest_ring_publish(&q->driver);
}

static struct vfsd_vring_desc writable(uint32_t bytes)
{
	return guest_desc(GUEST_DATA, bytes, VFSD_VRING_DESC_WRITE, 0);
}

static void put(struct queue *q, uint64_t nodeid, uint32_t name_bytes)
{
	struct {
		struct fuse_notify_fsnotify_out out;
		char name[256];
	} record = {.out = {.nodeid = nodeid, .mask = FAN_CREATE, .namelen = name_bytes}};

	memset(record.name, 'n', name_bytes);
	CHECK(vfsd_record_ring_put(q->records, VFSD_RECORD_FSNOTIFY, 0, &record,
				   (uint32_t)sizeof(record.out) +
					   (name_bytes ? name_bytes + 1 : 0)));
}

/* The length of the next message, 0: there is none. */
static uint32_t take(struct queue *q)
{
	struct fuse_out_header header;
	uint32_t id, bytes;

	if (!guest_ring_take(&q->driver, &id, &bytes))
		return 0;
	memcpy(&header, guest_at(&q->guest, GUEST_DATA), sizeof(header));
	CHECK_EQ(header.len, bytes);
	return bytes;
}

static bool is_called(struct queue *q)
{
	eventfd_t count;

	return eventfd_read(q->call_fd, &count) == 0;
}

/* How many records of 48 bytes fit into one buffer; it is filled up to 4096 bytes. */
static void test_filling(void)
{
	static const struct {
		uint32_t bytes, records;
	} table[] = {{320, 6}, {351, 6}, {352, 7}, {512, 10}, {4096, 85}, {BUFFER_BYTES, 85}};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct queue q;

		queue_create(&q, false);
		for (uint64_t n = 1; n <= 100; n++)
			put(&q, n, 0);
		(void)post(&q, 0, writable(table[i].bytes));
		CHECK_EQ(vfsd_notify_flush(q.notify), 0);
		CHECK(is_called(&q));
		CHECK_EQ(take(&q), 16 + 48 * table[i].records);
		CHECK(!vfsd_record_ring_empty(q.records));
		queue_destroy(&q);
	}
}

/* Nothing is lost while there is no buffer; the device asks for a kick then, and only then. */
static void test_waiting_for_buffers(void)
{
	struct queue q;

	queue_create(&q, false);
	CHECK(!post(&q, 0, writable(320)));
	CHECK_EQ(vfsd_notify_flush(q.notify), 0); /* nothing to say: the buffer stays */
	CHECK_EQ(take(&q), 0);
	CHECK(!is_called(&q));
	put(&q, 1, 255);
	put(&q, 2, 255);
	CHECK_EQ(vfsd_notify_flush(q.notify), 0);
	CHECK_EQ(take(&q), 16 + 48 + 256);
	CHECK_EQ(take(&q), 0);
	CHECK(!vfsd_record_ring_empty(q.records));
	CHECK(post(&q, 1, writable(320)));
	CHECK_EQ(vfsd_notify_flush(q.notify), 0);
	CHECK_EQ(take(&q), 16 + 48 + 256);
	CHECK(!post(&q, 2, writable(320)));
	queue_destroy(&q);
}

/* Bad buffers stop the queue, are reported once, and take nothing from the records. */
static void test_hostile_buffers(void)
{
	const struct vfsd_vring_desc table[] = {
		writable(319),			   /* smaller than notify_buf_size */
		writable(0),			   /* no buffer */
		guest_desc(GUEST_DATA, 512, 0, 0), /* only readable */
		guest_desc(UINT64_C(0x123456789000), 512, VFSD_VRING_DESC_WRITE, 0), /* no memory */
		guest_desc(GUEST_HIGH_GPA + GUEST_HIGH_BYTES - 100, 512, VFSD_VRING_DESC_WRITE, 0),
		guest_desc(GUEST_DATA, 512, VFSD_VRING_DESC_WRITE | VFSD_VRING_DESC_NEXT, 0),
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		const struct vfsd_vring_setup setup = guest_setup(NUM, false, 0);
		struct queue q;

		queue_create(&q, false);
		put(&q, 1, 0);
		(void)post(&q, 0, table[i]);
		CHECK_EQ(vfsd_notify_flush(q.notify), -EPROTO);
		CHECK_EQ(vfsd_notify_flush(q.notify), 0);
		CHECK_EQ(take(&q), 0);
		CHECK(!vfsd_record_ring_empty(q.records));
		/* A driver that starts the ring again gets what it has not got. */
		(void)vfsd_notify_stop(q.notify);
		guest_ring_init(&q.driver, &q.scratch, &q.guest, NUM, false, 0);
		CHECK_EQ(vfsd_notify_start(q.notify, q.guest.mem, &setup, q.call_fd), 0);
		(void)post(&q, 0, writable(320));
		CHECK_EQ(vfsd_notify_flush(q.notify), 0);
		CHECK_EQ(take(&q), 16 + 48);
		queue_destroy(&q);
	}
}

/* A readable part in front is not written to. */
static void test_readable_in_front(void)
{
	struct queue q;

	queue_create(&q, false);
	put(&q, 1, 0);
	memset(guest_at(&q.guest, GUEST_DATA + 512), 'r', 64);
	q.driver.desc[1] = writable(320);
	(void)post(&q, 0, guest_desc(GUEST_DATA + 512, 64, VFSD_VRING_DESC_NEXT, 1));
	CHECK_EQ(vfsd_notify_flush(q.notify), 0);
	CHECK_EQ(take(&q), 16 + 48);
	for (size_t i = 0; i < 64; i++)
		CHECK_EQ(*((char *)guest_at(&q.guest, GUEST_DATA + 512) + i), 'r');
	queue_destroy(&q);
}

static void test_stopped(void)
{
	const struct vfsd_vring_setup bad = guest_setup(3, false, 0);
	struct queue q;

	queue_create(&q, false);
	put(&q, 1, 0);
	(void)post(&q, 0, writable(320));
	CHECK_EQ(vfsd_notify_stop(q.notify), 0);
	CHECK_EQ(vfsd_notify_flush(q.notify), 0);
	CHECK_EQ(take(&q), 0);
	CHECK(vfsd_notify_start(q.notify, q.guest.mem, &bad, q.call_fd) < 0);
	CHECK_EQ(vfsd_notify_flush(q.notify), 0);
	CHECK_EQ(take(&q), 0);
	queue_destroy(&q);
}

/* A loss is an overflow, in either dialect; that of 2021 has one event a buffer. */
static void test_dialects(void)
{
	struct fuse_notify_fsnotify_out out;
	struct vfsd_rfc2021_out old;
	struct queue q;

	queue_create(&q, false);
	vfsd_record_ring_put_loss(q.records, 3);
	(void)post(&q, 0, writable(320));
	CHECK_EQ(vfsd_notify_flush(q.notify), 0);
	CHECK_EQ(take(&q), 16 + 48);
	memcpy(&out, (char *)guest_at(&q.guest, GUEST_DATA) + 16, sizeof(out));
	CHECK(out.nodeid == 0 && out.mask == FAN_Q_OVERFLOW);
	queue_destroy(&q);

	queue_create(&q, true);
	put(&q, 5, 0);
	put(&q, 5, 3);
	(void)post(&q, 0, writable(512));
	CHECK_EQ(vfsd_notify_flush(q.notify), 0);
	CHECK_EQ(take(&q), 16 + 24);
	memcpy(&old, (char *)guest_at(&q.guest, GUEST_DATA) + 16, sizeof(old));
	CHECK(old.inode == 5 && old.mask == FAN_CREATE);
	CHECK_EQ(take(&q), 0);
	(void)post(&q, 1, writable(512));
	CHECK_EQ(vfsd_notify_flush(q.notify), 0);
	CHECK_EQ(take(&q), 16 + 24 + 16);
	queue_destroy(&q);
}

int main(void)
{
	test_filling();
	test_waiting_for_buffers();
	test_hostile_buffers();
	test_readable_in_front();
	test_stopped();
	test_dialects();
	return 0;
}
