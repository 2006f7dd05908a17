/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The node-id table.
 *
 * Every inode is linked in the index by (dev, ino, mnt) and, if it has a handle, in the index by
 * handle. The latter, or the former without a handle, is the one that decides what is the same
 * inode: under its shard's lock a new inode is made visible by setting nlookup. An inode whose
 * nlookup is 0 is invisible: on its way in or out.
 */
#include "inode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sysmacros.h>

#include "inode_internal.h"
#include "quota.h"
#include "util.h"

enum { BUCKETS_MIN = 16 };

/* Indexes */

static uint64_t mix(uint64_t h)
{
	h ^= h >> 30;
	h *= 0xbf58476d1ce4e5b9ULL;
	h ^= h >> 27;
	h *= 0x94d049bb133111ebULL;
	return h ^ (h >> 31);
}

static uint64_t hash_ident(const struct vfsd_inodes *inodes, uint64_t dev, uint64_t ino,
			   uint64_t mnt_id)
{
	return mix(mix(mix(inodes->seed ^ ino) ^ dev) ^ mnt_id);
}

/* The fsid is left out: find_name() does not know it. */
static uint64_t hash_handle(const struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle)
{
	uint64_t h = inodes->seed ^ (uint32_t)handle->type ^ (uint64_t)handle->bytes << 32;
	uint32_t at = 0;

	while (at < handle->bytes) {
		uint32_t n = handle->bytes - at < 8 ? handle->bytes - at : 8;
		uint64_t word = 0;

		memcpy(&word, handle->data + at, n);
		h = mix(h ^ word);
		at += n;
	}
	return mix(h);
}

static uint64_t slot_hash(const struct vfsd_inodes *inodes, const struct vfsd_inode_slot *slot,
			  enum vfsd_index which)
{
	if (which == VFSD_BY_HANDLE)
		return hash_handle(inodes, slot->handle);
	return hash_ident(inodes, slot->inode.dev, slot->inode.ino, slot->inode.mnt_id);
}

static struct vfsd_inode_shard *shard_of(struct vfsd_inodes *inodes, enum vfsd_index which,
					 uint64_t hash)
{
	return &inodes->shards[which][hash >> 58];
}

static uint32_t *bucket_of(const struct vfsd_inode_shard *shard, uint64_t hash)
{
	return &shard->buckets[hash & (shard->n_buckets - 1)];
}

/* Best effort: without memory the chains just stay as they are. */
static void shard_resize(struct vfsd_inodes *inodes, struct vfsd_inode_shard *shard,
			 enum vfsd_index which, uint32_t n_buckets)
{
	struct vfsd_inode_shard resized = {.n_buckets = n_buckets};

	resized.buckets = calloc(n_buckets, sizeof(*resized.buckets));
	if (!resized.buckets)
		return;
	for (uint32_t b = 0; b < shard->n_buckets; b++) {
		uint32_t index = shard->buckets[b];

		while (index) {
			struct vfsd_inode_slot *slot = vfsd_slot_at(inodes, index);
			uint32_t *bucket = bucket_of(&resized, slot_hash(inodes, slot, which));
			uint32_t next = slot->next[which];

			slot->next[which] = *bucket;
			*bucket = index;
			index = next;
		}
	}
	free(shard->buckets);
	shard->buckets = resized.buckets;
	shard->n_buckets = n_buckets;
}

/* The shard's lock is held. */
static void index_insert(struct vfsd_inodes *inodes, struct vfsd_inode_shard *shard,
			 struct vfsd_inode_slot *slot, enum vfsd_index which, uint64_t hash)
{
	uint32_t *bucket;

	if (shard->used >= shard->n_buckets && shard->n_buckets < 1u << 30)
		shard_resize(inodes, shard, which, shard->n_buckets * 2);
	bucket = bucket_of(shard, hash);
	slot->next[which] = *bucket;
	*bucket = vfsd_slot_index(slot);
	shard->used++;
}

