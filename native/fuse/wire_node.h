/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/wire_node - inodes on the wire: names, attributes, extended attributes.
 * A part of fuse/wire.h; include that.
 */
#ifndef VFSD_FUSE_WIRE_NODE_H
#define VFSD_FUSE_WIRE_NODE_H

#include <stdint.h>

enum {
	/* fuse_setattr_in.valid */
	FATTR_MODE = 1 << 0,
	FATTR_UID = 1 << 1,
	FATTR_GID = 1 << 2,
	FATTR_SIZE = 1 << 3,
	FATTR_ATIME = 1 << 4,
	FATTR_MTIME = 1 << 5,
	FATTR_FH = 1 << 6,
	FATTR_ATIME_NOW = 1 << 7,
	FATTR_MTIME_NOW = 1 << 8,
	FATTR_LOCKOWNER = 1 << 9,
	FATTR_CTIME = 1 << 10,
	FATTR_KILL_SUIDGID = 1 << 11,

	FUSE_GETATTR_FH = 1 << 0,	      /* fuse_getattr_in.getattr_flags */
	FUSE_SETXATTR_ACL_KILL_SGID = 1 << 0, /* fuse_setxattr_in.setxattr_flags */
	FUSE_ATTR_SUBMOUNT = 1 << 0,	      /* fuse_attr.flags: a mount point */
	FUSE_ATTR_DAX = 1 << 1,
	/*
	 * With FUSE_HAS_STATX_ATTR the upper bits are STATX_ATTR_COMPRESSED, IMMUTABLE, APPEND, NODUMP,
	 * ENCRYPTED and VERITY, from the lowest: those it has, and those its filesystem knows.
	 */
	FUSE_ATTR_STATX_SHIFT = 20,
	FUSE_ATTR_STATX_KNOWN_SHIFT = 26,
};

/* A uid or gid that the guest does not send (idmapped mounts): keep our own. */
#define FUSE_INVALID_UIDGID ((uint32_t)-1)

struct fuse_attr {
	uint64_t ino;
	uint64_t size;	 /* bytes */
	uint64_t blocks; /* of 512 bytes */
	uint64_t atime;	 /* seconds since the epoch, as are the next two */
	uint64_t mtime;
	uint64_t ctime;
	uint32_t atimensec;
	uint32_t mtimensec;
	uint32_t ctimensec;
	uint32_t mode;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint32_t rdev; /* minor's low byte, 12 bits of major, minor's rest */
	uint32_t blksize;
	uint32_t flags; /* FUSE_ATTR_* */
};

struct fuse_entry_out {
	uint64_t nodeid; /* 0 in READDIRPLUS: no lookup was counted */
	uint64_t generation;
	uint64_t entry_valid; /* seconds */
	uint64_t attr_valid;
	uint32_t entry_valid_nsec;
	uint32_t attr_valid_nsec;
	struct fuse_attr attr;
};

struct fuse_forget_in {
	uint64_t nlookup;
};

struct fuse_forget_one {
	uint64_t nodeid;
	uint64_t nlookup;
};

struct fuse_batch_forget_in {
	uint32_t count; /* of fuse_forget_one that follow */
	uint32_t dummy;
};

struct fuse_getattr_in {
	uint32_t getattr_flags;
	uint32_t dummy;
	uint64_t fh;
};

struct fuse_attr_out {
	uint64_t attr_valid; /* seconds */
	uint32_t attr_valid_nsec;
	uint32_t dummy;
	struct fuse_attr attr;
};

struct fuse_setattr_in {
	uint32_t valid; /* FATTR_* */
	uint32_t padding;
	uint64_t fh;
	uint64_t size;
	uint64_t lock_owner;
	uint64_t atime;
	uint64_t mtime;
	uint64_t ctime;
	uint32_t atimensec;
	uint32_t mtimensec;
	uint32_t ctimensec;
	uint32_t mode;
	uint32_t unused4;
	uint32_t uid;
	uint32_t gid;
	uint32_t unused5;
};

struct fuse_mknod_in {
	uint32_t mode;
	uint32_t rdev;
	uint32_t umask;
	uint32_t padding;
};

