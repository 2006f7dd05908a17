/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/internal - what the files of the node-id table share. Each file calls only those above it:
 *
 *   file_handle     encoding, comparing and opening file handles
 *   mounts          the mounts that handles are opened through
 *   slot_alloc      the memory of slots
 *   forgotten       node ids that are remembered after FORGET
 *   slot            one inode: its references and its descriptor
 *   index           the hash indexes: by inode number and by handle
 *   fd_cache        the cache of O_PATH descriptors
 *   hold            inodes that must be held by a descriptor, and those that must not
 *   place           whether a directory is below the root
 *   open_forgotten  opening an inode by a remembered id
 *   readdir_cache   READDIRPLUS of directories that are listed often
 *   reserve         slot, memory and quota of an inode that is about to be made
 *   add             inodes that come into the table
 *   table           lookups, FORGET, creation of the table
 *   restore         iterating over all inodes; migration
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
	VFSD_STALE_MS = 2000,		/* so long after an ESTALE, lookups cache descriptors */
};

/* Set in vfsd_inode_slot.refs while somebody may still use closing_fd. */
#define VFSD_INODE_CLOSING 0x80000000u

/* Set in vfsd_inode_slot.fd and closing_fd if the descriptor is a cached one. */
#define VFSD_FD_CACHED 0x40000000
/* Set in addition if it is not a directory's. */
#define VFSD_FD_CACHED_FILE 0x20000000

static inline int vfsd_fd_number(int fd)
{
	return fd & ~(VFSD_FD_CACHED | VFSD_FD_CACHED_FILE);
}

/* Filesystems whose btime comes from this host's clock, and whose handles have a known layout. */
enum vfsd_host_fs { VFSD_FS_OTHER, VFSD_FS_EXT4, VFSD_FS_XFS, VFSD_FS_BTRFS, VFSD_FS_TMPFS };

/* One mount (one st_dev of it) that has inodes in the table. */
struct vfsd_host_mount {
	struct vfsd_host_mount *next; /* protected by mounts_lock, as is refs */
	uint64_t mnt_id;
	uint64_t dev;
	uint64_t fsid;
	uint64_t refs;
	_Atomic int fd;	      /* for open_by_handle_at(), -1: none yet */
	bool no_reopen;	      /* open_by_handle_at() has failed; protected by mounts_lock */
	enum vfsd_host_fs fs; /* constant */
};

enum vfsd_index { VFSD_BY_IDENT, VFSD_BY_HANDLE, VFSD_INDEXES };

/* All zeros is a free slot (refs == 0). The table holds one reference while the slot is in an index. */
struct vfsd_inode_slot {
	struct vfsd_inode inode; /* first: a vfsd_inode is cast to its slot */
	_Atomic uint32_t refs;
	uint32_t next[VFSD_INDEXES]; /* slot index or 0; protected by the shard's lock */
	_Atomic int fd;		     /* O_PATH, -1: the handle alone holds the inode */
	int closing_fd;		     /* was fd, to be closed; protected by unpin_lock */
	bool reopenable : 1;	     /* open_by_handle_at() takes the handle; constant */
	bool handle_outside : 1;     /* handle_space has a pointer to a malloc()ed one; constant */
	uint8_t : 0;
	bool never_cached
		: 1; /* no descriptor may pin it; protected by unpin_lock, as the next two */
	bool cached_again : 1;	  /* cached once more meanwhile */
	bool held : 1;		  /* fd stays until the guest forgets the inode */
	bool was_forgotten;	  /* remember the id; set by FORGET */
	_Atomic uint8_t listings; /* of a directory: how many lately; readdir_cache.c */
	_Atomic uint64_t nlookup; /* the guest's count; 0: not held */
	struct vfsd_host_mount *mount;
	_Atomic uint64_t btime; /* ns since 1970, 0: not to be used; see vfsd_slot_note_btime() */
	_Alignas(uint64_t) uint8_t handle_space[36];
	_Atomic uint32_t uncovered; /* mount changes when its name was no mount point */
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
	bool by_handle; /* new inodes are held by their handles where possible */
	bool can_unpin; /* the root's handle can be reopened */
	bool encode;	/* handles are computed at all */
	uint64_t seed;	/* of the hash, so that a guest cannot choose buckets */
	_Atomic uint64_t count;
	_Atomic uint32_t generation;

