/* SPDX-License-Identifier: BSD-3-Clause */
#include "fanotify_internal.h"

#include <unistd.h>

struct vfsd_fan_found vfsd_fan_find(const struct vfsd_fan_source *source,
				    const struct vfsd_fan_place *place)
{
	return (struct vfsd_fan_found){
		.inode = vfsd_inode_find_handle(source->config.inodes, &place->handle),
		.name = place->name,
		.name_bytes = place->name_bytes,
	};
}

struct vfsd_fan_found vfsd_fan_find_dir(const struct vfsd_fan_source *source,
					const struct vfsd_fan_place *place)
{
	struct vfsd_fan_found found;

	if (!vfsd_whole_active(source->whole))
		return vfsd_fan_find(source, place);
	found = (struct vfsd_fan_found){.name = place->name, .name_bytes = place->name_bytes};
	found.inode = vfsd_whole_find_dir(source->whole, &place->handle, &found.unknown);
	return found;
}

void vfsd_fan_leave(const struct vfsd_fan_source *source, const struct vfsd_fan_found *place)
{
	vfsd_inode_put(source->config.inodes, place->inode);
}

void vfsd_fan_tell(const struct vfsd_source_sink *sink, const struct vfsd_fan_found *place,
		   struct vfsd_source_event event)
{
	event.nodeid = place->inode->nodeid;
	event.unknown_dir = place->unknown;
	event.name = place->name;
	event.name_bytes = place->name ? place->name_bytes : 0;
	sink->event(sink->ctx, &event);
}

void vfsd_fan_tell_end(const struct vfsd_source_sink *sink, const struct vfsd_fan_found *self)
{
	vfsd_fan_tell(sink, self, (struct vfsd_source_event){.unlinked = true});
}

void vfsd_fan_close_dir(struct vfsd_fan_source *source)
{
	if (source->dir_fd >= 0)
		(void)close(source->dir_fd);
	source->dir_fd = -1;
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
