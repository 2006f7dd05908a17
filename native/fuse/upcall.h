/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/upcall - requests on their way up to Python and back.
 *
 * The handler of a registered opcode copies its request, defers it and wakes the control thread by an
 * eventfd. That takes requests one after the other, as many as it likes, and answers each when it can:
 * other requests of the same ring are answered meanwhile.
 * One that is interrupted gets -EINTR at once, whether it has been taken or not. When its ring stops, or
 * the session ends, it goes as fuse/deferred.h says. vfsd_upcalls_next() reports it if it had been taken.
 * Owner thread: vfsd_upcalls_answer() any; the rest the control thread.
 */
#ifndef VFSD_FUSE_UPCALL_H
#define VFSD_FUSE_UPCALL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fuse/wire.h"

struct vfsd_upcalls;

struct vfsd_upcall {
	uint64_t id; /* our own: a guest may use any unique it likes */
	struct fuse_in_header header;
	size_t room_bytes; /* for the payload of the answer */
	/* Belongs to upcall.c. */
	struct vfsd_deferred *request; /* NULL: gone */
	struct vfsd_upcall *next;
	size_t body_bytes;
	uint8_t body[]; /* what follows the header: the guest's, unchecked */
};

enum vfsd_upcall_news {
	VFSD_UPCALL_NONE,
	VFSD_UPCALL_REQUEST, /* *ret is good until it is answered, or reported as gone */
	VFSD_UPCALL_GONE, /* *ret has gone, and is good until the next call of any function here */
};

/* 0 or -errno. Destroy it when no ring runs. */
int vfsd_upcalls_create(struct vfsd_upcalls **ret);
void vfsd_upcalls_destroy(struct vfsd_upcalls *upcalls);

/* An eventfd, readable when there is news. Borrowed. */
int vfsd_upcalls_fd(const struct vfsd_upcalls *upcalls);

/* Take the oldest request that nobody has taken, or learn of one that has gone since. */
enum vfsd_upcall_news vfsd_upcalls_next(struct vfsd_upcalls *upcalls,
					const struct vfsd_upcall **ret);

/*
 * Answer the request with @id, which has been taken: @error 0 with @bytes of @payload, else -errno. It
 * may not be named again. -ENOENT: it has gone; -EMSGSIZE: too long, the guest got -EIO.
 */
int vfsd_upcalls_answer(struct vfsd_upcalls *upcalls, uint64_t id, int error, const void *payload,
			size_t bytes);

#endif
