/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/internal - what the files of the node-id table share. Each calls only those before it:
 *
 *   file_handle     handles, by which the host finds inodes
 *   mounts          through which it opens them
 *   slot_alloc      the memory of slots
 *   forgotten       ids for later
 *   slot            one inode: its references and its descriptor
 *   index           finding inodes
 *   fd_cache        descriptors for a while
 *   hold            inodes that a descriptor holds, or must not
 *   place           where directories are
 *   open_forgotten  inodes by ids for later
 *   readdir_cache   directories that are listed often
 *   reserve         what a new inode needs, taken ahead
 *   add             inodes that come into the table
 *   table           the table: what asks it, what is forgotten, how it is made
 *   restore, scan   all that is in it, for a migration
 *
 * Nobody else includes this.
 */
#ifndef VFSD_INODE_INTERNAL_H
#define VFSD_INODE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "inode/inode.h"

enum {
	VFSD_INODE_SHARDS = 64,
	VFSD_INODE_CHUNK_SLOTS = 512,	/* 64 KiB */
	VFSD_INODE_CHUNKS_MAX = 32768,	/* 16 M inodes */
	VFSD_HANDLE_INLINE_BYTES = 20,	/* ext4 8, xfs and tmpfs 12, btrfs 20 */
	VFSD_FDS_EXPIRED_AT_ONCE = 256, /* closed by one call of vfsd_inodes_expire_fds() */
	VFSD_FD_CACHED_MS = 1000,	/* at most; at least half of it */
	VFSD_STALE_MS = 2000,		/* so long after an ESTALE, lookups hold what they find */
};

/* Set in vfsd_inode_slot.refs while closing_fd waits for its last borrower. */
#define VFSD_INODE_CLOSING 0x80000000u

/* Set in vfsd_inode_slot.fd and closing_fd of a descriptor that is only kept for a while. */
#define VFSD_FD_CACHED 0x40000000
/* Besides, if it is not a directory's. */
#define VFSD_FD_CACHED_FILE 0x20000000

static inline int vfsd_fd_number(int fd)
{
	return fd & ~(VFSD_FD_CACHED | VFSD_FD_CACHED_FILE);
}

/* Those whose birth times are this host's clock's, and whose handles we can read. */
enum vfsd_host_fs { VFSD_FS_OTHER, VFSD_FS_EXT4, VFSD_FS_XFS, VFSD_FS_BTRFS, VFSD_FS_TMPFS };

/* One mounted filesystem (one st_dev of it) that inodes of the table live on. */
struct vfsd_host_mount {
	struct vfsd_host_mount *next; /* protected by mounts_lock, as is refs */
	uint64_t mnt_id;
	uint64_t dev;
	uint64_t fsid;
	uint64_t refs;
	_Atomic int fd;	      /* base for open_by_handle_at(), -1: none yet */
	bool no_reopen;	      /* open_by_handle_at() was tried in vain; protected by mounts_lock */
	enum vfsd_host_fs fs; /* constant */
};

enum vfsd_index { VFSD_BY_IDENT, VFSD_BY_HANDLE, VFSD_INDEXES };

/*
 * 128 bytes. All zeros is a free slot (refs == 0). The table holds one of refs as long as the slot
 * is linked in an index.
 */
struct vfsd_inode_slot {
	struct vfsd_inode inode; /* first: a vfsd_inode is cast to its slot */
	_Atomic uint32_t refs;
	uint32_t next[VFSD_INDEXES]; /* slot index or 0; protected by the shard's lock */
	_Atomic int fd;		     /* our O_PATH descriptor, -1: the handle alone holds it */
	int closing_fd;		     /* was fd until it was let go; protected by unpin_lock */
	bool reopenable : 1;	     /* the handle is good for open_by_handle_at(); constant */
	bool handle_outside : 1;     /* handle_space holds a pointer to it, malloc()ed; constant */
	uint8_t : 0;
	bool never_cached
		: 1; /* no descriptor may pin it; protected by unpin_lock, as the next two */
	bool cached_again : 1;	  /* held once more since it was kept */
	bool held : 1;		  /* fd stays until the guest forgets the inode */
	bool was_forgotten;	  /* the guest may ask for its id; set by who forgets it */
	_Atomic uint8_t listings; /* of a directory: how many lately, see readdir_cache.c */
	_Atomic uint64_t nlookup; /* the guest's count; 0: not (or no more) held */
	struct vfsd_host_mount *mount;
	_Atomic uint64_t birth; /* ns since 1970, 0: tells nothing; see vfsd_slot_note_birth() */
	_Alignas(uint64_t) uint8_t handle_space[36];
	_Atomic uint32_t uncovered; /* as of so many mount changes nothing was upon its name */
};

