/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors that are kept for a while.
 *
 * Whatever is done to an inode that its handle holds would open and close it each time. So what was
 * opened stays open for the next one, for a second at most: a removed file keeps its blocks no
 * longer than that, and an idle daemon has none. Nothing that is watched is pinned even so long.
 *
 * What is looked up is held so too while the host replaces what the guest asks for, and then for half
 * a second at least: a guest that is told that its node id is gone looks the name up once more, and
 * what it finds has to be there when it comes with the new id.
 */
#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "base/proc_fd.h"
#include "inode/internal.h"
#include "base/util.h"

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

/* unpin_lock is held, as for the next one. */
static void drop_oldest(struct vfsd_inodes *inodes, uint32_t n)
{
	const uint32_t due = atomic_load_explicit(&inodes->kept_due, memory_order_relaxed);
	const uint32_t kept = atomic_load_explicit(&inodes->n_kept, memory_order_relaxed);

	inodes->kept_at = (inodes->kept_at + n) % inodes->config.kept_max;
	inodes->kept_old -= inodes->kept_old < n ? inodes->kept_old : n;
	atomic_store_explicit(&inodes->kept_due, due < n ? 0 : due - n, memory_order_relaxed);
	atomic_store_explicit(&inodes->n_kept, kept - n, memory_order_relaxed);
}

/* What is returned (0: nothing) has to make room. */
static uint64_t remember(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	const uint32_t max = inodes->config.kept_max;
	uint32_t n = atomic_load_explicit(&inodes->n_kept, memory_order_relaxed);
	uint64_t oldest = 0;

	if (n == 0)
		atomic_store_explicit(&inodes->kept_since_ms, now_ms(), memory_order_relaxed);
	if (n == max) {
		oldest = inodes->kept[inodes->kept_at];
		drop_oldest(inodes, 1);
		n--;
	}
	inodes->kept[(inodes->kept_at + n) % max] = nodeid;
	atomic_store_explicit(&inodes->n_kept, n + 1, memory_order_release);
	return oldest;
}

/* True: @fd is the slot's now. *oldest (0: none) has to make room. */
static bool keep(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot, int fd, uint64_t *oldest)
{
	const int file = slot->inode.type == S_IFDIR ? 0 : VFSD_FD_KEPT_FILE;
	int none = -1;

	*oldest = 0;
	if (inodes->config.kept_max == 0 || slot->never_kept || slot->closing_fd >= 0)
		return false;
	/* Before it can be found: who removes a name looks at the count first. */
	if (file)
		atomic_fetch_add(&inodes->n_kept_files, 1);
	if (!atomic_compare_exchange_strong(&slot->fd, &none, fd | VFSD_FD_KEPT | file)) {
		if (file)
			atomic_fetch_sub(&inodes->n_kept_files, 1);
		return false;
	}
	slot->kept_again = false;
	*oldest = remember(inodes, slot->inode.nodeid);
	return true;
}

int vfsd_inode_fd_borrow(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient)
{
	int fd = vfsd_inode_fd_get(inodes, inode, transient);
	uint64_t oldest;

	if (VFSD_UNLIKELY(fd == -ESTALE))
		vfsd_inodes_note_stale(inodes);
	if (!*transient || fd < 0)
		return fd;
	pthread_mutex_lock(&inodes->unpin_lock);
	*transient = !keep(inodes, vfsd_inode_slot(inode), fd, &oldest);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (oldest)
		let_go_of(inodes, oldest);
	return fd;
}

int vfsd_inode_open(struct vfsd_inodes *inodes, struct vfsd_inode *inode, int flags)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	int opened;
	int fd;

	if (inode->type != S_IFREG && inode->type != S_IFDIR)
		return -EBADF;
	flags &= ~O_NOFOLLOW;
	fd = atomic_load(&slot->fd);
	if (fd >= 0 && !(fd & VFSD_FD_KEPT))
		return vfsd_proc_reopen(inodes->config.proc_self_fd, fd, flags);
	opened = vfsd_file_handle_open(atomic_load_explicit(&slot->mount->fd, memory_order_acquire),
				       vfsd_slot_handle(slot), flags);
	if (VFSD_LIKELY(opened != -ESTALE))
		return opened;
	/* Not every filesystem finds what has no name any more, though it is held. */
	if (fd >= 0)
		return vfsd_proc_reopen(inodes->config.proc_self_fd, vfsd_fd_number(fd), flags);
	vfsd_inodes_note_stale(inodes);
	return -ESTALE;
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