	struct vfsd_inode_shard shards[VFSD_INDEXES][VFSD_INODE_SHARDS];

	pthread_mutex_t slots_lock; /* allocation of slots, not their contents */
	uint32_t first_free;	    /* no chunk before this one has a free slot */
	struct vfsd_inode_chunk *chunks;

	pthread_mutex_t mounts_lock;
	struct vfsd_host_mount *mounts;

	pthread_mutex_t unpin_lock;
	/* A ring of node ids with cached descriptors, the oldest at cached_at; protected by unpin_lock. */
	uint64_t *cached; /* config.cached_fds_max of them */
	uint32_t cached_at;
	uint32_t cached_old;	     /* so many were there VFSD_FD_CACHED_MS / 2 ago */
	_Atomic uint32_t cached_due; /* so many of the oldest are to be closed now */
	_Atomic uint32_t n_cached;
	_Atomic uint32_t n_cached_files;  /* cached and open, without directories */
	_Atomic uint64_t cached_since_ms; /* monotonic: when cached_old was set */
	_Atomic uint64_t stale_since_ms;  /* likewise: the last ESTALE. 0: long ago */

	pthread_mutex_t forgotten_lock;
	struct vfsd_forgotten *forgotten; /* NULL: nothing is remembered */
	_Atomic uint32_t n_forgotten;
	/* Inodes whose lookup count has gone to 0 and whose ids are not remembered yet. */
	_Atomic uint32_t n_ending;
	_Atomic uint32_t n_awaiting; /* threads that wait until one of these has ended */
	pthread_cond_t ended;
	_Atomic bool remember;

	pthread_mutex_t mount_changes_lock;
	int mount_table_fd;	/* /proc/self/mountinfo, polled with the lock; -1: none */
	uint32_t mount_changes; /* never 0; protected by mount_changes_lock */
};

static inline struct vfsd_inode_slot *vfsd_inode_slot(const struct vfsd_inode *inode)
{
	return (struct vfsd_inode_slot *)(uintptr_t)inode;
}

/* The handle in @slot: only its @bytes of data are there. */
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

/* The fsid is left out: vfsd_inode_find_name() does not know it. */
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
 * As vfsd_inode_lookup_fd(). A new inode gets the id @nodeid, unless that is 0. *fd is taken if the inode is
 * held by it.
 */
int vfsd_inode_add(struct vfsd_inodes *inodes, uint64_t nodeid, int *fd, const struct statx *st,
		   struct vfsd_inode **ret);
int vfsd_inode_add_lost(struct vfsd_inodes *inodes, uint64_t nodeid, uint32_t type,
			struct vfsd_inode **ret);

/* index.c */

/* The key of a lookup in an index. A field that is not asked for matches anything. */
struct vfsd_inode_key {
	enum vfsd_index which;
	bool match_dev_ino; /* dev and ino */
	bool match_mnt;
	bool match_fsid;      /* of handle */
	bool ino_is_identity; /* only an inode that a descriptor pins, or whose btime is @btime */
	uint64_t btime;	      /* 0: unknown */
	uint64_t dev;
	uint64_t ino;
	uint64_t mnt_id;
	const struct vfsd_file_handle *handle; /* all but fsid; NULL: not asked for */
};

/* The key of an inode by its numbers in @st. */
struct vfsd_inode_key vfsd_inode_key_of(const struct statx *st);

/* Is the btime of @st some seconds before @now, so that the inode existed then? */
bool vfsd_statx_btime_is_old(const struct statx *st, const struct timespec *now);

/*
 * Let the btime of @st, which is the statx of @slot's inode, tell from now on whether an inode with its number
 * is this inode. That works on filesystems that take btime from the host's clock, if this btime is some
 * seconds old: another inode gets the number only after this one was removed, and its btime is later.
 */
