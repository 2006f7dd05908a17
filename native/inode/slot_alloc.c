/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of the node-id table.
 *
 * Slots are in chunks that stay mapped, so a slot can be read without a lock: take a reference unless the count
 * is zero, and only then check whether the slot has the inode that is looked for. A chunk without inodes gives
 * its pages back; they read as zeros, which are free slots.
 */
#include <errno.h>
#include <sys/mman.h>

#include "inode/internal.h"

static int chunk_map(struct vfsd_inode_chunk *chunk)
{
	void *slots = mmap(NULL, VFSD_INODE_CHUNK_SLOTS * sizeof(struct vfsd_inode_slot),
			   PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (slots == MAP_FAILED)
		return -ENOMEM;
	atomic_store_explicit(&chunk->slots, slots, memory_order_release);
	return 0;
}

int vfsd_slot_alloc(struct vfsd_inodes *inodes, uint32_t *ret)
{
	int error = -ENOMEM;

	pthread_mutex_lock(&inodes->slots_lock);
	for (uint32_t c = inodes->first_free; c < VFSD_INODE_CHUNKS_MAX; c++) {
		struct vfsd_inode_chunk *chunk = &inodes->chunks[c];
		uint32_t word = 0;
		uint32_t bit;

		if (chunk->n_used == VFSD_INODE_CHUNK_SLOTS)
			continue;
		inodes->first_free = c;
		if (!atomic_load_explicit(&chunk->slots, memory_order_relaxed) && chunk_map(chunk))
			break;
		while (chunk->used[word] == UINT64_MAX)
			word++;
		bit = (uint32_t)__builtin_ctzll(~chunk->used[word]);
		chunk->used[word] |= 1ULL << bit;
		chunk->n_used++;
		chunk->n_live++;
		*ret = c * VFSD_INODE_CHUNK_SLOTS + word * 64 + bit;
		error = 0;
		break;
	}
	pthread_mutex_unlock(&inodes->slots_lock);
	return error;
}

/* Map the chunks up to the one with the number @last, in order. */
static int map_up_to(struct vfsd_inodes *inodes, uint32_t last)
{
	uint32_t c = last + 1;

	while (c > 0 && !atomic_load_explicit(&inodes->chunks[c - 1].slots, memory_order_relaxed))
		c--;
	for (; c <= last; c++)
		if (chunk_map(&inodes->chunks[c]))
			return -ENOMEM;
	return 0;
}

int vfsd_slot_alloc_at(struct vfsd_inodes *inodes, uint32_t index)
{
	uint32_t c = index / VFSD_INODE_CHUNK_SLOTS;
	uint32_t at = index % VFSD_INODE_CHUNK_SLOTS;
	uint64_t bit = 1ULL << (at % 64);
	int error;

	if (c >= VFSD_INODE_CHUNKS_MAX)
		return -EINVAL;
	pthread_mutex_lock(&inodes->slots_lock);
	error = map_up_to(inodes, c);
	if (!error && inodes->chunks[c].used[at / 64] & bit)
		error = -EINVAL;
	if (!error) {
		inodes->chunks[c].used[at / 64] |= bit;
		inodes->chunks[c].n_used++;
		inodes->chunks[c].n_live++;
	}
	pthread_mutex_unlock(&inodes->slots_lock);
	return error;
}

/* slots_lock is held. */
static void unreserve(struct vfsd_inodes *inodes, uint32_t index)
{
	uint32_t c = index / VFSD_INODE_CHUNK_SLOTS;
	uint32_t at = index % VFSD_INODE_CHUNK_SLOTS;

	inodes->chunks[c].used[at / 64] &= ~(1ULL << (at % 64));
	inodes->chunks[c].n_used--;
	if (c < inodes->first_free)
		inodes->first_free = c;
}

/* slots_lock is held. */
static void leave(struct vfsd_inodes *inodes, uint32_t index)
{
	uint32_t c = index / VFSD_INODE_CHUNK_SLOTS;
	struct vfsd_inode_chunk *chunk = &inodes->chunks[c];

	chunk->n_live--;
	/* The chunk that is filled next keeps its pages. */
	if (chunk->n_live == 0 && c > inodes->first_free)
		(void)madvise(atomic_load_explicit(&chunk->slots, memory_order_relaxed),
			      VFSD_INODE_CHUNK_SLOTS * sizeof(struct vfsd_inode_slot),
			      MADV_DONTNEED);
}

void vfsd_slot_free(struct vfsd_inodes *inodes, uint32_t index)
{
	pthread_mutex_lock(&inodes->slots_lock);
	leave(inodes, index);
	unreserve(inodes, index);
	pthread_mutex_unlock(&inodes->slots_lock);
}

void vfsd_slot_reserve(struct vfsd_inodes *inodes, uint32_t index)
{
	pthread_mutex_lock(&inodes->slots_lock);
	leave(inodes, index);
	pthread_mutex_unlock(&inodes->slots_lock);
}

void vfsd_slot_alloc_reserved(struct vfsd_inodes *inodes, uint32_t index)
{
	pthread_mutex_lock(&inodes->slots_lock);
	inodes->chunks[index / VFSD_INODE_CHUNK_SLOTS].n_live++;
	pthread_mutex_unlock(&inodes->slots_lock);
}

void vfsd_slot_unreserve(struct vfsd_inodes *inodes, uint32_t index)
{
	pthread_mutex_lock(&inodes->slots_lock);
	unreserve(inodes, index);
	pthread_mutex_unlock(&inodes->slots_lock);
}

bool vfsd_slot_chunk_empty(struct vfsd_inodes *inodes, uint32_t chunk)
{
	bool empty;

	pthread_mutex_lock(&inodes->slots_lock);
	empty = inodes->chunks[chunk].n_live == 0;
	pthread_mutex_unlock(&inodes->slots_lock);
	return empty;
}
