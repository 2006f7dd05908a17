/* SPDX-License-Identifier: BSD-3-Clause */
#include "engine_driver.h"

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "device/engine.h"
#include "fuse/fuse.h"
#include "inode/inode.h"
#include "fsnotify/notify.h"
#include "virtio/vring_layout.h"
#include "fuse/wire.h"

#define UVA UINT64_C(0x7f0000000000)
#define F_NOTIFICATION (UINT64_C(1) << 0)
#define F_EVENT_IDX (UINT64_C(1) << 29)

enum {
	DESC = 0,
	AVAIL = 0x2000,
	USED = 0x3000,
	BUFFERS = 0x4000,
	/* Those of requests have room for a page of data and more. */
	RING_BYTES = BUFFERS + DRIVER_ENTRIES * DRIVER_REQUEST_BYTES,
	EVENT_RING_BYTES = 4 << 20, /* a whole host queue, should the driver not get to run */
};

static uint8_t *buffer_of(const struct driver_ring *ring, uint32_t index)
{
	return ring->base + BUFFERS + index * (size_t)ring->buffer_bytes;
}

void driver_create(struct driver *driver)
{
	*driver = (struct driver){.memory_bytes = DRIVER_RINGS * (size_t)RING_BYTES};
	driver->memory_fd = memfd_create("guest", MFD_CLOEXEC);
	CHECK(ftruncate(driver->memory_fd, (off_t)driver->memory_bytes) == 0);
	driver->memory = mmap(NULL, driver->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			      driver->memory_fd, 0);
	CHECK(driver->memory != MAP_FAILED);
	for (uint32_t i = 0; i < DRIVER_RINGS; i++) {
		struct driver_ring *ring = &driver->rings[i];

		ring->buffer_bytes = i == VFSD_RING_NOTIFICATION ? VFSD_NOTIFY_BYTES_OFFERED :
								   DRIVER_REQUEST_BYTES;
		ring->gpa = i * (uint64_t)RING_BYTES;
		ring->base = driver->memory + ring->gpa;
		ring->ring = (struct guest_ring){.desc = (void *)(ring->base + DESC),
						 .avail = (void *)(ring->base + AVAIL),
						 .used = (void *)(ring->base + USED),
						 .num = DRIVER_ENTRIES,
						 .event_idx = true};
		CHECK_EQ(guest_ring_open(&ring->ring), 0);
		for (uint16_t d = 0; d < DRIVER_ENTRIES; d++) {
			bool out = i != VFSD_RING_NOTIFICATION && d % 2 == 0;

			ring->ring.desc[d] =
				guest_desc(ring->gpa + BUFFERS + d * (uint64_t)ring->buffer_bytes,
					   ring->buffer_bytes,
					   out ? VFSD_VRING_DESC_NEXT : VFSD_VRING_DESC_WRITE,
					   (uint16_t)(d + 1));
		}
	}
}

void driver_destroy(struct driver *driver)
{
	for (uint32_t i = 0; i < DRIVER_RINGS; i++)
		guest_ring_close(&driver->rings[i].ring);
	(void)munmap(driver->memory, driver->memory_bytes);
	(void)close(driver->memory_fd);
}

struct vfsd_engine *driver_engine(const struct driver *driver, const char *share)
{
	const vfsd_engine_config config = {
		.root_fd = open(share, O_PATH | O_DIRECTORY | O_CLOEXEC),
		.proc_self_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.num_rings = DRIVER_RINGS,
		.inode = {.file_handles = VFSD_HANDLES_PREFER}, /* the command's default */
		.fuse = {.readdirplus = true},

		.fsnotify = {.fsnotify = VFSD_FSNOTIFY_MERGED, .ring_kib = EVENT_RING_BYTES / 1024},
		.log_level = -1,
	};
	const vfsd_engine_region region = {
		.size_bytes = driver->memory_bytes, .uva = UVA, .fd = dup(driver->memory_fd)};
	vfsd_engine *engine;

	CHECK_EQ(vfsd_engine_create(&config, &engine), 0);
	CHECK_EQ(vfsd_engine_set_features(engine, F_NOTIFICATION | F_EVENT_IDX), 0);
	CHECK_EQ(vfsd_engine_set_memory(engine, &region, 1), 0);
	for (uint32_t i = 0; i < DRIVER_RINGS; i++) {
		const struct driver_ring *ring = &driver->rings[i];
		const vfsd_engine_vring vring = {
			.num = DRIVER_ENTRIES,
			.desc_uva = UVA + ring->gpa + DESC,
			.avail_uva = UVA + ring->gpa + AVAIL,
			.used_uva = UVA + ring->gpa + USED,
			.enabled = true,
			.kick_fd = dup(ring->ring.kick_fd),
			.call_fd = dup(ring->ring.call_fd),
			.err_fd = -1,
		};

		CHECK_EQ(vfsd_engine_start_vring(engine, i, &vring), 0);
	}
	return engine;
}

