/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a new inode needs, taken before something is made that is to be it.
 *
 * It belongs to a thread, for the length of one operation, so that the lookup at its end need not be
 * told: that is one function or another, by what the host can do.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/faults.h"
#include "inode/internal.h"
#include "base/quota.h"

static _Thread_local struct {
	uint32_t index; /* of a slot; 0: none */
	bool fd;	/* counted by the quota */
	struct vfsd_file_handle *handle;
} reserve;

int vfsd_inodes_reserve(struct vfsd_inodes *inodes, const struct vfsd_inode *dir, bool nameless)
{
	const struct vfsd_inode_slot *slot = vfsd_inode_slot(dir);
	int error = vfsd_reserve_slot(inodes, &reserve.index);

	if (error)
		return error;
	/* What is held by its handle, on the same filesystem, needs no descriptor. */
	reserve.fd = nameless || !inodes->by_handle || !slot->reopenable;
	if (reserve.fd && !vfsd_quota_take(inodes->config.fd_quota)) {
		reserve.fd = false;
		error = -ENFILE;
	}
	if (!error && slot->handle_outside) {
		reserve.handle = vfsd_reserve_handle(VFSD_HANDLE_BYTES_MAX);
		error = reserve.handle ? 0 : -ENOMEM;
	}
	if (error)
		vfsd_inodes_unreserve(inodes);
	return error;
}

void vfsd_inodes_unreserve(struct vfsd_inodes *inodes)
{
	if (reserve.index)
		vfsd_slot_free(inodes, reserve.index);
	if (reserve.fd)
		vfsd_quota_give(inodes->config.fd_quota);
	free(reserve.handle);
	reserve.index = 0;
	reserve.fd = false;
	reserve.handle = NULL;
}

int vfsd_reserve_slot(struct vfsd_inodes *inodes, uint32_t *ret)
{
	int error;

	if (reserve.index) {
		*ret = reserve.index;
		reserve.index = 0;
		return 0;
	}
	if (vfsd_faults_refuse())
		return -ENOMEM;
	error = vfsd_slot_alloc(inodes, ret);
	/* Room for what the guest uses goes before ids that it may ask for. */
	return error && vfsd_forgotten_drop_oldest(inodes) ? vfsd_slot_alloc(inodes, ret) : error;
}

bool vfsd_reserve_fd(struct vfsd_inodes *inodes)
{
	if (!reserve.fd)
		return vfsd_quota_take(inodes->config.fd_quota);
	reserve.fd = false;
	return true;
}

struct vfsd_file_handle *vfsd_reserve_handle(uint32_t bytes)
{
	struct vfsd_file_handle *taken = reserve.handle;

	reserve.handle = NULL;
	if (taken || vfsd_faults_refuse())
		return taken;
	return malloc(offsetof(struct vfsd_file_handle, data) + bytes);
}
