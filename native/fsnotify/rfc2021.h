/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/rfc2021 - events for kernels built from the series of October 2021 (--fsnotify-dialect=rfc2021);
 * what they ask for is in fuse/rfc2021.h.
 *
 * Such a guest suppresses all of its own events, and takes one event a buffer for all its watches of that
 * inode. So the daemon reports what everybody does, the guest included, once for all groups. No state: this
 * translates records into the old format. Any thread. Spec: "[RFC PATCH 0/7] Inotify support in FUSE and
 * virtiofs", linux-fsdevel, 25 October 2021.
 */
#ifndef VFSD_FSNOTIFY_RFC2021_H
#define VFSD_FSNOTIFY_RFC2021_H

#include <stdint.h>

struct vfsd_record;
struct vfsd_source_event;

enum {
	VFSD_RFC2021_NOTIFY = 8, /* FUSE_NOTIFY_FSNOTIFY */
	/* fuse_out_header, fuse_notify_fsnotify_out, 255-byte name with its NUL. */
	VFSD_RFC2021_BYTES_MAX = 16 + 24 + 256,
};

/* fuse_notify_fsnotify_out: follows the fuse_out_header of a notification. */
struct vfsd_rfc2021_out {
	uint64_t inode;
	uint64_t mask;
	uint32_t namelen; /* with its padding */
	uint32_t cookie;
	char name[]; /* if namelen: name and at least one NUL, up to a multiple of 16 */
};

/*
 * Split @event into the events for such a guest, at most two, into @ret: the end of an object becomes a
 * separate DELETE_SELF. @interest is the union of the masks of event->nodeid; other bits are not sent.
 * Returns how many events there are.
 */
uint32_t vfsd_rfc2021_split(const struct vfsd_source_event *event, uint32_t interest,
			    struct vfsd_source_event *ret);

/*
 * Encode @record, an FSNOTIFY or LOSS record, as a notification with its header into @message, which has
 * VFSD_RFC2021_BYTES_MAX bytes. Returns its length.
 */
uint32_t vfsd_rfc2021_encode(const struct vfsd_record *record, uint8_t *message);

#endif
