/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cache of O_PATH descriptors of inodes that are held by their file handles.
 *
 * Without it each request would open the inode by its handle and close it again. A cached descriptor stays
 * open for a second at most: a removed file keeps its blocks no longer than that, and an idle daemon has no
 * cached descriptors. A watched inode is never cached, because the descriptor would pin it.
 *
 * The cache also covers a race. A guest that gets ESTALE for a node id looks the name up again, but only once,
 * and the inode that it finds must still be there when the next request comes with the new id. So for a while
 * after an ESTALE, LOOKUP caches the descriptors of what it finds, for half a second at least.
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

static void uncache(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot)
{
	int fd = -1;

	pthread_mutex_lock(&inodes->unpin_lock);
	if (atomic_load(&slot->fd) >= 0 && atomic_load(&slot->fd) & VFSD_FD_CACHED)
		fd = vfsd_slot_take_fd(slot);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (fd >= 0)
		vfsd_host_fd_close(inodes, fd);
}

static void uncache_id(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(inodes, nodeid);

	if (inode)
		uncache(inodes, vfsd_inode_slot(inode));
	vfsd_inode_put(inodes, inode);
}

/* unpin_lock is held, as for the next one. */
static void drop_oldest(struct vfsd_inodes *inodes, uint32_t n)
{
	const uint32_t n_due = atomic_load_explicit(&inodes->cached_due, memory_order_relaxed);
	const uint32_t n_cached = atomic_load_explicit(&inodes->n_cached, memory_order_relaxed);

	inodes->cached_at = (inodes->cached_at + n) % inodes->config.cached_fds_max;
	inodes->cached_old -= inodes->cached_old < n ? inodes->cached_old : n;
	atomic_store_explicit(&inodes->cached_due, n_due < n ? 0 : n_due - n, memory_order_relaxed);
	atomic_store_explicit(&inodes->n_cached, n_cached - n, memory_order_relaxed);
}

/* Returns the node id that has to be uncached to make room, 0: none. */
static uint64_t append(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	const uint32_t max = inodes->config.cached_fds_max;
	uint32_t n = atomic_load_explicit(&inodes->n_cached, memory_order_relaxed);
	uint64_t oldest = 0;

	if (n == 0)
		atomic_store_explicit(&inodes->cached_since_ms, now_ms(), memory_order_relaxed);
	if (n == max) {
		oldest = inodes->cached[inodes->cached_at];
		drop_oldest(inodes, 1);
		n--;
	}
	inodes->cached[(inodes->cached_at + n) % max] = nodeid;
	atomic_store_explicit(&inodes->n_cached, n + 1, memory_order_release);
	return oldest;
}

/* True: the slot owns @fd now. *oldest has to be uncached to make room, 0: none. */
static bool cache(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot, int fd,
		  uint64_t *oldest)
{
	const int file = slot->inode.type == S_IFDIR ? 0 : VFSD_FD_CACHED_FILE;
	int none = -1;

	*oldest = 0;
	if (inodes->config.cached_fds_max == 0 || slot->never_cached || slot->closing_fd >= 0)
		return false;
	/* Count it before it can be found: whoever removes a name reads the count first. */
	if (file)
		atomic_fetch_add(&inodes->n_cached_files, 1);
	if (!atomic_compare_exchange_strong(&slot->fd, &none, fd | VFSD_FD_CACHED | file)) {
		if (file)
			atomic_fetch_sub(&inodes->n_cached_files, 1);
		return false;
	}
	slot->cached_again = false;
	*oldest = append(inodes, slot->inode.nodeid);
	return true;
}

int vfsd_inode_acquire_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool *transient)
{
	int fd = vfsd_inode_fd_get(inodes, inode, transient);
	uint64_t oldest;

	if (VFSD_UNLIKELY(fd == -ESTALE))
		vfsd_inodes_note_stale(inodes);
	if (!*transient || fd < 0)
		return fd;
	pthread_mutex_lock(&inodes->unpin_lock);
	*transient = !cache(inodes, vfsd_inode_slot(inode), fd, &oldest);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (oldest)
		uncache_id(inodes, oldest);
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
	if (fd >= 0 && !(fd & VFSD_FD_CACHED))
		return vfsd_proc_reopen(inodes->config.proc_self_fd, fd, flags);
	opened = vfsd_file_handle_open(atomic_load_explicit(&slot->mount->fd, memory_order_acquire),
				       vfsd_slot_handle(slot), flags);
	if (VFSD_LIKELY(opened != -ESTALE))
		return opened;
	/* Not every filesystem opens an inode without a name by handle, even if it is in use. */
	if (fd >= 0)
		return vfsd_proc_reopen(inodes->config.proc_self_fd, vfsd_fd_number(fd), flags);
	vfsd_inodes_note_stale(inodes);
	return -ESTALE;
}

/* unpin_lock is held. */
static bool has_room(const struct vfsd_inodes *inodes)
{
	return atomic_load_explicit(&inodes->n_cached, memory_order_relaxed) <
	       inodes->config.cached_fds_max;
}

