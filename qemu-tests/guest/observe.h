/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * observe - several inotify instances and fanotify groups that watch at the same time and are read when all is over.
 *
 * Nobody reads an observer before its end: what it would merge, it merges. A separate instance, which watches a
 * directory of markers, shows when all is over: whoever made a change makes a marker after it, and since the
 * events of one kernel are queued in order, all of the change's are there when the marker's is.
 */
#ifndef OBSERVE_H
#define OBSERVE_H

#include <stdint.h>

enum { OBSERVERS_MAX = 16 };

/* Observer @index, made by its first watch, watches @path. Watch descriptor or -errno. */
int64_t observe_add(int index, const char *path, uint32_t mask);
/*
 * The same for a fanotify group that reports names (FAN_REPORT_DFID_NAME), a new one if @index has
 * none. @mask is FAN_*. Its number as a "watch descriptor", counted from 1, or -errno.
 */
int64_t observe_mark(int index, const char *path, uint64_t mask);
/* 0 or -errno. */
int64_t observe_remove(int index, int wd);

/* Watches the directory of markers @path instead of the one before. 0 or -errno. */
int64_t observe_markers(const char *path);
/* Waits for the creation of marker @name, at most @timeout_ms. 0 or -errno. */
int64_t observe_await(const char *name, long long timeout_ms);

/*
 * Writes each event as words INDEX:WD:MASK:COOKIE and NAME to stdout. Their number. WD of a fanotify
 * event is that of the directory that it names, 0 if that has no mark.
 */
int64_t observe_collect(void);
/* Ends all observers. */
void observe_end(void);

#endif
