/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/agent_due.h"

#include <fcntl.h>
#include <string.h>

#include "fuse/agent_wire.h"
#include "fuse/wire.h"

bool vfsd_agent_is_rename(uint32_t opcode)
{
	return opcode == FUSE_RENAME || opcode == FUSE_RENAME2;
}

bool vfsd_agent_has_name(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
		return true;
	default:
		return vfsd_agent_is_rename(opcode);
	}
}

/* Names are compared only where there are some: a request that lacks one means no name. */
static bool is_at(uint64_t node, const char *name, uint64_t asked_node, const char *asked)
{
	return asked && node != 0 && node == asked_node && strcmp(name, asked) == 0;
}

/* Is that the name that the record is about? */
static bool is_name(const struct vfsd_agent_record *due, const struct vfsd_agent_request *request)
{
	return is_at(due->node, due->name, request->node, request->name);
}

static bool is_elsewhere(const struct vfsd_agent_request *request)
{
	return request->node == VFSD_AGENT_NODE_ELSEWHERE;
}

/* A name that is not what the record is about. Elsewhere there are no others. */
static enum vfsd_agent_answer other_name(const struct vfsd_agent_request *request)
{
	return is_elsewhere(request) ? VFSD_ANSWER_ABSENT : VFSD_ANSWER_PLAIN;
}

static enum vfsd_agent_answer lookup(const struct vfsd_agent_record *due, bool done,
				     const struct vfsd_agent_request *request)
{
	if (is_at(FUSE_ROOT_ID, VFSD_AGENT_ELSEWHERE, request->node, request->name))
		return VFSD_ANSWER_ELSEWHERE;
	if (!due || done)
		return other_name(request);
	switch (due->kind) {
	case VFSD_AGENT_CREATE:
		return is_name(due, request) ? VFSD_ANSWER_ABSENT : other_name(request);
	case VFSD_AGENT_MOVED_IN:
		if (is_elsewhere(request))
			return VFSD_ANSWER_NOW;
		return is_name(due, request) ? VFSD_ANSWER_ABSENT : VFSD_ANSWER_PLAIN;
	case VFSD_AGENT_RENAME:
		if (is_at(due->other, due->other_name, request->node, request->name))
			return VFSD_ANSWER_ABSENT;
		break;
	case VFSD_AGENT_MOVE_SELF:
		/* It comes from any name but this one, which it goes to. */
		if (is_elsewhere(request) && strcmp(request->name, VFSD_AGENT_ELSEWHERE) == 0)
			return VFSD_ANSWER_ABSENT;
		break;
	default:
		break;
	}
	if (is_elsewhere(request) && due->node == 0 && due->child != 0)
		return VFSD_ANSWER_CHILD;
	if (!is_name(due, request))
		return other_name(request);
	/* Names that are gone by now are answered too. */
	return due->child != 0 || due->kind < VFSD_AGENT_MODIFY ? VFSD_ANSWER_CHILD :
								  VFSD_ANSWER_NOW;
}

static enum vfsd_agent_answer move(const struct vfsd_agent_record *due,
				   const struct vfsd_agent_request *request)
{
	const bool from = is_name(due, request);

	if (request->flags != 0)
		return VFSD_ANSWER_REFUSE;
	switch (due->kind) {
	case VFSD_AGENT_RENAME:
		if (from && is_at(due->other, due->other_name, request->other, request->other_name))
			return VFSD_ANSWER_DONE;
		break;
	case VFSD_AGENT_MOVED_OUT:
		if (from && request->other == VFSD_AGENT_NODE_ELSEWHERE)
			return VFSD_ANSWER_DONE;
		break;
	case VFSD_AGENT_MOVED_IN:
		if (is_elsewhere(request) &&
		    is_at(due->node, due->name, request->other, request->other_name))
			return VFSD_ANSWER_DONE;
		break;
	case VFSD_AGENT_MOVE_SELF:
		if (is_elsewhere(request) && request->other == VFSD_AGENT_NODE_ELSEWHERE)
			return VFSD_ANSWER_DONE;
		break;
	default:
		break;
	}
	return VFSD_ANSWER_REFUSE;
}

