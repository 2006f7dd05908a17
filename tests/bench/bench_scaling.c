/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_scaling - what a request and an event cost when there are many inodes and watches, and what
 * requests and events cost each other.
 *
 *   bench_scaling DIRECTORY COUNT...
 *   bench_scaling DIRECTORY together
 *
 * DIRECTORY is emptied. Prints "WHAT VALUE UNIT" lines; tests/bench/scaling makes tables of them.
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
#include "inode.h"
#include "reader.h"
#include "wire.h"

enum {
	PER_DIRECTORY = 1000,
	REQUESTS = 200000,
	DEPTH = 32,
	EVENTS = 10000, /* fits into the host's queue */
	ROUNDS = 5,
	READ_BYTES = 4096,
	FILE_PAGES = 4096,
	EVENTS_PER_S = 100000,
	TOGETHER_S = 3,
};

#define DEADLINE_NS UINT64_C(60000000000)

/* ---- a herd of files ---------------------------------------------------------------------------- */

struct herd {
	uint32_t count;
	uint32_t watched; /* the first of them */
	uint64_t *directories;
	uint64_t *nodes;
	uint32_t mask;	 /* of watches */
	uint64_t random; /* state */
	uint64_t errors;
};

static uint32_t any_of(struct herd *herd)
{
	herd->random = herd->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(((herd->random >> 32) * herd->count) >> 32);
}

static int directory_of(uint32_t index)
{
	return (int)(index / PER_DIRECTORY);
}

static void directory_name(char name[16], int directory)
{
	(void)snprintf(name, 16, "w%d", directory);
}

static size_t file_name(void *body, uint32_t index)
{
	return (size_t)snprintf(body, 64, "file-%08d", (int)(index % PER_DIRECTORY)) + 1;
}

static void path_of(char path[64], uint32_t index)
{
	char directory[16];

	directory_name(directory, directory_of(index));
	host_name_of(path, directory, (int)(index % PER_DIRECTORY));
}

