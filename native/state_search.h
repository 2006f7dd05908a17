/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state_search - paths of inodes that a handle alone holds and whose names the host has forgotten:
 * they are looked for in the directories that the guest holds, where a guest that holds an inode
 * for its name has the name's directory too.
 *
 * Owner thread: the control thread, while no ring runs.
 */
#ifndef VFSD_STATE_SEARCH_H
#define VFSD_STATE_SEARCH_H

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
	uint64_t directory; /* out: node id of a directory that has it; 0: none has */
	char name[256];	    /* out: what it is called there */
};

/* Reorders @missing by inode number. 0 or -ENOMEM. */
int vfsd_state_search(struct vfsd_inodes *inodes, struct vfsd_state_missing *missing, size_t n);

#endif
