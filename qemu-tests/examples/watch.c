/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch DIRECTORY COUNT - the next COUNT things that happen in a directory, by inotify. Knows nothing
 * of virtio-fs.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#define WHAT (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE)

static const char *kind(const struct inotify_event *event)
{
	return event->mask & IN_Q_OVERFLOW  ? "OVERFLOW: look again" :
	       event->mask & IN_CREATE	    ? "CREATE" :
	       event->mask & IN_DELETE	    ? "DELETE" :
	       event->mask & IN_MOVED_FROM  ? "MOVED_FROM" :
	       event->mask & IN_MOVED_TO    ? "MOVED_TO" :
	       event->mask & IN_CLOSE_WRITE ? "CLOSE_WRITE" :
					      "IGNORED";
}

int main(int argc, char **argv)
{
	static char buffer[65536] __attribute__((aligned(8)));
	long left = argc == 3 ? atol(argv[2]) : 0;
	int instance = inotify_init1(IN_CLOEXEC);

	if (argc != 3 || inotify_add_watch(instance, argv[1], WHAT) < 0)
		err(1, "watch DIRECTORY COUNT");
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("watching\n");
	while (left > 0) {
		ssize_t bytes = read(instance, buffer, sizeof(buffer));

		if (bytes < 0)
			err(1, "read");
		for (char *at = buffer; at < buffer + bytes; left--) {
			const struct inotify_event *event = (const void *)at;

			printf(" %s %s\n", kind(event), event->len ? event->name : "");
			at += sizeof(*event) + event->len;
		}
	}
	return 0;
}
