/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors that are kept for a while.
 *
 * Whatever is done to an inode that its handle holds would open and close it each time. So what was
 * opened stays open for the next one, for a second at most: a removed file keeps its blocks no
 * longer than that, and an idle daemon has none. Nothing that is watched is pinned even so long.
 */
#include <time.h>

#include "inode_internal.h"

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void let_go(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot)
{
	int fd = -1;

	pthread_mutex_lock(&inodes->unpin_lock);
	if (atomic_load(&slot->fd) >= 0 && atomic_load(&slot->fd) & VFSD_FD_KEPT)
		fd = vfsd_slot_take_fd(slot);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (fd >= 0)
		vfsd_host_fd_close(inodes, fd);
}

static void let_go_of(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(inodes, nodeid);

	if (inode)
		let_go(inodes, vfsd_inode_slot(inode));
	vfsd_inode_put(inodes, inode);
}

/* True: @fd is the slot's now. *oldest (0: none) has to make room. */
static bool keep(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot, int fd, uint64_t *oldest)
{
	const uint32_t max = inodes->config.kept_max;
	const int file = slot->inode.type == S_IFDIR ? 0 : VFSD_FD_KEPT_FILE;
	uint32_t n;
	int none = -1;

	*oldest = 0;
	if (max == 0 || slot->never_kept || slot->closing_fd >= 0)
		return false;
	/* Before it can be found: who removes a name looks at the count first. */
	if (file)
		atomic_fetch_add(&inodes->n_kept_files, 1);
	if (!atomic_compare_exchange_strong(&slot->fd, &none, fd | VFSD_FD_KEPT | file)) {
		if (file)
			atomic_fetch_sub(&inodes->n_kept_files, 1);
		return false;
	}
	n = atomic_load_explicit(&inodes->n_kept, memory_order_relaxed);
	if (n == 0)
		atomic_store_explicit(&inodes->kept_since_ms, now_ms(), memory_order_relaxed);
	if (n == max) {
		*oldest = inodes->kept[inodes->kept_at];
		inodes->kept_at = (inodes->kept_at + 1) % max;
		n--;
	}
	inodes->kept[(inodes->kept_at + n) % max] = slot->inode.nodeid;
	atomic_store_explicit(&inodes->n_kept, n + 1, memory_order_release);
	return true;
}

int vfsd_inode_fd_borrow(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient)
{
	int fd = vfsd_inode_fd_get(inodes, inode, transient);
	uint64_t oldest;

	if (!*transient || fd < 0)
		return fd;
	pthread_mutex_lock(&inodes->unpin_lock);
	*transient = !keep(inodes, vfsd_inode_slot(inode), fd, &oldest);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (oldest)
		let_go_of(inodes, oldest);
	return fd;
}

/* unpin_lock is held. */
static bool has_room(const struct vfsd_inodes *inodes)
{
	return atomic_load_explicit(&inodes->n_kept, memory_order_relaxed) <
	       inodes->config.kept_max;
}

void vfsd_inode_keep(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	bool transient = false;
	uint64_t none;
	bool wanted;
	int fd = -1;

	pthread_mutex_lock(&inodes->unpin_lock);
	wanted = !slot->never_kept && slot->closing_fd < 0 && has_room(inodes);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (wanted)
		fd = vfsd_inode_fd_get(inodes, inode, &transient);
	if (!transient || fd < 0)
		return;
	pthread_mutex_lock(&inodes->unpin_lock);
	transient = !has_room(inodes) || !keep(inodes, slot, fd, &none);
	pthread_mutex_unlock(&inodes->unpin_lock);
	vfsd_inode_fd_put(fd, transient);
}

bool vfsd_inodes_keep_files(struct vfsd_inodes *inodes)
{
	return atomic_load(&inodes->n_kept_files) > 0;
}

void vfsd_inode_let_go(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	let_go(inodes, vfsd_inode_slot(inode));
}

int vfsd_inodes_tend(struct vfsd_inodes *inodes)
{
	const uint32_t max = inodes->config.kept_max;
	uint64_t kept[VFSD_KEPT_AT_ONCE];
	uint64_t age_ms;
	uint32_t n, left;

	if (atomic_load_explicit(&inodes->n_kept, memory_order_acquire) == 0)
		return -1;
	age_ms = now_ms() - atomic_load_explicit(&inodes->kept_since_ms, memory_order_relaxed);
	if (age_ms < VFSD_KEPT_MS)
		return (int)(VFSD_KEPT_MS - age_ms);

	pthread_mutex_lock(&inodes->unpin_lock);
	left = atomic_load_explicit(&inodes->n_kept, memory_order_relaxed);
	n = left < VFSD_KEPT_AT_ONCE ? left : VFSD_KEPT_AT_ONCE;
	for (uint32_t i = 0; i < n; i++)
		kept[i] = inodes->kept[(inodes->kept_at + i) % max];
	inodes->kept_at = (inodes->kept_at + n) % max;
	left -= n;
	atomic_store_explicit(&inodes->n_kept, left, memory_order_relaxed);
	pthread_mutex_unlock(&inodes->unpin_lock);
	for (uint32_t i = 0; i < n; i++)
		let_go_of(inodes, kept[i]);
	return left ? 0 : -1;
}
