/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/state - a guest's session as one block of bytes for another daemon.
 *
 * The block is a vfsd_state_header, followed by as many inodes, open files and watches as that says. Each
 * record is aligned to 8 bytes. Byte order is the machine's, which the magic number shows. A daemon reads
 * only the version that it writes.
 *
 *   inode     struct vfsd_state_inode, its path, its handle, zeros up to the alignment. The root is the first,
 *             with no path. Paths are relative to the share; with BY_HANDLE, the path may be missing.
 *   open file struct vfsd_state_file; the guest itself keeps the offsets of files and directories
 *   watch     struct vfsd_state_watch; the guest receives an overflow, for the events between save and load
 *
 * An inode is opened by its path, or by its handle (--migration-mode=file-handles, where the filesystem has
 * handles that can be opened). An inode that is not found, at either end, fails the migration, or with
 * --migration-on-error=guest-error makes the guest's requests for it fail with ESTALE.
 *
 * The block is hostile until it has been checked. It may name what is below the share and nothing else: an
 * inode is accepted only if a path without symbolic links leads to it from the root, as a guest's lookups do.
 * A handle may mean any inode of the filesystem, so it is opened only with --migration-mode=file-handles at
 * this end, too; the path in the record is a hint then. Otherwise the path has to lead to the handle's inode.
 * An inode without a path is lost, even a file that was removed while open and whose handle could be opened.
 * Owner thread: the control thread, while no ring runs.
 */
#ifndef VFSD_MIGRATE_STATE_H
#define VFSD_MIGRATE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse/options.h"
#include "migrate/options.h"

struct vfsd_events;
struct vfsd_fuse;
struct vfsd_open_files;
struct vfsd_inodes;

#define VFSD_STATE_MAGIC UINT64_C(0x6574617473647366) /* "fsdstate" on a little-endian machine */
#define VFSD_STATE_BYTES_MAX (UINT64_C(1) << 32)

enum {
	VFSD_STATE_VERSION = 1,
	VFSD_STATE_ALIGN = 8,
	VFSD_STATE_PATH_MAX = 4096,

	/* vfsd_state_header.flags */
	VFSD_STATE_VERIFY = 1 << 0,   /* compare the handle of each inode that is found */
	VFSD_STATE_FSNOTIFY = 1 << 1, /* the guest receives host events */
};

enum vfsd_state_how {
	VFSD_STATE_LOST, /* the saving daemon did not find it */
	VFSD_STATE_BY_PATH,
	VFSD_STATE_BY_HANDLE,
};

struct vfsd_state_header {
	uint64_t magic;
	uint32_t version;
	uint32_t flags;
	uint64_t session; /* vfsd_fuse_session() */
	uint32_t server_mask;
	uint32_t inode_generation;
	uint32_t file_generation;
	uint32_t reserved; /* 0 */
	uint64_t inodes;
	uint64_t files;
	uint64_t watches;
};

struct vfsd_state_inode {
	uint64_t nodeid;
	uint64_t nlookup;
	uint32_t type; /* S_IFMT bits */
	uint16_t how;  /* enum vfsd_state_how */
	uint16_t path_bytes;
	int32_t handle_type;
	uint32_t handle_bytes;
};

struct vfsd_state_file {
	uint64_t fh;
	uint64_t nodeid;
	uint32_t flags; /* open(2)'s, from fcntl(F_GETFL) */
	uint32_t lost;	/* 1: it was lost in an earlier migration */
};

struct vfsd_state_watch {
	uint64_t nodeid;
	uint64_t owner; /* 0, VFSD_EVENTS_FILESYSTEM, or a group of the dialect of 2021 */
	uint32_t mask;
	uint32_t reserved; /* 0 */
};

/* All that it points to, and the descriptor, is borrowed. */
struct vfsd_state_config {
	struct vfsd_migration_options options;
	struct vfsd_fuse_options open; /* what OPEN would not grant is not opened again */
	struct vfsd_inodes *inodes;
	struct vfsd_open_files *open_files;
	struct vfsd_fuse *fuse;
	struct vfsd_events *events; /* NULL: remote fsnotify is off */
	int proc_self_fd;
};

/* Save the session. The caller frees *data. 0 or -errno, which is logged; -ENOENT: an inode is lost. */
int vfsd_state_save(const struct vfsd_state_config *config, void **data, size_t *bytes);

/*
 * Replace the session by the one in @data. 0 or -errno, which is logged; then there is no session, as before
 * the first INIT. -EBADMSG: @data is malformed; -ENOENT: an inode is lost.
 */
int vfsd_state_load(const struct vfsd_state_config *config, const void *data, size_t bytes);

#endif
