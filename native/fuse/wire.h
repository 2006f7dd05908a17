/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/wire - the bytes of FUSE as they travel over virtio-fs: opcodes, flags, fixed structs.
 *
 * Structs and constants keep the protocol's own names so that they can be found in any other
 * implementation. All fields are in the guest's native byte order, which virtio-fs requires to be
 * the host's. Names of variable length follow the fixed part of a request, each with its NUL.
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

enum {
	/* fuse_open_out.open_flags */
	FOPEN_DIRECT_IO = 1 << 0,
	FOPEN_KEEP_CACHE = 1 << 1,
	FOPEN_NONSEEKABLE = 1 << 2,
	FOPEN_CACHE_DIR = 1 << 3,
	FOPEN_STREAM = 1 << 4,
	FOPEN_NOFLUSH = 1 << 5,
	FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6,

	/* fuse_open_in.open_flags, fuse_create_in.open_flags */
	FUSE_OPEN_KILL_SUIDGID = 1 << 0,

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

	FUSE_GETATTR_FH = 1 << 0,     /* fuse_getattr_in.getattr_flags */
	FUSE_READ_LOCKOWNER = 1 << 1, /* fuse_read_in.read_flags */
	FUSE_WRITE_CACHE = 1 << 0,    /* fuse_write_in.write_flags: from the page cache */
	FUSE_WRITE_LOCKOWNER = 1 << 1,
	FUSE_WRITE_KILL_SUIDGID = 1 << 2,
	FUSE_RELEASE_FLUSH = 1 << 0, /* fuse_release_in.release_flags */
	FUSE_RELEASE_FLOCK_UNLOCK = 1 << 1,
	FUSE_FSYNC_FDATASYNC = 1 << 0,	      /* fuse_fsync_in.fsync_flags */
	FUSE_SETXATTR_ACL_KILL_SGID = 1 << 0, /* fuse_setxattr_in.setxattr_flags */
	FUSE_ATTR_SUBMOUNT = 1 << 0,	      /* fuse_attr.flags: a mount point */
	FUSE_ATTR_DAX = 1 << 1,
	/*
	 * With FUSE_HAS_STATX_ATTR the upper bits are STATX_ATTR_COMPRESSED, IMMUTABLE, APPEND, NODUMP,
	 * ENCRYPTED and VERITY, from the lowest: those it has, and those its filesystem knows.
	 */
	FUSE_ATTR_STATX_SHIFT = 20,
	FUSE_ATTR_STATX_KNOWN_SHIFT = 26,

	FUSE_FSNOTIFY_SB = 1 << 0,  /* fuse_fsnotify_in.flags: the whole filesystem */
	FUSE_FSN_UNLINKED = 1 << 0, /* fuse_notify_fsnotify_out.flags: no links left */
	FUSE_FSN_PARENT_ONLY = 1 << 1,
	FUSE_FSN_UNNAMED = 1 << 2,     /* by a name that was gone: not for IN_EXCL_UNLINK */
	FUSE_FSN_UNKNOWN_DIR = 1 << 3, /* nodeid: a directory that the guest may not know */
};

/* A uid or gid the guest does not tell (idmapped mounts): keep our own. */
#define FUSE_INVALID_UIDGID ((uint32_t)-1)

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

struct fuse_open_in {
	uint32_t flags;	     /* O_* */
	uint32_t open_flags; /* FUSE_OPEN_* */
};

struct fuse_create_in {
	uint32_t flags;
	uint32_t mode;
	uint32_t umask;
	uint32_t open_flags;
};

struct fuse_open_out {
	uint64_t fh;
	uint32_t open_flags; /* FOPEN_* */
	uint32_t padding;
};

struct fuse_release_in {
	uint64_t fh;
	uint32_t flags;
	uint32_t release_flags;
	uint64_t lock_owner;
};

struct fuse_flush_in {
	uint64_t fh;
	uint32_t unused;
	uint32_t padding;
	uint64_t lock_owner;
};

struct fuse_read_in { /* READ, READDIR, READDIRPLUS */
	uint64_t fh;
	uint64_t offset;
	uint32_t size;
	uint32_t read_flags;
	uint64_t lock_owner;
	uint32_t flags; /* O_* of the guest's file now */
	uint32_t padding;
};

struct fuse_write_in {
	uint64_t fh;
	uint64_t offset;
	uint32_t size;
	uint32_t write_flags;
	uint64_t lock_owner;
	uint32_t flags;
	uint32_t padding;
};