void vfsd_slot_note_btime(struct vfsd_inode_slot *slot, const struct statx *st);

/* Takes a reference, and counts a lookup if @count. NULL: there is no such inode. */
struct vfsd_inode_slot *vfsd_slot_find(struct vfsd_inodes *inodes, const struct vfsd_inode_key *key,
				       bool count);

/* Make @slot visible. If another thread was faster, *ret is that thread's slot. */
void vfsd_slot_publish(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot,
		       const struct vfsd_inode_key *key, struct vfsd_inode_slot **ret);

/* Remove @slot from the indexes and drop the table's reference: the guest does not hold it any more. */
void vfsd_slot_unpublish(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot);

/* 0 or -ENOMEM; call destroy in either case. */
int vfsd_inode_shards_create(struct vfsd_inodes *inodes);
void vfsd_inode_shards_destroy(struct vfsd_inodes *inodes);

/* readdir_cache.c */

/* Open config.mount_table_fd anew as mount_table_fd, which the caller closes if it is not -1. */
void vfsd_inodes_open_mount_table(struct vfsd_inodes *inodes);

/* fd_cache.c */

/* Cache a descriptor of @inode if a handle holds it and the cache is not full. */
void vfsd_inode_cache_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

/* Cache *fd (O_PATH, of @inode; taken) if a handle holds it. If one is cached already, cache it longer. */
void vfsd_inode_cache_opened_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode, int *fd);

/* A request has failed with ESTALE. */
void vfsd_inodes_note_stale(struct vfsd_inodes *inodes);

/* reserve.c. These take from this thread's reserve; without one, from the table, quota and heap. */

/* Take a slot. 0 or -ENOMEM. */
int vfsd_reserve_slot(struct vfsd_inodes *inodes, uint32_t *ret);
/* Count one descriptor of the guest's quota. False: there is none left. */
bool vfsd_reserve_fd(struct vfsd_inodes *inodes);
/* Memory for a handle that does not fit into a slot; free() it. NULL: there is none. */
struct vfsd_file_handle *vfsd_reserve_handle(uint32_t bytes);

/* forgotten.c; its lock may be held around slots_lock */

/* Can the id of @slot be remembered? It needs a handle that can be opened. */
bool vfsd_forgotten_takes(const struct vfsd_inode_slot *slot);

/*
 * Remember the id of @inode. Its index is reserved, and is unreserved when the id is dropped. @parent: the id
 * of the directory that it was found in if the guest holds that, else 0. False: no memory.
 */
bool vfsd_forgotten_add(struct vfsd_inodes *inodes, const struct vfsd_inode *inode, uint64_t parent,
			const struct vfsd_file_handle *handle);

/* A remembered id. */
struct vfsd_forgotten_id {
	struct vfsd_file_handle handle;
	uint64_t parent; /* the id of the directory that it was found in, 0: not known */
	uint64_t dev;
	uint64_t mnt_id;
	uint32_t type; /* S_IFMT bits */
};

/*
 * Look an id up. It stays remembered. False: it is not remembered. Between the FORGET and the end of the last
 * request that uses the inode, its id is neither in the table nor remembered: while there are such inodes this
 * waits, a second at most. The caller holds no reference to an inode that may be one.
 */
bool vfsd_forgotten_find(struct vfsd_inodes *inodes, uint64_t nodeid,
			 struct vfsd_forgotten_id *ret);

/* The lookup count of an inode may go to 0 next. */
void vfsd_forgotten_begin(struct vfsd_inodes *inodes);
/* It has not, or what there is to remember is remembered. */
void vfsd_forgotten_end(struct vfsd_inodes *inodes);

/*
 * Remove the remembered id of an inode and return it, 0: none. Its index stays reserved, for the caller.
 * *found_in is set, if there is an id, to the index of the directory that the inode was found in.
 */
uint64_t vfsd_forgotten_take(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
			     uint64_t dev, uint64_t mnt_id, uint32_t type, uint32_t *found_in);