_Static_assert(sizeof(struct vfsd_inode_slot) == 128, "two cache lines an inode");
_Static_assert(offsetof(struct vfsd_file_handle, data) + VFSD_HANDLE_INLINE_BYTES <=
		       sizeof(((struct vfsd_inode_slot *)NULL)->handle_space),
	       "room for inline handles");

struct vfsd_inode_shard {
	_Alignas(64) pthread_mutex_t lock;
	uint32_t *buckets; /* slot indices, 0: empty; protected by lock, as is the rest */
	uint32_t n_buckets;
	uint32_t used;
};

struct vfsd_inode_chunk {
	_Atomic(struct vfsd_inode_slot *) slots;    /* stays mapped until the table goes */
	uint64_t used[VFSD_INODE_CHUNK_SLOTS / 64]; /* bitmap; protected by slots_lock */
	uint32_t n_used;			    /* bits of it, of which */
	uint32_t n_live; /* have a slot in use; the others are reserved */
};

struct vfsd_inodes {
	struct vfsd_inodes_config config;
	bool by_handle; /* new inodes are held by handle where possible */
	bool can_unpin; /* the root's handle can be reopened */
	bool encode;	/* handles are computed at all */
	uint64_t seed;	/* of the hash, so that nobody can aim at a bucket */
	_Atomic uint64_t count;
	_Atomic uint32_t generation;

	struct vfsd_inode_shard shards[VFSD_INDEXES][VFSD_INODE_SHARDS];

	pthread_mutex_t slots_lock; /* allocation of slots, not their contents */
	uint32_t first_free;	    /* no chunk before this one has a free slot */
	struct vfsd_inode_chunk *chunks;

	pthread_mutex_t mounts_lock;
	struct vfsd_host_mount *mounts;

	pthread_mutex_t unpin_lock;
	/* Whose descriptors are kept, the oldest at cached_at; protected by unpin_lock. */
	uint64_t *cached; /* config.cached_fds_max of them */
	uint32_t cached_at;
	uint32_t cached_old; /* so many of the oldest were there half of VFSD_FD_CACHED_MS ago */
	_Atomic uint32_t cached_due; /* so many of those are to be closed now */
	_Atomic uint32_t n_cached;
	_Atomic uint32_t n_cached_files;  /* kept and open, but for directories */
	_Atomic uint64_t cached_since_ms; /* monotonic; when cached_old was counted */
	_Atomic uint64_t stale_since_ms;  /* likewise; the last ESTALE of a handle. 0: long ago */

	pthread_mutex_t forgotten_lock;
	struct vfsd_forgotten *forgotten; /* NULL: nothing has been forgotten yet */
	_Atomic uint32_t n_forgotten;
	_Atomic bool remember;

	pthread_mutex_t mount_changes_lock;
	int mount_table_fd;	/* /proc/self/mountinfo, polled with the lock; -1: none */
	uint32_t mount_changes; /* at least so many, never 0; protected by mount_changes_lock */
};

static inline struct vfsd_inode_slot *vfsd_inode_slot(const struct vfsd_inode *inode)
{
	return (struct vfsd_inode_slot *)(uintptr_t)inode;
}

/* Truncated to its bytes. */
static inline struct vfsd_file_handle *vfsd_slot_handle(const struct vfsd_inode_slot *slot)
{
	const void *space = slot->handle_space;

	return slot->handle_outside ? *(struct vfsd_file_handle *const *)space :
				      (struct vfsd_file_handle *)(uintptr_t)space;
}

static inline uint64_t vfsd_hash_mix(uint64_t h)
{
	h ^= h >> 30;
	h *= 0xbf58476d1ce4e5b9ULL;
	h ^= h >> 27;
	h *= 0x94d049bb133111ebULL;
	return h ^ (h >> 31);
}

/* The fsid is left out: find_name() does not know it. */
static inline uint64_t vfsd_file_handle_hash(const struct vfsd_inodes *inodes,
					     const struct vfsd_file_handle *handle)
{
	uint64_t h = inodes->seed ^ (uint32_t)handle->type ^ (uint64_t)handle->bytes << 32;
	uint32_t at = 0;

	while (at < handle->bytes) {
		uint32_t n = handle->bytes - at < 8 ? handle->bytes - at : 8;
		uint64_t word = 0;

		memcpy(&word, handle->data + at, n);
		h = vfsd_hash_mix(h ^ word);
		at += n;
	}
	return vfsd_hash_mix(h);
}

/* add.c */
int vfsd_inode_add_root(struct vfsd_inodes *inodes, int fd);
/*
 * As vfsd_inode_lookup_fd(); as @nodeid unless that is 0 or the inode has an id already. *fd is taken
 * if it is to hold the inode.
 */
