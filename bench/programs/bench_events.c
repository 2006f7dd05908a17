/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_events - how fast host events reach the notification ring, beside programs that read the
 * same events from inotify and fanotify themselves.
 *
 *   bench_events DIRECTORY
 *
 * DIRECTORY is emptied. Prints "WHAT VALUE UNIT" lines; bench/events makes a table of them. Three
 * processes take part: a device (the engine), a driver that is also the host's actor, and a local
 * reader. Times are CLOCK_MONOTONIC, of what happens in order between processes that share memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
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
#include "engine_driver.h"
#include "herd.h"
#include "inode/inode.h"
#include "reader.h"
#include "fuse/wire.h"

enum {
	LATENCY_ROUNDS = 5000,
	/* Fits into the host's queue of 16384. */
	BURST = 16000,
	BURSTS = 9,
	SUSTAINED_S = 5,
	WATCHES = 100000,
	/* Between operations, so that readers have gone to sleep again. */
	PAUSE_NS = 100000,
};

/* For any one thing to come. */
#define DEADLINE_NS UINT64_C(60000000000)

/* ---- latency: from before the system call to the entry in the ring ---------------------------- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void pause_ns(uint64_t ns)
{
	const struct timespec time = {.tv_nsec = (long)ns};

	(void)nanosleep(&time, NULL);
}

static void latency(enum reader_how how, const char *share)
{
	static uint64_t times[LATENCY_ROUNDS];
	struct reader reader;
	char what[64];

	host_make_directory("l");
	host_make_file("l", 0);
	reader_start(&reader, how, share);
	reader_watch(&reader, "l", FAN_ATTRIB | FAN_EVENT_ON_CHILD);
	for (int i = 0; i < LATENCY_ROUNDS; i++) {
		uint64_t before = reader_arrived(&reader), began;

		pause_ns(PAUSE_NS);
		began = bench_now_ns();
		host_change_file("l", 0);
		if (how == READER_DAEMON)
			while (!driver_notified(&reader.driver))
				CHECK(bench_now_ns() - began < DEADLINE_NS);
		else
			while (atomic_load(reader.count) == before)
				CHECK(bench_now_ns() - began < DEADLINE_NS);
		times[i] = bench_now_ns() - began;
	}
	reader_stop(&reader);
	host_remove_file("l", 0);
	CHECK(unlinkat(bench_share_fd, "l", AT_REMOVEDIR) == 0);
	qsort(times, LATENCY_ROUNDS, sizeof(times[0]), by_value);
	(void)snprintf(what, sizeof(what), "latency-p50:%s", reader_names[how]);
	bench_tell(what, (double)times[LATENCY_ROUNDS / 2] / 1e3, "us");
	(void)snprintf(what, sizeof(what), "latency-p99:%s", reader_names[how]);
	bench_tell(what, (double)times[LATENCY_ROUNDS / 100 * 99] / 1e3, "us");
}

/* ---- capacity: a full host queue, then go ------------------------------------------------------ */

/* Does @act to BURST files while the reader is frozen. Returns how long it then took to take all. */
static uint64_t burst(struct reader *reader, void (*act)(const char *directory, int number),
		      uint64_t *cpu)
{
	uint64_t before = reader_arrived(reader), began, cpu_began;

	reader_freeze(reader);
	for (int i = 0; i < BURST; i++)
		act("b", i);
	cpu_began = bench_cpu_ns(reader->pid);
	began = bench_now_ns();
	reader_thaw(reader);
	while (reader_arrived(reader) < before + BURST)
		CHECK(bench_now_ns() - began < DEADLINE_NS);
	began = bench_now_ns() - began;
	*cpu = bench_cpu_ns(reader->pid) - cpu_began;
	CHECK_EQ(reader_arrived(reader), before + BURST);
	CHECK_EQ(reader->events.overflows, 0);
	return began;
}

