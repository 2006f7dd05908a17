/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of the agent's thread: answered from the record that is due, and nothing is touched.
 * fuse/agent_due has the rule. All timeouts are 0, so that others in the guest ask again.
 */
#include <errno.h>
#include <sys/stat.h>

#include "fuse/agent.h"
#include "fuse/agent_due.h"
#include "fuse/internal.h"

/* The permissions matter to nobody: who asks is root, and asks again for what is really there. */
static void ghost_attr(uint64_t nodeid, mode_t type, struct fuse_attr *attr)
{
	*attr = (struct fuse_attr){
		.ino = nodeid,
		.mode = (type ? type : S_IFREG) | 0600,
		.nlink = type == S_IFDIR ? 2 : 1,
	};
}

static ssize_t ghost_entry(struct vfsd_request *req, uint64_t nodeid, mode_t type)
{
	struct fuse_entry_out *out = req->reply;

	*out = (struct fuse_entry_out){
		.nodeid = nodeid ? nodeid : vfsd_agent_ghost(req->fuse->config.agent)};
	ghost_attr(out->nodeid, type, &out->attr);
	return (ssize_t)sizeof(*out);
}

static ssize_t real_entry(struct vfsd_request *req, struct vfsd_entry *entry)
{
	struct fuse_entry_out *out = req->reply;

	vfsd_fuse_fill_entry(req, entry, out);
	out->entry_valid = out->attr_valid = 0;
	return (ssize_t)sizeof(*out);
}

/* What the request makes, or 0: whatever there is will do. */
static mode_t wanted_type(const struct vfsd_request *req)
{
	switch (req->header.opcode) {
	case FUSE_MKDIR:
		return S_IFDIR;
	case FUSE_SYMLINK:
		return S_IFLNK;
	case FUSE_MKNOD:
		return ((const struct fuse_mknod_in *)req->args)->mode & S_IFMT;
	default:
		return 0;
	}
}

/* What has the name of @due by now, if it is of the right kind. Else a ghost. */
static ssize_t entry_now(struct vfsd_request *req, const struct vfsd_agent_record *due)
{
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_inode *dir = vfsd_fuse_inode(fuse, due->node);
	mode_t type = wanted_type(req);
	struct fuse_entry_out *out = req->reply;
	struct vfsd_entry entry;
	int error = -ENOENT;

	if (type == 0 && due->kind < VFSD_AGENT_MODIFY)
		type = due->mode & S_IFMT;
	if (dir)
		error = fuse->ops->lookup(fuse->fs, dir, due->name, &entry);
	vfsd_inode_put(fuse->inodes, dir);
	if (!error) {
		(void)real_entry(req, &entry);
		if (type == 0 || (out->attr.mode & S_IFMT) == type)
			return (ssize_t)sizeof(*out);
		vfsd_fuse_forget_one(fuse, out->nodeid, 1);
	}
	return ghost_entry(req, 0, type ? type : due->mode & S_IFMT);
}

/* The object of @due, which the host may have removed by now, as it was before that. */
static ssize_t entry_child(struct vfsd_request *req, const struct vfsd_agent_record *due)
{
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_inode *child = due->child ? vfsd_inode_get(fuse->inodes, due->child) : NULL;
	struct fuse_entry_out *out = req->reply;
	struct vfsd_entry entry;
	ssize_t n;

	/* The guest may have forgotten it since, and come back by its name. */
	if (!child)
		return due->node != 0 && due->kind >= VFSD_AGENT_MODIFY ?
			       entry_now(req, due) :
			       ghost_entry(req, 0, due->mode & S_IFMT);
	if (fuse->ops->lookup_self(fuse->fs, child, &entry) == 0)
		n = real_entry(req, &entry);
	else
		n = ghost_entry(req, child->nodeid, child->type);
	vfsd_inode_put(fuse->inodes, child);
	/* The guest takes the last link away itself. */
	if (due->kind == VFSD_AGENT_ENDED)
		out->attr.nlink = 1;
	return n;
}

static ssize_t attr_of(struct vfsd_request *req, const struct vfsd_agent_record *due, bool stale)
{
	struct vfsd_fuse *fuse = req->fuse;
	struct fuse_attr_out *out = req->reply;
	struct vfsd_inode *inode = vfsd_inode_get(fuse->inodes, req->header.nodeid);
	struct statx st;

	*out = (struct fuse_attr_out){.attr_valid = 0};
	if (inode && fuse->ops->getattr(fuse->fs, inode, -1, &st) == 0)
		vfsd_fuse_fill_attr(req, inode, &st, &out->attr);
	else if (inode)
		ghost_attr(inode->nodeid, inode->type, &out->attr);
	else if (req->header.nodeid == VFSD_AGENT_NODE_ELSEWHERE)
		ghost_attr(req->header.nodeid, S_IFDIR, &out->attr);
	else
		ghost_attr(req->header.nodeid, due->mode & S_IFMT, &out->attr);
	vfsd_inode_put(fuse->inodes, inode);
	if (req->header.opcode == FUSE_GETATTR)
		out->attr.blksize = VFSD_AGENT_MARK;
	if (stale)
		out->attr.mtimensec ^= 1;
	return (ssize_t)sizeof(*out);
}

