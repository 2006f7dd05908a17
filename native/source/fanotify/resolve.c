/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/marks.h"

struct vfsd_fan_found vfsd_fan_find_object(const struct vfsd_fan_source *source,
					   const struct vfsd_fan_event *event,
					   struct vfsd_fan_found *where)
{
	struct vfsd_fan_found self = vfsd_fan_find(source, &event->object);

	*where = vfsd_fan_find_dir(source, &event->where);
	if (source->fs_mark && self.inode && event->where.handle->bytes != 0 && !where->inode &&
	    vfsd_marks_union(source->config.marks, self.inode->nodeid) == 0) {
		vfsd_fan_put(source, &self);
		self.inode = NULL;
	}
	return self;
}

/* Directories */

/* The name that the directory @dir will lose, if the host's queue says so; else NULL. */
static const struct vfsd_fan_place *will_lose(struct vfsd_fan_source *source,
					      const struct vfsd_file_handle *dir)
{
	const struct vfsd_fan_event *later;
	uint32_t cursor = 0;

	while ((later = vfsd_fan_ahead_object(&source->reorder, dir, &cursor)) != NULL)
		if (later->mask & (VFSD_FAN_DIRENT | FAN_RENAME)) {
			const struct vfsd_fan_place *lost = vfsd_fan_lost_place(later);

			return (later->mask & (FAN_DELETE | FAN_RENAME)) && lost->name ? lost :
											 NULL;
		}
	return NULL;
}

static bool is_nameless(const struct vfsd_fan_nameless *nameless,
			const struct vfsd_file_handle *dir)
{
	for (uint32_t i = 0; i < nameless->count; i++)
		if (vfsd_file_handle_equal(&nameless->at[i].handle, dir))
			return true;
	return false;
}

/* May the guest receive what the directory @dir_fd is called in @parent now? */
static bool may_name(const struct vfsd_fan_source *source, const struct vfsd_inode *parent,
		     int dir_fd)
{
	/* The name is that of now. Who watches the parent receives it wherever that is. */
	return !source->fs_mark || vfsd_marks_union(source->config.marks, parent->nodeid) != 0 ||
	       vfsd_inode_is_below_root(source->config.inodes, dir_fd);
}

/* Where the directory @dir, which the guest may know as @self, is now. False: it is gone. */
static bool look_up_dir(struct vfsd_fan_source *source, const struct vfsd_fan_found *self,
			const struct vfsd_file_handle *dir, struct vfsd_fan_found *ret,
			char name[VFSD_SOURCE_NAME_BYTES])
{
	struct vfsd_inodes *inodes = source->config.inodes;
	bool transient = true, is_there;
	struct stat st;
	int fd = self->inode ? vfsd_inode_fd_get(inodes, self->inode, &transient) :
			       vfsd_inode_handle_open(inodes, dir);

	if (fd < 0)
		return fd != -ESTALE;
	ret->inode = vfsd_source_parent_of(inodes, source->config.proc_self_fd, fd, name);
	if (ret->inode && !may_name(source, ret->inode, fd)) {
		vfsd_inode_put(inodes, ret->inode);
		ret->inode = NULL;
	}
	ret->name = name;
	ret->name_bytes = (uint32_t)strlen(name);
	is_there = ret->inode || fstat(fd, &st) < 0 || st.st_nlink > 0;
	if (transient)
		vfsd_fan_release_dir(source, fd);
	return is_there;
}

enum vfsd_fan_dir_state
vfsd_fan_locate_dir(struct vfsd_fan_source *source, const struct vfsd_fan_found *self,
		    const struct vfsd_file_handle *dir, const struct vfsd_fan_place **gone,
		    struct vfsd_fan_found *ret, char name[VFSD_SOURCE_NAME_BYTES])
{
	if (self->inode && self->inode->nodeid == VFSD_NODEID_ROOT)
		return VFSD_FAN_DIR_FOUND;
	if (!*gone)
		*gone = will_lose(source, dir);
	if (!*gone) {
		if (!is_nameless(&source->nameless, dir) &&
		    look_up_dir(source, self, dir, ret, name))
			return VFSD_FAN_DIR_FOUND;
		/* It may have gone since the queue was read. */
		*gone = will_lose(source, dir);
	}
	return *gone ? VFSD_FAN_DIR_LOST : VFSD_FAN_DIR_GONE;
}

/* Names by which something was opened */

/* @event or a later one may have taken the name away by which the object of @event was opened. */
static bool may_lose_name(struct vfsd_fan_source *source, const struct vfsd_fan_event *event,
			  bool by_name)
{
	const struct vfsd_file_handle *object = event->object.handle;
	const struct vfsd_fan_events *events = &source->batch.events;
	uint32_t i = source->reorder.next;
	bool all;

	if (!by_name && (event->mask & (FAN_ATTRIB | FAN_MOVE_SELF)))
		return true;
	do {
		for (; i < events->count; i++) {
			const struct vfsd_fan_event *later = &events->at[i];

			if (by_name ? vfsd_fan_of_name(later, &event->where) &
					      (FAN_DELETE | VFSD_FAN_MOVED) :
				      (later->mask & (FAN_ATTRIB | FAN_MOVE_SELF)) &&
					      vfsd_file_handle_equal(later->object.handle, object))
				return true;
		}
	} while (vfsd_fan_batch_more(&source->batch, VFSD_READ_BUFFER_AHEAD, &all));
	return !all;
}

bool vfsd_fan_is_unnamed(struct vfsd_fan_source *source, const struct vfsd_fan_event *event,
			 const struct vfsd_fan_found *self, const struct vfsd_fan_found *where)
{
	const struct vfsd_marks *marks = source->config.marks;
	uint32_t by_name, mask;
	bool gone;
	int fd;

	if (source->excluding == 0 || !(event->mask & VFSD_FAN_BY_NAME) || vfsd_fan_is_dir(event) ||
	    !event->where.name)
		return false;
	by_name = mask = where->inode ? vfsd_marks_union(marks, where->inode->nodeid) : 0;
	by_name &= VFSD_SOURCE_EXCL_UNLINK;
	if (self->inode)
		mask |= vfsd_marks_union(marks, self->inode->nodeid);
	if (!(mask & VFSD_SOURCE_EXCL_UNLINK) ||
	    (where->inode && vfsd_fan_window_is_merged(source->reorder.window, &event->where)))
		return false;
	fd = where->inode ? vfsd_fan_open_dir(source, where->inode) :
			    vfsd_inode_handle_open(source->config.inodes, event->where.handle);
	gone = fd >= 0 && vfsd_source_lost_name(fd, event->where.name, event->object.handle);
	if (fd >= 0 && !where->inode)
		(void)close(fd);
	return (gone || fd == -ESTALE) && !may_lose_name(source, event, by_name != 0);
}
