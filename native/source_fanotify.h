/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source_fanotify - host events by fanotify inode marks (Linux 5.13 unprivileged, no capability).
 *
 * The group reports file handles and names (FAN_REPORT_FID | FAN_REPORT_DFID_NAME) and the pid that
 * acted: ours is an echo, which the guest's own VFS has reported already. Without privilege the
 * kernel shows other pids as 0, which is all that is needed.
 * Renames come as FAN_RENAME (Linux 5.17), both halves in one event, else as two halves that are
 * paired here.
 * Owner thread: the holder of the engine's event lock, but vfsd_source_fanotify_fd() may be polled
 * by anybody.
 */
#ifndef VFSD_SOURCE_FANOTIFY_H
#define VFSD_SOURCE_FANOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "source.h"

struct vfsd_inode;
struct vfsd_inodes;
struct vfsd_source_fanotify;

struct vfsd_source_fanotify_config {
	struct vfsd_inodes *inodes; /* borrowed */
	int proc_self_fd;	    /* borrowed */
	uint32_t max_watches;	    /* 0: as many as the host allows */
};

/* 0 or -errno (-ENOSYS, -EPERM: no usable fanotify). Also tries one mark on the share's root. */
int vfsd_source_fanotify_create(const struct vfsd_source_fanotify_config *config,
				struct vfsd_source_fanotify **ret);
void vfsd_source_fanotify_destroy(struct vfsd_source_fanotify *source);

/* Readable when events wait. */
int vfsd_source_fanotify_fd(const struct vfsd_source_fanotify *source);

/*
 * The union of all interest in @inode goes from @old_mask to @new_mask (FS_* bits as a guest sends
 * them; 0: none). Growth is in force when this returns. 0 or -errno; on error the host watch still
 * carries @old_mask. -ENOSPC: the limit of watches.
 */
int vfsd_source_fanotify_watch(struct vfsd_source_fanotify *source, struct vfsd_inode *inode,
			       uint32_t old_mask, uint32_t new_mask);

/*
 * Read everything the host holds now. fsnotify queues synchronously, so every event of an operation
 * that has returned is told to @sink before this returns.
 */
void vfsd_source_fanotify_drain(struct vfsd_source_fanotify *source,
				const struct vfsd_source_sink *sink);

/* The event bits of @mask one by one, in the order in which one operation raises them. */
uint32_t vfsd_source_next_bit(uint32_t *mask);

#endif
