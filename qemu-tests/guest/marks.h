/* SPDX-License-Identifier: BSD-3-Clause */
/* marks - what watches besides inotify: fanotify groups and dnotify. Functions return -errno. */
#ifndef MARKS_H
#define MARKS_H

#include <stdint.h>

/* fanotify_init() with @flags, not blocking. The group's descriptor. */
int64_t marks_group(unsigned int flags);

/* fanotify_mark(FAN_MARK_ADD | @flags) on @path. */
int64_t marks_add(int group, unsigned int flags, uint64_t mask, const char *path);

/*
 * Puts each event that @group holds as a word MASK:WHOSE, where WHOSE is "ours" (this process did it)
 * or "others" (pid 0). Their number.
 */
int64_t marks_collect(int group);

/*
 * The same for a group that reports file handles, each event as two words: MASK:WHOSE, and the path of
 * the inode that it reports: that of its handle, opened on the filesystem of @mount ("?" if that fails), and
 * its name. An FS_ERROR has ERROR:COUNT in place of a path.
 */
int64_t marks_places(int group, const char *mount);

/* fcntl(F_NOTIFY) with @bits on the directory @path, which it opens. Its descriptor. */
int64_t marks_dnotify(const char *path, unsigned int bits);

/* Number of signals that dnotify has sent for the directory @fd since last asked. */
int64_t marks_signals(int fd);

#endif