void vfsd_inode_keep_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode, int *fd)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	uint64_t oldest = 0;
	int held;

	if (*fd < 0)
		return; /* it has become the inode's own */
	pthread_mutex_lock(&inodes->unpin_lock);
	held = atomic_load(&slot->fd);
	if (held < 0 && keep(inodes, slot, *fd, &oldest))
		(void)vfsd_fd_take(fd);
	else if (held >= 0 && held & VFSD_FD_KEPT)
		slot->kept_again = true;
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (oldest)
		let_go_of(inodes, oldest);
}

void vfsd_inodes_note_stale(struct vfsd_inodes *inodes)
{
	atomic_store_explicit(&inodes->stale_since_ms, now_ms(), memory_order_relaxed);
}

bool vfsd_inodes_hold_lookups(struct vfsd_inodes *inodes)
{
	uint64_t since = atomic_load_explicit(&inodes->stale_since_ms, memory_order_relaxed);

	if (VFSD_LIKELY(since == 0))
		return false;
	if (now_ms() - since < VFSD_STALE_MS)
		return true;
	/* Let those who come next not ask for the time. */
	(void)atomic_compare_exchange_strong(&inodes->stale_since_ms, &since, 0);
	return false;
}

bool vfsd_inodes_keep_files(struct vfsd_inodes *inodes)
{
	return atomic_load(&inodes->n_kept_files) > 0;
}

void vfsd_inode_let_go(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	let_go(inodes, vfsd_inode_slot(inode));
}

/* Its time has come, unless it was held once more. */
static void expire(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(inodes, nodeid);
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	bool again;

	if (!inode)
		return;
	pthread_mutex_lock(&inodes->unpin_lock);
	again = slot->kept_again && atomic_load(&slot->fd) >= 0 && has_room(inodes);
	slot->kept_again = false;
	if (again)
		(void)remember(inodes, nodeid);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (!again)
		let_go(inodes, slot);
	vfsd_inode_put(inodes, inode);
}

/*
 * Every half of the time, what was there the last time becomes due. Returns how many of those are in
 * @kept, no longer remembered.
 */
static uint32_t take_due(struct vfsd_inodes *inodes, uint64_t kept[VFSD_KEPT_AT_ONCE])
{
	uint32_t n;

	pthread_mutex_lock(&inodes->unpin_lock);
	n = atomic_load_explicit(&inodes->kept_due, memory_order_relaxed);
	if (n == 0) {
		n = inodes->kept_old;
		atomic_store_explicit(&inodes->kept_due, n, memory_order_relaxed);
		inodes->kept_old = atomic_load_explicit(&inodes->n_kept, memory_order_relaxed);
		atomic_store_explicit(&inodes->kept_since_ms, now_ms(), memory_order_relaxed);
	}
	if (n > VFSD_KEPT_AT_ONCE)
		n = VFSD_KEPT_AT_ONCE;
	for (uint32_t i = 0; i < n; i++)
		kept[i] = inodes->kept[(inodes->kept_at + i) % inodes->config.kept_max];
	if (n > 0)
		drop_oldest(inodes, n);
	pthread_mutex_unlock(&inodes->unpin_lock);
	return n;
}

/* In how many ms something will be due; 0: now. */
static int due_in_ms(struct vfsd_inodes *inodes)
{
	uint64_t age_ms;

	if (atomic_load_explicit(&inodes->kept_due, memory_order_relaxed) > 0)
		return 0;
	age_ms = now_ms() - atomic_load_explicit(&inodes->kept_since_ms, memory_order_relaxed);
	return age_ms < VFSD_KEPT_MS / 2 ? (int)(VFSD_KEPT_MS / 2 - age_ms) : 0;
}

int vfsd_inodes_tend(struct vfsd_inodes *inodes)
{
	uint64_t kept[VFSD_KEPT_AT_ONCE];
	int wait_ms;
	uint32_t n;

	if (atomic_load_explicit(&inodes->n_kept, memory_order_acquire) == 0)
		return -1;
	wait_ms = due_in_ms(inodes);
	if (wait_ms > 0)
		return wait_ms;
	n = take_due(inodes, kept);
	for (uint32_t i = 0; i < n; i++)
		expire(inodes, kept[i]);
	return atomic_load_explicit(&inodes->n_kept, memory_order_acquire) == 0 ? -1 :
										  due_in_ms(inodes);
}