static ssize_t open_ghost(struct vfsd_request *req)
{
	struct fuse_open_out *out = req->reply;

	*out = (struct fuse_open_out){
		.fh = VFSD_AGENT_GHOST_FH,
		.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH,
	};
	return (ssize_t)sizeof(*out);
}

/* As vfsd_agent_answer() wants it. Handlers of plain requests find the names where they were. */
static struct vfsd_agent_request describe(struct vfsd_request *req)
{
	const uint8_t *text = req->text;
	const size_t left = req->text_left;
	struct vfsd_agent_request request = {
		.opcode = req->header.opcode,
		.node = req->header.nodeid,
	};

	if (vfsd_agent_has_name(request.opcode) && vfsd_request_name(req, &request.name))
		request.name = NULL;
	if (vfsd_agent_is_rename(request.opcode)) {
		request.other = *(const uint64_t *)req->args; /* newdir, in both */
		if (vfsd_request_name(req, &request.other_name))
			request.other_name = NULL;
	}
	if (request.opcode == FUSE_RENAME2)
		request.flags = ((const struct fuse_rename2_in *)req->args)->flags;
	if (request.opcode == FUSE_OPEN || request.opcode == FUSE_OPENDIR)
		request.flags = ((const struct fuse_open_in *)req->args)->flags;
	if (request.opcode == FUSE_SETATTR)
		request.flags = ((const struct fuse_setattr_in *)req->args)->valid;
	req->text = text;
	req->text_left = left;
	return request;
}

static bool is_of_ghost(const struct vfsd_request *req)
{
	return (req->header.opcode == FUSE_FLUSH &&
		((const struct fuse_flush_in *)req->args)->fh == VFSD_AGENT_GHOST_FH) ||
	       ((req->header.opcode == FUSE_RELEASE || req->header.opcode == FUSE_RELEASEDIR) &&
		((const struct fuse_release_in *)req->args)->fh == VFSD_AGENT_GHOST_FH);
}

bool vfsd_agent_answers(struct vfsd_request *req, ssize_t *n)
{
	struct vfsd_agent *agent = req->fuse->config.agent;
	struct vfsd_agent_request request;
	struct vfsd_agent_record due;
	enum vfsd_agent_answer answer;
	bool done;

	*n = 0;
	if (is_of_ghost(req))
		return true;
	if (!vfsd_agent_due(agent, req->header.pid, &due, &done))
		return false;
	request = describe(req);
	answer = vfsd_agent_answer(due.kind != 0 ? &due : NULL, done, &request);
	switch (answer) {
	case VFSD_ANSWER_PLAIN:
		return false;
	case VFSD_ANSWER_REFUSE:
		*n = -EPERM;
		break;
	case VFSD_ANSWER_ABSENT:
		*n = -ENOENT;
		break;
	case VFSD_ANSWER_NOW:
		*n = entry_now(req, &due);
		break;
	case VFSD_ANSWER_CHILD:
		*n = entry_child(req, &due);
		break;
	case VFSD_ANSWER_ELSEWHERE:
		*n = ghost_entry(req, VFSD_AGENT_NODE_ELSEWHERE, S_IFDIR);
		break;
	case VFSD_ANSWER_DONE:
		break;
	case VFSD_ANSWER_ATTR:
	case VFSD_ANSWER_STALE_ATTR:
		*n = attr_of(req, &due, answer == VFSD_ANSWER_STALE_ATTR);
		break;
	case VFSD_ANSWER_OPEN:
		*n = open_ghost(req);
		break;
	}
	/* What is opened next is that object. */
	if ((answer == VFSD_ANSWER_NOW || answer == VFSD_ANSWER_CHILD) && *n > 0 &&
	    due.kind >= VFSD_AGENT_MODIFY)
		vfsd_agent_found(agent, due.sequence,
				 ((const struct fuse_entry_out *)req->reply)->nodeid);
	if (answer == VFSD_ANSWER_DONE ||
	    (answer == VFSD_ANSWER_NOW && req->header.opcode != FUSE_LOOKUP))
		vfsd_agent_did(agent, due.sequence);
	return true;
}
