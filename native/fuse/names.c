/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names: LOOKUP and FORGET, and what makes, moves and removes names. What a node id means.
 */
#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fuse/internal.h"
#include "base/util.h"

/* The last name of a request. */
static int only_name(struct vfsd_request *req, const char **ret)
{
	int error = vfsd_request_name(req, ret);

	return error ? error : vfsd_request_end(req);
}

static ssize_t entry_reply(struct vfsd_request *req, int error, struct vfsd_entry *entry)
{
	if (error)
		return error;
	vfsd_fuse_fill_entry(req, entry, req->reply);
	return (ssize_t)sizeof(struct fuse_entry_out);
}

static bool is_text(const struct vfsd_request *req, const char *text)
{
	return req->text_left == strlen(text) + 1 && memcmp(req->text, text, req->text_left) == 0;
}

/* The node of the header, held or forgotten. 0 or -errno. */
static int look_up_self(struct vfsd_request *req, struct vfsd_entry *ret)
{
	const struct vfsd_fuse *fuse = req->fuse;
	int error = -ESTALE;

	if (req->inode)
		error = fuse->ops->lookup_self(fuse->fs, req->inode, ret);
	if (error != -ESTALE)
		return error;
	/* If a FORGET is ending it, that waits for this reference. */
	vfsd_inode_put(fuse->inodes, req->inode);
	req->inode = NULL;
	return fuse->ops->lookup_forgotten(fuse->fs, req->header.nodeid, ret);
}

ssize_t vfsd_fuse_lookup(struct vfsd_request *req)
{
	const bool dots = req->granted & FUSE_EXPORT_SUPPORT;
	struct vfsd_entry entry;
	const char *name;
	int error;

	/* A guest that opens a file handle asks for the node again, then for all above it. */
	if (dots && is_text(req, "."))
		return entry_reply(req, look_up_self(req, &entry), &entry);
	if (!req->inode)
		return -ESTALE;
	if (dots && is_text(req, ".."))
		return entry_reply(req,
				   req->fuse->ops->lookup_parent(req->fuse->fs, req->inode, &entry),
				   &entry);
	error = only_name(req, &name);
	if (!error)
		error = req->fuse->ops->lookup(req->fuse->fs, req->inode, name, &entry);
	return entry_reply(req, error, &entry);
}

bool vfsd_fuse_goes_on(struct vfsd_request *req, bool removed)
{
	uint64_t who = (uint64_t)req->header.opcode << 32 | req->header.pid;
	_Atomic uint64_t *reported =
		&req->fuse->stale_reported[req->header.pid % VFSD_FUSE_STALE_REPORTED];

	if (VFSD_LIKELY(!removed && atomic_load(reported) != who))
		return true;
	/* Should others come in between, it is reported once more. */
	if (atomic_compare_exchange_strong(reported, &who, 0) || !removed)
		return true;
	atomic_store(reported, (uint64_t)req->header.opcode << 32 | req->header.pid);
	return false;
}

struct vfsd_inode *vfsd_fuse_inode(struct vfsd_fuse *fuse, uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(fuse->inodes, nodeid);
	struct vfsd_inode *lost;

	if (VFSD_LIKELY(!inode || !vfsd_inode_is_by_event(inode)))
		return inode;
	if (vfsd_inode_check_place(fuse->inodes, inode, &lost) == 0)
		return inode;
	if (lost && fuse->hooks.forgotten)
		fuse->hooks.forgotten(fuse->hooks.ctx, lost);
	vfsd_inode_put(fuse->inodes, lost);
	vfsd_inode_put(fuse->inodes, inode);
	return NULL;
}

void vfsd_fuse_forget_one(struct vfsd_fuse *fuse, uint64_t nodeid, uint64_t nlookup)
{
	struct vfsd_inode *inode = vfsd_inode_forget(fuse->inodes, nodeid, nlookup);

	if (!inode)
		return;
	if (fuse->hooks.forgotten)
		fuse->hooks.forgotten(fuse->hooks.ctx, inode);
	vfsd_inode_put(fuse->inodes, inode);
}

ssize_t vfsd_fuse_forget(struct vfsd_request *req)
{
	const struct fuse_forget_in *in = req->args;

	vfsd_fuse_forget_one(req->fuse, req->header.nodeid, in->nlookup);
	return 0;
}

