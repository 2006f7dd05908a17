/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_source - a source of host events that a test fills, and that remembers what it was asked to watch.
 *
 * There is one at a time: vfsd_events_create() and the registry of watch clients make it by its table of
 * operations. A lock protects queue and watches, because the event thread uses them, too.
 */
#ifndef VFSD_FAKE_SOURCE_H
#define VFSD_FAKE_SOURCE_H

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "inode/inode.h"
#include "source/source.h"

enum {
	FAKE_EVENTS_MAX = 64,
	FAKE_NAME_BYTES = 512,
	FAKE_WATCHES_MAX = 64,
	FAKE_SERVER_MASK = 0x20
};

struct fake_watch {
	uint64_t nodeid;
	uint32_t mask;
};

struct fake_source {
	struct vfsd_source source; /* first */
	struct vfsd_source_config config;
};

/* What outlives a source, so that a test can ask afterwards. */
static struct {
	pthread_mutex_t lock;
	struct fake_source *now; /* NULL: there is none */
	unsigned int created, destroyed, drained, released;
	int create_error, watch_error, filesystem_error;
	struct vfsd_source_event events[FAKE_EVENTS_MAX];
	char names[FAKE_EVENTS_MAX][FAKE_NAME_BYTES];
	size_t n_events;
	bool lost;
	struct fake_watch watches[FAKE_WATCHES_MAX], filesystems[FAKE_WATCHES_MAX];
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void fake_reset(void)
{
	CHECK(!fake.now);
	memset(fake.watches, 0, sizeof(fake.watches));
	memset(fake.filesystems, 0, sizeof(fake.filesystems));
	fake.created = fake.destroyed = fake.drained = fake.released = 0;
	fake.create_error = fake.watch_error = fake.filesystem_error = 0;
	fake.n_events = 0;
	fake.lost = false;
}

static inline uint32_t *fake_mask(struct fake_watch *table, uint64_t nodeid)
{
	struct fake_watch *unused = NULL;

	for (size_t i = 0; i < FAKE_WATCHES_MAX; i++) {
		if (table[i].nodeid == nodeid)
			return &table[i].mask;
		if (table[i].mask == 0)
			unused = &table[i];
	}
	CHECK(unused);
	unused->nodeid = nodeid;
	return &unused->mask;
}

static inline int fake_source_make(const struct vfsd_source_ops *ops,
				   const struct vfsd_source_config *config,
				   struct vfsd_source **ret)
{
	struct fake_source *source;

