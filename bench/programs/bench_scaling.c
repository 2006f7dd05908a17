/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_scaling - what a request and an event cost when there are many inodes and watches, and what
 * requests and events cost each other.
 *
 *   bench_scaling DIRECTORY COUNT...
 *   bench_scaling DIRECTORY together
 *
 * DIRECTORY is emptied. Prints "WHAT VALUE UNIT" lines; bench/scaling makes tables of them.
 * Processes as in bench_events: a device, a driver that is the host's actor too, a local reader. The
 * driver does not sleep, so that the device does not either.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "herd.h"
#include "inode/inode.h"
#include "reader.h"
#include "fuse/wire.h"

enum {
	REQUESTS = 200000,
	SETTLED_S = 6, /* files that are younger cost a LOOKUP one system call more */
	DEPTH = 32,
	EVENTS = 10000, /* fits into the host's queue */
	ROUNDS = 5,
	READ_BYTES = 4096,
	FILE_PAGES = 4096,
	EVENTS_PER_S = 100000,
	TOGETHER_S = 3,
};

#define DEADLINE_NS UINT64_C(60000000000)

/* A herd, and any of it. */
struct crowd {
	struct herd herd; /* first: requests have a herd for their context */
	uint32_t watched; /* the first of them */
	uint64_t random;  /* state */
};

static uint32_t any_of(struct crowd *crowd)
{
	crowd->random = crowd->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(((crowd->random >> 32) * crowd->herd.count) >> 32);
}

/* How many the host lets us have. */
static uint32_t watchable(uint32_t count)
{
	FILE *file = fopen("/proc/sys/fs/fanotify/max_user_marks", "re");
	unsigned int most = 8192;

	if (file) {
		CHECK(fscanf(file, "%u", &most) == 1);
		(void)fclose(file);
	}
	most -= most / 16; /* others have some too */
	return count < most ? count : most;
}

/* ---- requests ------------------------------------------------------------------------------------ */

static size_t make_any_lookup(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid,
			      void *body)
{
	(void)index;
	return herd_make_lookup(ctx, any_of(ctx), opcode, nodeid, body);
}

static size_t make_any_getattr(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid,
			       void *body)
{
	static const struct fuse_getattr_in in;
	struct crowd *crowd = ctx;

	(void)index;
	*opcode = FUSE_GETATTR;
	*nodeid = crowd->herd.nodes[any_of(crowd)];
	memcpy(body, &in, sizeof(in));
	return sizeof(in);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double values[ROUNDS])
{
	qsort(values, ROUNDS, sizeof(values[0]), by_value);
	return values[ROUNDS / 2];
}

static void tell(const char *what, uint32_t count, double value, const char *unit)
{
	char key[96];

	(void)snprintf(key, sizeof(key), "%s:%u", what, count);
	bench_tell(key, value, unit);
}

static void measure_requests(struct reader *reader, struct crowd *crowd, const char *what,
			     const struct driver_work *work)
{
	double us[ROUNDS];

	for (int round = -1; round < ROUNDS; round++) {
		uint64_t cpu = bench_cpu_ns(reader->pid);

		driver_run(&reader->driver, work, REQUESTS);
		if (round >= 0)
			us[round] = (double)(bench_cpu_ns(reader->pid) - cpu) / 1e3 / REQUESTS;
	}
	CHECK_EQ(crowd->herd.errors, 0);
	tell(what, crowd->herd.count, median(us), "us");
}

