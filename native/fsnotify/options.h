/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/options - what a command line says that acts in this folder: part of vfsd_engine_config. cffi reads
 * this file too, so it holds plain declarations and include lines only.
 * Constant once the engine has been made.
 */
#ifndef VFSD_FSNOTIFY_OPTIONS_H
#define VFSD_FSNOTIFY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* Who raises what in the guest. */
enum vfsd_fsnotify {
	VFSD_FSNOTIFY_OFF,    /* no notification queue */
	VFSD_FSNOTIFY_MERGED, /* the guest its own events, we everybody else's: by fanotify */
	VFSD_FSNOTIFY_SERVER, /* we what inotify reports, whoever caused it */
};

/* How the guest speaks of remote fsnotify. */
enum vfsd_fsnotify_dialect {
	VFSD_DIALECT_NATIVE,
	VFSD_DIALECT_RFC2021, /* rfc2021.h; all is reported as in VFSD_FSNOTIFY_SERVER, and more */
};

typedef struct vfsd_fsnotify_options {
	enum vfsd_fsnotify fsnotify;
	enum vfsd_fsnotify_dialect dialect;
	uint32_t ring_kib; /* of the event ring */
	/* fanotify marks, or inotify watches, that the guest may cause; 0: the host's own limit. */
	uint32_t max_marks;
	uint32_t max_watches;
} vfsd_fsnotify_options;

#endif
