/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/wire_file - open files and directories on the wire.
 * A part of fuse/wire.h; include that.
 */
#ifndef VFSD_FUSE_WIRE_FILE_H
#define VFSD_FUSE_WIRE_FILE_H

#include <stdint.h>

enum {
	/* fuse_open_out.open_flags */
	FOPEN_DIRECT_IO = 1 << 0,
	FOPEN_KEEP_CACHE = 1 << 1,
	FOPEN_NONSEEKABLE = 1 << 2,
	FOPEN_CACHE_DIR = 1 << 3,
	FOPEN_STREAM = 1 << 4,
	FOPEN_NOFLUSH = 1 << 5,
	FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6,

	FUSE_OPEN_KILL_SUIDGID = 1 << 0, /* fuse_open_in.open_flags, fuse_create_in.open_flags */
	FUSE_READ_LOCKOWNER = 1 << 1,	 /* fuse_read_in.read_flags */
	FUSE_WRITE_CACHE = 1 << 0,	 /* fuse_write_in.write_flags: from the page cache */
	FUSE_WRITE_LOCKOWNER = 1 << 1,
	FUSE_WRITE_KILL_SUIDGID = 1 << 2,
	FUSE_RELEASE_FLUSH = 1 << 0, /* fuse_release_in.release_flags */
	FUSE_RELEASE_FLOCK_UNLOCK = 1 << 1,
	FUSE_FSYNC_FDATASYNC = 1 << 0, /* fuse_fsync_in.fsync_flags */
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

struct fuse_fsync_in {
	uint64_t fh;
	uint32_t fsync_flags;
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

struct fuse_dirent {
	uint64_t ino;
	uint64_t off; /* where the next entry starts */
	uint32_t namelen;
	uint32_t type; /* DT_* */
	char name[];   /* no NUL; the record is padded to 8 bytes */
};

VFSD_WIRE_SIZE(fuse_open_in, 8);
VFSD_WIRE_SIZE(fuse_create_in, 16);
VFSD_WIRE_SIZE(fuse_open_out, 16);
VFSD_WIRE_SIZE(fuse_release_in, 24);
VFSD_WIRE_SIZE(fuse_flush_in, 24);
VFSD_WIRE_SIZE(fuse_read_in, 40);
VFSD_WIRE_SIZE(fuse_write_in, 40);
VFSD_WIRE_SIZE(fuse_write_out, 8);
VFSD_WIRE_SIZE(fuse_fsync_in, 16);
VFSD_WIRE_SIZE(fuse_interrupt_in, 8);
VFSD_WIRE_SIZE(fuse_ioctl_in, 32);
VFSD_WIRE_SIZE(fuse_ioctl_out, 16);
VFSD_WIRE_SIZE(fuse_fallocate_in, 32);
VFSD_WIRE_SIZE(fuse_lseek_in, 24);
VFSD_WIRE_SIZE(fuse_lseek_out, 8);
VFSD_WIRE_SIZE(fuse_copy_file_range_in, 56);
VFSD_WIRE_SIZE(fuse_copy_file_range_out, 8);
VFSD_WIRE_SIZE(fuse_syncfs_in, 8);
VFSD_WIRE_SIZE(fuse_dirent, 24);

#endif
