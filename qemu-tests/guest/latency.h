/* SPDX-License-Identifier: BSD-3-Clause */
/* latency - from before a system call on the host to the return of read(inotify_fd) here. */
#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>

/*
 * COUNT times, one after the other: chmod of a file in @behind, which is the directory @seen as the
 * host has it (hostfs) or the same (a local file system), and its event. Prints the median and the
 * 99th percentile in nanoseconds as two words. Returns COUNT or -errno.
 */
int64_t latency_run(int64_t count, const char *seen, const char *behind);

#endif
