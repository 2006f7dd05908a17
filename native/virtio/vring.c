/* SPDX-License-Identifier: BSD-3-Clause */
#include "virtio/vring.h"

#include <errno.h>
#include <string.h>

#include "virtio/dirty_log.h"
#include "virtio/mem.h"
#include "base/util.h"
#include "virtio/vring_layout.h"

enum {
	CACHE_LINE_BYTES = 64,
	/* Of a chain that are fetched ahead: headers, arguments, the reply. */
	PREFETCHED_BUFFERS = 5,
};

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Before the first hit: no address is in it. */
static const struct vfsd_mem_region no_region;

/*
 * A chain being gathered. Lives in registers: what runs per descriptor is inlined, and nothing that
 * is called from there takes its address.
 */
struct walk {
	const struct vfsd_mem *mem;
	const struct vfsd_mem_region *region; /* last hit */
	struct iovec *iov;
	const uint8_t *end; /* of the youngest iovec, NULL: do not merge what follows */
	uint32_t n;
	uint32_t n_in;
	uint64_t bytes;
	uint64_t in_bytes;
	bool writable; /* the writable part has begun */
};

/* Mark what has been written at @at in the used ring. */
static inline void log_used(const struct vfsd_vring *ring, const void *at, size_t bytes)
{
	if (VFSD_UNLIKELY(ring->used_log != NULL))
		vfsd_dirtylog_mark(ring->used_log,
				   ring->used_gpa + (uint64_t)((const uint8_t *)at -
							       (const uint8_t *)ring->used),
				   bytes);
}

int vfsd_vring_init(struct vfsd_vring *ring, const struct vfsd_mem *mem,
		    const struct vfsd_vring_setup *setup)
{
	uint32_t num = setup->num;
	void *desc, *avail, *used;

	if (num == 0 || num > VFSD_VRING_SIZE_MAX || (num & (num - 1)) != 0)
		return -EINVAL;
	if (vfsd_mem_uva(mem, setup->desc_uva, vfsd_vring_desc_bytes(num), &desc) < 0 ||
	    vfsd_mem_uva(mem, setup->avail_uva, vfsd_vring_avail_bytes(num), &avail) < 0 ||
	    vfsd_mem_uva(mem, setup->used_uva, vfsd_vring_used_bytes(num), &used) < 0)
		return -EFAULT;
	/* Here, not in the front-end, must they be aligned: its mapping may differ from ours. */
	if ((uintptr_t)desc % VFSD_VRING_DESC_ALIGN || (uintptr_t)avail % VFSD_VRING_AVAIL_ALIGN ||
	    (uintptr_t)used % VFSD_VRING_USED_ALIGN)
		return -EINVAL;

	*ring = (struct vfsd_vring){
		.mem = mem,
		.desc = desc,
		.avail = avail,
		.used = used,
		.region = &no_region,
		.num = (uint16_t)num,
		.next_avail = setup->base,
		.avail_seen = setup->base,
		.prefetched_end = setup->base,
		.event_idx = setup->event_idx,
		.indirect = setup->indirect,
		.log = setup->log,
		.used_log = setup->used_log,
		.used_gpa = setup->used_gpa,
	};
	ring->next_used = vfsd_vring_load(&ring->used->idx);
	ring->exposed = ring->next_used;
	ring->asked = ring->next_used;
	(void)vfsd_vring_enable_kick(ring); /* who ran the ring before may have left it silent */
	return 0;
}

/* Where @gpa is here, and how many of @len > 0 bytes are contiguous there. 0: it is not mapped. */
static ALWAYS_INLINE uint32_t locate(struct walk *walk, uint64_t gpa, uint32_t len, uint8_t **ret)
{
	uint64_t offset = gpa - walk->region->gpa;
	uint64_t room;

	/* An address below the region is a huge offset: no region reaches 2^64. */
	if (VFSD_UNLIKELY(offset >= walk->region->size)) {
		const struct vfsd_mem_region *region = vfsd_mem_find(walk->mem, gpa);

		if (!region)
			return 0;
		walk->region = region;
		offset = gpa - region->gpa;
	}
	*ret = walk->region->host + offset;
	room = walk->region->size - offset;
	return VFSD_LIKELY(len <= room) ? len : (uint32_t)room;
}

