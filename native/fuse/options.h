/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/options - what a command line says that acts in this folder: part of vfsd_engine_config. cffi reads
 * this file too, so it holds plain declarations and include lines only.
 * Constant once the engine has been made.
 */
#ifndef VFSD_FUSE_OPTIONS_H
#define VFSD_FUSE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum vfsd_cache { VFSD_CACHE_AUTO, VFSD_CACHE_ALWAYS, VFSD_CACHE_METADATA, VFSD_CACHE_NEVER };

typedef struct vfsd_fuse_options {
	enum vfsd_cache cache;
	bool readdirplus;
	bool writeback;
	bool readonly;
	bool allow_direct_io;
	bool preserve_noatime;
	bool announce_submounts;
	bool allow_mmap;     /* shared mappings of files that are not cached */
	bool killpriv_v2;    /* the guest leaves it to us to end set-id bits */
	bool xattr;	     /* else ENOSYS */
	bool posix_acl;	     /* only with xattr, as the next */
	bool security_label; /* new inodes get the label that the guest sends */
} vfsd_fuse_options;

/* xattr_map.h */
enum vfsd_xattr_type {
	VFSD_XATTR_PREFIX,	/* the guest's "key..." is the host's "prependkey..." */
	VFSD_XATTR_OK,		/* the same name on both sides */
	VFSD_XATTR_BAD,		/* -EPERM, and hidden */
	VFSD_XATTR_UNSUPPORTED, /* -ENOTSUP, and hidden */
};

enum vfsd_xattr_scope {
	VFSD_XATTR_CLIENT = 1,
	VFSD_XATTR_SERVER = 2,
	VFSD_XATTR_ALL = 3,
};

typedef struct vfsd_xattr_rule {
	enum vfsd_xattr_type type;
	enum vfsd_xattr_scope scope;
	const char *key;
	const char *prepend;
} vfsd_xattr_rule;

/* id_map.h */
enum vfsd_id_effect {
	VFSD_ID_SHIFT,	/* first + n becomes to + n */
	VFSD_ID_SQUASH, /* all become to */
	VFSD_ID_FORBID, /* -EPERM */
};

typedef struct vfsd_id_range {
	uint32_t first;
	uint32_t count;
	uint32_t to;
	enum vfsd_id_effect effect;
} vfsd_id_range;

/* Which table of ranges. */
enum vfsd_id_way {
	VFSD_UID_TO_HOST,
	VFSD_UID_TO_GUEST,
	VFSD_GID_TO_HOST,
	VFSD_GID_TO_GUEST,
	VFSD_ID_WAYS = 4,
};

#endif
