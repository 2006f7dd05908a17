/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/inotify - host events by inotify, for hosts and filesystems without usable fanotify.
 *
 * inotify does not say who acted. So this source reports CREATE, DELETE, MOVED_*, MOVE_SELF, MODIFY and
 * ATTRIB whoever caused them, and the guest does not raise those itself. OPEN, ACCESS, CLOSE_* and
 * DELETE_SELF are left to the guest, and those of the host are not reported. Where the guest raises
 * nothing at all (the old dialect), everything is reported.
 * The host reports a change of a file to its watch and, by name, to its directory's: two events, so
 * the second goes to the directory's watchers only.
 */
#include "source/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "inode/inode.h"
#include "source/inotify_watches.h"
#include "source/marks.h"
#include "source/read_buffer.h"

#define DIRENT (IN_CREATE | IN_DELETE | IN_MOVE)
#define REPORTED (DIRENT | IN_MOVE_SELF | IN_MODIFY | IN_ATTRIB)
/* Interest in anything at all keeps a watch: the end of an object is always reported. */
#define INTEREST (IN_ALL_EVENTS)
/* What is done by a name that may have gone since it was opened. */
#define BY_NAME (IN_ACCESS | IN_MODIFY | IN_CLOSE | IN_OPEN)

struct source {
	struct vfsd_source base;
	struct vfsd_source_config config;
	uint32_t reports; /* IN_* bits */
	struct vfsd_inotify_watches watches;
	struct vfsd_read_buffer buffer;
	/* Ends in the buffer that are reported before another event in it, instead of in their turn. */
	struct {
		uint32_t count;
		struct moved_end {
			const uint8_t *at, *before;
		} at[32];
	} ends;
};

static void destroy(struct vfsd_source *base)
{
	struct source *source = (struct source *)base;

	if (!source)
		return;
	if (base->fd >= 0)
		(void)close(base->fd);
	vfsd_inotify_watches_free(&source->watches);
	vfsd_read_buffer_free(&source->buffer);
	free(source);
}

static int create(const struct vfsd_source_config *config, struct vfsd_source **ret)
{
	struct source *source = calloc(1, sizeof(*source));
	int err;

	if (!source)
		return -ENOMEM;
	source->base.ops = &vfsd_source_inotify;
	source->config = *config;
	source->reports = config->everything ? IN_ALL_EVENTS : REPORTED;
	source->base.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	err = source->base.fd < 0 ? -errno : 0;
	source->watches.fd = source->base.fd;
	source->watches.config = &source->config;
	if (!err)
		err = vfsd_read_buffer_init(&source->buffer, source->base.fd);
	if (err) {
		destroy(&source->base);
		return err;
	}
	*ret = &source->base;
	return 0;
}

/* What the host must watch so that a guest interested in @mask receives all it needs. */
static uint32_t host_mask(const struct source *source, uint32_t mask, bool is_dir)
{
	uint32_t host = (mask & source->reports) | IN_ATTRIB | IN_DELETE_SELF;

	if (!(mask & INTEREST))
		return 0;
	/* What takes names away, see is_unnamed(). */
	if ((mask & VFSD_SOURCE_EXCL_UNLINK) && (host & BY_NAME))
		host |= is_dir ? IN_DELETE | IN_MOVE : IN_MOVE_SELF;
	return is_dir ? host : host & ~(uint32_t)DIRENT;
}

static int watch(struct vfsd_source *base, struct vfsd_inode *inode, uint32_t old_mask,
		 uint32_t new_mask)
{
	struct source *source = (struct source *)base;
	const uint32_t old = host_mask(source, old_mask, S_ISDIR(inode->type));
	const uint32_t mask = host_mask(source, new_mask, S_ISDIR(inode->type));
	int err;

	if (mask == old)
		return 0;
	if (mask == 0) {
		vfsd_inotify_end(&source->watches, inode->nodeid);
		return 0;
	}
	err = vfsd_inotify_begin(&source->watches, inode, mask);
	/* Who wants less can always have it: an inode that is gone reports nothing anyway. */
	return err == -ESTALE && !(mask & ~old) ? 0 : err;
}

/* Take the event at *at. False: there is none, or it is truncated. *name is borrowed, NULL: it has none. */
static bool next_event(const uint8_t **at, const uint8_t *end, struct inotify_event *ret,
		       const char **name)
{
	if (end - *at < (ptrdiff_t)sizeof(*ret))
		return false;
	memcpy(ret, *at, sizeof(*ret));
	if (ret->len > end - *at - (ptrdiff_t)sizeof(*ret))
		return false;
	*at += sizeof(*ret);
	*name = ret->len > 0 ? (const char *)*at : NULL;
	*at += ret->len;
	return true;
}

