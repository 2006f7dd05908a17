/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Open files: OPEN, CREATE, TMPFILE, READ, WRITE, FLUSH, FSYNC, SYNCFS, RELEASE.
 */
#include <errno.h>
#include <fcntl.h>

#include "fuse/internal.h"
#include "base/util.h"

/* What a guest may ask open(2) for; anything else is for its own kernel. */
static const uint32_t open_flags_passed = O_ACCMODE | O_TRUNC | O_EXCL | O_NONBLOCK | O_DSYNC |
					  O_SYNC | O_DIRECT | O_NOATIME | O_DIRECTORY;

int vfsd_fuse_open_flags(const struct vfsd_request *req, uint32_t flags)
{
	const struct vfsd_fuse_options *options = &req->fuse->config.options;
	bool writes = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;

	if (options->readonly && writes)
		return -EROFS;
	/* O_APPEND is not passed: it may change, and mapped pages don't want it. WRITE applies it. */
	flags &= open_flags_passed;
	if (!options->allow_direct_io)
		flags &= ~(uint32_t)O_DIRECT;
	if (!options->preserve_noatime)
		flags &= ~(uint32_t)O_NOATIME;
	/* The guest's page cache reads what surrounds a partial write. */
	if (req->granted & FUSE_WRITEBACK_CACHE && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~(uint32_t)O_ACCMODE) | O_RDWR;
	return (int)flags;
}

uint32_t vfsd_fuse_fopen_flags(const struct vfsd_fuse *fuse, bool directory)
{
	switch (fuse->config.options.cache) {
	case VFSD_CACHE_ALWAYS:
		return FOPEN_KEEP_CACHE | (directory ? FOPEN_CACHE_DIR : 0);
	case VFSD_CACHE_METADATA:
		return directory ? FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR : FOPEN_DIRECT_IO;
	case VFSD_CACHE_NEVER:
		return directory ? 0 : FOPEN_DIRECT_IO;
	case VFSD_CACHE_AUTO:
		break;
	}
	return 0;
}

/*
 * Whether to end set-id bits with this open. With HANDLE_KILLPRIV_V2 the guest says so. Without it
 * it ends them itself, but not where opening truncates: ATOMIC_O_TRUNC leaves all of that to us.
 * Root may keep them, and so may a caller whose ids the guest does not send (OPEN after ALLOW_IDMAP): root must not lose them,
 * and the first write of anybody else ends them.
 */
static bool kills_priv(const struct vfsd_request *req, int flags, uint32_t open_flags)
{
	const uint32_t uid = req->header.uid;

	if (req->granted & FUSE_HANDLE_KILLPRIV_V2)
		return open_flags & FUSE_OPEN_KILL_SUIDGID;
	return flags & O_TRUNC && uid != 0 && uid != FUSE_INVALID_UIDGID;
}

ssize_t vfsd_fuse_open(struct vfsd_request *req)
{
	const struct fuse_open_in *in = req->args;
	struct fuse_open_out *out = req->reply;
	struct vfsd_fuse *fuse = req->fuse;
	int flags = vfsd_fuse_open_flags(req, in->flags);
	struct vfsd_open_file *handle;
	bool kill_priv;
	int error;
	int fd;

	if (flags < 0)
		return flags;
	/* Before it truncates. */
	error = vfsd_open_file_reserve(fuse->handles, &handle);
	if (error)
		return error;
	kill_priv = kills_priv(req, flags, in->open_flags);
	fd = fuse->ops->open(fuse->fs, req->inode, flags & ~O_EXCL, kill_priv);
	/*
	 * An append-only file wants O_APPEND. Whoever only writes cannot map it, and has nothing
	 * written back (vfsd_fuse_open_flags() would have made that O_RDWR).
	 */
	if (fd == -EPERM && in->flags & O_APPEND && (flags & O_ACCMODE) == O_WRONLY)
		fd = fuse->ops->open(fuse->fs, req->inode, (flags & ~O_EXCL) | O_APPEND, kill_priv);
	if (fd < 0) {
		vfsd_open_file_unreserve(fuse->handles, handle);
		return fd;
	}
	out->fh = vfsd_open_file_fill(handle, fd, req->header.nodeid);
	out->open_flags = vfsd_fuse_fopen_flags(fuse, false);
	return (ssize_t)sizeof(*out);
}

/* The end of CREATE and TMPFILE: a new @entry, open as @fd (consumed), unless there is an @error. */
static ssize_t created(struct vfsd_request *req, int error, struct vfsd_entry *entry, int fd,
		       struct vfsd_open_file *reserved)
{
	struct fuse_entry_out *entry_out = req->reply;
	struct fuse_open_out *out = (struct fuse_open_out *)(entry_out + 1);