/*
 * Is it the record's object that is opened, so that the event of that is done again? The kernel opens other
 * directories too, to find out where one is.
 */
static bool is_opening(const struct vfsd_agent_record *due,
		       const struct vfsd_agent_request *request)
{
	return due && request->node == due->child &&
	       (due->kind == VFSD_AGENT_OPEN || due->kind == VFSD_AGENT_CLOSE_WRITE ||
		due->kind == VFSD_AGENT_CLOSE_NOWRITE);
}

static bool is_touch(const struct vfsd_agent_record *due, uint32_t valid)
{
	const uint32_t harmless = FATTR_ATIME | FATTR_MTIME | FATTR_CTIME | FATTR_ATIME_NOW |
				  FATTR_MTIME_NOW | FATTR_LOCKOWNER | FATTR_FH;

	return (valid & ~harmless) == 0 &&
	       (due->kind == VFSD_AGENT_MODIFY || due->kind == VFSD_AGENT_ATTRIB ||
		due->kind == VFSD_AGENT_ACCESS || due->kind == VFSD_AGENT_LOSS);
}

/* What would change something, were it not for the record. */
static enum vfsd_agent_answer change(const struct vfsd_agent_record *due, bool done,
				     const struct vfsd_agent_request *request)
{
	bool fits = false;

	if (!due)
		return VFSD_ANSWER_REFUSE;
	/* Times may be set again and again: of a loss, those of all that is watched. */
	if (request->opcode == FUSE_SETATTR)
		return is_touch(due, request->flags) ? VFSD_ANSWER_ATTR : VFSD_ANSWER_REFUSE;
	if (done)
		return VFSD_ANSWER_REFUSE;
	switch (request->opcode) {
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
		fits = due->kind == VFSD_AGENT_CREATE && is_name(due, request);
		return fits ? VFSD_ANSWER_NOW : VFSD_ANSWER_REFUSE;
	case FUSE_UNLINK:
	case FUSE_RMDIR:
		fits = due->kind == VFSD_AGENT_DELETE ?
			       is_name(due, request) :
			       due->kind == VFSD_AGENT_ENDED && is_elsewhere(request);
		return fits ? VFSD_ANSWER_DONE : VFSD_ANSWER_REFUSE;
	case FUSE_RENAME:
	case FUSE_RENAME2:
		return move(due, request);
	default:
		return VFSD_ANSWER_REFUSE;
	}
}

enum vfsd_agent_answer vfsd_agent_answer(const struct vfsd_agent_record *due, bool done,
					 const struct vfsd_agent_request *request)
{
	const bool writes = (request->flags & O_ACCMODE) != O_RDONLY || (request->flags & O_TRUNC);

	switch (request->opcode) {
	case FUSE_LOOKUP:
		return lookup(due, done, request);
	case FUSE_GETATTR:
		if (!due)
			return VFSD_ANSWER_PLAIN;
		return due->kind == VFSD_AGENT_MODIFY ? VFSD_ANSWER_STALE_ATTR : VFSD_ANSWER_ATTR;
	case FUSE_OPENDIR:
		return is_opening(due, request) ? VFSD_ANSWER_OPEN : VFSD_ANSWER_PLAIN;
	case FUSE_OPEN:
		if (is_opening(due, request))
			return VFSD_ANSWER_OPEN;
		return writes ? VFSD_ANSWER_REFUSE : VFSD_ANSWER_PLAIN;
	/* These give back what was taken, or look. */
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
	case FUSE_INTERRUPT:
	case FUSE_INIT:
	case FUSE_DESTROY:
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_READLINK:
	case FUSE_STATFS:
	case FUSE_STATX:
	case FUSE_ACCESS:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
	case FUSE_LSEEK:
	case FUSE_HOLD:
		return VFSD_ANSWER_PLAIN;
	default:
		return change(due, done, request);
	}
}
