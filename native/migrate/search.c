/* SPDX-License-Identifier: BSD-3-Clause */
#include "migrate/search.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "inode/inode.h"
#include "base/statx.h"
#include "base/util.h"

enum { DENTS_BYTES = 64 << 10, FIRST_ROOM = 64 };

struct walk {
	struct vfsd_inodes *inodes;
	struct vfsd_state_search *search; /* by ino, ascending */
	size_t left;			  /* not found yet */
	uint8_t *dents;
};

static int compare_ino(const void *a, const void *b)
{
	const struct vfsd_state_missing *left = a;
	const struct vfsd_state_missing *right = b;

	return (left->ino > right->ino) - (left->ino < right->ino);
}

/* The index of the first one with that inode number or a higher one, or n. */
static size_t first_with(const struct vfsd_state_search *search, uint64_t ino)
{
	size_t low = 0, high = search->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (search->missing[middle].ino < ino)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void look_at(struct walk *walk, uint64_t directory, int fd, const struct dirent64 *entry)
{
	const struct vfsd_state_search *search = walk->search;
	size_t name_bytes = strlen(entry->d_name);
	struct statx st;

	for (size_t i = first_with(search, entry->d_ino);
	     i < search->n && search->missing[i].ino == entry->d_ino; i++) {
		struct vfsd_state_missing *one = &search->missing[i];

		if (one->directory || name_bytes >= sizeof(one->name) ||
		    statx(fd, entry->d_name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
			  STATX_TYPE | STATX_INO | STATX_MNT_ID, &st) ||
		    st.stx_ino != one->ino || st.stx_mnt_id != one->mnt_id ||
		    vfsd_statx_dev(&st) != one->dev)
			continue;
		memcpy(one->name, entry->d_name, name_bytes + 1);
		one->directory = directory;
		walk->left--;
	}
}

/* Called by vfsd_inodes_each(): 1 ends the iteration. */
static int search_directory(void *ctx, struct vfsd_inode *inode, uint64_t nlookup)
{
	struct walk *walk = ctx;
	VFSD_FD_GUARD fd = -1;
	ssize_t n;

	(void)nlookup;
	if (inode->type != S_IFDIR)
		return 0;
	fd = vfsd_inode_open(walk->inodes, inode, O_RDONLY | O_DIRECTORY | O_NOCTTY);
	if (fd < 0)
		return 0;
	while ((n = getdents64(fd, walk->dents, DENTS_BYTES)) > 0) {
		const struct dirent64 *entry;

		for (ssize_t at = 0; at < n; at += entry->d_reclen) {
			entry = (const struct dirent64 *)(walk->dents + at);
			look_at(walk, inode->nodeid, fd, entry);
		}
	}
	return walk->left == 0;
}

int vfsd_state_search_add(struct vfsd_state_search *search, const struct vfsd_state_missing *one)
{
	if (search->n == search->room) {
		size_t room = search->room ? search->room * 2 : FIRST_ROOM;
		void *grown = realloc(search->missing, room * sizeof(*search->missing));

		if (!grown)
			return -ENOMEM;
		search->missing = grown;
		search->room = room;
	}
	search->missing[search->n++] = *one;
	return 0;
}

int vfsd_state_search_run(struct vfsd_state_search *search, struct vfsd_inodes *inodes)
{
	struct walk walk = {.inodes = inodes, .search = search, .left = search->n};

	if (search->n == 0)
		return 0;
	walk.dents = malloc(DENTS_BYTES);
	if (!walk.dents)
		return -ENOMEM;
	qsort(search->missing, search->n, sizeof(*search->missing), compare_ino);
	(void)vfsd_inodes_each(inodes, search_directory, &walk);
	free(walk.dents);
	return 0;
}

int vfsd_state_search_open(struct vfsd_inodes *inodes, const struct vfsd_state_missing *one)
{
	struct vfsd_inode *inode = vfsd_inode_get(inodes, one->directory);
	bool transient = false;
	int directory;
	int fd;

	if (!inode)
		return -ENOENT;
	directory = vfsd_inode_fd_get(inodes, inode, &transient);
	fd = directory < 0 ? directory :
			     openat(directory, one->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	fd = fd < 0 && directory >= 0 ? -errno : fd;
	vfsd_inode_fd_put(directory, transient);
	vfsd_inode_put(inodes, inode);
	return fd;
}

void vfsd_state_search_free(struct vfsd_state_search *search)
{
	free(search->missing);
	*search = (struct vfsd_state_search){.n = 0};
}
