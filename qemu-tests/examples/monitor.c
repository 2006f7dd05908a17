/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * monitor PATH COUNT - the next COUNT things that happen anywhere on the file system at PATH, and its
 * errors, by one fanotify group. Knows nothing of virtio-fs.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fanotify.h>
#include <unistd.h>

#define WHAT (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_CLOSE_WRITE)

/* The directory is known by a handle, which is opened to learn its path. */
static void print_name(int mount, const struct fanotify_event_info_fid *info)
{
	struct file_handle *handle = (void *)(uintptr_t)info->handle;
	const char *name = (const char *)handle->f_handle + handle->handle_bytes;
	char link[32], path[PATH_MAX] = "";
	int fd = open_by_handle_at(mount, handle, O_PATH);

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (fd < 0 || readlink(link, path, sizeof(path) - 1) < 0)
		snprintf(path, sizeof(path), "(gone)");
	printf(" %s/%s", path, name);
	close(fd);
}

static void print_event(int mount, const struct fanotify_event_metadata *event)
{
	static const char *const names[] = {"CLOSE_WRITE", "MOVED_FROM", "MOVED_TO", "CREATE",
					    "DELETE"};
	static const unsigned long long bits[] = {FAN_CLOSE_WRITE, FAN_MOVED_FROM, FAN_MOVED_TO,
						  FAN_CREATE, FAN_DELETE};
	const char *at = (const char *)(event + 1), *end = (const char *)event + event->event_len;

	if (event->mask & FAN_Q_OVERFLOW)
		printf(" OVERFLOW: look again");
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (event->mask & bits[i])
			printf(" %s", names[i]);
	while (at < end) {
		const struct fanotify_event_info_header *info = (const void *)at;
		const struct fanotify_event_info_error *error = (const void *)at;

		if (info->info_type == FAN_EVENT_INFO_TYPE_DFID_NAME)
			print_name(mount, (const void *)at);
		if (info->info_type == FAN_EVENT_INFO_TYPE_ERROR)
			printf(" ERROR %d, %u in all", error->error, error->error_count);
		at += info->len;
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	static char buffer[65536] __attribute__((aligned(8)));
	long left = argc == 3 ? atol(argv[2]) : 0;
	int group = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_REPORT_DFID_NAME, 0);
	int mount = argc == 3 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;

	if (mount < 0 || group < 0)
		err(1, "monitor PATH COUNT");
	if (fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
			  WHAT | FAN_ONDIR | FAN_FS_ERROR, mount, NULL) < 0)
		err(1, "%s", argv[1]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("watching\n");
	while (left > 0) {
		const struct fanotify_event_metadata *event = (const void *)buffer;
		ssize_t bytes = read(group, buffer, sizeof(buffer));

		if (bytes < 0)
			err(1, "read");
		for (; FAN_EVENT_OK(event, bytes); event = FAN_EVENT_NEXT(event, bytes), left--)
			print_event(mount, event);
	}
	return 0;
}
