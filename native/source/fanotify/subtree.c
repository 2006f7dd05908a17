/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/subtree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inode/inode.h"
#include "base/statx.h"
#include "base/util.h"

enum {
	ROOTS_MAX = 64,
	CACHE_ENTRIES = 4096, /* power of two; 64 bytes each */
	CACHE_HANDLE_BYTES = 40,
	DEPTH_MAX = 4096,
};

/* Where a directory is, by numbers: good as long as it is open. */
struct spot {
	uint64_t dev;
	uint64_t ino;
	uint64_t mnt_id;
	bool removed;
};

struct known {
	uint64_t fsid;
	int32_t type;
	uint16_t bytes; /* 0: empty */
	uint16_t side;
	uint8_t data[CACHE_HANDLE_BYTES];
};

/* A rename to come. */
struct moved {
	struct vfsd_file_handle dir; /* bytes == 0: nobody knows which it was */
	struct vfsd_file_handle from;
};

struct vfsd_subtree {
	struct vfsd_inodes *inodes;
	bool cross_mounts;
	uint32_t n_roots;
	uint32_t n_moved;
	struct root {
		uint64_t nodeid;
		struct spot spot;
		struct vfsd_file_handle handle;
	} roots[ROOTS_MAX];
	struct moved *moved;		  /* VFSD_SUBTREE_MOVED_MAX, the last one is the next */
	struct vfsd_file_handle *doubted; /* as many */
	uint32_t n_doubted;
	bool all_doubted;    /* there were more */
	struct known *cache; /* by hash of the handle, newer ones take the place */
};

int vfsd_subtree_create(struct vfsd_inodes *inodes, bool cross_mounts, struct vfsd_subtree **ret)
{
	struct vfsd_subtree *subtree = calloc(1, sizeof(*subtree));

	if (!subtree)
		return -ENOMEM;
	subtree->inodes = inodes;
	subtree->cross_mounts = cross_mounts;
	subtree->cache = calloc(CACHE_ENTRIES, sizeof(*subtree->cache));
	subtree->moved = malloc(VFSD_SUBTREE_MOVED_MAX * sizeof(*subtree->moved));
	subtree->doubted = malloc(VFSD_SUBTREE_MOVED_MAX * sizeof(*subtree->doubted));
	if (!subtree->cache || !subtree->moved || !subtree->doubted) {
		vfsd_subtree_destroy(subtree);
		return -ENOMEM;
	}
	*ret = subtree;
	return 0;
}

void vfsd_subtree_destroy(struct vfsd_subtree *subtree)
{
	if (!subtree)
		return;
	free(subtree->cache);
	free(subtree->moved);
	free(subtree->doubted);
	free(subtree);
}

/* Roots */

static bool same(const struct spot *a, const struct spot *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->mnt_id == b->mnt_id;
}

static uint32_t find_root(const struct vfsd_subtree *subtree, uint64_t nodeid)
{
	uint32_t i = 0;

	while (i < subtree->n_roots && subtree->roots[i].nodeid != nodeid)
		i++;
	return i;
}

int vfsd_subtree_add_root(struct vfsd_subtree *subtree, const struct vfsd_inode *inode)
{
	uint32_t i = find_root(subtree, inode->nodeid);
	const struct vfsd_file_handle *handle = vfsd_inode_handle(inode);

	if (i == ROOTS_MAX)
		return -ENOSPC;
	if (handle->bytes == 0)
		return -EOPNOTSUPP;
	if (i == subtree->n_roots) {
		struct root *root = &subtree->roots[subtree->n_roots++];

		root->nodeid = inode->nodeid;
		root->spot = (struct spot){
			.dev = inode->dev, .ino = inode->ino, .mnt_id = inode->mnt_id};
		vfsd_file_handle_copy(&root->handle, handle);
	}
	vfsd_subtree_forget(subtree);
	return 0;
}

void vfsd_subtree_remove_root(struct vfsd_subtree *subtree, uint64_t nodeid)
{
	uint32_t i = find_root(subtree, nodeid);

	if (i < subtree->n_roots)
		subtree->roots[i] = subtree->roots[--subtree->n_roots];
	vfsd_subtree_forget(subtree);
}

/* Is the directory @fd, which is @here, a root? */
static bool is_root(const struct vfsd_subtree *subtree, int fd, const struct spot *here)
{
	for (uint32_t i = 0; i < subtree->n_roots; i++)
		if (same(&subtree->roots[i].spot, here) &&
		    vfsd_inode_handle_is_at(&subtree->roots[i].handle, fd, ""))
			return true;
	return false;
}

/* Looking */

static bool is_doubted(const struct vfsd_subtree *subtree, struct vfsd_file_handle *handle)
{
	for (uint32_t i = 0; i < subtree->n_doubted; i++) {
		handle->fsid = subtree->doubted[i].fsid;
		if (vfsd_file_handle_equal(&subtree->doubted[i], handle))
			return true;
	}
	return subtree->all_doubted;
}

/*
 * Where the directory @fd was before the next rename of it that is to come; NULL: where it is, if
 * *side, which is otherwise what there is to say of it, is VFSD_INSIDE.
 */
