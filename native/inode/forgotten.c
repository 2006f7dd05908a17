/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Node ids that are remembered after FORGET.
 *
 * A guest makes file handles out of node ids (name_to_handle_at(), fanotify, an NFS server), and its kernel
 * forgets inodes whenever it likes. So an inode that can be opened by its host handle keeps its id after
 * FORGET: the id means this inode and no other, and the inode gets this id again, whether the guest asks for it
 * by LOOKUP "." or by name. When the table is full, the oldest entry makes room. An entry takes memory and the
 * index of a slot, but no descriptor and no mount. The memory is mapped with the first entry.
 */
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/util.h"
#include "inode/internal.h"

enum {
	ENTRIES = 1 << 16,
	BUCKETS = ENTRIES,
	HANDLE_BYTES_MAX = 40, /* overlayfs over ext4 or XFS has 37 */
	AWAIT_S = 1,
};

enum by { BY_ID, BY_HANDLE, BY_MAX };

struct entry {
	uint64_t nodeid;
	uint64_t parent; /* the id of the directory that it was found in, 0: not known */
	uint64_t dev;
	uint64_t mnt_id;
	uint64_t fsid;
	int32_t handle_type;
	uint32_t handle_bytes;
	uint32_t type; /* S_IFMT bits */
	/* Numbers of entries, 0: none. */
	uint32_t next[BY_MAX]; /* in the bucket; next[BY_ID] also among the free ones */
	uint32_t older;
	uint32_t newer;
	uint8_t handle[HANDLE_BYTES_MAX];
};

/* Mapped as zeros: only entries that have been used take memory. Number 0 means none. */
struct vfsd_forgotten {
	struct entry entries[ENTRIES + 1];
	uint32_t buckets[BY_MAX][BUCKETS];
	uint32_t n_touched; /* entries that were ever in use are 1 to here */
	uint32_t first_free;
	uint32_t oldest;
	uint32_t newest;
};

static uint32_t *bucket_of_id(struct vfsd_forgotten *table, uint64_t nodeid)
{
	/* Indexes of slots are small numbers, and no two entries have the same. */
	return &table->buckets[BY_ID][(uint32_t)nodeid % BUCKETS];
}

static uint32_t *bucket_of_handle(const struct vfsd_inodes *inodes,
				  const struct vfsd_file_handle *handle)
{
	return &inodes->forgotten
			->buckets[BY_HANDLE][vfsd_file_handle_hash(inodes, handle) % BUCKETS];
}

static struct vfsd_file_handle handle_of(const struct entry *entry)
{
	struct vfsd_file_handle handle;

	handle.fsid = entry->fsid;
	handle.type = entry->handle_type;
	handle.bytes = entry->handle_bytes;
	memcpy(handle.data, entry->handle, entry->handle_bytes);
	return handle;
}

static void unchain(struct vfsd_forgotten *table, uint32_t *link, uint32_t n, enum by by)
{
	while (*link != n)
		link = &table->entries[*link].next[by];
	*link = table->entries[n].next[by];
}

/* Remove the entry. The lock is held. The index of its node id stays reserved. */
static void take_out(struct vfsd_inodes *inodes, uint32_t n)
{
	struct vfsd_forgotten *table = inodes->forgotten;
	struct entry *entry = &table->entries[n];
	const struct vfsd_file_handle handle = handle_of(entry);

	unchain(table, bucket_of_id(table, entry->nodeid), n, BY_ID);
	unchain(table, bucket_of_handle(inodes, &handle), n, BY_HANDLE);
	*(entry->older ? &table->entries[entry->older].newer : &table->oldest) = entry->newer;
	*(entry->newer ? &table->entries[entry->newer].older : &table->newest) = entry->older;
	entry->next[BY_ID] = table->first_free;
	table->first_free = n;
	atomic_fetch_sub_explicit(&inodes->n_forgotten, 1, memory_order_relaxed);
}

