/* SPDX-License-Identifier: BSD-3-Clause */
#include "virtio/dirty_log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/mem.h"
#include "base/nowait.h"
#include "base/util.h"

enum { PAGES_PER_BYTE = 8 };

struct vfsd_dirtylog {
	uint8_t *bits;
	uint64_t bytes;
	int signal_fd;
	void *map;
	size_t map_bytes;
};

int vfsd_dirtylog_create(int fd, uint64_t bytes, uint64_t offset, struct vfsd_dirtylog **ret)
{
	VFSD_FD_GUARD guard = fd;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t lead = offset % page;
	struct vfsd_dirtylog *log;
	struct stat st;
	void *map;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* A device has no size to check against: an access behind its end would kill us. */
	if (!S_ISREG(st.st_mode) || bytes == 0 || bytes > (uint64_t)st.st_size ||
	    offset > (uint64_t)st.st_size - bytes)
		return -EINVAL;
	log = malloc(sizeof(*log));
	if (!log)
		return -ENOMEM;
	map = mmap(NULL, lead + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   (off_t)(offset - lead));
	if (map == MAP_FAILED) {
		int error = -errno;

		free(log);
		return error;
	}
	*log = (struct vfsd_dirtylog){
		.bits = (uint8_t *)map + lead,
		.bytes = bytes,
		.signal_fd = -1,
		.map = map,
		.map_bytes = lead + bytes,
	};
	*ret = log;
	return 0;
}

void vfsd_dirtylog_destroy(struct vfsd_dirtylog *log)
{
	if (!log)
		return;
	(void)munmap(log->map, log->map_bytes);
	free(log);
}

bool vfsd_dirtylog_covers(const struct vfsd_dirtylog *log, const struct vfsd_mem *mem)
{
	uint64_t end = mem ? vfsd_mem_end(mem) : 0;

	return end == 0 || (end - 1) / VFSD_DIRTYLOG_PAGE_BYTES / PAGES_PER_BYTE < log->bytes;
}

void vfsd_dirtylog_set_signal(struct vfsd_dirtylog *log, int fd)
{
	log->signal_fd = fd;
}

void vfsd_dirtylog_signal(const struct vfsd_dirtylog *log)
{
	(void)vfsd_nowait_signal(log->signal_fd);
}

void vfsd_dirtylog_mark(struct vfsd_dirtylog *log, uint64_t gpa, uint64_t bytes)
{
	uint64_t page = gpa / VFSD_DIRTYLOG_PAGE_BYTES;
	uint64_t last;

	if (bytes == 0 || bytes - 1 > UINT64_MAX - gpa)
		return;
	last = (gpa + bytes - 1) / VFSD_DIRTYLOG_PAGE_BYTES;
	for (; page <= last && page / PAGES_PER_BYTE < log->bytes; page++)
		/*
		 * Without a look whether it is set already: that could be before our data is visible,
		 * and the front-end might take the bit and copy the page in between.
		 */
		(void)__atomic_fetch_or(&log->bits[page / PAGES_PER_BYTE],
					(uint8_t)(1u << page % PAGES_PER_BYTE), __ATOMIC_RELEASE);
}

void vfsd_dirtylog_mark_iov(struct vfsd_dirtylog *log, const struct vfsd_mem *mem,
			    const struct iovec *iov, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *at = iov[i].iov_base;
		uint64_t left = iov[i].iov_len;

		/* Neighbours here need not be neighbours there. */
		while (left > 0) {
			uint64_t gpa, here;

			if (vfsd_mem_host(mem, at, left, &gpa, &here) < 0)
				break;
			vfsd_dirtylog_mark(log, gpa, here);
			at += here;
			left -= here;
		}
	}
}
