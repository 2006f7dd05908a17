/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/rfc2021 - events for kernels built from the series of October 2021 (--fsnotify-dialect=rfc2021);
 * what they ask for is in fuse/rfc2021.h.
 *
 * Such a guest suppresses every local event and takes one event a buffer, which it hands to all its
 * watches of that inode: so the daemon reports what everybody does, once for all groups.
 * No state: translation of records into the old bytes. Any thread.
 * Spec: "[RFC PATCH 0/7] Inotify support in FUSE and virtiofs", linux-fsdevel, 25 October 2021.
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
 * The events that such a guest is to hear for @event: at most two, into @ret, as it knows the end
 * of an object by DELETE_SELF only. @interest: the union of the masks for event->nodeid, beyond
 * which nothing is told. Returns how many.
 */
uint32_t vfsd_rfc2021_split(const struct vfsd_source_event *event, uint32_t interest,
			    struct vfsd_source_event *ret);

/*
 * A whole notification with @record, an FSNOTIFY or LOSS record of the event ring, in @message of
 * VFSD_RFC2021_BYTES_MAX bytes. Returns its length.
 */
uint32_t vfsd_rfc2021_encode(const struct vfsd_record *record, uint8_t *message);

#endif
