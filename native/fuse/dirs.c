/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Open directories: OPENDIR, READDIR, READDIRPLUS. RELEASEDIR and FSYNCDIR are as for files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "fuse/internal.h"
#include "base/util.h"

enum {
	/* As short names have it, of which most fit. */
	GROWTH_OF_SHORT_NAMES = 5,
	/* Below that no more entries are looked for. */
	WORTH_FILLING_BYTES = 2048,
};

ssize_t vfsd_fuse_opendir(struct vfsd_request *req)
{
	const struct fuse_open_in *in = req->args;
	struct fuse_open_out *out = req->reply;
	struct vfsd_fuse *fuse = req->fuse;
	int flags = vfsd_fuse_open_flags(req, in->flags);
	struct statx st;
	int error;
	int fd;

	if (flags < 0)
		return flags;
	fd = fuse->ops->open(fuse->fs, req->inode, (flags & ~O_EXCL) | O_DIRECTORY, false);
	if (fd < 0)
		return fd;
	error = fuse->ops->getattr(fuse->fs, req->inode, fd, &st);
	if (!vfsd_fuse_goes_on(req, !error && st.stx_nlink == 0)) {
		(void)close(fd);
		return -ESTALE;
	}
	error = vfsd_open_file_add(fuse->handles, fd, req->header.nodeid, &out->fh);
	if (error)
		return error;
	out->open_flags = vfsd_fuse_fopen_flags(fuse, true);
	return (ssize_t)sizeof(*out);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A reply being filled, and what of the host's entries goes into it. */
struct filling {
	struct vfsd_open_file *handle;
	bool plus;
	struct vfsd_list list; /* if plus */
	uint8_t *to;	       /* guest memory, or ours to be copied: only written to */
	size_t room;	       /* bytes, as are the rest */
	size_t used;
	int64_t offset; /* where the guest goes on */
};

/* Do entries need numbers of ours, so that they are those of what they lead to? */
static bool is_numbered(const struct vfsd_request *req)
{
	return !(req->granted & FUSE_SUBMOUNTS) && (!req->fuse->config.options.announce_submounts ||
						    vfsd_numbers_differ(req->fuse->numbers));
}

/* The inode number of an entry: a directory lists what is below a mount, which is another inode. */
static uint64_t number_of(struct vfsd_request *req, int dir_fd, const struct dirent64 *from)
{
	struct vfsd_fuse *fuse = req->fuse;
	bool is_top = req->header.nodeid == VFSD_NODEID_ROOT && strcmp(from->d_name, "..") == 0;
	struct statx st;

	if (!is_numbered(req))
		return from->d_ino;
	if (fuse->ops->readdir_number(fuse->fs, dir_fd, is_top ? "." : from->d_name, &st) == 0)
		return vfsd_fuse_number(fuse, false, &st);
	/* Just removed. */
	if (fuse->ops->readdir_number(fuse->fs, dir_fd, ".", &st) < 0)
		return from->d_ino;
	st.stx_ino = from->d_ino;
	return vfsd_fuse_number(fuse, false, &st);
}

/*
 * The attributes and the node id of an entry. Without a node id (for the dots, and for what cannot
 * be looked up, perhaps just removed) the guest shows the name and asks when it needs more. Returns
 * the number of the entry.
 */
static uint64_t fill_plus(struct vfsd_request *req, struct vfsd_list *list,
			  const struct dirent64 *from, bool early, struct fuse_entry_out *out)
{
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_entry entry;
	uint64_t number;

	if (!is_dots(from->d_name) &&
	    fuse->ops->readdirplus_entry(fuse->fs, list, from->d_name, early ? 0 : from->d_ino,
					 &entry) == 0) {
		number = is_numbered(req) ? vfsd_fuse_number(fuse, false, &entry.st) : from->d_ino;
		vfsd_fuse_fill_entry(req, &entry, out);
		return number;
	}
	number = number_of(req, list->dir_fd, from);
	*out = (struct fuse_entry_out){
		.attr = {.ino = number, .mode = (uint32_t)from->d_type << 12},
	};
	return number;
}

/*
 * Turn host entries into the guest's, as many as fit; what does not is left with the handle. False:
 * some did not. The first @early bytes were read by an earlier request.
 */
static bool convert(struct vfsd_request *req, struct filling *fill, size_t dents_bytes,
		    size_t early)
{
	const size_t head = fill->plus ? sizeof(struct fuse_entry_out) : 0;
	const struct dirent64 *from;

	for (size_t at = 0; at < dents_bytes; at += from->d_reclen) {
		from = (const struct dirent64 *)(req->worker->dents + at);

		uint8_t *to = fill->to + fill->used;
		size_t name_bytes = strlen(from->d_name);
		size_t bytes = head + VFSD_ALIGN_UP(sizeof(struct fuse_dirent) + name_bytes,
						    sizeof(uint64_t));
		struct fuse_dirent *dirent = (struct fuse_dirent *)(to + head);

		/* Before looking it up, so that there is nothing to forget. */
		if (bytes > fill->room - fill->used) {
			if (fill->used > 0)
				vfsd_dir_unread(fill->handle, fill->offset, from, dents_bytes - at);
			return false;
		}
		/* What pads the name; everything else is set. */
		memset(to + bytes - sizeof(uint64_t), 0, sizeof(uint64_t));
		if (fill->plus)
			dirent->ino = fill_plus(req, &fill->list, from, at < early,
						(struct fuse_entry_out *)to);
		else
			dirent->ino = number_of(req, fill->handle->fd, from);
		dirent->off = (uint64_t)from->d_off;
		dirent->namelen = (uint32_t)name_bytes;
		dirent->type = from->d_type;
		memcpy(dirent->name, from->d_name, name_bytes);
		fill->used += bytes;
		fill->offset = from->d_off;
	}
	return true;
}

/* How many bytes of host entries are worth reading for what room there is, at the least one. */
static size_t dents_for(const struct filling *fill, size_t read)
{
	const size_t room = fill->room - fill->used;
	size_t dents = room;

	/* With attributes they grow, as those before have done: what is read in vain is read twice. */
	if (fill->plus)
		dents = fill->used ? (size_t)((uint64_t)room * read / fill->used) :
				     room / GROWTH_OF_SHORT_NAMES;
	if (dents < sizeof(struct dirent64))
		dents = sizeof(struct dirent64);
	return dents < VFSD_FUSE_DENTS_BYTES ? dents : VFSD_FUSE_DENTS_BYTES;
}

/* Returns bytes or -errno. */
static ssize_t fill_reply(struct vfsd_request *req, struct filling *fill)
{
	struct vfsd_fuse *fuse = req->fuse;
	size_t read = 0;
	size_t dents, early;
	ssize_t n;

	if (fill->plus)
		fuse->ops->readdirplus(fuse->fs, req->inode, fill->handle->fd, fill->offset == 0,
				       &fill->list);
	do {
		dents = dents_for(fill, read);
		n = fuse->ops->readdir(fuse->fs, fill->handle, fill->offset, req->worker->dents,
				       dents, &early);
		if (n < 0 && fill->used == 0)
			return n;
		if (n <= 0)
			break;
		read += (size_t)n;
		if (!convert(req, fill, (size_t)n, early))
			break;
		/* Not if all was read: only the next request is to find the end. */
	} while (dents - (size_t)n < sizeof(struct dirent64) &&
		 fill->room - fill->used >= WORTH_FILLING_BYTES);
	return fill->used == 0 && n > 0 ? -EINVAL : (ssize_t)fill->used;
}

static ssize_t read_directory(struct vfsd_request *req, bool plus)
{
	const struct fuse_read_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct filling fill = {.plus = plus, .room = in->size, .offset = (int64_t)in->offset};
	ssize_t n;

	if (fill.room > req->out.left)
		fill.room = req->out.left;
	if (fill.room > VFSD_FUSE_REPLY_BYTES)
		fill.room = VFSD_FUSE_REPLY_BYTES;
	fill.handle = vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
	if (!fill.handle)
		return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	/* What is made where it is to be need not be copied there. */
	req->in_place = vfsd_cursor_is_piece(&req->out, fill.room);
	fill.to = req->in_place ? vfsd_cursor_piece(&req->out, fill.room) : req->reply;
	n = fill_reply(req, &fill);
	vfsd_open_file_put(fuse->handles, fill.handle);
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
