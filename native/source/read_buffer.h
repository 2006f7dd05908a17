/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/read_buffer - what has been read of a host's queue of events and is being worked off.
 *
 * What an event means may depend on what came after it. So one can read on, behind what there is,
 * as long as there is room: what was read before stays where it is.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_READ_BUFFER_H
#define VFSD_SOURCE_READ_BUFFER_H

#include <stdbool.h>
#include <stdint.h>

/* How far to read on, bytes of a batch. */
enum {
	VFSD_BATCH_AHEAD = 65536, /* to see what comes next */
	VFSD_BATCH_ALL = 256 *
		65536, /* all that a host keeps for us; untouched pages are not there */
};

struct vfsd_batch {
	int fd; /* borrowed, does not block */
	uint8_t *buffer;
	const uint8_t *at;  /* the next event to work off */
	const uint8_t *end; /* behind the last that was read */
};

/* 0 or -ENOMEM. */
int vfsd_batch_init(struct vfsd_batch *batch, int fd);
void vfsd_batch_free(struct vfsd_batch *batch);

/* Read anew, what was there is done with. Bytes, 0: the queue is empty, or -errno. */
int vfsd_batch_read(struct vfsd_batch *batch);

/*
 * Read on, up to @upto (VFSD_BATCH_*) bytes in all. False: nothing was read, for the queue is empty
 * (*whole: what there is is all), or there is so much already.
 */
bool vfsd_batch_more(struct vfsd_batch *batch, uint32_t upto, bool *whole);

#endif