struct fuse_write_out {
	uint32_t size;
	uint32_t padding;
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

struct fuse_fsync_in {
	uint64_t fh;
	uint32_t fsync_flags;
	uint32_t padding;
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

struct fuse_file_lock {
	uint64_t start;
	uint64_t end;
	uint32_t type;
	uint32_t pid;
};

struct fuse_lk_in {
	uint64_t fh;
	uint64_t owner;
	struct fuse_file_lock lk;
	uint32_t lk_flags;
	uint32_t padding;
};

struct fuse_lk_out {
	struct fuse_file_lock lk;
};

struct fuse_access_in {
	uint32_t mask;
	uint32_t padding;
};

struct fuse_interrupt_in {
	uint64_t unique;
};

struct fuse_ioctl_in {
	uint64_t fh;
	uint32_t flags;
	uint32_t cmd;
	uint64_t arg;
	uint32_t in_size;
	uint32_t out_size;
};

struct fuse_ioctl_out {
	int32_t result;
	uint32_t flags;
	uint32_t in_iovs;
	uint32_t out_iovs;
};

struct fuse_fallocate_in {
	uint64_t fh;
	uint64_t offset;
	uint64_t length;
	uint32_t mode;
	uint32_t padding;
};

struct fuse_lseek_in {
	uint64_t fh;
	uint64_t offset;
	uint32_t whence;
	uint32_t padding;
};

struct fuse_lseek_out {
	uint64_t offset;
};

struct fuse_copy_file_range_in {
	uint64_t fh_in;
	uint64_t off_in;
	uint64_t nodeid_out;
	uint64_t fh_out;
	uint64_t off_out;
	uint64_t len;
	uint64_t flags;
};

struct fuse_copy_file_range_out { /* of FUSE_COPY_FILE_RANGE_64 */
	uint64_t bytes_copied;
};

struct fuse_syncfs_in {
	uint64_t padding;
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

struct fuse_dirent {
	uint64_t ino;
	uint64_t off; /* where the next entry starts */
	uint32_t namelen;
	uint32_t type; /* DT_* */
	char name[];   /* no NUL; the record is padded to 8 bytes */
};

/* A struct fuse_direntplus is a struct fuse_entry_out followed by a struct fuse_dirent. */

struct fuse_notify_inval_inode_out {
	uint64_t ino;
	int64_t off;
	int64_t len;
};

struct fuse_notify_inval_entry_out {
	uint64_t parent;
	uint32_t namelen;
	uint32_t flags;
};

struct fuse_notify_delete_out {
	uint64_t parent;
	uint64_t child;
	uint32_t namelen;
	uint32_t padding;
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

#define VFSD_WIRE_SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type)

VFSD_WIRE_SIZE(fuse_in_header, 40);
VFSD_WIRE_SIZE(fuse_out_header, 16);
VFSD_WIRE_SIZE(fuse_attr, 88);
VFSD_WIRE_SIZE(fuse_init_in, 64);
VFSD_WIRE_SIZE(fuse_init_out, 64);
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
VFSD_WIRE_SIZE(fuse_open_in, 8);
VFSD_WIRE_SIZE(fuse_create_in, 16);
VFSD_WIRE_SIZE(fuse_open_out, 16);
VFSD_WIRE_SIZE(fuse_release_in, 24);
VFSD_WIRE_SIZE(fuse_flush_in, 24);
VFSD_WIRE_SIZE(fuse_read_in, 40);
VFSD_WIRE_SIZE(fuse_write_in, 40);
VFSD_WIRE_SIZE(fuse_write_out, 8);
VFSD_WIRE_SIZE(fuse_kstatfs, 80);
VFSD_WIRE_SIZE(fuse_statfs_out, 80);
VFSD_WIRE_SIZE(fuse_fsync_in, 16);
VFSD_WIRE_SIZE(fuse_setxattr_in, 16);
VFSD_WIRE_SIZE(fuse_getxattr_in, 8);
VFSD_WIRE_SIZE(fuse_getxattr_out, 8);
VFSD_WIRE_SIZE(fuse_file_lock, 24);
VFSD_WIRE_SIZE(fuse_lk_in, 48);
VFSD_WIRE_SIZE(fuse_lk_out, 24);
VFSD_WIRE_SIZE(fuse_access_in, 8);
VFSD_WIRE_SIZE(fuse_interrupt_in, 8);
VFSD_WIRE_SIZE(fuse_ioctl_in, 32);
VFSD_WIRE_SIZE(fuse_ioctl_out, 16);
VFSD_WIRE_SIZE(fuse_fallocate_in, 32);
VFSD_WIRE_SIZE(fuse_lseek_in, 24);
VFSD_WIRE_SIZE(fuse_lseek_out, 8);
VFSD_WIRE_SIZE(fuse_copy_file_range_in, 56);
VFSD_WIRE_SIZE(fuse_copy_file_range_out, 8);
VFSD_WIRE_SIZE(fuse_syncfs_in, 8);
VFSD_WIRE_SIZE(fuse_sx_time, 16);
VFSD_WIRE_SIZE(fuse_statx, 256);
VFSD_WIRE_SIZE(fuse_statx_in, 24);
VFSD_WIRE_SIZE(fuse_statx_out, 288);
VFSD_WIRE_SIZE(fuse_ext_header, 8);
VFSD_WIRE_SIZE(fuse_secctx, 8);
VFSD_WIRE_SIZE(fuse_secctx_header, 8);
VFSD_WIRE_SIZE(fuse_supp_groups, 4);
VFSD_WIRE_SIZE(fuse_dirent, 24);
VFSD_WIRE_SIZE(fuse_notify_inval_inode_out, 24);
VFSD_WIRE_SIZE(fuse_notify_inval_entry_out, 16);
VFSD_WIRE_SIZE(fuse_notify_delete_out, 24);
VFSD_WIRE_SIZE(fuse_fsnotify_in, 16);
VFSD_WIRE_SIZE(fuse_notify_fsnotify_out, 48);
_Static_assert(offsetof(struct fuse_init_out, fsnotify_server_mask) == 60, "last word");

#endif