static void index_remove(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot,
			 enum vfsd_index which)
{
	uint64_t hash = slot_hash(inodes, slot, which);
	struct vfsd_inode_shard *shard = shard_of(inodes, which, hash);
	uint32_t *link;

	pthread_mutex_lock(&shard->lock);
	link = bucket_of(shard, hash);
	while (*link != vfsd_slot_index(slot))
		link = &vfsd_slot_at(inodes, *link)->next[which];
	*link = slot->next[which];
	shard->used--;
	if (shard->n_buckets > BUCKETS_MIN && shard->used < shard->n_buckets / 8)
		shard_resize(inodes, shard, which, shard->n_buckets / 2);
	pthread_mutex_unlock(&shard->lock);
}

/* What to look for; a field that is not asked for matches anything. */
struct wanted {
	enum vfsd_index which;
	bool match_dev_ino; /* dev and ino */
	bool match_mnt;
	bool match_fsid; /* of handle */
	bool pinned;	 /* held by a descriptor */
	uint64_t dev;
	uint64_t ino;
	uint64_t mnt_id;
	const struct vfsd_file_handle *handle; /* all but fsid; NULL: not asked for */
};

static bool handle_data_equal(const struct vfsd_file_handle *a, const struct vfsd_file_handle *b)
{
	return a->type == b->type && a->bytes == b->bytes &&
	       memcmp(a->data, b->data, a->bytes) == 0;
}

static bool slot_is(const struct vfsd_inode_slot *slot, const struct wanted *wanted)
{
	const struct vfsd_inode *inode = &slot->inode;

	if (wanted->match_dev_ino && (inode->dev != wanted->dev || inode->ino != wanted->ino))
		return false;
	if (wanted->match_mnt && inode->mnt_id != wanted->mnt_id)
		return false;
	if (wanted->pinned && atomic_load_explicit(&slot->fd, memory_order_relaxed) < 0)
		return false;
	if (!wanted->handle)
		return true;
	if (wanted->match_fsid && slot->handle->fsid != wanted->handle->fsid)
		return false;
	return handle_data_equal(slot->handle, wanted->handle);
}

static uint64_t wanted_hash(const struct vfsd_inodes *inodes, const struct wanted *wanted)
{
	if (wanted->which == VFSD_BY_HANDLE)
		return hash_handle(inodes, wanted->handle);
	return hash_ident(inodes, wanted->dev, wanted->ino, wanted->mnt_id);
}

/* The shard's lock is held. Takes a reference, and a lookup if @count. */
static struct vfsd_inode_slot *shard_find(struct vfsd_inodes *inodes,
					  struct vfsd_inode_shard *shard,
					  const struct wanted *wanted, uint64_t hash, bool count)
{
	uint32_t index = *bucket_of(shard, hash);

	while (index) {
		struct vfsd_inode_slot *slot = vfsd_slot_at(inodes, index);

		if (slot_is(slot, wanted) &&
		    (count ? vfsd_slot_count_lookup(slot) : atomic_load(&slot->nlookup) > 0)) {
			/* Linked, so the table still holds its reference. */
			atomic_fetch_add(&slot->refs, 1);
			return slot;
		}
		index = slot->next[wanted->which];
	}
	return NULL;
}

static struct vfsd_inode_slot *find(struct vfsd_inodes *inodes, const struct wanted *wanted,
				    bool count)
{
	uint64_t hash = wanted_hash(inodes, wanted);
	struct vfsd_inode_shard *shard = shard_of(inodes, wanted->which, hash);
	struct vfsd_inode_slot *slot;

	pthread_mutex_lock(&shard->lock);
	slot = shard_find(inodes, shard, wanted, hash, count);
	pthread_mutex_unlock(&shard->lock);
	return slot;
}

static struct vfsd_inode *inode_of(struct vfsd_inode_slot *slot)
{
	return slot ? &slot->inode : NULL;
}

static uint64_t statx_dev(const struct statx *st)
{
	return makedev(st->stx_dev_major, st->stx_dev_minor);
}

