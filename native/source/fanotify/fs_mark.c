/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/fs_mark.h"

#include <errno.h>
#include <stdlib.h>

#include "inode/inode.h"
#include "source/fanotify/batch.h"
#include "source/fanotify/fs_mark_nodes.h"
#include "source/fanotify/fs_mark_renames.h"
#include "source/fanotify/fs_mark_roots.h"
#include "source/fanotify/subtree.h"
#include "source/marks.h"
#include "source/source.h"

enum { RENAMES_MAX = VFSD_SUBTREE_MOVED_MAX, TRIES_MAX = 8 };

struct vfsd_fs_mark {
	struct vfsd_source_config config;
	struct vfsd_subtree *subtree;
	struct vfsd_fs_mark_roots roots;
	uint32_t mount_changes; /* that subtree goes by */
	bool roots_may_end;	/* a directory was removed */
	struct vfsd_fs_mark_nodes nodes;

	struct vfsd_fan_batch *batch;
	uint32_t seen;	      /* how many of its events were searched for renames of directories */
	uint32_t n_announced; /* the last ones of renames, that subtree knows of */
	bool some_cross;      /* the border, of those */
	struct vfsd_fs_mark_renames renames; /* of directories in the batch, at most RENAMES_MAX */
	uint32_t next_rename;		     /* those before are done */
	bool something_left;		     /* a directory was renamed out of reach, once */
	bool hopeless; /* nobody can say what was inside when, in this queue */
	bool lost;
};

int vfsd_fs_mark_create(const struct vfsd_source_config *config, int group,
			struct vfsd_fan_batch *batch, struct vfsd_fs_mark **ret)
{
	struct vfsd_fs_mark *mark;
	int err;

	if (!vfsd_inodes_can_unpin(config->inodes))
		return -EPERM;
	mark = calloc(1, sizeof(*mark));
	if (!mark)
		return -ENOMEM;
	mark->config = *config;
	mark->nodes.config = &mark->config;
	mark->batch = batch;
	mark->mount_changes = vfsd_inodes_mount_changes(config->inodes);
	mark->renames.at = malloc(RENAMES_MAX * sizeof(*mark->renames.at));
	err = mark->renames.at ?
		      vfsd_subtree_create(config->inodes, config->cross_mounts, &mark->subtree) :
		      -ENOMEM;
	if (err) {
		vfsd_fs_mark_destroy(mark);
		return err;
	}
	mark->nodes.subtree = mark->subtree;
	mark->roots = (struct vfsd_fs_mark_roots){
		.group = group, .proc_self_fd = config->proc_self_fd, .subtree = mark->subtree};
	*ret = mark;
	return 0;
}

void vfsd_fs_mark_release_nodes(struct vfsd_fs_mark *mark)
{
	vfsd_fs_mark_nodes_clear(&mark->nodes);
}

void vfsd_fs_mark_destroy(struct vfsd_fs_mark *mark)
{
	if (!mark)
		return;
	vfsd_fs_mark_release_nodes(mark);
	vfsd_subtree_destroy(mark->subtree);
	free(mark->renames.at);
	free(mark);
}

/* Roots */

int vfsd_fs_mark_watch(struct vfsd_fs_mark *mark, const struct vfsd_inode *root, uint64_t mask)
{
	return vfsd_fs_mark_roots_watch(&mark->roots, root, mask);
}

bool vfsd_fs_mark_active(const struct vfsd_fs_mark *mark)
{
	return mark->roots.count > 0;
}

uint64_t vfsd_fs_mark_root(const struct vfsd_fs_mark *mark, uint64_t fsid, uint32_t nth)
{
	const struct vfsd_fs_mark_roots *roots = &mark->roots;

	for (uint32_t i = 0; i < roots->count; i++)
		if (roots->at[i].fsid == fsid && nth-- == 0)
			return roots->at[i].nodeid;
	return 0;
}

static void end_roots(struct vfsd_fs_mark *mark)
{
	mark->roots_may_end = false;
	if (mark->config.roots_may_end)
		mark->config.roots_may_end(mark->config.ctx);
}

/* What is below what, by mounts, may have changed by the time of what was read last: true. */
static bool see_mounts(struct vfsd_fs_mark *mark)
{
	const uint32_t changes = vfsd_inodes_mount_changes(mark->config.inodes);

	if (changes == mark->mount_changes)
		return false;
	mark->mount_changes = changes;
	vfsd_subtree_forget(mark->subtree);
	end_roots(mark);
	return true;
}

/* Sides */

