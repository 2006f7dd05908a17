/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source - what a host event looks like once the host's dialect is gone.
 *
 * A source turns host notifications into these records, in order, one event bit each, and tells
 * them to a sink. Echoes of what this daemon did itself have been filtered out.
 */
#ifndef VFSD_SOURCE_H
#define VFSD_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_source_event {
	uint64_t nodeid;    /* the directory if there is a name, else the object */
	uint64_t child;	    /* the object called name, 0 = the guest does not know it */
	uint32_t mask;	    /* one FAN_* bit, plus FAN_ONDIR; 0 with unlinked set is possible */
	uint32_t cookie;    /* pairs MOVED_FROM and MOVED_TO, else 0 */
	bool unlinked;	    /* the object (child, or nodeid without a name) has no links left */
	const char *name;   /* borrowed, NUL-terminated; NULL without one */
	uint32_t name_bytes; /* without the NUL */
};

struct vfsd_source_sink {
	void *ctx;
	void (*event)(void *ctx, const struct vfsd_source_event *event);
	void (*lost)(void *ctx); /* the host dropped an unknown number of events here */
};

#endif
