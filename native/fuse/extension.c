/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opcodes that Python serves (upcall.h): the whole body goes up, the whole payload comes back.
 */
#include <errno.h>

#include "fuse/internal.h"

ssize_t vfsd_fuse_upcall(struct vfsd_request *req)
{
	struct vfsd_upcall *call = &req->worker->upcall;
	ssize_t n;

	call->header = &req->header;
	call->body = req->text;
	call->body_bytes = req->text_left;
	call->reply = req->reply;
	call->room_bytes = req->out.left < VFSD_FUSE_REPLY_BYTES ? req->out.left :
								   VFSD_FUSE_REPLY_BYTES;
	n = vfsd_upcall_wait(req->fuse->config.upcalls, call);
	req->given_up = n == -ECANCELED;
	return n;
}
