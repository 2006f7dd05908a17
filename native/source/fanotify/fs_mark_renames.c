/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/fs_mark_renames.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "inode/inode.h"
#include "source/source.h"

/* The handle of the directory that is called @place now. False: there is none. */
static bool find_at(struct vfsd_inodes *inodes, const struct vfsd_fan_place *place,
		    struct vfsd_file_handle *ret)
{
	char name[VFSD_SOURCE_NAME_BYTES];
	bool reopenable;
	int dir, fd;

	ret->bytes = 0;
	if (!place->name || place->name_bytes >= sizeof(name))
		return false;
	dir = vfsd_inode_handle_open(inodes, place->handle);
	if (dir < 0)
		return false;
	memcpy(name, place->name, place->name_bytes);
	name[place->name_bytes] = '\0';
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && vfsd_inode_encode(fd, ret, &reopenable) < 0)
		ret->bytes = 0;
	ret->fsid = place->handle->fsid;
	if (fd >= 0)
		(void)close(fd);
	(void)close(dir);
	return ret->bytes > 0;
}

/* Where the renames that follow rename @i leave what that moved. */
static const struct vfsd_fan_place *last_place(const struct vfsd_fs_mark_renames *renames,
					       uint32_t i)
{
	const struct vfsd_fan_place *place = &renames->at[i].event->new_name;

	for (uint32_t later = i + 1; later < renames->count; later++)
		if (vfsd_fan_is_place(&renames->at[later].event->old_name, place))
			place = &renames->at[later].event->new_name;
	return place;
}

void vfsd_fs_mark_renames_identify(const struct vfsd_fs_mark_renames *renames,
				   struct vfsd_inodes *inodes, uint32_t i,
				   struct vfsd_file_handle *ret)
{
	(void)find_at(inodes, last_place(renames, i), ret);
}

/* The rename that takes away what rename @i has brought; renames->count: none. */
static uint32_t next_of(const struct vfsd_fs_mark_renames *renames, uint32_t i)
{
	uint32_t later = i + 1;

	while (later < renames->count && !vfsd_fan_is_place(&renames->at[later].event->old_name,
							    &renames->at[i].event->new_name))
		later++;
	return later;
}

static bool doubt_at(const struct vfsd_fan_place *place, struct vfsd_inodes *inodes,
		     struct vfsd_subtree *subtree)
{
	struct vfsd_file_handle dir;

	if (!find_at(inodes, place, &dir))
		return false;
	vfsd_subtree_doubt(subtree, &dir);
	return true;
}

/* Doubt what is, or was moved on from, where rename @i has left something, behind rename @next. */
static bool doubt_other(const struct vfsd_fs_mark_renames *renames, struct vfsd_inodes *inodes,
			uint32_t i, uint32_t next, struct vfsd_subtree *subtree)
{
	const struct vfsd_fan_place *place = &renames->at[i].event->new_name;

	for (uint32_t later = next + 1; later < renames->count; later++) {
		if (vfsd_fan_is_place(&renames->at[later].event->new_name, place))
			return false; /* that is what this one has brought */
		if (vfsd_fan_is_place(&renames->at[later].event->old_name, place))
			return doubt_at(last_place(renames, later), inodes, subtree);
	}
	return doubt_at(place, inodes, subtree);
}

/*
 * May renames @i and @next be the two halves of one exchange? Then one goes where the other comes from,
 * and between them whoever did it has done nothing else.
 */
static bool may_exchange(const struct vfsd_fs_mark_renames *renames, uint32_t i, uint32_t next)
{
	const struct vfsd_fan_event *one = renames->at[i].event, *other = renames->at[next].event;

	if (!vfsd_fan_is_place(&other->new_name, &one->old_name))
		return false;
	for (const struct vfsd_fan_event *between = one + 1; between < other; between++)
		if (between->pid == one->pid &&
		    (between->mask & ~(uint64_t)(FAN_MOVE_SELF | FAN_ONDIR)))
			return false;
	return true;
}

bool vfsd_fs_mark_renames_doubt(const struct vfsd_fs_mark_renames *renames,
				struct vfsd_inodes *inodes, struct vfsd_subtree *subtree)
{
	struct vfsd_file_handle dir;
	bool found = false;

	for (uint32_t i = 0; i < renames->count; i++) {
		const struct vfsd_fan_place *last = last_place(renames, i);
		const uint32_t next = next_of(renames, i);

		/* Moved on: but is there another all the same, or was that one exchanged and removed? */
		if (next < renames->count) {
			const bool other = doubt_other(renames, inodes, i, next, subtree);

			if (other || may_exchange(renames, i, next))
				found |= doubt_at(last, inodes, subtree) || other;
		}
		if (find_at(inodes, last, &dir))
			continue;
		/* Removed; or one that was the same has taken it away from there before, and once more. */
		for (uint32_t same = 0; same < renames->count; same++) {
			if (!vfsd_fan_is_place(&renames->at[same].event->old_name, last))
				continue;
			found |= doubt_at(&renames->at[same].event->new_name, inodes, subtree);
			found |= doubt_at(last_place(renames, same), inodes, subtree);
		}
	}
	return found;
}
