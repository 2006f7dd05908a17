/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attributes, and how they and entries are encoded: GETATTR, SETATTR, STATX, ACCESS, READLINK, STATFS.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "base/statx.h"
#include "fuse/internal.h"

uint64_t vfsd_fuse_timeout_s(const struct vfsd_fuse *fuse)
{
	switch (fuse->config.options.cache) {
	case VFSD_CACHE_ALWAYS:
	case VFSD_CACHE_METADATA:
		return 86400;
	case VFSD_CACHE_AUTO:
		return 1;
	case VFSD_CACHE_NEVER:
		break;
	}
	return 0;
}

/*
 * An owner as the guest knows it. No range forbids ids on this way, so every id has one.
 */
static uint32_t guest_id(const struct vfsd_fuse *fuse, enum vfsd_id_way way, uint32_t id)
{
	if (fuse->config.idmap)
		(void)vfsd_idmap_translate(fuse->config.idmap, way, &id);
	return id;
}

uint64_t vfsd_fuse_number(const struct vfsd_fuse *fuse, bool on_file, const struct statx *st)
{
	uint64_t granted = atomic_load_explicit(&fuse->granted, memory_order_relaxed);

	if ((granted & FUSE_SUBMOUNTS) && !on_file)
		return st->stx_ino;
	return vfsd_numbers_of(fuse->numbers, vfsd_statx_dev(st), st->stx_ino);
}

/* Those that statx(2) has, in the flags of a fuse_attr. */
static uint32_t statx_flags(const struct statx *st)
{
	static const uint32_t in_order[] = {
		STATX_ATTR_COMPRESSED, STATX_ATTR_IMMUTABLE, STATX_ATTR_APPEND,
		STATX_ATTR_NODUMP,     STATX_ATTR_ENCRYPTED, STATX_ATTR_VERITY,
	};
	uint32_t flags = 0;

	for (uint32_t i = 0; i < VFSD_ARRAY_SIZE(in_order); i++) {
		if (st->stx_attributes & in_order[i])
			flags |= 1u << (FUSE_ATTR_STATX_SHIFT + i);
		if (st->stx_attributes_mask & in_order[i])
			flags |= 1u << (FUSE_ATTR_STATX_KNOWN_SHIFT + i);
	}
	return flags;
}

void vfsd_fuse_fill_attr(const struct vfsd_request *req, const struct vfsd_inode *inode,
			 const struct statx *st, struct fuse_attr *attr)
{
	const struct vfsd_fuse *fuse = req->fuse;

	*attr = (struct fuse_attr){
		.ino = vfsd_fuse_number(fuse, inode->on_file, st),
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = guest_id(fuse, VFSD_UID_TO_GUEST, st->stx_uid),
		.gid = guest_id(fuse, VFSD_GID_TO_GUEST, st->stx_gid),
		.rdev = (st->stx_rdev_minor & 0xff) | (st->stx_rdev_major & 0xfff) << 8 |
			(st->stx_rdev_minor & ~0xffu) << 12,
		.blksize = st->stx_blksize,
		.flags = req->granted & FUSE_HAS_STATX_ATTR ? statx_flags(st) : 0,
	};
}

void vfsd_fuse_fill_entry(struct vfsd_request *req, struct vfsd_entry *entry,
			  struct fuse_entry_out *out)
{
	uint64_t timeout_s = vfsd_fuse_timeout_s(req->fuse);

	*out = (struct fuse_entry_out){
		.nodeid = entry->inode->nodeid, /* carries its generation */
		.entry_valid = timeout_s,
		.attr_valid = timeout_s,
	};
	vfsd_fuse_fill_attr(req, entry->inode, &entry->st, &out->attr);
	if (entry->submount && req->granted & FUSE_SUBMOUNTS)
		out->attr.flags |= FUSE_ATTR_SUBMOUNT;
	vfsd_inode_put(req->fuse->inodes, entry->inode);
	entry->inode = NULL;
}

