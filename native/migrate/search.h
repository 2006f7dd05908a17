/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/search - paths of inodes that a handle alone holds and whose names the host has forgotten:
 * they are looked for in the directories that the guest holds, where a guest that holds an inode
 * for its name has the name's directory too.
 *
 * Owner thread: the control thread, while no ring runs.
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
	const void *record; /* the caller's */
	uint64_t directory; /* out: node id of a directory that has it; 0: none has */
	char name[256];	    /* out: what it is called there */
};

/* All zeros is an empty one. */
struct vfsd_state_search {
	struct vfsd_state_missing *missing;
	size_t n;
	size_t room;
};

/* Look for a copy of @one, too. 0 or -ENOMEM. */
int vfsd_state_search_add(struct vfsd_state_search *search, const struct vfsd_state_missing *one);

/* Reorders them. Each directory is read once. 0 or -ENOMEM. */
int vfsd_state_search_run(struct vfsd_state_search *search, struct vfsd_inodes *inodes);

/* Open (O_PATH) what was found of @one, which may have been replaced since. The fd or -errno. */
int vfsd_state_search_open(struct vfsd_inodes *inodes, const struct vfsd_state_missing *one);

void vfsd_state_search_free(struct vfsd_state_search *search);

#endif
