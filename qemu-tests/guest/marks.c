/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "marks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <time.h>
#include <unistd.h>

#include "words.h"

enum { DESCRIPTORS = 256, BUFFER_BYTES = 16384 };

int64_t marks_group(unsigned int flags)
{
	int fd = fanotify_init(flags | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int64_t marks_add(int group, unsigned int flags, uint64_t mask, const char *path)
{
	return fanotify_mark(group, FAN_MARK_ADD | flags, mask, AT_FDCWD, path) < 0 ? -errno : 0;
}

static void put_event(const struct fanotify_event_metadata *event)
{
	printf("%#llx:", (unsigned long long)event->mask);
	if (event->pid == getpid())
		fputs("ours ", stdout);
	else if (event->pid == 0)
		fputs("others ", stdout);
	else
		printf("%d ", event->pid);
}

int64_t marks_collect(int group)
{
	static char buffer[BUFFER_BYTES]
		__attribute__((aligned(__alignof__(struct fanotify_event_metadata))));
	int64_t count = 0;
	ssize_t length;

	while ((length = read(group, buffer, sizeof(buffer))) > 0) {
		const struct fanotify_event_metadata *event = (const void *)buffer;

		for (; FAN_EVENT_OK(event, length); event = FAN_EVENT_NEXT(event, length)) {
			put_event(event);
			if (event->fd >= 0)
				close(event->fd);
			count++;
		}
	}
	return length < 0 && errno != EAGAIN ? -errno : count;
}

/* The path of what @handle means, or "?". */
static void put_path(int mount, const struct file_handle *handle, const char *name, char *path,
		     size_t size)
{
	union {
		struct file_handle head;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} copy;
	char link[32];
	ssize_t length = 1;
	int fd;

	memcpy(&copy, handle, sizeof(*handle) + handle->handle_bytes);
	path[0] = '?';
	fd = open_by_handle_at(mount, &copy.head, O_PATH | O_CLOEXEC);
	if (fd >= 0) {
		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, size);
		close(fd);
	}
	if (name && strcmp(name, ".") != 0)
		length += snprintf(path + length, size - (size_t)length, "/%s", name);
	words_put(path, (size_t)length);
}

static void put_place(int mount, const struct fanotify_event_metadata *event)
{
	const char *at = (const char *)event + event->metadata_len;
	const char *end = (const char *)event + event->event_len;
	char path[2 * PATH_MAX];

	for (; at < end; at += ((const struct fanotify_event_info_header *)(const void *)at)->len) {
		const struct fanotify_event_info_fid *info = (const void *)at;
		const struct file_handle *handle = (const void *)info->handle;

		switch (info->hdr.info_type) {
		case FAN_EVENT_INFO_TYPE_DFID_NAME:
			put_path(mount, handle,
				 (const char *)handle->f_handle + handle->handle_bytes, path,
				 sizeof(path) - 1);
			return;
		case FAN_EVENT_INFO_TYPE_FID:
		case FAN_EVENT_INFO_TYPE_DFID:
			if (event->mask & FAN_FS_ERROR)
				break;
			put_path(mount, handle, NULL, path, sizeof(path) - 1);
			return;
		case FAN_EVENT_INFO_TYPE_ERROR: {
			const struct fanotify_event_info_error *error = (const void *)at;

			printf("%d:%u", error->error, error->error_count);
			return;
		}
		default:
			break;
		}
	}
	putchar('%');
}

int64_t marks_places(int group, const char *path)
{
	static char buffer[BUFFER_BYTES]
		__attribute__((aligned(__alignof__(struct fanotify_event_metadata))));
	int mount = open(path, O_RDONLY | O_CLOEXEC);
	int64_t count = 0;
	ssize_t length;

	if (mount < 0)
		return -errno;
	while ((length = read(group, buffer, sizeof(buffer))) > 0) {
		const struct fanotify_event_metadata *event = (const void *)buffer;

		for (; FAN_EVENT_OK(event, length); event = FAN_EVENT_NEXT(event, length)) {
			put_event(event);
			put_place(mount, event);
			putchar(' ');
			count++;
		}
	}
	if (length < 0 && errno != EAGAIN)
		count = -errno;
	close(mount);
	return count;
}

int64_t marks_dnotify(const char *path, unsigned int bits)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sigset_t wanted;
	int err;

	if (fd < 0)
		return -errno;
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGRTMIN);
	/* Real-time signals are queued, each with the descriptor it is about. */
	if (sigprocmask(SIG_BLOCK, &wanted, NULL) == 0 && fcntl(fd, F_SETSIG, SIGRTMIN) == 0 &&
	    fcntl(fd, F_NOTIFY, (int)bits) == 0)
		return fd;
	err = errno;
	close(fd);
	return -err;
}

int64_t marks_signals(int fd)
{
	static int64_t counts[DESCRIPTORS];
	const struct timespec now = {0};
	sigset_t wanted;
	siginfo_t info;
	int64_t count;

	if (fd < 0 || fd >= DESCRIPTORS)
		return -EBADF;
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGRTMIN);
	while (sigtimedwait(&wanted, &info, &now) > 0)
		if (info.si_fd >= 0 && info.si_fd < DESCRIPTORS)
			counts[info.si_fd]++;
	count = counts[fd];
	counts[fd] = 0;
	return count;
}
