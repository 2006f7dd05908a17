/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio/vring - device side of one split virtqueue.
 *
 * Pops chains of descriptors as host iovecs, pushes used entries, decides about notifications.
 * Knows direct and indirect descriptors and VIRTIO_F_EVENT_IDX. Ring memory is hostile: every
 * descriptor is copied once, the copy is validated, only the copy is used.
 * Owner thread: the one queue thread, or the holder of the notify lock. What is about available entries
 * (pop, unpop, kicks) and what is about used ones (push, expose, notify) may be done by two threads at once.
 * Spec: virtio 1.2, section "Split Virtqueues".
 */
#ifndef VFSD_VIRTIO_VRING_H
#define VFSD_VIRTIO_VRING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/util.h"

struct vfsd_dirtylog;
struct vfsd_mem;
struct vfsd_mem_region;

enum {
	VFSD_VRING_SIZE_MAX = 1024,
	/* The longest chain, plus room for buffers that straddle memory regions. */
	VFSD_CHAIN_IOV_MAX = VFSD_VRING_SIZE_MAX + 64,
	/* Chains whose beginnings are read at once, a power of two. */
	VFSD_VRING_PREFETCHED = 8,
};

/* Where the ring lies, as the front-end says; vfsd_vring_init() translates and checks. */
struct vfsd_vring_setup {
	uint32_t num; /* entries, a power of two, at most VFSD_VRING_SIZE_MAX */
	uint64_t desc_uva;
	uint64_t avail_uva;
	uint64_t used_uva;
	uint16_t base;	/* next avail index */
	bool event_idx; /* VIRTIO_F_EVENT_IDX acked */
	bool indirect;	/* VIRTIO_F_INDIRECT_DESC acked */
	/* Where to mark writes to buffers, and to the used ring; borrowed, NULL: nowhere. */
	struct vfsd_dirtylog *log;
	struct vfsd_dirtylog *used_log;
	uint64_t used_gpa; /* of the used ring, for used_log */
};

/*
 * One popped request: device-readable buffers first, then device-writable ones. Neighbours in host
 * memory are one iovec, none is empty, in_bytes + out_bytes fits 32 bits. The buffers are the
 * guest's until the chain is pushed: they may change while we look.
 * n_in and n_out may exceed IOV_MAX (1024) by a few.
 */
struct vfsd_chain {
	uint16_t head;
	uint32_t n_in;	/* iov[0 .. n_in) is device-readable (guest to us) */
	uint32_t n_out; /* iov[n_in .. n_in + n_out) is device-writable */
	uint64_t in_bytes;
	uint64_t out_bytes;
	struct iovec iov[VFSD_CHAIN_IOV_MAX];
};

struct vfsd_vring_desc;
struct vfsd_vring_avail;
struct vfsd_vring_used;

/* Where a chain begins, and the one copy of the descriptor there. */
struct vfsd_vring_head {
	uint64_t addr; /* gpa */
	uint32_t len;
	uint16_t flags;
	uint16_t next;
	uint16_t head;
};

struct vfsd_vring {
	const struct vfsd_mem *mem; /* borrowed */
	const struct vfsd_vring_desc *desc;
	struct vfsd_vring_avail *avail; /* the driver's; only vfsd_vring_unpop() writes to it */
	struct vfsd_vring_used *used;
	const struct vfsd_mem_region *region; /* where the last buffer was */
	uint16_t num;
	uint16_t next_avail;	 /* next avail entry to look at */
	uint16_t avail_seen;	 /* cached avail->idx, acquired */
	uint16_t prefetched_end; /* of the avail entries that have been read already */
	uint16_t next_used;	 /* entries pushed, maybe not exposed yet */
	uint16_t exposed;	 /* used->idx as the driver sees it */
	uint16_t asked;		 /* it was that much when we last asked whether to signal */
	bool event_idx;
	bool indirect;
	bool signalled; /* since _init */
	struct vfsd_dirtylog *log;
	struct vfsd_dirtylog *used_log;
	uint64_t used_gpa;
	struct vfsd_vring_head
		prefetched[VFSD_VRING_PREFETCHED]; /* by avail index, up to prefetched_end */
};

/*
 * Start with kicks enabled, at avail entry @setup->base and at the used entry that the ring itself
 * holds. There is nothing to undo; call it again when @mem is replaced.
 * 0, -EINVAL (size, alignment) or -EFAULT (not in guest memory).
 */
int vfsd_vring_init(struct vfsd_vring *ring, const struct vfsd_mem *mem,
		    const struct vfsd_vring_setup *setup);

/*
 * Take the next available chain. 1 = got one, 0 = ring is empty; -EPROTO: the ring is broken
 * (index jump, loop, nested indirect, readable after writable, too long, unmapped) and must be
 * stopped by the caller; nothing has been consumed that could be answered.
 */
int vfsd_vring_pop(struct vfsd_vring *ring, struct vfsd_chain *chain);

/*
 * Have the beginnings of the buffers of @chain fetched, which will be served soon, and the entry
 * that is pushed next: the driver's processor has just had them in its cache.
 */
void vfsd_vring_prefetch(const struct vfsd_vring *ring, const struct vfsd_chain *chain);

/*
 * Give a chain back that was popped and not pushed: it is the next to be popped again. Of several the
 * youngest goes first. If it was not the last one popped, its head is put into the available ring. That
 * ring is the driver's to write, but it has no use for the entry before it gets this chain back: while a
 * chain is out, as many entries behind the index stay unused.
 */
void vfsd_vring_unpop(struct vfsd_vring *ring, uint16_t head);

/*
 * Before the push of a chain that may have been written to: mark its writable buffers in the dirty
 * log, all of them, because an operation that failed may have filled a part before.
 */
void vfsd_vring_mark(const struct vfsd_vring *ring, const struct iovec *out, uint32_t n_out);

static inline void vfsd_vring_log_out(const struct vfsd_vring *ring, const struct iovec *out,
				      uint32_t n_out)
{
	if (VFSD_UNLIKELY(ring->log != NULL))
		vfsd_vring_mark(ring, out, n_out);
}

/* Hand the chain with @head back with @written bytes. Not visible before vfsd_vring_should_notify(). */
void vfsd_vring_push(struct vfsd_vring *ring, uint16_t head, uint32_t written);

/* Make all pushed entries visible (release), but don't ask yet whether to signal. */
void vfsd_vring_expose_used(struct vfsd_vring *ring);

/*
 * Make all pushed entries visible. True: the driver wants the call eventfd signalled for one of
 * those since the last time. With nothing pushed since then: false.
 */
bool vfsd_vring_should_notify(struct vfsd_vring *ring);

/*
 * Ask the driver for no more kicks (best effort). With EVENT_IDX there is nothing to do: after the
 * entry it was asked to kick for, a driver is silent until the next vfsd_vring_enable_kick().
 */
void vfsd_vring_disable_kick(struct vfsd_vring *ring);

/* Ask for a kick at the next avail entry. True: entries came meanwhile, poll again, don't wait. */
bool vfsd_vring_enable_kick(struct vfsd_vring *ring);

/* Entries waiting? (acquire) */
bool vfsd_vring_pending(struct vfsd_vring *ring);

/* The base for VHOST_USER_GET_VRING_BASE. */
static inline uint16_t vfsd_vring_base(const struct vfsd_vring *ring)
{
	return ring->next_avail;
}

#endif
