/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/fs_errors.h"

#include <string.h>

bool vfsd_fs_errors_add(struct vfsd_fs_errors *errors, const struct vfsd_fs_error *error)
{
	struct vfsd_fs_error *slot = NULL;

	for (uint32_t i = 0; i < VFSD_FS_ERRORS_MAX; i++) {
		struct vfsd_fs_error *at = &errors->at[i];

		if (at->root == error->root) {
			slot = at;
			break;
		}
		if (!slot && at->count == 0 && !at->delivered)
			slot = at;
	}
	if (!slot)
		return false;
	if (slot->count > 0) {
		slot->count += error->count;
		return true;
	}
	slot->root = error->root;
	slot->nodeid = error->nodeid;
	slot->error = error->error;
	slot->count = error->count;
	return true;
}

const struct vfsd_fs_error *vfsd_fs_errors_next(const struct vfsd_fs_errors *errors)
{
	for (uint32_t i = 0; i < VFSD_FS_ERRORS_MAX; i++)
		if (errors->at[i].count > 0 && !errors->at[i].delivered)
			return &errors->at[i];
	return NULL;
}

void vfsd_fs_errors_delivered(struct vfsd_fs_errors *errors, const struct vfsd_fs_error *error)
{
	struct vfsd_fs_error *slot = &errors->at[error - errors->at];

	slot->count = 0;
	slot->delivered = true;
}

void vfsd_fs_errors_taken(struct vfsd_fs_errors *errors)
{
	for (uint32_t i = 0; i < VFSD_FS_ERRORS_MAX; i++)
		errors->at[i].delivered = false;
}

void vfsd_fs_errors_drop(struct vfsd_fs_errors *errors, uint64_t root)
{
	for (uint32_t i = 0; i < VFSD_FS_ERRORS_MAX; i++)
		if (errors->at[i].root == root)
			errors->at[i] = (struct vfsd_fs_error){0};
}

void vfsd_fs_errors_clear(struct vfsd_fs_errors *errors)
{
	memset(errors, 0, sizeof(*errors));
}
