/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/inode - the table of node ids: which host inode a FUSE node id means, and for how long.
 *
 * A node id is a slot index plus that slot's generation, never a pointer. A stale or invented id finds
 * nothing. An inode is held by an O_PATH descriptor, or by its file handle alone (--inode-file-handles), so
 * that a million inodes do not need a million descriptors. The host may reuse the inode number of an inode
 * that only a handle holds; such an inode is identified by its handle.
 * The guest's lookup count keeps an inode in the table. A transient reference (get/put) keeps its memory for
 * the length of one operation.
 * Owner thread: any; the locks inside are not held when a call returns. Create the table after the last change
 * of privileges, because creation tests whether open_by_handle_at() is permitted.
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
 * A kernel file handle and the filesystem that it belongs to. A handle that is borrowed from an inode has
 * room for its @bytes of data only: copy it with vfsd_file_handle_copy().
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
	bool on_file;	 /* a mount on something else than a directory: no submount for the guest */
	/* All of the above is constant. The fields below belong to the table. */
	_Atomic bool by_event;	   /* see vfsd_inode_note_event() */
	_Atomic uint32_t found_in; /* see vfsd_inode_note_parent() */
};

struct vfsd_inodes;
struct vfsd_quota;

struct vfsd_inodes_config {
	struct vfsd_inode_options options;
	bool need_handles; /* compute handles even if an fd holds the inode: events arrive by handle */
	int proc_self_fd;	     /* O_PATH directory, borrowed */
	int mount_table_fd;	     /* /proc/self/mountinfo, borrowed during create; 0: none */
	struct vfsd_quota *fd_quota; /* borrowed; NULL: no limit */
	uint32_t cached_fds_max; /* limit of vfsd_inode_acquire_fd()'s cache, besides fd_quota */
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

/* Take a transient reference. NULL: the guest does not hold such an id. */
struct vfsd_inode *vfsd_inode_get(struct vfsd_inodes *inodes, uint64_t nodeid);
void vfsd_inode_put(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/*
 * Reserve, for this thread, the slot, memory and quota that a new inode in the directory @dir may need.
 * @nameless: it will have no name. An operation that creates a file calls this first, so that the lookup of the
 * new file cannot fail for want of them. The lookups that follow use the reserve. 0, -ENFILE or -ENOMEM. Call
 * vfsd_inodes_unreserve() in any case; it gives back the rest.
 */
int vfsd_inodes_reserve(struct vfsd_inodes *inodes, const struct vfsd_inode *dir, bool nameless);
void vfsd_inodes_unreserve(struct vfsd_inodes *inodes);

/*
 * Find or add the inode of @fd (O_PATH, consumed), count one lookup and return a transient reference.
 * @st is the statx of @fd. 0 or -errno (-ENFILE: the guest's quota).
 */
int vfsd_inode_lookup_fd(struct vfsd_inodes *inodes, int fd, const struct statx *st,
			 struct vfsd_inode **ret);

/*
 * The same for @fd (borrowed), which is open for reading or writing. -EAGAIN: open the file with O_PATH and
 * call vfsd_inode_lookup_fd().
 */
int vfsd_inode_lookup_open(struct vfsd_inodes *inodes, int fd, const struct statx *st,
			   struct vfsd_inode **ret);

/*
 * Find or add the inode called @name in @dir_fd without opening it (two system calls). @st becomes its statx
 * by @mask, which has STATX_BTIME and STATX_MNT_ID. @asked: @st is a recent statx of that name already. NULL:
 * not possible with this inode; open it and call vfsd_inode_lookup_fd(). Otherwise *added tells whether the
 * inode is new in the table.
 */
struct vfsd_inode *vfsd_inode_lookup_new(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					 unsigned int mask, bool asked, struct statx *st,
					 bool *added);

/*
 * Find the inode by its inode number in @st, which needs STATX_BTIME, and count one lookup. That works where
 * the number cannot have been reused: the table has a descriptor of the inode, or the btime is the same and
 * old. NULL: there is no such inode in the table, or the number may have been reused.
 */
struct vfsd_inode *vfsd_inode_lookup_known(struct vfsd_inodes *inodes, const struct statx *st);

/*
 * The same for an inode that a handle alone holds, by the handle of @name in @dir_fd (one more system call).
 * @st is the statx of that name. NULL: open it and call vfsd_inode_lookup_fd().
 */
struct vfsd_inode *vfsd_inode_lookup_name(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					  const struct statx *st);

/* A number that changes whenever the host's mount table does. 0: changes cannot be noticed. */
uint32_t vfsd_inodes_mount_changes(struct vfsd_inodes *inodes);

/* One READDIRPLUS, which may find inodes by the numbers in the directory; see readdir_cache.c. */
struct vfsd_listing {
	struct vfsd_inode *dir; /* the caller's reference */
	uint32_t mount_changes; /* before the directory was read; 0: look up each name */
};

/* Call it before the directory is read. @from_start: the first READDIRPLUS of a listing. */
void vfsd_listing_begin(struct vfsd_inodes *inodes, struct vfsd_inode *dir, bool from_start,
			struct vfsd_listing *ret);

/*
 * Find the inode of a directory entry with the number @ino that has just been read, and count one lookup. @st
 * becomes its statx by @mask. NULL: look its name up.
 */
struct vfsd_inode *vfsd_listing_find(struct vfsd_inodes *inodes, const struct vfsd_listing *listing,
				     uint64_t ino, unsigned int mask, struct statx *st);

/* The entry was looked up by name and is @inode, whose statx is @st: let the next listing find it. */
void vfsd_listing_note(struct vfsd_inodes *inodes, const struct vfsd_listing *listing, uint64_t ino,
		       struct vfsd_inode *inode, const struct statx *st);

/*
 * One more LOOKUP of @inode, which the caller has a reference to. Returns another reference, or NULL: the guest
 * has forgotten it meanwhile.
 */
struct vfsd_inode *vfsd_inode_lookup_again(struct vfsd_inode *inode);

/*
 * FUSE_FORGET: subtract @nlookup from the lookup count, down to 0. Returns a transient reference if that
 * removed the inode from the table, so that the caller can drop its watches; else NULL.
 */
struct vfsd_inode *vfsd_inode_forget(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup);

/*
 * Remember node ids after FORGET, for a guest that exports file handles (FUSE_EXPORT_SUPPORT). An inode that
 * can be opened by handle then gets its old id when it is looked up again. Off by default.
 */
void vfsd_inodes_set_remember(struct vfsd_inodes *inodes, bool remember);

/*
 * Open (O_PATH) the inode that the guest knew as @nodeid before it sent FORGET. Returns the fd, which is the
 * caller's, or -ESTALE: the id is not remembered, or the inode is not below the root.
 */
int vfsd_inode_open_forgotten(struct vfsd_inodes *inodes, uint64_t nodeid);

/* Find an inode by the handle in an event. A transient reference, or NULL: the guest does not hold it. */
struct vfsd_inode *vfsd_inode_find_handle(struct vfsd_inodes *inodes,
					  const struct vfsd_file_handle *handle);

/*
 * Find the inode called @name in the directory @dir_fd (one system call, no descriptor). *exists tells whether
 * the host has that name. A transient reference, or NULL: the guest does not hold it.
 */
struct vfsd_inode *vfsd_inode_find_name(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					bool *exists);

/* Does @name in the directory @dir_fd, on the filesystem of @handle, have that handle? */
bool vfsd_inode_handle_is_at(const struct vfsd_file_handle *handle, int dir_fd, const char *name);

bool vfsd_file_handle_equal(const struct vfsd_file_handle *a, const struct vfsd_file_handle *b);
void vfsd_file_handle_copy(struct vfsd_file_handle *dst, const struct vfsd_file_handle *src);

/* The guest's lookup count. */
uint64_t vfsd_inode_lookups(const struct vfsd_inode *inode);

/* @inode was found in the directory @parent. vfsd_inode_open_forgotten() looks for it there. */
static inline void vfsd_inode_note_parent(struct vfsd_inode *inode, const struct vfsd_inode *parent)
{
	const uint32_t index = (uint32_t)parent->nodeid;

	if (atomic_load_explicit(&inode->found_in, memory_order_relaxed) != index)
		atomic_store_explicit(&inode->found_in, index, memory_order_relaxed);
}

/* The file handle of the inode (bytes == 0 if none). Borrowed while the reference lasts. */
const struct vfsd_file_handle *vfsd_inode_handle(const struct vfsd_inode *inode);

/*
 * Get an O_PATH descriptor of @inode: its own (*transient = false), or one that is opened by handle for this
 * call. Give it back with vfsd_inode_fd_put(). Returns the fd or -errno; -ESTALE: the inode is gone.
 */
int vfsd_inode_fd_get(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient);
void vfsd_inode_fd_put(int fd, bool transient);

/*
 * The same for a guest's request. A descriptor that is opened by handle is cached for about a second, unless
 * vfsd_inode_unpin() was called for the inode. The caller's thread calls vfsd_inodes_expire_fds().
 */
int vfsd_inode_acquire_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient);

/*
 * Does vfsd_inode_lookup_fd() cache the descriptors of what it finds? It does for some time after a request
 * failed with ESTALE: the guest looks the name up again, but only once, and a file that the host keeps
 * replacing could be gone again before the guest's next request.
 */
bool vfsd_inodes_cache_lookups(struct vfsd_inodes *inodes);

/* Is any descriptor cached that is not a directory's? */
bool vfsd_inodes_have_cached_files(struct vfsd_inodes *inodes);

/* Close the cached descriptor of @inode, if there is one: it has lost its last name. */
void vfsd_inode_uncache_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/*
 * Close the cached descriptors that have expired. The threads that serve requests call it now and then, also
 * when idle. Returns in how many ms to call it again; -1: after the next request.
 */
int vfsd_inodes_expire_fds(struct vfsd_inodes *inodes);

/*
 * Open (O_PATH) the inode of a handle from an event, whether the guest holds it or not. Returns the fd (the
 * caller's) or -errno; -EOPNOTSUPP where inodes cannot be opened by handle.
 */
int vfsd_inode_handle_open(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle);

/*
 * The same through the @nth (0, 1, ...) of the mounts of that filesystem which have inodes in the table.
 * -ENOENT: there are not so many.
 */
int vfsd_inode_handle_open_nth(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
			       uint32_t nth);

/*
 * A descriptor of the mount that @inode is on; it is valid even if @inode was removed. Borrowed while the
 * reference lasts; -1 where inodes cannot be opened by handle.
 */
int vfsd_inode_mount_fd(const struct vfsd_inode *inode);

/* Is the directory @fd (O_PATH) the root or somewhere below it, across mounts? */
bool vfsd_inode_is_below_root(struct vfsd_inodes *inodes, int fd);

/* Is @inode the root of the share or of a mount below it, and not removed? */
bool vfsd_inode_is_mounted(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/*
 * An event has given the guest the id of @inode, a directory, which counts as one lookup. The guest has not
 * looked up its name. Until it does, vfsd_inode_check_place() guards each use of the id.
 */
void vfsd_inode_note_event(struct vfsd_inode *inode);
static inline bool vfsd_inode_is_by_event(const struct vfsd_inode *inode)
{
	return atomic_load_explicit(&inode->by_event, memory_order_relaxed) != 0;
}

/*
 * Check that such an inode is still below the root when the guest uses its id. 0, or -ESTALE: it is not, and
 * the id is removed from the table. *lost is then what vfsd_inode_forget() would return, else NULL.
 */
int vfsd_inode_check_place(struct vfsd_inodes *inodes, struct vfsd_inode *inode,
			   struct vfsd_inode **lost);

/*
 * Open the inode with open(2)'s @flags and O_CLOEXEC. Only regular files and directories are opened; anything
 * else is -EBADF, because open() of a device or FIFO has effects. Returns the fd (the caller's) or -errno.
 */
int vfsd_inode_open(struct vfsd_inodes *inodes, struct vfsd_inode *inode, int flags);

/*
 * Hold this inode by its handle alone from now on, if it can be opened by it, and cache no descriptor of it. A
 * watched inode needs this: an O_PATH descriptor pins the dentry, and then the host does not report
 * DELETE_SELF. True: no descriptor pins it, except for operations that are using one right now.
 * False for the root, and for an inode that vfsd_inode_hold() holds.
 */
bool vfsd_inode_unpin(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/*
 * Hold this inode by a descriptor until the guest forgets it, because it may be about to lose its last name
 * while the guest uses it. An inode that vfsd_inode_unpin() was called for is held only if @watched_too. 0,
 * also if the inode is gone already, or -ENFILE (the guest's quota).
 */
int vfsd_inode_hold(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool watched_too);

/* Does a descriptor of this daemon pin it, so that the host will not report DELETE_SELF? */
bool vfsd_inode_is_pinned(const struct vfsd_inode *inode);

/*
 * Does vfsd_inode_unpin() work on the root's filesystem? That needs CAP_DAC_READ_SEARCH, and file handles that
 * can be opened.
 */
bool vfsd_inodes_can_unpin(const struct vfsd_inodes *inodes);

/*
 * Migration. Other calls may run during the first of these functions, and during none of the others.
 *
 * Call @each for every inode that the guest holds, the root included, with its lookup count. The first result
 * other than 0 ends the iteration and is returned.
 */
int vfsd_inodes_each(struct vfsd_inodes *inodes,
		     int (*each)(void *ctx, struct vfsd_inode *inode, uint64_t nlookup), void *ctx);

/* The generation that the next new node id gets. */
uint32_t vfsd_inodes_generation(const struct vfsd_inodes *inodes);
void vfsd_inodes_set_generation(struct vfsd_inodes *inodes, uint32_t generation);

/*
 * Add the inode of @fd (O_PATH, consumed; @st: its statx) with the id that the guest knows it by, and
 * @nlookup > 0 lookups. 0 or -errno: -EINVAL: the id is in use, or is no id of a table; -EEXIST: this inode has
 * an id already; -ENFILE: the guest's quota.
 */
int vfsd_inode_restore(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup, int fd,
		       const struct statx *st);

/* Add an inode that was not found: each request for it fails with -ESTALE. */
int vfsd_inode_restore_lost(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup,
			    uint32_t type);

/*
 * Encode the file handle of @fd (O_PATH). *reopenable: open_by_handle_at() may be able to open it. 0 or
 * -errno: the filesystem has no handles.
 */
int vfsd_inode_encode(int fd, struct vfsd_file_handle *handle, bool *reopenable);

/* Open (O_PATH) a handle on the filesystem of the root. The fd or -errno. */
int vfsd_inode_decode(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle);

/*
 * Call @each for the inodes that had this st_dev and st_ino when they were added: there are several where the
 * host has reused the number, or one inode is on several mounts. This scans the whole table, so it is not for
 * frequent use. References are transient; no lock is held during @each.
 */
void vfsd_inodes_find_ident(struct vfsd_inodes *inodes, uint64_t dev, uint64_t ino,
			    void (*each)(void *ctx, const struct vfsd_inode *inode), void *ctx);

/* Are inodes held by their handles alone where that is possible? */
bool vfsd_inodes_are_by_handle(const struct vfsd_inodes *inodes);

/* How many inodes the guest holds, the root included. */
uint64_t vfsd_inodes_count(const struct vfsd_inodes *inodes);

#endif
