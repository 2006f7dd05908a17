/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/fs_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/fanotify/subtree.h"
#include "source/read_buffer.h"
#include "source/fanotify/decode.h"
#include "inode/inode.h"
#include "source/marks.h"
#include "source/source.h"
#include "base/util.h"
#include "source/fanotify/fs_mark_renames.h"
#include "source/fanotify/fs_mark_roots.h"

enum { RENAMES_MAX = VFSD_ANCESTRY_MOVED_MAX, TRIES_MAX = 8 };

struct vfsd_whole {
	struct vfsd_source_config config;
	struct vfsd_ancestry *ancestry;
	struct vfsd_whole_roots roots;
	uint32_t mount_changes; /* that ancestry goes by */
	bool roots_may_end;	/* a directory was removed */
	/* Node ids, each at its index modulo the size. */
	struct kept {
		uint64_t nodeid; /* 0: none */
		bool given;	 /* to the guest */
	} kept[VFSD_WHOLE_KEPT];

	struct vfsd_batch *batch;
	const uint8_t *seen;  /* how far the batch was searched for renames of directories */
	uint32_t n_announced; /* the last ones of renames, told to ancestry */
	bool some_cross;      /* the border, of those */
	struct vfsd_whole_renames renames; /* of directories in the batch, at most RENAMES_MAX */
	uint32_t next_rename;		   /* those before are told */
	bool something_left;		   /* a directory was renamed out of reach, once */
	bool hopeless;			   /* nobody can say what was inside when, in this queue */
	bool lost;
};

int vfsd_whole_create(const struct vfsd_source_config *config, int group, struct vfsd_batch *batch,
		      struct vfsd_whole **ret)
{
	struct vfsd_whole *whole;
	int err;

	if (!vfsd_inodes_can_unpin(config->inodes))
		return -EPERM;
	whole = calloc(1, sizeof(*whole));
	if (!whole)
		return -ENOMEM;
	whole->config = *config;
	whole->batch = batch;
	whole->mount_changes = vfsd_inodes_mount_changes(config->inodes);
	whole->renames.at = malloc(RENAMES_MAX * sizeof(*whole->renames.at));
	err = whole->renames.at ?
		      vfsd_ancestry_create(config->inodes, config->cross_mounts, &whole->ancestry) :
		      -ENOMEM;
	if (err) {
		vfsd_whole_destroy(whole);
		return err;
	}
	whole->roots = (struct vfsd_whole_roots){
		.group = group, .proc_self_fd = config->proc_self_fd, .ancestry = whole->ancestry};
	*ret = whole;
	return 0;
}

/* Give up the node id that is kept at @slot. */
static void drop(struct vfsd_whole *whole, size_t slot)
{
	struct vfsd_inode *inode;

	if (whole->kept[slot].nodeid == 0)
		return;
	inode = vfsd_inode_forget(whole->config.inodes, whole->kept[slot].nodeid, 1);
	whole->kept[slot].nodeid = 0;
	if (inode && whole->config.forgotten)
		whole->config.forgotten(whole->config.ctx, inode);
	vfsd_inode_put(whole->config.inodes, inode);
}

void vfsd_whole_let_go(struct vfsd_whole *whole)
{
	for (size_t slot = 0; slot < VFSD_WHOLE_KEPT; slot++)
		drop(whole, slot);
}

void vfsd_whole_destroy(struct vfsd_whole *whole)
{
	if (!whole)
		return;
	vfsd_whole_let_go(whole);
	vfsd_ancestry_destroy(whole->ancestry);
	free(whole->renames.at);
	free(whole);
}

/* Roots */

int vfsd_whole_watch(struct vfsd_whole *whole, const struct vfsd_inode *root, uint64_t mask)
{
	return vfsd_whole_roots_watch(&whole->roots, root, mask);
}

bool vfsd_whole_active(const struct vfsd_whole *whole)
{
	return whole->roots.count > 0;
}

