/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/cursor.h"

/*
 * Use up to @want > 0 bytes of the current iovec, at least one. The caller has checked cur->left,
 * so there is an iovec that is not empty.
 */
static size_t step(struct vfsd_cursor *cur, size_t want, uint8_t **at)
{
	size_t room;

	while (cur->iov[cur->at].iov_len == cur->offset) {
		cur->at++;
		cur->offset = 0;
	}
	room = cur->iov[cur->at].iov_len - cur->offset;
	if (want > room)
		want = room;
	*at = (uint8_t *)cur->iov[cur->at].iov_base + cur->offset;
	cur->offset += want;
	cur->left -= want;
	return want;
}

void vfsd_cursor_read_pieces(struct vfsd_cursor *cur, void *dst, size_t len)
{
	uint8_t *to = dst;

	while (len > 0) {
		uint8_t *from;
		size_t here = step(cur, len, &from);

		memcpy(to, from, here);
		to += here;
		len -= here;
	}
}

void vfsd_cursor_write_pieces(struct vfsd_cursor *cur, const void *src, size_t len)
{
	const uint8_t *from = src;

	while (len > 0) {
		uint8_t *to;
		size_t here = step(cur, len, &to);

		memcpy(to, from, here);
		from += here;
		len -= here;
	}
}

void vfsd_cursor_skip_pieces(struct vfsd_cursor *cur, size_t len)
{
	while (len > 0) {
		uint8_t *at;

		len -= step(cur, len, &at);
	}
}

int vfsd_cursor_take(struct vfsd_cursor *cur, size_t len, struct iovec *out, uint32_t max)
{
	struct vfsd_cursor ahead = *cur;
	uint32_t n = 0;

	if (len > cur->left)
		return -EINVAL;
	while (len > 0) {
		uint8_t *at;
		size_t here;

		if (n == max)
			return -EINVAL;
		here = step(&ahead, len, &at);
		out[n++] = (struct iovec){.iov_base = at, .iov_len = here};
		len -= here;
	}
	*cur = ahead;
	return (int)n;
}