/* Is there an event of the same object, or @name in it, with one of @bits behind the one at hand? */
static bool is_ahead(struct source *source, int wd, const char *name, uint32_t bits)
{
	const uint8_t *at = source->buffer.at;
	struct inotify_event later;
	const char *its;
	bool all;

	do {
		while (next_event(&at, source->buffer.end, &later, &its))
			if (later.wd == wd && (later.mask & bits) &&
			    (name ? its && strcmp(its, name) == 0 : !its))
				return true;
	} while (vfsd_read_buffer_more(&source->buffer, VFSD_READ_BUFFER_AHEAD, &all));
	return !all;
}

/*
 * Was the name gone by which the object was opened? Looked for where somebody wants nothing of that
 * only. What is gone now may have gone after the event: then that is in the queue. inotify reports
 * nothing of the object that had the name, nor the watchers of an object by what name it was opened:
 * another of the same name, or any name that is left, counts as that.
 */
static bool is_unnamed(struct source *source, struct vfsd_inode *inode,
		       const struct inotify_event *event, const char *name)
{
	struct vfsd_inodes *inodes = source->config.inodes;
	bool transient, gone;
	struct statx st;
	int fd;

	if (!(event->mask & BY_NAME) || (event->mask & IN_ISDIR) ||
	    !(vfsd_marks_union(source->config.marks, inode->nodeid) & VFSD_SOURCE_EXCL_UNLINK))
		return false;
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	if (fd < 0)
		gone = fd == -ESTALE;
	else if (name)
		gone = vfsd_source_lost_name(fd, name, NULL);
	else
		gone = statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &st) == 0 && st.stx_nlink == 0;
	vfsd_inode_fd_put(fd, transient);
	return gone && !is_ahead(source, event->wd, name,
				 name ? IN_DELETE | IN_MOVE : IN_ATTRIB | IN_MOVE_SELF);
}

/* Behind @fresh, does something happen to @watch with one of @bits? */
static bool happens(const struct source *source, const uint8_t *fresh,
		    const struct vfsd_inotify_watch *watch, uint32_t bits)
{
	struct inotify_event event;
	const char *name;

	while (next_event(&fresh, source->buffer.end, &event, &name))
		if (event.wd == watch->wd && (event.mask & bits))
			return true;
	return false;
}

static bool is_moved(const struct source *source, const uint8_t *at)
{
	for (uint32_t i = 0; i < source->ends.count; i++)
		if (source->ends.at[i].at == at)
			return true;
	return false;
}

static void move_end(struct source *source, const uint8_t *at, const uint8_t *before)
{
	if (!is_moved(source, at) && source->ends.count < VFSD_ARRAY_SIZE(source->ends.at))
		source->ends.at[source->ends.count++] = (struct moved_end){at, before};
}

/* Put an end that is behind @fresh before what was removed since the last event of the object. */
static void put_end_right(struct source *source, const uint8_t *fresh,
			  const struct vfsd_inotify_watch *watch)
{
	const uint8_t *at = fresh, *here = at;
	struct inotify_event event;
	const uint8_t *removed = NULL;
	const char *name;

	for (; next_event(&at, source->buffer.end, &event, &name); here = at) {
		if (event.wd != watch->wd) {
			if ((event.mask & IN_DELETE) && !removed)
				removed = here;
		} else if (!(event.mask & IN_DELETE_SELF)) {
			removed = NULL;
		} else {
			if (removed)
				move_end(source, here, removed);
			return;
		}
	}
}

/* The same for all directories that end behind @fresh: one that is held holds those that it is in. */
static void put_ends_right(struct source *source, const uint8_t *fresh)
{
	const uint8_t *at = fresh;
	struct inotify_event event;
	const char *name;

	while (next_event(&at, source->buffer.end, &event, &name)) {
		const struct vfsd_inotify_watch *watch =
			event.mask & IN_DELETE_SELF ?
				vfsd_inotify_find_wd(&source->watches, event.wd) :
				NULL;
		struct vfsd_inode *inode =
			watch ? vfsd_inode_get(source->config.inodes, watch->nodeid) : NULL;

		if (inode && S_ISDIR(inode->type))
			put_end_right(source, fresh, watch);
		vfsd_inode_put(source->config.inodes, inode);
	}
}

/*
 * Looks up, and so holds for a moment, the object that has the name, and the directory. What the host
 * removes meanwhile loses its name first and ends later: that is put right.
 */
static uint64_t node_at(struct source *source, struct vfsd_inode *dir, const char *name)
{
	const uint8_t *fresh = source->buffer.end;
	const struct vfsd_inotify_watch *held;
	bool exists, transient, all;
	uint64_t child;
	int fd = vfsd_inode_fd_get(source->config.inodes, dir, &transient);

	if (fd < 0)
		return 0;
	child = vfsd_source_node_in(source->config.inodes, fd, name, &exists);
	held = child ? vfsd_inotify_find_node(&source->watches, child) : NULL;
	/* ATTRIB, with the last link, comes before the name goes. */
	if (held && vfsd_read_buffer_more(&source->buffer, VFSD_READ_BUFFER_AHEAD, &all) &&
	    happens(source, fresh, held, IN_ATTRIB)) {
		vfsd_source_await_removals(fd);
		(void)vfsd_read_buffer_more(&source->buffer, VFSD_READ_BUFFER_AHEAD, &all);
		put_end_right(source, fresh, held);
	}
	vfsd_source_outlast(fd);
	vfsd_inode_fd_put(fd, transient);
	if (vfsd_read_buffer_more(&source->buffer, VFSD_READ_BUFFER_AHEAD, &all))
		put_ends_right(source, fresh);
	return child;
}

