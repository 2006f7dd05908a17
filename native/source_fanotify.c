/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source_fanotify - host events by fanotify inode marks (Linux 5.13, no capability needed).
 *
 * The group reports file handles and names (FAN_REPORT_FID | FAN_REPORT_DFID_NAME) and the pid that
 * acted: ours is an echo. Without privilege the kernel shows other pids as 0, which is all that is
 * needed. Renames come as FAN_RENAME (Linux 5.17), both halves in one event, else as two halves
 * that are paired here.
 */
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "batch.h"
#include "fanotify_ahead.h"
#include "fanotify_event.h"
#include "inode.h"
#include "log.h"
#include "marks.h"
#include "names.h"
#include "util.h"
#include "whole.h"

#ifndef FAN_RENAME
#define FAN_RENAME 0x10000000
#endif

#ifndef FAN_FS_ERROR
#define FAN_FS_ERROR 0x8000
#endif

#define MOVED (FAN_MOVED_FROM | FAN_MOVED_TO)
#define DIRENT (FAN_CREATE | FAN_DELETE | MOVED)
/* Told to the watchers of the directory too, by name. */
#define ON_CHILD (FAN_ACCESS | FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE | FAN_OPEN)
/* What is done by a name that may have gone since it was opened. */
#define BY_NAME (FAN_ACCESS | FAN_MODIFY | FAN_CLOSE | FAN_OPEN)
/* What a guest may ask for and fanotify can tell. */
#define REPORTABLE                                                                                 \
	(FAN_ACCESS | FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE | FAN_OPEN | DIRENT | FAN_DELETE_SELF |  \
	 FAN_MOVE_SELF)

struct source {
	struct vfsd_source base;
	struct vfsd_source_config config;
	bool has_rename; /* the host knows FAN_RENAME */
	uint32_t watches;
	uint32_t last_cookie;
	uint32_t open_cookie; /* of a MOVED_FROM whose MOVED_TO may follow; old hosts only */
	pid_t self;
	uint32_t excluding; /* watches of which some want nothing of what has no name any more */
	struct vfsd_names *names;
	struct vfsd_whole *whole; /* NULL until one is subscribed to */
	struct vfsd_batch batch;
	struct vfsd_fan_ahead *ahead;
	/* While a batch is worked off: the last directory that names were looked up in, or -1. */
	int dir_fd;
	uint64_t dir_nodeid;
};

/* A vfsd_fan_place to tell of; inode NULL: the guest does not know it. */
struct place {
	struct vfsd_inode *inode;
	const char *name;
	uint32_t name_bytes;
	bool unknown; /* a directory that the guest does not know by itself */
};

/* An end that is told after an event further on, see put_off(). */
struct end {
	struct vfsd_file_handle handle;
	const uint8_t *after; /* where that event ends in the batch */
};

struct ends {
	uint32_t count;
	struct end at[32];
};

static int mark(const struct source *source, unsigned int how, int inode_fd, uint64_t mask)
{
	char link[16];

	(void)snprintf(link, sizeof(link), "%d", inode_fd);
	if (fanotify_mark(source->base.fd, how, mask, source->config.proc_self_fd, link) < 0)
		return -errno;
	return 0;
}

static int probe(struct source *source)
{
	struct vfsd_inode *root = vfsd_inode_get(source->config.inodes, VFSD_NODEID_ROOT);
	bool transient;
	int fd, err;

	if (!root)
		return -ESTALE;
	fd = vfsd_inode_fd_get(source->config.inodes, root, &transient);
	if (fd < 0) {
		vfsd_inode_put(source->config.inodes, root);
		return fd;
	}
	source->has_rename = mark(source, FAN_MARK_ADD, fd, FAN_RENAME | FAN_ONDIR) == 0;
	err = mark(source, FAN_MARK_ADD, fd, FAN_CREATE | FAN_ONDIR);
	if (err == 0)
		(void)fanotify_mark(source->base.fd, FAN_MARK_FLUSH, 0, AT_FDCWD, ".");
	vfsd_inode_fd_put(fd, transient);
	vfsd_inode_put(source->config.inodes, root);
	return err;
}

