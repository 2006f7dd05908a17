/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Open directories: OPENDIR, READDIR, READDIRPLUS. RELEASEDIR and FSYNCDIR are as for files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "fuse_internal.h"
#include "util.h"

ssize_t vfsd_fuse_opendir(struct vfsd_request *req)
{
	const struct fuse_open_in *in = req->args;
	struct fuse_open_out *out = req->reply;
	struct vfsd_fuse *fuse = req->fuse;
	int flags = vfsd_fuse_open_flags(req, in->flags);
	int error;
	int fd;

	if (flags < 0)
		return flags;
	fd = fuse->ops->open(fuse->fs, req->inode, (flags & ~O_EXCL) | O_DIRECTORY, false);
	if (fd < 0)
		return fd;
	error = vfsd_handle_add(fuse->handles, fd, req->header.nodeid, &out->fh);
	if (error)
		return error;
	out->open_flags = vfsd_fuse_fopen_flags(fuse, true);
	return (ssize_t)sizeof(*out);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/*
 * The attributes and the node id of an entry. Without a node id (for the dots, and for what cannot
 * be looked up, perhaps just removed) the guest shows the name and asks when it needs more.
 */
static void fill_plus(struct vfsd_request *req, int dir_fd, const struct dirent64 *from, bool *new,
		      struct fuse_entry_out *out)
{
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_entry entry;

	if (!is_dots(from->d_name) &&
	    fuse->ops->lookup(fuse->fs, req->inode, dir_fd, from->d_name, *new, &entry) == 0) {
		*new = entry.added;
		vfsd_fuse_fill_entry(req, &entry, out);
		return;
	}
	*out = (struct fuse_entry_out){
		.attr = {.ino = from->d_ino, .mode = (uint32_t)from->d_type << 12},
	};
}

/*
 * Turn host entries into the guest's, as many as fit into @room bytes; what does not is left with
 * @handle. Returns bytes.
 */
static ssize_t convert(struct vfsd_request *req, struct vfsd_handle *handle, size_t dents_bytes,
		       size_t room, bool plus)
{
	uint8_t *to = req->reply;
	bool new = false; /* the last one was, so the next one will be */
	int64_t offset = 0;
	size_t head = plus ? sizeof(struct fuse_entry_out) : 0;
	const struct dirent64 *from;
	size_t used = 0;

	for (size_t at = 0; at < dents_bytes; at += from->d_reclen) {
		from = (const struct dirent64 *)(req->worker->dents + at);

		size_t name_bytes = strlen(from->d_name);
		size_t bytes = head + VFSD_ALIGN_UP(sizeof(struct fuse_dirent) + name_bytes,
						    sizeof(uint64_t));
		struct fuse_dirent *dirent = (struct fuse_dirent *)(to + used + head);

		/* Before looking it up, so that there is nothing to forget. */
		if (bytes > room - used) {
			if (used == 0)
				return -EINVAL;
			vfsd_dir_unread(handle, offset, from, dents_bytes - at);
			break;
		}
		/* What pads the name; everything else is set. */
		memset(to + used + bytes - sizeof(uint64_t), 0, sizeof(uint64_t));
		if (plus)
			fill_plus(req, handle->fd, from, &new,
				  (struct fuse_entry_out *)(to + used));
		dirent->ino = from->d_ino;
		dirent->off = (uint64_t)from->d_off;
		dirent->namelen = (uint32_t)name_bytes;
		dirent->type = from->d_type;
		memcpy(dirent->name, from->d_name, name_bytes);
		used += bytes;
		offset = from->d_off;
	}
	return (ssize_t)used;
}

static ssize_t read_directory(struct vfsd_request *req, bool plus)
{
	const struct fuse_read_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_handle *handle;
	size_t room = in->size;
	size_t dents;
	ssize_t n;

	if (room > req->out.left)
		room = req->out.left;
	if (room > VFSD_FUSE_REPLY_BYTES)
		room = VFSD_FUSE_REPLY_BYTES;
	/* About as many as will fit. One always must. */
	dents = plus ? room / 4 : room;
	if (dents < sizeof(struct dirent64))
		dents = sizeof(struct dirent64);
	if (dents > VFSD_FUSE_DENTS_BYTES)
		dents = VFSD_FUSE_DENTS_BYTES;

	handle = vfsd_handle_get(fuse->handles, in->fh, req->header.nodeid);
	if (!handle)
		return vfsd_handle_missing(fuse->handles, in->fh, req->header.nodeid);
	n = fuse->ops->readdir(fuse->fs, handle, (int64_t)in->offset, req->worker->dents, dents);
	if (n > 0)
		n = convert(req, handle, (size_t)n, room, plus);
	vfsd_handle_put(fuse->handles, handle);
	return n;
}

ssize_t vfsd_fuse_readdir(struct vfsd_request *req)
{
	return read_directory(req, false);
}

ssize_t vfsd_fuse_readdirplus(struct vfsd_request *req)
{
	return read_directory(req, true);
}
