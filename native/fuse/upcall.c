/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/upcall.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fuse/deferred.h"
#include "fuse/internal.h"

struct vfsd_upcalls {
	int fd;
	pthread_mutex_t lock; /* protects all below; held around calls of deferred.h */
	uint64_t last_id;
	struct vfsd_upcall *waiting, **waiting_end; /* the oldest first */
	struct vfsd_upcall *taken;
	struct vfsd_upcall *gone;     /* of those that had been taken: to be reported */
	struct vfsd_upcall *reported; /* the last of them; to be freed */
};

/* The link to the one that is for @request, or has @id if that is NULL; else one that is NULL. */
static struct vfsd_upcall **find(struct vfsd_upcall **link, const struct vfsd_deferred *request,
				 uint64_t id)
{
	while (*link && (request ? (*link)->request != request : (*link)->id != id))
		link = &(*link)->next;
	return link;
}

static struct vfsd_upcall *unlink_call(struct vfsd_upcall **link)
{
	struct vfsd_upcall *call = *link;

	if (call)
		*link = call->next;
	return call;
}

static struct vfsd_upcall *unlink_waiting(struct vfsd_upcalls *upcalls, struct vfsd_upcall **link)
{
	struct vfsd_upcall *call = unlink_call(link);

	if (call && !*link)
		upcalls->waiting_end = link;
	return call;
}

/* The guest has interrupted it, or it has gone already: then -EINTR goes nowhere. */
static void give_up(void *owner, struct vfsd_deferred *request)
{
	struct vfsd_upcalls *upcalls = owner;
	struct vfsd_upcall *call;

	pthread_mutex_lock(&upcalls->lock);
	call = unlink_waiting(upcalls, find(&upcalls->waiting, request, 0));
	if (call) {
		free(call);
		(void)vfsd_deferred_complete(request, -EINTR, NULL, 0);
	} else {
		call = unlink_call(find(&upcalls->taken, request, 0));
		if (call) {
			call->request = NULL;
			call->next = upcalls->gone;
			upcalls->gone = call;
			(void)vfsd_deferred_complete(request, -EINTR, NULL, 0);
			(void)eventfd_write(upcalls->fd, 1);
		}
	}
	pthread_mutex_unlock(&upcalls->lock);
}

ssize_t vfsd_fuse_upcall(struct vfsd_request *req)
{
	static const struct vfsd_deferred_ops ops = {.interrupted = give_up, .gone = give_up};
	struct vfsd_upcalls *upcalls = req->fuse->config.upcalls;
	struct vfsd_upcall *call = malloc(sizeof(*call) + req->text_left);
	int error;

	if (!call)
		return -ENOMEM;
	*call = (struct vfsd_upcall){
		.header = req->header,
		.room_bytes = req->out.left < VFSD_FUSE_REPLY_BYTES ? req->out.left :
								      VFSD_FUSE_REPLY_BYTES,
		.body_bytes = req->text_left,
	};
	memcpy(call->body, req->text, req->text_left);
	pthread_mutex_lock(&upcalls->lock);
	error = vfsd_request_defer(req, &ops, upcalls, &call->request);
	if (!error) {
		call->id = ++upcalls->last_id;
		*upcalls->waiting_end = call;
		upcalls->waiting_end = &call->next;
		(void)eventfd_write(upcalls->fd, 1);
	}
	pthread_mutex_unlock(&upcalls->lock);
	if (error)
		free(call);
	return error;
}

int vfsd_upcalls_fd(const struct vfsd_upcalls *upcalls)
{
	return upcalls->fd;
}

enum vfsd_upcall_news vfsd_upcalls_next(struct vfsd_upcalls *upcalls,
					const struct vfsd_upcall **ret)
{
	enum vfsd_upcall_news news = VFSD_UPCALL_NONE;
	struct vfsd_upcall *call;
	eventfd_t ignored;

	pthread_mutex_lock(&upcalls->lock);
	free(upcalls->reported);
	call = upcalls->reported = unlink_call(&upcalls->gone);
	if (call) {
		news = VFSD_UPCALL_GONE;
	} else {
		call = unlink_waiting(upcalls, &upcalls->waiting);
		if (call) {
			call->next = upcalls->taken;
			upcalls->taken = call;
			news = VFSD_UPCALL_REQUEST;
		} else {
			(void)eventfd_read(upcalls->fd, &ignored);
		}
	}
	*ret = call;
	pthread_mutex_unlock(&upcalls->lock);
	return news;
}

int vfsd_upcalls_answer(struct vfsd_upcalls *upcalls, uint64_t id, int error, const void *payload,
			size_t bytes)
{
	struct vfsd_upcall *call;
	int result = -ENOENT;

	pthread_mutex_lock(&upcalls->lock);
	call = unlink_call(find(&upcalls->taken, NULL, id));
	if (!call) {
		call = unlink_call(find(&upcalls->gone, NULL, id));
	} else if (!error && bytes > call->room_bytes) {
		result = vfsd_deferred_complete(call->request, -EIO, NULL, 0);
		result = result ? result : -EMSGSIZE;
	} else {
		result = vfsd_deferred_complete(call->request, error, payload, bytes);
	}
	pthread_mutex_unlock(&upcalls->lock);
	free(call);
	return result;
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
	upcalls->waiting_end = &upcalls->waiting;
	pthread_mutex_init(&upcalls->lock, NULL);
	*ret = upcalls;
	return 0;
}

void vfsd_upcalls_destroy(struct vfsd_upcalls *upcalls)
{
	if (!upcalls)
		return;
	/* With no ring, nothing waits and nothing is taken that has not gone. */
	while (upcalls->gone)
		free(unlink_call(&upcalls->gone));
	free(upcalls->reported);
	(void)close(upcalls->fd);
	pthread_mutex_destroy(&upcalls->lock);
	free(upcalls);
}
