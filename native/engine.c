/* SPDX-License-Identifier: BSD-3-Clause */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dirtylog.h"
#include "events.h"
#include "fuse.h"
#include "handle.h"
#include "hostfs.h"
#include "idmap.h"
#include "inode.h"
#include "log.h"
#include "logqueue.h"
#include "mem.h"
#include "migrate.h"
#include "notify.h"
#include "queue.h"
#include "quota.h"
#include "source.h"
#include "upcall.h"
#include "util.h"
#include "vring.h"
#include "wire.h"
#include "xattrmap.h"

/* virtio feature bits: VIRTIO_FS_F_NOTIFICATION, VIRTIO_RING_F_INDIRECT_DESC, _EVENT_IDX. */
enum { F_NOTIFICATION = 0, F_INDIRECT_DESC = 28, F_EVENT_IDX = 29 };

/* A ring as the front-end described it; @running while it is started, enabled and mapped. */
struct ring {
	vfsd_engine_vring vring; /* base is where to go on; descriptors owned; -1 when stopped */
	bool started;
	bool running;
	bool anew;		  /* begins at 0 though it had got somewhere: another guest's */
	struct vfsd_queue *queue; /* of a running request ring */
};

struct vfsd_engine {
	vfsd_engine_config config;
	struct vfsd_dirtylog *dirtylog; /* NULL: none */
	int dirtylog_fd;
	bool logging; /* what is written to buffers */
	struct vfsd_migrate *migrate;
	uint64_t features;
	struct vfsd_quota fd_quota; /* of inodes and open files together */
	struct vfsd_logqueue *log;
	struct vfsd_mem *mem;
	struct vfsd_inodes *inodes;
	struct vfsd_handles *handles;
	struct vfsd_hostfs *hostfs;
	struct vfsd_xattrmap *xattrmap; /* NULL: names are the same on both sides */
	char capability_name[VFSD_XATTR_NAME_BYTES];
	struct vfsd_idmap *idmap; /* NULL: so are ids */
	struct vfsd_upcalls *upcalls;
	struct vfsd_fuse *fuse;
	struct vfsd_events *events; /* NULL: remote fsnotify is off */
	struct ring *rings;
};

static void replace_fd(int *slot, int fd)
{
	if (*slot >= 0)
		(void)close(*slot);
	*slot = fd;
}

static bool is_notification(const struct vfsd_engine *engine, uint32_t index)
{
	return index == VFSD_RING_NOTIFICATION &&
	       (engine->features & (UINT64_C(1) << F_NOTIFICATION)) != 0;
}

static struct vfsd_vring_setup ring_setup(const struct vfsd_engine *engine, const struct ring *ring)
{
	return (struct vfsd_vring_setup){
		.num = ring->vring.num,
		.desc_uva = ring->vring.desc_uva,
		.avail_uva = ring->vring.avail_uva,
		.used_uva = ring->vring.used_uva,
		.base = ring->vring.base,
		.event_idx = (engine->features >> F_EVENT_IDX) & 1,
		.indirect = (engine->features >> F_INDIRECT_DESC) & 1,
		.log = engine->logging ? engine->dirtylog : NULL,
		.used_log = ring->vring.log_used ? engine->dirtylog : NULL,
		.used_gpa = ring->vring.log_gpa,
	};
}

/* Rings that every driver uses at once: not that of urgent requests, which few guests ever do. */
static bool is_ordinary(const struct vfsd_engine *engine, uint32_t index)
{
	return index != VFSD_RING_HIPRIO && !is_notification(engine, index);
}

static bool serves_requests(const struct vfsd_engine *engine)
{
	for (uint32_t i = 0; i < engine->config.num_rings; i++)
		if (is_ordinary(engine, i) && engine->rings[i].running)
			return true;
	return false;
}

static int ring_run(struct vfsd_engine *engine, uint32_t index)
{
	struct ring *ring = &engine->rings[index];
	struct vfsd_vring_setup setup = ring_setup(engine, ring);
	int err;

	if (ring->running || !ring->started || !ring->vring.enabled)
		return 0;
	if (!engine->mem)
		return -EFAULT;
	if (is_notification(engine, index)) {
		err = vfsd_events_start_ring(engine->events, engine->mem, &setup,
					     ring->vring.kick_fd, ring->vring.call_fd,
					     ring->vring.err_fd, !serves_requests(engine));
	} else {
		const struct vfsd_queue_config config = {
			.index = index,
			.fuse = engine->fuse,
			.mem = engine->mem,
			.setup = setup,
			.kick_fd = ring->vring.kick_fd,
			.call_fd = ring->vring.call_fd,
			.err_fd = ring->vring.err_fd,
		};

		if (engine->events && is_ordinary(engine, index))
			vfsd_events_requests_begin(engine->events, ring->anew);
		ring->anew = false;
		err = vfsd_queue_start(&config, &ring->queue);
	}
	ring->running = err == 0;
	return err;
}

