/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/fs_mark_renames.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "inode/inode.h"
#include "source/source.h"

static bool same_place(const struct vfsd_fan_place *a, const struct vfsd_fan_place *b)
{
	return a->name && b->name && a->name_bytes == b->name_bytes &&
	       memcmp(a->name, b->name, a->name_bytes) == 0 &&
	       vfsd_file_handle_equal(&a->handle, &b->handle);
}

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
	dir = vfsd_inode_handle_open(inodes, &place->handle);
	if (dir < 0)
		return false;
	memcpy(name, place->name, place->name_bytes);
	name[place->name_bytes] = '\0';
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && vfsd_inode_encode(fd, ret, &reopenable) < 0)
		ret->bytes = 0;
	ret->fsid = place->handle.fsid;
	if (fd >= 0)
		(void)close(fd);
	(void)close(dir);
	return ret->bytes > 0;
}

/* Where the renames that follow rename @i leave what that moved. */
static const struct vfsd_fan_place *last_place(const struct vfsd_whole_renames *renames, uint32_t i)
{
	const struct vfsd_fan_place *place = &renames->at[i].event.new_name;

	for (uint32_t later = i + 1; later < renames->count; later++)
		if (same_place(&renames->at[later].event.old_name, place))
			place = &renames->at[later].event.new_name;
	return place;
}

void vfsd_whole_renames_identify(const struct vfsd_whole_renames *renames,
				 struct vfsd_inodes *inodes, uint32_t i,
				 struct vfsd_file_handle *ret)
{
	(void)find_at(inodes, last_place(renames, i), ret);
}

/* The rename that takes away what rename @i has brought; renames->count: none. */
static uint32_t next_of(const struct vfsd_whole_renames *renames, uint32_t i)
{
	uint32_t later = i + 1;

	while (later < renames->count &&
	       !same_place(&renames->at[later].event.old_name, &renames->at[i].event.new_name))
		later++;
	return later;
}

static bool doubt_at(const struct vfsd_fan_place *place, struct vfsd_inodes *inodes,
		     struct vfsd_ancestry *ancestry)
{
	struct vfsd_file_handle dir;

	if (!find_at(inodes, place, &dir))
		return false;
	vfsd_ancestry_doubt(ancestry, &dir);
	return true;
}

/* Doubt what is, or was moved on from, where rename @i has left something, behind rename @next. */
static bool doubt_other(const struct vfsd_whole_renames *renames, struct vfsd_inodes *inodes,
			uint32_t i, uint32_t next, struct vfsd_ancestry *ancestry)
{
	const struct vfsd_fan_place *place = &renames->at[i].event.new_name;

	for (uint32_t later = next + 1; later < renames->count; later++) {
		if (same_place(&renames->at[later].event.new_name, place))
			return false; /* that is what this one has brought */
		if (same_place(&renames->at[later].event.old_name, place))
			return doubt_at(last_place(renames, later), inodes, ancestry);
	}
	return doubt_at(place, inodes, ancestry);
}

/*
 * May renames @i and @next be the two halves of one exchange? Then one goes where the other comes from,
 * and between them whoever did it has done nothing else.
 */
static bool may_exchange(const struct vfsd_whole_renames *renames, uint32_t i, uint32_t next)
{
	const struct vfsd_whole_rename *one = &renames->at[i], *other = &renames->at[next];
	const uint8_t *at = one->end;
	struct vfsd_fan_event between;

	if (!same_place(&other->event.new_name, &one->event.old_name))
		return false;
	while (at < other->end && vfsd_fan_next(&at, other->end, &between) && at < other->end)
		if (between.pid == one->event.pid &&
		    (between.mask & ~(uint64_t)(FAN_MOVE_SELF | FAN_ONDIR)))
			return false;
	return true;
}

bool vfsd_whole_renames_doubt(const struct vfsd_whole_renames *renames, struct vfsd_inodes *inodes,
			      struct vfsd_ancestry *ancestry)
{
	struct vfsd_file_handle dir;
	bool found = false;

	for (uint32_t i = 0; i < renames->count; i++) {
		const struct vfsd_fan_place *last = last_place(renames, i);
		const uint32_t next = next_of(renames, i);

		/* Moved on: but is there another all the same, or was that one exchanged and removed? */
		if (next < renames->count) {
			const bool other = doubt_other(renames, inodes, i, next, ancestry);

			if (other || may_exchange(renames, i, next))
				found |= doubt_at(last, inodes, ancestry) || other;
		}
		if (find_at(inodes, last, &dir))
			continue;
		/* Removed; or one that was the same has taken it away from there before, and once more. */
		for (uint32_t same = 0; same < renames->count; same++) {
			if (!same_place(&renames->at[same].event.old_name, last))
				continue;
			found |= doubt_at(&renames->at[same].event.new_name, inodes, ancestry);
			found |= doubt_at(last_place(renames, same), inodes, ancestry);
		}
	}
	return found;
}
