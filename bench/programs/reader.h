/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reader - whoever hears of events: the device in a process of its own, or a program that reads them
 * from fanotify or inotify itself; and the host that makes them.
 *
 * Whatever fails ends the program. Owner thread: one.
 */
#ifndef BENCH_READER_H
#define BENCH_READER_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine_driver.h"

enum reader_how { READER_DAEMON, READER_FANOTIFY, READER_INOTIFY, READERS };

extern const char *const reader_names[READERS];

struct reader {
	enum reader_how how;
	pid_t pid;
	int end_fd;
	int group;		 /* of the local ones */
	_Atomic uint64_t *count; /* events the local ones have read, in shared memory */
	struct driver driver;	 /* of the device */
	struct driver_events events;
};

/* The directory that is shared, and where the host acts. */
extern int bench_share_fd;

uint64_t bench_now_ns(void);

/* Processor time of a process. */
uint64_t bench_cpu_ns(pid_t pid);

/* Print "WHAT VALUE UNIT". */
void bench_tell(const char *what, double value, const char *unit);

/* @share is the directory's path; only the device wants it. */
void reader_start(struct reader *reader, enum reader_how how, const char *share);
void reader_stop(struct reader *reader);

/* It reads nothing meanwhile, and what happens waits in the host's queue. */
void reader_freeze(const struct reader *reader);
void reader_thaw(const struct reader *reader);

/* Of the device: the node id of @name. */
uint64_t reader_lookup(struct reader *reader, uint64_t parent, const char *name);

/* @name is below the shared directory. */
void reader_watch(struct reader *reader, const char *name, uint32_t mask);

/* Events that have arrived so far. */
uint64_t reader_arrived(struct reader *reader);

void host_make_directory(const char *name);
void host_name_of(char name[64], const char *directory, int number);
void host_make_file(const char *directory, int number);
void host_change_file(const char *directory, int number);
void host_remove_file(const char *directory, int number);

#endif