static void ring_pause(struct vfsd_engine *engine, uint32_t index)
{
	struct ring *ring = &engine->rings[index];

	if (!ring->running)
		return;
	if (ring->queue)
		ring->vring.base = vfsd_queue_stop(ring->queue);
	else
		ring->vring.base = vfsd_events_stop_ring(engine->events);
	ring->queue = NULL;
	ring->running = false;
}

static void ring_forget(struct vfsd_engine *engine, uint32_t index)
{
	struct ring *ring = &engine->rings[index];

	ring_pause(engine, index);
	replace_fd(&ring->vring.kick_fd, -1);
	replace_fd(&ring->vring.call_fd, -1);
	replace_fd(&ring->vring.err_fd, -1);
	ring->started = false;
}

int vfsd_engine_set_features(vfsd_engine *engine, uint64_t features)
{
	bool notification = (features >> F_NOTIFICATION) & 1;

	if (notification && !engine->events)
		return -EINVAL;
	for (uint32_t i = 0; i < engine->config.num_rings; i++)
		if (engine->rings[i].running && features != engine->features)
			return -EBUSY;
	engine->features = features;
	if (engine->events)
		vfsd_events_set_offered(engine->events, notification);
	return 0;
}

static void pause_all(struct vfsd_engine *engine)
{
	for (uint32_t i = 0; i < engine->config.num_rings; i++)
		ring_pause(engine, i);
}

/* Those that have been running, after @change. */
static void run_all(struct vfsd_engine *engine, const char *change)
{
	for (uint32_t i = 0; i < engine->config.num_rings; i++) {
		int err = ring_run(engine, i);

		if (err)
			vfsd_log(VFSD_LOG_ERROR,
				 "engine: ring lost with the old %s ring=%u errno=%d", change, i,
				 -err);
	}
}

int vfsd_engine_set_memory(vfsd_engine *engine, const vfsd_engine_region *regions, uint32_t n)
{
	struct vfsd_mem_region_desc descs[VFSD_MEM_REGIONS_MAX];
	struct vfsd_mem *mem = NULL;
	int err;

	if (n > VFSD_MEM_REGIONS_MAX) {
		for (uint32_t i = 0; i < n; i++)
			(void)close(regions[i].fd);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < n; i++)
		descs[i] = (struct vfsd_mem_region_desc){
			.gpa = regions[i].gpa,
			.size = regions[i].size_bytes,
			.uva = regions[i].uva,
			.mmap_offset = regions[i].mmap_offset_bytes,
			.fd = regions[i].fd,
		};
	err = vfsd_mem_create(descs, n, &mem);
	if (!err && engine->logging && engine->dirtylog &&
	    !vfsd_dirtylog_covers(engine->dirtylog, mem)) {
		vfsd_mem_destroy(mem);
		err = -EINVAL;
	}
	if (err)
		return err;
	pause_all(engine);
	vfsd_mem_destroy(engine->mem);
	engine->mem = mem;
	run_all(engine, "memory table");
	return 0;
}

int vfsd_engine_set_log(vfsd_engine *engine, int fd, uint64_t size_bytes, uint64_t offset_bytes)
{
	struct vfsd_dirtylog *log = NULL;
	int err = 0;

	if (fd >= 0)
		err = vfsd_dirtylog_create(fd, size_bytes, offset_bytes, &log);
	if (!err && log && !vfsd_dirtylog_covers(log, engine->mem)) {
		vfsd_dirtylog_destroy(log);
		err = -EINVAL;
	}
	if (err)
		return err;
	if (log)
		vfsd_dirtylog_set_signal(log, engine->dirtylog_fd);
	pause_all(engine);
	vfsd_dirtylog_destroy(engine->dirtylog);
	engine->dirtylog = log;
	run_all(engine, "dirty log");
	return 0;
}