void vfsd_inode_cache_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	bool transient = false;
	uint64_t none;
	bool cacheable;
	int fd = -1;

	pthread_mutex_lock(&inodes->unpin_lock);
	cacheable = !slot->never_cached && slot->closing_fd < 0 && has_room(inodes);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (cacheable)
		fd = vfsd_inode_fd_get(inodes, inode, &transient);
	if (!transient || fd < 0)
		return;
	pthread_mutex_lock(&inodes->unpin_lock);
	transient = !has_room(inodes) || !cache(inodes, slot, fd, &none);
	pthread_mutex_unlock(&inodes->unpin_lock);
	vfsd_inode_fd_put(fd, transient);
}

void vfsd_inode_cache_opened_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode, int *fd)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	uint64_t oldest = 0;
	int held;

	if (*fd < 0)
		return; /* the inode has taken it */
	pthread_mutex_lock(&inodes->unpin_lock);
	held = atomic_load(&slot->fd);
	if (held < 0 && cache(inodes, slot, *fd, &oldest))
		(void)vfsd_fd_take(fd);
	else if (held >= 0 && held & VFSD_FD_CACHED)
		slot->cached_again = true;
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (oldest)
		uncache_id(inodes, oldest);
}

void vfsd_inodes_note_stale(struct vfsd_inodes *inodes)
{
	atomic_store_explicit(&inodes->stale_since_ms, now_ms(), memory_order_relaxed);
}

bool vfsd_inodes_cache_lookups(struct vfsd_inodes *inodes)
{
	uint64_t since = atomic_load_explicit(&inodes->stale_since_ms, memory_order_relaxed);

	if (VFSD_LIKELY(since == 0))
		return false;
	if (now_ms() - since < VFSD_STALE_MS)
		return true;
	/* Later calls need not read the clock. */
	(void)atomic_compare_exchange_strong(&inodes->stale_since_ms, &since, 0);
	return false;
}

bool vfsd_inodes_have_cached_files(struct vfsd_inodes *inodes)
{
	return atomic_load(&inodes->n_cached_files) > 0;
}

void vfsd_inode_uncache_fd(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	uncache(inodes, vfsd_inode_slot(inode));
}

/* Uncache it, unless it was cached again meanwhile. */
static void expire(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(inodes, nodeid);
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	bool again;

	if (!inode)
		return;
	pthread_mutex_lock(&inodes->unpin_lock);
	again = slot->cached_again && atomic_load(&slot->fd) >= 0 && has_room(inodes);
	slot->cached_again = false;
	if (again)
		(void)append(inodes, nodeid);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (!again)
		uncache(inodes, slot);
	vfsd_inode_put(inodes, inode);
}

/*
 * Each VFSD_FD_CACHED_MS / 2 the descriptors that were cached before the previous such moment become due. Take
 * up to VFSD_FDS_EXPIRED_AT_ONCE of them off the list into @due. Returns how many.
 */
static uint32_t take_due(struct vfsd_inodes *inodes, uint64_t due[VFSD_FDS_EXPIRED_AT_ONCE])
{
	uint32_t n;

	pthread_mutex_lock(&inodes->unpin_lock);
	n = atomic_load_explicit(&inodes->cached_due, memory_order_relaxed);
	if (n == 0) {
		n = inodes->cached_old;
		atomic_store_explicit(&inodes->cached_due, n, memory_order_relaxed);
		inodes->cached_old = atomic_load_explicit(&inodes->n_cached, memory_order_relaxed);
		atomic_store_explicit(&inodes->cached_since_ms, now_ms(), memory_order_relaxed);
	}
	if (n > VFSD_FDS_EXPIRED_AT_ONCE)
		n = VFSD_FDS_EXPIRED_AT_ONCE;
	for (uint32_t i = 0; i < n; i++)
		due[i] = inodes->cached[(inodes->cached_at + i) % inodes->config.cached_fds_max];
	if (n > 0)
		drop_oldest(inodes, n);
	pthread_mutex_unlock(&inodes->unpin_lock);
	return n;
}

/* Returns in how many ms a descriptor will be due; 0: now. */
static int due_in_ms(struct vfsd_inodes *inodes)
{
	uint64_t age_ms;

	if (atomic_load_explicit(&inodes->cached_due, memory_order_relaxed) > 0)
		return 0;
	age_ms = now_ms() - atomic_load_explicit(&inodes->cached_since_ms, memory_order_relaxed);
	return age_ms < VFSD_FD_CACHED_MS / 2 ? (int)(VFSD_FD_CACHED_MS / 2 - age_ms) : 0;
}

int vfsd_inodes_expire_fds(struct vfsd_inodes *inodes)
{
	uint64_t due[VFSD_FDS_EXPIRED_AT_ONCE];
	int wait_ms;
	uint32_t n;

	if (atomic_load_explicit(&inodes->n_cached, memory_order_acquire) == 0)
		return -1;
	wait_ms = due_in_ms(inodes);
	if (wait_ms > 0)
		return wait_ms;
	n = take_due(inodes, due);
	for (uint32_t i = 0; i < n; i++)
		expire(inodes, due[i]);
	return atomic_load_explicit(&inodes->n_cached, memory_order_acquire) == 0 ?
		       -1 :
		       due_in_ms(inodes);
}
