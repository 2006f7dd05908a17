/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reserve: slot, quota and memory of an inode, taken before the host's file is made.
 *
 * It is thread-local and lasts for one operation. So it need not be passed to the lookup at the end of the
 * operation, which is done by one of several functions.
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
	/* An inode that its handle holds needs no descriptor; handles work here if they do for the directory. */
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
	/* Inodes that the guest uses go before remembered ids. */
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
