/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/read_buffer - what has been read of a host's event queue and is being processed.
 *
 * What an event means may depend on what came after it. So a source can read more, behind what there
 * is, as long as there is room. What was read stays where it is and is never written to.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_READ_BUFFER_H
#define VFSD_SOURCE_READ_BUFFER_H

#include <stdbool.h>
#include <stdint.h>

/* How much may be in the buffer, bytes. */
enum {
	VFSD_READ_BUFFER_CHUNK = 32768, /* one read(2) */
	VFSD_READ_BUFFER_AHEAD = 65536, /* to see what comes next */
	VFSD_READ_BUFFER_ALL = 256 *
		65536, /* all of a host's queue; untouched pages cost nothing */
};

struct vfsd_read_buffer {
	int fd;		      /* borrowed, does not block */
	uint8_t *writable;    /* only read(2) writes here */
	const uint8_t *bytes; /* the same */
	const uint8_t *at;    /* the next event to process */
	const uint8_t *end;   /* behind the last that was read */
};

/* 0 or -ENOMEM. */
int vfsd_read_buffer_init(struct vfsd_read_buffer *buffer, int fd);
void vfsd_read_buffer_free(struct vfsd_read_buffer *buffer);

/* Drop what there is and read anew. Bytes, 0: the queue is empty, or -errno. */
int vfsd_read_buffer_read(struct vfsd_read_buffer *buffer);

/*
 * Read more, up to @upto (VFSD_READ_BUFFER_*) bytes in all. False: nothing was read, because the queue
 * is empty (*all: there is nothing that is not in the buffer) or because there is so much already.
 */
bool vfsd_read_buffer_more(struct vfsd_read_buffer *buffer, uint32_t upto, bool *all);

#endif
