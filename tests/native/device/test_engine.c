/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The whole core with all its threads: guests on two request rings, a host that changes the share,
 * and a control thread that replaces memory, call descriptors and the notification ring meanwhile.
 * Meant for ThreadSanitizer above all; what the requests do is tested elsewhere.
 */
#include "device/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "guest_ring.h"
#include "fuse/fuse.h"
#include "inode/inode.h"
#include "fsnotify/notify.h"
#include "fuse/wire.h"

#define UVA UINT64_C(0x7f0000000000)
#define F_NOTIFICATION (UINT64_C(1) << 0)
#define F_EVENT_IDX (UINT64_C(1) << 29)

enum {
	RINGS = 4, /* hiprio, notification, two for requests */
	NUM = 64,
	RING_BYTES = 0x4000,
	DESC = 0,
	AVAIL = 0x1000,
	USED = 0x1800,
	OUT = 0x2000, /* request */
	IN = 0x3000,  /* reply, or NUM / 2 notification buffers in an area of their own */
	NOTIFY_AREA = RINGS * RING_BYTES,
	MEMORY_BYTES = NOTIFY_AREA + NUM * VFSD_NOTIFY_BYTES_OFFERED,
	LOG_BYTES = (MEMORY_BYTES / 4096 + 8) / 8,
	ROUNDS = 400,
	RAPID_FORGETS = 20, /* in a row */
	PAUSE_NS = 50000,
	DEADLINE_MS = 60000,
};

struct driver {
	uint8_t *memory; /* the front-end's mapping */
	uint64_t base;	 /* of this ring in it, bytes */
	struct guest_ring ring;
	uint64_t unique;
};

static struct {
	vfsd_engine *engine;
	int memory_fd;
	int log_fd; /* of the dirty log */
	uint8_t *memory;
	struct driver drivers[RINGS];
	int share_fd;
	_Atomic bool done;
	_Atomic uint64_t notified; /* records */
} test;

static void *at(const struct driver *driver, uint64_t offset)
{
	return driver->memory + driver->base + offset;
}

static void put_desc(struct driver *driver, uint16_t index, uint64_t gpa, uint32_t len,
		     uint16_t flags)
{
	driver->ring.desc[index] = guest_desc(gpa, len, flags, (uint16_t)(index + 1));
}

/* Kicks always: the device must put up with that. */
static void offer(struct driver *driver, uint16_t head)
{
	guest_ring_offer(&driver->ring, head);
	(void)guest_ring_publish(&driver->ring);
	CHECK(eventfd_write(driver->ring.kick_fd, 1) == 0);
}

/* Wait for a used entry; sleeps only after asking for a signal. */
static void await_used(struct driver *driver, uint32_t *id, uint32_t *len)
{
	(void)guest_ring_enable_call(&driver->ring);
	while (!guest_ring_take(&driver->ring, id, len))
		CHECK_EQ(guest_ring_sleep(&driver->ring, -1, DEADLINE_MS), 0);
}

/* One request with @body behind its header; the reply's payload goes to @ret. Returns its error. */
static int ask(struct driver *driver, uint32_t opcode, uint64_t nodeid, const void *body,
	       size_t bytes, void *ret, size_t ret_bytes)
{
	struct fuse_in_header in = {.len = (uint32_t)(sizeof(in) + bytes),
				    .opcode = opcode,
				    .unique = ++driver->unique,
				    .nodeid = nodeid};
	struct fuse_out_header out;
	uint32_t id, len;

	memcpy(at(driver, OUT), &in, sizeof(in));
	memcpy((uint8_t *)at(driver, OUT) + sizeof(in), body, bytes);
	put_desc(driver, 0, driver->base + OUT, in.len, VFSD_VRING_DESC_NEXT);
	put_desc(driver, 1, driver->base + IN, 0x1000, VFSD_VRING_DESC_WRITE);
	offer(driver, 0);
	await_used(driver, &id, &len);
	CHECK_EQ(id, 0);
	CHECK(len >= sizeof(out));
	memcpy(&out, at(driver, IN), sizeof(out));
	CHECK_EQ(out.unique, in.unique);
	CHECK_EQ(out.len, len);
	if (out.error == 0 && ret) {
		CHECK(len - sizeof(out) >= ret_bytes);
		memcpy(ret, (uint8_t *)at(driver, IN) + sizeof(out), ret_bytes);
	}
	return out.error;
}