static void report_named(struct source *source, const struct vfsd_source_sink *sink,
			 struct vfsd_inode *dir, const struct inotify_event *event,
			 const char *name)
{
	uint32_t bit = event->mask & source->reports;
	struct vfsd_source_event report = {
		.nodeid = dir->nodeid,
		.mask = bit | (event->mask & IN_ISDIR),
		.cookie = event->cookie,
		.parent_only = (bit & DIRENT) == 0,
		.name = name,
		.name_bytes = (uint32_t)strnlen(name, event->len),
	};

	if (bit == 0 || report.name_bytes == event->len)
		return;
	if (!source->config.everything && !(bit & (IN_DELETE | IN_MOVED_FROM)))
		report.child = node_at(source, dir, name);
	report.unnamed = is_unnamed(source, dir, event, name);
	sink->event(sink->ctx, &report);
}

static void report_self(struct source *source, const struct vfsd_source_sink *sink,
			struct vfsd_inode *inode, struct vfsd_inotify_watch *watch,
			const struct inotify_event *event)
{
	struct vfsd_source_event report = {
		.nodeid = inode->nodeid,
		.mask = event->mask & source->reports & ~(uint32_t)(DIRENT | IN_DELETE_SELF),
	};

	if (event->mask & IN_DELETE_SELF) {
		report.unlinked = !watch->ended;
	} else if (event->mask & IN_ATTRIB) {
		bool gone = vfsd_source_is_unlinked(source->config.inodes, inode);

		report.unlinked = gone && !watch->ended;
		watch->ended = gone;
	}
	if (report.mask == 0 && !report.unlinked)
		return;
	if (report.mask != 0)
		report.mask |= event->mask & IN_ISDIR;
	report.unnamed = is_unnamed(source, inode, event, NULL);
	sink->event(sink->ctx, &report);
}

/* @name is borrowed from behind the raw event. */
static void handle_event(struct source *source, const struct vfsd_source_sink *sink,
			 const struct inotify_event *event, const char *name)
{
	struct vfsd_inode *inode;
	struct vfsd_inotify_watch *watch;

	vfsd_source_took(&source->base, sink, event->mask & IN_Q_OVERFLOW);
	if (event->mask & IN_Q_OVERFLOW)
		return;
	watch = vfsd_inotify_find_wd(&source->watches, event->wd);
	if (!watch)
		return; /* of a watch that has been removed since */
	inode = vfsd_inode_get(source->config.inodes, watch->nodeid);
	if (inode) {
		if (name)
			report_named(source, sink, inode, event, name);
		else
			report_self(source, sink, inode, watch, event);
		vfsd_inode_put(source->config.inodes, inode);
	}
	if (event->mask & IN_IGNORED)
		vfsd_inotify_forget(&source->watches, watch);
}

static void handle_buffer(struct source *source, const struct vfsd_source_sink *sink)
{
	struct vfsd_read_buffer *buffer = &source->buffer;
	const uint8_t *here = buffer->at;
	struct inotify_event event;
	const char *name;

	source->ends.count = 0;
	for (; next_event(&buffer->at, buffer->end, &event, &name); here = buffer->at) {
		for (uint32_t i = 0; i < source->ends.count; i++) {
			const uint8_t *at = source->ends.at[i].at;
			struct inotify_event end;
			const char *none;

			if (source->ends.at[i].before == here &&
			    next_event(&at, buffer->end, &end, &none))
				handle_event(source, sink, &end, NULL);
		}
		if (!is_moved(source, here))
			handle_event(source, sink, &event, name);
	}
}

static void drain(struct vfsd_source *base, const struct vfsd_source_sink *sink)
{
	struct source *source = (struct source *)base;
	int waiting = 0;

	/* What the host holds now, bytes. */
	if (ioctl(base->fd, FIONREAD, &waiting) < 0)
		waiting = 0;
	while (waiting > 0) {
		int got = vfsd_read_buffer_read(&source->buffer);

		if (got < 0)
			VFSD_LOG_LIMITED(VFSD_LOG_ERROR, "inotify: read failed errno=%d", -got);
		if (got <= 0)
			break;
		handle_buffer(source, sink);
		sink->pass_on(sink->ctx);
		waiting -= (int)(source->buffer.end - source->buffer.bytes);
	}
	vfsd_source_end_drain(base, sink);
}

const struct vfsd_source_ops vfsd_source_inotify = {
	.server_mask = REPORTED,
	.create = create,
	.destroy = destroy,
	.watch = watch,
	.drain = drain,
};