/* The lock is held. */
static void drop(struct vfsd_inodes *inodes, uint32_t n)
{
	uint64_t nodeid = inodes->forgotten->entries[n].nodeid;

	take_out(inodes, n);
	vfsd_slot_unreserve(inodes, (uint32_t)nodeid);
}

/* The number of the entry with that handle, 0: none. The lock is held. */
static uint32_t find_handle(const struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
			    uint64_t dev, uint64_t mnt_id)
{
	const struct vfsd_forgotten *table = inodes->forgotten;
	uint32_t n = *bucket_of_handle(inodes, handle);

	for (; n; n = table->entries[n].next[BY_HANDLE]) {
		const struct entry *entry = &table->entries[n];
		const struct vfsd_file_handle has = handle_of(entry);

		if (entry->dev == dev && entry->mnt_id == mnt_id &&
		    vfsd_file_handle_equal(&has, handle))
			return n;
	}
	return 0;
}

/* The number of an unused entry, 0: no memory. The lock is held. */
static uint32_t allocate(struct vfsd_inodes *inodes)
{
	struct vfsd_forgotten *table = inodes->forgotten;
	uint32_t n;

	if (!table) {
		table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (table == MAP_FAILED)
			return 0;
		inodes->forgotten = table;
	}
	if (!table->first_free && table->n_touched == ENTRIES)
		drop(inodes, table->oldest);
	n = table->first_free;
	if (!n)
		return ++table->n_touched;
	table->first_free = table->entries[n].next[BY_ID];
	return n;
}

bool vfsd_forgotten_takes(const struct vfsd_inode_slot *slot)
{
	const uint32_t bytes = vfsd_slot_handle(slot)->bytes;

	return slot->reopenable && bytes > 0 && bytes <= HANDLE_BYTES_MAX;
}

/* The remembered id of the directory with that slot index, 0: none. The lock is held. */
static uint64_t id_of_index(struct vfsd_forgotten *table, uint32_t index)
{
	uint32_t n = table ? *bucket_of_id(table, index) : 0;

	while (n && (uint32_t)table->entries[n].nodeid != index)
		n = table->entries[n].next[BY_ID];
	return n && table->entries[n].type == S_IFDIR ? table->entries[n].nodeid : 0;
}

