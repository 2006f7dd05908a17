/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch/options - what acts in this folder: part of vfsd_engine_config. cffi reads this file too,
 * so it holds plain declarations and include lines only.
 * Constant once the engine has been made.
 */
#ifndef VFSD_WATCH_OPTIONS_H
#define VFSD_WATCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* Limits of all watch clients together; 0: none but the host's own. */
typedef struct vfsd_watch_options {
	uint32_t max_fds;     /* for directories that no handle can hold */
	uint32_t max_marks;   /* of fanotify; guests make directories to be watched */
	uint32_t max_watches; /* of inotify */
} vfsd_watch_options;

#endif
