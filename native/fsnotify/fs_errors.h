/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/fs_errors - errors of host filesystems on their way to the guest: of each filesystem the first one, and
 * how many there were until it is told. One that fails all the time costs a slot, and hides neither
 * its own first error nor any of another filesystem.
 * Owner thread: the holder of the engine's event lock.
 */
#ifndef VFSD_FSNOTIFY_FS_ERRORS_H
#define VFSD_FSNOTIFY_FS_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

enum { VFSD_FSERRORS_MAX = 64 };

struct vfsd_fserror {
	uint64_t root;	 /* node id of the filesystem's root */
	uint64_t nodeid; /* of what was at fault, as far as the guest knows it; else the root */
	int32_t error;	 /* the first one, a positive errno */
	uint64_t count;	 /* with that one; 0: an empty slot */
	bool told;	 /* one that was told before is still unread: count on */
};

struct vfsd_fserrors {
	struct vfsd_fserror at[VFSD_FSERRORS_MAX];
};

/* False: there are errors of too many filesystems. */
bool vfsd_fserrors_add(struct vfsd_fserrors *errors, const struct vfsd_fserror *error);

/* One to tell now, or NULL. vfsd_fserrors_told() when that was done. */
const struct vfsd_fserror *vfsd_fserrors_next(const struct vfsd_fserrors *errors);
void vfsd_fserrors_told(struct vfsd_fserrors *errors, const struct vfsd_fserror *error);

/* All that was told has been taken. */
void vfsd_fserrors_taken(struct vfsd_fserrors *errors);

/* Nobody is to hear of @root any more. */
void vfsd_fserrors_drop(struct vfsd_fserrors *errors, uint64_t root);

void vfsd_fserrors_clear(struct vfsd_fserrors *errors);

#endif
