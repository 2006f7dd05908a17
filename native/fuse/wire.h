/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/wire - the bytes of FUSE as they travel over virtio-fs: opcodes, flags, fixed structs.
 *
 * Structs and constants keep the protocol's own names so that they can be found in any other
 * implementation. All fields are in the guest's native byte order, which virtio-fs requires to be
 * the host's. Names of variable length follow the fixed part of a request, each with its NUL.
 * Here are the opcodes, the headers and INIT; the rest is in fuse/wire_*.h, which come with this.
 * No state, no functions but sizes.
 * Spec: FUSE protocol 7.41 (served from 7.27 on); the FSNOTIFY extension: docs/protocol.md.
 */
#ifndef VFSD_FUSE_WIRE_H
#define VFSD_FUSE_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
	FUSE_KERNEL_VERSION = 7,
	FUSE_KERNEL_MINOR_VERSION = 41,
	FUSE_ROOT_ID = 1,
};

enum fuse_opcode {
	FUSE_LOOKUP = 1,
	FUSE_FORGET = 2, /* no reply */
	FUSE_GETATTR = 3,
	FUSE_SETATTR = 4,
	FUSE_READLINK = 5,
	FUSE_SYMLINK = 6,
	FUSE_MKNOD = 8,
	FUSE_MKDIR = 9,
	FUSE_UNLINK = 10,
	FUSE_RMDIR = 11,
	FUSE_RENAME = 12,
	FUSE_LINK = 13,
	FUSE_OPEN = 14,
	FUSE_READ = 15,
	FUSE_WRITE = 16,
	FUSE_STATFS = 17,
	FUSE_RELEASE = 18,
	FUSE_FSYNC = 20,
	FUSE_SETXATTR = 21,
	FUSE_GETXATTR = 22,
	FUSE_LISTXATTR = 23,
	FUSE_REMOVEXATTR = 24,
	FUSE_FLUSH = 25,
	FUSE_INIT = 26,
	FUSE_OPENDIR = 27,
	FUSE_READDIR = 28,
	FUSE_RELEASEDIR = 29,
	FUSE_FSYNCDIR = 30,
	FUSE_GETLK = 31,
	FUSE_SETLK = 32,
	FUSE_SETLKW = 33,
	FUSE_ACCESS = 34,
	FUSE_CREATE = 35,
	FUSE_INTERRUPT = 36,
	FUSE_BMAP = 37,
	FUSE_DESTROY = 38,
	FUSE_IOCTL = 39,
	FUSE_POLL = 40,
	FUSE_NOTIFY_REPLY = 41,
	FUSE_BATCH_FORGET = 42, /* no reply */
	FUSE_FALLOCATE = 43,
	FUSE_READDIRPLUS = 44,
	FUSE_RENAME2 = 45,
	FUSE_LSEEK = 46,
	FUSE_COPY_FILE_RANGE = 47,
	FUSE_SETUPMAPPING = 48,
	FUSE_REMOVEMAPPING = 49,
	FUSE_SYNCFS = 50,
	FUSE_TMPFILE = 51,
	FUSE_STATX = 52,
	FUSE_COPY_FILE_RANGE_64 = 53, /* 7.45 */
	FUSE_OPCODES,		      /* one past the upstream range */

	FUSE_FSNOTIFY = 3072, /* provisional: our extension */
	FUSE_HOLD = 3074, /* likewise: the guest uses this node, and is about to remove its name */
};

enum fuse_notify_code {
	FUSE_NOTIFY_POLL = 1,
	FUSE_NOTIFY_INVAL_INODE = 2,
	FUSE_NOTIFY_INVAL_ENTRY = 3,
	FUSE_NOTIFY_STORE = 4,
	FUSE_NOTIFY_RETRIEVE = 5,
	FUSE_NOTIFY_DELETE = 6,
	FUSE_NOTIFY_RESEND = 7,

	FUSE_NOTIFY_FSNOTIFY = 1024, /* provisional: our extension */
};