int vfsd_engine_set_log_fd(vfsd_engine *engine, int fd)
{
	pause_all(engine);
	replace_fd(&engine->dirtylog_fd, fd);
	if (engine->dirtylog)
		vfsd_dirtylog_set_signal(engine->dirtylog, fd);
	run_all(engine, "dirty log descriptor");
	return 0;
}

int vfsd_engine_set_logging(vfsd_engine *engine, bool enabled)
{
	/* A table that came while nothing was logged may have outgrown the log. */
	if (enabled && engine->dirtylog && !vfsd_dirtylog_covers(engine->dirtylog, engine->mem))
		return -EINVAL;
	pause_all(engine);
	engine->logging = enabled;
	run_all(engine, "logging");
	return 0;
}

int vfsd_engine_set_vring_log(vfsd_engine *engine, uint32_t index, bool enabled, uint64_t log_gpa)
{
	if (index >= engine->config.num_rings || !engine->rings[index].started)
		return -EINVAL;
	ring_pause(engine, index);
	engine->rings[index].vring.log_used = enabled;
	engine->rings[index].vring.log_gpa = log_gpa;
	return ring_run(engine, index);
}

static bool any_started(const struct vfsd_engine *engine)
{
	for (uint32_t i = 0; i < engine->config.num_rings; i++)
		if (engine->rings[i].started)
			return true;
	return false;
}

int vfsd_engine_save(vfsd_engine *engine, int fd)
{
	if (any_started(engine)) {
		(void)close(fd);
		return -EBUSY;
	}
	return vfsd_migrate_save(engine->migrate, fd);
}

int vfsd_engine_load(vfsd_engine *engine, int fd)
{
	if (any_started(engine)) {
		(void)close(fd);
		return -EBUSY;
	}
	return vfsd_migrate_load(engine->migrate, fd);
}

int vfsd_engine_finish_transfer(vfsd_engine *engine)
{
	return any_started(engine) ? -EBUSY : vfsd_migrate_finish(engine->migrate);
}

void vfsd_engine_cancel_transfer(vfsd_engine *engine)
{
	vfsd_migrate_cancel(engine->migrate);
}

int vfsd_engine_start_vring(vfsd_engine *engine, uint32_t index, const vfsd_engine_vring *vring)
{
	struct ring *ring;
	int err;

	if (index >= engine->config.num_rings || vring->kick_fd < 0 ||
	    engine->rings[index].started) {
		int fds[] = {vring->kick_fd, vring->call_fd, vring->err_fd};

		for (size_t i = 0; i < VFSD_ARRAY_SIZE(fds); i++)
			if (fds[i] >= 0)
				(void)close(fds[i]);
		return -EINVAL;
	}
	ring = &engine->rings[index];
	ring->anew = vring->base == 0 && ring->vring.base != 0;
	ring->vring = *vring;
	ring->started = true;
	err = ring_run(engine, index);
	if (err)
		ring_forget(engine, index);
	return err;
}

int vfsd_engine_stop_vring(vfsd_engine *engine, uint32_t index)
{
	if (index >= engine->config.num_rings)
		return -EINVAL;
	ring_forget(engine, index);
	return engine->rings[index].vring.base;
}

int vfsd_engine_enable_vring(vfsd_engine *engine, uint32_t index, bool enabled)
{
	if (index >= engine->config.num_rings)
		return -EINVAL;
	engine->rings[index].vring.enabled = enabled;
	if (enabled)
		return ring_run(engine, index);
	ring_pause(engine, index);
	return 0;
}

int vfsd_engine_set_call(vfsd_engine *engine, uint32_t index, int fd)
{
	struct ring *ring;

	if (index >= engine->config.num_rings || !engine->rings[index].started) {
		if (fd >= 0)
			(void)close(fd);
		return -EINVAL;
	}
	ring = &engine->rings[index];
	if (ring->running) {
		if (ring->queue)
			vfsd_queue_set_call(ring->queue, fd);
		else
			vfsd_events_set_call(engine->events, fd);
	}
	replace_fd(&ring->vring.call_fd, fd);
	return 0;
}

int vfsd_engine_set_err(vfsd_engine *engine, uint32_t index, int fd)
{
	struct ring *ring;

	if (index >= engine->config.num_rings || !engine->rings[index].started) {
		if (fd >= 0)
			(void)close(fd);
		return -EINVAL;
	}
	ring = &engine->rings[index];
	/* Rare enough that the ring may rest for it. */
	ring_pause(engine, index);
	replace_fd(&ring->vring.err_fd, fd);
	return ring_run(engine, index);
}

