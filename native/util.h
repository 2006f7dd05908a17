/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small words every room uses: fixed types, scope guards, overflow-safe maths.
 * Owner thread: any. No state.
 */
#ifndef VFSD_UTIL_H
#define VFSD_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#define VFSD_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define VFSD_ALIGN_UP(n, to) (((n) + ((to) - 1)) & ~((to) - 1))

/* Close on leaving the scope; errno is kept so that a return value can be built first. */
static inline void vfsd_close_guard(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

#define VFSD_FD_GUARD __attribute__((cleanup(vfsd_close_guard))) int

/* Hand the descriptor to somebody else: the guard then has nothing to close. */
static inline int vfsd_fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
