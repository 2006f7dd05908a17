/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's interest: masks of inodes, and of filesystems.
 */
#include <errno.h>

#include "fsnotify/internal.h"
#include "inode/inode.h"
#include "source/marks.h"
#include "source/source.h"
#include "fuse/wire.h"

/*
 * Groups of the 2021 dialect are numbers that the guest chooses, so their cost is bounded: the memory by the
 * number of (inode, group) pairs, the time of each change by the number of an inode's groups. An inotify
 * instance is a group; fs.inotify.max_user_instances is 128 by default.
 */
enum { GROUP_INTERESTS_MAX = 1 << 20, GROUPS_OF_INODE_MAX = 1024 };

/* Event lock held. */
static void count_watched(struct vfsd_events *events)
{
	atomic_store(&events->watched, vfsd_marks_count(events->marks) + events->n_filesystems);
}

static struct filesystem *find_filesystem(struct vfsd_events *events, uint64_t nodeid)
{
	for (uint32_t i = 0; i < events->n_filesystems; i++)
		if (events->filesystems[i].nodeid == nodeid)
			return &events->filesystems[i];
	return NULL;
}

/* Is @root the root of a filesystem, as the guest sees it? */
static bool is_root(const struct vfsd_events *events, struct vfsd_inode *root)
{
	if (root->nodeid != VFSD_NODEID_ROOT && events->config.cross_mounts)
		return false; /* the guest sees one filesystem only */
	return vfsd_inode_is_mounted(events->config.inodes, root);
}

/* Set the mask of the filesystem mark on @root. Event lock held. Never fails for @mask 0. */
static int set_filesystem(struct vfsd_events *events, struct vfsd_inode *root, uint32_t mask)
{
	struct filesystem *filesystem = find_filesystem(events, root->nodeid);
	int err;

	if (!filesystem && mask == 0)
		return 0;
	if (!events->source)
		return -ENOSYS;
	if (mask != 0 && !is_root(events, root))
		return -EINVAL;
	if (!events->source->ops->watch_filesystem)
		return -EPERM; /* the guest then has its own events of it only */
	if (!filesystem && events->n_filesystems == VFSD_SOURCE_FILESYSTEMS_MAX)
		return -ENOSPC;
	err = events->source->ops->watch_filesystem(events->source, root, mask);
	if (err)
		return err;
	if (!filesystem)
		filesystem = &events->filesystems[events->n_filesystems++];
	*filesystem = (struct filesystem){.nodeid = root->nodeid, .mask = mask};
	if (mask == 0) {
		vfsd_fs_errors_drop(&events->errors, root->nodeid);
		*filesystem = events->filesystems[--events->n_filesystems];
	}
	count_watched(events);
	return 0;
}

void vfsd_events_end_roots(void *ctx)
{
	struct vfsd_events *events = ctx;

	/* Backwards: the last one takes the place of one that is removed. */
	for (uint32_t i = events->n_filesystems; i-- > 0;) {
		struct vfsd_inode *root =
			vfsd_inode_get(events->config.inodes, events->filesystems[i].nodeid);

		/* A root that was forgotten is dropped by vfsd_events_hook_forgotten(). */
		if (root && !is_root(events, root))
			(void)set_filesystem(events, root, 0);
		vfsd_inode_put(events->config.inodes, root);
	}
}

void vfsd_events_drop_interest(void *ctx, struct vfsd_inode *inode)
{
	struct vfsd_events *events = ctx;
	uint32_t mask = vfsd_marks_drop(events->marks, inode->nodeid);

	if (mask != 0 && events->source)
		(void)events->source->ops->watch(events->source, inode, mask, 0);
	(void)set_filesystem(events, inode, 0);
	count_watched(events);
}

static int set_interest(struct vfsd_events *events, struct vfsd_inode *inode,
			const struct vfsd_fuse_interest *interest)
{
	uint32_t mask = (uint32_t)interest->mask;
	struct vfsd_marks_change change;
	uint32_t before;
	int err;

	vfsd_events_enter(events);
	if (!events->source) {
		err = -ENOSYS;
		goto out;
	}
	before = vfsd_marks_mask(events->marks, inode->nodeid, interest->owner);
	err = -ENOSPC;
	if (events->config.rfc2021 && before == 0 &&
	    (vfsd_marks_entries(events->marks) >= GROUP_INTERESTS_MAX ||
	     vfsd_marks_owners(events->marks, inode->nodeid) >= GROUPS_OF_INODE_MAX))
		goto out;
	if (interest->add)
		mask |= before;
	err = vfsd_marks_set(events->marks, inode->nodeid, interest->owner, mask, &change);
	if (err)
		goto out;
	err = events->source->ops->watch(events->source, inode, change.old_union, change.new_union);
	if (err)
		(void)vfsd_marks_set(events->marks, inode->nodeid, interest->owner, before,
				     &change);
	count_watched(events);
out:
	vfsd_events_leave(events);
	return err;
}

static int set_filesystem_interest(struct vfsd_events *events, struct vfsd_inode *root,
				   uint32_t mask)
{
	int err;

	vfsd_events_enter(events);
	vfsd_events_end_roots(events); /* to have room for this one */
	err = set_filesystem(events, root, mask);
	vfsd_events_leave(events);
	return err;
}

int vfsd_events_hook_subscribe(void *ctx, struct vfsd_inode *inode,
			       const struct vfsd_fuse_interest *interest)
{
	if (interest->flags == FUSE_FSNOTIFY_SB)
		return set_filesystem_interest(ctx, inode, (uint32_t)interest->mask);
	if (interest->flags != 0)
		return -EINVAL;
	return set_interest(ctx, inode, interest);
}

int vfsd_events_watch(struct vfsd_events *events, struct vfsd_inode *inode, uint64_t owner,
		      uint32_t mask)
{
	const struct vfsd_fuse_interest interest = {.owner = owner, .mask = mask};

	if (owner == VFSD_EVENTS_FILESYSTEM && !events->config.rfc2021)
		return set_filesystem_interest(events, inode, mask);
	return set_interest(events, inode, &interest);
}

void vfsd_events_hook_forgotten(void *ctx, struct vfsd_inode *inode)
{
	struct vfsd_events *events = ctx;

	if (atomic_load(&events->watched) == 0)
		return;
	vfsd_events_enter(events);
	vfsd_events_drop_interest(events, inode);
	vfsd_events_leave(events);
}
