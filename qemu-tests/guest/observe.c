/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "observe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "words.h"

enum { EVENT_BUFFER = 65536 };

/* Descriptors plus one, so that zero means none. */
static int observers[OBSERVERS_MAX];
static int markers;

static int64_t checked(long result)
{
	return result < 0 ? -errno : result;
}

static void end(int *observer)
{
	if (*observer > 0)
		close(*observer - 1);
	*observer = 0;
}

static int64_t add(int *observer, const char *path, uint32_t mask)
{
	if (*observer == 0)
		*observer = inotify_init1(IN_NONBLOCK | IN_CLOEXEC) + 1;
	if (*observer == 0)
		return -errno;
	return checked(inotify_add_watch(*observer - 1, path, mask));
}

int64_t observe_add(int index, const char *path, uint32_t mask)
{
	if (index < 0 || index >= OBSERVERS_MAX)
		return -EINVAL;
	return add(&observers[index], path, mask);
}

int64_t observe_remove(int index, int wd)
{
	if (index < 0 || index >= OBSERVERS_MAX)
		return -EINVAL;
	return checked(inotify_rm_watch(observers[index] - 1, wd));
}

int64_t observe_markers(const char *path)
{
	int64_t wd;

	end(&markers);
	wd = add(&markers, path, IN_CREATE);
	return wd < 0 ? wd : 0;
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

int64_t observe_await(const char *name, long long timeout_ms)
{
	static char buffer[EVENT_BUFFER]
		__attribute__((aligned(__alignof__(struct inotify_event))));
	const long long deadline_ms = now_ms() + timeout_ms;
	struct pollfd pfd = {.fd = markers - 1, .events = POLLIN};
	ssize_t length;
	int ready;

	for (;;) {
		long long left_ms = deadline_ms - now_ms();

		ready = poll(&pfd, 1, left_ms > 0 ? (int)left_ms : 0);
		if (ready <= 0)
			return ready < 0 ? -errno : -ETIMEDOUT;
		length = read(markers - 1, buffer, sizeof(buffer));
		for (const char *p = buffer; p < buffer + length;) {
			const struct inotify_event *event = (const void *)p;

			if (event->len && strcmp(event->name, name) == 0)
				return 0; /* the last one made: nothing follows it */
			p += sizeof(*event) + event->len;
		}
	}
}

int64_t observe_collect(void)
{
	static char buffer[EVENT_BUFFER]
		__attribute__((aligned(__alignof__(struct inotify_event))));
	int64_t count = 0;

	for (int i = 0; i < OBSERVERS_MAX; i++) {
		ssize_t length;

		while (observers[i] &&
		       (length = read(observers[i] - 1, buffer, sizeof(buffer))) > 0)
			for (const char *p = buffer; p < buffer + length; count++) {
				const struct inotify_event *event = (const void *)p;

				printf("%d:%d:%#x:%u ", i, event->wd, event->mask, event->cookie);
				words_put(event->name, event->len ? strlen(event->name) : 0);
				putchar(' ');
				p += sizeof(*event) + event->len;
			}
	}
	return count;
}

void observe_end(void)
{
	for (int i = 0; i < OBSERVERS_MAX; i++)
		end(&observers[i]);
}