int vfsd_inode_add(struct vfsd_inodes *inodes, uint64_t nodeid, int *fd, const struct statx *st,
		   struct vfsd_inode **ret);
int vfsd_inode_add_lost(struct vfsd_inodes *inodes, uint64_t nodeid, uint32_t type,
			struct vfsd_inode **ret);

/* index.c */

/* What to look for; a field that is not asked for matches anything. */
struct vfsd_wanted {
	enum vfsd_index which;
	bool match_dev_ino; /* dev and ino */
	bool match_mnt;
	bool match_fsid; /* of handle */
	bool certain; /* its number means this inode: pinned by a descriptor, or as old as @birth */
	uint64_t birth; /* 0: unknown */
	uint64_t dev;
	uint64_t ino;
	uint64_t mnt_id;
	const struct vfsd_file_handle *handle; /* all but fsid; NULL: not asked for */
};

/* What has the identity of @st. */
struct vfsd_wanted vfsd_wanted_ident(const struct statx *st);

/* Is the birth in @st so long before @now that an inode of that number was born by then? */
bool vfsd_statx_is_settled(const struct statx *st, const struct timespec *now);

/*
 * @st is sure to be the statx of @slot's inode: let its birth tell, from now on, whether an inode of
 * that number is still this one. That holds where births are the host's clock's and this one is long
 * past: another inode can only get the number after the end of this one, and is younger.
 */
void vfsd_slot_note_birth(struct vfsd_inode_slot *slot, const struct statx *st);

/* Takes a reference, and a lookup if @count. NULL: there is none. */
struct vfsd_inode_slot *vfsd_slot_find(struct vfsd_inodes *inodes, const struct vfsd_wanted *wanted,
				       bool count);

/* Make @slot visible, or find that somebody else was faster: then *ret is theirs. */
void vfsd_slot_publish(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot,
		       const struct vfsd_wanted *wanted, struct vfsd_inode_slot **ret);

/* The guest holds it no more: unlink it and drop the table's reference. */
void vfsd_slot_unpublish(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot);

/* 0 or -ENOMEM; destroy them also then. */
int vfsd_inode_shards_create(struct vfsd_inodes *inodes);
void vfsd_inode_shards_destroy(struct vfsd_inodes *inodes);

/* readdir_cache.c */

/* As config.mount_table_fd says; close mount_table_fd if it is not -1. */
void vfsd_inodes_open_mount_table(struct vfsd_inodes *inodes);

/* fd_cache.c */

/* Keep a descriptor of what a handle holds, unless others would have to make room. */
void vfsd_inode_cache_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/* Keep *fd (O_PATH, of @inode; taken) where a handle holds it, or what is kept already, anew. */
void vfsd_inode_cache_opened_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode, int *fd);

/* A guest's request has found that a handle leads nowhere any more. */
void vfsd_inodes_note_stale(struct vfsd_inodes *inodes);

/* reserve.c: as without the reserve, if this thread has none. */

/* Reserve a slot. 0 or -ENOMEM. */
int vfsd_reserve_slot(struct vfsd_inodes *inodes, uint32_t *ret);
/* One of the guest's descriptors. False: there is none left. */
bool vfsd_reserve_fd(struct vfsd_inodes *inodes);
/* Memory for a handle that does not fit a slot, to be freed. NULL: there is none. */
struct vfsd_file_handle *vfsd_reserve_handle(uint32_t bytes);

/* forgotten.c: the lock may be held around slots_lock */

/* Is there any use in remembering the id of @slot? */
bool vfsd_forgotten_takes(const struct vfsd_inode_slot *slot);

/*
 * Remember the id of @inode, whose index is reserved, and is given back with it. @parent: the id of the
 * directory that it was found in, if the guest knows that still, else 0. False: no memory.
 */
bool vfsd_forgotten_add(struct vfsd_inodes *inodes, const struct vfsd_inode *inode, uint64_t parent,
			const struct vfsd_file_handle *handle);

/* What is known of an id that the guest has forgotten. */
struct vfsd_forgotten_id {
	struct vfsd_file_handle handle;
	uint64_t parent; /* the id of a directory that it was found in, 0: not known */
	uint64_t dev;
	uint64_t mnt_id;
	uint32_t type; /* S_IFMT bits */
};

/* False: it is not known any more. The id stays. */
bool vfsd_forgotten_find(struct vfsd_inodes *inodes, uint64_t nodeid,
			 struct vfsd_forgotten_id *ret);

/*
 * The id that an inode had, 0: none; its index stays reserved for the caller. *found_in is set to the
 * index of the directory that it was found in, if there is an id.
 */
