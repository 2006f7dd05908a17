/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "latency.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * (int64_t)1000000000 + now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static int measure(int instance, const char *path, int64_t *times, int64_t count)
{
	static char buffer[4096] __attribute__((aligned(8)));

	for (int64_t i = 0; i < count; i++) {
		int64_t began = now_ns();

		if (chmod(path, i % 2 ? 0600 : 0644) < 0 ||
		    read(instance, buffer, sizeof(buffer)) <= 0)
			return -errno;
		times[i] = now_ns() - began;
	}
	return 0;
}

int64_t latency_run(int64_t count, const char *seen, const char *behind)
{
	int64_t *times = calloc((size_t)(count > 0 ? count : 1), sizeof(*times));
	int instance = inotify_init1(IN_CLOEXEC);
	char path[PATH_MAX];
	int ret = 0, fd;

	(void)snprintf(path, sizeof(path), "%s/latency", behind);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (!times || fd < 0 || inotify_add_watch(instance, seen, IN_ATTRIB) < 0)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	if (ret == 0)
		ret = measure(instance, path, times, count);
	if (ret == 0 && count > 0) {
		qsort(times, (size_t)count, sizeof(*times), by_value);
		printf("%lld %lld ", (long long)times[count / 2],
		       (long long)times[count * 99 / 100]);
	}
	(void)unlink(path);
	close(instance);
	free(times);
	return ret < 0 ? ret : count;
}
