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
#include "source.h"

#include <errno.h>
#include <search.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inode.h"
#include "log.h"
#include "util.h"

#define DIRENT (IN_CREATE | IN_DELETE | IN_MOVE)
#define TOLD (DIRENT | IN_MOVE_SELF | IN_MODIFY | IN_ATTRIB)
/* Interest in anything at all keeps a watch: the end of an object is always told. */
#define INTEREST (IN_ALL_EVENTS)

enum { READ_BYTES = 65536 };

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
	uint8_t *buffer;
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
	free(source->buffer);
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
	source->buffer = malloc(READ_BYTES);
	source->base.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	err = source->base.fd < 0 ? -errno : 0;
	if (!err && !source->buffer)
		err = -ENOMEM;
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
	if (!(mask & INTEREST))
		return 0;
	mask = (mask & source->told) | IN_ATTRIB | IN_DELETE_SELF;
	return is_dir ? mask : mask & ~(uint32_t)DIRENT;
}

/*
 * inotify takes paths only, and ours is relative to /proc/self/fd, which need not be reachable from
 * our root. So the thread gets a working directory of its own; nothing else of us uses one.
 */
static int add_watch(const struct source *source, int inode_fd, uint32_t mask)
{
	static _Thread_local bool own_directory;
	char link[16];
	int wd;

	if (!own_directory) {
		if (unshare(CLONE_FS) < 0 || fchdir(source->config.proc_self_fd) < 0)
			return -errno;
		own_directory = true;
	}
	(void)snprintf(link, sizeof(link), "%d", inode_fd);
	wd = inotify_add_watch(source->base.fd, link, mask);
	return wd < 0 ? -errno : wd;
}

static int begin(struct source *source, struct vfsd_inode *inode, uint32_t mask)
{
	struct watch *watch = find_node(source, inode->nodeid);
	bool transient;
	int fd, wd, err;

	fd = vfsd_source_begin(&source->config, inode, source->watches, !watch, &transient);
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
	uint32_t mask = host_mask(source, new_mask, S_ISDIR(inode->type));
	struct watch *watch;

	if (mask == host_mask(source, old_mask, S_ISDIR(inode->type)))
		return 0;
	if (mask != 0)
		return begin(source, inode, mask);
	watch = find_node(source, inode->nodeid);
	if (watch) {
		(void)inotify_rm_watch(base->fd, watch->wd);
		forget_watch(source, watch);
	}
	return 0;
}

static void tell_named(const struct source *source, const struct vfsd_source_sink *sink,
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
	bool exists;

	if (bit == 0 || told.name_bytes == event->len)
		return;
	if (!source->config.everything && !(bit & (IN_DELETE | IN_MOVED_FROM)))
		told.child = vfsd_source_node_at(source->config.inodes, dir, name, &exists);
	sink->event(sink->ctx, &told);
}

static void tell_self(const struct source *source, const struct vfsd_source_sink *sink,
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
	sink->event(sink->ctx, &told);
}

/* @name is borrowed from behind the raw event. */
static void handle_event(struct source *source, const struct vfsd_source_sink *sink,
			 const struct inotify_event *event, const char *name)
{
	struct vfsd_inode *inode;
	struct watch *watch;

	if (event->mask & IN_Q_OVERFLOW) {
		sink->lost(sink->ctx);
		return;
	}
	watch = find_wd(source, event->wd);
	if (!watch)
		return; /* of a watch that has been removed since */
	inode = vfsd_inode_get(source->config.inodes, watch->nodeid);
	if (inode) {
		if (event->len > 0)
			tell_named(source, sink, inode, event, name);
		else
			tell_self(source, sink, inode, watch, event);
		vfsd_inode_put(source->config.inodes, inode);
	}
	if (event->mask & IN_IGNORED)
		forget_watch(source, watch);
}

static void handle_events(struct source *source, const struct vfsd_source_sink *sink, size_t got)
{
	const uint8_t *at = source->buffer, *end = at + got;
	struct inotify_event event;

	while (end - at >= (ptrdiff_t)sizeof(event)) {
		memcpy(&event, at, sizeof(event));
		at += sizeof(event);
		if (event.len > end - at)
			break;
		handle_event(source, sink, &event, (const char *)at);
		at += event.len;
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
		ssize_t got = read(base->fd, source->buffer, READ_BYTES);

		if (got <= 0) {
			if (got < 0 && errno != EAGAIN && errno != EINTR)
				VFSD_LOG_LIMITED(VFSD_LOG_ERROR, "inotify: read failed errno=%d",
						 errno);
			return;
		}
		handle_events(source, sink, (size_t)got);
		sink->pass_on(sink->ctx);
		waiting -= (int)got;
	}
}

const struct vfsd_source_ops vfsd_source_inotify = {
	.server_mask = TOLD,
	.create = create,
	.destroy = destroy,
	.watch = watch,
	.drain = drain,
};
