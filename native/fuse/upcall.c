/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/upcall.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct vfsd_upcalls {
	int fd;
	pthread_mutex_t lock; /* protects all below, and the calls that are linked here */
	pthread_cond_t answered;
	struct vfsd_upcall *first; /* the oldest; linked until answered or given up */
	struct vfsd_upcall *taken; /* which of them is being served */
};

/* The lock is held. */
static void finish(struct vfsd_upcalls *upcalls, struct vfsd_upcall *call, ssize_t result)
{
	struct vfsd_upcall **link = &upcalls->first;

	while (*link != call)
		link = &(*link)->next;
	*link = call->next;
	if (upcalls->taken == call)
		upcalls->taken = NULL;
	call->result = result;
	call->waiting = false;
	pthread_cond_broadcast(&upcalls->answered);
}

ssize_t vfsd_upcall_wait(struct vfsd_upcalls *upcalls, struct vfsd_upcall *call)
{
	struct vfsd_upcall **link = &upcalls->first;
	ssize_t result = -ECANCELED;

	pthread_mutex_lock(&upcalls->lock);
	if (!call->stopped) {
		while (*link)
			link = &(*link)->next;
		*link = call;
		call->next = NULL;
		call->waiting = true;
		(void)eventfd_write(upcalls->fd, 1);
		while (call->waiting)
			pthread_cond_wait(&upcalls->answered, &upcalls->lock);
		result = call->result;
	}
	pthread_mutex_unlock(&upcalls->lock);
	return result;
}

int vfsd_upcalls_fd(const struct vfsd_upcalls *upcalls)
{
	return upcalls->fd;
}

const struct vfsd_upcall *vfsd_upcalls_next(struct vfsd_upcalls *upcalls)
{
	struct vfsd_upcall *call;
	eventfd_t ignored;

	pthread_mutex_lock(&upcalls->lock);
	call = upcalls->first;
	upcalls->taken = call;
	if (!call)
		(void)eventfd_read(upcalls->fd, &ignored);
	pthread_mutex_unlock(&upcalls->lock);
	return call;
}

int vfsd_upcalls_answer(struct vfsd_upcalls *upcalls, int error, const void *payload, size_t bytes)
{
	struct vfsd_upcall *call;
	int result = -ENOENT;

	pthread_mutex_lock(&upcalls->lock);
	call = upcalls->taken;
	if (call && error) {
		/* Beyond these the guest would not take it for a reply. */
		finish(upcalls, call, error < 0 && error > -4096 ? error : -EIO);
		result = 0;
	} else if (call && bytes > call->room_bytes) {
		finish(upcalls, call, -EIO);
		result = -EMSGSIZE;
	} else if (call) {
		if (bytes > 0)
			memcpy(call->reply, payload, bytes);
		finish(upcalls, call, (ssize_t)bytes);
		result = 0;
	}
	pthread_mutex_unlock(&upcalls->lock);
	return result;
}

void vfsd_upcalls_stop(struct vfsd_upcalls *upcalls, struct vfsd_upcall *call)
{
	pthread_mutex_lock(&upcalls->lock);
	call->stopped = true;
	if (call->waiting)
		finish(upcalls, call, -ECANCELED);
	pthread_mutex_unlock(&upcalls->lock);
}

int vfsd_upcalls_create(struct vfsd_upcalls **ret)
{
	struct vfsd_upcalls *upcalls = calloc(1, sizeof(*upcalls));
	int error;

	if (!upcalls)
		return -ENOMEM;
	upcalls->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (upcalls->fd < 0) {
		error = -errno;
		free(upcalls);
		return error;
	}
	pthread_mutex_init(&upcalls->lock, NULL);
	pthread_cond_init(&upcalls->answered, NULL);
	*ret = upcalls;
	return 0;
}

void vfsd_upcalls_destroy(struct vfsd_upcalls *upcalls)
{
	if (!upcalls)
		return;
	(void)close(upcalls->fd);
	pthread_cond_destroy(&upcalls->answered);
	pthread_mutex_destroy(&upcalls->lock);
	free(upcalls);
}
