/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/wire_fsnotify - the FSNOTIFY extension on the wire, docs/protocol.md.
 * A part of fuse/wire.h; include that.
 */
#ifndef VFSD_FUSE_WIRE_FSNOTIFY_H
#define VFSD_FUSE_WIRE_FSNOTIFY_H

#include <stdint.h>

enum {
	FUSE_FSNOTIFY_SB = 1 << 0,  /* fuse_fsnotify_in.flags: the whole filesystem */
	FUSE_FSN_UNLINKED = 1 << 0, /* fuse_notify_fsnotify_out.flags: no links left */
	FUSE_FSN_PARENT_ONLY = 1 << 1,
	FUSE_FSN_UNNAMED = 1 << 2,     /* by a name that was gone: not for IN_EXCL_UNLINK */
	FUSE_FSN_UNKNOWN_DIR = 1 << 3, /* nodeid: a directory that the guest may not know */
};

/*
 * FUSE_FSNOTIFY: the absolute aggregate of the guest's interest in an inode; 0 unsubscribes. With
 * IN_EXCL_UNLINK in it some watch wants events without FUSE_FSN_UNNAMED only.
 */
struct fuse_fsnotify_in {
	uint64_t mask;
	uint32_t flags; /* FUSE_FSNOTIFY_SB */
	uint32_t padding;
};

/*
 * FUSE_NOTIFY_FSNOTIFY: one or more of these follow the fuse_out_header (whose unique is 0 and
 * whose len covers them all), each 8-byte aligned.
 */
struct fuse_notify_fsnotify_out {
	uint64_t nodeid; /* the directory if there is a name (0: has left since), else the object */
	uint64_t child;	 /* the object called name, 0: the guest never looked it up */
	uint64_t mask;	 /* FS_*, IN_*, FAN_* bit values, FS_ISDIR */
	uint32_t generation; /* of nodeid: low 32 bits of fuse_entry_out.generation */
	uint32_t child_generation;
	uint32_t flags;	  /* FUSE_FSN_* */
	uint32_t cookie;  /* pairs MOVED_FROM and MOVED_TO, 0: none */
	int32_t error;	  /* for FS_ERROR */
	uint32_t namelen; /* without the NUL */
	char name[];	  /* if namelen: name, NUL, zeros up to a multiple of 8 */
};

VFSD_WIRE_SIZE(fuse_fsnotify_in, 16);
VFSD_WIRE_SIZE(fuse_notify_fsnotify_out, 48);

#endif