static ssize_t attr_reply(struct vfsd_request *req, const struct statx *st)
{
	struct fuse_attr_out *out = req->reply;

	out->attr_valid = vfsd_fuse_timeout_s(req->fuse);
	vfsd_fuse_fill_attr(req, req->inode, st, &out->attr);
	return (ssize_t)sizeof(*out);
}

ssize_t vfsd_fuse_getattr(struct vfsd_request *req)
{
	const struct fuse_getattr_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_open_file *handle = NULL;
	struct statx st;
	int error;

	if (in->getattr_flags & FUSE_GETATTR_FH) {
		handle = vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
		if (!handle)
			return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	}
	error = fuse->ops->getattr(fuse->fs, req->inode, handle ? handle->fd : -1, &st);
	vfsd_open_file_put(fuse->handles, handle);
	return error ? error : attr_reply(req, &st);
}

/* What to do with one timestamp. -EINVAL: not a time. */
static int want_time(uint32_t valid, uint32_t set, uint32_t now, uint64_t s, uint32_t ns,
		     struct timespec *ret)
{
	*ret = (struct timespec){.tv_nsec = UTIME_OMIT};
	if (!(valid & set))
		return 0;
	if (valid & now) {
		ret->tv_nsec = UTIME_NOW;
		return 0;
	}
	if (ns > 999999999) /* also keeps the magic values out */
		return -EINVAL;
	*ret = (struct timespec){.tv_sec = (time_t)s, .tv_nsec = ns};
	return 0;
}

/* A SETATTR without any of these is chown(2) to the owner that is, which changes ctime alone. */
enum {
	FATTR_CHANGES = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME |
	FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW
};

static int want_attr(const struct vfsd_fuse *fuse, const struct fuse_setattr_in *in,
		     struct vfsd_setattr *set)
{
	int error;

	*set = (struct vfsd_setattr){
		.set_mode = in->valid & FATTR_MODE,
		.set_size = in->valid & FATTR_SIZE,
		.touch = (in->valid & FATTR_CHANGES) == 0,
		.kill_priv = in->valid & FATTR_KILL_SUIDGID,
		.mode = in->mode,
		.uid = in->valid & FATTR_UID ? in->uid : FUSE_INVALID_UIDGID,
		.gid = in->valid & FATTR_GID ? in->gid : FUSE_INVALID_UIDGID,
		.size = in->size,
	};
	error = vfsd_idmap_translate(fuse->config.idmap, VFSD_UID_TO_HOST, &set->uid);
	if (!error)
		error = vfsd_idmap_translate(fuse->config.idmap, VFSD_GID_TO_HOST, &set->gid);
	if (error)
		return error;
	error = want_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec,
			  &set->times[0]);
	if (error)
		return error;
	return want_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec,
			 &set->times[1]);
}

ssize_t vfsd_fuse_setattr(struct vfsd_request *req)
{
	const struct fuse_setattr_in *in = req->args;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_open_file *handle = NULL;
	struct vfsd_setattr set;
	struct statx st;
	int error = want_attr(fuse, in, &set);

	if (error)
		return error;
	if (in->valid & FATTR_FH) {
		handle = vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
		if (!handle)
			return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	}
	error = fuse->ops->setattr(fuse->fs, req->inode, handle ? handle->fd : -1, &set, &st);
	vfsd_open_file_put(fuse->handles, handle);
	return error ? error : attr_reply(req, &st);
}

static struct fuse_sx_time sx_time(const struct statx_timestamp *time)
{
	return (struct fuse_sx_time){.tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec};
}

/* What the guest may believe of an object, wherever it is mounted on the host. */
enum {
	STATX_TOLD = STATX_BASIC_STATS | STATX_BTIME,
	STATX_ATTRS_TOLD = STATX_ATTR_COMPRESSED | STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND |
		STATX_ATTR_NODUMP | STATX_ATTR_ENCRYPTED | STATX_ATTR_VERITY,
	STATX_FLAGS_TAKEN = AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC,
};