static void destroy(struct vfsd_source *base)
{
	struct source *source = (struct source *)base;

	if (!source)
		return;
	if (base->fd >= 0)
		(void)close(base->fd);
	vfsd_whole_destroy(source->whole);
	vfsd_names_destroy(source->names);
	vfsd_fan_ahead_destroy(source->ahead);
	vfsd_batch_free(&source->batch);
	free(source);
}

static int create(const struct vfsd_source_config *config, struct vfsd_source **ret)
{
	struct source *source = calloc(1, sizeof(*source));
	int err;

	if (!source)
		return -ENOMEM;
	source->base.ops = &vfsd_source_fanotify;
	source->config = *config;
	source->self = getpid();
	source->dir_fd = -1;
	/* No FAN_REPORT_TARGET_FID: it would let the host merge a CREATE with later MODIFYs. */
	source->base.fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC |
						FAN_REPORT_FID | FAN_REPORT_DFID_NAME,
					O_RDONLY | O_CLOEXEC);
	if (source->base.fd < 0)
		err = -errno;
	else
		err = vfsd_batch_init(&source->batch, source->base.fd);
	if (!err)
		err = vfsd_fan_ahead_create(&source->batch, &source->ahead);
	if (!err)
		err = vfsd_names_create(&source->names);
	if (!err)
		err = probe(source);
	if (err) {
		destroy(&source->base);
		return err;
	}
	*ret = &source->base;
	return 0;
}

/* What the host must watch so that a guest interested in @mask hears all it needs. */
static uint64_t host_mask(const struct source *source, uint32_t mask, bool is_dir)
{
	uint64_t host = mask & REPORTABLE;

	if (host == 0)
		return 0;
	/*
	 * The end of an object is always told: by DELETE_SELF where nothing of ours pins it, else by
	 * the ATTRIB of the last unlink.
	 */
	host |= FAN_ATTRIB | FAN_DELETE_SELF;
	/* What takes names away, see is_unnamed(). */
	if ((mask & VFSD_SOURCE_EXCL_UNLINK) && (host & BY_NAME))
		host |= is_dir ? FAN_DELETE | MOVED : FAN_MOVE_SELF;
	if (!is_dir)
		return host & ~(uint64_t)DIRENT;
	if (source->has_rename && (host & MOVED))
		host = (host & ~(uint64_t)MOVED) | FAN_RENAME;
	return host | FAN_ONDIR | (mask & FAN_EVENT_ON_CHILD);
}

static int set_marks(struct source *source, struct vfsd_inode *inode, uint32_t old_mask,
		     uint32_t new_mask)
{
	bool is_dir = S_ISDIR(inode->type);
	uint64_t old = host_mask(source, old_mask, is_dir);
	uint64_t new = host_mask(source, new_mask, is_dir);
	bool transient;
	int fd, err = 0;

	if (old == new)
		return 0;
	fd = vfsd_source_begin(&source->config, inode, source->watches, old == 0, &transient);
	if (fd < 0) {
		/* An inode that is gone has lost its marks too. */
		err = new != 0 ? fd : 0;
		goto count;
	}
	if (new & ~old)
		err = mark(source, FAN_MARK_ADD, fd, new & ~old);
	if (!err && (old & ~new)) {
		int remove_err = mark(source, FAN_MARK_REMOVE, fd, old & ~new);

		if (remove_err && remove_err != -ENOENT)
			VFSD_LOG_LIMITED(VFSD_LOG_WARN, "fanotify: cannot trim a mark errno=%d",
					 -remove_err);
	}
	vfsd_inode_fd_put(fd, transient);
count:
	if (!err) {
		source->watches += old == 0 && new != 0;
		source->watches -= old != 0 && new == 0;
	}
	return err;
}