/* A descriptor's buffer becomes iovecs: usually more of the youngest one, or one more. */
static ALWAYS_INLINE int add_buffer(struct walk *walk, uint64_t gpa, uint32_t len)
{
	while (len > 0) {
		uint8_t *host;
		uint32_t here = locate(walk, gpa, len, &host);

		if (VFSD_UNLIKELY(here == 0))
			return -EPROTO;
		if (host == walk->end) {
			walk->iov[walk->n - 1].iov_len += here;
		} else {
			if (VFSD_UNLIKELY(walk->n == VFSD_CHAIN_IOV_MAX))
				return -EPROTO;
			walk->iov[walk->n++] = (struct iovec){.iov_base = host, .iov_len = here};
		}
		walk->end = host + here;
		walk->bytes += here;
		gpa += here;
		len -= here;
	}
	return 0;
}

static ALWAYS_INLINE int add_desc(struct walk *walk, struct vfsd_vring_desc desc)
{
	if (desc.flags & VFSD_VRING_DESC_WRITE) {
		if (!walk->writable) {
			walk->writable = true;
			walk->n_in = walk->n;
			walk->in_bytes = walk->bytes;
			walk->end = NULL;
		}
	} else if (VFSD_UNLIKELY(walk->writable)) {
		return -EPROTO;
	}
	return add_buffer(walk, desc.addr, desc.len);
}

/*
 * The @n descriptors of an indirect table, one after the other as they are chained. Each visit is
 * one copy of one descriptor; a driver that changes them meanwhile changes what comes next, no more.
 */
static ALWAYS_INLINE int add_table(struct walk *walk, const struct vfsd_vring_desc *table,
				   uint32_t n)
{
	uint32_t at = 0;

	for (uint32_t taken = 0; taken < n; taken++) {
		struct vfsd_vring_desc desc = vfsd_vring_load_desc(&table[at]);
		int err;

		if (VFSD_UNLIKELY(desc.flags & VFSD_VRING_DESC_INDIRECT))
			return -EPROTO;
		err = add_desc(walk, desc);
		if (VFSD_UNLIKELY(err < 0))
			return err;
		if (!(desc.flags & VFSD_VRING_DESC_NEXT))
			return 0;
		at = desc.next;
		if (VFSD_UNLIKELY(at >= n))
			return -EPROTO;
	}
	return -EPROTO; /* longer than its table: a loop */
}

/* A table that cannot be read in place: it straddles regions, or lies where no table should. */
static __attribute__((noinline)) int add_copied_table(struct walk *walk, uint64_t gpa,
						      uint32_t bytes)
{
	struct vfsd_vring_desc table[VFSD_VRING_SIZE_MAX]; /* only bytes of it are touched */

	for (uint32_t done = 0, here; done < bytes; done += here) {
		uint8_t *host;

		here = locate(walk, gpa + done, bytes - done, &host);
		if (here == 0)
			return -EPROTO;
		vfsd_vring_copy((uint8_t *)table + done, host, here);
	}
	return add_table(walk, table, bytes / (uint32_t)sizeof(table[0]));
}

static ALWAYS_INLINE int add_indirect(struct walk *walk, struct vfsd_vring_desc outer)
{
	const uint32_t n = outer.len / (uint32_t)sizeof(outer);
	uint8_t *table;
	uint32_t here;

	if (VFSD_UNLIKELY(n == 0 || n > VFSD_VRING_SIZE_MAX || outer.len % sizeof(outer)))
		return -EPROTO;
	here = locate(walk, outer.addr, outer.len, &table);
	if (VFSD_UNLIKELY(here < outer.len ||
			  (uintptr_t)table % _Alignof(struct vfsd_vring_desc))) {
		struct walk rare = *walk; /* whose address is taken */
		int err = add_copied_table(&rare, outer.addr, outer.len);

		*walk = rare;
		return err;
	}
	return add_table(walk, (const void *)table, n);
}

/* Any number of direct descriptors, the last of which may refer to an indirect table. */
static ALWAYS_INLINE int add_chain(struct walk *walk, const struct vfsd_vring *ring,
				   const struct vfsd_vring_head *head)
{
	struct vfsd_vring_desc desc = {
		.addr = head->addr, .len = head->len, .flags = head->flags, .next = head->next};
	uint32_t at = head->head;

	for (uint32_t taken = 1; taken <= ring->num; taken++) {
		int err;

		if (VFSD_UNLIKELY(at >= ring->num))
			return -EPROTO;
		if (taken > 1)
			desc = vfsd_vring_load_desc(&ring->desc[at]);
		if (desc.flags & VFSD_VRING_DESC_INDIRECT) {
			if (VFSD_UNLIKELY(!ring->indirect || (desc.flags & VFSD_VRING_DESC_NEXT)))
				return -EPROTO;
			return add_indirect(walk, desc);
		}
		err = add_desc(walk, desc);
		if (VFSD_UNLIKELY(err < 0))
			return err;
		if (!(desc.flags & VFSD_VRING_DESC_NEXT))
			return 0;
		at = desc.next;
	}
	return -EPROTO; /* longer than the ring: a loop */
}

