/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Preloaded into a daemon: the host lets nobody watch what belongs to a certain group. No case changes
 * that: a guest asks again for a watch that was refused, and what is granted then is reported by the
 * daemon from then on, also while a change of the guest's own is on its way.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <sys/inotify.h>
#include <sys/stat.h>

enum { REFUSED_GID = 4321 };

typedef int add_watch(int fd, const char *path, uint32_t mask);

static add_watch *original;

/* Ahead of the daemon's sandbox. */
__attribute__((constructor)) static void find_original(void)
{
	original = (add_watch *)dlsym(RTLD_NEXT, "inotify_add_watch");
}

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	struct stat st;

	if (stat(path, &st) == 0 && st.st_gid == REFUSED_GID) {
		errno = EPERM;
		return -1;
	}
	return original(fd, path, mask);
}
