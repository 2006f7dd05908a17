/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source_inotify - host events by inotify, for hosts and filesystems without usable fanotify.
 *
 * inotify does not say who acted. So it tells CREATE, DELETE, MOVED_*, MOVE_SELF, MODIFY and ATTRIB
 * for everybody's doing, and the guest leaves those to us; OPEN, ACCESS, CLOSE_* and DELETE_SELF stay
 * the guest's own, and the host's are not told. Where the guest raises nothing at all (the old
 * dialect), everything is told.
 * A change of a file is told to its watch and, by name, to its directory's: two events, so the
 * second goes to the directory's watchers only.
 */
#include "source/source.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/read_buffer.h"
#include "inode/inode.h"
#include "base/log.h"
#include "base/proc_fd.h"
#include "source/marks.h"
#include "base/util.h"

#define DIRENT (IN_CREATE | IN_DELETE | IN_MOVE)
#define TOLD (DIRENT | IN_MOVE_SELF | IN_MODIFY | IN_ATTRIB)
/* Interest in anything at all keeps a watch: the end of an object is always told. */
#define INTEREST (IN_ALL_EVENTS)
/* What is done by a name that may have gone since it was opened. */
#define BY_NAME (IN_ACCESS | IN_MODIFY | IN_CLOSE | IN_OPEN)

struct watch {
	uint64_t nodeid;
	int wd;
	uint32_t mask;
	bool ended; /* told already */
};

struct source {
	struct vfsd_source base;
	struct vfsd_source_config config;
	uint32_t told; /* the bits that we report */
	void *by_wd;   /* trees of struct watch, see tsearch(3) */
	void *by_node;
	uint32_t watches;
	struct vfsd_batch batch;
};

static int compare_wd(const void *a, const void *b)
{
	const struct watch *left = a, *right = b;

	return (left->wd > right->wd) - (left->wd < right->wd);
}

static int compare_node(const void *a, const void *b)
{
	const struct watch *left = a, *right = b;

	return (left->nodeid > right->nodeid) - (left->nodeid < right->nodeid);
}

static struct watch *find(void *const *tree, const struct watch *key,
			  int (*compare)(const void *, const void *))
{
	struct watch **found = tfind(key, tree, compare);

	return found ? *found : NULL;
}

static struct watch *find_node(const struct source *source, uint64_t nodeid)
{
	struct watch key = {.nodeid = nodeid};

	return find(&source->by_node, &key, compare_node);
}

static struct watch *find_wd(const struct source *source, int wd)
{
	struct watch key = {.wd = wd};

	return find(&source->by_wd, &key, compare_wd);
}

static void forget_watch(struct source *source, struct watch *watch)
{
	(void)tdelete(watch, &source->by_wd, compare_wd);
	(void)tdelete(watch, &source->by_node, compare_node);
	free(watch);
	source->watches--;
}

