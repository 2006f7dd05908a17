/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * driver_ring - the driver's side of a split ring with EVENT_IDX.
 *
 * As in Linux: an entry is visible, and the device told if it wants to be, before the next is made; a
 * signal is asked for only by who is about to sleep.
 * Owner thread: one. Spec: virtio 1.2, "Split Virtqueues".
 */
#ifndef VFSD_DRIVER_RING_H
#define VFSD_DRIVER_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/vring_layout.h"

struct vfsd_driver_ring {
	uint32_t num;
	struct vfsd_vring_desc *desc;
	struct vfsd_vring_avail *avail;
	struct vfsd_vring_used *used;
	uint16_t next_avail, next_used;
	int kick_fd, call_fd; /* owned */
	int alarm_fd;	      /* borrowed; readable or closed: nothing will come any more */
	uint64_t poll_ns;
};

static inline uint64_t vfsd_driver_ring_bytes(uint32_t num)
{
	return vfsd_vring_desc_bytes(num) + vfsd_vring_avail_bytes(num) +
	       vfsd_vring_used_bytes(num) + VFSD_VRING_USED_ALIGN;
}

/* At @memory (zeroed, page aligned, vfsd_driver_ring_bytes() long). 0 or -errno. */
int vfsd_driver_ring_init(struct vfsd_driver_ring *ring, void *memory, uint32_t num);
void vfsd_driver_ring_deinit(struct vfsd_driver_ring *ring);

/* Make the chain at @head available. 0 or -errno of the kick. */
int vfsd_driver_ring_offer(struct vfsd_driver_ring *ring, uint16_t head);

/* How many used entries there are at this moment. */
static inline uint16_t vfsd_driver_ring_ready(const struct vfsd_driver_ring *ring)
{
	return (uint16_t)(vfsd_vring_load_acquire(&ring->used->idx) - ring->next_used);
}

/* Take one used entry. False: there is none. */
static inline bool vfsd_driver_ring_take(struct vfsd_driver_ring *ring,
					 struct vfsd_vring_used_elem *ret)
{
	const struct vfsd_vring_used_elem *elem;

	if (vfsd_driver_ring_ready(ring) == 0)
		return false;
	elem = &ring->used->ring[ring->next_used++ % ring->num];
	ret->id = le32toh(__atomic_load_n(&elem->id, __ATOMIC_RELAXED));
	ret->len = le32toh(__atomic_load_n(&elem->len, __ATOMIC_RELAXED));
	return true;
}

/* Until there is a used entry. 0, -ETIMEDOUT (30 s), -EPIPE (alarm_fd). */
int vfsd_driver_ring_wait(struct vfsd_driver_ring *ring);

uint64_t vfsd_bench_now_ns(void); /* CLOCK_MONOTONIC */

#endif
