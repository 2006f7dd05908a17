/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rfc2021 - the dialect of remote fsnotify that kernels built from the series of October 2021 speak
 * (--fsnotify-dialect=rfc2021).
 *
 * Such a guest tells each watch of each of its inotify instances (its groups), suppresses every
 * local event, and takes one event a buffer, which it hands to all its watches of that inode: so
 * we tell everybody's doing, once for all groups. Its opcode and INIT bit mean other things in
 * today's protocol: which dialect a guest speaks is an option, never a guess.
 * No state: translation between the old bytes and the rooms' own terms. Any thread.
 * Spec: "[RFC PATCH 0/7] Inotify support in FUSE and virtiofs", linux-fsdevel, 25 October 2021.
 */
#ifndef VFSD_FSNOTIFY_RFC2021_H
#define VFSD_FSNOTIFY_RFC2021_H

#include <stdint.h>

struct vfsd_fuse_interest;
struct vfsd_record;
struct vfsd_source_event;

enum {
	VFSD_RFC2021_OPCODE = 51, /* FUSE_FSNOTIFY; FUSE_TMPFILE today */
	VFSD_RFC2021_NOTIFY = 8,  /* FUSE_NOTIFY_FSNOTIFY */
	/* fuse_out_header, fuse_notify_fsnotify_out, 255-byte name with its NUL. */
	VFSD_RFC2021_BYTES_MAX = 16 + 24 + 256,
};

/* INIT flag FUSE_HAVE_FSNOTIFY; FUSE_INIT_EXT today. */
#define VFSD_RFC2021_HAVE_FSNOTIFY (1ULL << 30)

/* fuse_notify_fsnotify_in: the body of the request. */
struct vfsd_rfc2021_in {
	uint64_t mask;	 /* IN_*, as inotify_add_watch(2) got it */
	uint64_t group;	 /* which inotify instance: a number that only the guest can read */
	uint32_t action; /* 0: remove; 1: add or modify */
	uint32_t padding;
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
 * What a request asks for; *ret's owner is the group. 0, or -EINVAL: an unknown action, or a mask
 * that inotify_add_watch(2) would not take.
 */
int vfsd_rfc2021_decode(const struct vfsd_rfc2021_in *in, struct vfsd_fuse_interest *ret);

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
