/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the same work costs whoever makes the system calls himself: the least that a daemon can need.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench_internal.h"
#include "base/util.h"

struct bare {
	const vfsd_bench_work *work;
	int fd;
	uint32_t names;
	uint64_t next, random;
	uint8_t *buffers; /* work->depth of them, of a request each */
	uint32_t turn;	  /* whose turn it is */
};

static uint8_t *next_buffer(struct bare *bare)
{
	uint8_t *buffer = bare->buffers + (size_t)bare->turn * bare->work->request_bytes;

	bare->turn = (bare->turn + 1) % bare->work->depth;
	return buffer;
}

static uint64_t choose(struct bare *bare, uint64_t count)
{
	if (bare->work->random)
		return (uint64_t)(((unsigned __int128)bench_random(&bare->random) * count) >> 64);
	return bare->next++ % count;
}

static int stat_name(const struct bare *bare, const char *name)
{
	struct statx attr;

	return statx(bare->fd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &attr);
}

/* The functions below return units done, or -1 and errno. */

static long getattr(struct bare *bare)
{
	struct stat attr;

	return fstatat(bare->fd, "", &attr, AT_EMPTY_PATH) < 0 ? -1 : 1;
}

static long lookup(struct bare *bare)
{
	char name[32];

	bench_name(name, (uint32_t)choose(bare, bare->names));
	return stat_name(bare, name) < 0 ? -1 : 1;
}

static off_t offset(struct bare *bare)
{
	const uint32_t bytes = bare->work->request_bytes;

	return (off_t)(choose(bare, bare->work->file_bytes / bytes) * bytes);
}

static long read_file(struct bare *bare)
{
	ssize_t n = pread(bare->fd, next_buffer(bare), bare->work->request_bytes, offset(bare));

	return n == bare->work->request_bytes ? 1 : -1;
}

static long write_file(struct bare *bare)
{
	const off_t at = offset(bare);
	uint8_t *buffer = next_buffer(bare);
	ssize_t n;

	for (uint32_t i = 0; i < bare->work->request_bytes; i += BENCH_PAGE_BYTES)
		*(uint64_t *)(void *)(buffer + i) = (uint64_t)(at + i) / BENCH_PAGE_BYTES;
	n = pwrite(bare->fd, buffer, bare->work->request_bytes, at);
	return n == bare->work->request_bytes ? 1 : -1;
}

static long read_directory(struct bare *bare)
{
	uint8_t *buffer = bare->buffers;
	long n = syscall(SYS_getdents64, bare->fd, buffer, bare->work->request_bytes);
	const struct dirent64 *entry;
	long units = 0;

	if (n == 0)
		return lseek(bare->fd, 0, SEEK_SET) < 0 ? -1 : 0;
	for (long at = 0; at < n; at += entry->d_reclen) {
		entry = (const void *)(buffer + at);
		if (entry->d_name[0] == '.')
			continue;
		if (stat_name(bare, entry->d_name) < 0)
			return -1;
		units++;
	}
	return n < 0 ? -1 : units;
}

static long create(struct bare *bare)
{
	struct stat attr;
	char name[32];
	VFSD_FD_GUARD fd = -1;

	(void)snprintf(name, sizeof(name), "b%llu", (unsigned long long)bare->next++);
	fd = openat(bare->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || fstat(fd, &attr) < 0 || unlinkat(bare->fd, name, 0) < 0)
		return -1;
	return 1;
}

static long (*const kinds[])(struct bare *bare) = {
	[VFSD_BENCH_GETATTR] = getattr,
	[VFSD_BENCH_LOOKUP] = lookup,
	[VFSD_BENCH_READ] = read_file,
	[VFSD_BENCH_WRITE] = write_file,
	[VFSD_BENCH_READDIRPLUS] = read_directory,
	[VFSD_BENCH_CREATE] = create,
};

int vfsd_bench_bare(int fd, uint32_t names, const vfsd_bench_work *work, vfsd_bench_result *ret)
{
	const uint64_t began = vfsd_bench_now_ns(), cpu = bench_cpu_ns();
	struct bare bare = {.work = work, .fd = fd, .names = names, .random = began * 2 + 1};
	int error = 0;
	long units;

	*ret = (vfsd_bench_result){0};
	if (work->kind < 0 || work->kind >= (int)VFSD_ARRAY_SIZE(kinds) || work->depth < 1 ||
	    work->depth > VFSD_BENCH_DEPTH_MAX || work->request_bytes > VFSD_BENCH_DATA_BYTES)
		return -EINVAL;
	bare.buffers = aligned_alloc(BENCH_PAGE_BYTES,
				     (size_t)work->depth * work->request_bytes + BENCH_PAGE_BYTES);
	if (!bare.buffers)
		return -ENOMEM;
	do {
		/* Often enough that the clock does not count. */
		for (int i = 0; i < 16 && !error; i++) {
			errno = EIO; /* for a short read */
			units = kinds[work->kind](&bare);
			error = units < 0 ? -errno : 0;
			ret->units += units < 0 ? 0 : (uint64_t)units;
			ret->requests++;
		}
	} while (!error && vfsd_bench_now_ns() - began < work->duration_ns);
	free(bare.buffers);
	ret->cpu_ns = bench_cpu_ns() - cpu;
	ret->wall_ns = vfsd_bench_now_ns() - began;
	return error;
}
