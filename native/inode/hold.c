/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inodes that must be held by a descriptor, and inodes that must not.
 *
 * An inode that has lost its last name cannot be opened by its handle, but the guest may still use it, as a
 * working directory or with O_PATH, which the daemon does not see. So when the guest removes an inode that it
 * holds, a descriptor holds the inode until the guest forgets it. A watched inode, on the other hand, must not
 * be pinned by a descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "inode/internal.h"
#include "base/quota.h"

/* Make the cached descriptor, if there is one, the slot's own. unpin_lock is held. True: there was one. */
static bool hold_cached(struct vfsd_inodes *inodes, struct vfsd_inode_slot *slot)
{
	int fd = atomic_load(&slot->fd);

	if (fd < 0 || !(fd & VFSD_FD_CACHED))
		return false;
	if (fd & VFSD_FD_CACHED_FILE)
		atomic_fetch_sub(&inodes->n_cached_files, 1);
	atomic_store(&slot->fd, vfsd_fd_number(fd));
	slot->held = true;
	return true;
}

int vfsd_inode_hold(struct vfsd_inodes *inodes, struct vfsd_inode *inode, bool watched_too)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	int held = atomic_load(&slot->fd);
	int none = -1;
	bool done;
	int fd;

	if (held >= 0 && !(held & VFSD_FD_CACHED))
		return 0;
	if (!vfsd_quota_take(inodes->config.fd_quota))
		return -ENFILE;
	pthread_mutex_lock(&inodes->unpin_lock);
	done = hold_cached(inodes, slot);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (done)
		return 0;
	fd = vfsd_file_handle_open(atomic_load_explicit(&slot->mount->fd, memory_order_acquire),
				   vfsd_slot_handle(slot), O_PATH);
	pthread_mutex_lock(&inodes->unpin_lock);
	if (fd >= 0 && (watched_too || !slot->never_cached)) {
		done = hold_cached(inodes, slot);
		if (!done && atomic_compare_exchange_strong(&slot->fd, &none, fd)) {
			slot->held = done = true;
			fd = -1;
		}
	}
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (!done)
		vfsd_quota_give(inodes->config.fd_quota);
	if (fd >= 0)
		(void)close(fd);
	return 0;
}

bool vfsd_inode_unpin(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	int fd;

	if (inode->nodeid == VFSD_NODEID_ROOT || !slot->reopenable)
		return atomic_load(&slot->fd) < 0;

	pthread_mutex_lock(&inodes->unpin_lock);
	fd = atomic_load(&slot->fd);
	if (fd >= 0 && !vfsd_host_mount_reopens(inodes, slot->mount, vfsd_fd_number(fd),
						inode->type, vfsd_slot_handle(slot))) {
		pthread_mutex_unlock(&inodes->unpin_lock);
		return false;
	}
	slot->never_cached = true;
	if (slot->held) {
		pthread_mutex_unlock(&inodes->unpin_lock);
		return false;
	}
	fd = vfsd_slot_take_fd(slot);
	pthread_mutex_unlock(&inodes->unpin_lock);
	if (fd >= 0)
		vfsd_host_fd_close(inodes, fd);
	return true;
}
