/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/inotify_watches - the watches of an inotify instance, and which is of which node id.
 *
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_INOTIFY_WATCHES_H
#define VFSD_SOURCE_INOTIFY_WATCHES_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_inode;
struct vfsd_source_config;

struct vfsd_inotify_watch {
	uint64_t nodeid;
	int wd;
	bool ended; /* was reported */
};

struct vfsd_inotify_watches {
	int fd; /* the inotify instance, borrowed as is the next */
	const struct vfsd_source_config *config;
	void *by_wd; /* trees of struct vfsd_inotify_watch, see tsearch(3) */
	void *by_node;
	uint32_t count;
};

void vfsd_inotify_watches_free(struct vfsd_inotify_watches *watches);

/* NULL: there is none. Good until it is forgotten. */
struct vfsd_inotify_watch *vfsd_inotify_find_node(const struct vfsd_inotify_watches *watches,
						  uint64_t nodeid);
struct vfsd_inotify_watch *vfsd_inotify_find_wd(const struct vfsd_inotify_watches *watches, int wd);

/*
 * Watch @inode for @mask, IN_* bits, instead of what it was watched for. 0 or -errno: -ENOSPC at the
 * limit of watches, -ESTALE if it is gone.
 */
int vfsd_inotify_begin(struct vfsd_inotify_watches *watches, struct vfsd_inode *inode,
		       uint32_t mask);
/* Watch it no more. */
void vfsd_inotify_end(struct vfsd_inotify_watches *watches, uint64_t nodeid);

/* The host has ended the watch. */
void vfsd_inotify_forget(struct vfsd_inotify_watches *watches, struct vfsd_inotify_watch *watch);

#endif