static void fill_statx(const struct vfsd_fuse *fuse, const struct vfsd_inode *inode,
		       const struct statx *st, struct fuse_statx *out)
{
	*out = (struct fuse_statx){
		.mask = st->stx_mask & STATX_TOLD,
		.blksize = st->stx_blksize,
		.attributes = st->stx_attributes & STATX_ATTRS_TOLD,
		.nlink = st->stx_nlink,
		.uid = guest_id(fuse, VFSD_UID_TO_GUEST, st->stx_uid),
		.gid = guest_id(fuse, VFSD_GID_TO_GUEST, st->stx_gid),
		.mode = st->stx_mode,
		.ino = vfsd_fuse_number(fuse, inode->on_file, st),
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.attributes_mask = st->stx_attributes_mask & STATX_ATTRS_TOLD,
		.atime = sx_time(&st->stx_atime),
		.btime = sx_time(&st->stx_btime),
		.ctime = sx_time(&st->stx_ctime),
		.mtime = sx_time(&st->stx_mtime),
		.rdev_major = st->stx_rdev_major,
		.rdev_minor = st->stx_rdev_minor,
		.dev_major = st->stx_dev_major,
		.dev_minor = st->stx_dev_minor,
	};
}

ssize_t vfsd_fuse_statx(struct vfsd_request *req)
{
	const struct fuse_statx_in *in = req->args;
	struct fuse_statx_out *out = req->reply;
	struct vfsd_fuse *fuse = req->fuse;
	struct vfsd_open_file *handle = NULL;
	struct statx st;
	int error;

	if (in->getattr_flags & FUSE_GETATTR_FH) {
		handle = vfsd_open_file_get(fuse->handles, in->fh, req->header.nodeid);
		if (!handle)
			return vfsd_open_file_missing(fuse->handles, in->fh, req->header.nodeid);
	}
	/* All that the guest caches, even if it is not what its caller asked for. */
	error = fuse->ops->statx(fuse->fs, req->inode, handle ? handle->fd : -1,
				 (int)in->sx_flags & STATX_FLAGS_TAKEN,
				 (in->sx_mask & STATX_TOLD) | STATX_BASIC_STATS, &st);
	vfsd_open_file_put(fuse->handles, handle);
	if (error)
		return error;
	out->attr_valid = vfsd_fuse_timeout_s(fuse);
	fill_statx(fuse, req->inode, &st, &out->stat);
	return (ssize_t)sizeof(*out);
}

ssize_t vfsd_fuse_access(struct vfsd_request *req)
{
	const struct fuse_access_in *in = req->args;

	if (in->mask & ~(uint32_t)(R_OK | W_OK | X_OK))
		return -EINVAL;
	if (in->mask & W_OK && req->fuse->config.options.readonly)
		return -EROFS;
	return req->fuse->ops->access(req->fuse->fs, &req->caller, req->inode, (int)in->mask);
}

ssize_t vfsd_fuse_readlink(struct vfsd_request *req)
{
	/* One byte more than a target may have shows that it was read whole. */
	return req->fuse->ops->readlink(req->fuse->fs, req->inode, req->reply, PATH_MAX + 1);
}

static uint32_t clamp32(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

ssize_t vfsd_fuse_statfs(struct vfsd_request *req)
{
	struct fuse_statfs_out *out = req->reply;
	struct statvfs fs;
	int error = req->fuse->ops->statfs(req->fuse->fs, req->inode, &fs);

	if (error)
		return error;
	out->st = (struct fuse_kstatfs){
		.blocks = fs.f_blocks,
		.bfree = fs.f_bfree,
		.bavail = fs.f_bavail,
		.files = fs.f_files,
		.ffree = fs.f_ffree,
		.bsize = clamp32(fs.f_bsize),
		.namelen = clamp32(fs.f_namemax),
		.frsize = clamp32(fs.f_frsize),
	};
	return (ssize_t)sizeof(*out);
}