static void capacity(enum reader_how how, const char *share)
{
	static const struct {
		const char *name;
		void (*act)(const char *directory, int number);
	} acts[] = {{"create", host_make_file},
		    {"attrib", host_change_file},
		    {"delete", host_remove_file}};
	uint64_t times[3][BURSTS], cpus[3][BURSTS];
	struct reader reader;
	char what[64];

	host_make_directory("b");
	reader_start(&reader, how, share);
	reader_watch(&reader, "b", FAN_CREATE | FAN_DELETE | FAN_ATTRIB | FAN_EVENT_ON_CHILD);
	for (int i = 0; i < BURSTS; i++)
		for (int a = 0; a < 3; a++)
			times[a][i] = burst(&reader, acts[a].act, &cpus[a][i]);
	reader_stop(&reader);
	CHECK(unlinkat(bench_share_fd, "b", AT_REMOVEDIR) == 0);
	for (int a = 0; a < 3; a++) {
		qsort(times[a], BURSTS, sizeof(times[a][0]), by_value);
		qsort(cpus[a], BURSTS, sizeof(cpus[a][0]), by_value);
		(void)snprintf(what, sizeof(what), "capacity-%s:%s", acts[a].name,
			       reader_names[how]);
		bench_tell(what, BURST * 1e9 / (double)times[a][0], "events/s"); /* undisturbed */
		(void)snprintf(what, sizeof(what), "cpu-%s:%s", acts[a].name, reader_names[how]);
		bench_tell(what, (double)cpus[a][BURSTS / 2] / 1e3 / BURST, "us/event");
	}
}

/* ---- sustained: as fast as one actor can, while no more wait than the host's queue holds ------- */

struct sustained {
	_Atomic uint64_t made, taken;
	_Atomic bool done;
};

static _Noreturn void run_actor(struct sustained *shared)
{
	const uint64_t end = bench_now_ns() + SUSTAINED_S * UINT64_C(1000000000);
	uint64_t made = 0;

	while (made % BURST != 0 || bench_now_ns() < end) {
		while (made - atomic_load(&shared->taken) > BURST / 2)
			(void)sched_yield();
		host_change_file("s", (int)(made % BURST));
		atomic_store(&shared->made, ++made);
	}
	atomic_store(&shared->done, true);
	_exit(0);
}

static void sustained(enum reader_how how, const char *share)
{
	struct sustained *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t began, cpu, before;
	struct reader reader;
	char what[64];
	pid_t actor;

	CHECK(shared != MAP_FAILED);
	host_make_directory("s");
	for (int i = 0; i < BURST; i++)
		host_make_file("s", i);
	reader_start(&reader, how, share);
	reader_watch(&reader, "s", FAN_ATTRIB | FAN_EVENT_ON_CHILD);
	before = reader_arrived(&reader);
	cpu = bench_cpu_ns(reader.pid);
	began = bench_now_ns();
	(void)fflush(stdout);
	actor = fork();
	CHECK(actor >= 0);
	if (actor == 0)
		run_actor(shared);
	/* The driver sleeps as a guest does that has nothing to do. */
	while (!atomic_load(&shared->done) || atomic_load(&shared->taken) < shared->made) {
		pause_ns(PAUSE_NS);
		atomic_store(&shared->taken, reader_arrived(&reader) - before);
		CHECK(bench_now_ns() - began < DEADLINE_NS);
	}
	began = bench_now_ns() - began;
	cpu = bench_cpu_ns(reader.pid) - cpu;
	CHECK(waitpid(actor, NULL, 0) == actor);
	CHECK_EQ(shared->taken, shared->made);
	CHECK_EQ(reader.events.overflows, 0);
	reader_stop(&reader);
	for (int i = 0; i < BURST; i++)
		host_remove_file("s", i);
	CHECK(unlinkat(bench_share_fd, "s", AT_REMOVEDIR) == 0);
	(void)snprintf(what, sizeof(what), "sustained:%s", reader_names[how]);
	bench_tell(what, (double)shared->made * 1e9 / (double)began, "events/s");
	(void)snprintf(what, sizeof(what), "sustained-cpu:%s", reader_names[how]);
	bench_tell(what, (double)cpu / 1e3 / (double)shared->made, "us/event");
	(void)munmap(shared, sizeof(*shared));
}

