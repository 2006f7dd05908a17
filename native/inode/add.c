/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inodes that come into the node-id table: the root, what the guest looks up, and what a migration
 * brings.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "inode/internal.h"
#include "base/quota.h"
#include "base/statx.h"
#include "base/util.h"

/* Copy @handle into the slot, or into memory of its own if it does not fit. */
static int slot_set_handle(struct vfsd_inode_slot *slot, const struct vfsd_file_handle *handle)
{
	slot->handle_outside = handle->bytes > VFSD_HANDLE_INLINE_BYTES;
	if (slot->handle_outside) {
		struct vfsd_file_handle *outside = vfsd_reserve_handle(handle->bytes);

		if (!outside)
			return -ENOMEM;
		memcpy(slot->handle_space, &outside, sizeof(outside));
	}
	vfsd_file_handle_copy(vfsd_slot_handle(slot), handle);
	return 0;
}

/*
 * Make a slot that nobody can see yet, with one reference. @nodeid 0: it gets a new id, or the one that is
 * remembered. @mount is consumed on success.
 */
static int slot_create(struct vfsd_inodes *inodes, uint64_t nodeid, const struct statx *st,
		       struct vfsd_host_mount *mount, const struct vfsd_file_handle *handle,
		       struct vfsd_inode_slot **ret)
{
	uint32_t found_in = 0;
	const uint64_t had = nodeid ? 0 :
				      vfsd_forgotten_take(inodes, handle, vfsd_statx_dev(st),
							  vfsd_statx_mnt(st), st->stx_mode & S_IFMT,
							  &found_in);
	struct vfsd_inode_slot *slot;
	uint32_t generation, index;
	int error = 0;

	if (had)
		nodeid = had;
	generation = (uint32_t)(nodeid >> 32);
	index = (uint32_t)nodeid;
	if (had)
		vfsd_slot_alloc_reserved(inodes, index);
	else
		error = nodeid ? vfsd_slot_alloc_at(inodes, index) :
				 vfsd_reserve_slot(inodes, &index);
	if (error)
		return error;
	slot = vfsd_slot_at(inodes, index);
	error = slot_set_handle(slot, handle);
	if (error) {
		vfsd_slot_free(inodes, index);
		return error;
	}
	while (!nodeid) {
		generation =
			atomic_fetch_add_explicit(&inodes->generation, 1, memory_order_relaxed);
		if (generation != 0 || index == VFSD_NODEID_ROOT)
			break;
	}
	slot->inode = (struct vfsd_inode){
		.nodeid = (uint64_t)generation << 32 | index,
		.dev = vfsd_statx_dev(st),
		.ino = st->stx_ino,
		.mnt_id = vfsd_statx_mnt(st),
		.type = st->stx_mode & S_IFMT,
		.on_file = (st->stx_attributes & STATX_ATTR_MOUNT_ROOT) && !S_ISDIR(st->stx_mode),
		.found_in = found_in,
	};
	slot->mount = mount;
	slot->closing_fd = -1;
	slot->reopenable = false;
	slot->never_cached = false;
	slot->cached_again = false;
	slot->held = false;
	slot->was_forgotten = false;
	atomic_store_explicit(&slot->listings, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->uncovered, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->btime, 0, memory_order_relaxed);
	vfsd_slot_note_btime(slot, st);
	atomic_store_explicit(&slot->fd, -1, memory_order_relaxed);
	atomic_store_explicit(&slot->nlookup, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->refs, 1, memory_order_release);
	*ret = slot;
	return 0;
}

/*
 * Hold @slot by its handle alone, or by *fd, which is taken then. An inode without a name is held by a
 * descriptor, because not every filesystem opens it by handle.
 */
static int slot_hold(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot, int *fd,
		     bool reopenable, bool nameless)
{
	/* Also where descriptors hold inodes: the mount's descriptor must not be one that is to be unpinned. */
	slot->reopenable = reopenable &&
			   vfsd_host_mount_reopens(inodes, slot->mount, *fd, slot->inode.type,
						   vfsd_slot_handle(slot));
	if (inodes->by_handle && slot->reopenable && !nameless)
		return 0;
	if (inodes->config.options.file_handles == VFSD_HANDLES_MANDATORY && !slot->reopenable)
		return -EOPNOTSUPP;
	if (!vfsd_reserve_fd(inodes))
		return -ENFILE;
	atomic_store_explicit(&slot->fd, vfsd_fd_take(fd), memory_order_relaxed);
	return 0;
}

