/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The node-id table.
 *
 * Every inode is in the index by (dev, ino, mnt) and, if it has a handle, in the index by handle. The index by
 * handle identifies the inode; without a handle, the other one does. A new inode becomes visible when its
 * nlookup is set, under the lock of its shard of that index. An inode whose nlookup is 0 is invisible: it is
 * being added or removed.
 */
#include "inode/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "inode/internal.h"
#include "base/util.h"

/* Finding */

static struct vfsd_inode *inode_of(struct vfsd_inode_slot *slot)
{
	return slot ? &slot->inode : NULL;
}

struct vfsd_inode *vfsd_inode_lookup_known(struct vfsd_inodes *inodes, const struct statx *st)
{
	struct vfsd_inode_key key = vfsd_inode_key_of(st);

	key.ino_is_identity = true;
	return inode_of(vfsd_slot_find(inodes, &key, true));
}

struct vfsd_inode *vfsd_inode_lookup_name(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					  const struct statx *st)
{
	struct vfsd_file_handle handle = {.bytes = 0};
	struct vfsd_inode_key key = vfsd_inode_key_of(st);
	struct vfsd_inode_slot *slot;
	bool reopenable;
	uint64_t mnt_id;

	if (!inodes->encode)
		return NULL;
	/* Without such a number in the table there is no need to ask the host. */
	slot = vfsd_slot_find(inodes, &key, false);
	if (!slot)
		return NULL;
	vfsd_slot_put(inodes, slot);
	if (vfsd_file_handle_encode(dir_fd, name, false, &handle, &reopenable, &mnt_id))
		return NULL;
	key.which = VFSD_BY_HANDLE;
	key.handle = &handle;
	slot = vfsd_slot_find(inodes, &key, true);
	if (slot)
		vfsd_slot_note_btime(slot, st);
	return inode_of(slot);
}

struct vfsd_inode *vfsd_inode_find_handle(struct vfsd_inodes *inodes,
					  const struct vfsd_file_handle *handle)
{
	struct vfsd_inode_key key = {
		.which = VFSD_BY_HANDLE,
		.match_fsid = true,
		.handle = handle,
	};

	if (handle->bytes == 0 || handle->bytes > VFSD_HANDLE_BYTES_MAX)
		return NULL;
	return inode_of(vfsd_slot_find(inodes, &key, false));
}

struct vfsd_inode *vfsd_inode_find_name(struct vfsd_inodes *inodes, int dir_fd, const char *name,
					bool *exists)
{
	struct vfsd_file_handle handle = {.bytes = 0};
	struct vfsd_inode_key key;
	struct statx st;
	bool reopenable;
	uint64_t mnt_id;
	int error = -EOPNOTSUPP;

	if (inodes->encode)
		error = vfsd_file_handle_encode(dir_fd, name, true, &handle, &reopenable, &mnt_id);
	if (error == 0) {
		key = (struct vfsd_inode_key){
			.which = VFSD_BY_HANDLE,
			.match_mnt = true,
			.mnt_id = mnt_id,
			.handle = &handle,
		};
		*exists = true;
		return inode_of(vfsd_slot_find(inodes, &key, false));
	}
	if (error == -ENOENT || error == -ENOTDIR) {
		*exists = false;
		return NULL;
	}
	*exists = statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
			STATX_TYPE | STATX_INO | STATX_MNT_ID, &st) == 0;
	if (!*exists)
		return NULL;
	key = vfsd_inode_key_of(&st);
	key.ino_is_identity = true;
	return inode_of(vfsd_slot_find(inodes, &key, false));
}

/* Forgetting */

struct vfsd_inode *vfsd_inode_forget(struct vfsd_inodes *inodes, uint64_t nodeid, uint64_t nlookup)
{
	struct vfsd_inode *inode;
	struct vfsd_inode_slot *slot;
	bool remember;
	uint64_t n;

	/* The root is never forgotten, however often a guest asks. */
	if (nodeid == VFSD_NODEID_ROOT || nlookup == 0)
		return NULL;
	inode = vfsd_inode_get(inodes, nodeid);
	if (!inode)
		return NULL;
	slot = vfsd_inode_slot(inode);
	remember = atomic_load_explicit(&inodes->remember, memory_order_relaxed);
	if (remember)
		vfsd_forgotten_begin(inodes);
	n = atomic_load(&slot->nlookup);
	do {
		if (n == 0) /* another thread was faster */
			break;
	} while (!atomic_compare_exchange_weak(&slot->nlookup, &n, n > nlookup ? n - nlookup : 0));
	if (n == 0 || n > nlookup) {
		if (remember)
			vfsd_forgotten_end(inodes);
		vfsd_slot_put(inodes, slot);
		return NULL;
	}
	slot->was_forgotten = remember;
	vfsd_slot_unpublish(inodes, slot);
	return inode;
}

void vfsd_inodes_clear(struct vfsd_inodes *inodes)
{
	vfsd_forgotten_clear(inodes);
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
				vfsd_slot_unpublish(inodes, &slots[i]);
			vfsd_slot_put(inodes, &slots[i]);
		}
	}
}

bool vfsd_inodes_can_unpin(const struct vfsd_inodes *inodes)
{
	return inodes->can_unpin;
}

void vfsd_inodes_set_remember(struct vfsd_inodes *inodes, bool remember)
{
	atomic_store_explicit(&inodes->remember, remember, memory_order_relaxed);
}

bool vfsd_inodes_are_by_handle(const struct vfsd_inodes *inodes)
{
	return inodes->by_handle;
}

uint64_t vfsd_inodes_count(const struct vfsd_inodes *inodes)
{
	return atomic_load_explicit(&inodes->count, memory_order_relaxed);
}

/* The table */

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
	pthread_mutex_init(&inodes->mount_changes_lock, NULL);
	pthread_mutex_init(&inodes->forgotten_lock, NULL);
	pthread_cond_init(&inodes->ended, NULL);
	vfsd_inodes_open_mount_table(inodes);
	(void)getrandom(&inodes->seed, sizeof(inodes->seed), GRND_NONBLOCK);
	/* The root is allocated first, after index 0 was reserved: it gets index 1 and generation 0. */
	inodes->chunks = calloc(VFSD_INODE_CHUNKS_MAX, sizeof(*inodes->chunks));
	inodes->cached = calloc((size_t)config->cached_fds_max + 1, sizeof(*inodes->cached));
	error = inodes->chunks && inodes->cached ? vfsd_inode_shards_create(inodes) : -ENOMEM;
	if (!error)
		error = vfsd_slot_alloc(inodes, &reserved);
	if (!error)
		error = vfsd_inode_add_root(inodes, vfsd_fd_take(&root));
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
				vfsd_slot_unpublish(inodes, root);
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
	free(inodes->cached);
	vfsd_inode_shards_destroy(inodes);
	pthread_mutex_destroy(&inodes->slots_lock);
	pthread_mutex_destroy(&inodes->mounts_lock);
	pthread_mutex_destroy(&inodes->unpin_lock);
	pthread_mutex_destroy(&inodes->mount_changes_lock);
	pthread_mutex_destroy(&inodes->forgotten_lock);
	pthread_cond_destroy(&inodes->ended);
	if (inodes->mount_table_fd >= 0)
		(void)close(inodes->mount_table_fd);
	free(inodes);
}
