/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client - one watch client of a share, without a thread and without a host that raises events: a test queues
 * them, dispatches them, and reads the records as text.
 */
#ifndef VFSD_CLIENT_H
#define VFSD_CLIENT_H

#include <sys/fanotify.h>
#include <sys/socket.h>

#include "check.h"
#include "inode/inode.h"
#include "source/marks.h"
#include "source/source.h"
#include "tree.h"
#include "watch/internal.h"
#include "watch/path_tree.h"
#include "watch/shm_reader.h"
#include "watch/shm_ring.h"

enum { CLIENT_EVENTS_MAX = 8 };

struct client {
	struct tree tree; /* the share is "share" in it */
	struct vfsd_watch_registry registry;
	struct vfsd_watch *watch; /* the only one */
	vfsd_shm_reader *reader;
	int wakeups; /* the client's end of the connection */
	struct client_source {
		struct vfsd_source source; /* first */
		struct vfsd_source_event events[CLIENT_EVENTS_MAX];
		size_t n_events;
		bool lost;
	} host;
};

static inline int client_source_watch(struct vfsd_source *source, struct vfsd_inode *inode,
				      uint32_t old_mask, uint32_t new_mask)
{
	(void)source, (void)inode, (void)old_mask, (void)new_mask;
	return 0;
}

static inline void client_source_drain(struct vfsd_source *source,
				       const struct vfsd_source_sink *sink)
{
	struct client_source *host = (struct client_source *)(void *)source;

	if (host->lost)
		sink->lost(sink->ctx);
	for (size_t i = 0; i < host->n_events; i++)
		sink->event(sink->ctx, &host->events[i]);
	host->n_events = 0;
	host->lost = false;
}

static const struct vfsd_source_ops client_source_ops = {
	.watch = client_source_watch,
	.drain = client_source_drain,
};

/* A client of everything in a share with the directory "a/b". Nothing is watched yet. */
static inline void client_create(struct client *client, const char *path, bool recursive)
{
	struct vfsd_watch_consumer *consumer =
		calloc(1, sizeof(*consumer) + sizeof(*client->watch));
	struct vfsd_inodes_config inodes = {.options.file_handles = VFSD_HANDLES_NEVER,
					    .need_handles = true};
	struct vfsd_watch_registry *registry = &client->registry;
	int ends[2];

	*client = (struct client){.host.source.ops = &client_source_ops};
	tree_create(&client->tree);
	CHECK_EQ(mkdirat(client->tree.fd, "share", 0700), 0);
	registry->config.root_fd = openat(client->tree.fd, "share", O_PATH | O_CLOEXEC);
	CHECK_EQ(mkdirat(registry->config.root_fd, "a", 0700), 0);
	CHECK_EQ(mkdirat(registry->config.root_fd, "a/b", 0700), 0);
	inodes.proc_self_fd = registry->config.proc_self_fd = tree_proc_self_fd();
	CHECK_EQ(vfsd_inodes_create(&inodes, dup(registry->config.root_fd), &registry->inodes), 0);
	CHECK_EQ(vfsd_marks_create(&registry->marks) | vfsd_marks_create(&registry->error_marks),
		 0);
	vfsd_fairlock_init(&registry->lock);
	registry->source = &client->host.source;
	registry->epoll_fd = registry->wake_fd = -1;

	CHECK(consumer);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	CHECK_EQ(vfsd_shm_ring_create(VFSD_SHM_RING_BYTES_MIN, &consumer->ring), 0);
	CHECK_EQ(vfsd_shm_reader_create(vfsd_shm_ring_fd(consumer->ring), &client->reader), 0);
	consumer->notify_fd = ends[0];
	client->wakeups = ends[1];
	consumer->types = ~0u & ~(1u << VFSD_RECORD_ERROR); /* which would take the host */
	memset(consumer->subtypes, 0xff, sizeof(consumer->subtypes));
	consumer->n_watches = 1;
	registry->consumers = consumer;
	client->watch = &consumer->watches[0];
	*client->watch = (struct vfsd_watch){
		.consumer = consumer,
		.owner = 1,
		.id = 7,
		.mask = VFSD_WATCH_EVENTS,
		.recursive = recursive,
		.path = strdup(path),
	};
}