struct fuse_mkdir_in {
	uint32_t mode;
	uint32_t umask;
};

struct fuse_rename_in {
	uint64_t newdir;
};

struct fuse_rename2_in {
	uint64_t newdir;
	uint32_t flags;
	uint32_t padding;
};

struct fuse_link_in {
	uint64_t oldnodeid;
};

struct fuse_kstatfs {
	uint64_t blocks;
	uint64_t bfree;
	uint64_t bavail;
	uint64_t files;
	uint64_t ffree;
	uint32_t bsize;
	uint32_t namelen;
	uint32_t frsize;
	uint32_t padding;
	uint32_t spare[6];
};

struct fuse_statfs_out {
	struct fuse_kstatfs st;
};

enum { FUSE_SETXATTR_IN_OLD_BYTES = 8 };

struct fuse_setxattr_in { /* with FUSE_SETXATTR_EXT, else only the first 8 bytes */
	uint32_t size;
	uint32_t flags;
	uint32_t setxattr_flags;
	uint32_t padding;
};

struct fuse_getxattr_in { /* GETXATTR, LISTXATTR */
	uint32_t size;
	uint32_t padding;
};

struct fuse_getxattr_out {
	uint32_t size;
	uint32_t padding;
};

struct fuse_access_in {
	uint32_t mask;
	uint32_t padding;
};

struct fuse_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct fuse_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0;
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct fuse_sx_time atime;
	struct fuse_sx_time btime;
	struct fuse_sx_time ctime;
	struct fuse_sx_time mtime;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint64_t spare2[14];
};

struct fuse_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct fuse_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct fuse_statx stat;
};

/* Extensions after the names (total_extlen): one header each, size a multiple of 8. */
struct fuse_ext_header {
	uint32_t size;
	uint32_t type; /* up to 31: that many security contexts; 32: supplementary groups */
};

enum { FUSE_MAX_NR_SECCTX = 31, FUSE_EXT_GROUPS = 32 };

struct fuse_secctx {
	uint32_t size;
	uint32_t padding;
};

struct fuse_secctx_header {
	uint32_t size;
	uint32_t nr_secctx;
};

struct fuse_supp_groups {
	uint32_t nr_groups;
	uint32_t groups[];
};

VFSD_WIRE_SIZE(fuse_attr, 88);
VFSD_WIRE_SIZE(fuse_entry_out, 128);
VFSD_WIRE_SIZE(fuse_forget_in, 8);
VFSD_WIRE_SIZE(fuse_forget_one, 16);
VFSD_WIRE_SIZE(fuse_batch_forget_in, 8);
VFSD_WIRE_SIZE(fuse_getattr_in, 16);
VFSD_WIRE_SIZE(fuse_attr_out, 104);
VFSD_WIRE_SIZE(fuse_setattr_in, 88);
VFSD_WIRE_SIZE(fuse_mknod_in, 16);
VFSD_WIRE_SIZE(fuse_mkdir_in, 8);
VFSD_WIRE_SIZE(fuse_rename_in, 8);
VFSD_WIRE_SIZE(fuse_rename2_in, 16);
VFSD_WIRE_SIZE(fuse_link_in, 8);
VFSD_WIRE_SIZE(fuse_kstatfs, 80);
VFSD_WIRE_SIZE(fuse_statfs_out, 80);
VFSD_WIRE_SIZE(fuse_setxattr_in, 16);
VFSD_WIRE_SIZE(fuse_getxattr_in, 8);
VFSD_WIRE_SIZE(fuse_getxattr_out, 8);
VFSD_WIRE_SIZE(fuse_access_in, 8);
VFSD_WIRE_SIZE(fuse_sx_time, 16);
VFSD_WIRE_SIZE(fuse_statx, 256);
VFSD_WIRE_SIZE(fuse_statx_in, 24);
VFSD_WIRE_SIZE(fuse_statx_out, 288);
VFSD_WIRE_SIZE(fuse_ext_header, 8);
VFSD_WIRE_SIZE(fuse_secctx, 8);
VFSD_WIRE_SIZE(fuse_secctx_header, 8);
VFSD_WIRE_SIZE(fuse_supp_groups, 4);

#endif