/* Have the beginning of a table fetched, if it is where the last buffer was. */
static ALWAYS_INLINE void prefetch_table(const struct vfsd_vring *ring, uint64_t gpa)
{
	const uint64_t offset = gpa - ring->region->gpa;

	if (offset >= ring->region->size)
		return;
	__builtin_prefetch(ring->region->host + offset);
	if (ring->region->size - offset > CACHE_LINE_BYTES)
		__builtin_prefetch(ring->region->host + offset + CACHE_LINE_BYTES);
}

/*
 * Read where the next chains begin, several at a time: while the driver adds entries to the same lines,
 * each look at one of them waits for the line to come back from its processor.
 */
static void prefetch_heads(struct vfsd_vring *ring)
{
	uint16_t n = (uint16_t)(ring->avail_seen - ring->next_avail);

	if (n > VFSD_VRING_PREFETCHED)
		n = VFSD_VRING_PREFETCHED;
	for (uint16_t i = 0; i < n; i++) {
		const uint16_t index = (uint16_t)(ring->next_avail + i);

		ring->prefetched[index % VFSD_VRING_PREFETCHED].head =
			vfsd_vring_load(&ring->avail->ring[index & (ring->num - 1)]);
	}
	for (uint16_t i = 0; i < n; i++) {
		struct vfsd_vring_head *next =
			&ring->prefetched[(uint16_t)(ring->next_avail + i) % VFSD_VRING_PREFETCHED];
		struct vfsd_vring_desc desc;

		/* One that is outside breaks the ring when it is taken, no sooner. */
		if (VFSD_UNLIKELY(next->head >= ring->num))
			continue;
		desc = vfsd_vring_load_desc(&ring->desc[next->head]);
		next->addr = desc.addr;
		next->len = desc.len;
		next->flags = desc.flags;
		next->next = desc.next;
		if (desc.flags & VFSD_VRING_DESC_INDIRECT)
			prefetch_table(ring, desc.addr);
	}
	ring->prefetched_end = (uint16_t)(ring->next_avail + n);
}

/* The line at @at, to be written to if @own. */
static inline void prefetch(const void *at, bool own)
{
#ifdef __x86_64__
	/* The builtin asks for a line that is shared, unless it is compiled for newer processors. */
	if (own) {
		__asm__ volatile("prefetchw %0" : : "m"(*(const char *)at));
		return;
	}
#endif
	if (own)
		__builtin_prefetch(at, 1);
	else
		__builtin_prefetch(at);
}

void vfsd_vring_prefetch(const struct vfsd_vring *ring, const struct vfsd_chain *chain)
{
	uint32_t n = chain->n_in + chain->n_out;
	uint16_t next_used;

	/* A guess is enough: somebody may be pushing. */
	next_used = __atomic_load_n(&ring->next_used, __ATOMIC_RELAXED);
	prefetch(&ring->used->ring[next_used & (ring->num - 1)], true);
	if (n > PREFETCHED_BUFFERS)
		n = PREFETCHED_BUFFERS;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *at = chain->iov[i].iov_base;
		const size_t bytes = chain->iov[i].iov_len;

		prefetch(at, i >= chain->n_in);
		if (bytes > CACHE_LINE_BYTES)
			prefetch(at + CACHE_LINE_BYTES, i >= chain->n_in);
	}
}