static int directories(const struct herd *herd)
{
	return directory_of(herd->count - 1) + 1;
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

static void make_herd(struct herd *herd, uint32_t count)
{
	char name[64];

	*herd = (struct herd){.count = count, .watched = watchable(count), .random = count};
	herd->directories = calloc((size_t)directories(herd), sizeof(*herd->directories));
	herd->nodes = calloc(count, sizeof(*herd->nodes));
	CHECK(herd->directories && herd->nodes);
	for (int d = 0; d < directories(herd); d++) {
		directory_name(name, d);
		host_make_directory(name);
	}
	for (uint32_t i = 0; i < count; i++) {
		path_of(name, i);
		CHECK(mknodat(bench_share_fd, name, S_IFREG | 0644, 0) == 0);
	}
	CHECK(syncfs(bench_share_fd) == 0);
	/* Those that are younger cost one system call more. */
	sleep(6);
}

static void remove_herd(struct herd *herd)
{
	char name[64];

	for (uint32_t i = 0; i < herd->count; i++) {
		path_of(name, i);
		CHECK(unlinkat(bench_share_fd, name, 0) == 0);
	}
	for (int d = 0; d < directories(herd); d++) {
		directory_name(name, d);
		CHECK(unlinkat(bench_share_fd, name, AT_REMOVEDIR) == 0);
	}
	free(herd->directories);
	free(herd->nodes);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static size_t make_lookup(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid, void *body)
{
	const struct herd *herd = ctx;

	*opcode = FUSE_LOOKUP;
	*nodeid = herd->directories[directory_of((uint32_t)index)];
	return file_name(body, (uint32_t)index);
}

static void note_node(void *ctx, uint64_t index, int error, const void *payload, size_t bytes)
{
	struct herd *herd = ctx;
	struct fuse_entry_out entry = {0};

	herd->errors += error != 0 || bytes < sizeof(entry);
	if (error == 0 && bytes >= sizeof(entry))
		memcpy(&entry, payload, sizeof(entry));
	herd->nodes[index] = entry.nodeid;
}

static void note_error(void *ctx, uint64_t index, int error, const void *payload, size_t bytes)
{
	struct herd *herd = ctx;

	(void)index;
	(void)payload;
	(void)bytes;
	herd->errors += error != 0;
}

static size_t make_any_lookup(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid,
			      void *body)
{
	(void)index;
	return make_lookup(ctx, any_of(ctx), opcode, nodeid, body);
}

static size_t make_any_getattr(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid,
			       void *body)
{
	static const struct fuse_getattr_in in;
	struct herd *herd = ctx;

	(void)index;
	*opcode = FUSE_GETATTR;
	*nodeid = herd->nodes[any_of(herd)];
	memcpy(body, &in, sizeof(in));
	return sizeof(in);
}

static size_t make_watch(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid, void *body)
{
	const struct herd *herd = ctx;
	const struct fuse_fsnotify_in interest = {.mask = herd->mask};

	*opcode = FUSE_FSNOTIFY;
	*nodeid = herd->nodes[index];
	memcpy(body, &interest, sizeof(interest));
	return sizeof(interest);
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

static void measure_requests(struct reader *reader, struct herd *herd, const char *what,
			     const struct driver_work *work)
{
	double us[ROUNDS];

	for (int round = -1; round < ROUNDS; round++) {
		uint64_t cpu = bench_cpu_ns(reader->pid);

		driver_run(&reader->driver, work, REQUESTS);
		if (round >= 0)
			us[round] = (double)(bench_cpu_ns(reader->pid) - cpu) / 1e3 / REQUESTS;
	}
	CHECK_EQ(herd->errors, 0);
	tell(what, herd->count, median(us), "us");
}

/* The system call that is in a LOOKUP, on the same names. */
static void measure_bare(struct herd *herd)
{
	int *fds = calloc((size_t)directories(herd), sizeof(*fds));
	double us[ROUNDS];
	char name[64];

	CHECK(fds != NULL);
	for (int d = 0; d < directories(herd); d++) {
		directory_name(name, d);
		fds[d] = openat(bench_share_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		CHECK(fds[d] >= 0);
	}
	for (int round = -1; round < ROUNDS; round++) {
		uint64_t cpu = bench_cpu_ns(getpid());

		for (int i = 0; i < REQUESTS; i++) {
			uint32_t index = any_of(herd);
			struct statx attributes;

			(void)file_name(name, index);
			CHECK(statx(fds[directory_of(index)], name, AT_SYMLINK_NOFOLLOW,
				    STATX_BASIC_STATS, &attributes) == 0);
		}
		if (round >= 0)
			us[round] = (double)(bench_cpu_ns(getpid()) - cpu) / 1e3 / REQUESTS;
	}
	for (int d = 0; d < directories(herd); d++)
		(void)close(fds[d]);
	free(fds);
	tell("statx", herd->count, median(us), "us");
}

/* ---- events -------------------------------------------------------------------------------------- */

static void freeze(const struct reader *reader)
{
	CHECK(kill(reader->pid, SIGSTOP) == 0);
	CHECK(waitpid(reader->pid, NULL, WUNTRACED) == reader->pid);
}

/* Changes of any of the watched files, made while the reader is frozen; the host tells one of each. */
static void measure_events(struct reader *reader, struct herd *herd)
{
	double us[ROUNDS];
	char what[64];

	for (int round = -1; round < ROUNDS; round++) {
		uint64_t before = reader_arrived(reader), began, cpu;
		uint32_t step = herd->watched / EVENTS ? herd->watched / EVENTS : 1;
		uint32_t count = 0;

		freeze(reader);
		for (uint32_t i = any_of(herd) % step; i < herd->watched; i += step, count++) {
			path_of(what, i);
			CHECK(fchmodat(bench_share_fd, what, 0600, 0) == 0);
		}
		cpu = bench_cpu_ns(reader->pid);
		began = bench_now_ns();
		CHECK(kill(reader->pid, SIGCONT) == 0);
		while (reader_arrived(reader) < before + count)
			CHECK(bench_now_ns() - began < DEADLINE_NS);
		if (round >= 0)
			us[round] = (double)(bench_cpu_ns(reader->pid) - cpu) / 1e3 / count;
		CHECK_EQ(reader->events.overflows, 0);
	}
	(void)snprintf(what, sizeof(what), "event-%s", reader_names[reader->how]);
	tell(what, herd->count, median(us), "us");
}

static void measure_local_events(struct herd *herd)
{
	struct reader reader;
	char path[64];

	reader_start(&reader, READER_FANOTIFY, NULL);
	for (uint32_t i = 0; i < herd->watched; i++) {
		path_of(path, i);
		reader_watch(&reader, path, FAN_ATTRIB);
	}
	measure_events(&reader, herd);
	reader_stop(&reader);
}

static void many(const char *share, uint32_t count)
{
	struct herd herd;
	const struct driver_work look = {.ctx = &herd, .make = make_lookup, .answer = note_node},
				 set = {.ctx = &herd, .make = make_watch, .answer = note_error},
				 any_lookup = {.ctx = &herd,
					       .depth = DEPTH,
					       .make = make_any_lookup,
					       .answer = note_error},
				 any_getattr = {.ctx = &herd,
						.depth = DEPTH,
						.make = make_any_getattr,
						.answer = note_error};
	struct reader reader;
	char name[16];

	make_herd(&herd, count);
	measure_bare(&herd);
	reader_start(&reader, READER_DAEMON, share);
	for (int d = 0; d < directories(&herd); d++) {
		directory_name(name, d);
		herd.directories[d] = reader_lookup(&reader, VFSD_NODEID_ROOT, name);
	}
	driver_run(&reader.driver, &look, count);
	measure_requests(&reader, &herd, "lookup", &any_lookup);
	measure_requests(&reader, &herd, "getattr", &any_getattr);
	herd.mask = FAN_ATTRIB;
	driver_run(&reader.driver, &set, herd.watched);
	tell("watches", count, herd.watched, "watches");
	measure_requests(&reader, &herd, "lookup-watched", &any_lookup);
	measure_events(&reader, &herd);
	reader_stop(&reader);
	measure_local_events(&herd);
	remove_herd(&herd);
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
