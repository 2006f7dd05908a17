/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest - a pretended guest for tests: memory of several regions, and a ring in it (guest_ring.h).
 *
 * The driver sees the memory through mappings of its own, as a front-end would.
 */
#ifndef VFSD_GUEST_H
#define VFSD_GUEST_H

#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "guest_ring.h"
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
		.desc = guest_at(guest, GUEST_DESC),
		.avail = guest_at(guest, GUEST_AVAIL),
		.used = guest_at(guest, GUEST_USED),
		.num = num,
		.next_avail = base,
		.next_used = base,
		.asked = base,
		.event_idx = event_idx,
		.kick_fd = -1,
		.call_fd = -1,
	};
	memset(driver->desc, 0, vfsd_vring_desc_bytes(num));
	memset(driver->avail, 0, vfsd_vring_avail_bytes(num));
	memset(driver->used, 0, vfsd_vring_used_bytes(num));
	vfsd_vring_store(&driver->avail->idx, base);
	vfsd_vring_store(&driver->used->idx, base);
	CHECK_EQ(vfsd_vring_init(device, guest->mem, &setup), 0);
}

#endif
