/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/fs_mark - filesystem marks: the host's marks for them, and which of all the events of
 * a host filesystem are for the guest.
 *
 * A FAN_MARK_FILESYSTEM reports what is done anywhere on a filesystem of the host; the share is often
 * a part of it. An event belongs to the directory in which, or by a name in which, something was done:
 * it is reported if that directory was below a subscribed root when it happened. A directory that the
 * guest does not know gets a node id (fs_mark_nodes.h), so that the guest can open a file handle with
 * that id. One that was below the root then and is outside by now gets none, and is reported without an id.
 * Events in a directory that was removed before anybody could see where it is, and that the guest
 * does not know, are not reported. Nor are events that are still in the host's queue when the last
 * mark was taken away.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_FS_MARK_H
#define VFSD_SOURCE_FANOTIFY_FS_MARK_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_fan_batch;
struct vfsd_file_handle;
struct vfsd_fs_mark;
struct vfsd_inode;
struct vfsd_source_config;

/*
 * @group: the fanotify group; @batch: what is read of it, borrowed. 0 or -errno: -EPERM where the host
 * lets the daemon watch single inodes only (CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH, Linux 5.17).
 */
int vfsd_fs_mark_create(const struct vfsd_source_config *config, int group,
			struct vfsd_fan_batch *batch, struct vfsd_fs_mark **ret);
void vfsd_fs_mark_destroy(struct vfsd_fs_mark *mark);

/*
 * Watch the filesystem whose root for the guest is @root for @mask, FAN_* bits that the host can report
 * (0: no more, which never fails). 0 or -errno: then as before.
 */
int vfsd_fs_mark_watch(struct vfsd_fs_mark *mark, const struct vfsd_inode *root, uint64_t mask);

/* Give up the node ids of fs_mark_nodes.h. */
void vfsd_fs_mark_release_nodes(struct vfsd_fs_mark *mark);

/* Is anything watched? */
bool vfsd_fs_mark_active(const struct vfsd_fs_mark *mark);

/* The roots of what is watched of a host filesystem: that of number @nth (0, 1, ...), or 0. */
uint64_t vfsd_fs_mark_root(const struct vfsd_fs_mark *mark, uint64_t fsid, uint32_t nth);

/*
 * Which directory is @handle to the guest? Transient reference; NULL: none, and its events are not for
 * the guest. *unknown: the guest does not know it by itself; *left: nor must it get its id, for the directory
 * is outside by now.
 */
struct vfsd_inode *vfsd_fs_mark_find_dir(struct vfsd_fs_mark *mark,
					 const struct vfsd_file_handle *handle, bool *unknown,
					 bool *left);

/* A batch is to be processed: directories may have been renamed across the border since. */
void vfsd_fs_mark_begin(struct vfsd_fs_mark *mark);
/* Event @i of the batch is processed next. */
void vfsd_fs_mark_enter(struct vfsd_fs_mark *mark, uint32_t i);
/*
 * The batch is processed. True: some of its events were not reported because nobody could say where
 * they happened.
 */
bool vfsd_fs_mark_end(struct vfsd_fs_mark *mark);

#endif
