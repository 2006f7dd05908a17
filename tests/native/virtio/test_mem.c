/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory: what is refused, what is mapped where, and that no descriptor stays open. */
#include "virtio/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "base/util.h"

enum {
	KIB = 1024,
	PAGE = 4096,
	HUGE_2MB = 21 << 26, /* MFD_HUGE_2MB, which glibc lacks */
};

static int file(unsigned int flags, uint64_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC | flags);

	if (fd >= 0)
		CHECK(ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

static struct vfsd_mem_region_desc region(uint64_t gpa, uint64_t size)
{
	return (struct vfsd_mem_region_desc){
		.gpa = gpa,
		.size = size,
		.uva = gpa / 2,
		.fd = file(0, 64 * KIB),
	};
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int create_fails(const struct vfsd_mem_region_desc *descs, uint32_t n)
{
	struct vfsd_mem *mem = (struct vfsd_mem *)(uintptr_t)&create_fails;
	int err = vfsd_mem_create(descs, n, &mem);

	CHECK(mem == (struct vfsd_mem *)(uintptr_t)&create_fails);
	for (uint32_t i = 0; i < n; i++)
		CHECK(!is_open(descs[i].fd));
	return err;
}

static void test_refused(void)
{
	struct vfsd_mem_region_desc pair[2];
	struct vfsd_mem_region_desc one;
	int ends[2];

	one = region(0, 0);
	CHECK_EQ(create_fails(&one, 1), -EINVAL);
	one = region(UINT64_MAX - 8 * KIB + 2, 8 * KIB);
	CHECK_EQ(create_fails(&one, 1), -EINVAL);
	one = region(0, 8 * KIB);
	one.uva = UINT64_MAX - KIB;
	CHECK_EQ(create_fails(&one, 1), -EINVAL);

	/* The file ends too early. */
	one = region(0, 64 * KIB + 1);
	CHECK_EQ(create_fails(&one, 1), -EINVAL);
	one = region(0, 32 * KIB);
	one.mmap_offset = 32 * KIB + 1;
	CHECK_EQ(create_fails(&one, 1), -EINVAL);
	one = region(0, 32 * KIB);
	one.mmap_offset = UINT64_MAX - 16 * KIB;
	CHECK_EQ(create_fails(&one, 1), -EINVAL);

	/* Not a file with a size, or none at all, or not writable. */
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	(void)close(ends[1]);
	one = (struct vfsd_mem_region_desc){.size = PAGE, .fd = ends[0]};
	CHECK_EQ(create_fails(&one, 1), -EINVAL);
	one.fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	CHECK_EQ(create_fails(&one, 1), -EINVAL);
	one.fd = -1;
	CHECK_EQ(create_fails(&one, 1), -EBADF);
	one.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(create_fails(&one, 1), -EACCES);

	/* Overlap by a byte, in either order; inside one another; twice the same. */
	for (int i = 0; i < 2; i++) {
		pair[i] = region(0x10000, 8 * KIB);
		pair[1 - i] = region(0x10000 + 8 * KIB - 1, 8 * KIB);
		CHECK_EQ(create_fails(pair, 2), -EINVAL);
	}
	pair[0] = region(0x10000, 64 * KIB);
	pair[1] = region(0x11000, PAGE);
	CHECK_EQ(create_fails(pair, 2), -EINVAL);
	pair[0] = region(0x10000, PAGE);
	pair[1] = region(0x10000, PAGE);
	CHECK_EQ(create_fails(pair, 2), -EINVAL);

	/* The second fails when the first is mapped already. */
	pair[0] = region(0, PAGE);
	pair[1] = region(PAGE, 128 * KIB);
	CHECK_EQ(create_fails(pair, 2), -EINVAL);
}

static void test_too_many(void)
{
	struct vfsd_mem_region_desc descs[VFSD_MEM_REGIONS_MAX + 1];
	struct vfsd_mem *mem;
	int fd = file(0, 4 * PAGE);

	for (uint32_t n = VFSD_MEM_REGIONS_MAX; n <= VFSD_MEM_REGIONS_MAX + 1; n++) {
		for (uint32_t i = 0; i < n; i++)
			descs[i] = (struct vfsd_mem_region_desc){
				.gpa = (uint64_t)(n - i) * 2 * PAGE,
				.size = PAGE,
				.mmap_offset = (i % 4) * (uint64_t)PAGE,
				.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
			};
		if (n > VFSD_MEM_REGIONS_MAX) {
			CHECK_EQ(create_fails(descs, n), -EINVAL);
			break;
		}
		CHECK_EQ(vfsd_mem_create(descs, n, &mem), 0);
		for (uint32_t i = 0; i < n; i++) {
			const struct vfsd_mem_region *found;

			CHECK(!is_open(descs[i].fd));
			for (uint64_t at = 0; at < PAGE; at += PAGE - 1) {
				found = vfsd_mem_find(mem, descs[i].gpa + at);
				CHECK(found && found->gpa == descs[i].gpa);
			}
			CHECK(!vfsd_mem_find(mem, descs[i].gpa - 1));
			CHECK(!vfsd_mem_find(mem, descs[i].gpa + PAGE));
		}
		vfsd_mem_destroy(mem);
	}
	(void)close(fd);
}

static void test_empty(void)
{
	struct vfsd_mem *mem;
	uint64_t len;
	void *at;

	CHECK_EQ(vfsd_mem_create(NULL, 0, &mem), 0);
	CHECK_EQ(vfsd_mem_gpa(mem, 0, 1, &at, &len), -EFAULT);
	CHECK_EQ(vfsd_mem_uva(mem, 0, 1, &at), -EFAULT);
	vfsd_mem_destroy(mem);
	vfsd_mem_destroy(NULL);
}

static void test_translate(void)
{
	/* Unsorted; the last two touch; an odd file offset; the highest address there may be. */
	struct vfsd_mem_region_desc descs[] = {
		region(UINT64_MAX - PAGE, PAGE),
		region(0x3000, PAGE),
		region(0x1000, 2 * PAGE),
	};
	uint8_t *low, *next;
	struct vfsd_mem *mem;
	uint64_t len;
	void *at;
	int fd;

	descs[0].uva = 0x100000;
	descs[1].mmap_offset = PAGE + 123;
	fd = fcntl(descs[1].fd, F_DUPFD_CLOEXEC, 0);
	CHECK(pwrite(fd, "hello", 5, PAGE + 123) == 5);
	(void)close(fd);
	CHECK_EQ(vfsd_mem_create(descs, VFSD_ARRAY_SIZE(descs), &mem), 0);
	for (uint32_t i = 0; i < VFSD_ARRAY_SIZE(descs); i++)
		CHECK(!is_open(descs[i].fd));

	CHECK_EQ(vfsd_mem_gpa(mem, 0x1000, 1, &at, &len), 0);
	CHECK_EQ(len, 1);
	low = at;
	CHECK_EQ(vfsd_mem_gpa(mem, 0x3000, UINT64_MAX, &at, &len), 0);
	CHECK_EQ(len, PAGE);
	next = at;
	CHECK(memcmp(next, "hello", 5) == 0);
	next[PAGE - 1] = 1; /* the last byte is writable */

	CHECK_EQ(vfsd_mem_gpa(mem, 0x2ffe, 5, &at, &len), 0);
	CHECK(at == low + 0x1ffe && len == 2);
	CHECK_EQ(vfsd_mem_gpa(mem, 0x2ffe, 2, &at, &len), 0);
	CHECK_EQ(len, 2);
	CHECK_EQ(vfsd_mem_gpa(mem, 0xfff, 1, &at, &len), -EFAULT);
	CHECK_EQ(vfsd_mem_gpa(mem, 0x4000, 1, &at, &len), -EFAULT);
	CHECK_EQ(vfsd_mem_gpa(mem, 0x1000, 0, &at, &len), -EFAULT);
	CHECK_EQ(vfsd_mem_gpa(mem, UINT64_MAX - 1, 100, &at, &len), 0);
	CHECK_EQ(len, 1);
	CHECK_EQ(vfsd_mem_gpa(mem, UINT64_MAX, 1, &at, &len), -EFAULT);

	CHECK_EQ(vfsd_mem_uva(mem, 0x800, 2 * PAGE, &at), 0);
	CHECK(at == low);
	CHECK_EQ(vfsd_mem_uva(mem, 0x800, 0, &at), -EFAULT);
	CHECK_EQ(vfsd_mem_uva(mem, 0x7ff, 1, &at), -EFAULT);
	CHECK_EQ(vfsd_mem_uva(mem, 0x800, UINT64_MAX, &at), -EFAULT);
	/* Two views of the front-end's 0x1800: only the second one holds all that is asked for. */
	CHECK_EQ(vfsd_mem_uva(mem, 0x1800, PAGE, &at), 0);
	CHECK(at == low + 0x1000);
	CHECK_EQ(vfsd_mem_uva(mem, 0x1800, PAGE + 1, &at), -EFAULT);
	CHECK_EQ(vfsd_mem_uva(mem, 0x2700, 0x100, &at), 0);
	CHECK(at == low + 0x1f00);
	CHECK_EQ(vfsd_mem_uva(mem, 0x2700, 0x101, &at), -EFAULT);
	vfsd_mem_destroy(mem);
}

/* Mapping needs no huge page to be free; touching one would. */
static void test_huge_pages(void)
{
	const uint64_t huge = 2048 * KIB;
	struct vfsd_mem_region_desc desc = {.size = huge + PAGE, .mmap_offset = huge + 3 * PAGE};
	struct vfsd_mem *mem;
	uint64_t len;
	void *at;

	desc.fd = file(MFD_HUGETLB | HUGE_2MB, 4 * huge);
	if (desc.fd < 0)
		return; /* this kernel has none */
	CHECK_EQ(vfsd_mem_create(&desc, 1, &mem), 0);
	CHECK_EQ(vfsd_mem_gpa(mem, 0, desc.size, &at, &len), 0);
	CHECK_EQ(len, desc.size);
	CHECK_EQ((uintptr_t)at % huge, 3 * PAGE);
	vfsd_mem_destroy(mem);
}

int main(void)
{
	test_refused();
	test_too_many();
	test_empty();
	test_translate();
	test_huge_pages();
	return 0;
}
