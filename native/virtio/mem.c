/* SPDX-License-Identifier: BSD-3-Clause */
#include "virtio/mem.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/util.h"

struct vfsd_mem {
	uint32_t n;
	struct vfsd_mem_region regions[]; /* by gpa, ascending, disjoint */
};

static int compare_gpa(const void *a, const void *b)
{
	const struct vfsd_mem_region_desc *const *left = a;
	const struct vfsd_mem_region_desc *const *right = b;

	return ((*left)->gpa > (*right)->gpa) - ((*left)->gpa < (*right)->gpa);
}

/*
 * Addresses may overlap in the front-end (two views of one memory), in the guest they may not.
 * No region reaches the last byte of the address space, so that an address behind one never wraps.
 */
static int check_layout(const struct vfsd_mem_region_desc *const *sorted, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct vfsd_mem_region_desc *desc = sorted[i];

		if (desc->size == 0 || desc->size > UINT64_MAX - desc->gpa ||
		    desc->size > UINT64_MAX - desc->uva)
			return -EINVAL;
		if (i > 0 && desc->gpa - sorted[i - 1]->gpa < sorted[i - 1]->size)
			return -EINVAL;
	}
	return 0;
}

/* The granularity of mappings of @fd in bytes, or -errno: hugetlbfs insists on its own. */
static int64_t page_bytes(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	return fs.f_type == HUGETLBFS_MAGIC ? fs.f_bsize : sysconf(_SC_PAGESIZE);
}

static int map_region(const struct vfsd_mem_region_desc *desc, struct vfsd_mem_region *ret)
{
	uint64_t file_bytes, start, lead, bytes;
	struct stat st;
	int64_t page;
	void *map;

	if (fstat(desc->fd, &st) < 0)
		return -errno;
	/* A device has no size to check against: an access behind its end would kill us. */
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	file_bytes = (uint64_t)st.st_size;
	if (desc->size > file_bytes || desc->mmap_offset > file_bytes - desc->size)
		return -EINVAL;
	page = page_bytes(desc->fd);
	if (page < 0)
		return (int)page;

	start = VFSD_ALIGN_DOWN(desc->mmap_offset, (uint64_t)page);
	lead = desc->mmap_offset - start;
	bytes = VFSD_ALIGN_UP(lead + desc->size, (uint64_t)page);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, desc->fd,
		   (off_t)start);
	if (map == MAP_FAILED)
		return -errno;
	/* A core dump of ours is not the place for a guest's secrets. */
	(void)madvise(map, bytes, MADV_DONTDUMP);

	*ret = (struct vfsd_mem_region){
		.gpa = desc->gpa,
		.size = desc->size,
		.host = (uint8_t *)map + lead,
		.uva = desc->uva,
		.map = map,
		.map_bytes = bytes,
	};
	return 0;
}

static int create(const struct vfsd_mem_region_desc *descs, uint32_t n, struct vfsd_mem **ret)
{
	const struct vfsd_mem_region_desc *sorted[VFSD_MEM_REGIONS_MAX];
	struct vfsd_mem *mem;
	int err;

	if (n > VFSD_MEM_REGIONS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++)
		sorted[i] = &descs[i];
	qsort(sorted, n, sizeof(*sorted), compare_gpa);
	err = check_layout(sorted, n);
	if (err < 0)
		return err;

	mem = malloc(sizeof(*mem) + n * sizeof(mem->regions[0]));
	if (!mem)
		return -ENOMEM;
	for (mem->n = 0; mem->n < n; mem->n++) {
		err = map_region(sorted[mem->n], &mem->regions[mem->n]);
		if (err < 0) {
			vfsd_mem_destroy(mem);
			return err;
		}
	}
	*ret = mem;
	return 0;
}

int vfsd_mem_create(const struct vfsd_mem_region_desc *descs, uint32_t n, struct vfsd_mem **ret)
{
	int err = create(descs, n, ret);

	for (uint32_t i = 0; i < n; i++)
		if (descs[i].fd >= 0)
			(void)close(descs[i].fd);
	return err;
}

void vfsd_mem_destroy(struct vfsd_mem *mem)
{
	if (!mem)
		return;
	for (uint32_t i = 0; i < mem->n; i++)
		(void)munmap(mem->regions[i].map, mem->regions[i].map_bytes);
	free(mem);
}

const struct vfsd_mem_region *vfsd_mem_find(const struct vfsd_mem *mem, uint64_t gpa)
{
	uint32_t low = 0, high = mem->n;

	/* Ends with low = how many regions start at or before @gpa; the last of them is it or none. */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (mem->regions[middle].gpa <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || gpa - mem->regions[low - 1].gpa >= mem->regions[low - 1].size)
		return NULL;
	return &mem->regions[low - 1];
}

int vfsd_mem_gpa(const struct vfsd_mem *mem, uint64_t gpa, uint64_t len, void **ret,
		 uint64_t *ret_len)
{
	const struct vfsd_mem_region *region = vfsd_mem_find(mem, gpa);
	uint64_t offset, room;

	if (!region || len == 0)
		return -EFAULT;
	offset = gpa - region->gpa;
	room = region->size - offset;
	*ret = region->host + offset;
	*ret_len = len < room ? len : room;
	return 0;
}

/* Only while a migration logs what is written: regions are few, and not in this order. */
int vfsd_mem_host(const struct vfsd_mem *mem, const void *host, uint64_t len, uint64_t *ret_gpa,
		  uint64_t *ret_len)
{
	for (uint32_t i = 0; i < mem->n; i++) {
		const struct vfsd_mem_region *region = &mem->regions[i];
		uint64_t offset = (uint64_t)((uintptr_t)host - (uintptr_t)region->host);

		/* An address below the region is a huge offset. */
		if (offset >= region->size)
			continue;
		*ret_gpa = region->gpa + offset;
		*ret_len = len < region->size - offset ? len : region->size - offset;
		return 0;
	}
	return -EFAULT;
}

uint64_t vfsd_mem_end(const struct vfsd_mem *mem)
{
	return mem->n ? mem->regions[mem->n - 1].gpa + mem->regions[mem->n - 1].size : 0;
}

/* Not on the hot path: rings are translated once, when they start. */
int vfsd_mem_uva(const struct vfsd_mem *mem, uint64_t uva, uint64_t len, void **ret)
{
	for (uint32_t i = 0; i < mem->n; i++) {
		const struct vfsd_mem_region *region = &mem->regions[i];

		if (uva < region->uva || uva - region->uva >= region->size)
			continue;
		if (len == 0 || len > region->size - (uva - region->uva))
			continue; /* another view may hold all of it */
		*ret = region->host + (uva - region->uva);
		return 0;
	}
	return -EFAULT;
}