static void start_ring(uint32_t index, uint16_t base)
{
	struct driver *driver = &test.drivers[index];
	vfsd_engine_vring vring = {
		.num = NUM,
		.desc_uva = UVA + driver->base + DESC,
		.avail_uva = UVA + driver->base + AVAIL,
		.used_uva = UVA + driver->base + USED,
		.base = base,
		.enabled = true,
		.kick_fd = dup(driver->ring.kick_fd),
		.call_fd = dup(driver->ring.call_fd),
		.err_fd = -1,
	};

	CHECK_EQ(vfsd_engine_start_vring(test.engine, index, &vring), 0);
}

static void set_memory(void)
{
	vfsd_engine_region region = {
		.gpa = 0, .size_bytes = MEMORY_BYTES, .uva = UVA, .fd = dup(test.memory_fd)};

	CHECK_EQ(vfsd_engine_set_memory(test.engine, &region, 1), 0);
}

static void *guest_thread(void *arg)
{
	struct driver *driver = arg;
	struct fuse_entry_out dir, file;
	struct fuse_fsnotify_in interest = {.mask = 0xfff | 0x08000000};
	struct fuse_getattr_in getattr = {0};
	struct fuse_forget_in forget = {.nlookup = 1};
	char name[32];

	for (int round = 0; round < ROUNDS; round++) {
		CHECK_EQ(ask(driver, FUSE_LOOKUP, VFSD_NODEID_ROOT, "d", 2, &dir, sizeof(dir)), 0);
		CHECK_EQ(ask(driver, FUSE_FSNOTIFY, dir.nodeid, &interest, sizeof(interest), NULL,
			     0),
			 0);
		CHECK_EQ(ask(driver, FUSE_GETATTR, dir.nodeid, &getattr, sizeof(getattr), NULL, 0),
			 0);
		(void)snprintf(name, sizeof(name), "h%d", round % 8);
		/* The host creates and removes it all the time. */
		if (ask(driver, FUSE_LOOKUP, dir.nodeid, name, strlen(name) + 1, &file,
			sizeof(file)) == 0) {
			(void)ask(driver, FUSE_FSNOTIFY, file.nodeid, &interest, sizeof(interest),
				  NULL, 0);
			(void)ask(driver, FUSE_UNLINK, dir.nodeid, name, strlen(name) + 1, NULL, 0);
			forget.nlookup = 1;
			/* FORGET has no reply, but its chain comes back. */
			struct fuse_in_header in = {.len = sizeof(in) + sizeof(forget),
						    .opcode = FUSE_FORGET,
						    .nodeid = file.nodeid};
			uint32_t id, len;

			memcpy(at(driver, OUT), &in, sizeof(in));
			memcpy((uint8_t *)at(driver, OUT) + sizeof(in), &forget, sizeof(forget));
			put_desc(driver, 0, driver->base + OUT, in.len, 0);
			offer(driver, 0);
			await_used(driver, &id, &len);
			CHECK_EQ(len, 0);
		}
		interest.mask ^= 0x2;
	}
	return NULL;
}