static uint64_t statx_mnt(const struct statx *st)
{
	return st->stx_mask & STATX_MNT_ID ? st->stx_mnt_id : 0;
}

static struct wanted wanted_ident(const struct statx *st)
{
	return (struct wanted){
		.which = VFSD_BY_IDENT,
		.match_dev_ino = true,
		.match_mnt = true,
		.dev = statx_dev(st),
		.ino = st->stx_ino,
		.mnt_id = statx_mnt(st),
	};
}

/* Adding */

/* Room for a copy of @handle: in the slot if it fits. */
static int slot_set_handle(struct vfsd_inode_slot *slot, const struct vfsd_file_handle *handle)
{
	slot->handle = (struct vfsd_file_handle *)slot->handle_space;
	slot->handle_outside = false;
	if (handle->bytes > VFSD_HANDLE_INLINE_BYTES) {
		slot->handle = malloc(offsetof(struct vfsd_file_handle, data) + handle->bytes);
		if (!slot->handle)
			return -ENOMEM;
		slot->handle_outside = true;
	}
	vfsd_file_handle_copy(slot->handle, handle);
	return 0;
}

/*
 * A slot that nobody can see yet, with one reference. @nodeid 0: a new one. @mount is consumed on
 * success.
 */
static int slot_create(struct vfsd_inodes *inodes, uint64_t nodeid, const struct statx *st,
		       struct vfsd_host_mount *mount, const struct vfsd_file_handle *handle,
		       struct vfsd_inode_slot **ret)
{
	struct vfsd_inode_slot *slot;
	uint32_t generation = (uint32_t)(nodeid >> 32);
	uint32_t index = (uint32_t)nodeid;
	int error;

	error = nodeid ? vfsd_slot_alloc_at(inodes, index) : vfsd_slot_alloc(inodes, &index);
	if (error)
		return error;
	slot = vfsd_slot_at(inodes, index);
	error = slot_set_handle(slot, handle);
	if (error) {
		vfsd_slot_free(inodes, index);
		return error;
	}
	while (!nodeid) {
		generation =
			atomic_fetch_add_explicit(&inodes->generation, 1, memory_order_relaxed);
		if (generation != 0 || index == VFSD_NODEID_ROOT)
			break;
	}
	slot->inode = (struct vfsd_inode){
		.nodeid = (uint64_t)generation << 32 | index,
		.dev = statx_dev(st),
		.ino = st->stx_ino,
		.mnt_id = statx_mnt(st),
		.type = st->stx_mode & S_IFMT,
	};
	slot->mount = mount;
	slot->closing_fd = -1;
	slot->reopenable = false;
	atomic_store_explicit(&slot->fd, -1, memory_order_relaxed);
	atomic_store_explicit(&slot->nlookup, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->refs, 1, memory_order_release);
	*ret = slot;
	return 0;
}

/* Make @slot visible, or find that somebody else was faster: then *ret is theirs. */
static void slot_publish(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot,
			 const struct wanted *wanted, struct vfsd_inode_slot **ret)
{
	uint64_t hash = wanted_hash(inodes, wanted);
	struct vfsd_inode_shard *shard = shard_of(inodes, wanted->which, hash);
	struct vfsd_inode_slot *other;

	if (wanted->which == VFSD_BY_HANDLE) {
		uint64_t ident = slot_hash(inodes, slot, VFSD_BY_IDENT);
		struct vfsd_inode_shard *second = shard_of(inodes, VFSD_BY_IDENT, ident);

		pthread_mutex_lock(&second->lock);
		index_insert(inodes, second, slot, VFSD_BY_IDENT, ident);
		pthread_mutex_unlock(&second->lock);
	}
	pthread_mutex_lock(&shard->lock);
	other = shard_find(inodes, shard, wanted, hash, true);
	if (!other) {
		index_insert(inodes, shard, slot, wanted->which, hash);
		atomic_fetch_add(&slot->refs, 1); /* the caller's, besides the table's */
		atomic_fetch_add_explicit(&inodes->count, 1, memory_order_relaxed);
		atomic_store(&slot->nlookup, 1);
	}
	pthread_mutex_unlock(&shard->lock);
	*ret = other ? other : slot;
	if (!other)
		return;
	if (wanted->which == VFSD_BY_HANDLE)
		index_remove(inodes, slot, VFSD_BY_IDENT);
	vfsd_slot_put(inodes, slot);
}

