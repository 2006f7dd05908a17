/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/deferred.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/internal.h"

/* A list of all, the oldest first, and of whoever may add to it. */
struct vfsd_deferrals {
	pthread_mutex_t lock; /* protects all below, and what the structures' comments say */
	struct vfsd_deferred *first, *last;
	struct vfsd_fuse_worker *workers;
};

struct vfsd_deferred {
	struct vfsd_deferrals *deferrals;
	const struct vfsd_deferred_ops *ops;
	void *owner;
	uint64_t unique;
	size_t room;
	/* Under the lock; the links are those of the list, or of requests whose owners are to be called. */
	struct vfsd_deferred *next, *previous;
	struct vfsd_reply_ring *ring; /* NULL: gone */
	uint32_t refs;		      /* the owner's, and those of calls to it */
	uint16_t head;
	uint32_t n_out;
	struct iovec out[];
};

int vfsd_request_defer(struct vfsd_request *req, const struct vfsd_deferred_ops *ops, void *owner,
		       struct vfsd_deferred **ret)
{
	struct vfsd_deferrals *deferrals = req->fuse->deferrals;
	struct vfsd_reply_ring *ring = req->worker->ring;
	const struct vfsd_chain *chain = req->chain;
	struct vfsd_deferred *request;
	int error = 0;

	if (!ring || !ring->push)
		return -EAGAIN;
	request = malloc(sizeof(*request) + chain->n_out * sizeof(request->out[0]));
	if (!request)
		return -ENOMEM;
	*request = (struct vfsd_deferred){
		.deferrals = deferrals,
		.ops = ops,
		.owner = owner,
		.unique = req->header.unique,
		.room = req->out.left,
		.ring = ring,
		.refs = 1,
		.head = chain->head,
		.n_out = chain->n_out,
	};
	memcpy(request->out, chain->iov + chain->n_in, chain->n_out * sizeof(request->out[0]));
	pthread_mutex_lock(&deferrals->lock);
	if (ring->stopping)
		error = -ECANCELED;
	else if (!(atomic_load(&req->fuse->granted) & VFSD_FUSE_READY))
		error = -EIO;
	else if (req->worker->interrupted == request->unique)
		error = -EINTR;
	else if (atomic_load_explicit(&ring->n, memory_order_relaxed) == ring->limit)
		error = -EAGAIN;
	if (!error) {
		request->previous = deferrals->last;
		*(deferrals->last ? &deferrals->last->next : &deferrals->first) = request;
		deferrals->last = request;
		atomic_fetch_add_explicit(&ring->n, 1, memory_order_relaxed);
		req->outcome = VFSD_SERVED_DEFERRED;
		*ret = request;
	}
	pthread_mutex_unlock(&deferrals->lock);
	if (error)
		free(request);
	if (error == -ECANCELED)
		req->outcome = VFSD_SERVED_NOT_TAKEN;
	return error;
}

size_t vfsd_deferred_room(const struct vfsd_deferred *request)
{
	return request->room;
}

/* Take it from its ring. Lock held. */
static void detach(struct vfsd_deferred *request)
{
	struct vfsd_deferrals *deferrals = request->deferrals;

	*(request->previous ? &request->previous->next : &deferrals->first) = request->next;
	*(request->next ? &request->next->previous : &deferrals->last) = request->previous;
	request->next = NULL;
	/* Who sees this may use the ring without a lock: nobody pushes any more. */
	atomic_fetch_sub_explicit(&request->ring->n, 1, memory_order_release);
	request->ring = NULL;
}

/* Lock held. */
static void answer(struct vfsd_deferred *request, int error, const void *payload, size_t bytes)
{
	struct vfsd_reply_ring *ring = request->ring;
	uint32_t written = vfsd_fuse_place_reply(request->out, request->n_out, request->unique,
						 error, payload, bytes);

	ring->push(ring->ctx, request->head, request->out, request->n_out, written);
	detach(request);
}

/* Lock held. True: free it, once the lock is not. */
static bool put(struct vfsd_deferred *request)
{
	return --request->refs == 0;
}

int vfsd_deferred_complete(struct vfsd_deferred *request, int error, const void *payload,
			   size_t bytes)
{
	struct vfsd_deferrals *deferrals = request->deferrals;
	int result = 0;
	bool last;

	/* Beyond these the guest would not take it for a reply. */
	if (error > 0 || error <= -4096)
		error = -EIO;
	if (!error && bytes > request->room) {
		result = -EMSGSIZE;
		error = -EIO;
	}
	pthread_mutex_lock(&deferrals->lock);
	if (request->ring)
		answer(request, error, payload, bytes);
	else
		result = -ENOENT;
	last = put(request);
	pthread_mutex_unlock(&deferrals->lock);
	if (last)
		free(request);
	return result;
}