static void *host_thread(void *arg)
{
	char name[32];

	(void)arg;
	for (int i = 0; !atomic_load(&test.done); i++) {
		int fd;

		(void)snprintf(name, sizeof(name), "d/h%d", i % 8);
		fd = openat(test.share_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (fd >= 0) {
			(void)!write(fd, "x", 1);
			(void)close(fd);
		}
		if (i % 3 == 0)
			(void)unlinkat(test.share_fd, name, 0);
	}
	return NULL;
}

/* The driver of the notification ring: takes what comes and gives the buffer back. */
static void *notified_thread(void *arg)
{
	struct driver *driver = &test.drivers[VFSD_RING_NOTIFICATION];
	uint32_t id, len;

	(void)arg;
	while (!atomic_load(&test.done)) {
		(void)guest_ring_sleep(&driver->ring, -1, 50);
		(void)guest_ring_enable_call(&driver->ring);
		while (guest_ring_take(&driver->ring, &id, &len)) {
			atomic_fetch_add(&test.notified, 1);
			offer(driver, (uint16_t)id);
		}
	}
	return NULL;
}

static void set_up(const char *share, uint32_t pool_threads)
{
	vfsd_engine_config config = {
		.root_fd = open(share, O_PATH | O_DIRECTORY | O_CLOEXEC),
		.proc_self_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.num_rings = RINGS,
		.thread_pool_size = pool_threads,
		.poll_us = 20,
		.inode = {.file_handles = VFSD_HANDLES_PREFER},
		.fuse = {.readdirplus = true},

		.fsnotify = {.fsnotify = VFSD_FSNOTIFY_MERGED, .ring_kib = 64},
		.log_level = -1,
	};
	struct fuse_init_in init = {.major = 7,
				    .minor = 41,
				    .flags = (uint32_t)FUSE_INIT_EXT,
				    .flags2 = (uint32_t)(FUSE_HAS_FSNOTIFY >> 32)};
	struct fuse_init_out reply;

	test.memory_fd = memfd_create("guest", MFD_CLOEXEC);
	CHECK(ftruncate(test.memory_fd, MEMORY_BYTES) == 0);
	test.log_fd = memfd_create("log", MFD_CLOEXEC);
	CHECK(ftruncate(test.log_fd, LOG_BYTES) == 0);
	test.memory =
		mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, test.memory_fd, 0);
	CHECK(test.memory != MAP_FAILED);
	CHECK_EQ(vfsd_engine_create(&config, &test.engine), 0);
	CHECK_EQ(vfsd_engine_set_features(test.engine, F_NOTIFICATION | F_EVENT_IDX), 0);
	set_memory();
	for (uint32_t i = 0; i < RINGS; i++) {
		struct driver *driver = &test.drivers[i];

		*driver = (struct driver){.memory = test.memory, .base = i * RING_BYTES};
		driver->ring = (struct guest_ring){.desc = at(driver, DESC),
						   .avail = at(driver, AVAIL),
						   .used = at(driver, USED),
						   .num = NUM,
						   .event_idx = true};
		CHECK_EQ(guest_ring_open(&driver->ring), 0);
		start_ring(i, 0);
	}
	for (uint16_t i = 0; i < NUM; i++) {
		put_desc(&test.drivers[VFSD_RING_NOTIFICATION], i,
			 NOTIFY_AREA + i * (uint64_t)VFSD_NOTIFY_BYTES_OFFERED,
			 VFSD_NOTIFY_BYTES_OFFERED, VFSD_VRING_DESC_WRITE);
		offer(&test.drivers[VFSD_RING_NOTIFICATION], i);
	}
	CHECK_EQ(ask(&test.drivers[2], FUSE_INIT, 0, &init, sizeof(init), &reply, sizeof(reply)),
		 0);
	CHECK(reply.flags2 & (uint32_t)(FUSE_HAS_FSNOTIFY >> 32));
}

