/* SPDX-License-Identifier: BSD-3-Clause */
/* served - hand a request in ordinary buffers to fuse/, as a queue would. */
#ifndef VFSD_SERVED_H
#define VFSD_SERVED_H

#include <string.h>

#include "check.h"
#include "fuse/fuse.h"
#include "virtio/vring.h"

/* The chain of a request with these buffers. */
static inline void chain_of(struct vfsd_chain *chain, const struct iovec *in, uint32_t n_in,
			    const struct iovec *out, uint32_t n_out)
{
	CHECK(n_in + n_out <= VFSD_CHAIN_IOV_MAX);
	chain->head = 0;
	chain->n_in = n_in;
	chain->n_out = n_out;
	memcpy(chain->iov, in, n_in * sizeof(*in));
	memcpy(chain->iov + n_in, out, n_out * sizeof(*out));
}

/* Serve a request that is answered at once. Returns the bytes written. */
static inline uint32_t served_at_once(struct vfsd_fuse_worker *worker, const struct iovec *in,
				      uint32_t n_in, const struct iovec *out, uint32_t n_out)
{
	struct vfsd_chain chain;
	uint32_t written;

	chain_of(&chain, in, n_in, out, n_out);
	CHECK_EQ(vfsd_fuse_serve(worker, &chain, &written), VFSD_SERVED_DONE);
	return written;
}

#endif
