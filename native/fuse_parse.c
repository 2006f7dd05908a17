/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What follows the fixed struct of a request: names and extensions, in private memory.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "fuse_internal.h"

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