ssize_t vfsd_fuse_batch_forget(struct vfsd_request *req)
{
	const struct fuse_batch_forget_in *in = req->args;
	uint64_t count = in->count;
	struct fuse_forget_one one;

	/* A count beyond what was sent is cut short. */
	if (count > req->in_left / sizeof(one))
		count = req->in_left / sizeof(one);
	while (count-- > 0 && vfsd_cursor_read(&req->in, &one, sizeof(one)) == 0)
		vfsd_fuse_forget_one(req->fuse, one.nodeid, one.nlookup);
	return 0;
}

ssize_t vfsd_fuse_symlink(struct vfsd_request *req)
{
	struct vfsd_entry entry;
	const char *target;
	const char *name;
	int error = vfsd_request_name(req, &name);

	if (!error)
		error = vfsd_request_text(req, &target);
	if (!error)
		error = vfsd_request_creation(req, 0);
	if (!error)
		error = req->fuse->ops->symlink(req->fuse->fs, &req->caller, req->inode, name,
						target, &entry);
	return entry_reply(req, error, &entry);
}

ssize_t vfsd_fuse_mknod(struct vfsd_request *req)
{
	const struct fuse_mknod_in *in = req->args;
	dev_t rdev =
		makedev((in->rdev >> 8) & 0xfff, (in->rdev & 0xff) | (in->rdev >> 12 & ~0xffu));
	struct vfsd_entry entry;
	const char *name;
	int error = vfsd_request_name(req, &name);

	if (!error)
		error = vfsd_request_creation(req, in->umask);
	if (!error)
		error = req->fuse->ops->mknod(req->fuse->fs, &req->caller, req->inode, name,
					      in->mode, rdev, &entry);
	return entry_reply(req, error, &entry);
}

ssize_t vfsd_fuse_mkdir(struct vfsd_request *req)
{
	const struct fuse_mkdir_in *in = req->args;
	struct vfsd_entry entry;
	const char *name;
	int error = vfsd_request_name(req, &name);

	if (!error)
		error = vfsd_request_creation(req, in->umask);
	if (!error)
		error = req->fuse->ops->mkdir(req->fuse->fs, &req->caller, req->inode, name,
					      in->mode, &entry);
	return entry_reply(req, error, &entry);
}

ssize_t vfsd_fuse_hold(struct vfsd_request *req)
{
	return req->fuse->ops->hold(req->fuse->fs, req->inode);
}

/*
 * Does this guest not say beforehand whether it uses what it removes? One that receives events does, and
 * others that receive them are to see the end of what it removed without using it.
 */
static bool must_hold(const struct vfsd_request *req)
{
	return !(req->granted & (FUSE_HAS_HOLD | FUSE_HAS_FSNOTIFY));
}

ssize_t vfsd_fuse_unlink(struct vfsd_request *req)
{
	const char *name;
	int error = only_name(req, &name);

	return error ? error :
		       req->fuse->ops->unlink(req->fuse->fs, req->inode, name, must_hold(req));
}

ssize_t vfsd_fuse_rmdir(struct vfsd_request *req)
{
	const char *name;
	int error = only_name(req, &name);

	return error ? error :
		       req->fuse->ops->rmdir(req->fuse->fs, req->inode, name, must_hold(req));
}

static ssize_t rename_to(struct vfsd_request *req, uint64_t new_parent_id, unsigned int flags)
{
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_inode *new_parent;
	const char *new_name;
	const char *name;
	int error = vfsd_request_name(req, &name);

	if (!error)
		error = only_name(req, &new_name);
	if (error)
		return error;
	new_parent = vfsd_fuse_inode(fuse, new_parent_id);
	if (!new_parent)
		return -ESTALE;
	error = fuse->ops->rename(fuse->fs, req->inode, name, new_parent, new_name, flags,
				  must_hold(req));
	vfsd_inode_put(fuse->inodes, new_parent);
	return error;
}

ssize_t vfsd_fuse_rename(struct vfsd_request *req)
{
	const struct fuse_rename_in *in = req->args;

	return rename_to(req, in->newdir, 0);
}

ssize_t vfsd_fuse_rename2(struct vfsd_request *req)
{
	const struct fuse_rename2_in *in = req->args;

	return rename_to(req, in->newdir, in->flags);
}

ssize_t vfsd_fuse_link(struct vfsd_request *req)
{
	const struct fuse_link_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_entry entry;
	struct vfsd_inode *old;
	const char *name;
	int error = only_name(req, &name);

	if (error)
		return error;
	old = vfsd_fuse_inode(fuse, in->oldnodeid);
	if (!old)
		return -ESTALE;
	error = fuse->ops->link(fuse->fs, old, req->inode, name, &entry);
	vfsd_inode_put(fuse->inodes, old);
	return entry_reply(req, error, &entry);
}
