/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/inotify_watches.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>

static int compare_wd(const void *a, const void *b)
{
	const struct vfsd_inotify_watch *left = a, *right = b;

	return (left->wd > right->wd) - (left->wd < right->wd);
}

static int compare_node(const void *a, const void *b)
{
	const struct vfsd_inotify_watch *left = a, *right = b;

	return (left->nodeid > right->nodeid) - (left->nodeid < right->nodeid);
}

static struct vfsd_inotify_watch *find(void *const *tree, const struct vfsd_inotify_watch *key,
				       int (*compare)(const void *, const void *))
{
	struct vfsd_inotify_watch **found = tfind(key, tree, compare);

	return found ? *found : NULL;
}

struct vfsd_inotify_watch *vfsd_inotify_find_node(const struct vfsd_inotify_watches *watches,
						  uint64_t nodeid)
{
	struct vfsd_inotify_watch key = {.nodeid = nodeid};

	return find(&watches->by_node, &key, compare_node);
}

struct vfsd_inotify_watch *vfsd_inotify_find_wd(const struct vfsd_inotify_watches *watches, int wd)
{
	struct vfsd_inotify_watch key = {.wd = wd};

	return find(&watches->by_wd, &key, compare_wd);
}

void vfsd_inotify_forget(struct vfsd_inotify_watches *watches, struct vfsd_inotify_watch *watch)
{
	(void)tdelete(watch, &watches->by_wd, compare_wd);
	(void)tdelete(watch, &watches->by_node, compare_node);
	free(watch);
	watches->count--;
}

int vfsd_inotify_remember(struct vfsd_inotify_watches *watches, uint64_t nodeid, int wd,
			  uint32_t mask)
{
	struct vfsd_inotify_watch *stale = vfsd_inotify_find_wd(watches, wd);
	struct vfsd_inotify_watch *watch;

	/* The same object under an older node id, which the guest has forgotten: the watch moves on. */
	if (stale)
		vfsd_inotify_forget(watches, stale);
	watch = malloc(sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	*watch = (struct vfsd_inotify_watch){.nodeid = nodeid, .wd = wd, .mask = mask};
	if (!tsearch(watch, &watches->by_wd, compare_wd)) {
		free(watch);
		return -ENOMEM;
	}
	if (!tsearch(watch, &watches->by_node, compare_node)) {
		(void)tdelete(watch, &watches->by_wd, compare_wd);
		free(watch);
		return -ENOMEM;
	}
	watches->count++;
	return 0;
}

static void keep(void *watch)
{
	(void)watch; /* it is in the other tree too */
}

void vfsd_inotify_watches_free(struct vfsd_inotify_watches *watches)
{
	tdestroy(watches->by_wd, keep);
	tdestroy(watches->by_node, free);
}
