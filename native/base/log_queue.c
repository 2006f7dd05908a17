/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/log_queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

enum { LINES = 64 };

struct line {
	int level;
	char text[VFSD_LOG_QUEUE_LINE_BYTES];
};

struct vfsd_logqueue {
	int fd;
	pthread_mutex_t lock; /* protects all below */
	struct line lines[LINES];
	unsigned int first;
	unsigned int count;
	unsigned int dropped;
};

static void add(void *ctx, enum vfsd_log_level level, const char *text)
{
	struct vfsd_logqueue *queue = ctx;
	struct line *line;

	pthread_mutex_lock(&queue->lock);
	if (queue->count == LINES) {
		queue->dropped++;
	} else {
		line = &queue->lines[(queue->first + queue->count++) % LINES];
		line->level = (int)level;
		(void)snprintf(line->text, sizeof(line->text), "%s", text);
		(void)eventfd_write(queue->fd, 1);
	}
	pthread_mutex_unlock(&queue->lock);
}

int vfsd_logqueue_create(int max_level, struct vfsd_logqueue **ret)
{
	struct vfsd_logqueue *queue = calloc(1, sizeof(*queue));

	if (!queue)
		return -ENOMEM;
	queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->fd < 0) {
		free(queue);
		return -errno;
	}
	pthread_mutex_init(&queue->lock, NULL);
	if (max_level >= 0)
		vfsd_log_set_sink(add, queue, (enum vfsd_log_level)max_level);
	*ret = queue;
	return 0;
}

void vfsd_logqueue_destroy(struct vfsd_logqueue *queue)
{
	if (!queue)
		return;
	vfsd_log_set_sink(NULL, NULL, VFSD_LOG_ERROR);
	(void)close(queue->fd);
	pthread_mutex_destroy(&queue->lock);
	free(queue);
}

int vfsd_logqueue_fd(const struct vfsd_logqueue *queue)
{
	return queue->fd;
}

bool vfsd_logqueue_next(struct vfsd_logqueue *queue, char *line, int *level)
{
	eventfd_t ignored;
	bool got = true;

	pthread_mutex_lock(&queue->lock);
	if (queue->count > 0) {
		const struct line *oldest = &queue->lines[queue->first];

		*level = oldest->level;
		(void)snprintf(line, VFSD_LOG_QUEUE_LINE_BYTES, "%s", oldest->text);
		queue->first = (queue->first + 1) % LINES;
		queue->count--;
	} else if (queue->dropped > 0) {
		*level = VFSD_LOG_WARN;
		(void)snprintf(line, VFSD_LOG_QUEUE_LINE_BYTES, "log: lines dropped count=%u",
			       queue->dropped);
		queue->dropped = 0;
	} else {
		(void)eventfd_read(queue->fd, &ignored);
		got = false;
	}
	pthread_mutex_unlock(&queue->lock);
	return got;
}