/* ---- watches ----------------------------------------------------------------------------------- */

/* Memory of its own that a process has, bytes. */
static uint64_t private_bytes(pid_t pid)
{
	unsigned long long kib, sum = 0;
	char path[64], line[256];
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	file = fopen(path, "re");
	CHECK(file != NULL);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Private_Dirty: %llu kB", &kib) == 1)
			sum += kib;
	(void)fclose(file);
	return sum * 1024;
}

struct cost {
	uint64_t wall_ns, cpu_ns, bytes;
};

static struct cost work(struct reader *reader, const struct driver_work *what)
{
	struct cost cost = {bench_now_ns(), bench_cpu_ns(reader->pid), private_bytes(reader->pid)};

	driver_run(&reader->driver, what, WATCHES);
	cost.wall_ns = bench_now_ns() - cost.wall_ns;
	cost.cpu_ns = bench_cpu_ns(reader->pid) - cost.cpu_ns;
	cost.bytes = private_bytes(reader->pid) - cost.bytes;
	return cost;
}

/* The same watches by a local program, for comparison. */
static uint64_t local_watches_ns(enum reader_how how)
{
	struct reader reader;
	uint64_t began;
	char path[64];

	reader_start(&reader, how, NULL);
	began = bench_now_ns();
	for (uint32_t i = 0; i < WATCHES; i++) {
		herd_path(path, i);
		reader_watch(&reader, path, FAN_MODIFY);
	}
	began = bench_now_ns() - began;
	reader_stop(&reader);
	return began;
}

static void watches(const char *share)
{
	struct cost looking, setting, clearing;
	struct driver_work each;
	struct reader reader;
	struct herd herd;

	herd_make(&herd, WATCHES);
	reader_start(&reader, READER_DAEMON, share);
	herd_find_directories(&herd, &reader);
	each = herd_lookups(&herd);
	looking = work(&reader, &each);
	each = herd_watches(&herd);
	herd.mask = FAN_MODIFY;
	setting = work(&reader, &each);
	herd.mask = 0;
	clearing = work(&reader, &each);
	CHECK_EQ(herd.errors, 0);
	reader_stop(&reader);
	bench_tell("watches-rate:daemon", WATCHES * 1e9 / (double)setting.wall_ns, "watches/s");
	bench_tell("watches-capacity:daemon", WATCHES * 1e9 / (double)setting.cpu_ns, "watches/s");
	bench_tell("watches-rate:fanotify",
		   WATCHES * 1e9 / (double)local_watches_ns(READER_FANOTIFY), "watches/s");
	bench_tell("watches-rate:inotify", WATCHES * 1e9 / (double)local_watches_ns(READER_INOTIFY),
		   "watches/s");
	bench_tell("unwatch-capacity:daemon", WATCHES * 1e9 / (double)clearing.cpu_ns, "watches/s");
	bench_tell("memory-inode:daemon", (double)looking.bytes / WATCHES, "bytes");
	bench_tell("memory-watch:daemon", (double)setting.bytes / WATCHES, "bytes");
	bench_tell("memory-both:daemon", (double)(looking.bytes + setting.bytes) / WATCHES,
		   "bytes");
	herd_remove(&herd);
}

int main(int argc, char **argv)
{
	const char *only = argc > 2 ? argv[2] : "";

	if (argc < 2) {
		(void)fprintf(stderr, "usage: %s DIRECTORY [latency|capacity|sustained|watches]\n",
			      argv[0]);
		return 2;
	}
	bench_share_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(bench_share_fd >= 0);
	(void)umask(022);
	for (enum reader_how how = READER_DAEMON; how < READERS; how++) {
		if (!*only || strcmp(only, "latency") == 0)
			latency(how, argv[1]);
		if (!*only || strcmp(only, "capacity") == 0)
			capacity(how, argv[1]);
		if (!*only || strcmp(only, "sustained") == 0)
			sustained(how, argv[1]);
	}
	if (!*only || strcmp(only, "watches") == 0)
		watches(argv[1]);
	(void)close(bench_share_fd);
	return 0;
}
