/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/notify - from the event ring to the notification queue.
 *
 * Places waiting records into the buffers that the driver keeps posted, as many as fit into each,
 * and asks for a kick only while records wait for buffers. A driver that gives none costs the event
 * ring's memory and nothing else.
 * Owner thread: the holder of the engine's event lock.
 * Spec: virtio 1.2, "File System Device", notification queue; FUSE notifications with code 1024.
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

/* @events is borrowed; @rfc2021: in the old dialect, one event a buffer. */
int vfsd_notify_create(struct vfsd_record_ring *events, bool rfc2021, struct vfsd_notify **ret);
void vfsd_notify_destroy(struct vfsd_notify *notify);

/* Start placing; @mem and @call_fd are borrowed until the stop. 0 or vfsd_vring_init()'s -errno. */
int vfsd_notify_start(struct vfsd_notify *notify, const struct vfsd_mem *mem,
		      const struct vfsd_vring_setup *setup, int call_fd);

/* Nothing is placed afterwards. Returns the next avail index. */
uint16_t vfsd_notify_stop(struct vfsd_notify *notify);

void vfsd_notify_set_call(struct vfsd_notify *notify, int call_fd);

/* Place what waits, as far as there are buffers. -EPROTO once: the ring is broken, tell somebody. */
int vfsd_notify_flush(struct vfsd_notify *notify);

#endif