bool vfsd_forgotten_add(struct vfsd_inodes *inodes, const struct vfsd_inode *inode, uint64_t parent,
			const struct vfsd_file_handle *handle)
{
	struct vfsd_forgotten *table;
	struct entry *entry;
	uint32_t *bucket;
	uint32_t n;

	pthread_mutex_lock(&inodes->forgotten_lock);
	n = allocate(inodes);
	table = inodes->forgotten;
	if (n) {
		uint32_t other = find_handle(inodes, handle, inode->dev, inode->mnt_id);

		if (!parent && inode->found_in)
			parent = id_of_index(table, inode->found_in);
		/* The inode was looked up again, and forgotten, during its last request: it has two ids. */
		if (other)
			drop(inodes, other);
		entry = &table->entries[n];
		*entry = (struct entry){
			.nodeid = inode->nodeid,
			.parent = parent,
			.dev = inode->dev,
			.mnt_id = inode->mnt_id,
			.fsid = handle->fsid,
			.handle_type = handle->type,
			.handle_bytes = handle->bytes,
			.type = inode->type,
			.older = table->newest,
		};
		memcpy(entry->handle, handle->data, handle->bytes);
		*(table->newest ? &table->entries[table->newest].newer : &table->oldest) = n;
		table->newest = n;
		bucket = bucket_of_id(table, entry->nodeid);
		entry->next[BY_ID] = *bucket;
		*bucket = n;
		bucket = bucket_of_handle(inodes, handle);
		entry->next[BY_HANDLE] = *bucket;
		*bucket = n;
		atomic_fetch_add_explicit(&inodes->n_forgotten, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&inodes->forgotten_lock);
	return n != 0;
}

uint64_t vfsd_forgotten_take(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
			     uint64_t dev, uint64_t mnt_id, uint32_t type, uint32_t *found_in)
{
	uint64_t nodeid = 0;
	uint32_t n;

	if (atomic_load_explicit(&inodes->n_forgotten, memory_order_relaxed) == 0 || !handle->bytes)
		return 0;
	pthread_mutex_lock(&inodes->forgotten_lock);
	n = inodes->forgotten ? find_handle(inodes, handle, dev, mnt_id) : 0;
	if (n && inodes->forgotten->entries[n].type == type) {
		nodeid = inodes->forgotten->entries[n].nodeid;
		*found_in = (uint32_t)inodes->forgotten->entries[n].parent;
		take_out(inodes, n);
	} else if (n) {
		drop(inodes, n);
	}
	pthread_mutex_unlock(&inodes->forgotten_lock);
	return nodeid;
}

bool vfsd_forgotten_drop_oldest(struct vfsd_inodes *inodes)
{
	bool any;

	pthread_mutex_lock(&inodes->forgotten_lock);
	any = atomic_load_explicit(&inodes->n_forgotten, memory_order_relaxed) > 0;
	if (any)
		drop(inodes, inodes->forgotten->oldest);
	pthread_mutex_unlock(&inodes->forgotten_lock);
	return any;
}

void vfsd_forgotten_clear(struct vfsd_inodes *inodes)
{
	while (vfsd_forgotten_drop_oldest(inodes))
		;
	pthread_mutex_lock(&inodes->forgotten_lock);
	if (inodes->forgotten &&
	    atomic_load_explicit(&inodes->n_forgotten, memory_order_relaxed) == 0) {
		(void)munmap(inodes->forgotten, sizeof(*inodes->forgotten));
		inodes->forgotten = NULL;
	}
	pthread_mutex_unlock(&inodes->forgotten_lock);
}

void vfsd_forgotten_begin(struct vfsd_inodes *inodes)
{
	atomic_fetch_add(&inodes->n_ending, 1);
}

void vfsd_forgotten_end(struct vfsd_inodes *inodes)
{
	atomic_fetch_sub(&inodes->n_ending, 1);
	if (VFSD_LIKELY(atomic_load(&inodes->n_awaiting) == 0))
		return;
	pthread_mutex_lock(&inodes->forgotten_lock);
	pthread_cond_broadcast(&inodes->ended);
	pthread_mutex_unlock(&inodes->forgotten_lock);
}

/* The number of the entry with that id, 0: none. The lock is held. */
static uint32_t find_id(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct vfsd_forgotten *table = inodes->forgotten;
	uint32_t n = table ? *bucket_of_id(table, nodeid) : 0;

	while (n && table->entries[n].nodeid != nodeid)
		n = table->entries[n].next[BY_ID];
	return n;
}

/* The same, after what ends at the moment has ended. The lock is held, but while this sleeps. */
static uint32_t await_id(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct timespec end;
	uint32_t n;
	int error = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += AWAIT_S;
	atomic_fetch_add(&inodes->n_awaiting, 1);
	while (error == 0 && atomic_load(&inodes->n_ending) > 0 && !find_id(inodes, nodeid))
		error = pthread_cond_clockwait(&inodes->ended, &inodes->forgotten_lock,
					       CLOCK_MONOTONIC, &end);
	n = find_id(inodes, nodeid);
	atomic_fetch_sub(&inodes->n_awaiting, 1);
	return n;
}

bool vfsd_forgotten_find(struct vfsd_inodes *inodes, uint64_t nodeid, struct vfsd_forgotten_id *ret)
{
	uint32_t n;

	pthread_mutex_lock(&inodes->forgotten_lock);
	n = find_id(inodes, nodeid);
	if (!n && atomic_load(&inodes->n_ending) > 0)
		n = await_id(inodes, nodeid);
	if (n) {
		const struct entry *entry = &inodes->forgotten->entries[n];

		*ret = (struct vfsd_forgotten_id){
			.handle = handle_of(entry),
			.parent = entry->parent,
			.dev = entry->dev,
			.mnt_id = entry->mnt_id,
			.type = entry->type,
		};
	}
	pthread_mutex_unlock(&inodes->forgotten_lock);
	return n != 0;
}
