/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/search - names of inodes that are held by a handle alone and are not in the host's dentry cache.
 *
 * All directories that the guest holds are read, to find an entry with the inode's number. A guest that
 * looked an inode up by a name normally holds the directory of that name, too. Owner thread: the control
 * thread, while no ring runs.
 */
#ifndef VFSD_MIGRATE_SEARCH_H
#define VFSD_MIGRATE_SEARCH_H

#include <stddef.h>
#include <stdint.h>

struct vfsd_inodes;

struct vfsd_state_missing {
	uint64_t nodeid;
	uint64_t nlookup;
	uint64_t dev;
	uint64_t ino;
	uint64_t mnt_id;
	uint32_t type;
	const void *record; /* for the caller */
	uint64_t directory; /* out: node id of the directory that has it; 0: not found */
	char name[256];	    /* out: its name there */
};

/* All zeros is an empty search. */
struct vfsd_state_search {
	struct vfsd_state_missing *missing;
	size_t n;
	size_t room;
};

/* Add @one, which is copied, to the search. 0 or -ENOMEM. */
int vfsd_state_search_add(struct vfsd_state_search *search, const struct vfsd_state_missing *one);

/* Search for all that were added, and sort them. Each directory is read once. 0 or -ENOMEM. */
int vfsd_state_search_run(struct vfsd_state_search *search, struct vfsd_inodes *inodes);

/* Open (O_PATH) @one by the name that was found; it may be another inode by now. The fd or -errno. */
int vfsd_state_search_open(struct vfsd_inodes *inodes, const struct vfsd_state_missing *one);

void vfsd_state_search_free(struct vfsd_state_search *search);

#endif
