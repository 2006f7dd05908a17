/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio/mem - the guest's memory as the front-end shared it, and the only translator of its addresses.
 *
 * A map is immutable once made. The engine replaces it whole while every queue is quiet, so readers
 * need no lock and a pointer got from it is borrowed until then.
 * Owner thread: made and destroyed by the control thread, read by any queue thread.
 * Spec: vhost-user, "Memory region description"; addresses are guest-physical (gpa) or, for ring
 * addresses in VHOST_USER_SET_VRING_ADDR, front-end virtual (uva). All sizes are bytes.
 */
#ifndef VFSD_VIRTIO_MEM_H
#define VFSD_VIRTIO_MEM_H

#include <stddef.h>
#include <stdint.h>

enum { VFSD_MEM_REGIONS_MAX = 509 };

/* One region as described by the front-end. @fd is owned by the callee of vfsd_mem_create(). */
struct vfsd_mem_region_desc {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
	int fd;
};

/* One mapped region. Guest bytes gpa + i are at host + i, readable and writable, for i < size. */
struct vfsd_mem_region {
	uint64_t gpa;
	uint64_t size;
	uint8_t *host;
	uint64_t uva;
	/* What to unmap; belongs to mem.c. */
	void *map;
	size_t map_bytes;
};

struct vfsd_mem;

/*
 * Map @n regions; none is a legal, empty map. Every @fd is consumed, on success and on error.
 * Fails with -EINVAL for empty, wrapping or (by gpa) overlapping regions, for more than
 * VFSD_MEM_REGIONS_MAX, and for what is no regular file (memfd, shm, hugetlbfs) or is shorter than
 * claimed; else with the system call's -errno.
 * A file that is truncated later raises SIGBUS: the front-end is trusted not to, unlike the guest.
 */
int vfsd_mem_create(const struct vfsd_mem_region_desc *descs, uint32_t n, struct vfsd_mem **ret);
void vfsd_mem_destroy(struct vfsd_mem *mem);

/* The region that holds @gpa, NULL: none. The map has no cache: callers remember their last hit. */
const struct vfsd_mem_region *vfsd_mem_find(const struct vfsd_mem *mem, uint64_t gpa);

/*
 * Translate @len > 0 bytes at guest-physical @gpa.
 * *ret_len gets how many of them are contiguous here (at least 1); the rest continues in another
 * region and takes another call. 0, or -EFAULT when @gpa is not mapped.
 */
int vfsd_mem_gpa(const struct vfsd_mem *mem, uint64_t gpa, uint64_t len, void **ret,
		 uint64_t *ret_len);

/*
 * The other way round: @len > 0 bytes that are mapped at @host, as vfsd_mem_gpa() gave it. 0, or
 * -EFAULT if @host is not of this map.
 */
int vfsd_mem_host(const struct vfsd_mem *mem, const void *host, uint64_t len, uint64_t *ret_gpa,
		  uint64_t *ret_len);

/* The first guest-physical address behind all regions; 0: there are none. */
uint64_t vfsd_mem_end(const struct vfsd_mem *mem);

/* Translate a ring address; all @len > 0 bytes must lie in one region. 0 or -EFAULT. */
int vfsd_mem_uva(const struct vfsd_mem *mem, uint64_t uva, uint64_t len, void **ret);

#endif
