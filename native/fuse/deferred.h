/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/deferred - requests that are answered later.
 *
 * A handler that would have to wait defers its request instead: the request moves into memory of its
 * own, the handler returns, and the queue goes on with the next. Whoever deferred it, its owner, then
 * calls vfsd_deferred_complete() exactly once, from any thread, whatever has happened meanwhile:
 *
 *   - Its ring stops, or its memory is replaced: the request goes back to the ring, unanswered, and
 *     comes again when the ring does. So nothing may have been done yet that must not be done twice.
 *   - The session ends (DESTROY, INIT): the guest gets -EIO.
 *   In both cases @gone is called, and what it completes the request with is ignored.
 *   - The guest sends INTERRUPT: @interrupted asks the owner to complete it, usually with -EINTR and best
 *     at once: the guest does not repeat that if the ring stops in between. An INTERRUPT for a request
 *     that has not been taken from its ring yet gets -EAGAIN, and the guest repeats it. (Linux sends no
 *     INTERRUPT over virtio-fs so far.)
 *
 * Locks: vfsd_request_defer() and vfsd_deferred_complete() may be called under a lock of the owner's;
 * they take one of this module's inside it, under which a ring is written to. The owner's functions are
 * called under no lock of this module's.
 * Owner thread: any.
 * Spec: include/uapi/linux/fuse.h, FUSE_INTERRUPT; libfuse, "Interrupting requests".
 */
#ifndef VFSD_FUSE_DEFERRED_H
#define VFSD_FUSE_DEFERRED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct vfsd_deferred;
struct vfsd_deferrals;
struct vfsd_fuse_worker;
struct vfsd_request;

/* What the owner does when somebody else has an interest in its request; NULL: nothing. */
struct vfsd_deferred_ops {
	void (*interrupted)(void *owner, struct vfsd_deferred *request);
	void (*gone)(void *owner, struct vfsd_deferred *request);
};

/*
 * Where requests come from and replies go: a queue. It outlives its workers, and is good until
 * vfsd_reply_ring_stop(). Whoever makes it sets ctx, push and limit; without push nothing is deferred.
 */
struct vfsd_reply_ring {
	void *ctx;
	/*
	 * A reply of @written bytes has been placed in @out: put the chain into the used ring. Any
	 * thread; one at a time.
	 */
	void (*push)(void *ctx, uint16_t head, const struct iovec *out, uint32_t n_out,
		     uint32_t written);
	uint32_t limit; /* of requests deferred at a time: a guest that reuses its chains gets -EAGAIN */

	_Atomic uint32_t n; /* how many are deferred; to 0 only after the last push */
	bool stopping;	    /* protected by the lock of vfsd_deferrals */
};

/*
 * A handler's way to defer: its result is ignored once this has returned 0. @owner is what @ops get. The
 * owner takes references of its own to what it needs later (the inode), and copies of args and text. A row
 * with BARRIER or OWN_BARRIER must not defer: older events go before a reply only on the way of those
 * that are answered at once.
 * The request may be complete, or gone, before this returns; what the owner's functions look for has to
 * be in place, or under the owner's lock.
 * -EAGAIN: too many of this ring are deferred, or it cannot; -ENOMEM; -EINTR: there was an INTERRUPT
 * already; -EIO: the session has ended; -ECANCELED: the ring stops, so the request goes back to it,
 * whatever the handler returns.
 */
int vfsd_request_defer(struct vfsd_request *req, const struct vfsd_deferred_ops *ops, void *owner,
		       struct vfsd_deferred **ret);

/* Room for the payload, in bytes; constant. */
size_t vfsd_deferred_room(const struct vfsd_deferred *request);

/*
 * Answer @request and give it up: @error 0 with @bytes of @payload, or -errno. 0; -ENOENT: it had gone,
 * nothing was done; -EMSGSIZE: there is no such room, the guest got -EIO.
 */
int vfsd_deferred_complete(struct vfsd_deferred *request, int error, const void *payload,
			   size_t bytes);

/* The ring stops: from now on its requests go back to it instead of being deferred. */
void vfsd_reply_ring_close(struct vfsd_deferrals *deferrals, struct vfsd_reply_ring *ring);

/*
 * The ring's workers have ended. Take every request back, the youngest first; @unpop gets its chain's
 * head. Nothing is pushed afterwards.
 */
void vfsd_reply_ring_stop(struct vfsd_deferrals *deferrals, struct vfsd_reply_ring *ring,
			  void (*unpop)(void *ctx, uint16_t head));

/* For dispatch.c. */

int vfsd_deferrals_create(struct vfsd_deferrals **ret);
/* No ring runs any more, and every owner has completed its requests. */
void vfsd_deferrals_destroy(struct vfsd_deferrals *deferrals);

/* Workers whose request an INTERRUPT may be for. */
void vfsd_deferrals_enter(struct vfsd_deferrals *deferrals, struct vfsd_fuse_worker *worker);
void vfsd_deferrals_leave(struct vfsd_deferrals *deferrals, struct vfsd_fuse_worker *worker);

/* 0; -EAGAIN: no request with this @unique is known. */
int vfsd_deferrals_interrupt(struct vfsd_deferrals *deferrals, uint64_t unique);

/* Answer all with -EIO: the session ends. No lock of an owner's is held. */
void vfsd_deferrals_end_session(struct vfsd_deferrals *deferrals);

#endif
