/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/fs_mark - subscriptions to whole filesystems: the host's marks for them, and which of all the events
 * of a host filesystem are a guest's business.
 *
 * A mark on a filesystem of the host reports what is done anywhere on it, the share is often a part of
 * it. An event belongs to the directory in which, or by a name in which, something was done: it is told
 * if that directory was below a subscribed root when it happened. A directory that the guest does not
 * know gets a node id, kept for the guest until VFSD_WHOLE_KEPT others are told of, so that a file
 * handle with that id can be opened. One that was below the root then, and is not any more when that is
 * told, gets none: it is told of without an id. Nothing is told of a directory that was gone before
 * anybody could see where it is, and that the guest does not know.
 * When nothing is watched any more there may still be events in the host's queue: none is told.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_FS_MARK_H
#define VFSD_SOURCE_FANOTIFY_FS_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vfsd_batch;
struct vfsd_fan_event;
struct vfsd_file_handle;
struct vfsd_inode;
struct vfsd_inodes;
struct vfsd_source_config;
struct vfsd_whole;

enum { VFSD_WHOLE_KEPT = 1024 };

/*
 * @group: the fanotify group; @batch: what is read of it, borrowed. 0 or -errno: -EPERM where the host
 * does not let us watch more than single inodes (CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH, Linux 5.17).
 */
int vfsd_whole_create(const struct vfsd_source_config *config, int group, struct vfsd_batch *batch,
		      struct vfsd_whole **ret);
void vfsd_whole_destroy(struct vfsd_whole *whole);

/*
 * Watch the filesystem whose root for the guest is @root for @mask, FAN_* bits that the host can tell
 * (0: no more, which never fails). 0 or -errno: then as before.
 */
int vfsd_whole_watch(struct vfsd_whole *whole, const struct vfsd_inode *root, uint64_t mask);

/* Keep no more node ids. */
void vfsd_whole_let_go(struct vfsd_whole *whole);

/* Is anything watched? */
bool vfsd_whole_active(const struct vfsd_whole *whole);

/* The roots of what is watched of a host filesystem: that of number @nth (0, 1, ...), or 0. */
uint64_t vfsd_whole_root(const struct vfsd_whole *whole, uint64_t fsid, uint32_t nth);

/*
 * Which directory is @handle to the guest? Transient reference; NULL: none, the guest must not hear of
 * it. *unknown: the guest does not know it by itself; *left: nor must it get its id, for the directory
 * is outside by now.
 */
struct vfsd_inode *vfsd_whole_find_dir(struct vfsd_whole *whole,
				       const struct vfsd_file_handle *handle, bool *unknown,
				       bool *left);

/* The batch is to be worked off: directories may have been renamed across the border since. */
void vfsd_whole_begin(struct vfsd_whole *whole);
/* @event is what is worked off next, batch.at is behind it. */
void vfsd_whole_enter(struct vfsd_whole *whole, const struct vfsd_fan_event *event);
/*
 * The batch is worked off. True: some of its events were not told because nobody could say where they
 * happened.
 */
bool vfsd_whole_end(struct vfsd_whole *whole);

#endif
