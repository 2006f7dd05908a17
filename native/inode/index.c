/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The two hash indexes of the node-id table: by (dev, ino, mnt) and by handle. table.c says which of them
 * identifies an inode. Each index has shards, each shard a lock; the top bits of the hash select the shard.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inode/internal.h"
#include "base/statx.h"

enum {
	BUCKETS_MIN = 16,
	BTIME_OLD_S = 5,
};

static uint64_t hash_ident(const struct vfsd_inodes *inodes, uint64_t dev, uint64_t ino,
			   uint64_t mnt_id)
{
	/* A guest cannot choose dev and mnt_id. */
	return vfsd_hash_mix(inodes->seed ^ ino ^ dev * 0x9e3779b97f4a7c15ULL ^
			     mnt_id * 0xc2b2ae3d27d4eb4fULL);
}

static uint64_t slot_hash(const struct vfsd_inodes *inodes, const struct vfsd_inode_slot *slot,
			  enum vfsd_index which)
{
	if (which == VFSD_BY_HANDLE)
		return vfsd_file_handle_hash(inodes, vfsd_slot_handle(slot));
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

/* Best effort: without memory the shard keeps its size. */
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

static uint64_t statx_btime_ns(const struct statx *st)
{
	if (!(st->stx_mask & STATX_BTIME) || st->stx_btime.tv_sec <= 0)
		return 0;
	return (uint64_t)st->stx_btime.tv_sec * UINT64_C(1000000000) + st->stx_btime.tv_nsec;
}

struct vfsd_inode_key vfsd_inode_key_of(const struct statx *st)
{
	return (struct vfsd_inode_key){
		.which = VFSD_BY_IDENT,
		.match_dev_ino = true,
		.match_mnt = true,
		.dev = vfsd_statx_dev(st),
		.ino = st->stx_ino,
		.mnt_id = vfsd_statx_mnt(st),
		.btime = statx_btime_ns(st),
	};
}

bool vfsd_statx_btime_is_old(const struct statx *st, const struct timespec *now)
{
	/* Clocks are coarse, and may be set back a little. */
	return statx_btime_ns(st) != 0 && now->tv_sec - BTIME_OLD_S > st->stx_btime.tv_sec;
}

void vfsd_slot_note_btime(struct vfsd_inode_slot *slot, const struct statx *st)
{
	struct timespec now;

	if (slot->mount->fs == VFSD_FS_OTHER)
		return;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	if (vfsd_statx_btime_is_old(st, &now))
		atomic_store_explicit(&slot->btime, statx_btime_ns(st), memory_order_relaxed);
}

static bool handle_data_equal(const struct vfsd_file_handle *a, const struct vfsd_file_handle *b)
{
	return a->type == b->type && a->bytes == b->bytes &&
	       memcmp(a->data, b->data, a->bytes) == 0;
}

static bool slot_is(const struct vfsd_inode_slot *slot, const struct vfsd_inode_key *key)
{
	const struct vfsd_inode *inode = &slot->inode;

	if (key->match_dev_ino && (inode->dev != key->dev || inode->ino != key->ino))
		return false;
	if (key->match_mnt && inode->mnt_id != key->mnt_id)
		return false;
	if (key->ino_is_identity && atomic_load_explicit(&slot->fd, memory_order_relaxed) < 0) {
		uint64_t btime = atomic_load_explicit(&slot->btime, memory_order_relaxed);

		if (btime == 0 || btime != key->btime)
			return false;
	}
	if (!key->handle)
		return true;
	if (key->match_fsid && vfsd_slot_handle(slot)->fsid != key->handle->fsid)
		return false;
	return handle_data_equal(vfsd_slot_handle(slot), key->handle);
}

static uint64_t key_hash(const struct vfsd_inodes *inodes, const struct vfsd_inode_key *key)
{
	if (key->which == VFSD_BY_HANDLE)
		return vfsd_file_handle_hash(inodes, key->handle);
	return hash_ident(inodes, key->dev, key->ino, key->mnt_id);
}

/* The shard's lock is held. Takes a reference, and a lookup if @count. */
static struct vfsd_inode_slot *shard_find(struct vfsd_inodes *inodes,
					  struct vfsd_inode_shard *shard,
					  const struct vfsd_inode_key *key, uint64_t hash,
					  bool count)
{
	uint32_t index = *bucket_of(shard, hash);

	while (index) {
		struct vfsd_inode_slot *slot = vfsd_slot_at(inodes, index);

		if (slot_is(slot, key) &&
		    (count ? vfsd_slot_count_lookup(slot) : atomic_load(&slot->nlookup) > 0)) {
			/* Linked, so the table still holds its reference. */
			atomic_fetch_add(&slot->refs, 1);
			return slot;
		}
		index = slot->next[key->which];
	}
	return NULL;
}

struct vfsd_inode_slot *vfsd_slot_find(struct vfsd_inodes *inodes, const struct vfsd_inode_key *key,
				       bool count)
{
	uint64_t hash = key_hash(inodes, key);
	struct vfsd_inode_shard *shard = shard_of(inodes, key->which, hash);
	struct vfsd_inode_slot *slot;

	pthread_mutex_lock(&shard->lock);
	slot = shard_find(inodes, shard, key, hash, count);
	pthread_mutex_unlock(&shard->lock);
	return slot;
}

void vfsd_slot_publish(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot,
		       const struct vfsd_inode_key *key, struct vfsd_inode_slot **ret)
{
	uint64_t hash = key_hash(inodes, key);
	struct vfsd_inode_shard *shard = shard_of(inodes, key->which, hash);
	struct vfsd_inode_slot *other;

	if (key->which == VFSD_BY_HANDLE) {
		uint64_t ident = slot_hash(inodes, slot, VFSD_BY_IDENT);
		struct vfsd_inode_shard *second = shard_of(inodes, VFSD_BY_IDENT, ident);

		pthread_mutex_lock(&second->lock);
		index_insert(inodes, second, slot, VFSD_BY_IDENT, ident);
		pthread_mutex_unlock(&second->lock);
	}
	pthread_mutex_lock(&shard->lock);
	other = shard_find(inodes, shard, key, hash, true);
	if (!other) {
		index_insert(inodes, shard, slot, key->which, hash);
		atomic_fetch_add(&slot->refs, 1); /* the caller's, besides the table's */
		atomic_fetch_add_explicit(&inodes->count, 1, memory_order_relaxed);
		atomic_store(&slot->nlookup, 1);
	}
	pthread_mutex_unlock(&shard->lock);
	*ret = other ? other : slot;
	if (!other)
		return;
	if (key->which == VFSD_BY_HANDLE)
		index_remove(inodes, slot, VFSD_BY_IDENT);
	vfsd_slot_put(inodes, slot);
}

void vfsd_slot_unpublish(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot)
{
	if (vfsd_slot_handle(slot)->bytes)
		index_remove(inodes, slot, VFSD_BY_HANDLE);
	index_remove(inodes, slot, VFSD_BY_IDENT);
	atomic_fetch_sub_explicit(&inodes->count, 1, memory_order_relaxed);
	vfsd_slot_put(inodes, slot);
}

int vfsd_inode_shards_create(struct vfsd_inodes *inodes)
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

void vfsd_inode_shards_destroy(struct vfsd_inodes *inodes)
{
	for (uint32_t w = 0; w < VFSD_INDEXES; w++) {
		for (uint32_t s = 0; s < VFSD_INODE_SHARDS; s++) {
			free(inodes->shards[w][s].buckets);
			pthread_mutex_destroy(&inodes->shards[w][s].lock);
		}
	}
}