static void tear_down(void)
{
	vfsd_engine_destroy(test.engine);
	(void)munmap(test.memory, MEMORY_BYTES);
	(void)close(test.memory_fd);
	(void)close(test.log_fd);
	for (uint32_t i = 0; i < RINGS; i++)
		guest_ring_close(&test.drivers[i].ring);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Within @ns the device wants to be kicked for the next entry. */
static bool wants_kick(const struct driver *driver, uint64_t ns)
{
	const uint64_t end = now_ns() + ns;

	do
		if (vfsd_vring_load(vfsd_vring_avail_event(driver->ring.used, NUM)) ==
		    driver->ring.next_avail)
			return true;
	while (now_ns() < end);
	return false;
}

/* Kicks only if the device wants that. */
static void forget_one(struct driver *driver)
{
	const struct fuse_in_header in = {.len = sizeof(in) + sizeof(struct fuse_forget_in),
					  .opcode = FUSE_FORGET,
					  .nodeid = 12345};
	const struct fuse_forget_in forget = {.nlookup = 1};
	uint32_t id, len;

	memcpy(at(driver, OUT), &in, sizeof(in));
	memcpy((uint8_t *)at(driver, OUT) + sizeof(in), &forget, sizeof(forget));
	put_desc(driver, 0, driver->base + OUT, in.len, 0);
	guest_ring_offer(&driver->ring, 0);
	CHECK_EQ(guest_ring_kick(&driver->ring), 0);
	while (!guest_ring_take(&driver->ring, &id, &len))
		;
}

/* FORGETs that follow one another need no kick each: the device looks after them by itself. */
static void test_rapid_forgets(void)
{
	const uint64_t deadline_ns = DEADLINE_MS * UINT64_C(1000000);
	const uint64_t began = now_ns();
	struct driver *driver = &test.drivers[0];
	int unkicked = 0;

	while (unkicked < RAPID_FORGETS) {
		forget_one(driver);
		unkicked = wants_kick(driver, PAUSE_NS) ? 0 : unkicked + 1;
		CHECK(now_ns() - began < deadline_ns);
	}
	/* When no more come it sleeps. */
	CHECK(wants_kick(driver, deadline_ns));
}

static void run(uint32_t pool_threads)
{
	char share[] = "/var/tmp/vfsd-engine-XXXXXX", command[64];
	pthread_t guests[2], host, notified;

	/* Not below /tmp, which may be a filesystem without file handles. */
	CHECK(mkdtemp(share) != NULL);
	test.share_fd = open(share, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(mkdirat(test.share_fd, "d", 0700) == 0);
	atomic_store(&test.done, false);
	set_up(share, pool_threads);
	test_rapid_forgets();
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&guests[i], NULL, guest_thread, &test.drivers[2 + i]) == 0);
	CHECK(pthread_create(&host, NULL, host_thread, NULL) == 0);
	CHECK(pthread_create(&notified, NULL, notified_thread, NULL) == 0);
	for (int i = 0; i < 40; i++) {
		vfsd_engine_stats stats;
		int base;

		set_memory();
		/* A migration that begins, and is given up. */
		CHECK_EQ(vfsd_engine_set_log(test.engine, dup(test.log_fd), LOG_BYTES, 0), 0);
		CHECK_EQ(vfsd_engine_set_logging(test.engine, i % 3 > 0), 0);
		for (uint32_t ring = 0; ring < RINGS; ring++)
			CHECK_EQ(vfsd_engine_set_vring_log(test.engine, ring, i % 3 > 0,
							   ring * RING_BYTES + USED),
				 0);
		for (uint32_t ring = 0; ring < RINGS; ring++)
			CHECK_EQ(vfsd_engine_set_call(test.engine, ring,
						      dup(test.drivers[ring].ring.call_fd)),
				 0);
		base = vfsd_engine_stop_vring(test.engine, VFSD_RING_NOTIFICATION);
		CHECK(base >= 0);
		start_ring(VFSD_RING_NOTIFICATION, (uint16_t)base);
		base = vfsd_engine_stop_vring(test.engine, 3);
		CHECK(base >= 0);
		start_ring(3, (uint16_t)base);
		vfsd_engine_get_stats(test.engine, &stats);
	}
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(guests[i], NULL) == 0);
	atomic_store(&test.done, true);
	CHECK(pthread_join(host, NULL) == 0);
	CHECK(pthread_join(notified, NULL) == 0);
	CHECK(atomic_load(&test.notified) > 0);
	tear_down();
	(void)close(test.share_fd);
	(void)snprintf(command, sizeof(command), "rm -rf %s", share);
	CHECK_EQ(system(command), 0);
}

int main(void)
{
	/* An emulator may stand for a kernel that lacks it; the daemon would then use inotify. */
	if (fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, 0) < 0 && errno == ENOSYS)
		return 77; /* meson's word for left out */
	run(1);
	run(3);
	return 0;
}
