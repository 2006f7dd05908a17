/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent.h"

enum { MOUNTS_MAX = 64, RETRY_S = 5 };

static const char usage[] = "usage: virtiofsd-agent [--interval MS] [--verbose] DIRECTORY...\n"
			    "       virtiofsd-agent --check DIRECTORY...\n"
			    "\n"
			    "Real inotify events in this guest of what the host does in virtio-fs "
			    "shares, which are\n"
			    "mounted on these directories and served by virtiofsd-py "
			    "--guest-agent=on. Run as root.\n"
			    "\n"
			    "  --check        say whether everything is there, and end\n"
			    "  --interval MS  look for watches so often where there is no tracefs, "
			    "1 to 60000;\n"
			    "                 default 1000\n"
			    "  --verbose      log every failure, and how many watches there are\n"
			    "  --version      say which version this is, and end\n";

bool verbose;
int interval_ms = 1000;
int session_began = -1;

void say(const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	(void)fprintf(stderr, "virtiofsd-agent: %s\n", line);
}

/* As sd_notify(3): whoever started us may want to know. */
static void notify_ready(void)
{
	static const char text[] = "READY=1";
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	socklen_t bytes;
	int fd;

	say("ready: what is watched is known");
	if (!path || strlen(path) >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, strlen(path) + 1);
	bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, sizeof(text) - 1, 0, (struct sockaddr *)&to, bytes);
	(void)close(fd);
}

/* Keep what is needed and no more. It is no harm where that fails: the calls that need it do too. */
static void keep_capabilities(void)
{
	const uint32_t kept = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH |
			      1u << CAP_FOWNER | 1u << CAP_SYS_PTRACE | 1u << CAP_SYS_ADMIN;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_capget, &header, data) < 0)
		return;
	data[0].permitted &= kept;
	data[0].effective = data[0].permitted;
	data[0].inheritable = data[1].permitted = data[1].effective = data[1].inheritable = 0;
	(void)syscall(SYS_capset, &header, data);
}

/* A mount's thread: one session after the other. The first has begun when it is ready. */
static void *serve(void *arg)
{
	struct mount *mount = arg;

	for (;;) {
		int err = session_open(mount);

		if (!err) {
			say("session began mount=%s", mount->path);
			err = session_run(mount);
			say("session ended mount=%s: %s", mount->path,
			    err == -ECONNRESET ? "the daemon is another one" : strerror(-err));
			session_close(mount);
		}
		(void)sleep(RETRY_S);
	}
	return NULL;
}

static int run(const char *const *paths, size_t n)
{
	static struct mount mounts[MOUNTS_MAX];
	pthread_t thread;

	session_began = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (size_t i = 0; i < n; i++) {
		mounts[i].path = paths[i];
		if (mount_open(&mounts[i]))
			return 1;
	}
	keep_capabilities();
	for (size_t i = 0; i < n; i++)
		if (pthread_create(&thread, NULL, serve, &mounts[i]) != 0) {
			say("no thread for mount=%s", mounts[i].path);
			return 1;
		}
	interest_run(mounts, n, notify_ready);
}

/* 0: not what the usage says. */
static int milliseconds(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	return *text == '\0' || *end != '\0' || value < 1 || value > 60000 ? 0 : (int)value;
}

int main(int argc, char **argv)
{
	const char *paths[MOUNTS_MAX];
	bool checks = false;
	size_t n = 0;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0)
			return fputs(usage, stdout) < 0;
		if (strcmp(argv[i], "--version") == 0)
			return printf("virtiofsd-agent %s\n", AGENT_VERSION) < 0;
		if (strcmp(argv[i], "--check") == 0)
			checks = true;
		else if (strcmp(argv[i], "--verbose") == 0)
			verbose = true;
		else if (strcmp(argv[i], "--interval") == 0 && i + 1 < argc)
			interval_ms = milliseconds(argv[++i]);
		else if (argv[i][0] == '-' || n == MOUNTS_MAX)
			return fputs(usage, stderr), 2;
		else
			paths[n++] = argv[i];
	}
	if (n == 0 || interval_ms == 0)
		return fputs(usage, stderr), 2;
	return checks ? check(paths, n) : run(paths, n);
}