uint64_t vfsd_whole_root(const struct vfsd_whole *whole, uint64_t fsid, uint32_t nth)
{
	const struct vfsd_whole_roots *roots = &whole->roots;

	for (uint32_t i = 0; i < roots->count; i++)
		if (roots->at[i].fsid == fsid && nth-- == 0)
			return roots->at[i].nodeid;
	return 0;
}

static void end_roots(struct vfsd_whole *whole)
{
	whole->roots_may_end = false;
	if (whole->config.roots_may_end)
		whole->config.roots_may_end(whole->config.ctx);
}

/* What is below what, by mounts, may have changed by the time of what was read last: true. */
static bool see_mounts(struct vfsd_whole *whole)
{
	const uint32_t changes = vfsd_inodes_mount_changes(whole->config.inodes);

	if (changes == whole->mount_changes)
		return false;
	whole->mount_changes = changes;
	vfsd_ancestry_forget(whole->ancestry);
	end_roots(whole);
	return true;
}

/* Sides */

static bool is_rename_of_dir(const struct vfsd_fan_event *event)
{
	return (event->mask & FAN_RENAME) && (event->mask & FAN_ONDIR);
}

/* Search what has come to the batch for renames of directories. False: there are too many. */
static bool collect(struct vfsd_whole *whole, bool *found)
{
	const uint8_t *at = whole->seen;
	struct vfsd_fan_event event;

	*found = false;
	whole->seen = whole->batch->end;
	while (vfsd_fan_next(&at, whole->seen, &event)) {
		if (!is_rename_of_dir(&event))
			continue;
		if (whole->renames.count == RENAMES_MAX)
			return false;
		whole->renames.at[whole->renames.count++] =
			(struct vfsd_whole_rename){.end = at, .event = event};
		*found = true;
	}
	return true;
}

/* Do all renames to come stay on one side, as far as is known without asking the host? */
static bool all_stay(const struct vfsd_whole *whole)
{
	enum vfsd_side from, to;

	for (uint32_t i = whole->next_rename; i < whole->renames.count; i++) {
		const struct vfsd_fan_event *event = &whole->renames.at[i].event;

		if (!vfsd_ancestry_recall(whole->ancestry, &event->old_name.handle, &from) ||
		    !vfsd_ancestry_recall(whole->ancestry, &event->new_name.handle, &to) ||
		    from != to)
			return false;
		whole->renames.at[i].side = from;
	}
	return true;
}

/* Announce the renames to come, the last one first. False: too many. */
static bool announce(struct vfsd_whole *whole)
{
	struct vfsd_file_handle dir;

	vfsd_ancestry_unannounce(whole->ancestry);
	whole->n_announced = 0;
	whole->some_cross = false;
	for (uint32_t i = whole->renames.count; i-- > whole->next_rename;) {
		struct vfsd_whole_rename *rename = &whole->renames.at[i];
		const struct vfsd_fan_event *event = &rename->event;
		enum vfsd_side to;

		rename->side = vfsd_ancestry_look(whole->ancestry, &event->old_name.handle);
		to = vfsd_ancestry_look(whole->ancestry, &event->new_name.handle);
		/* Of what is not to be found any more nobody knows that it did not. */
		rename->crosses = rename->side != to || to >= VFSD_GONE;
		whole->some_cross = whole->some_cross || rename->crosses;
		vfsd_whole_renames_identify(&whole->renames, whole->config.inodes, i, &dir);
		if (!vfsd_ancestry_announce(whole->ancestry, &dir, &event->old_name.handle))
			return false;
		whole->n_announced++;
	}
	return true;
}

/* Find out which directories change sides by the renames to come. False: too many. */
static bool foresee(struct vfsd_whole *whole)
{
	vfsd_ancestry_unannounce(whole->ancestry);
	vfsd_ancestry_trust(whole->ancestry);
	whole->n_announced = 0;
	whole->some_cross = false;
	if (all_stay(whole))
		return true;
	if (!announce(whole))
		return false;
	/* As long as all stay on one side it does not matter which of them was moved. */
	if (!whole->some_cross ||
	    !vfsd_whole_renames_doubt(&whole->renames, whole->config.inodes, whole->ancestry))
		return true;
	return announce(whole);
}