void vfsd_engine_get_stats(const vfsd_engine *engine, vfsd_engine_stats *ret)
{
	*ret = (vfsd_engine_stats){
		.inodes = vfsd_inodes_count(engine->inodes),
		.open_files = vfsd_handles_count(engine->handles),
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
	const struct vfsd_upcall *call = vfsd_upcalls_next(engine->upcalls);

	if (!call)
		return 0;
	*ret = (vfsd_engine_upcall){
		.opcode = call->header->opcode,
		.uid = call->header->uid,
		.gid = call->header->gid,
		.pid = call->header->pid,
		.nodeid = call->header->nodeid,
		.unique = call->header->unique,
		.body = call->body,
		.body_bytes = (uint32_t)call->body_bytes,
		.room_bytes = (uint32_t)call->room_bytes,
	};
	return 1;
}

int vfsd_engine_answer_upcall(vfsd_engine *engine, int error, const void *payload, uint32_t bytes)
{
	return vfsd_upcalls_answer(engine->upcalls, error, payload, bytes);
}

int vfsd_engine_open_node(vfsd_engine *engine, uint64_t nodeid, int flags)
{
	struct vfsd_inode *inode = vfsd_inode_get(engine->inodes, nodeid);
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
	if (vfsd_xattrmap_to_host(engine->xattrmap, capability, engine->capability_name) == 0 &&
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
		.handles = engine->handles,
		.fuse = engine->fuse,
		.events = engine->events,
		.proc_self_fd = config->proc_self_fd,
		.readonly = config->readonly,
		.by_handle = config->migrate_by_handle,
		.guest_error = config->migrate_guest_error,
		.verify = config->migrate_verify,
		.confirm = config->migrate_confirm,
	};

	return vfsd_migrate_create(&state, &engine->migrate);
}

static int create_session(struct vfsd_engine *engine, int root_fd)
{
	const vfsd_engine_config *config = &engine->config;
	const bool rfc2021 = config->fsnotify_dialect == VFSD_FSNOTIFY_RFC2021;
	const struct vfsd_inodes_config inodes = {
		.handles = (enum vfsd_handle_policy)config->file_handles,
		.need_handles = config->fsnotify == VFSD_FSNOTIFY_MERGED && !rfc2021,
		.proc_self_fd = config->proc_self_fd,
		.fd_quota = config->max_open_files ? &engine->fd_quota : NULL,
	};
	struct vfsd_fuse_config fuse = {
		.cache = (enum vfsd_cache)config->cache,
		.readdirplus = config->readdirplus,
		.writeback = config->writeback,
		.readonly = config->readonly,
		.allow_direct_io = config->allow_direct_io,
		.preserve_noatime = config->preserve_noatime,
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

	engine->fd_quota.limit = config->max_open_files;
	err = vfsd_inodes_create(&inodes, root_fd, &engine->inodes);
	if (!err)
		err = vfsd_handles_create(inodes.fd_quota, &engine->handles);
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
			.max_watches = config->fsnotify_max_watches,
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
	engine->config.proc_self_fd = vfsd_fd_take(&proc_self_fd);
	engine->rings = calloc(config->num_rings, sizeof(*engine->rings));
	err = engine->rings ? 0 : -ENOMEM;
	for (uint32_t i = 0; !err && i < config->num_rings; i++)
		engine->rings[i].vring =
			(vfsd_engine_vring){.kick_fd = -1, .call_fd = -1, .err_fd = -1};
	if (!err)
		err = vfsd_logqueue_create(config->log_level, &engine->log);
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
	for (uint32_t i = 0; engine->rings && i < engine->config.num_rings; i++)
		ring_forget(engine, i);
	vfsd_migrate_destroy(engine->migrate);
	vfsd_fuse_destroy(engine->fuse);
	vfsd_upcalls_destroy(engine->upcalls);
	vfsd_events_destroy(engine->events);
	vfsd_hostfs_destroy(engine->hostfs);
	vfsd_xattrmap_destroy(engine->xattrmap);
	vfsd_idmap_destroy(engine->idmap);
	vfsd_handles_destroy(engine->handles);
	vfsd_inodes_destroy(engine->inodes);
	vfsd_mem_destroy(engine->mem);
	vfsd_dirtylog_destroy(engine->dirtylog);
	replace_fd(&engine->dirtylog_fd, -1);
	vfsd_logqueue_destroy(engine->log);
	(void)close(engine->config.proc_self_fd);
	free(engine->rings);
	free(engine);
}