int vfsd_vring_pop(struct vfsd_vring *ring, struct vfsd_chain *chain)
{
	struct walk walk = {
		.mem = ring->mem,
		.region = ring->region,
		.iov = chain->iov,
	};
	const struct vfsd_vring_head *head;
	int err;

	if (ring->next_avail == ring->avail_seen) {
		uint16_t idx = vfsd_vring_load_acquire(&ring->avail->idx);

		if (idx == ring->next_avail)
			return 0;
		if (VFSD_UNLIKELY((uint16_t)(idx - ring->next_avail) > ring->num))
			return -EPROTO;
		ring->avail_seen = idx;
	}
	if (ring->next_avail == ring->prefetched_end)
		prefetch_heads(ring);
	head = &ring->prefetched[ring->next_avail % VFSD_VRING_PREFETCHED];
	err = add_chain(&walk, ring, head);
	if (VFSD_UNLIKELY(err < 0))
		return err;
	if (VFSD_UNLIKELY(walk.bytes > UINT32_MAX))
		return -EPROTO;
	if (!walk.writable) {
		walk.n_in = walk.n;
		walk.in_bytes = walk.bytes;
	}

	chain->head = head->head;
	chain->n_in = walk.n_in;
	chain->n_out = walk.n - walk.n_in;
	chain->in_bytes = walk.in_bytes;
	chain->out_bytes = walk.bytes - walk.in_bytes;
	ring->region = walk.region;
	ring->next_avail++;
	return 1;
}

void vfsd_vring_unpop(struct vfsd_vring *ring, uint16_t head)
{
	uint16_t *entry = &ring->avail->ring[--ring->next_avail & (ring->num - 1)];
	const struct iovec written = {.iov_base = entry, .iov_len = sizeof(*entry)};

	ring->prefetched_end = ring->next_avail;
	if (vfsd_vring_load(entry) == head)
		return;
	vfsd_vring_store(entry, head);
	if (ring->log)
		vfsd_dirtylog_mark_iov(ring->log, ring->mem, &written, 1);
}

void vfsd_vring_mark(const struct vfsd_vring *ring, const struct iovec *out, uint32_t n_out)
{
	vfsd_dirtylog_mark_iov(ring->log, ring->mem, out, n_out);
}

void vfsd_vring_push(struct vfsd_vring *ring, uint16_t head, uint32_t written)
{
	struct vfsd_vring_used_elem *elem = &ring->used->ring[ring->next_used & (ring->num - 1)];

	vfsd_vring_store_used(elem, head, written);
	log_used(ring, elem, sizeof(*elem));
	__atomic_store_n(&ring->next_used, (uint16_t)(ring->next_used + 1), __ATOMIC_RELAXED);
}

void vfsd_vring_expose_used(struct vfsd_vring *ring)
{
	vfsd_vring_store_release(&ring->used->idx, ring->next_used);
	ring->exposed = ring->next_used;
	log_used(ring, &ring->used->idx, sizeof(ring->used->idx));
}

bool vfsd_vring_should_notify(struct vfsd_vring *ring)
{
	uint16_t old = ring->asked;
	uint16_t new = ring->next_used;
	uint16_t event;

	if (old == new)
		return false;
	if (ring->exposed != new)
		vfsd_vring_expose_used(ring);
	if (VFSD_UNLIKELY(ring->used_log != NULL))
		vfsd_dirtylog_signal(ring->used_log);
	ring->asked = new;
	vfsd_vring_full_fence();

	if (!ring->event_idx)
		return !(vfsd_vring_load(&ring->avail->flags) & VFSD_VRING_AVAIL_NO_INTERRUPT);
	/* Whoever ran the ring before us may have exposed entries without a signal: give one too many. */
	if (!ring->signalled) {
		ring->signalled = true;
		return true;
	}
	/* Spec: "Used Buffer Notification Suppression": did idx step over used_event? */
	event = vfsd_vring_load(vfsd_vring_used_event(ring->avail, ring->num));
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

void vfsd_vring_disable_kick(struct vfsd_vring *ring)
{
	if (ring->event_idx)
		return;
	vfsd_vring_store(&ring->used->flags, VFSD_VRING_USED_NO_NOTIFY);
	log_used(ring, &ring->used->flags, sizeof(ring->used->flags));
}

bool vfsd_vring_enable_kick(struct vfsd_vring *ring)
{
	uint16_t *asks = ring->event_idx ? vfsd_vring_avail_event(ring->used, ring->num) :
					   &ring->used->flags;

	vfsd_vring_store(asks, ring->event_idx ? ring->next_avail : 0);
	log_used(ring, asks, sizeof(*asks));
	vfsd_vring_full_fence();
	return vfsd_vring_pending(ring);
}

bool vfsd_vring_pending(struct vfsd_vring *ring)
{
	return ring->next_avail != ring->avail_seen ||
	       vfsd_vring_load_acquire(&ring->avail->idx) != ring->next_avail;
}