static bool is_rename_of_dir(const struct vfsd_fan_event *event)
{
	return (event->mask & FAN_RENAME) && (event->mask & FAN_ONDIR);
}

/* Search what has come to the batch for renames of directories. False: there are too many. */
static bool collect(struct vfsd_fs_mark *mark, bool *found)
{
	const struct vfsd_fan_events *events = &mark->batch->events;

	*found = false;
	for (; mark->seen < events->count; mark->seen++) {
		const struct vfsd_fan_event *event = &events->at[mark->seen];

		if (!is_rename_of_dir(event))
			continue;
		if (mark->renames.count == RENAMES_MAX) {
			mark->seen = events->count;
			return false;
		}
		mark->renames.at[mark->renames.count++] =
			(struct vfsd_fs_mark_rename){.event = event};
		*found = true;
	}
	return true;
}

/* Do all renames to come stay on one side, as far as is known without asking the host? */
static bool all_stay(const struct vfsd_fs_mark *mark)
{
	enum vfsd_side from, to;

	for (uint32_t i = mark->next_rename; i < mark->renames.count; i++) {
		const struct vfsd_fan_event *event = mark->renames.at[i].event;

		if (!vfsd_subtree_recall(mark->subtree, event->old_name.handle, &from) ||
		    !vfsd_subtree_recall(mark->subtree, event->new_name.handle, &to) || from != to)
			return false;
		mark->renames.at[i].side = from;
	}
	return true;
}

/* Announce the renames to come, the last one first. False: too many. */
static bool announce(struct vfsd_fs_mark *mark)
{
	struct vfsd_file_handle dir;

	vfsd_subtree_unannounce(mark->subtree);
	mark->n_announced = 0;
	mark->some_cross = false;
	for (uint32_t i = mark->renames.count; i-- > mark->next_rename;) {
		struct vfsd_fs_mark_rename *rename = &mark->renames.at[i];
		const struct vfsd_fan_event *event = rename->event;
		enum vfsd_side to;

		rename->side = vfsd_subtree_look(mark->subtree, event->old_name.handle);
		to = vfsd_subtree_look(mark->subtree, event->new_name.handle);
		/* Of what is not to be found any more nobody knows that it did not. */
		rename->crosses = rename->side != to || to >= VFSD_GONE;
		mark->some_cross = mark->some_cross || rename->crosses;
		vfsd_fs_mark_renames_identify(&mark->renames, mark->config.inodes, i, &dir);
		if (!vfsd_subtree_announce(mark->subtree, &dir, event->old_name.handle))
			return false;
		mark->n_announced++;
	}
	return true;
}

/* Find out which directories change sides by the renames to come. False: too many. */
static bool foresee(struct vfsd_fs_mark *mark)
{
	vfsd_subtree_unannounce(mark->subtree);
	vfsd_subtree_trust(mark->subtree);
	mark->n_announced = 0;
	mark->some_cross = false;
	if (all_stay(mark))
		return true;
	if (!announce(mark))
		return false;
	/* As long as all stay on one side it does not matter which of them was moved. */
	if (!mark->some_cross ||
	    !vfsd_fs_mark_renames_doubt(&mark->renames, mark->config.inodes, mark->subtree))
		return true;
	return announce(mark);
}

/*
 * The host has gone on meanwhile. True: what was seen may be of a time after the end of the batch,
 * look again. Nobody can say what was when if the batch has no room for the rest.
 */
static bool is_behind(struct vfsd_fs_mark *mark)
{
	bool all, renamed;

	while (vfsd_fan_batch_more(mark->batch, VFSD_READ_BUFFER_ALL, &all))
		;
	if (!collect(mark, &renamed) || !all)
		mark->hopeless = true;
	return see_mounts(mark) || renamed;
}

/* No rename to come crosses the border: their directories need not be looked at again. */
static void remember_sides(struct vfsd_fs_mark *mark)
{
	for (uint32_t i = mark->next_rename; i < mark->renames.count; i++) {
		const struct vfsd_fs_mark_rename *rename = &mark->renames.at[i];

		if (rename->side >= VFSD_GONE)
			continue;
		vfsd_subtree_remember(mark->subtree, rename->event->old_name.handle, rename->side);
		vfsd_subtree_remember(mark->subtree, rename->event->new_name.handle, rename->side);
	}
}

/* foresee(), and again if something was renamed meanwhile. */
static void foresee_all(struct vfsd_fs_mark *mark)
{
	for (int tries = 0; !mark->hopeless; tries++) {
		mark->hopeless = tries == TRIES_MAX || !foresee(mark);
		if (!is_behind(mark))
			break;
	}
	if (mark->hopeless || mark->some_cross)
		return;
	remember_sides(mark);
	vfsd_subtree_unannounce(mark->subtree);
	mark->n_announced = 0;
}