/* The guest holds it no more: unlink it and drop the table's reference. */
static void slot_unpublish(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot)
{
	if (slot->handle->bytes)
		index_remove(inodes, slot, VFSD_BY_HANDLE);
	index_remove(inodes, slot, VFSD_BY_IDENT);
	atomic_fetch_sub_explicit(&inodes->count, 1, memory_order_relaxed);
	vfsd_slot_put(inodes, slot);
}

/*
 * Decide how @slot is held: by its handle alone, or by the guarded @fd. What has no name (yet) is
 * pinned: not every filesystem finds it by handle.
 */
static int slot_hold(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot, int *fd,
		     bool reopenable, bool nameless)
{
	/* Also where descriptors hold inodes: the base for unpin must not be what is to be unpinned. */
	slot->reopenable = reopenable && vfsd_host_mount_reopens(inodes, slot->mount, *fd,
								 slot->inode.type, slot->handle);
	if (inodes->by_handle && slot->reopenable && !nameless)
		return 0;
	if (inodes->config.handles == VFSD_HANDLES_MANDATORY && !slot->reopenable)
		return -EOPNOTSUPP;
	if (!vfsd_quota_take(inodes->config.fd_quota))
		return -ENFILE;
	atomic_store_explicit(&slot->fd, vfsd_fd_take(fd), memory_order_relaxed);
	return 0;
}

/* As vfsd_inode_lookup_fd(); as @nodeid unless that is 0 or the inode has an id already. */
int vfsd_inode_add(struct vfsd_inodes *inodes, uint64_t nodeid, int fd, const struct statx *st,
		   struct vfsd_inode **ret)
{
	VFSD_FD_GUARD guard = fd;
	struct vfsd_file_handle handle = {.bytes = 0};
	struct wanted wanted = wanted_ident(st);
	struct vfsd_host_mount *mount;
	struct vfsd_inode_slot *slot;
	bool reopenable = false;
	uint64_t mnt_id;
	int error;

	if (inodes->encode &&
	    vfsd_host_handle_encode(fd, "", true, &handle, &reopenable, &mnt_id) == 0) {
		wanted.which = VFSD_BY_HANDLE;
		wanted.handle = &handle;
	} else {
		wanted.pinned = true;
	}
	slot = find(inodes, &wanted, true);
	if (slot) {
		*ret = &slot->inode;
		return 0;
	}

	mount = vfsd_host_mount_get(inodes, fd, st);
	if (!mount)
		return -ENOMEM;
	handle.fsid = mount->fsid;
	error = slot_create(inodes, nodeid, st, mount, &handle, &slot);
	if (error) {
		vfsd_host_mount_put(inodes, mount);
		return error;
	}
	error = slot_hold(inodes, slot, &guard, reopenable, st->stx_nlink == 0);
	if (error) {
		vfsd_slot_put(inodes, slot);
		return error;
	}
	slot_publish(inodes, slot, &wanted, &slot);
	*ret = &slot->inode;
	return 0;
}

int vfsd_inode_lookup_fd(struct vfsd_inodes *inodes, int fd, const struct statx *st,
			 struct vfsd_inode **ret)
{
	return vfsd_inode_add(inodes, 0, fd, st, ret);
}

int vfsd_inode_add_lost(struct vfsd_inodes *inodes, uint64_t nodeid, uint32_t type,
			struct vfsd_inode **ret)
{
	/* No such inode is on any host, and none that is asked for is found by this. */
	const struct statx st = {.stx_mode = (uint16_t)type, .stx_ino = nodeid};
	const struct vfsd_file_handle none = {.bytes = 0};
	struct wanted wanted = wanted_ident(&st);
	struct vfsd_host_mount *mount = vfsd_host_mount_get(inodes, -1, &st);
	struct vfsd_inode_slot *slot;
	int error;

