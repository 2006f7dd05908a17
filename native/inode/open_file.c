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
	/* What programs that list directories at the same time leave for their next calls, many times over. */
	RESTS_BYTES_MAX = 8 << 20,
};

/*
 * Slots never move or go, so get() can raise the count of whatever is in one, unless that is zero
 * (free), and look at it afterwards. The table itself holds one reference until release.
 */
struct slot {
	struct vfsd_handle handle; /* first: a vfsd_handle is cast to its slot */
	_Atomic uint32_t refs;
	_Atomic bool open; /* cleared by the one RELEASE that counts */
	uint32_t index;
	uint32_t generation; /* changes with every use */
	uint32_t next_free;  /* protected by vfsd_handles.lock */
};

struct vfsd_handles {
	struct vfsd_quota *fd_quota;
	struct vfsd_quota rest_quota; /* in bytes, of all that is left of directories */
	_Atomic uint64_t used;
	pthread_mutex_t lock;
	uint32_t first_free; /* slot index + 1, 0: none; protected by lock, as is n_slots */
	uint32_t n_slots;
	uint32_t first_generation; /* of slots to come; protected by lock */
	_Atomic(struct slot *) chunks[CHUNKS_MAX];
};

static struct slot *slot_of(struct vfsd_handle *handle)
{
	return (struct slot *)handle;
}

static struct slot *slot_at(struct vfsd_handles *handles, uint32_t index)
{
	struct slot *slots;

	if (index / CHUNK_SLOTS >= CHUNKS_MAX)
		return NULL;
	slots = atomic_load_explicit(&handles->chunks[index / CHUNK_SLOTS], memory_order_acquire);
	return slots ? &slots[index % CHUNK_SLOTS] : NULL;
}

/* The lock is held. */
static int grow(struct vfsd_handles *handles)
{
	struct slot *slots;

	if (handles->n_slots == CHUNKS_MAX * CHUNK_SLOTS)
		return -ENFILE;
	slots = calloc(CHUNK_SLOTS, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = CHUNK_SLOTS; i-- > 0;) {
		pthread_mutex_init(&slots[i].handle.dir_lock, NULL);
		slots[i].handle.rest_quota = &handles->rest_quota;
		slots[i].index = handles->n_slots + i;
		slots[i].generation = handles->first_generation;
		slots[i].next_free = handles->first_free;
		handles->first_free = slots[i].index + 1;
	}
	atomic_store_explicit(&handles->chunks[handles->n_slots / CHUNK_SLOTS], slots,
			      memory_order_release);
	handles->n_slots += CHUNK_SLOTS;
	return 0;
}

static int slot_alloc(struct vfsd_handles *handles, struct slot **ret)
{
	int error = 0;

	if (vfsd_faults_refuse())
		return -ENOMEM;
	pthread_mutex_lock(&handles->lock);
	if (!handles->first_free)
		error = grow(handles);
	if (!error) {
		*ret = slot_at(handles, handles->first_free - 1);
		handles->first_free = (*ret)->next_free;
	}
	pthread_mutex_unlock(&handles->lock);
	return error;
}

/* What the slot has counted, and the slot. */
static void slot_free(struct vfsd_handles *handles, struct slot *slot)
{
	vfsd_quota_give(handles->fd_quota);
	atomic_fetch_sub_explicit(&handles->used, 1, memory_order_relaxed);
	pthread_mutex_lock(&handles->lock);
	slot->next_free = handles->first_free;
	handles->first_free = slot->index + 1;
	pthread_mutex_unlock(&handles->lock);
}

