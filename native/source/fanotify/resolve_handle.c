/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/internal.h"

#include <unistd.h>

#include "base/util.h"

struct vfsd_fan_found vfsd_fan_find(const struct vfsd_fan_source *source,
				    const struct vfsd_fan_place *place)
{
	return (struct vfsd_fan_found){
		.inode = vfsd_inode_find_handle(source->config.inodes, place->handle),
		.name = place->name,
		.name_bytes = place->name_bytes,
	};
}

struct vfsd_fan_found vfsd_fan_find_dir(const struct vfsd_fan_source *source,
					const struct vfsd_fan_place *place)
{
	struct vfsd_fan_found found;

	if (!source->fs_mark)
		return vfsd_fan_find(source, place);
	found = (struct vfsd_fan_found){.name = place->name, .name_bytes = place->name_bytes};
	found.inode =
		vfsd_fs_mark_find_dir(source->fs_mark, place->handle, &found.unknown, &found.left);
	return found;
}

void vfsd_fan_put(const struct vfsd_fan_source *source, const struct vfsd_fan_found *found)
{
	vfsd_inode_put(source->config.inodes, found->inode);
}

const struct vfsd_fan_found *vfsd_fan_dir_of(struct vfsd_fan_source *source,
					     const struct vfsd_fan_place *place)
{
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(source->dirs); i++)
		if (source->dirs[i].place == place)
			return &source->dirs[i].found;
	/* The older one makes room. */
	vfsd_fan_put(source, &source->dirs[1].found);
	source->dirs[1] = source->dirs[0];
	source->dirs[0].place = place;
	source->dirs[0].found = vfsd_fan_find_dir(source, place);
	return &source->dirs[0].found;
}

void vfsd_fan_event_done(struct vfsd_fan_source *source)
{
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(source->dirs); i++) {
		vfsd_fan_put(source, &source->dirs[i].found);
		source->dirs[i].place = NULL;
		source->dirs[i].found.inode = NULL;
	}
	source->child.place = NULL;
}

static bool more(struct vfsd_fan_source *source)
{
	bool all;

	return vfsd_fan_batch_more(&source->batch, VFSD_READ_BUFFER_AHEAD, &all);
}

/* Is there an ATTRIB of the object @handle from event @fresh on? */
static bool may_be_ending(const struct vfsd_fan_events *events, uint32_t fresh,
			  const struct vfsd_file_handle *handle)
{
	for (; fresh < events->count; fresh++)
		if ((events->at[fresh].mask & FAN_ATTRIB) &&
		    vfsd_file_handle_equal(events->at[fresh].object.handle, handle))
			return true;
	return false;
}

/*
 * @nodeid (0: none) was looked up in the directory @dir_fd, and held for a moment: see
 * vfsd_fan_reorder_late_ends().
 */
static void settle_removals(struct vfsd_fan_source *source, uint64_t nodeid, int dir_fd)
{
	const uint32_t fresh = source->batch.events.count;
	struct vfsd_inode *inode = vfsd_inode_get(source->config.inodes, nodeid);

	/* ATTRIB, with the last link, comes before the name goes; the end may be the host's to report. */
	if (inode && more(source) &&
	    may_be_ending(&source->batch.events, fresh, vfsd_inode_handle(inode))) {
		vfsd_source_await_removals(dir_fd);
		(void)more(source);
		vfsd_fan_reorder_late_ends(&source->reorder, fresh, vfsd_inode_handle(inode));
	}
	vfsd_inode_put(source->config.inodes, inode);
}

uint64_t vfsd_fan_look_up(struct vfsd_fan_source *source, const struct vfsd_fan_place *place,
			  bool *exists)
{
	const struct vfsd_fan_found *dir = vfsd_fan_dir_of(source, place);
	int fd = dir->inode ? vfsd_fan_open_dir(source, dir->inode) : -1;
	uint64_t nodeid = 0;

	*exists = false;
	if (fd >= 0) {
		nodeid = vfsd_source_node_in(source->config.inodes, fd, place->name, exists);
		settle_removals(source, nodeid, fd);
	}
	source->child.place = place;
	source->child.nodeid = nodeid;
	return nodeid;
}

uint64_t vfsd_fan_child_at(struct vfsd_fan_source *source, const struct vfsd_fan_place *place)
{
	bool exists;

	return source->child.place == place ? source->child.nodeid :
					      vfsd_fan_look_up(source, place, &exists);
}

void vfsd_fan_release_dir(struct vfsd_fan_source *source, int fd)
{
	const uint32_t fresh = source->batch.events.count;

	vfsd_source_outlast(fd);
	(void)close(fd);
	if (more(source))
		vfsd_fan_reorder_late_ends(&source->reorder, fresh, NULL);
}

void vfsd_fan_close_dir(struct vfsd_fan_source *source)
{
	int fd = source->dir_fd;

	source->dir_fd = -1;
	if (fd >= 0)
		vfsd_fan_release_dir(source, fd);
}

int vfsd_fan_open_dir(struct vfsd_fan_source *source, struct vfsd_inode *dir)
{
	bool transient;
	int fd;

	if (source->dir_fd >= 0 && source->dir_nodeid == dir->nodeid)
		return source->dir_fd;
	fd = vfsd_inode_fd_get(source->config.inodes, dir, &transient);
	if (fd < 0 || !transient)
		return fd;
	vfsd_fan_close_dir(source);
	source->dir_fd = fd;
	source->dir_nodeid = dir->nodeid;
	return fd;
}
