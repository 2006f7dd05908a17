/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/dirty_log.h"
#include "device/internal.h"
#include "fsnotify/events.h"
#include "fuse/fuse.h"
#include "inode/open_file.h"
#include "hostfs/hostfs.h"
#include "fuse/id_map.h"
#include "inode/inode.h"
#include "watch/watch.h"
#include "base/log_queue.h"
#include "virtio/mem.h"
#include "migrate/migrate.h"
#include "fsnotify/notify.h"
#include "source/source.h"
#include "base/thread.h"
#include "fuse/upcall.h"
#include "base/util.h"
#include "fuse/wire.h"
#include "fuse/xattr_map.h"

_Static_assert((int)VFSD_LOG_LINE_BYTES == (int)VFSD_LOG_QUEUE_LINE_BYTES, "one line, two names");

void vfsd_engine_get_stats(const vfsd_engine *engine, vfsd_engine_stats *ret)
{
	*ret = (vfsd_engine_stats){
		.inodes = vfsd_inodes_count(engine->inodes),
		.open_files = vfsd_open_files_count(engine->handles),
	};
}

int vfsd_engine_probe_fsnotify(vfsd_engine *engine, int *why)
{
	*why = -EOPNOTSUPP;
	return engine->events ? vfsd_events_probe(engine->events, why) : *why;
}

uint32_t vfsd_engine_notify_buf_bytes(void)
{
	return VFSD_NOTIFY_BYTES_OFFERED;
}

void vfsd_engine_interrupt(void)
{
	vfsd_threads_interrupt();
}

int vfsd_engine_log_fd(const vfsd_engine *engine)
{
	return vfsd_logqueue_fd(engine->log);
}

int vfsd_engine_next_log(vfsd_engine *engine, char *line, int *level)
{
	return vfsd_logqueue_next(engine->log, line, level) ? 1 : 0;
}

int vfsd_engine_upcall_fd(const vfsd_engine *engine)
{
	return vfsd_upcalls_fd(engine->upcalls);
}

int vfsd_engine_next_upcall(vfsd_engine *engine, vfsd_engine_upcall *ret)
{
	const struct vfsd_upcall *call;
	enum vfsd_upcall_news news = vfsd_upcalls_next(engine->upcalls, &call);

	if (news == VFSD_UPCALL_NONE)
		return 0;
	*ret = (vfsd_engine_upcall){
		.id = call->id,
		.gone = news == VFSD_UPCALL_GONE,
		.opcode = call->header.opcode,
		.uid = call->header.uid,
		.gid = call->header.gid,
		.pid = call->header.pid,
		.nodeid = call->header.nodeid,
		.unique = call->header.unique,
		.body = call->body,
		.body_bytes = (uint32_t)call->body_bytes,
		.room_bytes = (uint32_t)call->room_bytes,
	};
	return 1;
}

int vfsd_engine_answer_upcall(vfsd_engine *engine, uint64_t id, int error, const void *payload,
			      uint32_t bytes)
{
	return vfsd_upcalls_answer(engine->upcalls, id, error, payload, bytes);
}

int vfsd_engine_open_node(vfsd_engine *engine, uint64_t nodeid, int flags)
{
	struct vfsd_inode *inode = vfsd_fuse_inode(engine->fuse, nodeid);
	int fd;

	if (!inode)
		return -ESTALE;
	fd = vfsd_inode_open(engine->inodes, inode, flags);
	vfsd_inode_put(engine->inodes, inode);
	return fd;
}

static int create_xattrmap(struct vfsd_engine *engine)
{
	static const char capability[] = "security.capability";
	const vfsd_engine_config *config = &engine->config;
	int err;

	if (config->xattrmap_rules == 0)
		return 0;
	err = vfsd_xattrmap_create(config->xattrmap, config->xattrmap_rules, &engine->xattrmap);
	if (err)
		return err;
	if (!vfsd_xattrmap_to_host(engine->xattrmap, true, capability, engine->capability_name) &&
	    strcmp(engine->capability_name, capability) != 0)
		vfsd_hostfs_set_capability_name(engine->hostfs, engine->capability_name);
	return 0;
}

static int create_idmap(struct vfsd_engine *engine)
{
	const uint32_t *n = engine->config.id_ranges;

	if (n[0] == 0 && n[1] == 0 && n[2] == 0 && n[3] == 0)
		return 0;
	return vfsd_idmap_create(engine->config.ids, n, &engine->idmap);
}

