/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/log_queue - log lines on their way from any thread of the C core to Python.
 *
 * It has room for a fixed number of lines. When Python is slow, the newest lines are dropped, and a line says
 * how many. It is the process-wide log sink while it exists, so there is one at a time. Owner thread: the
 * control thread makes and destroys it while no other thread of the core runs.
 */
#ifndef VFSD_BASE_LOG_QUEUE_H
#define VFSD_BASE_LOG_QUEUE_H

#include <stdbool.h>

struct vfsd_logqueue;

enum { VFSD_LOG_QUEUE_LINE_BYTES = 512 };

/* @max_level: enum vfsd_log_level, -1 for silence. 0 or -errno. */
int vfsd_logqueue_create(int max_level, struct vfsd_logqueue **ret);
void vfsd_logqueue_destroy(struct vfsd_logqueue *queue);

/* An eventfd, readable when lines wait. Borrowed. */
int vfsd_logqueue_fd(const struct vfsd_logqueue *queue);

/* Take the oldest line into @line (VFSD_LOG_QUEUE_LINE_BYTES). False: there is none. Any thread. */
bool vfsd_logqueue_next(struct vfsd_logqueue *queue, char *line, int *level);

#endif
