/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The whole surface between C and Python: engine.h includes it, cffi reads it. So it holds plain
 * declarations only, nothing for the preprocessor.
 */

typedef struct vfsd_engine vfsd_engine;

enum {
	VFSD_RING_HIPRIO = 0,
	VFSD_RING_NOTIFICATION =
		1, /* if VIRTIO_FS_F_NOTIFICATION is acked, else the first request */
	VFSD_RINGS_MAX = 1024,
	VFSD_LOG_LINE_BYTES = 512,
};

typedef struct vfsd_engine_config {
	int root_fd;	    /* O_PATH of the shared directory; owned */
	int proc_self_fd;   /* O_PATH of /proc/self/fd; owned */
	int mount_table_fd; /* /proc/self/mountinfo, the caller's, opened anew; 0: none */
	uint32_t num_rings;
	uint32_t thread_pool_size; /* for each ring of ordinary requests; 0 is 1 */
	uint32_t poll_us;	   /* of each such thread before it sleeps; not in a pool */
	uint32_t max_fds;	   /* the guest's quota of descriptors, inodes' too; 0: no quota */
	int log_level;		   /* enum vfsd_log_level; -1: nothing */
	struct vfsd_inode_options inode; /* each folder's own, as it is handed to it */
	struct vfsd_hostfs_options hostfs;
	struct vfsd_fuse_options fuse;
	struct vfsd_fsnotify_options fsnotify; /* offers the notification queue unless off */
	struct vfsd_watch_options watch;
	struct vfsd_migration_options migration;
	const vfsd_xattr_rule *xattrmap; /* copied, as is the rest; none: names as they are */
	uint32_t xattrmap_rules;
	const vfsd_id_range *ids[4]; /* by enum vfsd_id_way */
	uint32_t id_ranges[4];
	const uint32_t *upcalls; /* opcodes that go up to Python */
	uint32_t n_upcalls;
} vfsd_engine_config;

typedef struct vfsd_engine_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t uva;
	uint64_t mmap_offset_bytes;
	int fd; /* owned */
} vfsd_engine_region;

typedef struct vfsd_engine_vring {
	uint32_t num;
	uint64_t desc_uva;
	uint64_t avail_uva;
	uint64_t used_uva;
	uint16_t base;
	bool enabled;
	int kick_fd; /* owned, as the next two; those may be -1 */
	int call_fd;
	int err_fd;
	bool log_used; /* mark writes to the used ring, which the log has at the next */
	uint64_t log_gpa;
} vfsd_engine_vring;

typedef struct vfsd_engine_stats {
	uint64_t inodes;
	uint64_t open_files;
} vfsd_engine_stats;

/* A request that Python is to serve, fuse/upcall.h. */
typedef struct vfsd_engine_upcall {
	uint64_t id; /* for the answer */
	bool gone;   /* it had been taken, and need not be answered any more */
	uint32_t opcode;
	uint32_t uid;
	uint32_t gid;
	uint32_t pid;
	uint64_t nodeid;
	uint64_t unique;
	const void *body; /* what follows the header; good until the answer */
	uint32_t body_bytes;
	uint32_t room_bytes; /* for the payload of the answer */
} vfsd_engine_upcall;

int vfsd_engine_create(const vfsd_engine_config *config, vfsd_engine **ret);

/* Stops every ring and thread, then frees. NULL is fine. */
void vfsd_engine_destroy(vfsd_engine *engine);

/*
 * When the daemon is to end: let the core's threads give up what they wait for in the kernel, once.
 * Any thread may call it, also while another one is in any function of an engine.
 */
void vfsd_engine_interrupt(void);

/*
 * Can remote events be had on this host and share? 0: as configured. 1: where VFSD_FSNOTIFY_MERGED
 * was asked for, only as with VFSD_FSNOTIFY_SERVER, which is in force from now on; *why (-errno) is
 * the reason. -errno: no. Before the first ring starts.
 */
int vfsd_engine_probe_fsnotify(vfsd_engine *engine, int *why);

/* Size in bytes that the configuration space asks for (notify_buf_size). */
uint32_t vfsd_engine_notify_buf_bytes(void);

/* Acked virtio features, before rings start. */
int vfsd_engine_set_features(vfsd_engine *engine, uint64_t features);

/*
 * Replace the memory table whole. Running rings are quiet meanwhile and go on afterwards; one whose
 * addresses the new table lacks stays stopped.
 */