static const struct vfsd_file_handle *was_in(const struct vfsd_subtree *subtree, int fd,
					     bool removed, enum vfsd_side *side)
{
	struct vfsd_file_handle handle;
	bool reopenable;

	*side = VFSD_INSIDE;
	if (subtree->n_moved == 0 && subtree->n_doubted == 0)
		return NULL;
	if (vfsd_inode_encode(fd, &handle, &reopenable) < 0)
		return NULL;
	if (is_doubted(subtree, &handle)) {
		*side = VFSD_DOUBTFUL;
		return NULL;
	}
	for (uint32_t i = subtree->n_moved; i-- > 0;) {
		handle.fsid = subtree->moved[i].dir.fsid;
		if (vfsd_file_handle_equal(&subtree->moved[i].dir, &handle))
			return &subtree->moved[i].from;
	}
	/* Somebody has it open. What is moved and then removed is not found, and would be this one. */
	if (removed)
		*side = VFSD_GONE;
	return NULL;
}

static bool locate(int fd, struct spot *ret)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_NLINK | STATX_MNT_ID, &st) < 0)
		return false;
	*ret = (struct spot){
		.dev = vfsd_statx_dev(&st),
		.ino = st.stx_ino,
		.mnt_id = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0,
		.removed = st.stx_nlink == 0,
	};
	return true;
}

/* From the directory @fd (consumed), on mount @nth, up, as it was before the renames to come. */
static enum vfsd_side climb(const struct vfsd_subtree *subtree, int fd, uint32_t nth)
{
	VFSD_FD_GUARD guard = fd;
	struct spot here;

	if (!locate(guard, &here))
		return VFSD_OUTSIDE;
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		const struct vfsd_file_handle *from;
		enum vfsd_side side;
		struct spot above;
		int up;

		if (is_root(subtree, guard, &here))
			return VFSD_INSIDE;
		from = was_in(subtree, guard, here.removed, &side);
		if (side != VFSD_INSIDE)
			return side;
		/* The host does not let anybody leave a mount of a part of a filesystem by "..". */
		up = from ? vfsd_inode_handle_open_nth(subtree->inodes, from, nth) :
			    openat(guard, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (up < 0)
			return from ? VFSD_GONE : VFSD_OUTSIDE;
		(void)close(guard);
		guard = up;
		if (!locate(guard, &above) || same(&above, &here))
			return VFSD_OUTSIDE;
		if (above.mnt_id != here.mnt_id && !subtree->cross_mounts)
			return VFSD_OUTSIDE;
		here = above;
	}
	return VFSD_OUTSIDE;
}

bool vfsd_subtree_contains(const struct vfsd_subtree *subtree, int fd, uint32_t nth)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return own >= 0 && climb(subtree, own, nth) == VFSD_INSIDE;
}

enum vfsd_side vfsd_subtree_look(struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir)
{
	enum vfsd_side side = VFSD_GONE;
	int fd;

	/* One filesystem can be mounted below the roots more than once, each time a part of it. */
	for (uint32_t nth = 0; side != VFSD_INSIDE && side != VFSD_DOUBTFUL; nth++) {
		fd = vfsd_inode_handle_open_nth(subtree->inodes, dir, nth);
		if (fd == -ENOENT)
			break;
		if (fd >= 0)
			side = climb(subtree, fd, nth);
	}
	return side;
}

/* Remembering */

static struct known *entry_of(const struct vfsd_subtree *subtree,
			      const struct vfsd_file_handle *dir)
{
	uint64_t h = dir->fsid ^ dir->bytes;

	for (uint32_t i = 0; i < dir->bytes; i++)
		h = (h ^ dir->data[i]) * 0x100000001b3ULL; /* FNV-1a */
	return &subtree->cache[(h ^ h >> 32) & (CACHE_ENTRIES - 1)];
}

bool vfsd_subtree_recall(const struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir,
			 enum vfsd_side *ret)
{
	const struct known *known = entry_of(subtree, dir);

	if (known->bytes == 0 || known->bytes != dir->bytes || known->fsid != dir->fsid ||
	    known->type != dir->type || memcmp(known->data, dir->data, dir->bytes) != 0)
		return false;
	*ret = (enum vfsd_side)known->side;
	return true;
}

void vfsd_subtree_remember(struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir,
			   enum vfsd_side side)
{
	struct known *known = entry_of(subtree, dir);

	if (dir->bytes > CACHE_HANDLE_BYTES)
		return;
	*known = (struct known){
		.fsid = dir->fsid,
		.type = dir->type,
		.bytes = (uint16_t)dir->bytes,
		.side = (uint16_t)side,
	};
	memcpy(known->data, dir->data, dir->bytes);
}

void vfsd_subtree_forget(struct vfsd_subtree *subtree)
{
	memset(subtree->cache, 0, CACHE_ENTRIES * sizeof(*subtree->cache));
}

/* Renames to come */

bool vfsd_subtree_announce(struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir,
			   const struct vfsd_file_handle *from)
{
	struct moved *moved = &subtree->moved[subtree->n_moved];

	if (subtree->n_moved == VFSD_SUBTREE_MOVED_MAX)
		return false;
	vfsd_file_handle_copy(&moved->dir, dir);
	vfsd_file_handle_copy(&moved->from, from);
	subtree->n_moved++;
	return true;
}

void vfsd_subtree_arrive(struct vfsd_subtree *subtree)
{
	if (subtree->n_moved > 0)
		subtree->n_moved--;
}

void vfsd_subtree_unannounce(struct vfsd_subtree *subtree)
{
	subtree->n_moved = 0;
}

void vfsd_subtree_doubt(struct vfsd_subtree *subtree, const struct vfsd_file_handle *dir)
{
	if (subtree->n_doubted == VFSD_SUBTREE_MOVED_MAX)
		subtree->all_doubted = true;
	else
		vfsd_file_handle_copy(&subtree->doubted[subtree->n_doubted++], dir);
}

void vfsd_subtree_trust(struct vfsd_subtree *subtree)
{
	subtree->n_doubted = 0;
	subtree->all_doubted = false;
}
