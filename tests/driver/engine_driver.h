/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_driver - a whole virtio-fs driver in shared memory before an engine, fast enough to measure with.
 *
 * The memory and the eventfds are made before a fork; the child is the device (the engine), the
 * parent the driver. It never sleeps: whoever measures wants to know when an entry is there.
 * Owner thread: one.
 */
#ifndef VFSD_ENGINE_DRIVER_H
#define VFSD_ENGINE_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest_ring.h"

enum {
	DRIVER_RINGS = 3, /* hiprio, notification, requests */
	DRIVER_ENTRIES = 256,
	DRIVER_REQUEST_BYTES = 4096 + 512,
	/* Requests have two descriptors each. */
	DRIVER_REQUESTS = DRIVER_ENTRIES / 2,
};

struct driver_ring {
	struct guest_ring ring;
	uint8_t *base; /* in this process's mapping */
	uint64_t gpa;
	uint32_t buffer_bytes;
};

struct driver {
	int memory_fd;
	uint8_t *memory;
	size_t memory_bytes;
	struct driver_ring rings[DRIVER_RINGS];
	uint64_t unique;
};

/* Before the fork. */
void driver_create(struct driver *driver);
void driver_destroy(struct driver *driver);

/* In the child: an engine for @share behind the rings. */
struct vfsd_engine *driver_engine(const struct driver *driver, const char *share);

/* Gives all notification buffers; says INIT. False: remote fsnotify was not granted. */
bool driver_start(struct driver *driver);

/*
 * @count requests, @depth of them in the ring at a time (0: DRIVER_REQUESTS). @make fills the one number
 * @index: opcode and nodeid into the words, the body into @body, and returns its length; @answer
 * (may be NULL) gets the payload of the reply.
 */
struct driver_work {
	void *ctx;
	uint64_t depth;
	size_t (*make)(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid, void *body);
	void (*answer)(void *ctx, uint64_t index, int error, const void *payload, size_t bytes);
};
void driver_run(struct driver *driver, const struct driver_work *work, uint64_t count);

/* One request. Returns its error; the first @bytes of the payload go to @ret (may be NULL). */
int driver_ask(struct driver *driver, uint32_t opcode, uint64_t nodeid, const void *body,
	       size_t body_bytes, void *ret, size_t bytes);

/* Is there a notification? Does not take it. */
bool driver_notified(const struct driver *driver);

struct driver_events {
	uint64_t records;
	uint64_t overflows;
};

/* Take the notifications that are there, give the buffers back, count what was in them. */
void driver_take(struct driver *driver, struct driver_events *events);

#endif
