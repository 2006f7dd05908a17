/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The whole surface between C and Python of the measuring front-end: bench.h includes it, cffi reads
 * it. So it holds plain declarations only, nothing for the preprocessor.
 */

typedef struct vfsd_bench vfsd_bench;
typedef struct vfsd_bench_names vfsd_bench_names;

enum {
	VFSD_BENCH_QUEUES_MAX = 4,
	VFSD_BENCH_DEPTH_MAX = 64,
	VFSD_BENCH_RING_ENTRIES = 1024, /* as many as QEMU allows: a request of 1 MiB needs 259 */
	VFSD_BENCH_DATA_BYTES = 1 << 20,
	VFSD_BENCH_COMPLAINT_BYTES = 160,
};

enum vfsd_bench_kind {
	VFSD_BENCH_GETATTR,
	VFSD_BENCH_LOOKUP,
	VFSD_BENCH_READ,
	VFSD_BENCH_WRITE,
	VFSD_BENCH_READDIRPLUS, /* a unit of work is an entry */
	VFSD_BENCH_CREATE,	/* CREATE, RELEASE, UNLINK and FORGET are one unit */
};

/* Where the parts of ring @index are; addresses are the front-end's own. */
typedef struct vfsd_bench_ring {
	uint64_t desc, avail, used;
	int kick_fd, call_fd;
} vfsd_bench_ring;

/* What to ask for, over and over. Borrowed pointers; what a kind does not use is 0. */
typedef struct vfsd_bench_work {
	int kind;
	unsigned int depth;	 /* requests in flight in each queue */
	uint64_t duration_ns;	 /* how long to go on making requests, or */
	uint64_t units;		 /* if not 0, how many units of work instead */
	uint64_t poll_ns;	 /* how long to look for a reply before sleeping until signalled */
	uint64_t nodeid;	 /* the file; the directory where names are */
	const uint64_t *handles; /* READ, WRITE: one; READDIRPLUS: one for each request in flight */
	uint64_t file_bytes;	 /* READ, WRITE: a multiple of request_bytes */
	uint32_t request_bytes;	 /* READ, WRITE, READDIRPLUS: a multiple of a page */
	bool random;		 /* offsets and names in no order, instead of one after the other */
	bool forget;		 /* LOOKUP: a FORGET after each */
	vfsd_bench_names *names; /* LOOKUP, READDIRPLUS */
} vfsd_bench_work;

typedef struct vfsd_bench_result {
	uint64_t units;
	uint64_t requests;
	uint64_t wall_ns;
	uint64_t cpu_ns; /* of the threads that did it here */
	uint64_t p50_ns; /* from a request's being made to its being taken; of a whole CREATE unit */
	uint64_t p99_ns;
} vfsd_bench_result;

/* Guest memory and rings: ring 0 is hiprio, request queues follow. 0 or -errno. */
int vfsd_bench_create(unsigned int queues, vfsd_bench **ret);
void vfsd_bench_destroy(vfsd_bench *bench);
int vfsd_bench_memory_fd(const vfsd_bench *bench);
uint64_t vfsd_bench_memory_bytes(const vfsd_bench *bench);
uint64_t vfsd_bench_user_address(const vfsd_bench *bench);
void vfsd_bench_get_ring(const vfsd_bench *bench, unsigned int index, vfsd_bench_ring *ret);

/* A wait ends with -EPIPE when this socket, which is not taken over, is closed at the other end. */
void vfsd_bench_set_alarm(vfsd_bench *bench, int socket_fd);

/*
 * One request, and its reply without header: up to @room bytes. Returns its length, the device's
 * -errno, or -EPROTO for a reply that makes no sense.
 */
ssize_t vfsd_bench_ask(vfsd_bench *bench, uint32_t opcode, uint64_t nodeid, const void *body,
		       size_t body_bytes, void *reply, size_t room);

/*
 * The load. 0, or -errno and a line of why in @complaint (VFSD_BENCH_COMPLAINT_BYTES): the first
 * reply that is not what it should be ends it. After -EPIPE, -ETIMEDOUT or -EBADMSG the device is
 * not to be asked any more.
 */
int vfsd_bench_run(vfsd_bench *bench, const vfsd_bench_work *work, vfsd_bench_result *ret,
		   char *complaint);

/*
 * The same work as plain system calls of this thread: @fd is the open file, or the directory. Takes
 * kind, duration, sizes and names from @work. 0 or -errno.
 */
int vfsd_bench_bare(int fd, uint32_t names, const vfsd_bench_work *work, vfsd_bench_result *ret);

/*
 * What is known of @count files called "n0000000" and so on in one directory: their node ids, and
 * how often each was looked up. NULL: no memory.
 */
vfsd_bench_names *vfsd_bench_names_create(uint32_t count);
void vfsd_bench_names_destroy(vfsd_bench_names *names);

/* FORGET all of it. 0, -ETIMEDOUT or -EPIPE. */
int vfsd_bench_forget(vfsd_bench *bench, vfsd_bench_names *names);
