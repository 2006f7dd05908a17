/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranges of open files: FALLOCATE, LSEEK, COPY_FILE_RANGE.
 */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "fuse/internal.h"

/*
 * With HANDLE_KILLPRIV_V2 the guest leaves set-id bits to us here as it does for writes, but there
 * is no flag that says whether its caller may keep them. Root may.
 */
static bool kills_priv(const struct vfsd_request *req)
{
	return req->granted & FUSE_HANDLE_KILLPRIV_V2 && req->header.uid != 0;
}

ssize_t vfsd_fuse_fallocate(struct vfsd_request *req)
{
	const struct fuse_fallocate_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_open_file *handle =
		vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
	int error;

	if (!handle)
		return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	error = fuse->ops->fallocate(fuse->fs, handle->fd, (int)in->mode, (off_t)in->offset,
				     (off_t)in->length, kills_priv(req));
	vfsd_open_file_put(fuse->handles, handle);
	return error;
}

ssize_t vfsd_fuse_lseek(struct vfsd_request *req)
{
	const struct fuse_lseek_in *in = req->args;
	struct fuse_lseek_out *out = req->reply;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_open_file *handle;
	off_t at;

	/* Only what the guest's kernel cannot know; it keeps positions itself. */
	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
		return -EINVAL;
	handle = vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
	if (!handle)
		return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	/* A directory's position is its reader's. */
	pthread_mutex_lock(&handle->dir_lock);
	at = fuse->ops->lseek(fuse->fs, handle->fd, (off_t)in->offset, (int)in->whence);
	handle->dir_offset = -1;
	pthread_mutex_unlock(&handle->dir_lock);
	vfsd_open_file_put(fuse->handles, handle);
	if (at < 0)
		return at;
	out->offset = (uint64_t)at;
	return (ssize_t)sizeof(*out);
}

/* Returns bytes copied. */
static ssize_t copy(struct vfsd_request *req, uint64_t max_bytes)
{
	const struct fuse_copy_file_range_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_open_file *from;
	struct vfsd_open_file *to;
	ssize_t n = -EBADF;

	if (in->flags > UINT32_MAX)
		return -EINVAL;
	from = vfsd_open_file_get(fuse->handles, in->fh_in, req->header.nodeid);
	to = vfsd_open_file_get(fuse->handles, in->fh_out, in->nodeid_out);
	if (from && to)
		n = fuse->ops->copy_file_range(fuse->fs, from->fd, (off_t)in->off_in, to->fd,
					       (off_t)in->off_out,
					       in->len < max_bytes ? in->len : max_bytes,
					       (unsigned int)in->flags, kills_priv(req));
	vfsd_open_file_put(fuse->handles, from);
	vfsd_open_file_put(fuse->handles, to);
	return n;
}

ssize_t vfsd_fuse_copy_file_range(struct vfsd_request *req)
{
	struct fuse_write_out *out = req->reply;
	/* What the reply can hold, in whole pages as filesystems like it. */
	ssize_t n = copy(req, UINT32_MAX & ~UINT64_C(4095));

	if (n < 0)
		return n;
	out->size = (uint32_t)n;
	return (ssize_t)sizeof(*out);
}

ssize_t vfsd_fuse_copy_file_range_64(struct vfsd_request *req)
{
	struct fuse_copy_file_range_out *out = req->reply;
	ssize_t n = copy(req, SSIZE_MAX);

	if (n < 0)
		return n;
	out->bytes_copied = (uint64_t)n;
	return (ssize_t)sizeof(*out);
}
