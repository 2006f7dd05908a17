/* SPDX-License-Identifier: BSD-3-Clause */
#include "inode/open_file.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/faults.h"
#include "base/quota.h"
#include "base/util.h"

enum {
	CHUNK_SLOTS = 256,
	CHUNKS_MAX = 4096, /* 1 M open files */
	/* Many times what programs that list directories at the same time need. */
	RESTS_BYTES_MAX = 8 << 20,
};

/*
 * Slots are never moved or freed, so get() takes a reference unless the count is zero (a free slot), and checks
 * what is in the slot only afterwards. The table itself holds one reference until release.
 */
struct slot {
	struct vfsd_open_file file; /* first: a vfsd_open_file is cast to its slot */
	_Atomic uint32_t refs;
	_Atomic bool open; /* cleared by the one RELEASE that counts */
	uint32_t index;
	uint32_t generation; /* changes with every use */
	uint32_t next_free;  /* protected by vfsd_open_files.lock */
};

struct vfsd_open_files {
	struct vfsd_quota *fd_quota;
	struct vfsd_quota rest_quota; /* in bytes, of the rests of all directories */
	_Atomic uint64_t used;
	pthread_mutex_t lock;
	uint32_t first_free; /* slot index + 1, 0: none; protected by lock, as is n_slots */
	uint32_t n_slots;
	uint32_t first_generation; /* of slots to come; protected by lock */
	_Atomic(struct slot *) chunks[CHUNKS_MAX];
};

static struct slot *slot_of(struct vfsd_open_file *file)
{
	return (struct slot *)file;
}

static struct slot *slot_at(struct vfsd_open_files *files, uint32_t index)
{
	struct slot *slots;

	if (index / CHUNK_SLOTS >= CHUNKS_MAX)
		return NULL;
	slots = atomic_load_explicit(&files->chunks[index / CHUNK_SLOTS], memory_order_acquire);
	return slots ? &slots[index % CHUNK_SLOTS] : NULL;
}

/* The lock is held. */
static int grow(struct vfsd_open_files *files)
{
	struct slot *slots;

	if (files->n_slots == CHUNKS_MAX * CHUNK_SLOTS)
		return -ENFILE;
	slots = calloc(CHUNK_SLOTS, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = CHUNK_SLOTS; i-- > 0;) {
		pthread_mutex_init(&slots[i].file.dir_lock, NULL);
		slots[i].file.rest_quota = &files->rest_quota;
		slots[i].index = files->n_slots + i;
		slots[i].generation = files->first_generation;
		slots[i].next_free = files->first_free;
		files->first_free = slots[i].index + 1;
	}
	atomic_store_explicit(&files->chunks[files->n_slots / CHUNK_SLOTS], slots,
			      memory_order_release);
	files->n_slots += CHUNK_SLOTS;
	return 0;
}

static int slot_alloc(struct vfsd_open_files *files, struct slot **ret)
{
	int error = 0;

	if (vfsd_faults_refuse())
		return -ENOMEM;
	pthread_mutex_lock(&files->lock);
	if (!files->first_free)
		error = grow(files);
	if (!error) {
		*ret = slot_at(files, files->first_free - 1);
		files->first_free = (*ret)->next_free;
	}
	pthread_mutex_unlock(&files->lock);
	return error;
}

/* Free the slot and give back its quota. */
static void slot_free(struct vfsd_open_files *files, struct slot *slot)
{
	vfsd_quota_give(files->fd_quota);
	atomic_fetch_sub_explicit(&files->used, 1, memory_order_relaxed);
	pthread_mutex_lock(&files->lock);
	slot->next_free = files->first_free;
	files->first_free = slot->index + 1;
	pthread_mutex_unlock(&files->lock);
}

