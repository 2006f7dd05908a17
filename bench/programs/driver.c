/* SPDX-License-Identifier: BSD-3-Clause */
#include "driver.h"

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

static struct vfsd_vring_desc *desc_of(const struct driver_ring *ring)
{
	return (void *)(ring->base + DESC);
}

static struct vfsd_vring_avail *avail_of(const struct driver_ring *ring)
{
	return (void *)(ring->base + AVAIL);
}

static struct vfsd_vring_used *used_of(const struct driver_ring *ring)
{
	return (void *)(ring->base + USED);
}

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
		ring->kick_fd = eventfd(0, EFD_CLOEXEC);
		ring->call_fd = eventfd(0, EFD_CLOEXEC);
		for (uint16_t d = 0; d < DRIVER_ENTRIES; d++) {
			bool out = i != VFSD_RING_NOTIFICATION && d % 2 == 0;

			desc_of(ring)[d] = (struct vfsd_vring_desc){
				.addr = ring->gpa + BUFFERS + d * (uint64_t)ring->buffer_bytes,
				.len = ring->buffer_bytes,
				.flags = out ? VFSD_VRING_DESC_NEXT : VFSD_VRING_DESC_WRITE,
				.next = (uint16_t)(d + 1),
			};
		}
	}
}

void driver_destroy(struct driver *driver)
{
	for (uint32_t i = 0; i < DRIVER_RINGS; i++) {
		(void)close(driver->rings[i].kick_fd);
		(void)close(driver->rings[i].call_fd);
	}
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
			.kick_fd = dup(ring->kick_fd),
			.call_fd = dup(ring->call_fd),
			.err_fd = -1,
		};

		CHECK_EQ(vfsd_engine_start_vring(engine, i, &vring), 0);
	}
	return engine;
}

/* Make entries up to @next_avail visible; kick if the device asked for one of them. */
static void publish(struct driver_ring *ring, uint16_t before)
{
	struct vfsd_vring_avail *avail = avail_of(ring);
	uint16_t wanted;

	vfsd_vring_store_release(&avail->idx, ring->next_avail);
	vfsd_vring_full_fence();
	wanted = vfsd_vring_load(vfsd_vring_avail_event(used_of(ring), DRIVER_ENTRIES));
	if ((uint16_t)(ring->next_avail - wanted - 1) < (uint16_t)(ring->next_avail - before))
		CHECK(eventfd_write(ring->kick_fd, 1) == 0);
}

static void offer(struct driver_ring *ring, uint16_t head)
{
	vfsd_vring_store(&avail_of(ring)->ring[ring->next_avail++ % DRIVER_ENTRIES], head);
}

static bool has_used(const struct driver_ring *ring)
{
	return vfsd_vring_load_acquire(&used_of(ring)->idx) != ring->next_used;
}

/* Ask for a signal at the next entry, as a driver does that is about to sleep. */
static void want_signal(struct driver_ring *ring)
{
	vfsd_vring_store(&avail_of(ring)->ring[DRIVER_ENTRIES], ring->next_used);
	vfsd_vring_full_fence();
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
	desc_of(ring)[slot * 2].len = header.len;
	offer(ring, (uint16_t)(slot * 2));
}

void driver_run(struct driver *driver, const struct driver_work *work, uint64_t count)
{
	struct driver_ring *ring = &driver->rings[DRIVER_RINGS - 1];
	uint16_t before = ring->next_avail;
	const uint64_t depth = work->depth ? work->depth : DRIVER_REQUESTS;
	uint64_t made = 0, answered = 0;

	while (made < count && made < depth) {
		put_request(driver, work, made, (uint16_t)made);
		made++;
	}
	publish(ring, before);
	while (answered < count) {
		before = ring->next_avail;
		while (has_used(ring)) {
			const struct vfsd_vring_used_elem *used =
				&used_of(ring)->ring[ring->next_used++ % DRIVER_ENTRIES];
			const uint8_t *in = buffer_of(ring, used->id + 1);
			struct fuse_out_header header;

			memcpy(&header, in, sizeof(header));
			CHECK_EQ(header.len, used->len);
			if (work->answer)
				work->answer(work->ctx, header.unique, header.error,
					     in + sizeof(header), header.len - sizeof(header));
			answered++;
			if (made < count)
				put_request(driver, work, made++, (uint16_t)(used->id / 2));
		}
		if (ring->next_avail != before)
			publish(ring, before);
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
	uint16_t before = ring->next_avail;

	for (uint16_t i = 0; i < DRIVER_ENTRIES; i++)
		offer(ring, i);
	publish(ring, before);
	want_signal(ring);
	CHECK_EQ(driver_ask(driver, FUSE_INIT, 0, &init, sizeof(init), &reply, sizeof(reply)), 0);
	return (reply.flags2 & (uint32_t)(FUSE_HAS_FSNOTIFY >> 32)) != 0;
}

bool driver_notified(const struct driver *driver)
{
	return has_used(&driver->rings[VFSD_RING_NOTIFICATION]);
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
	uint16_t before = ring->next_avail;

	while (has_used(ring)) {
		const struct vfsd_vring_used_elem *used =
			&used_of(ring)->ring[ring->next_used++ % DRIVER_ENTRIES];

		count_records(buffer_of(ring, used->id), used->len, events);
		offer(ring, (uint16_t)used->id);
	}
	if (ring->next_avail != before) {
		publish(ring, before);
		want_signal(ring);
	}
}