static int watch(struct vfsd_source *base, struct vfsd_inode *inode, uint32_t old_mask,
		 uint32_t new_mask)
{
	struct source *source = (struct source *)base;
	int err = set_marks(source, inode, old_mask, new_mask);

	if (!err) {
		source->excluding += (new_mask & VFSD_SOURCE_EXCL_UNLINK) != 0;
		source->excluding -= (old_mask & VFSD_SOURCE_EXCL_UNLINK) != 0;
	}
	return err;
}

static int watch_whole(struct vfsd_source *base, struct vfsd_inode *root, uint32_t mask)
{
	struct source *source = (struct source *)base;
	/* Nothing but what was asked for: all of a host's filesystem may come. */
	uint64_t host = mask & REPORTABLE & ~(uint64_t)MOVED;
	int err = 0;

	if (!source->has_rename)
		return -EPERM;
	if (!source->whole && mask != 0)
		err = vfsd_whole_create(&source->config, base->fd, &source->batch, &source->whole);
	if (err || !source->whole)
		return err;
	if (mask & MOVED)
		host |= FAN_RENAME;
	err = vfsd_whole_watch(source->whole, root, host | (mask & FAN_FS_ERROR));
	/* Errors are told since Linux 5.16, and not by every filesystem. */
	return err == -EINVAL ? vfsd_whole_watch(source->whole, root, host) : err;
}

static void let_go(struct vfsd_source *base)
{
	struct source *source = (struct source *)base;

	if (source->whole)
		vfsd_whole_let_go(source->whole);
}

/* Holds a reference to the inode until leave(). */
static struct place find(const struct source *source, const struct vfsd_fan_place *place)
{
	return (struct place){
		.inode = vfsd_inode_find_handle(source->config.inodes, &place->handle),
		.name = place->name,
		.name_bytes = place->name_bytes,
	};
}

/* The same for a directory, which may be one that the guest does not know, or must not. */
static struct place find_dir(const struct source *source, const struct vfsd_fan_place *place)
{
	struct place found;

	if (!vfsd_whole_active(source->whole))
		return find(source, place);
	found = (struct place){.name = place->name, .name_bytes = place->name_bytes};
	found.inode = vfsd_whole_find_dir(source->whole, &place->handle, &found.unknown);
	return found;
}

static void leave(const struct source *source, const struct place *place)
{
	vfsd_inode_put(source->config.inodes, place->inode);
}

/* @event says what is not about the place. */
static void tell(const struct vfsd_source_sink *sink, const struct place *place,
		 struct vfsd_source_event event)
{
	event.nodeid = place->inode->nodeid;
	event.unknown_dir = place->unknown;
	event.name = place->name;
	event.name_bytes = place->name ? place->name_bytes : 0;
	sink->event(sink->ctx, &event);
}

/* Of a name that came or went, by a rename if there is a cookie. */
static void tell_name(const struct vfsd_source_sink *sink, const struct place *place, uint32_t mask,
		      uint64_t child, uint32_t cookie)
{
	tell(sink, place,
	     (struct vfsd_source_event){.mask = mask, .child = child, .cookie = cookie});
}

static void tell_end(const struct vfsd_source_sink *sink, const struct place *self)
{
	tell(sink, self, (struct vfsd_source_event){.unlinked = true});
}

/* Give up the directory that node_at() keeps open. */
static void close_dir(struct source *source)
{
	if (source->dir_fd >= 0)
		(void)close(source->dir_fd);
	source->dir_fd = -1;
}

/* A descriptor of @dir, good until the next call or close_dir(); many names are of one directory. */
static int open_dir(struct source *source, struct vfsd_inode *dir)
{
	bool transient;
	int fd;

	if (source->dir_fd >= 0 && source->dir_nodeid == dir->nodeid)
		return source->dir_fd;
	fd = vfsd_inode_fd_get(source->config.inodes, dir, &transient);
	if (fd < 0 || !transient)
		return fd;
	close_dir(source);
	source->dir_fd = fd;
	source->dir_nodeid = dir->nodeid;
	return fd;
}

