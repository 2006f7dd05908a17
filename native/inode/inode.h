/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/inode - which host inode a FUSE node id means, and for how long.
 *
 * A node id is a slot index plus that slot's generation, never a pointer; a stale or invented id
 * finds nothing. An inode is held by an O_PATH descriptor, or by its file handle alone
 * (--inode-file-handles), so that a million of them need no million descriptors. While only a
 * handle holds it, its inode number may be reused: identity is then the handle.
 * The guest's lookup count keeps an inode in the table; a transient reference (get/put) keeps the
 * memory for the length of one operation.
 * Owner thread: any; locks inside (sharded), none held across a call. Create the table after the
 * last change of privileges: what open_by_handle_at() may do is tried then.
 */
#ifndef VFSD_INODE_INODE_H
#define VFSD_INODE_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "inode/options.h"

enum {
	VFSD_NODEID_ROOT = 1,
	VFSD_HANDLE_BYTES_MAX = 128, /* MAX_HANDLE_SZ */
};

/*
 * A kernel file handle with the filesystem it belongs to; compared bytewise. One that is borrowed
 * from an inode has room for its @bytes of data only: copy it with vfsd_file_handle_copy().
 */
struct vfsd_file_handle {
	uint64_t fsid; /* statfs f_fsid as fanotify reports it: val[0] | (u64)val[1] << 32 */
	int32_t type;
	uint32_t bytes; /* used of data; 0 = the filesystem has no handles */
	uint8_t data[VFSD_HANDLE_BYTES_MAX];
};

struct vfsd_inode {
	uint64_t nodeid;
	uint64_t dev; /* st_dev */
	uint64_t ino;
	uint64_t mnt_id; /* statx STATX_MNT_ID, 0 if unknown */
	uint16_t type;	 /* S_IFMT bits */
	bool on_file;	 /* mounted on what is no directory, so it has no filesystem of its own */
	/* All of the above is constant. What follows, here and behind it, belongs to the table. */
	_Atomic bool by_event;	   /* see vfsd_inode_note_event() */
	_Atomic uint32_t found_in; /* see vfsd_inode_note_parent() */
};

struct vfsd_inodes;
struct vfsd_quota;

struct vfsd_inodes_config {
	struct vfsd_inode_options options;
	bool need_handles; /* compute handles even if an fd holds the inode: events arrive by handle */
	int proc_self_fd;	     /* O_PATH directory, borrowed */
	int mount_table_fd;	     /* /proc/self/mountinfo, borrowed for now; 0: there is none */
	struct vfsd_quota *fd_quota; /* borrowed; NULL: no limit */
	uint32_t kept_max; /* descriptors kept by vfsd_inode_fd_borrow(), besides fd_quota */
};

/*
 * 0 or -errno; @root_fd is consumed either way. VFSD_HANDLES_MANDATORY fails with -EOPNOTSUPP or
 * -EPERM where the root cannot be reopened by handle.
 */
int vfsd_inodes_create(const struct vfsd_inodes_config *config, int root_fd /* owned */,
		       struct vfsd_inodes **ret);
void vfsd_inodes_destroy(struct vfsd_inodes *inodes);

/* Drop everything but the root (FUSE_DESTROY, and INIT after a guest reset). */
void vfsd_inodes_clear(struct vfsd_inodes *inodes);