static int remember_watch(struct source *source, uint64_t nodeid, int wd, uint32_t mask)
{
	struct watch *stale = find_wd(source, wd);
	struct watch *watch;

	/* The same object under an older node id, which the guest has forgotten: the watch moves on. */
	if (stale)
		forget_watch(source, stale);
	watch = malloc(sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	*watch = (struct watch){.nodeid = nodeid, .wd = wd, .mask = mask};
	if (!tsearch(watch, &source->by_wd, compare_wd)) {
		free(watch);
		return -ENOMEM;
	}
	if (!tsearch(watch, &source->by_node, compare_node)) {
		(void)tdelete(watch, &source->by_wd, compare_wd);
		free(watch);
		return -ENOMEM;
	}
	source->watches++;
	return 0;
}

static void keep(void *watch)
{
	(void)watch; /* it is in the other tree too */
}

static void destroy(struct vfsd_source *base)
{
	struct source *source = (struct source *)base;

	if (!source)
		return;
	if (base->fd >= 0)
		(void)close(base->fd);
	tdestroy(source->by_wd, keep);
	tdestroy(source->by_node, free);
	vfsd_batch_free(&source->batch);
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
	source->told = config->everything ? IN_ALL_EVENTS : TOLD;
	source->base.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	err = source->base.fd < 0 ? -errno : 0;
	if (!err)
		err = vfsd_batch_init(&source->batch, source->base.fd);
	if (err) {
		destroy(&source->base);
		return err;
	}
	*ret = &source->base;
	return 0;
}

/* What the host must watch so that a guest interested in @mask hears all it needs. */
static uint32_t host_mask(const struct source *source, uint32_t mask, bool is_dir)
{
	uint32_t host = (mask & source->told) | IN_ATTRIB | IN_DELETE_SELF;

	if (!(mask & INTEREST))
		return 0;
	/* What takes names away, see is_unnamed(). */
	if ((mask & VFSD_SOURCE_EXCL_UNLINK) && (host & BY_NAME))
		host |= is_dir ? IN_DELETE | IN_MOVE : IN_MOVE_SELF;
	return is_dir ? host : host & ~(uint32_t)DIRENT;
}

/*
 * inotify takes paths only, and ours is relative to /proc/self/fd, which need not be reachable from
 * our root. So the thread gets a working directory of its own; nothing else of us uses one.
 */
static int add_watch(const struct source *source, int inode_fd, uint32_t mask)
{
	static _Thread_local bool own_directory;
	int wd;

	if (!own_directory) {
		if (unshare(CLONE_FS) < 0 || fchdir(source->config.proc_self_fd) < 0)
			return -errno;
		own_directory = true;
	}
	wd = inotify_add_watch(source->base.fd, vfsd_proc_name(inode_fd).name, mask);
	return wd < 0 ? -errno : wd;
}

static int begin(struct source *source, struct vfsd_inode *inode, uint32_t mask)
{
	struct watch *watch = find_node(source, inode->nodeid);
	bool transient;
	int fd, wd, err;

	fd = vfsd_source_begin(&source->config, inode, source->watches, source->config.max_watches,
			       !watch, &transient);
	if (fd < 0)
		return fd;
	wd = add_watch(source, fd, mask);
	vfsd_inode_fd_put(fd, transient);
	if (wd < 0)
		return wd;
	if (watch && watch->wd == wd) {
		watch->mask = mask;
		return 0;
	}
	if (watch)
		forget_watch(source, watch);
	err = remember_watch(source, inode->nodeid, wd, mask);
	if (err)
		(void)inotify_rm_watch(source->base.fd, wd);
	return err;
}

static int watch(struct vfsd_source *base, struct vfsd_inode *inode, uint32_t old_mask,
		 uint32_t new_mask)
{
	struct source *source = (struct source *)base;
	const uint32_t old = host_mask(source, old_mask, S_ISDIR(inode->type));
	const uint32_t mask = host_mask(source, new_mask, S_ISDIR(inode->type));
	struct watch *watch;
	int err;

	if (mask == old)
		return 0;
	if (mask != 0) {
		err = begin(source, inode, mask);
		/* Who wants less can always have it: an inode that is gone reports nothing anyway. */
		return err == -ESTALE && !(mask & ~old) ? 0 : err;
	}
	watch = find_node(source, inode->nodeid);
	if (watch) {
		(void)inotify_rm_watch(base->fd, watch->wd);
		forget_watch(source, watch);
	}
	return 0;
}

/* Take the event at *at. False: there is no whole one. *name is borrowed, NULL: it has none. */
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
	const uint8_t *at = source->batch.at;
	struct inotify_event later;
	const char *its;
	bool whole;

	do {
		while (next_event(&at, source->batch.end, &later, &its))
			if (later.wd == wd && (later.mask & bits) &&
			    (name ? its && strcmp(its, name) == 0 : !its))
				return true;
	} while (vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &whole));
	return !whole;
}