int vfsd_inode_add(struct vfsd_inodes *inodes, uint64_t nodeid, int *fd, const struct statx *st,
		   struct vfsd_inode **ret)
{
	struct vfsd_file_handle handle = {.bytes = 0};
	struct vfsd_inode_key key = vfsd_inode_key_of(st);
	struct vfsd_host_mount *mount;
	struct vfsd_inode_slot *slot;
	bool reopenable = false;
	uint64_t mnt_id;
	int error;

	if (inodes->encode &&
	    vfsd_file_handle_encode(*fd, "", true, &handle, &reopenable, &mnt_id) == 0) {
		key.which = VFSD_BY_HANDLE;
		key.handle = &handle;
	} else {
		key.ino_is_identity = true;
	}
	slot = vfsd_slot_find(inodes, &key, true);
	if (slot) {
		*ret = &slot->inode;
		return 0;
	}

	mount = vfsd_host_mount_get(inodes, *fd, st);
	if (!mount)
		return -ENOMEM;
	handle.fsid = mount->fsid;
	error = slot_create(inodes, nodeid, st, mount, &handle, &slot);
	if (error) {
		vfsd_host_mount_put(inodes, mount);
		return error;
	}
	error = slot_hold(inodes, slot, fd, reopenable, st->stx_nlink == 0);
	if (error) {
		vfsd_slot_put(inodes, slot);
		return error;
	}
	vfsd_slot_publish(inodes, slot, &key, &slot);
	*ret = &slot->inode;
	return 0;
}

/*
 * As vfsd_inode_add() for an inode that is to be held by its handle alone; @mount is consumed. *added: it is
 * new in the table.
 */
static int add_by_handle(struct vfsd_inodes *inodes, const struct statx *st,
			 struct vfsd_host_mount *mount, struct vfsd_file_handle *handle,
			 struct vfsd_inode **ret, bool *added)
{
	struct vfsd_inode_key key = vfsd_inode_key_of(st);
	struct vfsd_inode_slot *slot;
	int error;

	key.which = VFSD_BY_HANDLE;
	key.handle = handle;
	slot = vfsd_slot_find(inodes, &key, true);
	*added = !slot;
	if (slot) {
		vfsd_slot_note_btime(slot, st);
		vfsd_host_mount_put(inodes, mount);
	} else {
		handle->fsid = mount->fsid;
		error = slot_create(inodes, 0, st, mount, handle, &slot);
		if (error) {
			vfsd_host_mount_put(inodes, mount);
			return error;
		}
		slot->reopenable = true;
		vfsd_slot_publish(inodes, slot, &key, &slot);
	}
	*ret = &slot->inode;
	return 0;
}

struct vfsd_inode *vfsd_inode_lookup_new(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					 unsigned int mask, bool asked, struct statx *st,
					 bool *added)
{
	struct vfsd_file_handle handle = {.bytes = 0};
	struct vfsd_host_mount *mount;
	struct vfsd_inode *inode;
	struct timespec before;
	bool reopenable;
	uint64_t mnt_id;

	if (!inodes->by_handle)
		return NULL;
	clock_gettime(CLOCK_REALTIME_COARSE, &before);
	if (asked && !vfsd_statx_btime_is_old(st, &before))
		return NULL;
	if (vfsd_file_handle_encode(dir_fd, name, false, &handle, &reopenable, &mnt_id) ||
	    statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, mask, st))
		return NULL;
	/* It is the handle's inode if it had this number before the handle was encoded. */
	if (!vfsd_statx_btime_is_old(st, &before) || st->stx_nlink == 0 ||
	    mnt_id != vfsd_statx_mnt(st))
		return NULL;
	mount = vfsd_host_mount_find(inodes, vfsd_statx_dev(st), vfsd_statx_mnt(st));
	if (!mount)
		return NULL;
	if (vfsd_file_handle_ino(mount->fs, &handle) != st->stx_ino) {
		vfsd_host_mount_put(inodes, mount);
		return NULL;
	}
	return add_by_handle(inodes, st, mount, &handle, &inode, added) ? NULL : inode;
}

int vfsd_inode_lookup_open(struct vfsd_inodes *inodes, int fd, const struct statx *st,
			   struct vfsd_inode **ret)
{
	struct vfsd_file_handle handle = {.bytes = 0};
	struct vfsd_host_mount *mount;
	bool reopenable, added;
	uint64_t mnt_id;