static inline void client_destroy(struct client *client)
{
	struct vfsd_watch_registry *registry = &client->registry;
	struct vfsd_watch_consumer *consumer = registry->consumers;

	vfsd_watch_end(registry, client->watch);
	CHECK_EQ(vfsd_marks_count(registry->marks), 0);
	vfsd_shm_reader_destroy(client->reader);
	vfsd_shm_ring_destroy(consumer->ring);
	free(client->watch->path);
	CHECK_EQ(close(consumer->notify_fd) | close(client->wakeups), 0);
	free(consumer);
	free(registry->scans);
	vfsd_marks_destroy(registry->marks);
	vfsd_marks_destroy(registry->error_marks);
	vfsd_inodes_destroy(registry->inodes);
	vfsd_fairlock_destroy(&registry->lock);
	CHECK_EQ(close(registry->config.root_fd) | close(registry->config.proc_self_fd), 0);
	tree_destroy(&client->tree);
}

/* Begin to watch, and scan what there is. */
static inline void client_begin(struct client *client)
{
	vfsd_watch_begin(&client->registry, client->watch);
	while (vfsd_watch_dispatch(&client->registry))
		;
}

/* The node id of a directory that is watched, by its path below the watch's. 0: none. */
static inline uint64_t client_node(const struct client *client, const char *path)
{
	uint64_t nodeid = vfsd_path_tree_root(client->watch->tree);
	char copy[PATH_MAX], *rest = copy, *name;

	(void)snprintf(copy, sizeof(copy), "%s", path);
	while (nodeid && (name = strsep(&rest, "/")))
		if (*name)
			nodeid = vfsd_path_tree_child(client->watch->tree, nodeid, name);
	return nodeid;
}

static inline void client_format(const vfsd_ring_entry *entry, char *text, size_t room)
{
	static const char *const kinds[] = {
		"access",     "modify",	  "attrib", "close_write", "close_nowrite", "open",
		"moved_from", "moved_to", "create", "delete",	   "delete_self",   "move_self",
	};
	static const char *const statuses[] = {"ready", "failed", "incomplete", "gone",
					       "no_errors"};
	const struct vfsd_watch_event_payload *event = entry->payload;
	const char *path = (const char *)(event + 1);
	const struct vfsd_watch_mount_payload *mount = entry->payload;

	if (entry->type == VFSD_RECORD_LOSS) {
		(void)snprintf(text, room, "loss %llu", (unsigned long long)entry->lost);
		return;
	}
	CHECK_EQ(entry->watch, 7);
	if (entry->type == VFSD_RECORD_MOUNT || entry->type == VFSD_RECORD_SUPERBLOCK) {
		(void)snprintf(text, room, "mount %.*s", (int)mount->path_bytes,
			       (const char *)(mount + 1));
		return;
	}
	CHECK_EQ(entry->bytes, sizeof(*event) + event->path_bytes);
	if (entry->type == VFSD_RECORD_FSNOTIFY)
		CHECK_EQ(event->mask & VFSD_WATCH_EVENTS, 1u << entry->subtype);
	(void)snprintf(text, room, "%s%s %.*s%s", event->flags & VFSD_EVENT_FOUND ? "found " : "",
		       entry->type == VFSD_RECORD_FSNOTIFY ? kinds[entry->subtype] :
		       entry->type == VFSD_RECORD_WATCH	   ? statuses[entry->subtype] :
							     "error",
		       (int)event->path_bytes, path, event->mask & FAN_ONDIR ? "/" : "");
}

/* All records there are, as text, must be @want: each ends with a newline. */
static inline void client_expect(struct client *client, const char *want)
{
	char text[PATH_MAX + 64], all[65536] = "";
	vfsd_ring_entry entry;
	size_t used = 0;

	while (vfsd_shm_reader_next(client->reader, &entry) == 1) {
		client_format(&entry, text, sizeof(text));
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s\n", text);
		CHECK(used < sizeof(all));
		vfsd_shm_reader_release(client->reader);
	}
	if (strcmp(all, want) != 0) {
		(void)fprintf(stderr, "records:\n%swanted:\n%s", all, want);
		CHECK(!"the records that were wanted");
	}
}

#endif
