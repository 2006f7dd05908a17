/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file VFSD_AGENT_FILE in the share's root: in no listing, root's alone, never cached. It hides a file of
 * the host of that name.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fuse/agent.h"
#include "fuse/agent_due.h"
#include "fuse/internal.h"

static void file_attr(uint64_t nodeid, struct fuse_attr *attr)
{
	const bool is_dir = nodeid == VFSD_AGENT_NODE_ELSEWHERE;

	*attr = (struct fuse_attr){
		.ino = nodeid,
		.mode = is_dir ? S_IFDIR | 0700 : S_IFREG | 0600,
		.nlink = is_dir ? 2 : 1,
		.blksize = 4096,
	};
}

static bool is_named(const struct vfsd_request *req)
{
	return req->header.opcode == FUSE_LOOKUP && req->header.nodeid == FUSE_ROOT_ID &&
	       req->text_left == sizeof(VFSD_AGENT_FILE) &&
	       memcmp(req->text, VFSD_AGENT_FILE, sizeof(VFSD_AGENT_FILE)) == 0;
}

static bool is_dot(const struct vfsd_request *req)
{
	return req->text_left == sizeof(".") && memcmp(req->text, ".", sizeof(".")) == 0;
}

static ssize_t lookup(struct vfsd_request *req, uint64_t nodeid)
{
	struct fuse_entry_out *out = req->reply;

	*out = (struct fuse_entry_out){.nodeid = nodeid};
	file_attr(out->nodeid, &out->attr);
	return (ssize_t)sizeof(*out);
}

static ssize_t getattr(struct vfsd_request *req)
{
	struct fuse_attr_out *out = req->reply;

	*out = (struct fuse_attr_out){.attr_valid = 0};
	file_attr(req->header.nodeid, &out->attr);
	return (ssize_t)sizeof(*out);
}

static ssize_t get_statx(struct vfsd_request *req)
{
	struct fuse_statx_out *out = req->reply;
	struct fuse_attr attr;

	file_attr(req->header.nodeid, &attr);
	*out = (struct fuse_statx_out){
		.stat = {.mask = STATX_BASIC_STATS,
			 .blksize = attr.blksize,
			 .nlink = attr.nlink,
			 .mode = (uint16_t)attr.mode,
			 .ino = attr.ino},
	};
	return (ssize_t)sizeof(*out);
}

static ssize_t open_file(struct vfsd_request *req)
{
	const struct vfsd_fuse_hooks *hooks = &req->fuse->hooks;
	struct fuse_open_out *out = req->reply;
	uint64_t fh;
	int error = hooks->agent_open ? hooks->agent_open(hooks->ctx, &fh) : -EOPNOTSUPP;

	if (error)
		return error;
	*out = (struct fuse_open_out){.fh = fh, .open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH};
	return (ssize_t)sizeof(*out);
}

static ssize_t release(struct vfsd_request *req)
{
	const struct fuse_release_in *in = req->args;
	const struct vfsd_fuse_hooks *hooks = &req->fuse->hooks;

	if (!vfsd_agent_end(req->fuse->config.agent, in->fh))
		return -EBADF;
	hooks->agent_close(hooks->ctx);
	return 0;
}

static ssize_t read_batch(struct vfsd_request *req)
{
	const struct fuse_read_in *in = req->args;
	const struct vfsd_fuse_hooks *hooks = &req->fuse->hooks;
	size_t room = in->size < req->out.left ? in->size : req->out.left;
	int error = vfsd_agent_check(req->fuse->config.agent, in->fh);

	if (error)
		return error;
	if (room > VFSD_AGENT_BATCH_MAX)
		room = VFSD_AGENT_BATCH_MAX;
	return hooks->agent_read(hooks->ctx, req, req->reply, room);
}

