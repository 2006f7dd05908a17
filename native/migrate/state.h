/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/state - what a guest's session is made of, as one block of bytes for another daemon.
 *
 * The block is a vfsd_state_header, then that many inodes, open files and watches, each record
 * aligned to 8 bytes and everything in the byte order of the machine, which the magic number tells.
 * A daemon reads the version that it writes and no other.
 *
 *   inode     struct vfsd_state_inode, its path, its handle, zeros up to the alignment. The root is
 *             the first, with no path. Paths are relative to the share; with BY_HANDLE, one may be
 *             missing.
 *   open file struct vfsd_state_file; directory positions are the guest's own
 *   watch     struct vfsd_state_watch; events between save and load are lost, which the guest is told
 *
 * An inode is looked for by path, or by handle if it comes by that (--migration-mode=file-handles,
 * where the file system has handles that can be opened). One that cannot be found, at either end,
 * fails the migration, or with --migration-on-error=guest-error answers -ESTALE to the guest.
 *
 * The other end's bytes are hostile until they have been checked. They may name what is below the
 * share and nothing else: an inode is only taken if a path without symbolic links leads to it from
 * the root, as a guest's lookups do. A handle, which may mean any inode of the file system, is only
 * opened where file-handles was asked for at this end, too, and the path that comes with it is a
 * hint; else that path has to lead to the handle's inode.
 * What has no path is lost: also a file without a name that is still open, whose handle would do.
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
struct vfsd_handles;
struct vfsd_inodes;

#define VFSD_STATE_MAGIC UINT64_C(0x6574617473647366) /* "fsdstate" on a little-endian machine */
#define VFSD_STATE_BYTES_MAX (UINT64_C(1) << 32)

enum {
	VFSD_STATE_VERSION = 1,
	VFSD_STATE_ALIGN = 8,
	VFSD_STATE_PATH_MAX = 4096,

	/* vfsd_state_header.flags */
	VFSD_STATE_VERIFY = 1 << 0,   /* whoever finds an inode has to compare its handle */
	VFSD_STATE_FSNOTIFY = 1 << 1, /* the guest hears of host events */
};

enum vfsd_state_how {
	VFSD_STATE_LOST, /* the source did not find it */
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
	uint32_t handle_generation;
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
	uint32_t flags; /* open(2)'s, as fcntl(F_GETFL) tells them */
	uint32_t lost;	/* 1: it was lost in an earlier migration */
};

struct vfsd_state_watch {
	uint64_t nodeid;
	uint64_t owner; /* as the guest has it: 0, or a group of the old dialect */
	uint32_t mask;
	uint32_t reserved; /* 0 */
};

/* What it points to, and the descriptor, is borrowed. */
struct vfsd_state_config {
	struct vfsd_migration_options options;
	struct vfsd_fuse_options open; /* what OPEN would not grant is not opened again */
	struct vfsd_inodes *inodes;
	struct vfsd_handles *handles;
	struct vfsd_fuse *fuse;
	struct vfsd_events *events; /* NULL: remote fsnotify is off */
	int proc_self_fd;
};

/* Logs why it fails. *data is the caller's to free. 0 or -errno; -ENOENT: an inode is lost. */
int vfsd_state_save(const struct vfsd_state_config *config, void **data, size_t *bytes);

/*
 * Replace the session by the one that @data tells. Logs why it fails; then there is no session, as
 * before the first INIT. 0 or -errno; -EBADMSG: no sound state; -ENOENT: an inode is lost.
 */
int vfsd_state_load(const struct vfsd_state_config *config, const void *data, size_t bytes);

#endif
