/* SPDX-License-Identifier: BSD-3-Clause */
#include "inode/numbers.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "inode/inode.h"

enum {
	INO_BITS = 48,
	DEVICES = 1 << 14, /* 0 is the share's; numbers of devices beyond this are counted */
	ENTRIES_MIN = 1 << 10,
};

/* Above all indexes; the sign bit stays free. */
#define COUNTED (UINT64_C(1) << 62)

struct entry {
	uint64_t dev;
	uint64_t ino;
	uint64_t number; /* 0: free */
};

/* Open addressing. */
struct table {
	struct entry *entries;
	uint32_t size; /* a power of 2 */
	uint32_t used; /* at most half of them */
};

struct vfsd_numbers {
	struct vfsd_inodes *inodes;
	uint64_t root_dev;
	atomic_bool differ;
	_Atomic uint64_t devices[DEVICES]; /* st_dev + 1, 0: free; an index once taken stays */
	pthread_mutex_t lock;
	struct table table; /* protected by lock, as is the rest */
	uint64_t last;
};

static uint64_t mix(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h ^ (h >> 33);
}

int vfsd_numbers_create(struct vfsd_inodes *inodes, struct vfsd_numbers **ret)
{
	struct vfsd_inode *root = vfsd_inode_get(inodes, VFSD_NODEID_ROOT);
	struct vfsd_numbers *numbers = calloc(1, sizeof(*numbers));

	if (numbers) {
		numbers->inodes = inodes;
		numbers->root_dev = root->dev;
		pthread_mutex_init(&numbers->lock, NULL);
	}
	vfsd_inode_put(inodes, root);
	*ret = numbers;
	return numbers ? 0 : -ENOMEM;
}

void vfsd_numbers_destroy(struct vfsd_numbers *numbers)
{
	if (!numbers)
		return;
	pthread_mutex_destroy(&numbers->lock);
	free(numbers->table.entries);
	free(numbers);
}

/* The index of a filesystem; DEVICES: there is none left. */
static uint32_t device_index(struct vfsd_numbers *numbers, uint64_t dev)
{
	uint32_t at, first = (uint32_t)(mix(dev) % (DEVICES - 1));

	if (dev == numbers->root_dev)
		return 0;
	for (uint32_t i = 0; i < DEVICES - 1; i++) {
		uint64_t known = 0;

		at = 1 + (first + i) % (DEVICES - 1);
		if (atomic_load(&numbers->devices[at]) == dev + 1 ||
		    atomic_compare_exchange_strong(&numbers->devices[at], &known, dev + 1) ||
		    known == dev + 1)
			return at;
	}
	return DEVICES;
}

/* Counted numbers */

/* The entry of that inode, or the free one where it would be. */
static struct entry *find(const struct table *table, uint64_t dev, uint64_t ino)
{
	uint64_t at = mix(ino ^ mix(dev));

	while (table->entries[at & (table->size - 1)].number != 0) {
		struct entry *entry = &table->entries[at & (table->size - 1)];

		if (entry->dev == dev && entry->ino == ino)
			return entry;
		at++;
	}
	return &table->entries[at & (table->size - 1)];
}

struct move {
	const struct table *from;
	struct table to;
};

/* Keep the number of an inode that the guest holds. */
static int keep(void *ctx, struct vfsd_inode *inode, uint64_t nlookup)
{
	struct move *move = ctx;
	const struct entry *known = find(move->from, inode->dev, inode->ino);
	struct entry *slot = find(&move->to, inode->dev, inode->ino);

	(void)nlookup;
	if (known->number != 0 && slot->number == 0) { /* it may be on several mounts */
		*slot = *known;
		move->to.used++;
	}
	return 0;
}

/*
 * Make room for one more entry. Entries of inodes that the guest does not hold are dropped. That iterates over
 * all inodes, so the new table is large enough that it is rare. False: no memory.
 */
static bool make_room(struct vfsd_numbers *numbers)
{
	struct table *table = &numbers->table;
	struct move move = {.from = table};

	if (table->used < table->size / 2)
		return true;
	move.to.size = table->size ? table->size : ENTRIES_MIN;
	while (move.to.size < vfsd_inodes_count(numbers->inodes))
		move.to.size *= 2;
	for (;; move.to.size *= 2) {
		move.to.entries = calloc(move.to.size, sizeof(*move.to.entries));
		if (!move.to.entries)
			return false;
		move.to.used = 0;
		if (table->size > 0)
			(void)vfsd_inodes_each(numbers->inodes, keep, &move);
		if (move.to.used < move.to.size / 4 || move.to.size > UINT32_MAX / 4)
			break;
		free(move.to.entries);
	}
	free(table->entries);
	*table = move.to;
	return table->used < table->size / 2;
}

static uint64_t count(struct vfsd_numbers *numbers, uint64_t dev, uint64_t ino)
{
	struct entry *entry;
	uint64_t number;

	pthread_mutex_lock(&numbers->lock);
	entry = numbers->table.size ? find(&numbers->table, dev, ino) : NULL;
	if (entry && entry->number != 0) {
		number = entry->number;
	} else {
		number = COUNTED | ++numbers->last;
		if (make_room(numbers)) {
			entry = find(&numbers->table, dev, ino);
			*entry = (struct entry){.dev = dev, .ino = ino, .number = number};
			numbers->table.used++;
		}
	}
	pthread_mutex_unlock(&numbers->lock);
	return number;
}

uint64_t vfsd_numbers_of(struct vfsd_numbers *numbers, uint64_t dev, uint64_t ino)
{
	uint32_t index = device_index(numbers, dev);

	if (index == 0 && ino >> INO_BITS == 0)
		return ino;
	atomic_store_explicit(&numbers->differ, true, memory_order_relaxed);
	if (index == DEVICES || ino >> INO_BITS != 0)
		return count(numbers, dev, ino);
	return (uint64_t)index << INO_BITS | ino;
}

bool vfsd_numbers_differ(const struct vfsd_numbers *numbers)
{
	return atomic_load_explicit(&numbers->differ, memory_order_relaxed);
}

uint32_t vfsd_numbers_counted(struct vfsd_numbers *numbers)
{
	uint32_t used;

	pthread_mutex_lock(&numbers->lock);
	used = numbers->table.used;
	pthread_mutex_unlock(&numbers->lock);
	return used;
}