	if (!mount)
		return -ENOMEM;
	error = slot_create(inodes, nodeid, &st, mount, &none, &slot);
	if (error) {
		vfsd_host_mount_put(inodes, mount);
		return error;
	}
	wanted.pinned = true;
	slot_publish(inodes, slot, &wanted, &slot);
	*ret = &slot->inode;
	return 0;
}

/* Finding */

struct vfsd_inode *vfsd_inode_lookup_known(struct vfsd_inodes *inodes, const struct statx *st)
{
	struct wanted wanted = wanted_ident(st);

	wanted.pinned = true;
	return inode_of(find(inodes, &wanted, true));
}

struct vfsd_inode *vfsd_inode_lookup_name(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					  const struct statx *st)
{
	struct vfsd_file_handle handle = {.bytes = 0};
	struct wanted wanted = wanted_ident(st);
	struct vfsd_inode_slot *slot;
	bool reopenable;
	uint64_t mnt_id;

	if (!inodes->encode)
		return NULL;
	/* Don't ask the host about what the guest has not seen yet. */
	slot = find(inodes, &wanted, false);
	if (!slot)
		return NULL;
	vfsd_slot_put(inodes, slot);
	if (vfsd_host_handle_encode(dir_fd, name, false, &handle, &reopenable, &mnt_id))
		return NULL;
	wanted.which = VFSD_BY_HANDLE;
	wanted.handle = &handle;
	return inode_of(find(inodes, &wanted, true));
}

struct vfsd_inode *vfsd_inode_find_handle(struct vfsd_inodes *inodes,
					  const struct vfsd_file_handle *handle)
{
	struct wanted wanted = {
		.which = VFSD_BY_HANDLE,
		.match_fsid = true,
		.handle = handle,
	};

	if (handle->bytes == 0 || handle->bytes > VFSD_HANDLE_BYTES_MAX)
		return NULL;
	return inode_of(find(inodes, &wanted, false));
}

struct vfsd_inode *vfsd_inode_find_name(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					bool *exists)
{
	struct vfsd_file_handle handle = {.bytes = 0};
	struct wanted wanted;
	struct statx st;
	bool reopenable;
	uint64_t mnt_id;
	int error = -EOPNOTSUPP;

	if (inodes->encode)
		error = vfsd_host_handle_encode(dir_fd, name, true, &handle, &reopenable, &mnt_id);
	if (error == 0) {
		wanted = (struct wanted){
			.which = VFSD_BY_HANDLE,
			.match_mnt = true,
			.mnt_id = mnt_id,
			.handle = &handle,
		};
		*exists = true;
		return inode_of(find(inodes, &wanted, false));
	}
	if (error == -ENOENT || error == -ENOTDIR) {
		*exists = false;
		return NULL;
	}
	*exists = statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
			STATX_TYPE | STATX_INO | STATX_MNT_ID, &st) == 0;
	if (!*exists)
		return NULL;
	wanted = wanted_ident(&st);
	wanted.pinned = true;
	return inode_of(find(inodes, &wanted, false));
}

struct vfsd_inode *vfsd_inode_get(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct vfsd_inode_slot *slot = vfsd_slot_at(inodes, (uint32_t)nodeid);

	if (!slot || !vfsd_slot_ref(slot))
		return NULL;
	if (slot->inode.nodeid == nodeid && atomic_load(&slot->nlookup) > 0)
		return &slot->inode;
	vfsd_slot_put(inodes, slot);
	return NULL;
}

void vfsd_inode_put(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	if (inode)
		vfsd_slot_put(inodes, vfsd_inode_slot(inode));
}

/* Forgetting */

struct vfsd_inode *vfsd_inode_forget(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup)
{
	struct vfsd_inode *inode;
	struct vfsd_inode_slot *slot;
	uint64_t n;

