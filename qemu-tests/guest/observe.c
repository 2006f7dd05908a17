/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "observe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "words.h"

enum { EVENT_BUFFER = 65536, MARKS_MAX = 8, HANDLE_MAX = 64 };

union handle {
	struct file_handle head;
	unsigned char room[sizeof(struct file_handle) + HANDLE_MAX];
};

struct observer {
	int fd; /* plus one, so that zero means none */
	bool fanotify;
	int n_marks;
	union handle marks[MARKS_MAX]; /* fanotify identifies an inode by its handle */
};

static struct observer observers[OBSERVERS_MAX];
static struct observer markers;
static char buffer[EVENT_BUFFER] __attribute__((aligned(8)));

static int64_t checked(long result)
{
	return result < 0 ? -errno : result;
}

static void end(struct observer *observer)
{
	if (observer->fd > 0)
		close(observer->fd - 1);
	*observer = (struct observer){0};
}

static int64_t add(struct observer *observer, const char *path, uint32_t mask)
{
	if (observer->fd == 0)
		observer->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC) + 1;
	if (observer->fd == 0)
		return -errno;
	return checked(inotify_add_watch(observer->fd - 1, path, mask));
}

int64_t observe_add(int index, const char *path, uint32_t mask)
{
	if (index < 0 || index >= OBSERVERS_MAX)
		return -EINVAL;
	return add(&observers[index], path, mask);
}

int64_t observe_mark(int index, const char *path, uint64_t mask)
{
	struct observer *observer;
	union handle *handle;
	int mount;

	if (index < 0 || index >= OBSERVERS_MAX)
		return -EINVAL;
	observer = &observers[index];
	if (observer->n_marks == MARKS_MAX)
		return -ENOSPC;
	handle = &observer->marks[observer->n_marks];
	if (observer->fd == 0)
		observer->fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC |
						     FAN_REPORT_DFID_NAME,
					     O_RDONLY) +
			       1;
	if (observer->fd == 0)
		return -errno;
	observer->fanotify = true;
	handle->head.handle_bytes = HANDLE_MAX;
	if (fanotify_mark(observer->fd - 1, FAN_MARK_ADD, mask, AT_FDCWD, path) < 0 ||
	    name_to_handle_at(AT_FDCWD, path, &handle->head, &mount, 0) < 0)
		return -errno;
	return ++observer->n_marks;
}

int64_t observe_remove(int index, int wd)
{
	if (index < 0 || index >= OBSERVERS_MAX)
		return -EINVAL;
	return checked(inotify_rm_watch(observers[index].fd - 1, wd));
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
	const long long deadline_ms = now_ms() + timeout_ms;
	struct pollfd pfd = {.fd = markers.fd - 1, .events = POLLIN};
	ssize_t length;
	int ready;

	for (;;) {
		long long left_ms = deadline_ms - now_ms();

		ready = poll(&pfd, 1, left_ms > 0 ? (int)left_ms : 0);
		if (ready <= 0)
			return ready < 0 ? -errno : -ETIMEDOUT;
		length = read(markers.fd - 1, buffer, sizeof(buffer));
		for (const char *p = buffer; p < buffer + length;) {
			const struct inotify_event *event = (const void *)p;

			if (event->len && strcmp(event->name, name) == 0)
				return 0; /* the last one made: nothing follows it */
			p += sizeof(*event) + event->len;
		}
	}
}

static void put(int index, int wd, uint32_t mask, uint32_t cookie, const char *name)
{
	printf("%d:%d:%#x:%u ", index, wd, mask, cookie);
	words_put(name, strlen(name));
	putchar(' ');
}

/* The first @length bytes of the buffer. The number of events. */
static int64_t put_inotify(int index, ssize_t length)
{
	int64_t count = 0;

	for (const char *p = buffer; p < buffer + length; count++) {
		const struct inotify_event *event = (const void *)p;

		put(index, event->wd, event->mask, event->cookie, event->len ? event->name : "");
		p += sizeof(*event) + event->len;
	}
	return count;
}

static int marked(const struct observer *observer, const struct file_handle *handle)
{
	for (int i = 0; i < observer->n_marks; i++) {
		const struct file_handle *mark = &observer->marks[i].head;

		if (mark->handle_bytes == handle->handle_bytes &&
		    mark->handle_type == handle->handle_type &&
		    memcmp(mark->f_handle, handle->f_handle, handle->handle_bytes) == 0)
			return i + 1;
	}
	return 0;
}

static int64_t put_fanotify(int index, ssize_t length)
{
	const struct fanotify_event_metadata *event = (const void *)buffer;
	int64_t count = 0;

	for (; FAN_EVENT_OK(event, length); event = FAN_EVENT_NEXT(event, length), count++) {
		const struct fanotify_event_info_fid *info = (const void *)(event + 1);
		const struct file_handle *handle = (const void *)info->handle;
		bool named = false;
		int wd = 0;

		if (event->event_len > event->metadata_len) { /* none with an overflow */
			named = info->hdr.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME;
			wd = marked(&observers[index], handle);
		}
		put(index, wd, (uint32_t)event->mask, 0,
		    named ? (const char *)handle->f_handle + handle->handle_bytes : "");
	}
	return count;
}

int64_t observe_collect(void)
{
	int64_t count = 0;

	for (int i = 0; i < OBSERVERS_MAX; i++) {
		const struct observer *observer = &observers[i];
		ssize_t length;

		while (observer->fd &&
		       (length = read(observer->fd - 1, buffer, sizeof(buffer))) > 0)
			count += observer->fanotify ? put_fanotify(i, length) :
						      put_inotify(i, length);
	}
	return count;
}

void observe_end(void)
{
	for (int i = 0; i < OBSERVERS_MAX; i++)
		end(&observers[i]);
}
