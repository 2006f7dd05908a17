/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cursor - bounds-checked, forward-only reader or writer over a chain's iovecs.
 *
 * On error nothing moves. The memory below is shared with a hostile guest: what was read is a
 * private copy, never read twice.
 * Owner thread: the queue thread that holds the chain.
 */
#ifndef VFSD_CURSOR_H
#define VFSD_CURSOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct vfsd_cursor {
	const struct iovec *iov; /* borrowed from the chain */
	uint32_t n;
	uint32_t at;   /* current iovec */
	size_t offset; /* bytes used of it */
	size_t left;   /* bytes until the end */
};

void vfsd_cursor_init(struct vfsd_cursor *cur, const struct iovec *iov, uint32_t n);

/* Copy exactly @len bytes and advance. 0, or -EINVAL when fewer are left. */
int vfsd_cursor_read(struct vfsd_cursor *cur, void *dst, size_t len);
int vfsd_cursor_write(struct vfsd_cursor *cur, const void *src, size_t len);

/* Advance over @len bytes. 0 or -EINVAL. */
int vfsd_cursor_skip(struct vfsd_cursor *cur, size_t len);

/*
 * The next @len bytes as iovecs for preadv()/pwritev(), advancing over them.
 * Returns how many of @out (at most @max) were filled, or -EINVAL (fewer bytes, or @max too small).
 */
int vfsd_cursor_take(struct vfsd_cursor *cur, size_t len, struct iovec *out, uint32_t max);

#endif