static void slot_put(struct vfsd_handles *handles, struct slot *slot)
{
	if (atomic_fetch_sub_explicit(&slot->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (slot->handle.fd >= 0)
		(void)close(slot->handle.fd);
	vfsd_dir_drop_rest(&slot->handle);
	slot_free(handles, slot);
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

/* A reference to what is open as @fh, lost or not. NULL: nothing. */
static struct slot *slot_get(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid)
{
	struct slot *slot = slot_at(handles, (uint32_t)fh);

	if (!slot || !slot_ref(slot))
		return NULL;
	if (slot->generation == fh >> 32 && slot->handle.nodeid == nodeid &&
	    atomic_load_explicit(&slot->open, memory_order_relaxed))
		return slot;
	slot_put(handles, slot);
	return NULL;
}

int vfsd_handle_reserve(struct vfsd_handles *handles, struct vfsd_handle **ret)
{
	struct slot *slot;
	int error;

	if (!vfsd_quota_take(handles->fd_quota))
		return -ENFILE;
	error = slot_alloc(handles, &slot);
	if (error) {
		vfsd_quota_give(handles->fd_quota);
		return error;
	}
	atomic_fetch_add_explicit(&handles->used, 1, memory_order_relaxed);
	*ret = &slot->handle;
	return 0;
}

uint64_t vfsd_handle_fill(struct vfsd_handle *reserved, int fd, uint64_t nodeid)
{
	struct slot *slot = slot_of(reserved);
	uint64_t fh;

	slot->handle.fd = fd;
	slot->handle.nodeid = nodeid;
	slot->handle.dir_offset = 0;
	slot->generation++;
	fh = (uint64_t)slot->generation << 32 | slot->index;
	atomic_store_explicit(&slot->open, true, memory_order_relaxed);
	atomic_store_explicit(&slot->refs, 1, memory_order_release);
	return fh;
}

void vfsd_handle_unreserve(struct vfsd_handles *handles, struct vfsd_handle *reserved)
{
	slot_free(handles, slot_of(reserved));
}

int vfsd_handle_add(struct vfsd_handles *handles, int fd, uint64_t nodeid, uint64_t *ret_fh)
{
	VFSD_FD_GUARD guard = fd;
	struct vfsd_handle *reserved;
	int error = vfsd_handle_reserve(handles, &reserved);

	if (error)
		return error;
	*ret_fh = vfsd_handle_fill(reserved, vfsd_fd_take(&guard), nodeid);
	return 0;
}

struct vfsd_handle *vfsd_handle_get(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid)
{
	struct slot *slot = slot_get(handles, fh, nodeid);

	if (!slot)
		return NULL;
	if (VFSD_LIKELY(slot->handle.fd >= 0))
		return &slot->handle;
	slot_put(handles, slot);
	return NULL;
}

int vfsd_handle_missing(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid)
{
	struct slot *slot = slot_get(handles, fh, nodeid);

	if (!slot)
		return -EBADF;
	slot_put(handles, slot);
	return -ESTALE;
}

void vfsd_handle_put(struct vfsd_handles *handles, struct vfsd_handle *handle)
{
	if (handle)
		slot_put(handles, slot_of(handle));
}

int vfsd_handle_release(struct vfsd_handles *handles, uint64_t fh, uint64_t nodeid)
{
	struct slot *slot = slot_get(handles, fh, nodeid);

	if (!slot)
		return -EBADF;
	if (atomic_exchange(&slot->open, false))
		slot_put(handles, slot); /* the table's */
	slot_put(handles, slot);
	return 0;
}

void vfsd_handles_clear(struct vfsd_handles *handles)
{
	if (atomic_load(&handles->used) == 0)
		return;
	for (uint32_t i = 0;; i++) {
		struct slot *slot = slot_at(handles, i);

		if (!slot) /* chunks are added in order */
			return;
		if (!slot_ref(slot))
			continue;
		if (atomic_exchange(&slot->open, false))
			slot_put(handles, slot);
		slot_put(handles, slot);
	}
}

int vfsd_handles_each(struct vfsd_handles *handles,
		      int (*each)(void *ctx, const struct vfsd_open_file *file), void *ctx)
{
	struct slot *slot;
	int result = 0;

	for (uint32_t i = 0; !result && (slot = slot_at(handles, i)) != NULL; i++) {
		struct vfsd_open_file file;

		if (!slot_ref(slot))
			continue;
		file = (struct vfsd_open_file){
			.fh = (uint64_t)slot->generation << 32 | slot->index,
			.nodeid = slot->handle.nodeid,
			.fd = slot->handle.fd,
		};
		if (atomic_load(&slot->open))
			result = each(ctx, &file);
		slot_put(handles, slot);
	}
	return result;
}

uint32_t vfsd_handles_generation(struct vfsd_handles *handles)
{
	uint32_t generation = handles->first_generation;
	struct slot *slot;

	for (uint32_t i = 0; (slot = slot_at(handles, i)) != NULL; i++)
		if (slot->generation > generation)
			generation = slot->generation;
	return generation;
}

static int restore_one(struct vfsd_handles *handles, struct vfsd_open_file *file)
{
	uint32_t index = (uint32_t)file->fh;
	struct slot *slot;

	while (index >= handles->n_slots) {
		int error = grow(handles);

		if (error)
			return error == -ENFILE ? -EINVAL : error;
	}
	slot = slot_at(handles, index);
	if (atomic_load(&slot->refs) != 0)
		return -EINVAL;
	if (!vfsd_quota_take(handles->fd_quota))
		return -ENFILE;
	atomic_fetch_add(&handles->used, 1);
	slot->handle.fd = vfsd_fd_take(&file->fd);
	slot->handle.nodeid = file->nodeid;
	slot->handle.dir_offset = 0;
	slot->generation = (uint32_t)(file->fh >> 32);
	atomic_store(&slot->open, true);
	atomic_store(&slot->refs, 1);
	return 0;
}

int vfsd_handles_restore(struct vfsd_handles *handles, struct vfsd_open_file *files, size_t n,
			 uint32_t generation)
{
	struct slot *slot;
	int error = 0;

	pthread_mutex_lock(&handles->lock);
	handles->first_generation = generation;
	for (uint32_t i = 0; (slot = slot_at(handles, i)) != NULL; i++)
		slot->generation = generation;
	for (size_t i = 0; i < n && !error; i++)
		error = restore_one(handles, &files[i]);
	/* What is free now; in the order of growth. */
	handles->first_free = 0;
	for (uint32_t i = handles->n_slots; i-- > 0;) {
		slot = slot_at(handles, i);
		if (atomic_load(&slot->refs) != 0)
			continue;
		slot->next_free = handles->first_free;
		handles->first_free = i + 1;
	}
	pthread_mutex_unlock(&handles->lock);
	for (size_t i = 0; i < n; i++)
		if (files[i].fd >= 0)
			(void)close(files[i].fd);
	if (error)
		vfsd_handles_clear(handles);
	return error;
}

uint64_t vfsd_handles_count(const struct vfsd_handles *handles)
{
	return atomic_load_explicit(&handles->used, memory_order_relaxed);
}

int vfsd_handles_create(struct vfsd_quota *fd_quota, struct vfsd_handles **ret)
{
	struct vfsd_handles *handles = calloc(1, sizeof(*handles));

	if (!handles)
		return -ENOMEM;
	handles->fd_quota = fd_quota;
	handles->rest_quota.limit = RESTS_BYTES_MAX;
	pthread_mutex_init(&handles->lock, NULL);
	*ret = handles;
	return 0;
}

void vfsd_handles_destroy(struct vfsd_handles *handles)
{
	if (!handles)
		return;
	vfsd_handles_clear(handles);
	for (uint32_t c = 0; c < CHUNKS_MAX; c++) {
		struct slot *slots = atomic_load(&handles->chunks[c]);

		for (uint32_t i = 0; slots && i < CHUNK_SLOTS; i++)
			pthread_mutex_destroy(&slots[i].handle.dir_lock);
		free(slots);
	}
	pthread_mutex_destroy(&handles->lock);
	free(handles);
}