/* The system call that is in a LOOKUP, on the same names. */
static void measure_bare(struct crowd *crowd)
{
	int *fds = calloc(herd_directories(&crowd->herd), sizeof(*fds));
	double us[ROUNDS];
	char name[64];

	CHECK(fds != NULL);
	for (uint32_t d = 0; d < herd_directories(&crowd->herd); d++) {
		herd_directory_name(name, d);
		fds[d] = openat(bench_share_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		CHECK(fds[d] >= 0);
	}
	for (int round = -1; round < ROUNDS; round++) {
		uint64_t cpu = bench_cpu_ns(getpid());

		for (int i = 0; i < REQUESTS; i++) {
			uint32_t index = any_of(crowd);
			struct statx attributes;

			(void)herd_file_name(name, index);
			CHECK(statx(fds[herd_directory_of(index)], name, AT_SYMLINK_NOFOLLOW,
				    STATX_BASIC_STATS, &attributes) == 0);
		}
		if (round >= 0)
			us[round] = (double)(bench_cpu_ns(getpid()) - cpu) / 1e3 / REQUESTS;
	}
	for (uint32_t d = 0; d < herd_directories(&crowd->herd); d++)
		(void)close(fds[d]);
	free(fds);
	tell("statx", crowd->herd.count, median(us), "us");
}

/* ---- events -------------------------------------------------------------------------------------- */

/* Changes of any of the watched files, made while the reader is frozen; the host tells one of each. */
static void measure_events(struct reader *reader, struct crowd *crowd)
{
	double us[ROUNDS];
	char what[64];

	for (int round = -1; round < ROUNDS; round++) {
		uint64_t before = reader_arrived(reader), began, cpu;
		uint32_t step = crowd->watched / EVENTS ? crowd->watched / EVENTS : 1;
		uint32_t count = 0;

		reader_freeze(reader);
		for (uint32_t i = any_of(crowd) % step; i < crowd->watched; i += step, count++) {
			herd_path(what, i);
			CHECK(fchmodat(bench_share_fd, what, 0600, 0) == 0);
		}
		cpu = bench_cpu_ns(reader->pid);
		began = bench_now_ns();
		reader_thaw(reader);
		while (reader_arrived(reader) < before + count)
			CHECK(bench_now_ns() - began < DEADLINE_NS);
		if (round >= 0)
			us[round] = (double)(bench_cpu_ns(reader->pid) - cpu) / 1e3 / count;
		CHECK_EQ(reader->events.overflows, 0);
	}
	(void)snprintf(what, sizeof(what), "event-%s", reader_names[reader->how]);
	tell(what, crowd->herd.count, median(us), "us");
}

static void measure_local_events(struct crowd *crowd)
{
	struct reader reader;
	char path[64];

	reader_start(&reader, READER_FANOTIFY, NULL);
	for (uint32_t i = 0; i < crowd->watched; i++) {
		herd_path(path, i);
		reader_watch(&reader, path, FAN_ATTRIB);
	}
	measure_events(&reader, crowd);
	reader_stop(&reader);
}

static void many(const char *share, uint32_t count)
{
	struct crowd crowd = {.watched = watchable(count), .random = count};
	const struct driver_work any_lookup = {
		.ctx = &crowd, .depth = DEPTH, .make = make_any_lookup, .answer = herd_note_error};
	const struct driver_work any_getattr = {
		.ctx = &crowd, .depth = DEPTH, .make = make_any_getattr, .answer = herd_note_error};
	struct driver_work each;
	struct reader reader;

	herd_make(&crowd.herd, count);
	CHECK(syncfs(bench_share_fd) == 0);
	sleep(SETTLED_S);
	measure_bare(&crowd);
	reader_start(&reader, READER_DAEMON, share);
	herd_find_directories(&crowd.herd, &reader);
	each = herd_lookups(&crowd.herd);
	driver_run(&reader.driver, &each, count);
	measure_requests(&reader, &crowd, "lookup", &any_lookup);
	measure_requests(&reader, &crowd, "getattr", &any_getattr);
	crowd.herd.mask = FAN_ATTRIB;
	each = herd_watches(&crowd.herd);
	driver_run(&reader.driver, &each, crowd.watched);
	tell("watches", count, crowd.watched, "watches");
	measure_requests(&reader, &crowd, "lookup-watched", &any_lookup);
	measure_events(&reader, &crowd);
	reader_stop(&reader);
	measure_local_events(&crowd);
	herd_remove(&crowd.herd);
}

/* ---- requests and events together ------------------------------------------------------------------ */

struct page_reads {
	uint64_t node, handle;
	uint64_t random;
	uint64_t errors;
};

static size_t make_read(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid, void *body)
{
	struct page_reads *reads = ctx;
	struct fuse_read_in in = {.fh = reads->handle, .size = READ_BYTES};

	(void)index;
	reads->random = reads->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	in.offset = (reads->random >> 40) % FILE_PAGES * READ_BYTES;
	*opcode = FUSE_READ;
	*nodeid = reads->node;
	memcpy(body, &in, sizeof(in));
	return sizeof(in);
}

static void note_read(void *ctx, uint64_t index, int error, const void *payload, size_t bytes)
{
	struct page_reads *reads = ctx;

	(void)index;
	(void)payload;
	reads->errors += error != 0 || bytes != READ_BYTES;
}

/* Processor time of the threads of @pid whose name begins with @name. */
static uint64_t threads_cpu_ns(pid_t pid, const char *name)
{
	char path[320], line[64];
	uint64_t sum = 0;
	struct dirent *entry;
	DIR *tasks;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	CHECK(tasks != NULL);
	while ((entry = readdir(tasks))) {
		unsigned long long ns = 0;
		FILE *file;

		(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)pid,
			       entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (!file)
			continue;
		CHECK(fgets(line, sizeof(line), file) != NULL);
		(void)fclose(file);
		if (strncmp(line, name, strlen(name)) != 0)
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid,
			       entry->d_name);
		file = fopen(path, "re");
		CHECK(file != NULL && fscanf(file, "%llu", &ns) == 1);
		(void)fclose(file);
		sum += ns;
	}
	(void)closedir(tasks);
	return sum;
}

/* The host changes files of "s", so many a second, until killed. */
static pid_t start_actor(void)
{
	pid_t actor;

	(void)fflush(stdout);
	actor = fork();
	CHECK(actor >= 0);
	if (actor == 0) {
		const uint64_t began = bench_now_ns();
		uint64_t made = 0, due;

		for (;;) {
			due = (bench_now_ns() - began) * EVENTS_PER_S / 1000000000u;
			if (made >= due) {
				const struct timespec rest = {.tv_nsec = 200000};

				(void)nanosleep(&rest, NULL);
			}
			for (; made < due; made++)
				host_change_file("s", (int)(made % EVENTS));
		}
	}
	return actor;
}

