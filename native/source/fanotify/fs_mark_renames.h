/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/fs_mark_renames - which directories the renames in a batch have moved.
 *
 * A rename is reported with where it was from and to, not with what was moved: that is what is found
 * now where the last of the renames that follow each other has left it. Not so if two directories were
 * exchanged, which is reported as two renames like there and back; nor if the host has merged a rename
 * into one that was the same, so that it is missing at its place. Whatever may have been moved so is
 * in doubt.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_FS_MARK_RENAMES_H
#define VFSD_SOURCE_FANOTIFY_FS_MARK_RENAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "source/fanotify/subtree.h"
#include "source/fanotify/decode.h"

struct vfsd_inodes;

/* A directory that was renamed, by an event in the batch. */
struct vfsd_fs_mark_rename {
	const struct vfsd_fan_event *event; /* borrowed from the batch */
	enum vfsd_side side;		    /* of where it was; and of where it came to, unless */
	bool crosses;			    /* the border */
};

struct vfsd_fs_mark_renames {
	uint32_t count;
	struct vfsd_fs_mark_rename *at; /* in the order in which they were read */
};

/* The handle of what rename @i moved; bytes 0: it is not found. */
void vfsd_fs_mark_renames_identify(const struct vfsd_fs_mark_renames *renames,
				   struct vfsd_inodes *inodes, uint32_t i,
				   struct vfsd_file_handle *ret);

/* Mark in @subtree what is in doubt. Returns whether anything is. */
bool vfsd_fs_mark_renames_doubt(const struct vfsd_fs_mark_renames *renames,
				struct vfsd_inodes *inodes, struct vfsd_subtree *subtree);

#endif
