/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/cursor - bounds-checked, forward-only reader or writer over a chain's iovecs.
 *
 * On error nothing moves. The memory below is shared with a hostile guest: what was read is a
 * private copy, never read twice.
 * Owner thread: the queue thread that holds the chain.
 */
#ifndef VFSD_FUSE_CURSOR_H
#define VFSD_FUSE_CURSOR_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "base/util.h"

struct vfsd_cursor {
	const struct iovec *iov; /* borrowed from the chain */
	uint32_t n;
	uint32_t at;   /* current iovec */
	size_t offset; /* bytes used of it */
	size_t left;   /* bytes until the end */
};

static inline void vfsd_cursor_init(struct vfsd_cursor *cur, const struct iovec *iov, uint32_t n)
{
	size_t left = 0;

	for (uint32_t i = 0; i < n; i++)
		left += iov[i].iov_len;
	cur->iov = iov;
	cur->n = n;
	cur->at = 0;
	cur->offset = 0;
	cur->left = left;
}

/* What does not lie within the current iovec; @len <= cur->left. */
void vfsd_cursor_read_pieces(struct vfsd_cursor *cur, void *dst, size_t len);
void vfsd_cursor_write_pieces(struct vfsd_cursor *cur, const void *src, size_t len);
void vfsd_cursor_skip_pieces(struct vfsd_cursor *cur, size_t len);

/* Are the next @len bytes in one piece? They nearly always are; @len <= cur->left. */
static inline bool vfsd_cursor_is_piece(const struct vfsd_cursor *cur, size_t len)
{
	return VFSD_LIKELY(cur->at < cur->n && len <= cur->iov[cur->at].iov_len - cur->offset);
}

static inline uint8_t *vfsd_cursor_piece(struct vfsd_cursor *cur, size_t len)
{
	uint8_t *at = (uint8_t *)cur->iov[cur->at].iov_base + cur->offset;

	cur->offset += len;
	cur->left -= len;
	return at;
}

/* Copy exactly @len bytes and advance. 0, or -EINVAL when fewer are left. */
static inline int vfsd_cursor_read(struct vfsd_cursor *cur, void *dst, size_t len)
{
	if (len > cur->left)
		return -EINVAL;
	if (vfsd_cursor_is_piece(cur, len))
		memcpy(dst, vfsd_cursor_piece(cur, len), len);
	else
		vfsd_cursor_read_pieces(cur, dst, len);
	/* The caller checks the copy: make sure that it is what it sees, not the guest's memory. */
	__asm__ volatile("" : : "r"(dst) : "memory");
	return 0;
}

static inline int vfsd_cursor_write(struct vfsd_cursor *cur, const void *src, size_t len)
{
	if (len > cur->left)
		return -EINVAL;
	if (vfsd_cursor_is_piece(cur, len))
		memcpy(vfsd_cursor_piece(cur, len), src, len);
	else
		vfsd_cursor_write_pieces(cur, src, len);
	return 0;
}

/* Advance over @len bytes. 0 or -EINVAL. */
static inline int vfsd_cursor_skip(struct vfsd_cursor *cur, size_t len)
{
	if (len > cur->left)
		return -EINVAL;
	if (vfsd_cursor_is_piece(cur, len))
		(void)vfsd_cursor_piece(cur, len);
	else
		vfsd_cursor_skip_pieces(cur, len);
	return 0;
}

/*
 * The next @len bytes as iovecs for preadv()/pwritev(), advancing over them.
 * Returns how many of @out (at most @max) were filled, or -EINVAL (fewer bytes, or @max too small).
 */
int vfsd_cursor_take(struct vfsd_cursor *cur, size_t len, struct iovec *out, uint32_t max);

#endif