static int watch(struct vfsd_request *req, const struct vfsd_agent_message *message)
{
	const struct vfsd_fuse_hooks *hooks = &req->fuse->hooks;
	struct vfsd_inode *inode, *still;
	int error;

	inode = message->generation == 0 ? vfsd_fuse_inode(req->fuse, message->node) : NULL;
	if (!inode)
		return -ESTALE;
	error = hooks->agent_watch(hooks->ctx, inode, message->mask);
	/* If the guest forgot it meanwhile, nobody else would drop this interest. */
	still = vfsd_inode_get(req->fuse->inodes, message->node);
	if (!still && hooks->forgotten)
		hooks->forgotten(hooks->ctx, inode);
	vfsd_inode_put(req->fuse->inodes, still);
	vfsd_inode_put(req->fuse->inodes, inode);
	return error;
}

static ssize_t write_message(struct vfsd_request *req)
{
	const struct fuse_write_in *in = req->args;
	struct vfsd_agent *agent = req->fuse->config.agent;
	struct fuse_write_out *out = req->reply;
	struct vfsd_agent_message message;
	uint8_t bytes[sizeof(message)];
	int error;

	if (in->size > req->in_left || in->size != sizeof(bytes) ||
	    vfsd_cursor_read(&req->in, bytes, sizeof(bytes)))
		return -EINVAL;
	error = vfsd_agent_message_read(bytes, sizeof(bytes), &message);
	if (error)
		return error;
	/* Who sends the HELLO is what the guest's kernel says, not the message. */
	if (message.type == VFSD_AGENT_HELLO) {
		error = vfsd_agent_hello(agent, in->fh, req->header.pid);
		if (!error)
			vfsd_log(VFSD_LOG_INFO, "agent: session pid=%u", req->header.pid);
	} else if (message.type == VFSD_AGENT_ACK) {
		error = vfsd_agent_ack(agent, in->fh, message.sequence);
	} else {
		error = vfsd_agent_check(agent, in->fh);
		if (!error)
			error = watch(req, &message);
	}
	if (error)
		return error;
	*out = (struct fuse_write_out){.size = in->size};
	return (ssize_t)sizeof(*out);
}

static ssize_t serve_file(struct vfsd_request *req)
{
	switch (req->header.opcode) {
	case FUSE_LOOKUP: /* by whoever opens a file handle */
		return is_dot(req) ? lookup(req, req->header.nodeid) : -ENOTDIR;
	case FUSE_GETATTR:
		return getattr(req);
	case FUSE_OPEN:
		return open_file(req);
	case FUSE_READ:
		return read_batch(req);
	case FUSE_WRITE:
		return write_message(req);
	case FUSE_RELEASE:
		return release(req);
	case FUSE_FORGET:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
		return 0;
	case FUSE_STATX:
		return get_statx(req);
	case FUSE_GETXATTR:
		return -ENODATA;
	case FUSE_LISTXATTR: /* whether it asks for the size, or for the names */
		return ((const struct fuse_getxattr_in *)req->args)->size == 0 ?
			       (ssize_t)sizeof(struct fuse_getxattr_out) :
			       0;
	default:
		return -EPERM;
	}
}

/* Whoever holds the agent's directory, who is not the agent, gets to see an empty one. */
static ssize_t serve_elsewhere(struct vfsd_request *req)
{
	return req->header.opcode == FUSE_GETATTR ? getattr(req) : -ENOENT;
}

bool vfsd_agent_serves(struct vfsd_request *req, ssize_t *n)
{
	const uint64_t nodeid = req->header.nodeid;

	if (nodeid == VFSD_AGENT_NODE || nodeid == VFSD_AGENT_NODE_NAMED)
		*n = serve_file(req);
	else if (is_named(req))
		*n = lookup(req, VFSD_AGENT_NODE_NAMED);
	else if (vfsd_agent_answers(req, n))
		return true;
	else if (nodeid == VFSD_AGENT_NODE_ELSEWHERE)
		*n = serve_elsewhere(req);
	else
		return false;
	return true;
}