	if (error) {
		vfsd_open_file_unreserve(req->fuse->handles, reserved);
		return error;
	}
	out->fh = vfsd_open_file_fill(reserved, fd, entry->inode->nodeid);
	out->open_flags = vfsd_fuse_fopen_flags(req->fuse, false);
	vfsd_fuse_fill_entry(req, entry, entry_out);
	return (ssize_t)(sizeof(*entry_out) + sizeof(*out));
}

ssize_t vfsd_fuse_create_file(struct vfsd_request *req)
{
	const struct fuse_create_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	int flags = vfsd_fuse_open_flags(req, in->flags);
	struct vfsd_open_file *handle;
	struct vfsd_entry entry;
	const char *name;
	int error;
	int fd = -1;

	if (flags < 0)
		return flags;
	error = vfsd_request_name(req, &name);
	if (!error)
		error = vfsd_request_creation(req, in->umask);
	if (!error)
		error = vfsd_open_file_reserve(fuse->handles, &handle);
	if (error)
		return error;
	error = fuse->ops->create(fuse->fs, &req->caller, req->inode, name, flags, in->mode,
				  kills_priv(req, flags, in->open_flags), &entry, &fd);
	return created(req, error, &entry, fd, handle);
}

ssize_t vfsd_fuse_tmpfile(struct vfsd_request *req)
{
	const struct fuse_create_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	int flags = vfsd_fuse_open_flags(req, in->flags);
	struct vfsd_open_file *handle;
	struct vfsd_entry entry;
	const char *ignored; /* whatever the guest calls what has no name: "/" */
	int error;
	int fd = -1;

	if (flags < 0)
		return flags;
	error = vfsd_request_text(req, &ignored);
	if (!error)
		error = vfsd_request_creation(req, in->umask);
	if (!error)
		error = vfsd_open_file_reserve(fuse->handles, &handle);
	if (error)
		return error;
	error = fuse->ops->tmpfile(fuse->fs, &req->caller, req->inode, flags, in->mode, &entry,
				   &fd);
	if (vfsd_fuse_goes_on(req, error == -ESTALE) && error == -ESTALE)
		error = -EPERM; /* as ext4 says */
	return created(req, error, &entry, fd, handle);
}

ssize_t vfsd_fuse_read(struct vfsd_request *req)
{
	const struct fuse_read_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct iovec *iov = req->worker->iov;
	struct vfsd_open_file *handle;
	ssize_t n;
	int n_iov = vfsd_cursor_take(&req->out, in->size, iov, VFSD_FUSE_IOV_MAX);

	if (n_iov < 0)
		return n_iov;
	handle = vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
	if (!handle)
		return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	n = fuse->ops->read(fuse->fs, handle->fd, iov, n_iov, (off_t)in->offset);
	vfsd_open_file_put(fuse->handles, handle);
	req->in_place = true;
	return n;
}

ssize_t vfsd_fuse_write(struct vfsd_request *req)
{
	const struct fuse_write_in *in = req->args;
	struct fuse_write_out *out = req->reply;
	struct vfsd_fuse *fuse = req->fuse;
	struct iovec *iov = req->worker->iov;
	struct vfsd_open_file *handle;
	unsigned int flags = 0;
	ssize_t n;
	int n_iov;

	if (in->size > req->in_left)
		return -EINVAL;
	n_iov = vfsd_cursor_take(&req->in, in->size, iov, VFSD_FUSE_IOV_MAX);
	if (n_iov < 0)
		return n_iov;
	/* Pages written back have their place; what an O_APPEND writer sends goes to the end. */
	if (in->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE))
		flags |= VFSD_WRITE_APPEND;
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		flags |= VFSD_WRITE_KILL_PRIV;
	handle = vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
	if (!handle)
		return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	n = fuse->ops->write(fuse->fs, handle->fd, iov, n_iov, (off_t)in->offset, flags);
	vfsd_open_file_put(fuse->handles, handle);
	if (n < 0)
		return n;
	out->size = (uint32_t)n;
	return (ssize_t)sizeof(*out);
}

ssize_t vfsd_fuse_flush(struct vfsd_request *req)
{
	const struct fuse_flush_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_open_file *handle =
		vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
	int error;

	if (!handle)
		return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	error = fuse->ops->flush(fuse->fs, handle->fd);
	vfsd_open_file_put(fuse->handles, handle);
	return error;
}

ssize_t vfsd_fuse_fsync(struct vfsd_request *req)
{
	const struct fuse_fsync_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_open_file *handle =
		vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
	int error;

	if (!handle)
		return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	error = fuse->ops->fsync(fuse->fs, handle->fd, in->fsync_flags & FUSE_FSYNC_FDATASYNC);
	vfsd_open_file_put(fuse->handles, handle);
	return error;
}

ssize_t vfsd_fuse_syncfs(struct vfsd_request *req)
{
	return req->fuse->ops->syncfs(req->fuse->fs, req->inode);
}

ssize_t vfsd_fuse_release(struct vfsd_request *req)
{
	const struct fuse_release_in *in = req->args;

	return vfsd_open_file_release(req->fuse->handles, in->fh, req->header.nodeid);
}
