/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/log_queue - log lines on their way from any thread of the C core to Python.
 *
 * A fixed number of lines; when Python is slow the newest are dropped and their number is told. It
 * is the process-wide log sink while it exists, so there is one at a time.
 * Owner thread: made and destroyed by the control thread while no other thread of ours runs.
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

/* Take the oldest line into @line (VFSD_LOG_QUEUE_LINE_BYTES). False: none waits. Any thread. */
bool vfsd_logqueue_next(struct vfsd_logqueue *queue, char *line, int *level);

#endif
