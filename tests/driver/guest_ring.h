/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest_ring - the driver's side of a split ring, for tests, fuzz targets and benchmarks alike.
 *
 * It needs nothing but the layout, so that what is measured with it links nothing of the daemon. Where
 * the ring lies is its user's business. As in Linux, a signal is asked for only by who is about to sleep.
 * Owner thread: one. Spec: virtio 1.2, "Split Virtqueues".
 */
#ifndef VFSD_GUEST_RING_H
#define VFSD_GUEST_RING_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtio/vring_layout.h"

struct guest_ring {
	struct vfsd_vring_desc *desc;
	struct vfsd_vring_avail *avail;
	struct vfsd_vring_used *used;
	uint32_t num;
	uint16_t next_avail; /* entries offered */
	uint16_t next_used;  /* entries taken back */
	uint16_t asked;	     /* avail idx when a kick was last considered */
	bool event_idx;
	int kick_fd, call_fd; /* owned, where guest_ring_open() made them */
};

/* Bytes of a ring's parts one behind the other, as guest_ring_at() lays them out. */
static inline uint64_t guest_ring_bytes(uint32_t num)
{
	return vfsd_vring_desc_bytes(num) + vfsd_vring_avail_bytes(num) +
	       vfsd_vring_used_bytes(num) + VFSD_VRING_USED_ALIGN;
}

/* A ring in zeroed, page-aligned memory of guest_ring_bytes(), without descriptors to signal by. */
static inline struct guest_ring guest_ring_at(void *memory, uint32_t num, bool event_idx)
{
	uint8_t *at = memory;
	size_t used = vfsd_vring_desc_bytes(num) + vfsd_vring_avail_bytes(num);

	used = (used + VFSD_VRING_USED_ALIGN - 1) & ~(size_t)(VFSD_VRING_USED_ALIGN - 1);
	return (struct guest_ring){
		.desc = memory,
		.avail = (void *)(at + vfsd_vring_desc_bytes(num)),
		.used = (void *)(at + used),
		.num = num,
		.event_idx = event_idx,
		.kick_fd = -1,
		.call_fd = -1,
	};
}

/* Make its eventfds. 0 or -errno. */
static inline int guest_ring_open(struct guest_ring *driver)
{
	driver->kick_fd = eventfd(0, EFD_CLOEXEC);
	driver->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return driver->kick_fd < 0 || driver->call_fd < 0 ? -errno : 0;
}

static inline void guest_ring_close(struct guest_ring *driver)
{
	if (driver->kick_fd >= 0)
		(void)close(driver->kick_fd);
	if (driver->call_fd >= 0)
		(void)close(driver->call_fd);
}

static inline struct vfsd_vring_desc guest_desc(uint64_t gpa, uint32_t len, uint16_t flags,
						uint16_t next)
{
	return (struct vfsd_vring_desc){
		.addr = htole64(gpa),
		.len = htole32(len),
		.flags = htole16(flags),
		.next = htole16(next),
	};
}

/* Offer the chain at @head; guest_ring_publish() makes it visible. */
static inline void guest_ring_offer(struct guest_ring *driver, uint16_t head)
{
	vfsd_vring_store(&driver->avail->ring[driver->next_avail & (driver->num - 1)], head);
	driver->next_avail++;
}

/* True: the device wants a kick. */
static inline bool guest_ring_publish(struct guest_ring *driver)
{
	uint16_t old = driver->asked, new = driver->next_avail, event;

	vfsd_vring_store_release(&driver->avail->idx, new);
	driver->asked = new;
	vfsd_vring_full_fence();
	if (!driver->event_idx)
		return !(vfsd_vring_load(&driver->used->flags) & VFSD_VRING_USED_NO_NOTIFY);
	event = vfsd_vring_load(vfsd_vring_avail_event(driver->used, driver->num));
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

/* Publish what was offered, and kick if the device wants that. 0 or -errno of the kick. */
static inline int guest_ring_kick(struct guest_ring *driver)
{
	if (guest_ring_publish(driver) && eventfd_write(driver->kick_fd, 1) < 0)
		return -errno;
	return 0;
}

/* How many used entries there are at this moment. */
static inline uint16_t guest_ring_ready(const struct guest_ring *driver)
{
	return (uint16_t)(vfsd_vring_load_acquire(&driver->used->idx) - driver->next_used);
}

/* Take one used entry back; false: there is none. */
static inline bool guest_ring_take(struct guest_ring *driver, uint32_t *id, uint32_t *len)
{
	const struct vfsd_vring_used_elem *elem;

	if (guest_ring_ready(driver) == 0)
		return false;
	elem = &driver->used->ring[driver->next_used++ & (driver->num - 1)];
	*id = le32toh(__atomic_load_n(&elem->id, __ATOMIC_RELAXED));
	*len = le32toh(__atomic_load_n(&elem->len, __ATOMIC_RELAXED));
	return true;
}

/* Ask for a signal at the next used entry. True: one came meanwhile, don't wait. */
static inline bool guest_ring_enable_call(struct guest_ring *driver)
{
	if (driver->event_idx)
		vfsd_vring_store(&driver->avail->ring[driver->num], driver->next_used);
	else
		vfsd_vring_store(&driver->avail->flags, 0);
	vfsd_vring_full_fence();
	return guest_ring_ready(driver) > 0;
}

static inline void guest_ring_disable_call(struct guest_ring *driver)
{
	if (!driver->event_idx)
		vfsd_vring_store(&driver->avail->flags, VFSD_VRING_AVAIL_NO_INTERRUPT);
}

/*
 * Sleep until the device signals, perhaps for something that was seen already. @alarm_fd (-1: none) is
 * readable or closed when nothing will come any more. 0, -ETIMEDOUT or -EPIPE (@alarm_fd).
 */
static inline int guest_ring_sleep(struct guest_ring *driver, int alarm_fd, int timeout_ms)
{
	struct pollfd fds[] = {{.fd = driver->call_fd, .events = POLLIN},
			       {.fd = alarm_fd, .events = POLLIN}};
	eventfd_t count;
	int n;

	do
		n = poll(fds, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ETIMEDOUT;
	if (fds[0].revents == 0)
		return -EPIPE;
	(void)eventfd_read(driver->call_fd, &count);
	return 0;
}

#endif