	if (!inodes->by_handle || st->stx_nlink == 0)
		return -EAGAIN;
	mount = vfsd_host_mount_find(inodes, vfsd_statx_dev(st), vfsd_statx_mnt(st));
	if (!mount)
		return -EAGAIN;
	if (vfsd_file_handle_encode(fd, "", false, &handle, &reopenable, &mnt_id)) {
		vfsd_host_mount_put(inodes, mount);
		return -EAGAIN;
	}
	return add_by_handle(inodes, st, mount, &handle, ret, &added);
}

int vfsd_inode_lookup_fd(struct vfsd_inodes *inodes, int fd, const struct statx *st,
			 struct vfsd_inode **ret)
{
	VFSD_FD_GUARD guard = fd;
	int error = vfsd_inode_add(inodes, 0, &guard, st, ret);

	if (!error && VFSD_UNLIKELY(vfsd_inodes_cache_lookups(inodes)))
		vfsd_inode_cache_opened_fd(inodes, *ret, &guard);
	return error;
}

int vfsd_inode_add_lost(struct vfsd_inodes *inodes, uint64_t nodeid, uint32_t type,
			struct vfsd_inode **ret)
{
	/* No inode of the host has these numbers. */
	const struct statx st = {.stx_mode = (uint16_t)type, .stx_ino = nodeid};
	const struct vfsd_file_handle none = {.bytes = 0};
	struct vfsd_inode_key key = vfsd_inode_key_of(&st);
	struct vfsd_host_mount *mount = vfsd_host_mount_get(inodes, -1, &st);
	struct vfsd_inode_slot *slot;
	int error;

	if (!mount)
		return -ENOMEM;
	error = slot_create(inodes, nodeid, &st, mount, &none, &slot);
	if (error) {
		vfsd_host_mount_put(inodes, mount);
		return error;
	}
	key.ino_is_identity = true;
	vfsd_slot_publish(inodes, slot, &key, &slot);
	*ret = &slot->inode;
	return 0;
}

int vfsd_inode_add_root(struct vfsd_inodes *inodes, int fd)
{
	VFSD_FD_GUARD guard = fd;
	struct vfsd_file_handle handle = {.bytes = 0};
	bool encode = inodes->config.need_handles ||
		      inodes->config.options.file_handles != VFSD_HANDLES_NEVER;
	struct vfsd_host_mount *mount;
	struct vfsd_inode_slot *slot;
	bool reopenable = false;
	struct vfsd_inode_key key;
	struct statx st;
	uint64_t mnt_id;
	int error;

	vfsd_statx_probe(fd);
	error = vfsd_statx_fd(fd, 0, STATX_BASIC_STATS | STATX_MNT_ID, &st);
	if (error)
		return error;
	key = vfsd_inode_key_of(&st);
	mount = vfsd_host_mount_get(inodes, fd, &st);
	if (!mount)
		return -ENOMEM;
	inodes->encode = encode;
	if (encode && vfsd_file_handle_encode(fd, "", true, &handle, &reopenable, &mnt_id) == 0) {
		handle.fsid = mount->fsid;
		key.which = VFSD_BY_HANDLE;
		key.handle = &handle;
	}
	error = slot_create(inodes, 0, &st, mount, &handle, &slot);
	if (error) {
		vfsd_host_mount_put(inodes, mount);
		return error;
	}
	slot->reopenable = reopenable &&
			   vfsd_host_mount_reopens(inodes, mount, fd, slot->inode.type,
						   vfsd_slot_handle(slot));
	inodes->can_unpin = slot->reopenable;
	inodes->by_handle = inodes->config.options.file_handles != VFSD_HANDLES_NEVER &&
			    slot->reopenable;
	if (inodes->config.options.file_handles == VFSD_HANDLES_MANDATORY && !inodes->by_handle) {
		vfsd_slot_put(inodes, slot);
		return reopenable ? -EPERM : -EOPNOTSUPP;
	}
	if (!vfsd_quota_take(inodes->config.fd_quota)) {
		vfsd_slot_put(inodes, slot);
		return -ENFILE;
	}
	atomic_store(&slot->fd, vfsd_fd_take(&guard));
	vfsd_slot_publish(inodes, slot, &key, &slot);
	vfsd_slot_put(inodes, slot);
	return 0;
}
