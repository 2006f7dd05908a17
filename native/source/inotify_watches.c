/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/inotify_watches.h"

#include <errno.h>
#include <sched.h>
#include <search.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/proc_fd.h"
#include "inode/inode.h"
#include "source/source.h"

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

static int remember(struct vfsd_inotify_watches *watches, uint64_t nodeid, int wd)
{
	struct vfsd_inotify_watch *stale = vfsd_inotify_find_wd(watches, wd);
	struct vfsd_inotify_watch *watch;

	/* The same object under an older node id, which the guest has forgotten: the watch moves on. */
	if (stale)
		vfsd_inotify_forget(watches, stale);
	watch = malloc(sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	*watch = (struct vfsd_inotify_watch){.nodeid = nodeid, .wd = wd};
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

/*
 * inotify takes paths only, and this one is relative to /proc/self/fd, which need not be reachable from
 * the root directory. So the thread gets a working directory of its own, which nothing else uses.
 */
static int add_watch(const struct vfsd_inotify_watches *watches, int inode_fd, uint32_t mask)
{
	static _Thread_local bool own_directory;
	int wd;

	if (!own_directory) {
		if (unshare(CLONE_FS) < 0 || fchdir(watches->config->proc_self_fd) < 0)
			return -errno;
		own_directory = true;
	}
	wd = inotify_add_watch(watches->fd, vfsd_proc_name(inode_fd).name, mask);
	return wd < 0 ? -errno : wd;
}

int vfsd_inotify_begin(struct vfsd_inotify_watches *watches, struct vfsd_inode *inode,
		       uint32_t mask)
{
	struct vfsd_inotify_watch *watch = vfsd_inotify_find_node(watches, inode->nodeid);
	bool transient;
	int fd, wd, err;

	fd = vfsd_source_begin(watches->config, inode, watches->count, watches->config->max_watches,
			       !watch, &transient);
	if (fd < 0)
		return fd;
	wd = add_watch(watches, fd, mask);
	vfsd_inode_fd_put(fd, transient);
	if (wd < 0)
		return wd;
	if (watch && watch->wd == wd)
		return 0;
	if (watch)
		vfsd_inotify_forget(watches, watch);
	err = remember(watches, inode->nodeid, wd);
	if (err)
		(void)inotify_rm_watch(watches->fd, wd);
	return err;
}

void vfsd_inotify_end(struct vfsd_inotify_watches *watches, uint64_t nodeid)
{
	struct vfsd_inotify_watch *watch = vfsd_inotify_find_node(watches, nodeid);

	if (!watch)
		return;
	(void)inotify_rm_watch(watches->fd, watch->wd);
	vfsd_inotify_forget(watches, watch);
}