/* vfsd_source_node_at(), by open_dir(). */
static uint64_t node_at(struct source *source, struct vfsd_inode *dir, const char *name,
			bool *exists)
{
	int fd = open_dir(source, dir);

	*exists = false;
	return fd < 0 ? 0 : vfsd_source_node_in(source->config.inodes, fd, name, exists);
}

/* enum vfsd_name_bits of FAN_* */
static uint32_t name_bits(uint32_t mask)
{
	return (mask & (FAN_CREATE | FAN_MOVED_TO) ? VFSD_NAME_COMES : 0u) |
	       (mask & (FAN_DELETE | FAN_MOVED_FROM) ? VFSD_NAME_GOES : 0u);
}

/* What the rest of the queue says of the name @place. */
static struct vfsd_names_ahead look_ahead(struct source *source, const struct vfsd_fan_place *place)
{
	const uint32_t both = VFSD_NAME_COMES | VFSD_NAME_GOES;
	struct vfsd_names_ahead ahead = {0};
	uint32_t cursor = 0, bits;

	while ((bits = name_bits(vfsd_fan_ahead_next(source->ahead, place, &cursor))) != 0) {
		ahead.last = bits == both ? 0 : bits;
		if (!ahead.any)
			ahead.first = ahead.last;
		ahead.any = true;
	}
	return ahead;
}

/*
 * A rename of @name, in the directory @place, was told: now what else the host's queue hides of it.
 * Returns whether something was.
 */
static bool settle(struct source *source, const struct vfsd_source_sink *sink,
		   const struct vfsd_fan_place *name, const struct place *place, uint32_t on_dir)
{
	struct vfsd_names *names = source->names;
	uint64_t child, dir;
	uint32_t step;
	bool exists;

	if (!place->inode || !place->name)
		return false;
	dir = place->inode->nodeid;
	if (!vfsd_names_may_hide(names, dir, place->name))
		return false;
	child = node_at(source, place->inode, place->name, &exists);
	step = vfsd_names_hidden(names, dir, place->name, exists);
	if (step == 0 || look_ahead(source, name).any)
		return false;
	vfsd_names_told(names, dir, place->name, step);
	if (step == VFSD_NAME_COMES)
		tell_name(sink, place, FAN_CREATE | on_dir, child, 0);
	else
		tell_name(sink, place, FAN_DELETE | on_dir, 0, 0);
	return true;
}

/* Returns whether what is told to have come is called so now. */
static bool tell_rename(struct source *source, const struct vfsd_source_sink *sink,
			const struct vfsd_fan_event *event)
{
	struct place from = find_dir(source, &event->old_name);
	struct place to = find_dir(source, &event->new_name);
	uint32_t on_dir = (uint32_t)event->mask & FAN_ONDIR;
	uint64_t child = 0;
	bool is_there = true;

	if (++source->last_cookie == 0)
		source->last_cookie = 1;
	if (to.inode && to.name)
		child = node_at(source, to.inode, to.name, &is_there);
	if (from.inode && from.name) {
		if (vfsd_names_moved(source->names, from.inode->nodeid, from.name, VFSD_NAME_GOES))
			tell_name(sink, &from, FAN_CREATE | on_dir, 0, 0);
		tell_name(sink, &from, FAN_MOVED_FROM | on_dir, child, source->last_cookie);
	}
	if (to.inode && to.name) {
		(void)vfsd_names_moved(source->names, to.inode->nodeid, to.name, VFSD_NAME_COMES);
		tell_name(sink, &to, FAN_MOVED_TO | on_dir, child, source->last_cookie);
	}
	(void)settle(source, sink, &event->old_name, &from, on_dir);
	is_there |= settle(source, sink, &event->new_name, &to, on_dir);
	leave(source, &from);
	leave(source, &to);
	return is_there;
}

