/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio/dirty_log - which pages of the guest the device has written to, for a migration under way.
 *
 * A bitmap in memory that the front-end shares, a bit for each 4 KiB of guest-physical memory; the
 * front-end takes bits away while we set them. A page is marked after it was written: the front-end
 * may copy it as soon as it has taken the bit.
 * Owner thread: made, destroyed and put into rings by the control thread while they are stopped; any queue
 * thread marks.
 * Spec: vhost-user, "Migration", "Log description".
 */
#ifndef VFSD_VIRTIO_DIRTY_LOG_H
#define VFSD_VIRTIO_DIRTY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct vfsd_dirtylog;
struct vfsd_mem;

enum { VFSD_DIRTYLOG_PAGE_BYTES = 4096 };

/*
 * Map @bytes > 0 of @fd (consumed, also on error) from @offset on. -EINVAL: no regular file (memfd,
 * shm), or shorter than that; else the system call's -errno.
 */
int vfsd_dirtylog_create(int fd, uint64_t bytes, uint64_t offset, struct vfsd_dirtylog **ret);
void vfsd_dirtylog_destroy(struct vfsd_dirtylog *log);

/* Has every page of @mem (NULL: no memory) its bit? */
bool vfsd_dirtylog_covers(const struct vfsd_dirtylog *log, const struct vfsd_mem *mem);

/* Write to @fd (an eventfd, borrowed; -1: none) in vfsd_dirtylog_signal(). */
void vfsd_dirtylog_set_signal(struct vfsd_dirtylog *log, int fd);
void vfsd_dirtylog_signal(const struct vfsd_dirtylog *log);

/* Mark the pages of @bytes at guest-physical @gpa. What the log has no bit for is left out. */
void vfsd_dirtylog_mark(struct vfsd_dirtylog *log, uint64_t gpa, uint64_t bytes);

/* The same for pieces of @mem as they are mapped here. */
void vfsd_dirtylog_mark_iov(struct vfsd_dirtylog *log, const struct vfsd_mem *mem,
			    const struct iovec *iov, uint32_t n);

#endif