/*
 * The host has gone on while we looked. True: what we saw may be of a time after the end of the batch,
 * look again. Nobody can say what was when if the batch has no room for the rest.
 */
static bool is_behind(struct vfsd_whole *whole)
{
	bool all, renamed;

	while (vfsd_batch_more(whole->batch, VFSD_BATCH_ALL, &all))
		;
	if (!collect(whole, &renamed) || !all)
		whole->hopeless = true;
	return see_mounts(whole) || renamed;
}

/* No rename to come crosses the border: their directories need not be looked at again. */
static void remember_sides(struct vfsd_whole *whole)
{
	for (uint32_t i = whole->next_rename; i < whole->renames.count; i++) {
		const struct vfsd_whole_rename *rename = &whole->renames.at[i];

		if (rename->side >= VFSD_GONE)
			continue;
		vfsd_ancestry_remember(whole->ancestry, &rename->event.old_name.handle,
				       rename->side);
		vfsd_ancestry_remember(whole->ancestry, &rename->event.new_name.handle,
				       rename->side);
	}
}

/* foresee(), and again if something was renamed meanwhile. */
static void foresee_all(struct vfsd_whole *whole)
{
	for (int tries = 0; !whole->hopeless; tries++) {
		whole->hopeless = tries == TRIES_MAX || !foresee(whole);
		if (!is_behind(whole))
			break;
	}
	if (whole->hopeless || whole->some_cross)
		return;
	remember_sides(whole);
	vfsd_ancestry_unannounce(whole->ancestry);
	whole->n_announced = 0;
}

void vfsd_whole_begin(struct vfsd_whole *whole)
{
	bool renamed;

	(void)see_mounts(whole);
	vfsd_ancestry_unannounce(whole->ancestry);
	vfsd_ancestry_trust(whole->ancestry);
	whole->n_announced = 0;
	whole->seen = whole->batch->at;
	whole->renames.count = whole->next_rename = 0;
	whole->hopeless = !collect(whole, &renamed);
	if (renamed)
		foresee_all(whole);
}

/* The side that @dir was on when what is told now happened. */
static enum vfsd_side side_of(struct vfsd_whole *whole, const struct vfsd_file_handle *dir)
{
	enum vfsd_side side;

	if (vfsd_ancestry_recall(whole->ancestry, dir, &side))
		return side;
	for (int tries = 0; !whole->hopeless; tries++) {
		bool again;

		side = vfsd_ancestry_look(whole->ancestry, dir);
		again = is_behind(whole);
		if (whole->hopeless)
			break;
		if (!again) {
			if (side == VFSD_DOUBTFUL)
				break;
			if (side != VFSD_GONE)
				vfsd_ancestry_remember(whole->ancestry, dir, side);
			return side;
		}
		if (tries == TRIES_MAX)
			whole->hopeless = true;
		foresee_all(whole);
	}
	whole->lost = true;
	return VFSD_OUTSIDE;
}

/* Others have read on in the batch, for reasons of their own: see what directories are renamed there. */
static void catch_up(struct vfsd_whole *whole)
{
	bool renamed;

	if (!collect(whole, &renamed))
		whole->hopeless = true;
	if (see_mounts(whole) || renamed)
		foresee_all(whole);
}

void vfsd_whole_enter(struct vfsd_whole *whole, const struct vfsd_fan_event *event)
{
	if (whole->seen != whole->batch->end)
		catch_up(whole);
	if ((event->mask & FAN_DELETE) && (event->mask & FAN_ONDIR))
		whole->roots_may_end = true;
	if (!is_rename_of_dir(event))
		return;
	/* Who cannot foresee forgets whenever it may matter. */
	if (whole->hopeless) {
		vfsd_ancestry_forget(whole->ancestry);
		whole->something_left = true;
	}
	while (whole->next_rename < whole->renames.count &&
	       whole->renames.at[whole->next_rename].end <= whole->batch->at) {
		const struct vfsd_whole_rename *rename = &whole->renames.at[whole->next_rename++];

		if (whole->n_announced == 0)
			continue;
		whole->n_announced--;
		vfsd_ancestry_arrive(whole->ancestry);
		if (rename->crosses) {
			vfsd_ancestry_forget(whole->ancestry);
			whole->something_left = true;
		}
	}
}