	/* The root is never forgotten, however often a guest asks. */
	if (nodeid == VFSD_NODEID_ROOT || nlookup == 0)
		return NULL;
	inode = vfsd_inode_get(inodes, nodeid);
	if (!inode)
		return NULL;
	slot = vfsd_inode_slot(inode);
	n = atomic_load(&slot->nlookup);
	do {
		if (n == 0) /* somebody else just did */
			break;
	} while (!atomic_compare_exchange_weak(&slot->nlookup, &n, n > nlookup ? n - nlookup : 0));
	if (n == 0 || n > nlookup) {
		vfsd_slot_put(inodes, slot);
		return NULL;
	}
	slot_unpublish(inodes, slot);
	return inode;
}

void vfsd_inodes_clear(struct vfsd_inodes *inodes)
{
	for (uint32_t c = 0; c < VFSD_INODE_CHUNKS_MAX; c++) {
		struct vfsd_inode_slot *slots = atomic_load(&inodes->chunks[c].slots);

		if (!slots) /* chunks are mapped in order */
			return;
		if (vfsd_slot_chunk_empty(inodes, c))
			continue;
		for (uint32_t i = 0; i < VFSD_INODE_CHUNK_SLOTS; i++) {
			if (c == 0 && i <= VFSD_NODEID_ROOT)
				continue;
			if (!vfsd_slot_ref(&slots[i]))
				continue;
			if (atomic_exchange(&slots[i].nlookup, 0) > 0)
				slot_unpublish(inodes, &slots[i]);
			vfsd_slot_put(inodes, &slots[i]);
		}
	}
}

bool vfsd_inodes_can_unpin(const struct vfsd_inodes *inodes)
{
	return inodes->can_unpin;
}

uint64_t vfsd_inodes_count(const struct vfsd_inodes *inodes)
{
	return atomic_load_explicit(&inodes->count, memory_order_relaxed);
}

/* Handles */

bool vfsd_file_handle_equal(const struct vfsd_file_handle *a, const struct vfsd_file_handle *b)
{
	return a->fsid == b->fsid && handle_data_equal(a, b);
}

void vfsd_file_handle_copy(struct vfsd_file_handle *dst, const struct vfsd_file_handle *src)
{
	dst->fsid = src->fsid;
	dst->type = src->type;
	dst->bytes = src->bytes;
	memcpy(dst->data, src->data, src->bytes);
}

const struct vfsd_file_handle *vfsd_inode_handle(const struct vfsd_inode *inode)
{
	return vfsd_inode_slot(inode)->handle;
}

/* The table */

static int add_root(struct vfsd_inodes *inodes, int fd)
{
	VFSD_FD_GUARD guard = fd;
	struct vfsd_file_handle handle = {.bytes = 0};
	bool encode = inodes->config.need_handles || inodes->config.handles != VFSD_HANDLES_NEVER;
	struct vfsd_host_mount *mount;
	struct vfsd_inode_slot *slot;
	bool reopenable = false;
	struct wanted wanted;
	struct statx st;
	uint64_t mnt_id;
	int error;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st))
		return -errno;
	wanted = wanted_ident(&st);
	mount = vfsd_host_mount_get(inodes, fd, &st);
	if (!mount)
		return -ENOMEM;
	inodes->encode = encode;
	if (encode && vfsd_host_handle_encode(fd, "", true, &handle, &reopenable, &mnt_id) == 0) {
		handle.fsid = mount->fsid;
		wanted.which = VFSD_BY_HANDLE;
		wanted.handle = &handle;
	}
	error = slot_create(inodes, 0, &st, mount, &handle, &slot);
	if (error) {
		vfsd_host_mount_put(inodes, mount);
		return error;
	}
	slot->reopenable = reopenable && vfsd_host_mount_reopens(inodes, mount, fd,
								 slot->inode.type, slot->handle);
	inodes->can_unpin = slot->reopenable;
	inodes->by_handle = inodes->config.handles != VFSD_HANDLES_NEVER && slot->reopenable;
	if (inodes->config.handles == VFSD_HANDLES_MANDATORY && !inodes->by_handle) {
		vfsd_slot_put(inodes, slot);
		return reopenable ? -EPERM : -EOPNOTSUPP;
	}
	if (!vfsd_quota_take(inodes->config.fd_quota)) {
		vfsd_slot_put(inodes, slot);
		return -ENFILE;
	}
	atomic_store(&slot->fd, vfsd_fd_take(&guard));
	slot_publish(inodes, slot, &wanted, &slot);
	vfsd_slot_put(inodes, slot);
	return 0;
}

