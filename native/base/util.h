/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/util - sizes, branch hints and scope guards.
 * Owner thread: any. No state.
 */
#ifndef VFSD_BASE_UTIL_H
#define VFSD_BASE_UTIL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#define VFSD_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* @to: a power of two of the same type as @n. ALIGN_UP must not be near the type's end. */
#define VFSD_ALIGN_UP(n, to) (((n) + ((to) - 1)) & ~((to) - 1))
#define VFSD_ALIGN_DOWN(n, to) ((n) & ~((to) - 1))

#define VFSD_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define VFSD_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* For loops that wait for another processor to change memory. */
static inline void vfsd_cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Close @fd at the end of the scope. errno is preserved. */
static inline void vfsd_close_guard(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	errno = saved;
}

#define VFSD_FD_GUARD __attribute__((cleanup(vfsd_close_guard))) int

/* Take the descriptor from its guard, which then closes nothing. */
static inline int vfsd_fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
