/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Extended attributes: GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR. Names are translated on their
 * way (xattr_map.h).
 */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "fuse/internal.h"

_Static_assert(VFSD_FUSE_DENTS_BYTES >= XATTR_LIST_MAX, "room for any list of the host");
_Static_assert(VFSD_FUSE_REPLY_BYTES >= XATTR_SIZE_MAX, "room for any value");
_Static_assert(VFSD_FUSE_BODY_BYTES >= XATTR_SIZE_MAX + XATTR_NAME_MAX + 64, "as above");

/* The name that a request starts with, as the host's. */
static int read_name(struct vfsd_request *req, const char **ret)
{
	const char *name;
	int error;

	if (!req->fuse->config.options.xattr)
		return -ENOSYS;
	error = vfsd_request_text(req, &name);
	*ret = req->worker->xattr_name;
	return error ? error :
		       vfsd_xattrmap_to_host(req->fuse->config.xattrmap,
					     req->granted & FUSE_POSIX_ACL, name,
					     req->worker->xattr_name);
}

/* How many bytes of payload may be, by what the caller asks for and what room there is. */
static size_t room_for(const struct vfsd_request *req, uint32_t size)
{
	return size < req->out.left ? size : req->out.left;
}

/* Who asks with size 0 wants to know how many bytes there are. */
static ssize_t size_reply(struct vfsd_request *req, size_t size)
{
	struct fuse_getxattr_out *out = req->reply;

	*out = (struct fuse_getxattr_out){.size = (uint32_t)size};
	return (ssize_t)sizeof(*out);
}

static bool has_room(const struct vfsd_request *req, uint32_t size)
{
	return size > 0 || req->out.left >= sizeof(struct fuse_getxattr_out);
}

ssize_t vfsd_fuse_getxattr(struct vfsd_request *req)
{
	const struct fuse_getxattr_in *in = req->args;
	size_t size = room_for(req, in->size);
	const char *name;
	int error = read_name(req, &name);
	ssize_t n;

	if (!error)
		error = vfsd_request_end(req);
	if (error)
		return error == -EPERM ? -ENODATA : error;
	if (!has_room(req, in->size))
		return -EINVAL;
	if (in->size > 0 && size == 0)
		return -ERANGE;
	if (size > XATTR_SIZE_MAX)
		size = XATTR_SIZE_MAX;
	n = req->fuse->ops->getxattr(req->fuse->fs, req->inode, name, req->reply, size);
	return n >= 0 && in->size == 0 ? size_reply(req, (size_t)n) : n;
}

/* The guest's names of the host's @bytes of @from, NUL after each. Returns bytes, at most those. */
static size_t translate(const struct vfsd_request *req, const char *from, size_t bytes, char *to)
{
	const char *end = from + bytes;
	size_t used = 0;

	while (from < end) {
		size_t n = strnlen(from, (size_t)(end - from));
		const char *name;

		if (from + n == end) /* no NUL: not from any host we know */
			break;
		name = vfsd_xattrmap_to_guest(req->fuse->config.xattrmap,
					      req->granted & FUSE_POSIX_ACL, from);
		if (name) {
			size_t name_bytes = strlen(name) + 1;

			memcpy(to + used, name, name_bytes);
			used += name_bytes;
		}
		from += n + 1;
	}
	return used;
}

ssize_t vfsd_fuse_listxattr(struct vfsd_request *req)
{
	const struct fuse_getxattr_in *in = req->args;
	char *names = (char *)req->worker->dents;
	size_t bytes;
	ssize_t n;

	if (!req->fuse->config.options.xattr)
		return -ENOSYS;
	if (vfsd_request_end(req) || !has_room(req, in->size))
		return -EINVAL;
	/* Whole, for the guest's names may be fewer and shorter. */
	n = req->fuse->ops->listxattr(req->fuse->fs, req->inode, names, VFSD_FUSE_DENTS_BYTES);
	if (n < 0)
		return n;
	bytes = translate(req, names, (size_t)n, req->reply);
	if (in->size == 0)
		return size_reply(req, bytes);
	return bytes <= room_for(req, in->size) ? (ssize_t)bytes : -ERANGE;
}

ssize_t vfsd_fuse_setxattr(struct vfsd_request *req)
{
	struct fuse_setxattr_in in = {.setxattr_flags = 0};
	const char *name;
	bool kill_sgid;
	int error;

	memcpy(&in, req->args, FUSE_SETXATTR_IN_OLD_BYTES);
	if (req->granted & FUSE_SETXATTR_EXT) {
		if (req->text_left < sizeof(in) - FUSE_SETXATTR_IN_OLD_BYTES)
			return -EINVAL;
		memcpy(&in, req->args, sizeof(in));
		req->text += sizeof(in) - FUSE_SETXATTR_IN_OLD_BYTES;
		req->text_left -= sizeof(in) - FUSE_SETXATTR_IN_OLD_BYTES;
	}
	error = read_name(req, &name);
	if (error)
		return error;
	if (req->text_left != in.size)
		return -EINVAL;
	kill_sgid = in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID &&
		    strcmp(name, "system.posix_acl_access") == 0;
	return req->fuse->ops->setxattr(req->fuse->fs, &req->caller, req->inode, name, req->text,
					in.size, (int)in.flags, kill_sgid);
}

ssize_t vfsd_fuse_removexattr(struct vfsd_request *req)
{
	const char *name;
	int error = read_name(req, &name);

	if (!error)
		error = vfsd_request_end(req);
	return error ? error : req->fuse->ops->removexattr(req->fuse->fs, req->inode, name);
}
