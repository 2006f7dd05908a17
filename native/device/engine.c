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
	struct vfsd_xattr_rule *rules;
	int err;

	if (config->xattrmap_rules == 0)
		return 0;
	rules = calloc(config->xattrmap_rules, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	for (uint32_t i = 0; i < config->xattrmap_rules; i++)
		rules[i] = (struct vfsd_xattr_rule){
			.type = (enum vfsd_xattr_type)config->xattrmap[i].type,
			.scope = (enum vfsd_xattr_scope)config->xattrmap[i].scope,
			.key = config->xattrmap[i].key,
			.prepend = config->xattrmap[i].prepend,
		};
	err = vfsd_xattrmap_create(rules, config->xattrmap_rules, &engine->xattrmap);
	free(rules);
	if (err)
		return err;
	if (!vfsd_xattrmap_to_host(engine->xattrmap, true, capability, engine->capability_name) &&
	    strcmp(engine->capability_name, capability) != 0)
		vfsd_hostfs_set_capability_name(engine->hostfs, engine->capability_name);
	return 0;
}

static int create_idmap(struct vfsd_engine *engine)
{
	struct vfsd_id_range *ranges[VFSD_ID_WAYS] = {NULL};
	const uint32_t *n = engine->config.id_ranges;
	int err = 0;

	if (n[0] == 0 && n[1] == 0 && n[2] == 0 && n[3] == 0)
		return 0;
	for (int way = 0; way < VFSD_ID_WAYS && !err; way++) {
		const vfsd_engine_id_range *from = engine->config.ids[way];

		ranges[way] = calloc(n[way] + 1, sizeof(*ranges[way]));
		err = ranges[way] ? 0 : -ENOMEM;
		for (uint32_t i = 0; i < n[way] && !err; i++)
			ranges[way][i] = (struct vfsd_id_range){
				.first = from[i].first,
				.count = from[i].count,
				.to = from[i].to,
				.effect = (enum vfsd_id_effect)from[i].effect,
			};
	}
	if (!err)
		err = vfsd_idmap_create((const struct vfsd_id_range *const *)ranges, n,
					&engine->idmap);
	for (int way = 0; way < VFSD_ID_WAYS; way++)
		free(ranges[way]);
	return err;
}

static int create_migrate(struct vfsd_engine *engine)
{
	const vfsd_engine_config *config = &engine->config;
	const struct vfsd_state_config state = {
		.inodes = engine->inodes,
		.open_files = engine->handles,
		.fuse = engine->fuse,
		.events = engine->events,
		.proc_self_fd = config->proc_self_fd,
		.readonly = config->readonly,
		.allow_direct_io = config->allow_direct_io,
		.preserve_noatime = config->preserve_noatime,
		.by_handle = config->migrate_by_handle,
		.guest_error = config->migrate_guest_error,
		.verify = config->migrate_verify,
		.confirm = config->migrate_confirm,
	};

	return vfsd_migrate_create(&state, &engine->migrate);
}

static int create_watch_registry(struct vfsd_engine *engine)
{
	const vfsd_engine_config *config = &engine->config;
	const struct vfsd_watch_config watch = {
		.source = &vfsd_source_fanotify,
		.fallback = &vfsd_source_inotify,
		.root_fd = engine->root_fd,
		.proc_self_fd = config->proc_self_fd,
		.handles = config->file_handles,
		.max_fds = config->watch_max_fds,
		.max_marks = config->watch_max_marks,
		.max_watches = config->watch_max_watches,
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

static int create_session(struct vfsd_engine *engine, int root_fd)
{
	const vfsd_engine_config *config = &engine->config;
	const bool rfc2021 = config->fsnotify_dialect == VFSD_FSNOTIFY_RFC2021;
	const uint32_t kept = cached_fds_max(config->max_open_files);
	const struct vfsd_inodes_config inodes = {
		.handles = (enum vfsd_handle_policy)config->file_handles,
		.need_handles = config->fsnotify == VFSD_FSNOTIFY_MERGED && !rfc2021,
		.proc_self_fd = config->proc_self_fd,
		.mount_table_fd = config->mount_table_fd,
		.fd_quota = config->max_open_files ? &engine->fd_quota : NULL,
		.cached_fds_max = kept,
	};
	struct vfsd_fuse_config fuse = {
		.cache = (enum vfsd_cache)config->cache,
		.readdirplus = config->readdirplus,
		.writeback = config->writeback,
		.readonly = config->readonly,
		.allow_direct_io = config->allow_direct_io,
		.preserve_noatime = config->preserve_noatime,
		.allow_project_ids = config->allow_project_ids,
		.announce_submounts = config->announce_submounts,
		.allow_mmap = config->allow_mmap,
		.killpriv_v2 = config->killpriv_v2,
		.xattr = config->xattr,
		.posix_acl = config->xattr && config->posix_acl,
		.security_label = config->xattr && config->security_label,
		.rfc2021 = rfc2021 && config->fsnotify != VFSD_FSNOTIFY_OFF,
		.max_write_bytes = config->max_write_bytes,
		.upcall_opcodes = config->upcalls,
		.n_upcall_opcodes = config->n_upcalls,
	};
	struct vfsd_fuse_hooks hooks = {0};
	int err;

	engine->fd_quota.limit = config->max_open_files ? config->max_open_files - kept : 0;
	err = vfsd_inodes_create(&inodes, root_fd, &engine->inodes);
	if (!err)
		err = vfsd_open_files_create(inodes.fd_quota, &engine->handles);
	if (!err)
		err = vfsd_hostfs_create(engine->inodes, engine->handles, config->proc_self_fd,
					 &engine->hostfs);
	if (!err && config->fsnotify != VFSD_FSNOTIFY_OFF) {
		const struct vfsd_events_config events = {
			.source = config->fsnotify == VFSD_FSNOTIFY_SERVER || rfc2021 ?
					  &vfsd_source_inotify :
					  &vfsd_source_fanotify,
			.fallback = config->fsnotify == VFSD_FSNOTIFY_MERGED && !rfc2021 ?
					    &vfsd_source_inotify :
					    NULL,
			.inodes = engine->inodes,
			.proc_self_fd = config->proc_self_fd,
			.ring_bytes = config->fsnotify_ring_bytes,
			.max_marks = config->fsnotify_max_marks,
			.max_watches = config->fsnotify_max_watches,
			.cross_mounts = !config->announce_submounts,
			.rfc2021 = rfc2021,
		};

		err = vfsd_events_create(&events, &engine->events);
		if (!err)
			hooks = vfsd_events_hooks(engine->events);
	}
	if (!err)
		err = create_xattrmap(engine);
	if (!err)
		err = create_idmap(engine);
	if (!err)
		err = vfsd_upcalls_create(&engine->upcalls);
	fuse.upcalls = engine->upcalls;
	fuse.xattrmap = engine->xattrmap;
	fuse.idmap = engine->idmap;
	if (!err)
		err = vfsd_fuse_create(&fuse, &hooks, &vfsd_hostfs_ops, engine->hostfs,
				       engine->inodes, engine->handles, &engine->fuse);
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
	if (config->pool_threads == 0)
		engine->config.pool_threads = 1;
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
	vfsd_hostfs_destroy(engine->hostfs);
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
