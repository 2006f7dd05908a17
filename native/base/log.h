/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/log - log lines of the C core.
 *
 * There is one process-wide sink, which the engine sets before any thread starts; NULL drops everything. Lines
 * are complete, without newline, in key=value style, and free of guest file data. Callers on paths that a guest
 * can trigger use VFSD_LOG_LIMITED. errno is preserved. Control characters become "?", and lines are cut at 511
 * bytes. Bytes above 127 pass, so a sink must not assume UTF-8.
 * Owner thread: any.
 */
#ifndef VFSD_BASE_LOG_H
#define VFSD_BASE_LOG_H

enum vfsd_log_level { VFSD_LOG_ERROR, VFSD_LOG_WARN, VFSD_LOG_INFO, VFSD_LOG_DEBUG };

typedef void (*vfsd_log_sink)(void *ctx, enum vfsd_log_level level, const char *line);

void vfsd_log_set_sink(vfsd_log_sink sink, void *ctx, enum vfsd_log_level max_level);

void vfsd_log(enum vfsd_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* As vfsd_log(), at most about one line a second per call site. The next line says how many were dropped. */
struct vfsd_log_site {
	_Atomic long long next_ms;
	_Atomic unsigned int suppressed;
};
void vfsd_log_limited(struct vfsd_log_site *site, enum vfsd_log_level level, const char *format,
		      ...) __attribute__((format(printf, 3, 4)));

#define VFSD_LOG_LIMITED(level, ...)                                                               \
	do {                                                                                       \
		static struct vfsd_log_site site_;                                                 \
		vfsd_log_limited(&site_, level, __VA_ARGS__);                                      \
	} while (0)

#endif