/* INIT flags: low 32 bits in flags, the rest in flags2 (needs FUSE_INIT_EXT). */
#define FUSE_ASYNC_READ (1ULL << 0)
#define FUSE_POSIX_LOCKS (1ULL << 1)
#define FUSE_FILE_OPS (1ULL << 2)
#define FUSE_ATOMIC_O_TRUNC (1ULL << 3)
#define FUSE_EXPORT_SUPPORT (1ULL << 4)
#define FUSE_BIG_WRITES (1ULL << 5)
#define FUSE_DONT_MASK (1ULL << 6)
#define FUSE_SPLICE_WRITE (1ULL << 7)
#define FUSE_SPLICE_MOVE (1ULL << 8)
#define FUSE_SPLICE_READ (1ULL << 9)
#define FUSE_FLOCK_LOCKS (1ULL << 10)
#define FUSE_HAS_IOCTL_DIR (1ULL << 11)
#define FUSE_AUTO_INVAL_DATA (1ULL << 12)
#define FUSE_DO_READDIRPLUS (1ULL << 13)
#define FUSE_READDIRPLUS_AUTO (1ULL << 14)
#define FUSE_ASYNC_DIO (1ULL << 15)
#define FUSE_WRITEBACK_CACHE (1ULL << 16)
#define FUSE_NO_OPEN_SUPPORT (1ULL << 17)
#define FUSE_PARALLEL_DIROPS (1ULL << 18)
#define FUSE_HANDLE_KILLPRIV (1ULL << 19)
#define FUSE_POSIX_ACL (1ULL << 20)
#define FUSE_ABORT_ERROR (1ULL << 21)
#define FUSE_MAX_PAGES (1ULL << 22)
#define FUSE_CACHE_SYMLINKS (1ULL << 23)
#define FUSE_NO_OPENDIR_SUPPORT (1ULL << 24)
#define FUSE_EXPLICIT_INVAL_DATA (1ULL << 25)
#define FUSE_MAP_ALIGNMENT (1ULL << 26)
#define FUSE_SUBMOUNTS (1ULL << 27)
#define FUSE_HANDLE_KILLPRIV_V2 (1ULL << 28)
#define FUSE_SETXATTR_EXT (1ULL << 29)
#define FUSE_INIT_EXT (1ULL << 30)
#define FUSE_SECURITY_CTX (1ULL << 32)
#define FUSE_HAS_INODE_DAX (1ULL << 33)
#define FUSE_CREATE_SUPP_GROUP (1ULL << 34)
#define FUSE_HAS_EXPIRE_ONLY (1ULL << 35)
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#define FUSE_PASSTHROUGH (1ULL << 37)
#define FUSE_NO_EXPORT_SUPPORT (1ULL << 38)
#define FUSE_HAS_RESEND (1ULL << 39)
#define FUSE_ALLOW_IDMAP (1ULL << 40)
#define FUSE_HAS_STATX_ATTR (1ULL << 58) /* provisional: our extension */
#define FUSE_HAS_HOLD (1ULL << 59)	 /* provisional: our extension */
#define FUSE_HAS_FSNOTIFY (1ULL << 60)	 /* provisional: our extension */

struct fuse_in_header {
	uint32_t len; /* of the request, this header included */
	uint32_t opcode;
	uint64_t unique;
	uint64_t nodeid;
	uint32_t uid;
	uint32_t gid;
	uint32_t pid;
	uint16_t total_extlen; /* extensions after the names, in units of 8 bytes */
	uint16_t padding;
};

struct fuse_out_header {
	uint32_t len;  /* of the reply, this header included */
	int32_t error; /* 0 or -errno; a notify code when unique is 0 */
	uint64_t unique;
};

struct fuse_init_in {
	uint32_t major;
	uint32_t minor;
	uint32_t max_readahead;
	uint32_t flags;
	/* From here on only with FUSE_INIT_EXT. */
	uint32_t flags2;
	uint32_t unused[11];
};

enum { FUSE_INIT_IN_OLD_BYTES = 16 };

struct fuse_init_out {
	uint32_t major;
	uint32_t minor;
	uint32_t max_readahead;
	uint32_t flags;
	uint16_t max_background;
	uint16_t congestion_threshold;
	uint32_t max_write;
	uint32_t time_gran; /* nanoseconds */
	uint16_t max_pages;
	uint16_t map_alignment;
	uint32_t flags2;
	uint32_t max_stack_depth;
	uint32_t unused[5];
	uint32_t fsnotify_server_mask; /* event bits that only the server reports */
};

/* What is on the wire has the protocol's size. */
#define VFSD_WIRE_SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type)

VFSD_WIRE_SIZE(fuse_in_header, 40);
VFSD_WIRE_SIZE(fuse_out_header, 16);
VFSD_WIRE_SIZE(fuse_init_in, 64);
VFSD_WIRE_SIZE(fuse_init_out, 64);
_Static_assert(offsetof(struct fuse_init_out, fsnotify_server_mask) == 60, "last word");

#include "fuse/wire_file.h"
#include "fuse/wire_fsnotify.h"
#include "fuse/wire_node.h"

#endif