/* Take a transient reference. NULL for an id that the guest does not hold. */
struct vfsd_inode *vfsd_inode_get(struct vfsd_inodes *inodes, uint64_t nodeid);
void vfsd_inode_put(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/*
 * What makes something must not find afterwards that it cannot be looked up. Take for this thread what
 * an inode made in the directory @dir may need of table, memory and quota, @nameless: without a name;
 * the lookups that follow use it. 0, -ENFILE or -ENOMEM. Give back what is left in any case.
 */
int vfsd_inodes_reserve(struct vfsd_inodes *inodes, const struct vfsd_inode *dir, bool nameless);
void vfsd_inodes_unreserve(struct vfsd_inodes *inodes);

/*
 * Find or add the inode behind @fd (O_PATH, consumed), count one lookup, return a transient
 * reference. @st is its statx. 0 or -errno (-ENFILE: the guest's quota).
 */
int vfsd_inode_lookup_fd(struct vfsd_inodes *inodes, int fd, const struct statx *st,
			 struct vfsd_inode **ret);

/*
 * The same for a file that is open as @fd (borrowed), without an O_PATH descriptor of it. -EAGAIN: it
 * needs one.
 */
int vfsd_inode_lookup_open(struct vfsd_inodes *inodes, int fd, const struct statx *st,
			   struct vfsd_inode **ret);

/*
 * Find or add what is called @name in @dir_fd, without opening it (two system calls); @st, of a
 * moment ago if @asked, becomes its statx by @mask, which has STATX_BTIME and STATX_MNT_ID. NULL: not
 * here, or not with this inode: open it and call vfsd_inode_lookup_fd(). *added, set unless NULL: the
 * guest had not known it.
 */
struct vfsd_inode *vfsd_inode_lookup_new(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					 unsigned int mask, bool asked, struct statx *st,
					 bool *added);

/*
 * The same without a descriptor, for an inode whose number certainly means it: a descriptor of ours
 * pins it, or its birth tells (@st needs STATX_BTIME). NULL: not known, or not certain.
 */
struct vfsd_inode *vfsd_inode_lookup_known(struct vfsd_inodes *inodes, const struct statx *st);

/*
 * The same for an inode that a handle alone holds, found by what is called @name in @dir_fd (one
 * more system call); @st is the statx of that name. NULL: open it and call vfsd_inode_lookup_fd().
 */
struct vfsd_inode *vfsd_inode_lookup_name(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					  const struct statx *st);

/*
 * A number that changes with the mount table, to be compared for equality; 0: nobody can say whether
 * it has changed.
 */
uint32_t vfsd_inodes_mount_changes(struct vfsd_inodes *inodes);

/* One READDIRPLUS: what of a directory's entries may be known by their numbers. */
struct vfsd_listing {
	struct vfsd_inode *dir; /* the caller's reference */
	uint32_t mount_changes; /* until the directory was read; 0: go by names */
};

/* Before the directory is read. @from_start: a listing begins, this is not the rest of one. */
void vfsd_listing_begin(struct vfsd_inodes *inodes, struct vfsd_inode *dir, bool from_start,
			struct vfsd_listing *ret);

/*
 * The same as vfsd_inode_lookup_known() for an entry with the number @ino that has just been read; @st
 * becomes its statx by @mask, without its name being looked up. NULL: that takes its name.
 */
struct vfsd_inode *vfsd_listing_find(struct vfsd_inodes *inodes, const struct vfsd_listing *listing,
				     uint64_t ino, unsigned int mask, struct statx *st);

/* That was looked up by name, and is @inode, whose statx is @st: find it by number next time. */
void vfsd_listing_note(struct vfsd_inodes *inodes, const struct vfsd_listing *listing, uint64_t ino,
		       struct vfsd_inode *inode, const struct statx *st);

/*
 * Count @nlookup down (saturating). Returns a transient reference to the inode if the guest has
 * now forgotten it, so that the caller can drop what hangs on it; else NULL.
 */
struct vfsd_inode *vfsd_inode_forget(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup);

/*
 * Are ids to outlive being forgotten, as a guest that opens file handles wants? Not until this is said.
 * A number of those that can be opened by handle then get their id again when they are looked up.
 */
void vfsd_inodes_set_remember(struct vfsd_inodes *inodes, bool remember);

/*
 * Open (O_PATH) what the guest knew as @nodeid and has forgotten. The fd, the caller's, or -ESTALE: not known
 * any more, or there is no such inode below the root.
 */
int vfsd_inode_open_forgotten(struct vfsd_inodes *inodes, uint64_t nodeid);

/* By file handle, for events. Transient reference or NULL: the guest does not know the object. */
struct vfsd_inode *vfsd_inode_find_handle(struct vfsd_inodes *inodes,
					  const struct vfsd_file_handle *handle);

/*
 * What is called @name in the directory @dir_fd, if the guest knows it (one system call, no
 * descriptor). *exists tells whether the name is there at all. Transient reference or NULL.
 */
struct vfsd_inode *vfsd_inode_find_name(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					bool *exists);

/* Is what is called @name in the directory @dir_fd the object @handle, of the same filesystem? */
bool vfsd_inode_handle_is_at(const struct vfsd_file_handle *handle, int dir_fd, const char *name);

bool vfsd_file_handle_equal(const struct vfsd_file_handle *a, const struct vfsd_file_handle *b);
void vfsd_file_handle_copy(struct vfsd_file_handle *dst, const struct vfsd_file_handle *src);

/* Lookups that are counted for it now. */
uint64_t vfsd_inode_lookups(const struct vfsd_inode *inode);

/* It was found in the directory @parent, where to look for it should the guest ask for its id. */
static inline void vfsd_inode_note_parent(struct vfsd_inode *inode, const struct vfsd_inode *parent)
{
	const uint32_t index = (uint32_t)parent->nodeid;

	if (atomic_load_explicit(&inode->found_in, memory_order_relaxed) != index)
		atomic_store_explicit(&inode->found_in, index, memory_order_relaxed);
}

/* The handle of the inode (bytes == 0 if none). Borrowed while the reference lasts. */
const struct vfsd_file_handle *vfsd_inode_handle(const struct vfsd_inode *inode);

/*
 * Borrow an O_PATH descriptor. It is the inode's own (*transient = false) or was opened by handle
 * for this call; give it back with vfsd_inode_fd_put(). Returns the fd or -errno (-ESTALE: gone).
 */
int vfsd_inode_fd_get(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient);
void vfsd_inode_fd_put(int fd, bool transient);

/*
 * The same for what a guest asks: what is opened by handle stays open for those who come next, for
 * about a second, unless vfsd_inode_unpin() was called for it. Needs vfsd_inodes_tend().
 */
int vfsd_inode_fd_borrow(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient);

/*
 * Was something gone lately that the guest asked for by its node id? The guest looks its name up again
 * then, but only once, and what the host keeps replacing may be gone again when the guest comes with the
 * new id. So for a while, what vfsd_inode_lookup_fd() finds stays open, for half a second at least.
 */
bool vfsd_inodes_hold_lookups(struct vfsd_inodes *inodes);

/* Is any descriptor kept so, but for those of directories? */
bool vfsd_inodes_keep_files(struct vfsd_inodes *inodes);

/* It has no name any more: don't keep a descriptor for the next ones. */
void vfsd_inode_let_go(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/*
 * Close what has been kept open for long enough. Returns in how many ms to call it again, -1: when
 * there have been more requests. Whoever serves requests calls it now and then, also when idle.
 */
int vfsd_inodes_tend(struct vfsd_inodes *inodes);

/*
 * Open (O_PATH) what a handle from an event means, known to the guest or not. Returns the fd (the
 * caller's) or -errno; -EOPNOTSUPP where handles cannot be reopened.
 */
int vfsd_inode_handle_open(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle);

/*
 * The same, on one of the mounts that inodes of the table live on: the @nth (0, 1, ...) that shows the
 * filesystem of @handle. -ENOENT: there is none.
 */
int vfsd_inode_handle_open_nth(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
			       uint32_t nth);

/*
 * A descriptor on the mount of @inode, for what concerns its filesystem: also when @inode is gone.
 * Borrowed while the reference lasts; -1 where inodes cannot be opened by handle.
 */
int vfsd_inode_mount_fd(const struct vfsd_inode *inode);

/* Is the directory @fd (O_PATH) the root or somewhere below it, across mounts? */
bool vfsd_inode_is_below_root(struct vfsd_inodes *inodes, int fd);

/* Is @inode the root, or that of something mounted below it, and not removed? */
bool vfsd_inode_is_mounted(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/*
 * An event gives the guest the id of @inode, a directory, and holds one of its lookups. The guest has
 * not come to it by a name: until it does, the id is good only for what is below the root.
 */
void vfsd_inode_note_event(struct vfsd_inode *inode);
static inline bool vfsd_inode_is_by_event(const struct vfsd_inode *inode)
{
	return atomic_load_explicit(&inode->by_event, memory_order_relaxed) != 0;
}

/*
 * For such an inode, whenever the guest uses its id: 0, or -ESTALE if it has left the share. *lost is
 * then as vfsd_inode_forget() returns it: the id is void.
 */
int vfsd_inode_check_place(struct vfsd_inodes *inodes, struct vfsd_inode *inode,
			   struct vfsd_inode **lost);

/*
 * Open the inode for real; @flags are open(2)'s, O_CLOEXEC is added. Only regular files and
 * directories: opening anything else has effects, -EBADF. Returns the fd (the caller's) or -errno.
 */
int vfsd_inode_open(struct vfsd_inodes *inodes, struct vfsd_inode *inode, int flags);

/*
 * Let the handle alone hold this inode from now on, if it can be reopened by it: an O_PATH
 * descriptor pins the dentry, and the host would not report DELETE_SELF of a watched object.
 * True when no descriptor pins it any more, or only until the operations that borrow it now end;
 * and none is kept for it from then on.
 * Never for the root, nor for what vfsd_inode_hold() has taken.
 */
bool vfsd_inode_unpin(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/*
 * It may be about to lose its last name while the guest uses it: hold it by a descriptor until the
 * guest forgets it. Not if it was let go of for a watch, unless @watched_too. 0, also if the inode is
 * gone already, or -ENFILE (the guest's quota).
 */
int vfsd_inode_hold(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool watched_too);

/* Does a descriptor of ours pin it, so that the host cannot report its end? */
bool vfsd_inode_is_pinned(const struct vfsd_inode *inode);

/*
 * Can vfsd_inode_unpin() let go of anything, as far as the root can tell? Not without
 * CAP_DAC_READ_SEARCH or file handles that the filesystem reopens.
 */
bool vfsd_inodes_can_unpin(const struct vfsd_inodes *inodes);

/*
 * Migration; no other call runs meanwhile, but with the first of these.
 *
 * Tell @each about every inode that the guest holds, the root included, with its count of lookups.
 * The first answer other than 0 ends it and is returned.
 */
int vfsd_inodes_each(struct vfsd_inodes *inodes,
		     int (*each)(void *ctx, struct vfsd_inode *inode, uint64_t nlookup), void *ctx);

/* What the next node id is made of; set it before ids of another table are put into this one. */
uint32_t vfsd_inodes_generation(const struct vfsd_inodes *inodes);
void vfsd_inodes_set_generation(struct vfsd_inodes *inodes, uint32_t generation);

/*
 * Add the inode behind @fd (O_PATH, consumed; @st: its statx) under the id that the guest knows it
 * by, with @nlookup > 0 lookups. 0 or -errno: -EINVAL for an id that is taken or no id, -EEXIST if
 * this inode has an id already, -ENFILE for the guest's quota.
 */
int vfsd_inode_restore(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup, int fd,
		       const struct statx *st);

/* Add one that cannot be found: all that is asked of it fails with -ESTALE. */
int vfsd_inode_restore_lost(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup,
			    uint32_t type);

/*
 * The handle that @fd, an inode's O_PATH descriptor, has; *reopenable: by open_by_handle_at() too.
 * 0, or -errno where there are none.
 */
int vfsd_inode_encode(int fd, struct vfsd_file_handle *handle, bool *reopenable);

/* Open (O_PATH) what a handle means on the filesystem of the root. The fd or -errno. */
int vfsd_inode_decode(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle);

/*
 * Tell @each about the inodes that had this st_dev and st_ino when the guest first saw them. Where a
 * number was used anew by the host they are several; on whatever mount they are. Looks at all that
 * there are, so not for what happens often. References are transient; locks are not held.
 */
void vfsd_inodes_find_ident(struct vfsd_inodes *inodes, uint64_t dev, uint64_t ino,
			    void (*each)(void *ctx, const struct vfsd_inode *inode), void *ctx);

/* Does the handle alone hold what comes into the table, where it can? */
bool vfsd_inodes_are_by_handle(const struct vfsd_inodes *inodes);

/* Inodes the guest holds now (root included). */
uint64_t vfsd_inodes_count(const struct vfsd_inodes *inodes);

#endif