static void put_request(struct driver *driver, const struct driver_work *work, uint64_t index,
			uint16_t slot)
{
	struct driver_ring *ring = &driver->rings[DRIVER_RINGS - 1];
	uint8_t *out = buffer_of(ring, slot * 2u);
	struct fuse_in_header header = {.unique = index};

	header.len = (uint32_t)(sizeof(header) + work->make(work->ctx, index, &header.opcode,
							    &header.nodeid, out + sizeof(header)));
	memcpy(out, &header, sizeof(header));
	ring->ring.desc[slot * 2].len = htole32(header.len);
	guest_ring_offer(&ring->ring, (uint16_t)(slot * 2));
}

void driver_run(struct driver *driver, const struct driver_work *work, uint64_t count)
{
	struct driver_ring *ring = &driver->rings[DRIVER_RINGS - 1];
	const uint64_t depth = work->depth ? work->depth : DRIVER_REQUESTS;
	uint64_t made = 0, answered = 0;
	uint32_t id, used;

	while (made < count && made < depth) {
		put_request(driver, work, made, (uint16_t)made);
		made++;
	}
	CHECK_EQ(guest_ring_kick(&ring->ring), 0);
	while (answered < count) {
		const uint64_t before = made;

		while (guest_ring_take(&ring->ring, &id, &used)) {
			const uint8_t *in = buffer_of(ring, id + 1);
			struct fuse_out_header header;

			memcpy(&header, in, sizeof(header));
			CHECK_EQ(header.len, used);
			if (work->answer)
				work->answer(work->ctx, header.unique, header.error,
					     in + sizeof(header), header.len - sizeof(header));
			answered++;
			if (made < count)
				put_request(driver, work, made++, (uint16_t)(id / 2));
		}
		if (made != before)
			CHECK_EQ(guest_ring_kick(&ring->ring), 0);
	}
}

struct one {
	uint32_t opcode;
	uint64_t nodeid;
	const void *body;
	size_t body_bytes;
	void *ret;
	size_t bytes;
	int error;
};

static size_t make_one(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid, void *body)
{
	const struct one *one = ctx;

	(void)index;
	*opcode = one->opcode;
	*nodeid = one->nodeid;
	memcpy(body, one->body, one->body_bytes);
	return one->body_bytes;
}

static void answer_one(void *ctx, uint64_t index, int error, const void *payload, size_t bytes)
{
	struct one *one = ctx;

	(void)index;
	one->error = error;
	if (error == 0 && one->ret) {
		CHECK(bytes >= one->bytes);
		memcpy(one->ret, payload, one->bytes);
	}
}

int driver_ask(struct driver *driver, uint32_t opcode, uint64_t nodeid, const void *body,
	       size_t body_bytes, void *ret, size_t bytes)
{
	struct one one = {opcode, nodeid, body, body_bytes, ret, bytes, 0};
	const struct driver_work work = {.ctx = &one, .make = make_one, .answer = answer_one};

	driver_run(driver, &work, 1);
	return one.error;
}

bool driver_start(struct driver *driver)
{
	const struct fuse_init_in init = {.major = 7,
					  .minor = 41,
					  .flags = (uint32_t)FUSE_INIT_EXT,
					  .flags2 = (uint32_t)(FUSE_HAS_FSNOTIFY >> 32)};
	struct driver_ring *ring = &driver->rings[VFSD_RING_NOTIFICATION];
	struct fuse_init_out reply;

	for (uint16_t i = 0; i < DRIVER_ENTRIES; i++)
		guest_ring_offer(&ring->ring, i);
	CHECK_EQ(guest_ring_kick(&ring->ring), 0);
	(void)guest_ring_enable_call(&ring->ring);
	CHECK_EQ(driver_ask(driver, FUSE_INIT, 0, &init, sizeof(init), &reply, sizeof(reply)), 0);
	return (reply.flags2 & (uint32_t)(FUSE_HAS_FSNOTIFY >> 32)) != 0;
}

bool driver_notified(const struct driver *driver)
{
	return guest_ring_ready(&driver->rings[VFSD_RING_NOTIFICATION].ring) > 0;
}

static void count_records(const uint8_t *at, size_t bytes, struct driver_events *events)
{
	struct fuse_out_header header;
	struct fuse_notify_fsnotify_out record;

	memcpy(&header, at, sizeof(header));
	CHECK_EQ(header.len, bytes);
	for (size_t done = sizeof(header); done < bytes;) {
		memcpy(&record, at + done, sizeof(record));
		events->records++;
		events->overflows += (record.mask & FAN_Q_OVERFLOW) != 0;
		done += sizeof(record);
		if (record.namelen)
			done += (record.namelen + 8) & ~(size_t)7;
	}
}

void driver_take(struct driver *driver, struct driver_events *events)
{
	struct driver_ring *ring = &driver->rings[VFSD_RING_NOTIFICATION];
	bool any = false;
	uint32_t id, used;

	while (guest_ring_take(&ring->ring, &id, &used)) {
		count_records(buffer_of(ring, id), used, events);
		guest_ring_offer(&ring->ring, (uint16_t)id);
		any = true;
	}
	if (any) {
		CHECK_EQ(guest_ring_kick(&ring->ring), 0);
		(void)guest_ring_enable_call(&ring->ring);
	}
}