bool vfsd_whole_end(struct vfsd_whole *whole)
{
	bool lost = whole->lost;

	whole->lost = false;
	if (whole->roots_may_end)
		end_roots(whole);
	return lost;
}

/* Directories */

static struct kept *kept_of(struct vfsd_whole *whole, const struct vfsd_inode *inode)
{
	return &whole->kept[(uint32_t)inode->nodeid % VFSD_WHOLE_KEPT];
}

/* Does the guest know the directory only by what is kept for it? */
static bool is_kept_only(struct vfsd_whole *whole, const struct vfsd_inode *inode)
{
	return kept_of(whole, inode)->nodeid == inode->nodeid && vfsd_inode_lookups(inode) == 1;
}

/* An id for a directory inside that has none. */
static struct vfsd_inode *keep(struct vfsd_whole *whole, const struct vfsd_file_handle *handle)
{
	struct vfsd_inode *inode = NULL;
	struct kept *kept;
	struct statx st;
	int fd = -ENOENT;

	/* On that of the mounts through which it is inside. */
	for (uint32_t nth = 0;; nth++) {
		fd = vfsd_inode_handle_open_nth(whole->config.inodes, handle, nth);
		if (fd == -ENOENT)
			return NULL;
		if (fd >= 0 && vfsd_ancestry_contains(whole->ancestry, fd, nth))
			break;
		if (fd >= 0)
			(void)close(fd);
	}
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0) {
		(void)close(fd);
		return NULL;
	}
	if (vfsd_inode_lookup_fd(whole->config.inodes, fd, &st, &inode) < 0)
		return NULL;
	vfsd_inode_note_event(inode);
	kept = kept_of(whole, inode);
	if (kept->nodeid != inode->nodeid)
		drop(whole, (size_t)(kept - whole->kept));
	else /* a queue thread was faster to forget than we to find */
		vfsd_inode_put(whole->config.inodes,
			       vfsd_inode_forget(whole->config.inodes, inode->nodeid, 1));
	*kept = (struct kept){.nodeid = inode->nodeid};
	return inode;
}

/* May the guest have the id of what is kept for it? Only if that is inside now, not just when. */
static bool may_give(struct vfsd_whole *whole, struct vfsd_inode *inode)
{
	struct kept *kept = kept_of(whole, inode);
	bool transient;
	int fd;

	if (kept->given)
		return true;
	fd = vfsd_inode_fd_get(whole->config.inodes, inode, &transient);
	kept->given = fd >= 0 && vfsd_inode_is_below_root(whole->config.inodes, fd);
	vfsd_inode_fd_put(fd, transient);
	return kept->given;
}

struct vfsd_inode *vfsd_whole_find_dir(struct vfsd_whole *whole,
				       const struct vfsd_file_handle *handle, bool *unknown,
				       bool *left)
{
	struct vfsd_inode *inode = vfsd_inode_find_handle(whole->config.inodes, handle);
	enum vfsd_side side;

	*unknown = *left = false;
	if (handle->bytes == 0)
		return NULL;
	/* A watch of a directory that the guest has looked up stays with it, wherever it goes. */
	if (inode && vfsd_marks_union(whole->config.marks, inode->nodeid) != 0 &&
	    !is_kept_only(whole, inode))
		return inode;
	side = vfsd_whole_active(whole) ? side_of(whole, handle) : VFSD_OUTSIDE;
	/* What the guest knows was inside, and still is unless something has ever left. */
	if (side == VFSD_OUTSIDE || (side == VFSD_GONE && (!inode || whole->something_left))) {
		vfsd_inode_put(whole->config.inodes, inode);
		return NULL;
	}
	if (!inode) {
		inode = keep(whole, handle);
		*unknown = inode != NULL;
	} else {
		*unknown = is_kept_only(whole, inode);
	}
	*left = *unknown && !may_give(whole, inode);
	return inode;
}