/* Call the owner of each request of a list that was made under the lock, with a reference for each. */
static void report_gone(struct vfsd_deferrals *deferrals, struct vfsd_deferred *list)
{
	while (list) {
		struct vfsd_deferred *request = list;
		bool last;

		list = request->next;
		if (request->ops->gone)
			request->ops->gone(request->owner, request);
		pthread_mutex_lock(&deferrals->lock);
		last = put(request);
		pthread_mutex_unlock(&deferrals->lock);
		if (last)
			free(request);
	}
}

void vfsd_reply_ring_close(struct vfsd_deferrals *deferrals, struct vfsd_reply_ring *ring)
{
	pthread_mutex_lock(&deferrals->lock);
	ring->stopping = true;
	pthread_mutex_unlock(&deferrals->lock);
}

void vfsd_reply_ring_stop(struct vfsd_deferrals *deferrals, struct vfsd_reply_ring *ring,
			  void (*unpop)(void *ctx, uint16_t head))
{
	struct vfsd_deferred *gone = NULL;

	pthread_mutex_lock(&deferrals->lock);
	for (struct vfsd_deferred *at = deferrals->last, *previous; at; at = previous) {
		previous = at->previous;
		if (at->ring != ring)
			continue;
		unpop(ring->ctx, at->head);
		detach(at);
		at->refs++;
		at->next = gone;
		gone = at;
	}
	pthread_mutex_unlock(&deferrals->lock);
	report_gone(deferrals, gone);
}

void vfsd_deferrals_end_session(struct vfsd_deferrals *deferrals)
{
	struct vfsd_deferred *gone = NULL, **end = &gone;

	pthread_mutex_lock(&deferrals->lock);
	while (deferrals->first) {
		struct vfsd_deferred *request = deferrals->first;

		answer(request, -EIO, NULL, 0);
		request->refs++;
		*end = request;
		end = &request->next;
	}
	pthread_mutex_unlock(&deferrals->lock);
	report_gone(deferrals, gone);
}

int vfsd_deferrals_interrupt(struct vfsd_deferrals *deferrals, uint64_t unique)
{
	struct vfsd_deferred *request;
	bool known = false, last;

	pthread_mutex_lock(&deferrals->lock);
	request = deferrals->first;
	while (request && request->unique != unique)
		request = request->next;
	if (request)
		request->refs++;
	/* One that is being served now may be deferred yet. */
	for (struct vfsd_fuse_worker *worker = deferrals->workers; worker && !request;
	     worker = worker->next) {
		if (atomic_load_explicit(&worker->serving, memory_order_relaxed) != unique)
			continue;
		worker->interrupted = unique;
		known = true;
	}
	pthread_mutex_unlock(&deferrals->lock);
	if (!request)
		return known ? 0 : -EAGAIN;
	if (request->ops->interrupted)
		request->ops->interrupted(request->owner, request);
	pthread_mutex_lock(&deferrals->lock);
	last = put(request);
	pthread_mutex_unlock(&deferrals->lock);
	if (last)
		free(request);
	return 0;
}

void vfsd_deferrals_enter(struct vfsd_deferrals *deferrals, struct vfsd_fuse_worker *worker)
{
	pthread_mutex_lock(&deferrals->lock);
	worker->next = deferrals->workers;
	deferrals->workers = worker;
	pthread_mutex_unlock(&deferrals->lock);
}

void vfsd_deferrals_leave(struct vfsd_deferrals *deferrals, struct vfsd_fuse_worker *worker)
{
	struct vfsd_fuse_worker **link = &deferrals->workers;

	pthread_mutex_lock(&deferrals->lock);
	while (*link != worker)
		link = &(*link)->next;
	*link = worker->next;
	pthread_mutex_unlock(&deferrals->lock);
}

int vfsd_deferrals_create(struct vfsd_deferrals **ret)
{
	struct vfsd_deferrals *deferrals = calloc(1, sizeof(*deferrals));

	if (!deferrals)
		return -ENOMEM;
	pthread_mutex_init(&deferrals->lock, NULL);
	*ret = deferrals;
	return 0;
}

void vfsd_deferrals_destroy(struct vfsd_deferrals *deferrals)
{
	if (!deferrals)
		return;
	pthread_mutex_destroy(&deferrals->lock);
	free(deferrals);
}
