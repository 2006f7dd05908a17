/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/notify - from the record ring to the notification queue.
 *
 * Puts records into the buffers that the driver keeps posted, as many as fit into each, and asks for a kick
 * only while records wait for buffers. A driver that posts no buffers costs the memory of the record ring and
 * nothing else. Owner thread: the holder of the event lock. Spec: virtio 1.2, "File System Device",
 * notification queue; FUSE notifications with code 1024.
 */
#ifndef VFSD_FSNOTIFY_NOTIFY_H
#define VFSD_FSNOTIFY_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_record_ring;
struct vfsd_mem;
struct vfsd_notify;
struct vfsd_vring_setup;

enum {
	/* Header, record, 255-byte name and NUL: no buffer may be smaller. */
	VFSD_NOTIFY_BYTES_MIN = 16 + 48 + 256,
	/* What the configuration space asks the driver for (notify_buf_size). */
	VFSD_NOTIFY_BYTES_OFFERED = 512,
};

/* @records is borrowed. @rfc2021: the dialect of 2021, one event a buffer. 0 or -ENOMEM. */
int vfsd_notify_create(struct vfsd_record_ring *records, bool rfc2021, struct vfsd_notify **ret);
void vfsd_notify_destroy(struct vfsd_notify *notify);

/* Start the queue; @mem and @call_fd are borrowed until the stop. 0 or vfsd_vring_init()'s -errno. */
int vfsd_notify_start(struct vfsd_notify *notify, const struct vfsd_mem *mem,
		      const struct vfsd_vring_setup *setup, int call_fd);

/* Stop the queue. Returns the next avail index. */
uint16_t vfsd_notify_stop(struct vfsd_notify *notify);

void vfsd_notify_set_call(struct vfsd_notify *notify, int call_fd);

/* Put records into buffers as far as there are both. 0; -EPROTO, once: the driver's ring is broken. */
int vfsd_notify_flush(struct vfsd_notify *notify);

#endif
