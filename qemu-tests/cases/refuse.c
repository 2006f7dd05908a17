/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Preloaded into a daemon: the host lets nobody watch what belongs to a certain group. Each refusal is a
 * byte more in the file that REFUSALS names.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REFUSED_GID = 4321 };

typedef int add_watch(int fd, const char *path, uint32_t mask);

static add_watch *original;
static int refusals;

/* Ahead of the daemon's sandbox. */
__attribute__((constructor)) static void begin(void)
{
	original = (add_watch *)dlsym(RTLD_NEXT, "inotify_add_watch");
	refusals = open(getenv("REFUSALS"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	struct stat st;

	if (stat(path, &st) == 0 && st.st_gid == REFUSED_GID) {
		errno = write(refusals, "r", 1) == 1 ? EPERM : EIO;
		return -1;
	}
	return original(fd, path, mask);
}