	if (fake.create_error)
		return fake.create_error;
	CHECK(!fake.now);
	source = calloc(1, sizeof(*source));
	CHECK(source);
	source->source.ops = ops;
	source->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(source->source.fd >= 0);
	source->config = *config;
	fake.now = source;
	fake.created++;
	*ret = &source->source;
	return 0;
}

static inline void fake_source_destroy(struct vfsd_source *base)
{
	struct fake_source *source = (struct fake_source *)(void *)base;

	CHECK(source == fake.now);
	CHECK_EQ(close(base->fd), 0);
	memset(fake.watches, 0, sizeof(fake.watches));
	memset(fake.filesystems, 0, sizeof(fake.filesystems));
	fake.now = NULL;
	fake.destroyed++;
	free(source);
}

static inline int fake_source_watch(struct vfsd_source *source, struct vfsd_inode *inode,
				    uint32_t old_mask, uint32_t new_mask)
{
	uint32_t *mask;

	(void)source;
	if (new_mask & ~old_mask && fake.watch_error)
		return fake.watch_error;
	pthread_mutex_lock(&fake.lock);
	mask = fake_mask(fake.watches, inode->nodeid);
	CHECK_EQ(*mask, old_mask);
	*mask = new_mask;
	pthread_mutex_unlock(&fake.lock);
	return 0;
}

static inline int fake_source_watch_filesystem(struct vfsd_source *source, struct vfsd_inode *root,
					       uint32_t mask)
{
	(void)source;
	if (mask && fake.filesystem_error)
		return fake.filesystem_error;
	*fake_mask(fake.filesystems, root->nodeid) = mask;
	return 0;
}

static inline void fake_source_release(struct vfsd_source *source)
{
	(void)source;
	fake.released++;
}

static inline void fake_source_drain(struct vfsd_source *source,
				     const struct vfsd_source_sink *sink)
{
	struct vfsd_source_event events[FAKE_EVENTS_MAX];
	char names[FAKE_EVENTS_MAX][FAKE_NAME_BYTES];
	eventfd_t count;
	size_t n;
	bool lost;

	(void)eventfd_read(source->fd, &count);
	/* The sink may ask for another watch: it is called without the lock. */
	pthread_mutex_lock(&fake.lock);
	fake.drained++;
	n = fake.n_events;
	lost = fake.lost;
	memcpy(events, fake.events, n * sizeof(*events));
	memcpy(names, fake.names, n * sizeof(*names));
	fake.n_events = 0;
	fake.lost = false;
	pthread_mutex_unlock(&fake.lock);
	for (size_t i = 0; i < n; i++) {
		if (events[i].name)
			events[i].name = names[i];
		sink->event(sink->ctx, &events[i]);
	}
	if (lost)
		sink->lost(sink->ctx);
}

static inline int fake_source_create_merged(const struct vfsd_source_config *config,
					    struct vfsd_source **ret);
static inline int fake_source_create_server(const struct vfsd_source_config *config,
					    struct vfsd_source **ret);

/* It can attribute events to a process, like fanotify. */
static const struct vfsd_source_ops fake_source_merged = {
	.create = fake_source_create_merged,
	.destroy = fake_source_destroy,
	.watch = fake_source_watch,
	.watch_filesystem = fake_source_watch_filesystem,
	.release_nodes = fake_source_release,
	.drain = fake_source_drain,
};

/* It cannot, like inotify, and has no filesystem marks. */
static const struct vfsd_source_ops fake_source_server = {
	.server_mask = FAKE_SERVER_MASK,
	.create = fake_source_create_server,
	.destroy = fake_source_destroy,
	.watch = fake_source_watch,
	.drain = fake_source_drain,
};

static inline int fake_source_create_merged(const struct vfsd_source_config *config,
					    struct vfsd_source **ret)
{
	return fake_source_make(&fake_source_merged, config, ret);
}

static inline int fake_source_create_server(const struct vfsd_source_config *config,
					    struct vfsd_source **ret)
{
	return fake_source_make(&fake_source_server, config, ret);
}

/* Queue an event, whose name is copied. Nobody is woken. */
static inline void fake_event(struct vfsd_source_event event)
{
	size_t i;

	pthread_mutex_lock(&fake.lock);
	i = fake.n_events++;
	CHECK(i < FAKE_EVENTS_MAX);
	if (event.name) {
		event.name_bytes = (uint32_t)strlen(event.name);
		CHECK(event.name_bytes < sizeof(fake.names[i]));
		memcpy(fake.names[i], event.name, event.name_bytes + 1);
		event.name = fake.names[i];
	}
	fake.events[i] = event;
	pthread_mutex_unlock(&fake.lock);
}

/* Queue an overflow of the host's queue, after all events. */
static inline void fake_loss(void)
{
	pthread_mutex_lock(&fake.lock);
	fake.lost = true;
	pthread_mutex_unlock(&fake.lock);
}

/* Wake whoever polls the source. */
static inline void fake_wake(void)
{
	CHECK_EQ(eventfd_write(fake.now->source.fd, 1), 0);
}

static inline uint32_t fake_watched(uint64_t nodeid)
{
	uint32_t mask;

	pthread_mutex_lock(&fake.lock);
	mask = *fake_mask(fake.watches, nodeid);
	pthread_mutex_unlock(&fake.lock);
	return mask;
}

static inline uint32_t fake_filesystem(uint64_t nodeid)
{
	return *fake_mask(fake.filesystems, nodeid);
}

#endif
