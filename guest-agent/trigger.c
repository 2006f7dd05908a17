/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When to look for watches: the kernel's tracepoint at the end of inotify_add_watch says so, where there
 * is tracefs. The instance is our own, so that nobody else's tracing changes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

static int open_in(const char *tracefs)
{
	static const char *const events[] = {"sys_exit_inotify_add_watch", "sys_exit_inotify_rm_"
									   "watch"};
	char path[256];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/instances/virtiofsd-agent", tracefs);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		(void)snprintf(path, sizeof(path),
			       "%s/instances/virtiofsd-agent/events/syscalls/%s/enable", tracefs,
			       events[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "1", 1) != 1) {
			int err = -errno;

			if (fd >= 0)
				(void)close(fd);
			return err;
		}
		(void)close(fd);
	}
	(void)snprintf(path, sizeof(path), "%s/instances/virtiofsd-agent/trace_pipe", tracefs);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int trigger_open(void)
{
	int fd = open_in("/sys/kernel/tracing");

	return fd >= 0 ? fd : open_in("/sys/kernel/debug/tracing");
}

void trigger_wait(int trigger, int timeout_ms)
{
	struct pollfd waiting[] = {
		{.fd = trigger, .events = POLLIN},
		{.fd = session_began, .events = POLLIN},
	};
	char lines[4096];

	if (poll(waiting, 2, timeout_ms) <= 0)
		return;
	if (waiting[1].revents)
		(void)!read(session_began, lines, sizeof(uint64_t));
	while (waiting[0].revents && read(trigger, lines, sizeof(lines)) > 0)
		;
}