/*
 * A rename may be merged too, into one that was the same: there, back and there again. What came
 * last and is not there has gone by a rename that was told before; it is told again.
 */
static void tell_renames(struct source *source, const struct vfsd_source_sink *sink,
			 const struct vfsd_fan_event *event)
{
	const uint8_t *at = source->batch.buffer;
	struct vfsd_fan_event before, same = {0};

	if (tell_rename(source, sink, event) || look_ahead(source, &event->new_name).any)
		return;
	while (at < source->batch.at && vfsd_fan_next(&at, source->batch.at, &before))
		if (before.pid != source->self &&
		    (vfsd_fan_of_name(&before, &event->new_name) & FAN_MOVED_FROM))
			same = before;
	if (same.mask & FAN_RENAME)
		(void)tell_rename(source, sink, &same);
}

/* Hosts before FAN_RENAME queue the two halves next to each other. */
static uint32_t half_cookie(struct source *source, uint32_t bit)
{
	uint32_t cookie = source->open_cookie;

	source->open_cookie = 0;
	if (bit == FAN_MOVED_TO && cookie != 0)
		return cookie;
	if (++source->last_cookie == 0)
		source->last_cookie = 1;
	if (bit == FAN_MOVED_FROM)
		source->open_cookie = source->last_cookie;
	return source->last_cookie;
}

static void tell_dirents(struct source *source, const struct vfsd_source_sink *sink,
			 const struct vfsd_fan_event *event, uint32_t mask, uint32_t on_dir)
{
	struct place found = find_dir(source, &event->where), *where = &found;
	uint32_t bits = name_bits(mask & ~(uint32_t)MOVED);
	uint32_t steps[VFSD_NAME_STEPS_MAX], n = 0;
	struct vfsd_names_ahead ahead = {0};
	uint64_t child = 0;
	uint32_t bit;
	bool exists = false, must_look;

	if (!where->inode || !where->name)
		goto out;
	must_look = vfsd_names_must_look(source->names, where->inode->nodeid, where->name, bits);
	if (must_look)
		ahead = look_ahead(source, &event->where);
	if (must_look || (mask & (FAN_CREATE | FAN_MOVED_TO)))
		child = node_at(source, where->inode, where->name, &exists);
	if (bits != 0)
		n = vfsd_names_order(source->names, where->inode->nodeid, where->name, bits, exists,
				     &ahead, steps);
	for (uint32_t i = 0; i < n; i++)
		if (steps[i] == VFSD_NAME_COMES)
			tell_name(sink, where, FAN_CREATE | on_dir, child, 0);
		else
			tell_name(sink, where, FAN_DELETE | on_dir, 0, 0);
	mask &= MOVED;
	while ((bit = vfsd_source_next_bit(&mask)) != 0) {
		(void)vfsd_names_moved(source->names, where->inode->nodeid, where->name,
				       bit == FAN_MOVED_TO ? VFSD_NAME_COMES : VFSD_NAME_GOES);
		tell_name(sink, where, bit | on_dir, bit == FAN_MOVED_TO ? child : 0,
			  half_cookie(source, bit));
	}
out:
	leave(source, where);
}

/*
 * An event of a directory names that itself, not its place: find out, for the watchers of the
 * directory that it is in. *ret stays empty if the guest does not know that one.
 */
static void locate_dir(const struct source *source, const struct place *dir,
		       const struct vfsd_file_handle *handle, struct place *ret,
		       char name[VFSD_SOURCE_NAME_BYTES])
{
	struct vfsd_inodes *inodes = source->config.inodes;
	bool transient = true;
	int fd;

	if (dir->inode && dir->inode->nodeid == VFSD_NODEID_ROOT)
		return;
	fd = dir->inode ? vfsd_inode_fd_get(inodes, dir->inode, &transient) :
			  vfsd_inode_handle_open(inodes, handle);
	if (fd < 0)
		return;
	ret->inode = vfsd_source_parent_of(inodes, source->config.proc_self_fd, fd, name);
	ret->name = name;
	ret->name_bytes = (uint32_t)strlen(name);
	vfsd_inode_fd_put(fd, transient);
}