void vfsd_fs_mark_begin(struct vfsd_fs_mark *mark)
{
	bool renamed;

	(void)see_mounts(mark);
	vfsd_subtree_unannounce(mark->subtree);
	vfsd_subtree_trust(mark->subtree);
	mark->n_announced = 0;
	mark->seen = 0;
	mark->renames.count = mark->next_rename = 0;
	mark->hopeless = !collect(mark, &renamed);
	if (renamed)
		foresee_all(mark);
}

/* The side that @dir was on when what is processed now happened. */
static enum vfsd_side side_of(struct vfsd_fs_mark *mark, const struct vfsd_file_handle *dir)
{
	enum vfsd_side side;

	if (vfsd_subtree_recall(mark->subtree, dir, &side))
		return side;
	for (int tries = 0; !mark->hopeless; tries++) {
		bool again;

		side = vfsd_subtree_look(mark->subtree, dir);
		again = is_behind(mark);
		if (mark->hopeless)
			break;
		if (!again) {
			if (side == VFSD_DOUBTFUL)
				break;
			if (side != VFSD_GONE)
				vfsd_subtree_remember(mark->subtree, dir, side);
			return side;
		}
		if (tries == TRIES_MAX)
			mark->hopeless = true;
		foresee_all(mark);
	}
	mark->lost = true;
	return VFSD_OUTSIDE;
}

/* Others have read on in the batch, for reasons of their own: see what directories are renamed there. */
static void catch_up(struct vfsd_fs_mark *mark)
{
	bool renamed;

	if (!collect(mark, &renamed))
		mark->hopeless = true;
	if (see_mounts(mark) || renamed)
		foresee_all(mark);
}

void vfsd_fs_mark_enter(struct vfsd_fs_mark *mark, uint32_t i)
{
	const struct vfsd_fan_event *event = &mark->batch->events.at[i];

	if (mark->seen != mark->batch->events.count)
		catch_up(mark);
	if ((event->mask & FAN_DELETE) && (event->mask & FAN_ONDIR))
		mark->roots_may_end = true;
	if (!is_rename_of_dir(event))
		return;
	/* Who cannot foresee forgets whenever it may matter. */
	if (mark->hopeless) {
		vfsd_subtree_forget(mark->subtree);
		mark->something_left = true;
	}
	while (mark->next_rename < mark->renames.count &&
	       mark->renames.at[mark->next_rename].event <= event) {
		const struct vfsd_fs_mark_rename *rename = &mark->renames.at[mark->next_rename++];

		if (mark->n_announced == 0)
			continue;
		mark->n_announced--;
		vfsd_subtree_arrive(mark->subtree);
		if (rename->crosses) {
			vfsd_subtree_forget(mark->subtree);
			mark->something_left = true;
		}
	}
}

bool vfsd_fs_mark_end(struct vfsd_fs_mark *mark)
{
	bool lost = mark->lost;

	mark->lost = false;
	if (mark->roots_may_end)
		end_roots(mark);
	return lost;
}

/* Directories */

struct vfsd_inode *vfsd_fs_mark_find_dir(struct vfsd_fs_mark *mark,
					 const struct vfsd_file_handle *handle, bool *unknown,
					 bool *left)
{
	struct vfsd_inode *inode = vfsd_inode_find_handle(mark->config.inodes, handle);
	enum vfsd_side side;

	*unknown = *left = false;
	if (handle->bytes == 0)
		return NULL;
	/* A watch of a directory that the guest has looked up stays with it, wherever it goes. */
	if (inode && vfsd_marks_union(mark->config.marks, inode->nodeid) != 0 &&
	    !vfsd_fs_mark_nodes_only(&mark->nodes, inode))
		return inode;
	side = vfsd_fs_mark_active(mark) ? side_of(mark, handle) : VFSD_OUTSIDE;
	/* What the guest knows was inside, and still is unless something has ever left. */
	if (side == VFSD_OUTSIDE || (side == VFSD_GONE && (!inode || mark->something_left))) {
		vfsd_inode_put(mark->config.inodes, inode);
		return NULL;
	}
	if (!inode) {
		inode = vfsd_fs_mark_nodes_add(&mark->nodes, handle);
		*unknown = inode != NULL;
	} else {
		*unknown = vfsd_fs_mark_nodes_only(&mark->nodes, inode);
	}
	*left = *unknown && !vfsd_fs_mark_nodes_may_give(&mark->nodes, inode);
	return inode;
}
