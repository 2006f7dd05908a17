/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What follows the fixed struct of a request: names and extensions, in private memory. Extensions
 * may be at any address: they are copied before they are looked at.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "fuse/internal.h"

int vfsd_request_text(struct vfsd_request *req, const char **ret)
{
	const uint8_t *end = req->text_left ? memchr(req->text, '\0', req->text_left) : NULL;

	if (!end)
		return -EINVAL;
	*ret = (const char *)req->text;
	req->text_left -= (size_t)(end - req->text) + 1;
	req->text = end + 1;
	return 0;
}

int vfsd_request_name(struct vfsd_request *req, const char **ret)
{
	const char *name;
	int error = vfsd_request_text(req, &name);

	if (error)
		return error;
	/* A path, or one of the dots, would lead the host's kernel out of the share. */
	if (name[0] == '\0' || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return -EINVAL;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	*ret = name;
	return 0;
}

int vfsd_request_end(const struct vfsd_request *req)
{
	return req->text_left == (size_t)req->header.total_extlen * 8 ? 0 : -EINVAL;
}

/* The supplementary groups that matter: one at most, the directory's. */
static int read_groups(struct vfsd_request *req, const uint8_t *at, size_t left)
{
	struct fuse_supp_groups groups;
	int error;

	if (left < sizeof(groups) || req->caller.has_group)
		return -EINVAL;
	memcpy(&groups, at, sizeof(groups));
	if (groups.nr_groups == 0)
		return 0;
	if (groups.nr_groups > 1 || left - sizeof(groups) < sizeof(groups.groups[0]))
		return -EINVAL;
	memcpy(&req->caller.group, at + sizeof(groups), sizeof(req->caller.group));
	error = vfsd_idmap_translate(req->fuse->config.idmap, VFSD_GID_TO_HOST, &req->caller.group);
	if (error)
		return error;
	req->caller.has_group = true;
	return 0;
}

/* One security context: its size, its name with a NUL, its value. */
static int read_label(struct vfsd_request *req, const uint8_t *at, size_t left)
{
	struct fuse_secctx context;
	const uint8_t *end;
	const uint8_t *name = at + sizeof(context);
	int error;

	if (left < sizeof(context) || req->caller.label)
		return -EINVAL;
	memcpy(&context, at, sizeof(context));
	left -= sizeof(context);
	end = memchr(name, '\0', left);
	if (!end)
		return -EINVAL;
	left -= (size_t)(end - name) + 1;
	if (context.size > left)
		return -EINVAL;
	error = vfsd_xattrmap_to_host(req->fuse->config.xattrmap, req->granted & FUSE_POSIX_ACL,
				      (const char *)name, req->worker->xattr_name);
	if (error)
		return error;
	req->label.name = req->worker->xattr_name;
	req->label.value = end + 1;
	req->label.bytes = context.size;
	req->caller.label = &req->label;
	return 0;
}

/* One extension and what it announces. Returns its bytes, or -errno. */
static ssize_t read_extension(struct vfsd_request *req)
{
	struct fuse_ext_header header;
	const uint8_t *at = req->text + sizeof(header);
	size_t left;
	int error = 0;

	if (req->text_left < sizeof(header))
		return -EINVAL;
	memcpy(&header, req->text, sizeof(header));
	if (header.size < sizeof(header) || header.size > req->text_left || header.size % 8 != 0)
		return -EINVAL;
	left = header.size - sizeof(header);
	if (header.type == FUSE_EXT_GROUPS)
		error = read_groups(req, at, left);
	else if (header.type > 1) /* several contexts, or something unheard of */
		error = -EINVAL;
	else if (header.type == 1 && !(req->granted & FUSE_SECURITY_CTX))
		error = -EINVAL;
	else if (header.type == 1)
		error = read_label(req, at, left);
	return error ? error : (ssize_t)header.size;
}

int vfsd_request_creation(struct vfsd_request *req, uint32_t umask)
{
	/* Before 7.38 a security context came unannounced. */
	bool unannounced = req->granted & FUSE_SECURITY_CTX && req->header.total_extlen == 0;

	if (req->granted & FUSE_DONT_MASK)
		req->caller.umask = umask & 0777;
	if (!unannounced && vfsd_request_end(req))
		return -EINVAL;
	while (req->text_left > 0) {
		ssize_t n = read_extension(req);

		if (n < 0)
			return (int)n;
		req->text += n;
		req->text_left -= (size_t)n;
	}
	return 0;
}