/* @event or a later one may have taken the name away by which the object of @event was opened. */
static bool may_lose_name(struct source *source, const struct vfsd_fan_event *event, bool by_name)
{
	const struct vfsd_file_handle *object = &event->object.handle;
	const uint8_t *at = source->batch.at;
	struct vfsd_fan_event later;
	bool whole;

	if (!by_name && (event->mask & (FAN_ATTRIB | FAN_MOVE_SELF)))
		return true;
	do {
		while (vfsd_fan_next(&at, source->batch.end, &later))
			if (by_name ?
				    vfsd_fan_of_name(&later, &event->where) & (FAN_DELETE | MOVED) :
				    (later.mask & (FAN_ATTRIB | FAN_MOVE_SELF)) &&
					    vfsd_file_handle_equal(&later.object.handle, object))
				return true;
	} while (vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &whole));
	return !whole;
}

/*
 * Was the name gone by which the object was opened? Looked for where somebody wants nothing of that
 * only. What is gone now may have gone after the event: then that is in the queue. In doubt, the
 * event is told.
 */
static bool is_unnamed(struct source *source, const struct vfsd_fan_event *event,
		       const struct place *self, const struct place *where)
{
	const struct vfsd_marks *marks = source->config.marks;
	uint32_t by_name, mask;
	bool gone;
	int fd;

	if (source->excluding == 0 || !(event->mask & BY_NAME) || vfsd_fan_is_dir(event) ||
	    !event->where.name)
		return false;
	by_name = mask = where->inode ? vfsd_marks_union(marks, where->inode->nodeid) : 0;
	by_name &= VFSD_SOURCE_EXCL_UNLINK;
	if (self->inode)
		mask |= vfsd_marks_union(marks, self->inode->nodeid);
	if (!(mask & VFSD_SOURCE_EXCL_UNLINK) ||
	    (where->inode &&
	     vfsd_names_is_merged(source->names, where->inode->nodeid, where->name)))
		return false;
	fd = where->inode ? open_dir(source, where->inode) :
			    vfsd_inode_handle_open(source->config.inodes, &event->where.handle);
	gone = fd >= 0 && vfsd_source_lost_name(fd, event->where.name, &event->object.handle);
	if (fd >= 0 && !where->inode)
		(void)close(fd);
	return (gone || fd == -ESTALE) && !may_lose_name(source, event, by_name != 0);
}

/*
 * What is no directory, and in *where the one that it has its name in. Whoever watches the object
 * itself hears of what is done to it by any name, whoever watches the filesystem only of names inside.
 */
static struct place find_object(const struct source *source, const struct vfsd_fan_event *event,
				struct place *where)
{
	struct place self = find(source, &event->object);

	*where = find_dir(source, &event->where);
	if (vfsd_whole_active(source->whole) && self.inode && event->where.handle.bytes != 0 &&
	    !where->inode && vfsd_marks_union(source->config.marks, self.inode->nodeid) == 0) {
		leave(source, &self);
		self.inode = NULL;
	}
	return self;
}

