/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where directories are: below the root, on a mount of their own, or outside of the share.
 *
 * The root is recognised by its inode and device numbers. That is safe, because the table's descriptor pins the
 * root and its mount, so that nothing else can have these numbers.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inode/internal.h"
#include "base/statx.h"
#include "base/util.h"

enum { PLACE_MASK = STATX_INO | STATX_NLINK | STATX_MNT_ID };

static bool is_same_mount(const struct statx *a, const struct statx *b)
{
	return vfsd_statx_dev(a) == vfsd_statx_dev(b) && vfsd_statx_mnt(a) == vfsd_statx_mnt(b);
}

bool vfsd_inode_is_below_root(struct vfsd_inodes *inodes, int fd)
{
	const struct vfsd_inode *root = &vfsd_slot_at(inodes, VFSD_NODEID_ROOT)->inode;
	VFSD_FD_GUARD own = -1;
	struct statx st, below = {.stx_ino = 0};

	while (statx(fd, "", AT_EMPTY_PATH, PLACE_MASK, &st) == 0) {
		int up;

		if (st.stx_ino == root->ino && vfsd_statx_dev(&st) == root->dev &&
		    vfsd_statx_mnt(&st) == root->mnt_id)
			return true;
		if (own >= 0 && st.stx_ino == below.stx_ino && is_same_mount(&st, &below))
			return false; /* "/" */
		below = st;
		up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (own >= 0)
			(void)close(own);
		own = fd = up;
		if (fd < 0)
			return false;
	}
	return false;
}

/* Is the directory @fd, whose statx is @st, on another mount or filesystem than its parent? */
static bool is_on_another_mount(int fd, const struct statx *st)
{
	VFSD_FD_GUARD up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statx above;

	return up >= 0 && statx(up, "", AT_EMPTY_PATH, PLACE_MASK, &above) == 0 &&
	       !is_same_mount(st, &above);
}

bool vfsd_inode_is_mounted(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	bool transient, mounted;
	struct statx st;
	int fd;

	if (inode->type != S_IFDIR && inode->nodeid != VFSD_NODEID_ROOT)
		return false;
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	if (fd < 0)
		return false;
	mounted = statx(fd, "", AT_EMPTY_PATH, PLACE_MASK, &st) == 0 && st.stx_nlink > 0 &&
		  (inode->nodeid == VFSD_NODEID_ROOT ||
		   (is_on_another_mount(fd, &st) && vfsd_inode_is_below_root(inodes, fd)));
	vfsd_inode_fd_put(fd, transient);
	return mounted;
}

void vfsd_inode_note_event(struct vfsd_inode *inode)
{
	atomic_store_explicit(&inode->by_event, 1, memory_order_relaxed);
}

int vfsd_inode_check_place(struct vfsd_inodes *inodes, struct vfsd_inode *inode,
			   struct vfsd_inode **lost)
{
	struct vfsd_inode_slot *slot = vfsd_inode_slot(inode);
	uint64_t by_event = 1;
	bool transient, below;
	int fd;

	*lost = NULL;
	/* The guest has looked it up, too: it may use the directory wherever that is. */
	if (atomic_load(&slot->nlookup) > by_event)
		return 0;
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	below = fd >= 0 && vfsd_inode_is_below_root(inodes, fd);
	vfsd_inode_fd_put(fd, transient);
	if (below)
		return 0;
	(void)vfsd_slot_ref(slot); /* cannot fail: the caller has a reference */
	if (atomic_compare_exchange_strong(&slot->nlookup, &by_event, 0)) {
		vfsd_slot_unpublish(inodes, slot);
		*lost = inode;
		return -ESTALE;
	}
	vfsd_slot_put(inodes, slot);
	/* It was looked up, or forgotten, just now. */
	return by_event > 1 ? 0 : -ESTALE;
}
