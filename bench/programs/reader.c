/* SPDX-License-Identifier: BSD-3-Clause */
#include "reader.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "device/engine.h"
#include "inode/inode.h"
#include "fuse/wire.h"

enum { READ_BYTES = 65536 };

int bench_share_fd = -1;

uint64_t bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_cpu_ns(pid_t pid)
{
	struct timespec used;
	clockid_t clock;

	CHECK(clock_getcpuclockid(pid, &clock) == 0);
	CHECK(clock_gettime(clock, &used) == 0);
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

void bench_tell(const char *what, double value, const char *unit)
{
	(void)printf("%s %.6g %s\n", what, value, unit);
	(void)fflush(stdout);
}

/* ---- readers: the device, or a local program ------------------------------------------------- */

const char *const reader_names[READERS] = {"daemon", "fanotify", "inotify"};

static uint64_t events_in(const struct reader *reader, const char *at, ssize_t bytes)
{
	const char *end = at + bytes;
	uint64_t count = 0;

	while (at < end) {
		count++;
		if (reader->how == READER_INOTIFY)
			at += sizeof(struct inotify_event) +
			      ((const struct inotify_event *)(const void *)at)->len;
		else
			at += ((const struct fanotify_event_metadata *)(const void *)at)->event_len;
	}
	return count;
}

static _Noreturn void run_local(const struct reader *reader)
{
	static char buffer[READ_BYTES] __attribute__((aligned(8)));
	ssize_t got;

	while ((got = read(reader->group, buffer, sizeof(buffer))) > 0)
		atomic_fetch_add(reader->count, events_in(reader, buffer, got));
	_exit(1);
}

static _Noreturn void run_engine(const struct reader *reader, const char *share, int end_fd,
				 int ready_fd)
{
	struct vfsd_engine *engine = driver_engine(&reader->driver, share);
	char byte;

	CHECK(write(ready_fd, "", 1) == 1);
	(void)!read(end_fd, &byte, 1);
	vfsd_engine_destroy(engine);
	_exit(0);
}

void reader_start(struct reader *reader, enum reader_how how, const char *share)
{
	int ends[2], ready[2];
	char byte;

	*reader = (struct reader){.how = how};
	CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(ready, O_CLOEXEC) == 0);
	reader->count = mmap(NULL, sizeof(*reader->count), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(reader->count != MAP_FAILED);
	if (how == READER_DAEMON)
		driver_create(&reader->driver);
	else if (how == READER_INOTIFY)
		reader->group = inotify_init1(IN_CLOEXEC);
	else
		reader->group = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_REPORT_FID |
						      FAN_REPORT_DFID_NAME,
					      O_RDONLY);
	CHECK(reader->group >= 0);
	(void)fflush(stdout);
	reader->pid = fork();
	CHECK(reader->pid >= 0);
	if (reader->pid == 0) {
		(void)close(ends[1]);
		if (how == READER_DAEMON)
			run_engine(reader, share, ends[0], ready[1]);
		run_local(reader);
	}
	(void)close(ends[0]);
	(void)close(ready[1]);
	reader->end_fd = ends[1];
	if (how == READER_DAEMON) {
		CHECK(read(ready[0], &byte, 1) == 1);
		CHECK(driver_start(&reader->driver));
	}
	(void)close(ready[0]);
}

void reader_stop(struct reader *reader)
{
	(void)close(reader->end_fd);
	if (reader->how != READER_DAEMON) {
		CHECK(kill(reader->pid, SIGKILL) == 0);
		(void)close(reader->group);
	}
	CHECK(waitpid(reader->pid, NULL, 0) == reader->pid);
	if (reader->how == READER_DAEMON)
		driver_destroy(&reader->driver);
	(void)munmap(reader->count, sizeof(*reader->count));
}

uint64_t reader_lookup(struct reader *reader, uint64_t parent, const char *name)
{
	struct fuse_entry_out entry;

	CHECK_EQ(driver_ask(&reader->driver, FUSE_LOOKUP, parent, name, strlen(name) + 1, &entry,
			    sizeof(entry)),
		 0);
	return entry.nodeid;
}

void reader_watch(struct reader *reader, const char *name, uint32_t mask)
{
	const struct fuse_fsnotify_in interest = {.mask = mask};

	if (reader->how == READER_DAEMON)
		CHECK_EQ(driver_ask(&reader->driver, FUSE_FSNOTIFY,
				    reader_lookup(reader, VFSD_NODEID_ROOT, name), &interest,
				    sizeof(interest), NULL, 0),
			 0);
	else if (reader->how == READER_FANOTIFY)
		CHECK(fanotify_mark(reader->group, FAN_MARK_ADD, mask | FAN_EVENT_ON_CHILD,
				    bench_share_fd, name) == 0);
	else {
		char path[128];

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", bench_share_fd, name);
		CHECK(inotify_add_watch(reader->group, path,
					mask & ~(uint32_t)FAN_EVENT_ON_CHILD) >= 0);
	}
}

/* Events that have arrived so far. */
uint64_t reader_arrived(struct reader *reader)
{
	if (reader->how != READER_DAEMON)
		return atomic_load(reader->count);
	driver_take(&reader->driver, &reader->events);
	return reader->events.records;
}

void reader_freeze(const struct reader *reader)
{
	CHECK(kill(reader->pid, SIGSTOP) == 0);
	CHECK(waitpid(reader->pid, NULL, WUNTRACED) == reader->pid);
}

void reader_thaw(const struct reader *reader)
{
	CHECK(kill(reader->pid, SIGCONT) == 0);
}

/* ---- the host -------------------------------------------------------------------------------- */

void host_make_directory(const char *name)
{
	CHECK(mkdirat(bench_share_fd, name, 0755) == 0);
}

void host_name_of(char name[64], const char *directory, int number)
{
	(void)snprintf(name, 64, "%s/file-%08d", directory, number);
}

void host_make_file(const char *directory, int number)
{
	char name[64];

	host_name_of(name, directory, number);
	CHECK(mknodat(bench_share_fd, name, S_IFREG | 0644, 0) == 0);
}

void host_change_file(const char *directory, int number)
{
	char name[64];

	host_name_of(name, directory, number);
	CHECK(fchmodat(bench_share_fd, name, 0600, 0) == 0);
}

void host_remove_file(const char *directory, int number)
{
	char name[64];

	host_name_of(name, directory, number);
	CHECK(unlinkat(bench_share_fd, name, 0) == 0);
}
