/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One slot of the node-id table with the inode in it: its references, its descriptor, and its end with the last
 * reference.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "inode/internal.h"
#include "base/quota.h"
#include "base/statx.h"

void vfsd_host_fd_close(struct vfsd_inodes *inodes, int fd)
{
	(void)close(vfsd_fd_number(fd));
	if (!(fd & VFSD_FD_CACHED))
		vfsd_quota_give(inodes->config.fd_quota);
	if (fd & VFSD_FD_CACHED_FILE)
		atomic_fetch_sub(&inodes->n_cached_files, 1);
}

static bool has_name(int fd)
{
	struct statx st;

	return fd >= 0 && vfsd_statx_fd(fd, 0, STATX_NLINK, &st) == 0 && st.stx_nlink > 0;
}

/* The id of the directory that @inode was found in, if the guest still holds that; else 0. */
static uint64_t known_parent(struct vfsd_inodes *inodes, const struct vfsd_inode *inode)
{
	struct vfsd_inode_slot *slot = vfsd_slot_at(inodes, inode->found_in);
	uint64_t nodeid = 0;

	if (!inode->found_in || !slot || !vfsd_slot_ref(slot))
		return 0;
	if (slot->inode.type == S_IFDIR)
		nodeid = slot->inode.nodeid;
	vfsd_slot_put(inodes, slot);
	return nodeid;
}

/* Free the slot, or keep its index reserved with the id that is remembered. @handle NULL: nothing is. */
static void slot_end(struct vfsd_inodes *inodes, const struct vfsd_inode *inode,
		     const struct vfsd_file_handle *handle)
{
	const uint32_t index = (uint32_t)inode->nodeid;

	if (!handle) {
		vfsd_slot_free(inodes, index);
		return;
	}
	vfsd_slot_reserve(inodes, index);
	if (!vfsd_forgotten_add(inodes, inode, known_parent(inodes, inode), handle))
		vfsd_slot_unreserve(inodes, index);
}

/* The last reference is gone: free the slot and all that it owns. */
static void slot_destroy(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot)
{
	const struct vfsd_inode inode = slot->inode;
	const bool was_forgotten = slot->was_forgotten;
	bool remember = was_forgotten && vfsd_forgotten_takes(slot);
	struct vfsd_file_handle handle;
	int fd = atomic_load(&slot->fd);

	if (remember && slot->held)
		remember = has_name(fd);

	if (remember)
		vfsd_file_handle_copy(&handle, vfsd_slot_handle(slot));
	if (fd >= 0)
		vfsd_host_fd_close(inodes, fd);
	if (slot->closing_fd >= 0)
		vfsd_host_fd_close(inodes, slot->closing_fd);
	if (slot->handle_outside)
		free(vfsd_slot_handle(slot));
	vfsd_host_mount_put(inodes, slot->mount);
	atomic_store_explicit(&slot->refs, 0, memory_order_relaxed);
	slot_end(inodes, &inode, remember ? &handle : NULL);
	if (was_forgotten)
		vfsd_forgotten_end(inodes);
}

bool vfsd_slot_ref(struct vfsd_inode_slot *slot)
{
	uint32_t refs = atomic_load_explicit(&slot->refs, memory_order_relaxed);

	do {
		if ((refs & ~VFSD_INODE_CLOSING) == 0)
			return false;
		/* Sequentially consistent: pairs with vfsd_inode_unpin(). */
	} while (!atomic_compare_exchange_weak(&slot->refs, &refs, refs + 1));
	return true;
}

void vfsd_slot_put(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot)
{
	uint32_t refs = atomic_load_explicit(&slot->refs, memory_order_relaxed);
	int closing = -1;

	/* The flag is in the count, because the slot may be gone after the decrement. */
	while (!(refs & VFSD_INODE_CLOSING)) {
		if (!atomic_compare_exchange_weak_explicit(&slot->refs, &refs, refs - 1,
							   memory_order_acq_rel,
							   memory_order_relaxed))
			continue;
		if (refs == 1)
			slot_destroy(inodes, slot);
		return;
	}
	pthread_mutex_lock(&inodes->unpin_lock);
	refs = atomic_fetch_sub(&slot->refs, 1);
	if ((refs & ~VFSD_INODE_CLOSING) == 2 && slot->closing_fd >= 0 &&
	    atomic_load(&slot->nlookup) > 0) {
		/* Only the table's reference is left: nobody uses the old descriptor any more. */
		closing = slot->closing_fd;
		slot->closing_fd = -1;
		atomic_fetch_and(&slot->refs, ~VFSD_INODE_CLOSING);
	}
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (closing >= 0)
		vfsd_host_fd_close(inodes, closing);
	if ((refs & ~VFSD_INODE_CLOSING) == 1)
		slot_destroy(inodes, slot);
}

bool vfsd_slot_count_lookup(struct vfsd_inode_slot *slot)
{
	uint64_t n = atomic_load_explicit(&slot->nlookup, memory_order_relaxed);

	do {
		if (n == 0)
			return false;
	} while (!atomic_compare_exchange_weak(&slot->nlookup, &n, n < UINT64_MAX ? n + 1 : n));
	return true;
}

struct vfsd_inode *vfsd_inode_lookup_again(struct vfsd_inode *inode)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);

	if (!vfsd_slot_count_lookup(slot))
		return NULL;
	(void)vfsd_slot_ref(slot); /* cannot fail: the caller has a reference */
	return inode;
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

uint64_t vfsd_inode_lookups(const struct vfsd_inode *inode)
{
	return atomic_load(&vfsd_inode_slot(inode)->nlookup);
}

const struct vfsd_file_handle *vfsd_inode_handle(const struct vfsd_inode *inode)
{
	return vfsd_slot_handle(vfsd_inode_slot(inode));
}

int vfsd_inode_fd_get(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	int fd = atomic_load(&slot->fd); /* sequentially consistent: pairs with unpin */

	(void)inodes;
	*transient = fd < 0;
	if (fd >= 0)
		return vfsd_fd_number(fd);
	return vfsd_file_handle_open(atomic_load_explicit(&slot->mount->fd, memory_order_acquire),
				     vfsd_slot_handle(slot), O_PATH);
}

void vfsd_inode_fd_put(int fd, bool transient)
{
	if (transient && fd >= 0)
		(void)close(fd);
}

int vfsd_slot_take_fd(struct vfsd_inode_slot *slot)
{
	int fd = atomic_exchange(&slot->fd, -1);
	uint32_t refs;

	if (fd < 0)
		return -1;
	/*
	 * Whoever takes a reference from now on finds no descriptor, but whoever had one before may be using
	 * it. If there are only the table's reference and the caller's, nobody is; otherwise the last one
	 * closes it.
	 */
	refs = atomic_load(&slot->refs);
	if (refs == 2 && atomic_load(&slot->nlookup) > 0)
		return fd;
	slot->closing_fd = fd;
	atomic_fetch_or(&slot->refs, VFSD_INODE_CLOSING);
	return -1;
}

bool vfsd_inode_is_pinned(const struct vfsd_inode *inode)
{
	return atomic_load(&vfsd_inode_slot(inode)->fd) >= 0;
}