static int shards_create(struct vfsd_inodes *inodes)
{
	for (uint32_t w = 0; w < VFSD_INDEXES; w++) {
		for (uint32_t s = 0; s < VFSD_INODE_SHARDS; s++) {
			struct vfsd_inode_shard *shard = &inodes->shards[w][s];

			pthread_mutex_init(&shard->lock, NULL);
			shard->n_buckets = BUCKETS_MIN;
			shard->buckets = calloc(BUCKETS_MIN, sizeof(*shard->buckets));
			if (!shard->buckets)
				return -ENOMEM;
		}
	}
	return 0;
}

int vfsd_inodes_create(const struct vfsd_inodes_config *config, int root_fd,
		       struct vfsd_inodes **ret)
{
	VFSD_FD_GUARD root = root_fd;
	struct vfsd_inodes *inodes;
	uint32_t reserved;
	int error;

	inodes = aligned_alloc(_Alignof(struct vfsd_inodes), sizeof(*inodes));
	if (!inodes)
		return -ENOMEM;
	memset(inodes, 0, sizeof(*inodes));
	inodes->config = *config;
	pthread_mutex_init(&inodes->slots_lock, NULL);
	pthread_mutex_init(&inodes->mounts_lock, NULL);
	pthread_mutex_init(&inodes->unpin_lock, NULL);
	(void)getrandom(&inodes->seed, sizeof(inodes->seed), GRND_NONBLOCK);
	/* The root gets generation 0 and index 1 for being the first, after id 0 was reserved. */
	inodes->chunks = calloc(VFSD_INODE_CHUNKS_MAX, sizeof(*inodes->chunks));
	error = inodes->chunks ? shards_create(inodes) : -ENOMEM;
	if (!error)
		error = vfsd_slot_alloc(inodes, &reserved);
	if (!error)
		error = add_root(inodes, vfsd_fd_take(&root));
	if (error) {
		vfsd_inodes_destroy(inodes);
		return error;
	}
	*ret = inodes;
	return 0;
}

void vfsd_inodes_destroy(struct vfsd_inodes *inodes)
{
	struct vfsd_inode_slot *root;

	if (!inodes)
		return;
	if (inodes->chunks) {
		vfsd_inodes_clear(inodes);
		root = vfsd_slot_at(inodes, VFSD_NODEID_ROOT);
		if (root && vfsd_slot_ref(root)) {
			if (atomic_exchange(&root->nlookup, 0) > 0)
				slot_unpublish(inodes, root);
			vfsd_slot_put(inodes, root);
		}
		for (uint32_t c = 0; c < VFSD_INODE_CHUNKS_MAX; c++) {
			void *slots = atomic_load(&inodes->chunks[c].slots);

			if (!slots)
				break;
			(void)munmap(slots, VFSD_INODE_CHUNK_SLOTS * sizeof(*root));
		}
		free(inodes->chunks);
	}
	for (uint32_t w = 0; w < VFSD_INDEXES; w++) {
		for (uint32_t s = 0; s < VFSD_INODE_SHARDS; s++) {
			free(inodes->shards[w][s].buckets);
			pthread_mutex_destroy(&inodes->shards[w][s].lock);
		}
	}
	pthread_mutex_destroy(&inodes->slots_lock);
	pthread_mutex_destroy(&inodes->mounts_lock);
	pthread_mutex_destroy(&inodes->unpin_lock);
	free(inodes);
}