static void tell_object(struct source *source, const struct vfsd_source_sink *sink,
			const struct vfsd_fan_event *event, uint32_t mask, uint32_t on_dir)
{
	const bool is_dir = vfsd_fan_is_dir(event);
	struct place self, where = {0};
	uint64_t child;
	char name[VFSD_SOURCE_NAME_BYTES] = "";
	bool unlinked = false, told = false, unnamed;
	uint32_t bit;

	self = is_dir ? find_dir(source, &event->where) : find_object(source, event, &where);
	child = self.inode ? self.inode->nodeid : 0;
	if (is_dir && (mask & ON_CHILD) && !self.unknown)
		locate_dir(source, &self, &event->where.handle, &where, name);
	if (self.inode && (mask & (FAN_ATTRIB | FAN_DELETE_SELF)))
		unlinked = (mask & FAN_DELETE_SELF) ||
			   vfsd_source_is_unlinked(source->config.inodes, self.inode);
	unnamed = is_unnamed(source, event, &self, &where);
	/* The guest's own dcache raises DELETE_SELF and IGNORED once it hears of the lost link. */
	mask &= ~(uint32_t)FAN_DELETE_SELF;
	/* The end comes last: after it the guest has no watch left to report the other bits to. */
	while ((bit = vfsd_source_next_bit(&mask)) != 0) {
		/* With a known directory the guest tells that one's watchers too, by name. */
		bool named = where.inode && where.name && (bit & ON_CHILD);

		told = unlinked && mask == 0;
		if (named || self.inode)
			tell(sink, named ? &where : &self,
			     (struct vfsd_source_event){
				     .mask = bit | on_dir,
				     .child = named ? child : 0,
				     .unlinked = told,
				     .unnamed = unnamed && (bit & BY_NAME),
			     });
	}
	if (unlinked && !told)
		tell_end(sink, &self);
	leave(source, &self);
	leave(source, &where);
}

/* To each filesystem of the guest that is a part of the one that has failed. */
static void tell_error(const struct source *source, const struct vfsd_source_sink *sink,
		       const struct vfsd_fan_event *event)
{
	struct place self = find(source, &event->object);
	struct vfsd_source_event error = {
		.mask = FAN_FS_ERROR, .error = event->error, .errors = event->error_count};

	for (uint32_t nth = 0;; nth++) {
		error.root = vfsd_whole_root(source->whole, event->object.handle.fsid, nth);
		if (error.root == 0)
			break;
		error.nodeid = self.inode ? self.inode->nodeid : error.root;
		sink->event(sink->ctx, &error);
	}
	leave(source, &self);
}

static void handle_event(struct source *source, const struct vfsd_source_sink *sink,
			 const struct vfsd_fan_event *event)
{
	uint32_t on_dir = (uint32_t)event->mask & FAN_ONDIR;
	uint32_t mask = (uint32_t)event->mask & REPORTABLE;

	vfsd_source_took(&source->base, sink, event->mask & FAN_Q_OVERFLOW);
	if (event->mask & FAN_Q_OVERFLOW) {
		vfsd_names_forget(source->names);
		return;
	}
	if (event->mask & FAN_FS_ERROR) {
		if (source->whole)
			tell_error(source, sink, event);
		return;
	}
	/*
	 * Our own doing is an echo, except for the end of an object: whoever drops the last reference
	 * is named as its author, and that may well be a descriptor of ours. The guest treats an end
	 * that it knows already as nothing.
	 */
	source->base.own = event->pid == source->self;
	if (source->base.own && !source->config.everything)
		mask &= FAN_DELETE_SELF;
	else if (event->mask & FAN_RENAME)
		mask |= MOVED;
	if ((event->mask & FAN_RENAME) && (mask & MOVED)) {
		tell_renames(source, sink, event);
		mask &= ~(uint32_t)MOVED;
	}
	if (mask & DIRENT)
		tell_dirents(source, sink, event, mask & DIRENT, on_dir);
	if (mask & ~(uint32_t)DIRENT)
		tell_object(source, sink, event, mask & ~(uint32_t)DIRENT, on_dir);
}

/*
 * The host merges what is unread of one object at the place of the first, but after its end the
 * guest has no watch left: whatever else happened to it, or in it, has to come before. And a rename
 * onto something tells of what it moves between that one's ATTRIB and its DELETE_SELF.
 * True: the end of @event, behind which are @at to @end, is told later.
 */
