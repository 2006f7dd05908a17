/* SPDX-License-Identifier: BSD-3-Clause */
/* The whole surface between Python and C; engine.h is the documentation. */

#define VFSD_RING_HIPRIO ...
#define VFSD_RING_NOTIFICATION ...
#define VFSD_RINGS_MAX ...
#define VFSD_LOG_LINE_BYTES ...

typedef struct vfsd_engine vfsd_engine;

typedef struct vfsd_engine_config {
	int root_fd;
	int proc_self_fd;
	uint32_t num_rings;
	int cache;
	int file_handles;
	bool readdirplus;
	bool writeback;
	bool readonly;
	bool allow_direct_io;
	bool preserve_noatime;
	bool announce_submounts;
	uint32_t max_write_bytes;
	uint32_t max_open_files;
	bool fsnotify;
	uint32_t fsnotify_ring_bytes;
	uint32_t fsnotify_max_watches;
	int log_level;
} vfsd_engine_config;

typedef struct vfsd_engine_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t uva;
	uint64_t mmap_offset_bytes;
	int fd;
} vfsd_engine_region;

typedef struct vfsd_engine_vring {
	uint32_t num;
	uint64_t desc_uva;
	uint64_t avail_uva;
	uint64_t used_uva;
	uint16_t base;
	bool enabled;
	int kick_fd;
	int call_fd;
	int err_fd;
} vfsd_engine_vring;

typedef struct vfsd_engine_stats {
	uint64_t inodes;
	uint64_t open_files;
} vfsd_engine_stats;

int vfsd_engine_create(const vfsd_engine_config *config, vfsd_engine **ret);
void vfsd_engine_destroy(vfsd_engine *engine);
int vfsd_engine_probe_fsnotify(const vfsd_engine *engine);
uint32_t vfsd_engine_notify_buf_bytes(void);
int vfsd_engine_set_features(vfsd_engine *engine, uint64_t features);
int vfsd_engine_set_memory(vfsd_engine *engine, const vfsd_engine_region *regions, uint32_t n);
int vfsd_engine_start_vring(vfsd_engine *engine, uint32_t index, const vfsd_engine_vring *vring);
int vfsd_engine_stop_vring(vfsd_engine *engine, uint32_t index);
int vfsd_engine_enable_vring(vfsd_engine *engine, uint32_t index, bool enabled);
int vfsd_engine_set_call(vfsd_engine *engine, uint32_t index, int fd);
int vfsd_engine_set_err(vfsd_engine *engine, uint32_t index, int fd);
void vfsd_engine_get_stats(const vfsd_engine *engine, vfsd_engine_stats *ret);
int vfsd_engine_log_fd(const vfsd_engine *engine);
int vfsd_engine_next_log(vfsd_engine *engine, char *line, int *level);
