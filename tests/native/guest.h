/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest - a pretended guest for tests: memory of several regions, and the driver's side of a ring.
 *
 * The driver sees the memory through mappings of its own, as a front-end would.
 */
#ifndef VFSD_GUEST_H
#define VFSD_GUEST_H

#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "virtio/mem.h"
#include "virtio/vring.h"
#include "virtio/vring_layout.h"

#define GUEST_LOW_GPA UINT64_C(0x10000)
#define GUEST_NEXT_GPA (GUEST_LOW_GPA + GUEST_LOW_BYTES) /* right behind the low region */
#define GUEST_HIGH_GPA UINT64_C(0x100000000)
#define GUEST_UVA UINT64_C(0x7f0000000000) /* of gpa 0 */

enum {
	GUEST_REGIONS = 3,
	GUEST_LOW_BYTES = 0x40000,
	GUEST_NEXT_BYTES = 0x10000,
	GUEST_HIGH_BYTES = 0x40000000, /* sparse: for lengths beyond 32 bits */

	/* Where guest_ring_init() puts things; the rest is for buffers. */
	GUEST_DESC = 0x10000,
	GUEST_AVAIL = 0x18000,
	GUEST_USED = 0x1a000,
	GUEST_TABLE = 0x20000, /* room for an indirect table of VFSD_VRING_SIZE_MAX */
	GUEST_DATA = 0x30000,
};

struct guest {
	struct vfsd_mem *mem; /* the device's view */
	struct {
		uint64_t gpa, bytes;
		uint8_t *view; /* the driver's */
	} regions[GUEST_REGIONS];
};

static inline void guest_create(struct guest *guest)
{
	/* Not in order, as front-ends may send them. */
	static const uint64_t layout[GUEST_REGIONS][2] = {
		{GUEST_HIGH_GPA, GUEST_HIGH_BYTES},
		{GUEST_LOW_GPA, GUEST_LOW_BYTES},
		{GUEST_NEXT_GPA, GUEST_NEXT_BYTES},
	};
	struct vfsd_mem_region_desc descs[GUEST_REGIONS];

	for (int i = 0; i < GUEST_REGIONS; i++) {
		int fd = memfd_create("guest", MFD_CLOEXEC);
		void *view;

		CHECK(fd >= 0 && ftruncate(fd, (off_t)layout[i][1]) == 0);
		view = mmap(NULL, layout[i][1], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			    fd, 0);
		CHECK(view != MAP_FAILED);
		guest->regions[i].gpa = layout[i][0];
		guest->regions[i].bytes = layout[i][1];
		guest->regions[i].view = view;
		descs[i] = (struct vfsd_mem_region_desc){
			.gpa = layout[i][0],
			.size = layout[i][1],
			.uva = GUEST_UVA + layout[i][0],
			.fd = fd,
		};
	}
	CHECK_EQ(vfsd_mem_create(descs, GUEST_REGIONS, &guest->mem), 0);
}

static inline void guest_destroy(struct guest *guest)
{
	vfsd_mem_destroy(guest->mem);
	for (int i = 0; i < GUEST_REGIONS; i++)
		(void)munmap(guest->regions[i].view, guest->regions[i].bytes);
}

/* The driver's pointer to a mapped address. */
static inline void *guest_at(const struct guest *guest, uint64_t gpa)
{
	for (int i = 0; i < GUEST_REGIONS; i++)
		if (gpa >= guest->regions[i].gpa &&
		    gpa - guest->regions[i].gpa < guest->regions[i].bytes)
			return guest->regions[i].view + (gpa - guest->regions[i].gpa);
	return NULL;
}

/* Copy across regions, byte by byte: slow and obvious. */
static inline void guest_write(const struct guest *guest, uint64_t gpa, const void *src, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*(uint8_t *)guest_at(guest, gpa + i) = ((const uint8_t *)src)[i];
}

struct guest_ring {
	const struct guest *guest;
	struct vfsd_vring_desc *desc;
	struct vfsd_vring_avail *avail;
	struct vfsd_vring_used *used;
	uint32_t num;
	uint16_t next_avail; /* entries offered */
	uint16_t next_used;  /* entries taken back */
	uint16_t asked;	     /* avail idx when a kick was last considered */
	bool event_idx;
};

static inline struct vfsd_vring_setup guest_setup(uint32_t num, bool event_idx, uint16_t base)
{
	return (struct vfsd_vring_setup){
		.num = num,
		.desc_uva = GUEST_UVA + GUEST_DESC,
		.avail_uva = GUEST_UVA + GUEST_AVAIL,
		.used_uva = GUEST_UVA + GUEST_USED,
		.base = base,
		.event_idx = event_idx,
		.indirect = true,
	};
}

/* Both sides of a ring that has seen @base entries already. */
static inline void guest_ring_init(struct guest_ring *driver, struct vfsd_vring *device,
				   const struct guest *guest, uint32_t num, bool event_idx,
				   uint16_t base)
{
	struct vfsd_vring_setup setup = guest_setup(num, event_idx, base);

	*driver = (struct guest_ring){
		.guest = guest,
		.desc = guest_at(guest, GUEST_DESC),
		.avail = guest_at(guest, GUEST_AVAIL),
		.used = guest_at(guest, GUEST_USED),
		.num = num,
		.next_avail = base,
		.next_used = base,
		.asked = base,
		.event_idx = event_idx,
	};
	memset(driver->desc, 0, vfsd_vring_desc_bytes(num));
	memset(driver->avail, 0, vfsd_vring_avail_bytes(num));
	memset(driver->used, 0, vfsd_vring_used_bytes(num));
	vfsd_vring_store(&driver->avail->idx, base);
	vfsd_vring_store(&driver->used->idx, base);
	CHECK_EQ(vfsd_vring_init(device, guest->mem, &setup), 0);
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

/* Take one used entry back; false: there is none. */
static inline bool guest_ring_take(struct guest_ring *driver, uint32_t *id, uint32_t *len)
{
	const struct vfsd_vring_used_elem *elem;

	if (vfsd_vring_load_acquire(&driver->used->idx) == driver->next_used)
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
	return vfsd_vring_load_acquire(&driver->used->idx) != driver->next_used;
}

static inline void guest_ring_disable_call(struct guest_ring *driver)
{
	if (!driver->event_idx)
		vfsd_vring_store(&driver->avail->flags, VFSD_VRING_AVAIL_NO_INTERRUPT);
}

#endif
