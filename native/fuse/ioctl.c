/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IOCTL: inode flags, as chattr(1) and overlayfs want them, and project ids; nothing else.
 *
 * Project ids are what a host limits the space of a share by, so a guest may set them only to what
 * they are, unless it was allowed more.
 */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>

#include "fuse/internal.h"
#include "base/util.h"

struct command {
	uint32_t number;    /* the guest's */
	unsigned long host; /* ours */
	uint16_t bytes;	    /* of what it takes or gives */
	bool sets;
};

/* Flags are 32 bits, whatever their ioctl numbers say; a 32-bit guest has numbers of its own. */
static const struct command commands[] = {
	{FS_IOC_GETFLAGS, FS_IOC_GETFLAGS, sizeof(uint32_t), false},
	{FS_IOC32_GETFLAGS, FS_IOC_GETFLAGS, sizeof(uint32_t), false},
	{FS_IOC_SETFLAGS, FS_IOC_SETFLAGS, sizeof(uint32_t), true},
	{FS_IOC32_SETFLAGS, FS_IOC_SETFLAGS, sizeof(uint32_t), true},
	{FS_IOC_FSGETXATTR, FS_IOC_FSGETXATTR, sizeof(struct fsxattr), false},
	{FS_IOC_FSSETXATTR, FS_IOC_FSSETXATTR, sizeof(struct fsxattr), true},
};

static const struct command *find(uint32_t number)
{
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(commands); i++)
		if (commands[i].number == number)
			return &commands[i];
	return NULL;
}

ssize_t vfsd_fuse_ioctl(struct vfsd_request *req)
{
	const struct fuse_ioctl_in *in = req->args;
	struct fuse_ioctl_out *out = req->reply;
	struct vfsd_fuse *fuse = req->fuse;
	const struct command *command = find(in->cmd);
	struct vfsd_open_file *handle;
	struct fsxattr data = {.fsx_xflags = 0}; /* the largest, and aligned for the others */
	size_t reply_bytes = sizeof(*out);
	int error;

	if (!command)
		return -ENOTTY;
	if (req->text_left != in->in_size || in->in_size != (command->sets ? command->bytes : 0))
		return -EINVAL;
	if (command->sets) {
		if (fuse->config.options.readonly)
			return -EROFS;
		memcpy(&data, req->text, command->bytes);
	} else {
		reply_bytes += command->bytes;
		if (in->out_size < command->bytes || req->out.left < reply_bytes)
			return -EINVAL;
	}
	handle = vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
	if (!handle)
		return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	error = fuse->ops->ioctl(fuse->fs, &req->caller, handle->fd, command->host, &data);
	vfsd_open_file_put(fuse->handles, handle);
	if (error)
		return error;
	if (!command->sets)
		memcpy(out + 1, &data, command->bytes);
	return (ssize_t)reply_bytes;
}