static int create_migrate(struct vfsd_engine *engine)
{
	const struct vfsd_state_config state = {
		.options = engine->config.migration,
		.open = engine->config.fuse,
		.inodes = engine->inodes,
		.open_files = engine->handles,
		.fuse = engine->fuse,
		.events = engine->events,
		.proc_self_fd = engine->config.proc_self_fd,
	};

	return vfsd_migrate_create(&state, &engine->migrate);
}

static int create_watch_registry(struct vfsd_engine *engine)
{
	const struct vfsd_watch_config watch = {
		.options = engine->config.watch,
		.inode = engine->config.inode,
		.source = &vfsd_source_fanotify,
		.fallback = &vfsd_source_inotify,
		.root_fd = engine->root_fd,
		.proc_self_fd = engine->config.proc_self_fd,
	};

	return vfsd_watch_registry_create(&watch, &engine->watches);
}

int vfsd_engine_add_consumer(vfsd_engine *engine, const vfsd_watch_request *request, int notify_fd,
			     int *ring_fd)
{
	return vfsd_watch_add_consumer(engine->watches, request, notify_fd, ring_fd);
}

int vfsd_engine_remove_consumer(vfsd_engine *engine, int consumer)
{
	return vfsd_watch_remove_consumer(engine->watches, consumer);
}

void vfsd_engine_report_mount(vfsd_engine *engine, const vfsd_watch_mount *mount)
{
	vfsd_watch_report_mount(engine->watches, mount);
}

struct expiry {
	struct vfsd_events *events;
	const char *name;
};

static void expire_one(void *ctx, const struct vfsd_inode *inode)
{
	const struct expiry *expiry = ctx;

	vfsd_events_expire(expiry->events, inode->nodeid, expiry->name);
}

void vfsd_engine_expire(vfsd_engine *engine, uint64_t dev, uint64_t ino, const char *name)
{
	struct expiry expiry = {.events = engine->events, .name = name};

	if (!engine->events)
		return;
	vfsd_events_mounts_changed(engine->events);
	vfsd_inodes_find_ident(engine->inodes, dev, ino, expire_one, &expiry);
}

enum { KEPT_MAX = 4096 };

/* Of the guest's descriptors, how many it has only for a moment. */
static uint32_t cached_fds_max(uint32_t quota)
{
	uint32_t part = quota / 16;

	return quota == 0 || part > KEPT_MAX ? KEPT_MAX : part;
}

/* Do we report by fanotify what the guest does not report itself? */
static bool is_merged(const vfsd_engine_config *config)
{
	return config->fsnotify.fsnotify == VFSD_FSNOTIFY_MERGED &&
	       config->fsnotify.dialect != VFSD_DIALECT_RFC2021;
}

static int create_events(struct vfsd_engine *engine, struct vfsd_fuse_hooks *hooks)
{
	const vfsd_engine_config *config = &engine->config;
	const bool merged = is_merged(config);
	const struct vfsd_events_config events = {
		.options = config->fsnotify,
		.source = merged ? &vfsd_source_fanotify : &vfsd_source_inotify,
		.fallback = merged ? &vfsd_source_inotify : NULL,
		.inodes = engine->inodes,
		.proc_self_fd = config->proc_self_fd,
		.cross_mounts = !config->fuse.announce_submounts,
		.rfc2021 = config->fsnotify.dialect == VFSD_DIALECT_RFC2021,
	};
	int err;

	if (config->fsnotify.fsnotify == VFSD_FSNOTIFY_OFF)
		return 0;
	err = vfsd_events_create(&events, &engine->events);
	if (!err)
		*hooks = vfsd_events_hooks(engine->events);
	return err;
}

static int create_fuse(struct vfsd_engine *engine, const struct vfsd_fuse_hooks *hooks)
{
	const vfsd_engine_config *config = &engine->config;
	const struct vfsd_fuse_config fuse = {
		.options = config->fuse,
		.rfc2021 = engine->events && config->fsnotify.dialect == VFSD_DIALECT_RFC2021,
		.xattrmap = engine->xattrmap,
		.idmap = engine->idmap,
		.upcalls = engine->upcalls,
		.upcall_opcodes = config->upcalls,
		.n_upcall_opcodes = config->n_upcalls,
	};

	return vfsd_fuse_create(&fuse, hooks, &vfsd_hostfs_ops, engine->hostfs, engine->inodes,
				engine->handles, &engine->fuse);
}