/* False: nothing is remembered. */
bool vfsd_forgotten_drop_oldest(struct vfsd_inodes *inodes);
void vfsd_forgotten_clear(struct vfsd_inodes *inodes);

/* slot_alloc.c */

/* NULL: no inode ever had this index. */
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

/* Allocate the lowest free slot. 0 or -ENOMEM. */
int vfsd_slot_alloc(struct vfsd_inodes *inodes, uint32_t *ret);
/* Allocate this slot. 0, -EINVAL if it is in use or beyond the table, or -ENOMEM. */
int vfsd_slot_alloc_at(struct vfsd_inodes *inodes, uint32_t index);
void vfsd_slot_free(struct vfsd_inodes *inodes, uint32_t index);

/* Free the slot, but give its index to nobody until alloc_reserved or unreserve is called. */
void vfsd_slot_reserve(struct vfsd_inodes *inodes, uint32_t index);
void vfsd_slot_alloc_reserved(struct vfsd_inodes *inodes, uint32_t index);
void vfsd_slot_unreserve(struct vfsd_inodes *inodes, uint32_t index);

/* Is no slot of this chunk in use? Then its pages are not to be touched. */
bool vfsd_slot_chunk_empty(struct vfsd_inodes *inodes, uint32_t chunk);

/* slot.c */

/* Take a reference, unless the slot is free. Check what is in the slot only afterwards. */
bool vfsd_slot_ref(struct vfsd_inode_slot *slot);

/* Drop a reference. The last one frees the slot and all that it owns. */
void vfsd_slot_put(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot);

/* Count one lookup. False: the guest does not hold the inode. */
bool vfsd_slot_count_lookup(struct vfsd_inode_slot *slot);

/* Close a descriptor that was a slot's fd, and give back its quota. */
void vfsd_host_fd_close(struct vfsd_inodes *inodes, int fd);

/*
 * Take the descriptor out of @slot. unpin_lock is held; the caller has a reference and does not use the
 * descriptor. Returns the fd, which the caller closes after it has released the lock. -1: there was none, or
 * somebody uses it, and the last one closes it.
 */
int vfsd_slot_take_fd(struct vfsd_inode_slot *slot);

/* file_handle.c */

/*
 * Encode the handle of @name in @dir_fd, or of @dir_fd itself if @name is empty; fsid is not set. @fid_too:
 * also accept a handle that identifies the inode but cannot be opened; *reopenable tells which it is. *mnt_id
 * is the mount that the inode is on. 0 or -errno.
 */
int vfsd_file_handle_encode(int dir_fd, const char *name, bool fid_too,
			    struct vfsd_file_handle *handle, bool *reopenable, uint64_t *mnt_id);

/* The inode number in @handle, 0: the layout is not known. */
uint64_t vfsd_file_handle_ino(enum vfsd_host_fs fs, const struct vfsd_file_handle *handle);

/* Open @handle on the mount of @mount_fd. The fd or -errno; -ESTALE: the inode is gone. */
int vfsd_file_handle_open(int mount_fd, const struct vfsd_file_handle *handle, int flags);

/* mounts.c */

/* Find or add the mount of @fd (whose statx is @st) and take a reference. NULL: no memory. */
struct vfsd_host_mount *vfsd_host_mount_get(struct vfsd_inodes *inodes, int fd,
					    const struct statx *st);
/* Find a mount that inodes have been opened by handle on, and take a reference. NULL: none. */
struct vfsd_host_mount *vfsd_host_mount_find(struct vfsd_inodes *inodes, uint64_t dev,
					     uint64_t mnt_id);
void vfsd_host_mount_put(struct vfsd_inodes *inodes, struct vfsd_host_mount *mount);

/* Can inodes of @mount be opened by handle? Tries @handle, the handle of @fd, if that is not known. */
bool vfsd_host_mount_reopens(struct vfsd_inodes *inodes, struct vfsd_host_mount *mount, int fd,
			     uint32_t type, const struct vfsd_file_handle *handle);

#endif
