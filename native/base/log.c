/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	LINE_BYTES = 512, /* longer lines are cut */
	INTERVAL_MS = 1000,
};

/* Written before any thread starts, only read afterwards. */
static struct {
	vfsd_log_sink sink;
	void *ctx;
	enum vfsd_log_level max_level;
} state;

void vfsd_log_set_sink(vfsd_log_sink sink, void *ctx, enum vfsd_log_level max_level)
{
	state.sink = sink;
	state.ctx = ctx;
	state.max_level = max_level;
}

static bool is_enabled(enum vfsd_log_level level)
{
	return state.sink && level <= state.max_level;
}

/* A name that a guest chose must not forge lines or speak to a terminal. */
static void blank_controls(char *line)
{
	for (; *line; line++)
		if ((unsigned char)*line < ' ' || *line == 0x7f)
			*line = '?';
}

static void emit(enum vfsd_log_level level, unsigned int suppressed, const char *format,
		 va_list args) __attribute__((format(printf, 3, 0)));

static void emit(enum vfsd_log_level level, unsigned int suppressed, const char *format,
		 va_list args)
{
	char line[LINE_BYTES];
	size_t used;

	if (vsnprintf(line, sizeof(line), format, args) < 0)
		return;
	used = strlen(line);
	if (suppressed)
		(void)snprintf(line + used, sizeof(line) - used, " suppressed=%u", suppressed);
	blank_controls(line);
	state.sink(state.ctx, level, line);
}

void vfsd_log(enum vfsd_log_level level, const char *format, ...)
{
	int saved = errno;
	va_list args;

	if (!is_enabled(level))
		return;
	va_start(args, format);
	emit(level, 0, format, args);
	va_end(args);
	errno = saved;
}

static long long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void vfsd_log_limited(struct vfsd_log_site *site, enum vfsd_log_level level, const char *format,
		      ...)
{
	int saved = errno;
	long long now = now_ms();
	long long next;
	va_list args;

	if (!is_enabled(level))
		return;
	next = atomic_load_explicit(&site->next_ms, memory_order_relaxed);
	/* Of the threads that come at that time, one wins and logs. */
	if (now < next ||
	    !atomic_compare_exchange_strong_explicit(&site->next_ms, &next, now + INTERVAL_MS,
						     memory_order_relaxed, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
		return;
	}
	va_start(args, format);
	emit(level, atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed), format,
	     args);
	va_end(args);
	errno = saved;
}
