/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostfs/hostfs - one function per operation on the host filesystem, through a table.
 *
 * Knows inodes and open files, but neither cursors nor rings nor the wire. Tests and fuzzers put
 * another table in its place. Every function returns 0 (or a count, or a descriptor, as told) or
 * -errno. Names have been checked: one path component, not "." or "..".
 * Owner thread: any. Operations that create do so as the guest's user: the calling thread's
 * effective ids change for one system call, and are as before whenever a function returns.
 */
#ifndef VFSD_HOSTFS_HOSTFS_H
#define VFSD_HOSTFS_HOSTFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "hostfs/operations.h"
#include "hostfs/options.h"
#include "inode/inode.h"

struct vfsd_open_file;
struct vfsd_open_files;
struct vfsd_hostfs;

/* The security context that something new is to have: an extended attribute of the host's name. */
struct vfsd_label {
	const char *name;
	const void *value;
	size_t bytes;
};

/* Who asks, for operations that create. (uint32_t)-1: the guest does not tell, stay who we are. */
struct vfsd_caller {
	uint32_t uid;
	uint32_t gid;
	bool has_group; /* of the caller's other groups, the one that the directory belongs to */
	uint32_t group;
	mode_t umask;			/* what is left to the host, which knows of default ACLs */
	const struct vfsd_label *label; /* NULL: none. What cannot have it is not made. */
};

/* What a name leads to. One lookup is counted; @inode is a transient reference, the caller's. */
struct vfsd_entry {
	struct vfsd_inode *inode;
	struct statx st;
	bool submount; /* a directory on another mount or filesystem than its parent */
	bool added; /* it was new, and expecting that would have been right; of a list_entry only */
};

/* Entries of one directory, on the way from it to the guest. Belongs to hostfs. */
struct vfsd_list {
	struct vfsd_listing listing;
	int dir_fd;
	bool expect_new; /* the last one was new, so the next one will be */
};

/* What to change. Ids are (uint32_t)-1 to keep; times are UTIME_OMIT to keep, or UTIME_NOW. */
struct vfsd_setattr {
	bool set_mode;
	bool set_size;
	bool touch;	/* ctime alone */
	bool kill_priv; /* truncation ends set-id bits and file capabilities */
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint64_t size;		  /* bytes */
	struct timespec times[2]; /* access, modification */
};

/* How to write. */
enum vfsd_write_flags {
	VFSD_WRITE_APPEND = 1 << 0,    /* at the end of the file, whatever the offset */
	VFSD_WRITE_KILL_PRIV = 1 << 1, /* end set-id bits and file capabilities */
};

/* operations.h has them. */
struct vfsd_hostfs_ops {
#define VFSD_HOSTFS_POINTER(type, name, ...) type (*name)(struct vfsd_hostfs * fs, __VA_ARGS__);
	VFSD_HOSTFS_OPERATIONS(VFSD_HOSTFS_POINTER)
#undef VFSD_HOSTFS_POINTER
};

/* The real one. */
extern const struct vfsd_hostfs_ops vfsd_hostfs_ops;

/*
 * @inodes, @handles and @proc_self_fd (an O_PATH descriptor of /proc/self/fd) are borrowed, @options
 * copied. Call it with the ids that the daemon will serve with.
 */
int vfsd_hostfs_new(const struct vfsd_hostfs_options *options, struct vfsd_inodes *inodes,
		    struct vfsd_open_files *handles, int proc_self_fd, struct vfsd_hostfs **ret);
void vfsd_hostfs_free(struct vfsd_hostfs *fs);

/*
 * The guest's security.capability is an attribute called @name here (borrowed; xattrmap). The host
 * does not know what it means, so we end it where the host would. Before the first operation.
 */
void vfsd_hostfs_set_capability_name(struct vfsd_hostfs *fs, const char *name);

#endif
