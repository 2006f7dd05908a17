/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/inotify_watches - which inotify watch is of which node id.
 *
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_INOTIFY_WATCHES_H
#define VFSD_SOURCE_INOTIFY_WATCHES_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_inotify_watch {
	uint64_t nodeid;
	int wd;
	uint32_t mask;
	bool ended; /* was reported */
};

/* Zeroed: none. */
struct vfsd_inotify_watches {
	void *by_wd; /* trees of struct vfsd_inotify_watch, see tsearch(3) */
	void *by_node;
	uint32_t count;
};

void vfsd_inotify_watches_free(struct vfsd_inotify_watches *watches);

/* NULL: there is none. Good until it is forgotten. */
struct vfsd_inotify_watch *vfsd_inotify_find_node(const struct vfsd_inotify_watches *watches,
						  uint64_t nodeid);
struct vfsd_inotify_watch *vfsd_inotify_find_wd(const struct vfsd_inotify_watches *watches, int wd);

/* 0 or -ENOMEM. A watch @wd of another node id moves on to @nodeid. */
int vfsd_inotify_remember(struct vfsd_inotify_watches *watches, uint64_t nodeid, int wd,
			  uint32_t mask);
void vfsd_inotify_forget(struct vfsd_inotify_watches *watches, struct vfsd_inotify_watch *watch);

#endif
