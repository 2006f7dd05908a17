/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What rings depend on (memory, logging) is replaced while all of them are stopped: it is rare.
 */
#include <errno.h>
#include <unistd.h>

#include "virtio/dirty_log.h"
#include "device/internal.h"
#include "fsnotify/events.h"
#include "base/log.h"
#include "virtio/mem.h"
#include "migrate/migrate.h"
#include "device/queue.h"
#include "base/util.h"
#include "virtio/vring.h"

/* virtio feature bits: VIRTIO_FS_F_NOTIFICATION, VIRTIO_RING_F_INDIRECT_DESC, _EVENT_IDX. */
enum { F_NOTIFICATION = 0, F_INDIRECT_DESC = 28, F_EVENT_IDX = 29 };

/* A fraction of the time in which FORGETs could fill the ring. */
enum { FORGETS_NAP_US = 500 };

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
			.threads = is_ordinary(engine, index) ? engine->config.thread_pool_size : 1,
			.poll_us = is_ordinary(engine, index) ? engine->config.poll_us : 0,
			.nap_us = is_ordinary(engine, index) ? 0 : FORGETS_NAP_US,
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

/* The ring that @fd is for. NULL, and @fd is closed: it is not started, or there is none. */
static struct ring *started_ring(struct vfsd_engine *engine, uint32_t index, int fd)
{
	if (index < engine->config.num_rings && engine->rings[index].started)
		return &engine->rings[index];
	if (fd >= 0)
		(void)close(fd);
	return NULL;
}

int vfsd_engine_set_call(vfsd_engine *engine, uint32_t index, int fd)
{
	struct ring *ring = started_ring(engine, index, fd);

	if (!ring)
		return -EINVAL;
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
	struct ring *ring = started_ring(engine, index, fd);

	if (!ring)
		return -EINVAL;
	/* Rare enough that the ring may stop for it. */
	ring_pause(engine, index);
	replace_fd(&ring->vring.err_fd, fd);
	return ring_run(engine, index);
}

void vfsd_engine_forget_rings(struct vfsd_engine *engine)
{
	for (uint32_t i = 0; engine->rings && i < engine->config.num_rings; i++)
		ring_forget(engine, i);
	replace_fd(&engine->dirtylog_fd, -1);
}