int vfsd_engine_set_memory(vfsd_engine *engine, const vfsd_engine_region *regions, uint32_t n);

int vfsd_engine_start_vring(vfsd_engine *engine, uint32_t index, const vfsd_engine_vring *vring);

/* Stop the ring; nothing is placed on it afterwards. Returns the next avail index or -errno. */
int vfsd_engine_stop_vring(vfsd_engine *engine, uint32_t index);

int vfsd_engine_enable_vring(vfsd_engine *engine, uint32_t index, bool enabled);

/* @fd -1: none. */
int vfsd_engine_set_call(vfsd_engine *engine, uint32_t index, int fd);
int vfsd_engine_set_err(vfsd_engine *engine, uint32_t index, int fd);

/*
 * The dirty log: @size_bytes of @fd from @offset_bytes on; -1: none. Running rings stop meanwhile.
 * -EINVAL: it is shorter than the file or the memory table asks for.
 */
int vfsd_engine_set_log(vfsd_engine *engine, int fd, uint64_t size_bytes, uint64_t offset_bytes);

/* An eventfd to write to after pages have been marked; -1: none. */
int vfsd_engine_set_log_fd(vfsd_engine *engine, int fd);

/* Mark writes to the guest's buffers, or no more. -EINVAL: the log is too short for the memory. */
int vfsd_engine_set_logging(vfsd_engine *engine, bool enabled);

/* Mark writes to this used ring, which the log has at @log_gpa, or no more. */
int vfsd_engine_set_vring_log(vfsd_engine *engine, uint32_t index, bool enabled, uint64_t log_gpa);

/* migrate/migrate.h. No ring is started: -EBUSY. */
int vfsd_engine_save(vfsd_engine *engine, int fd);
int vfsd_engine_load(vfsd_engine *engine, int fd);
int vfsd_engine_finish_transfer(vfsd_engine *engine);
void vfsd_engine_cancel_transfer(vfsd_engine *engine);

void vfsd_engine_get_stats(const vfsd_engine *engine, vfsd_engine_stats *ret);

/* An eventfd, readable when log lines wait. Borrowed. */
int vfsd_engine_log_fd(const vfsd_engine *engine);

/*
 * Take the oldest log line as a C string into @line (VFSD_LOG_LINE_BYTES). 1: got one, with its
 * *level (enum vfsd_log_level); 0: none waits. Any thread.
 */
int vfsd_engine_next_log(vfsd_engine *engine, char *line, int *level);

/* An eventfd, readable when vfsd_engine_next_upcall() has something. Borrowed. */
int vfsd_engine_upcall_fd(const vfsd_engine *engine);

/* Take the oldest request that goes up to Python, or learn of one that has gone. 1: got one; 0: none. */
int vfsd_engine_next_upcall(vfsd_engine *engine, vfsd_engine_upcall *ret);

/*
 * Answer one that was taken, once: @error 0 with the payload, or -errno. Any thread. -ENOENT: it has gone,
 * because the guest has interrupted it, its session has ended, or its ring was stopped (then it comes
 * again if the ring does); -EMSGSIZE: too long, the guest got -EIO.
 */
int vfsd_engine_answer_upcall(vfsd_engine *engine, uint64_t id, int error, const void *payload,
			      uint32_t bytes);

/*
 * Open what the guest knows as @nodeid, a file or a directory; @flags: open(2)'s, O_CLOEXEC is
 * added. Returns the descriptor, the caller's, or -errno (-ESTALE: the guest does not hold it).
 */
int vfsd_engine_open_node(vfsd_engine *engine, uint64_t nodeid, int flags);

/*
 * watch/watch.h, vfsd_watch_add_consumer(): add a watch client. Returns its number as a consumer, or
 * -errno; @notify_fd is owned, *ring_fd borrowed until the consumer is removed.
 */
int vfsd_engine_add_consumer(vfsd_engine *engine, const vfsd_watch_request *request, int notify_fd,
			     int *ring_fd);
int vfsd_engine_remove_consumer(vfsd_engine *engine, int consumer);

/* Report a change of a mount below the share to the consumers. */
void vfsd_engine_report_mount(vfsd_engine *engine, const vfsd_watch_mount *mount);

/*
 * What is called @name in the directory with this st_dev and st_ino is something else now: have the
 * guest look it up again. vfsd_events_expire() says how.
 */
void vfsd_engine_expire(vfsd_engine *engine, uint64_t dev, uint64_t ino, const char *name);