/*
 * Was the name gone by which the object was opened? Looked for where somebody wants nothing of that
 * only. What is gone now may have gone after the event: then that is in the queue. inotify tells
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
static bool happens(const struct source *source, const uint8_t *fresh, const struct watch *watch,
		    uint32_t bits)
{
	struct inotify_event event;
	const char *name;

	while (next_event(&fresh, source->batch.end, &event, &name))
		if (event.wd == watch->wd && (event.mask & bits))
			return true;
	return false;
}

/* Put an end that is behind @fresh before what was removed since the object was last told of. */
static void put_end_right(struct source *source, const uint8_t *fresh, const struct watch *watch)
{
	const uint8_t *at = fresh, *here = at;
	struct inotify_event event;
	uint8_t *removed = NULL;
	const char *name;

	for (; next_event(&at, source->batch.end, &event, &name); here = at) {
		if (event.wd != watch->wd) {
			if ((event.mask & IN_DELETE) && !removed)
				removed = source->batch.buffer + (here - source->batch.buffer);
		} else if (!(event.mask & IN_DELETE_SELF)) {
			removed = NULL;
		} else if (removed) {
			memmove(removed + sizeof(event), removed, (size_t)(here - removed));
			memcpy(removed, &event, sizeof(event)); /* it has no name */
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

	while (next_event(&at, source->batch.end, &event, &name)) {
		const struct watch *watch =
			event.mask & IN_DELETE_SELF ? find_wd(source, event.wd) : NULL;
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
	const uint8_t *fresh = source->batch.end;
	const struct watch *held;
	bool exists, transient, whole;
	uint64_t child;
	int fd = vfsd_inode_fd_get(source->config.inodes, dir, &transient);

	if (fd < 0)
		return 0;
	child = vfsd_source_node_in(source->config.inodes, fd, name, &exists);
	held = child ? find_node(source, child) : NULL;
	/* ATTRIB, with the last link, comes before the name goes. */
	if (held && vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &whole) &&
	    happens(source, fresh, held, IN_ATTRIB)) {
		vfsd_source_await_removals(fd);
		(void)vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &whole);
		put_end_right(source, fresh, held);
	}
	vfsd_source_outlast(fd);
	vfsd_inode_fd_put(fd, transient);
	if (vfsd_batch_more(&source->batch, VFSD_BATCH_AHEAD, &whole))
		put_ends_right(source, fresh);
	return child;
}

static void tell_named(struct source *source, const struct vfsd_source_sink *sink,
		       struct vfsd_inode *dir, const struct inotify_event *event, const char *name)
{
	uint32_t bit = event->mask & source->told;
	struct vfsd_source_event told = {
		.nodeid = dir->nodeid,
		.mask = bit | (event->mask & IN_ISDIR),
		.cookie = event->cookie,
		.parent_only = (bit & DIRENT) == 0,
		.name = name,
		.name_bytes = (uint32_t)strnlen(name, event->len),
	};

	if (bit == 0 || told.name_bytes == event->len)
		return;
	if (!source->config.everything && !(bit & (IN_DELETE | IN_MOVED_FROM)))
		told.child = node_at(source, dir, name);
	told.unnamed = is_unnamed(source, dir, event, name);
	sink->event(sink->ctx, &told);
}

static void tell_self(struct source *source, const struct vfsd_source_sink *sink,
		      struct vfsd_inode *inode, struct watch *watch,
		      const struct inotify_event *event)
{
	struct vfsd_source_event told = {
		.nodeid = inode->nodeid,
		.mask = event->mask & source->told & ~(uint32_t)(DIRENT | IN_DELETE_SELF),
	};

	if (event->mask & IN_DELETE_SELF) {
		told.unlinked = !watch->ended;
	} else if (event->mask & IN_ATTRIB) {
		bool gone = vfsd_source_is_unlinked(source->config.inodes, inode);

		told.unlinked = gone && !watch->ended;
		watch->ended = gone;
	}
	if (told.mask == 0 && !told.unlinked)
		return;
	if (told.mask != 0)
		told.mask |= event->mask & IN_ISDIR;
	told.unnamed = is_unnamed(source, inode, event, NULL);
	sink->event(sink->ctx, &told);
}

/* @name is borrowed from behind the raw event. */
static void handle_event(struct source *source, const struct vfsd_source_sink *sink,
			 const struct inotify_event *event, const char *name)
{
	struct vfsd_inode *inode;
	struct watch *watch;

	vfsd_source_took(&source->base, sink, event->mask & IN_Q_OVERFLOW);
	if (event->mask & IN_Q_OVERFLOW)
		return;
	watch = find_wd(source, event->wd);
	if (!watch)
		return; /* of a watch that has been removed since */
	inode = vfsd_inode_get(source->config.inodes, watch->nodeid);
	if (inode) {
		if (name)
			tell_named(source, sink, inode, event, name);
		else
			tell_self(source, sink, inode, watch, event);
		vfsd_inode_put(source->config.inodes, inode);
	}
	if (event->mask & IN_IGNORED)
		forget_watch(source, watch);
}

static void drain(struct vfsd_source *base, const struct vfsd_source_sink *sink)
{
	struct source *source = (struct source *)base;
	struct inotify_event event;
	const char *name;
	int waiting = 0;

	/* What the host holds now, bytes. */
	if (ioctl(base->fd, FIONREAD, &waiting) < 0)
		waiting = 0;
	while (waiting > 0) {
		int got = vfsd_batch_read(&source->batch);

		if (got < 0)
			VFSD_LOG_LIMITED(VFSD_LOG_ERROR, "inotify: read failed errno=%d", -got);
		if (got <= 0)
			break;
		while (next_event(&source->batch.at, source->batch.end, &event, &name))
			handle_event(source, sink, &event, name);
		sink->pass_on(sink->ctx);
		waiting -= (int)(source->batch.end - source->batch.buffer);
	}
	vfsd_source_end_drain(base, sink);
}

const struct vfsd_source_ops vfsd_source_inotify = {
	.server_mask = TOLD,
	.create = create,
	.destroy = destroy,
	.watch = watch,
	.drain = drain,
};