/* Returns what part of a processor it had. */
static double end_actor(pid_t actor, uint64_t ns)
{
	double part = actor > 0 ? (double)bench_cpu_ns(actor) / (double)ns : 0;

	if (actor > 0) {
		CHECK(kill(actor, SIGKILL) == 0);
		CHECK(waitpid(actor, NULL, 0) == actor);
	}
	return part;
}

/* What is still on its way is no part of the next turn. */
static void settle(struct reader *reader)
{
	uint64_t before;

	do {
		const struct timespec rest = {.tv_nsec = 20000000};

		before = reader_arrived(reader);
		(void)nanosleep(&rest, NULL);
	} while (reader_arrived(reader) != before);
}

/* One turn: reads, events or both. */
static void turn(struct reader *reader, struct page_reads *reads, const char *what)
{
	const struct driver_work work = {
		.ctx = reads, .depth = DEPTH, .make = make_read, .answer = note_read};
	pid_t actor = reads && strcmp(what, "reads") == 0 ? 0 : start_actor();
	uint64_t began = bench_now_ns(), events = reader_arrived(reader), done = 0, now;
	uint64_t ring_cpu = threads_cpu_ns(reader->pid, "vfsd-ring");
	uint64_t event_cpu = threads_cpu_ns(reader->pid, "vfsd-events");
	double part;
	char key[96];

	do {
		if (reads) {
			driver_run(&reader->driver, &work, 1000);
			done += 1000;
		} else {
			const struct timespec rest = {.tv_nsec = 200000};

			(void)nanosleep(&rest, NULL);
		}
		(void)reader_arrived(reader);
		now = bench_now_ns();
	} while (now - began < TOGETHER_S * UINT64_C(1000000000));
	ring_cpu = threads_cpu_ns(reader->pid, "vfsd-ring") - ring_cpu;
	event_cpu = threads_cpu_ns(reader->pid, "vfsd-events") - event_cpu;
	events = reader_arrived(reader) - events;
	part = end_actor(actor, now - began);
	if (reads) {
		CHECK_EQ(reads->errors, 0);
		(void)snprintf(key, sizeof(key), "read-rate:%s", what);
		bench_tell(key, (double)done * 1e9 / (double)(now - began), "1/s");
		(void)snprintf(key, sizeof(key), "read-cpu:%s", what);
		bench_tell(key, (double)ring_cpu / 1e3 / (double)done, "us");
	}
	if (actor) {
		(void)snprintf(key, sizeof(key), "event-rate:%s", what);
		bench_tell(key, (double)events * 1e9 / (double)(now - began), "1/s");
		(void)snprintf(key, sizeof(key), "event-cpu:%s", what);
		bench_tell(key, (double)event_cpu / 1e3 / (double)events, "us");
		(void)snprintf(key, sizeof(key), "actor-cpu:%s", what);
		bench_tell(key, part, "processors");
	}
	CHECK_EQ(reader->events.overflows, 0);
	settle(reader);
}

static void together(const char *share)
{
	static char page[READ_BYTES];
	const struct fuse_open_in in = {.flags = O_RDONLY};
	struct page_reads reads = {.random = 1};
	struct fuse_open_out opened;
	struct reader reader;
	int fd = openat(bench_share_fd, "data", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	for (int i = 0; i < FILE_PAGES; i++)
		CHECK(write(fd, page, sizeof(page)) == sizeof(page));
	(void)close(fd);
	host_make_directory("s");
	for (int i = 0; i < EVENTS; i++)
		host_make_file("s", i);
	reader_start(&reader, READER_DAEMON, share);
	reads.node = reader_lookup(&reader, VFSD_NODEID_ROOT, "data");
	CHECK_EQ(driver_ask(&reader.driver, FUSE_OPEN, reads.node, &in, sizeof(in), &opened,
			    sizeof(opened)),
		 0);
	reads.handle = opened.fh;
	reader_watch(&reader, "s", FAN_ATTRIB | FAN_EVENT_ON_CHILD);
	for (int round = 0; round < ROUNDS; round++) {
		turn(&reader, &reads, "reads");
		turn(&reader, NULL, "events");
		turn(&reader, &reads, "both");
	}
	reader_stop(&reader);
	for (int i = 0; i < EVENTS; i++)
		host_remove_file("s", i);
	CHECK(unlinkat(bench_share_fd, "s", AT_REMOVEDIR) == 0);
	CHECK(unlinkat(bench_share_fd, "data", 0) == 0);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		(void)fprintf(stderr, "usage: %s DIRECTORY {COUNT...|together}\n", argv[0]);
		return 2;
	}
	bench_share_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(bench_share_fd >= 0);
	(void)umask(022);
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "together") == 0)
			together(argv[1]);
		else
			many(argv[1], (uint32_t)strtoul(argv[i], NULL, 10));
	}
	(void)close(bench_share_fd);
	return 0;
}