uint64_t vfsd_forgotten_take(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
			     uint64_t dev, uint64_t mnt_id, uint32_t type, uint32_t *found_in);

/* False: there is none. */
bool vfsd_forgotten_drop_oldest(struct vfsd_inodes *inodes);
void vfsd_forgotten_clear(struct vfsd_inodes *inodes);

/* slot_alloc.c */

/* NULL if no inode ever had this index. */
static inline struct vfsd_inode_slot *vfsd_slot_at(const struct vfsd_inodes *inodes, uint32_t index)
{
	uint32_t chunk = index / VFSD_INODE_CHUNK_SLOTS;
	struct vfsd_inode_slot *slots;

	if (chunk >= VFSD_INODE_CHUNKS_MAX)
		return NULL;
	slots = atomic_load_explicit(&inodes->chunks[chunk].slots, memory_order_acquire);
	return slots ? &slots[index % VFSD_INODE_CHUNK_SLOTS] : NULL;
}

static inline uint32_t vfsd_slot_index(const struct vfsd_inode_slot *slot)
{
	return (uint32_t)slot->inode.nodeid;
}

/* Reserve a slot, the lowest that is free. 0 or -ENOMEM. */
int vfsd_slot_alloc(struct vfsd_inodes *inodes, uint32_t *ret);
/* Reserve that very slot. 0, -EINVAL if it is taken or beyond the table, or -ENOMEM. */
int vfsd_slot_alloc_at(struct vfsd_inodes *inodes, uint32_t index);
void vfsd_slot_free(struct vfsd_inodes *inodes, uint32_t index);

/* The slot goes, but no other may have its index until it is wanted again, or unreserved. */
void vfsd_slot_reserve(struct vfsd_inodes *inodes, uint32_t index);
void vfsd_slot_alloc_reserved(struct vfsd_inodes *inodes, uint32_t index);
void vfsd_slot_unreserve(struct vfsd_inodes *inodes, uint32_t index);

/* No slot of this chunk is taken: do not touch its pages, of which there may be many. */
bool vfsd_slot_chunk_empty(struct vfsd_inodes *inodes, uint32_t chunk);

/* slot.c */

/* Take a reference, unless the slot is free. What is in it must be looked at afterwards. */
bool vfsd_slot_ref(struct vfsd_inode_slot *slot);

/* Drop a reference; the last one gives back all that the slot owns, and the slot. */
void vfsd_slot_put(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot);

/* Count one lookup. False: the guest does not hold the inode (any more). */
bool vfsd_slot_count_lookup(struct vfsd_inode_slot *slot);

/* Close the descriptor (as slots have it) an inode was held by. */
void vfsd_host_fd_close(struct vfsd_inodes *inodes, int fd);

/*
 * @slot gives up its descriptor; the caller, who has a reference, does not borrow it. The lock is
 * unpin_lock. Returns what the caller is to close without the lock, or -1.
 */
int vfsd_slot_take_fd(struct vfsd_inode_slot *slot);

/* file_handle.c */

/*
 * Encode the handle of @name in @dir_fd (of @dir_fd itself if @name is empty); fsid is not set.
 * With @fid_too a handle that identifies but cannot be opened will do; *reopenable tells.
 * 0 or -errno; *mnt_id is the mount it is on.
 */
int vfsd_file_handle_encode(int dir_fd, const char *name, bool fid_too,
			    struct vfsd_file_handle *handle, bool *reopenable, uint64_t *mnt_id);

/* The inode number in @handle, 0 if we don't know where it is. */
uint64_t vfsd_file_handle_ino(enum vfsd_host_fs fs, const struct vfsd_file_handle *handle);

/* Open what @handle means on the mount that @mount_fd is of. The fd or -errno; -ESTALE: gone. */
int vfsd_file_handle_open(int mount_fd, const struct vfsd_file_handle *handle, int flags);

/* mounts.c */

/* Find or add the mount of @fd (whose statx is @st) and take a reference. NULL: no memory. */
struct vfsd_host_mount *vfsd_host_mount_get(struct vfsd_inodes *inodes, int fd,
					    const struct statx *st);
/* The same, only where inodes can be opened by handle already. NULL: not there. */
struct vfsd_host_mount *vfsd_host_mount_find(struct vfsd_inodes *inodes, uint64_t dev,
					     uint64_t mnt_id);
void vfsd_host_mount_put(struct vfsd_inodes *inodes, struct vfsd_host_mount *mount);

/* Can inodes of @mount be reopened by handle? @fd and @handle are one of them, to try with. */
bool vfsd_host_mount_reopens(struct vfsd_inodes *inodes, struct vfsd_host_mount *mount, int fd,
			     uint32_t type, const struct vfsd_file_handle *handle);

#endif
