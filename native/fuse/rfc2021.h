/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/rfc2021 - what a kernel built from the series of October 2021 asks for
 * (--fsnotify-dialect=rfc2021).
 *
 * Such a guest reports each watch of each of its inotify instances (its groups). Its opcode and INIT
 * bit mean other things in today's protocol: which dialect a guest speaks is an option, never a guess.
 * What it is sent is in fsnotify/rfc2021.h.
 * No state. Any thread.
 * Spec: "[RFC PATCH 0/7] Inotify support in FUSE and virtiofs", linux-fsdevel, 25 October 2021.
 */
#ifndef VFSD_FUSE_RFC2021_H
#define VFSD_FUSE_RFC2021_H

#include <stdint.h>

struct vfsd_fuse_interest;

enum { VFSD_RFC2021_OPCODE = 51 /* FUSE_FSNOTIFY; FUSE_TMPFILE today */ };

/* INIT flag FUSE_HAVE_FSNOTIFY; FUSE_INIT_EXT today. */
#define VFSD_RFC2021_HAVE_FSNOTIFY (1ULL << 30)

/* fuse_notify_fsnotify_in: the body of the request. */
struct vfsd_rfc2021_in {
	uint64_t mask;	 /* IN_*, as inotify_add_watch(2) got it */
	uint64_t group;	 /* which inotify instance: a number that only the guest can read */
	uint32_t action; /* 0: remove; 1: add or modify */
	uint32_t padding;
};

/*
 * What a request asks for; *ret's owner is the group. 0, or -EINVAL: an unknown action, or a mask
 * that inotify_add_watch(2) would not take.
 */
int vfsd_rfc2021_decode(const struct vfsd_rfc2021_in *in, struct vfsd_fuse_interest *ret);

#endif