static void slot_put(struct vfsd_open_files *files, struct slot *slot)
{
	if (atomic_fetch_sub_explicit(&slot->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (slot->file.fd >= 0)
		(void)close(slot->file.fd);
	vfsd_dir_drop_rest(&slot->file);
	slot_free(files, slot);
}

static bool slot_ref(struct slot *slot)
{
	uint32_t refs = atomic_load_explicit(&slot->refs, memory_order_relaxed);

	do {
		if (refs == 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&slot->refs, &refs, refs + 1, memory_order_acquire, memory_order_relaxed));
	return true;
}

/* A reference to the open file @fh, lost or not. NULL: there is none. */
static struct slot *slot_get(struct vfsd_open_files *files, uint64_t fh, uint64_t nodeid)
{
	struct slot *slot = slot_at(files, (uint32_t)fh);

	if (!slot || !slot_ref(slot))
		return NULL;
	if (slot->generation == fh >> 32 && slot->file.nodeid == nodeid &&
	    atomic_load_explicit(&slot->open, memory_order_relaxed))
		return slot;
	slot_put(files, slot);
	return NULL;
}

int vfsd_open_file_reserve(struct vfsd_open_files *files, struct vfsd_open_file **ret)
{
	struct slot *slot;
	int error;

	if (!vfsd_quota_take(files->fd_quota))
		return -ENFILE;
	error = slot_alloc(files, &slot);
	if (error) {
		vfsd_quota_give(files->fd_quota);
		return error;
	}
	atomic_fetch_add_explicit(&files->used, 1, memory_order_relaxed);
	*ret = &slot->file;
	return 0;
}

uint64_t vfsd_open_file_fill(struct vfsd_open_file *reserved, int fd, uint64_t nodeid)
{
	struct slot *slot = slot_of(reserved);
	uint64_t fh;

	slot->file.fd = fd;
	slot->file.nodeid = nodeid;
	slot->file.dir_offset = 0;
	slot->generation++;
	fh = (uint64_t)slot->generation << 32 | slot->index;
	atomic_store_explicit(&slot->open, true, memory_order_relaxed);
	atomic_store_explicit(&slot->refs, 1, memory_order_release);
	return fh;
}

void vfsd_open_file_unreserve(struct vfsd_open_files *files, struct vfsd_open_file *reserved)
{
	slot_free(files, slot_of(reserved));
}

int vfsd_open_file_add(struct vfsd_open_files *files, int fd, uint64_t nodeid, uint64_t *ret_fh)
{
	VFSD_FD_GUARD guard = fd;
	struct vfsd_open_file *reserved;
	int error = vfsd_open_file_reserve(files, &reserved);

	if (error)
		return error;
	*ret_fh = vfsd_open_file_fill(reserved, vfsd_fd_take(&guard), nodeid);
	return 0;
}

struct vfsd_open_file *vfsd_open_file_get(struct vfsd_open_files *files, uint64_t fh,
					  uint64_t nodeid)
{
	struct slot *slot = slot_get(files, fh, nodeid);

	if (!slot)
		return NULL;
	if (VFSD_LIKELY(slot->file.fd >= 0))
		return &slot->file;
	slot_put(files, slot);
	return NULL;
}

int vfsd_open_file_missing(struct vfsd_open_files *files, uint64_t fh, uint64_t nodeid)
{
	struct slot *slot = slot_get(files, fh, nodeid);

	if (!slot)
		return -EBADF;
	slot_put(files, slot);
	return -ESTALE;
}

void vfsd_open_file_put(struct vfsd_open_files *files, struct vfsd_open_file *file)
{
	if (file)
		slot_put(files, slot_of(file));
}

int vfsd_open_file_release(struct vfsd_open_files *files, uint64_t fh, uint64_t nodeid)
{
	struct slot *slot = slot_get(files, fh, nodeid);

	if (!slot)
		return -EBADF;
	if (atomic_exchange(&slot->open, false))
		slot_put(files, slot); /* the table's */
	slot_put(files, slot);
	return 0;
}

void vfsd_open_files_clear(struct vfsd_open_files *files)
{
	if (atomic_load(&files->used) == 0)
		return;
	for (uint32_t i = 0;; i++) {
		struct slot *slot = slot_at(files, i);

		if (!slot) /* chunks are added in order */
			return;
		if (!slot_ref(slot))
			continue;
		if (atomic_exchange(&slot->open, false))
			slot_put(files, slot);
		slot_put(files, slot);
	}
}

int vfsd_open_files_each(struct vfsd_open_files *files,
			 int (*each)(void *ctx, const struct vfsd_open_file_state *state),
			 void *ctx)
{
	struct slot *slot;
	int result = 0;

	for (uint32_t i = 0; !result && (slot = slot_at(files, i)) != NULL; i++) {
		struct vfsd_open_file_state state;

		if (!slot_ref(slot))
			continue;
		state = (struct vfsd_open_file_state){
			.fh = (uint64_t)slot->generation << 32 | slot->index,
			.nodeid = slot->file.nodeid,
			.fd = slot->file.fd,
		};
		if (atomic_load(&slot->open))
			result = each(ctx, &state);
		slot_put(files, slot);
	}
	return result;
}

uint32_t vfsd_open_files_generation(struct vfsd_open_files *files)
{
	uint32_t generation = files->first_generation;
	struct slot *slot;

	for (uint32_t i = 0; (slot = slot_at(files, i)) != NULL; i++)
		if (slot->generation > generation)
			generation = slot->generation;
	return generation;
}

static int restore_one(struct vfsd_open_files *files, struct vfsd_open_file_state *state)
{
	uint32_t index = (uint32_t)state->fh;
	struct slot *slot;

	while (index >= files->n_slots) {
		int error = grow(files);

		if (error)
			return error == -ENFILE ? -EINVAL : error;
	}
	slot = slot_at(files, index);
	if (atomic_load(&slot->refs) != 0)
		return -EINVAL;
	if (!vfsd_quota_take(files->fd_quota))
		return -ENFILE;
	atomic_fetch_add(&files->used, 1);
	slot->file.fd = vfsd_fd_take(&state->fd);
	slot->file.nodeid = state->nodeid;
	slot->file.dir_offset = 0;
	slot->generation = (uint32_t)(state->fh >> 32);
	atomic_store(&slot->open, true);
	atomic_store(&slot->refs, 1);
	return 0;
}

int vfsd_open_files_restore(struct vfsd_open_files *files, struct vfsd_open_file_state *states,
			    size_t n, uint32_t generation)
{
	struct slot *slot;
	int error = 0;

	pthread_mutex_lock(&files->lock);
	files->first_generation = generation;
	for (uint32_t i = 0; (slot = slot_at(files, i)) != NULL; i++)
		slot->generation = generation;
	for (size_t i = 0; i < n && !error; i++)
		error = restore_one(files, &states[i]);
	/* Rebuild the list of free slots, the lowest first. */
	files->first_free = 0;
	for (uint32_t i = files->n_slots; i-- > 0;) {
		slot = slot_at(files, i);
		if (atomic_load(&slot->refs) != 0)
			continue;
		slot->next_free = files->first_free;
		files->first_free = i + 1;
	}
	pthread_mutex_unlock(&files->lock);
	for (size_t i = 0; i < n; i++)
		if (states[i].fd >= 0)
			(void)close(states[i].fd);
	if (error)
		vfsd_open_files_clear(files);
	return error;
}

uint64_t vfsd_open_files_count(const struct vfsd_open_files *files)
{
	return atomic_load_explicit(&files->used, memory_order_relaxed);
}

int vfsd_open_files_create(struct vfsd_quota *fd_quota, struct vfsd_open_files **ret)
{
	struct vfsd_open_files *files = calloc(1, sizeof(*files));

	if (!files)
		return -ENOMEM;
	files->fd_quota = fd_quota;
	files->rest_quota.limit = RESTS_BYTES_MAX;
	pthread_mutex_init(&files->lock, NULL);
	*ret = files;
	return 0;
}

void vfsd_open_files_destroy(struct vfsd_open_files *files)
{
	if (!files)
		return;
	vfsd_open_files_clear(files);
	for (uint32_t c = 0; c < CHUNKS_MAX; c++) {
		struct slot *slots = atomic_load(&files->chunks[c]);

		for (uint32_t i = 0; slots && i < CHUNK_SLOTS; i++)
			pthread_mutex_destroy(&slots[i].file.dir_lock);
		free(slots);
	}
	pthread_mutex_destroy(&files->lock);
	free(files);
}
