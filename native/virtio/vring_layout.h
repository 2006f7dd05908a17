/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio/vring_layout - the split ring as it lies in guest memory, and every ordered access to it.
 *
 * For vring.c and for the driver side in tests. Nothing else touches ring memory, and nothing
 * touches it but by these helpers: each reads or writes exactly once, so that the compiler can not
 * read a value again after it was checked.
 *
 * Who waits for what:
 *   entries before index   release store, acquire load
 *   index before event     store; full fence; load of the other side's wish - on both sides, so
 *                          that at least one of them sees the other's store
 * Spec: virtio 1.2, sections "The Virtqueue Descriptor Table", "The Virtqueue Available Ring",
 * "The Virtqueue Used Ring". All fields little endian.
 */
#ifndef VFSD_VIRTIO_VRING_LAYOUT_H
#define VFSD_VIRTIO_VRING_LAYOUT_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

enum {
	VFSD_VRING_DESC_NEXT = 1,
	VFSD_VRING_DESC_WRITE = 2,
	VFSD_VRING_DESC_INDIRECT = 4,

	VFSD_VRING_AVAIL_NO_INTERRUPT = 1,
	VFSD_VRING_USED_NO_NOTIFY = 1,

	VFSD_VRING_DESC_ALIGN = 16,
	VFSD_VRING_AVAIL_ALIGN = 2,
	VFSD_VRING_USED_ALIGN = 4,
};

struct vfsd_vring_desc {
	uint64_t addr; /* gpa */
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct vfsd_vring_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[]; /* num heads, then used_event */
};

struct vfsd_vring_used_elem {
	uint32_t id;
	uint32_t len;
};

struct vfsd_vring_used {
	uint16_t flags;
	uint16_t idx;
	struct vfsd_vring_used_elem ring[]; /* num entries, then uint16_t avail_event */
};

_Static_assert(sizeof(struct vfsd_vring_desc) == 16, "virtio 1.2, virtq_desc");
_Static_assert(sizeof(struct vfsd_vring_avail) == 4, "virtio 1.2, virtq_avail");
_Static_assert(sizeof(struct vfsd_vring_used_elem) == 8, "virtio 1.2, virtq_used_elem");
_Static_assert(sizeof(struct vfsd_vring_used) == 4, "virtio 1.2, virtq_used");

/* Bytes of a ring of @num entries, event fields included whether they are negotiated or not. */
static inline uint64_t vfsd_vring_desc_bytes(uint32_t num)
{
	return num * (uint64_t)sizeof(struct vfsd_vring_desc);
}

static inline uint64_t vfsd_vring_avail_bytes(uint32_t num)
{
	return sizeof(struct vfsd_vring_avail) + (num + 1) * (uint64_t)sizeof(uint16_t);
}

static inline uint64_t vfsd_vring_used_bytes(uint32_t num)
{
	return sizeof(struct vfsd_vring_used) +
	       num * (uint64_t)sizeof(struct vfsd_vring_used_elem) + sizeof(uint16_t);
}

static inline const uint16_t *vfsd_vring_used_event(const struct vfsd_vring_avail *avail,
						    uint32_t num)
{
	return &avail->ring[num];
}

static inline uint16_t *vfsd_vring_avail_event(struct vfsd_vring_used *used, uint32_t num)
{
	return (uint16_t *)(void *)&used->ring[num];
}

static inline uint16_t vfsd_vring_load(const uint16_t *at)
{
	return le16toh(__atomic_load_n(at, __ATOMIC_RELAXED));
}

static inline uint16_t vfsd_vring_load_acquire(const uint16_t *at)
{
	return le16toh(__atomic_load_n(at, __ATOMIC_ACQUIRE));
}

static inline void vfsd_vring_store(uint16_t *at, uint16_t value)
{
	__atomic_store_n(at, htole16(value), __ATOMIC_RELAXED);
}

static inline void vfsd_vring_store_release(uint16_t *at, uint16_t value)
{
	__atomic_store_n(at, htole16(value), __ATOMIC_RELEASE);
}

/* Between "I published" and "does the other side sleep?", and the other way round. */
static inline void vfsd_vring_full_fence(void)
{
/* ThreadSanitizer does not model fences, and warns; every access around this one is atomic. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wtsan"
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#pragma GCC diagnostic pop
}

/* The one copy of a descriptor that is validated and used; in the host's byte order. */
static inline struct vfsd_vring_desc vfsd_vring_load_desc(const struct vfsd_vring_desc *at)
{
	struct vfsd_vring_desc desc;

	desc.addr = le64toh(__atomic_load_n(&at->addr, __ATOMIC_RELAXED));
	desc.len = le32toh(__atomic_load_n(&at->len, __ATOMIC_RELAXED));
	desc.flags = le16toh(__atomic_load_n(&at->flags, __ATOMIC_RELAXED));
	desc.next = le16toh(__atomic_load_n(&at->next, __ATOMIC_RELAXED));
	return desc;
}

static inline void vfsd_vring_store_used(struct vfsd_vring_used_elem *at, uint32_t id, uint32_t len)
{
	__atomic_store_n(&at->id, htole32(id), __ATOMIC_RELAXED);
	__atomic_store_n(&at->len, htole32(len), __ATOMIC_RELAXED);
}

/* Copy guest memory; whoever looks at @dst afterwards sees the copy, not the guest's memory. */
static inline void vfsd_vring_copy(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
	__asm__ volatile("" : : "r"(dst) : "memory");
}

#endif
