/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where directories are: below the root, upon another mount, or outside by now.
 *
 * The root is known by its numbers here. That is safe for it alone: a descriptor of ours holds it, and
 * with it its mount, as long as the table is there, so nothing else can have these numbers.
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
			return false; /* the top of all */
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

/* Is the directory @fd, whose statx is @st, what another mount or filesystem shows in its place? */
static bool is_upon_another(int fd, const struct statx *st)
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
		   (is_upon_another(fd, &st) && vfsd_inode_is_below_root(inodes, fd)));
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
	/* Besides the event's lookup there is one of the guest's: it holds the directory, as any other. */
	if (atomic_load(&slot->nlookup) > by_event)
		return 0;
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	below = fd >= 0 && vfsd_inode_is_below_root(inodes, fd);
	vfsd_inode_fd_put(fd, transient);
	if (below)
		return 0;
	(void)vfsd_slot_ref(slot); /* never fails: the caller has one */
	if (atomic_compare_exchange_strong(&slot->nlookup, &by_event, 0)) {
		vfsd_slot_unpublish(inodes, slot);
		*lost = inode;
		return -ESTALE;
	}
	vfsd_slot_put(inodes, slot);
	/* Looked up, or forgotten, this very moment. */
	return by_event > 1 ? 0 : -ESTALE;
}