static int create_session(struct vfsd_engine *engine, int root_fd)
{
	const vfsd_engine_config *config = &engine->config;
	const uint32_t kept = cached_fds_max(config->max_fds);
	const struct vfsd_inodes_config inodes = {
		.options = config->inode,
		.need_handles = is_merged(config),
		.proc_self_fd = config->proc_self_fd,
		.mount_table_fd = config->mount_table_fd,
		.fd_quota = config->max_fds ? &engine->fd_quota : NULL,
		.cached_fds_max = kept,
	};
	struct vfsd_fuse_hooks hooks = {0};
	int err;

	engine->fd_quota.limit = config->max_fds ? config->max_fds - kept : 0;
	err = vfsd_inodes_create(&inodes, root_fd, &engine->inodes);
	if (!err)
		err = vfsd_open_files_create(inodes.fd_quota, &engine->handles);
	if (!err)
		err = vfsd_hostfs_new(&config->hostfs, engine->inodes, engine->handles,
				      config->proc_self_fd, &engine->hostfs);
	if (!err)
		err = create_events(engine, &hooks);
	if (!err)
		err = create_xattrmap(engine);
	if (!err)
		err = create_idmap(engine);
	if (!err)
		err = vfsd_upcalls_create(&engine->upcalls);
	if (!err)
		err = create_fuse(engine, &hooks);
	return err ? err : create_migrate(engine);
}

int vfsd_engine_create(const vfsd_engine_config *config, vfsd_engine **ret)
{
	VFSD_FD_GUARD root_fd = config->root_fd;
	VFSD_FD_GUARD proc_self_fd = config->proc_self_fd;
	struct vfsd_engine *engine;
	int err;

	if (config->num_rings == 0 || config->num_rings > VFSD_RINGS_MAX)
		return -EINVAL;
	engine = calloc(1, sizeof(*engine));
	if (!engine)
		return -ENOMEM;
	engine->config = *config;
	engine->dirtylog_fd = -1;
	engine->root_fd = -1;
	if (config->thread_pool_size == 0)
		engine->config.thread_pool_size = 1;
	engine->config.fuse.posix_acl = config->fuse.xattr && config->fuse.posix_acl;
	engine->config.fuse.security_label = config->fuse.xattr && config->fuse.security_label;
	engine->config.proc_self_fd = vfsd_fd_take(&proc_self_fd);
	engine->rings = calloc(config->num_rings, sizeof(*engine->rings));
	err = engine->rings ? 0 : -ENOMEM;
	for (uint32_t i = 0; !err && i < config->num_rings; i++)
		engine->rings[i].vring =
			(vfsd_engine_vring){.kick_fd = -1, .call_fd = -1, .err_fd = -1};
	if (!err)
		err = vfsd_logqueue_create(config->log_level, &engine->log);
	if (!err) {
		engine->root_fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 0);
		err = engine->root_fd < 0 ? -errno : create_watch_registry(engine);
	}
	if (!err)
		err = create_session(engine, vfsd_fd_take(&root_fd));
	/* What these point to is the caller's, and has been copied. */
	engine->config.xattrmap = NULL;
	memset(engine->config.ids, 0, sizeof(engine->config.ids));
	engine->config.upcalls = NULL;
	if (err) {
		vfsd_engine_destroy(engine);
		return err;
	}
	*ret = engine;
	return 0;
}

void vfsd_engine_destroy(vfsd_engine *engine)
{
	if (!engine)
		return;
	vfsd_watch_registry_destroy(engine->watches);
	vfsd_engine_forget_rings(engine);
	vfsd_migrate_destroy(engine->migrate);
	vfsd_fuse_destroy(engine->fuse);
	vfsd_upcalls_destroy(engine->upcalls);
	vfsd_events_destroy(engine->events);
	vfsd_hostfs_free(engine->hostfs);
	vfsd_xattrmap_destroy(engine->xattrmap);
	vfsd_idmap_destroy(engine->idmap);
	vfsd_open_files_destroy(engine->handles);
	vfsd_inodes_destroy(engine->inodes);
	vfsd_mem_destroy(engine->mem);
	vfsd_dirtylog_destroy(engine->dirtylog);
	vfsd_logqueue_destroy(engine->log);
	(void)close(engine->config.proc_self_fd);
	if (engine->root_fd >= 0)
		(void)close(engine->root_fd);
	free(engine->rings);
	free(engine);
}