static bool put_off(const struct source *source, struct ends *ends,
		    const struct vfsd_fan_event *event, const uint8_t *at, const uint8_t *end)
{
	struct vfsd_inode *known;
	const struct vfsd_file_handle *handle = &vfsd_fan_self(event)->handle;
	const uint8_t *after = NULL;
	struct vfsd_fan_event later;
	bool is_next = true;

	if (!(event->mask & FAN_DELETE_SELF) ||
	    !(event->mask & REPORTABLE & ~(uint64_t)FAN_DELETE_SELF))
		return false;
	/* To look through all that follows is worth it only for what is told at all. */
	known = vfsd_inode_find_handle(source->config.inodes, handle);
	vfsd_inode_put(source->config.inodes, known);
	if (!known)
		return false;
	while (vfsd_fan_next(&at, end, &later)) {
		bool renames_onto = is_next && later.pid == event->pid &&
				    (event->mask & FAN_ATTRIB) && (later.mask & FAN_MOVE_SELF);

		is_next = false;
		if (renames_onto || vfsd_fan_concerns(&later, handle))
			after = at;
	}
	if (!after || ends->count == VFSD_ARRAY_SIZE(ends->at))
		return false;
	vfsd_file_handle_copy(&ends->at[ends->count].handle, handle);
	ends->at[ends->count++].after = after;
	return true;
}

/* Tell the ends that were put off until @at, in their order. */
static void tell_ends(struct source *source, const struct vfsd_source_sink *sink, struct ends *ends,
		      const uint8_t *at)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < ends->count; i++) {
		struct place self = {0};

		if (ends->at[i].after > at) {
			ends->at[kept++] = ends->at[i];
			continue;
		}
		self.inode = vfsd_inode_find_handle(source->config.inodes, &ends->at[i].handle);
		if (self.inode)
			tell_end(sink, &self);
		leave(source, &self);
	}
	ends->count = kept;
}

/* The events of the batch. Returns how many. */
static uint64_t handle_events(struct source *source, const struct vfsd_source_sink *sink)
{
	const bool whole = vfsd_whole_active(source->whole);
	struct vfsd_batch *batch = &source->batch;
	struct ends ends = {.count = 0};
	struct vfsd_fan_event event;
	uint64_t count = 0;

	if (whole)
		vfsd_whole_begin(source->whole);
	for (; vfsd_fan_next(&batch->at, batch->end, &event); count++) {
		if (put_off(source, &ends, &event, batch->at, batch->end))
			event.mask &= ~(uint64_t)FAN_DELETE_SELF;
		if (whole)
			vfsd_whole_enter(source->whole, &event);
		handle_event(source, sink, &event);
		tell_ends(source, sink, &ends, batch->at);
	}
	/* An open directory does not end as long as it is. */
	close_dir(source);
	if (whole && vfsd_whole_lost(source->whole))
		sink->lost(sink->ctx);
	return count;
}

/* Events that the host holds now: FIONREAD counts the fixed part of each. */
static uint64_t waiting(const struct source *source)
{
	int bytes = 0;

	if (ioctl(source->base.fd, FIONREAD, &bytes) < 0)
		return 0;
	return (uint64_t)bytes / FAN_EVENT_METADATA_LEN;
}

static void drain(struct vfsd_source *base, const struct vfsd_source_sink *sink)
{
	struct source *source = (struct source *)base;
	uint64_t left = waiting(source);

	while (left > 0) {
		int got = vfsd_batch_read(&source->batch);
		uint64_t count;

		if (got < 0)
			VFSD_LOG_LIMITED(VFSD_LOG_ERROR, "fanotify: read failed errno=%d", -got);
		if (got <= 0)
			break;
		vfsd_fan_ahead_reset(source->ahead);
		count = handle_events(source, sink);
		sink->pass_on(sink->ctx);
		left -= count < left ? count : left;
	}
	vfsd_source_end_drain(base, sink);
	if (waiting(source) == 0)
		vfsd_names_forget(source->names);
}

const struct vfsd_source_ops vfsd_source_fanotify = {
	.create = create,
	.destroy = destroy,
	.watch = watch,
	.watch_whole = watch_whole,
	.let_go = let_go,
	.drain = drain,
};
