/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/fs_errors.h"

#include <string.h>

bool vfsd_fserrors_add(struct vfsd_fserrors *errors, const struct vfsd_fserror *error)
{
	struct vfsd_fserror *slot = NULL;

	for (uint32_t i = 0; i < VFSD_FSERRORS_MAX; i++) {
		struct vfsd_fserror *at = &errors->at[i];

		if (at->root == error->root) {
			slot = at;
			break;
		}
		if (!slot && at->count == 0 && !at->told)
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

const struct vfsd_fserror *vfsd_fserrors_next(const struct vfsd_fserrors *errors)
{
	for (uint32_t i = 0; i < VFSD_FSERRORS_MAX; i++)
		if (errors->at[i].count > 0 && !errors->at[i].told)
			return &errors->at[i];
	return NULL;
}

void vfsd_fserrors_told(struct vfsd_fserrors *errors, const struct vfsd_fserror *error)
{
	struct vfsd_fserror *slot = &errors->at[error - errors->at];

	slot->count = 0;
	slot->told = true;
}

void vfsd_fserrors_taken(struct vfsd_fserrors *errors)
{
	for (uint32_t i = 0; i < VFSD_FSERRORS_MAX; i++)
		errors->at[i].told = false;
}

void vfsd_fserrors_drop(struct vfsd_fserrors *errors, uint64_t root)
{
	for (uint32_t i = 0; i < VFSD_FSERRORS_MAX; i++)
		if (errors->at[i].root == root)
			errors->at[i] = (struct vfsd_fserror){0};
}

void vfsd_fserrors_clear(struct vfsd_fserrors *errors)
{
	memset(errors, 0, sizeof(*errors));
}
