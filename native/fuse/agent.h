/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/agent - the session of the guest's agent: which of its threads does again what the host did, and
 * which record is due.
 *
 * A session is the open file VFSD_AGENT_FILE; there is one at a time. What it holds is one batch, so a
 * guest that lies costs no memory. Nothing here knows where records come from (fsnotify/agent).
 * Owner thread: any; a lock inside, under which nothing else is taken.
 */
#ifndef VFSD_FUSE_AGENT_H
#define VFSD_FUSE_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fuse/agent_wire.h"

struct vfsd_agent;
struct vfsd_request;

/* 0 or -ENOMEM. */
int vfsd_agent_create(struct vfsd_agent **ret);
void vfsd_agent_destroy(struct vfsd_agent *agent);

/* Somebody opens the file. 0 and the file handle, or -EBUSY: it is open. */
int vfsd_agent_begin(struct vfsd_agent *agent, uint64_t *fh);
/* It is closed. False: it was not open as @fh. */
bool vfsd_agent_end(struct vfsd_agent *agent, uint64_t fh);
/* Whatever session there was is void. */
void vfsd_agent_reset(struct vfsd_agent *agent);
bool vfsd_agent_is_open(struct vfsd_agent *agent);

/* Is the file open as @fh, and has its thread said HELLO? 0, -EBADF or -EINVAL. */
int vfsd_agent_check(struct vfsd_agent *agent, uint64_t fh);

/*
 * The thread @pid, as the guest's kernel calls it, says HELLO: what it asks for changes nothing from now on.
 * 0; -EBADF; -EPERM: a pid namespace hides it, as it would others; -EINVAL: there is one already.
 */
int vfsd_agent_hello(struct vfsd_agent *agent, uint64_t fh, uint32_t pid);

/*
 * @batch, of which every record is valid, is on its way: its first record is due. Those before are done.
 * @bytes 0: none is due.
 */
void vfsd_agent_deliver(struct vfsd_agent *agent, const void *batch, size_t bytes);

/*
 * The record @sequence, which is due, has been done, or cannot be: the next one is due. 0; -EBADF; -EINVAL:
 * another one is due.
 */
int vfsd_agent_ack(struct vfsd_agent *agent, uint64_t fh, uint64_t sequence);

/*
 * Is @pid the session's thread? Then *ret becomes the record that is due, its kind 0 if none is, and
 * *done whether vfsd_agent_did() was called for it.
 */
bool vfsd_agent_due(struct vfsd_agent *agent, uint32_t pid, struct vfsd_agent_record *ret,
		    bool *done);
/* The request by which the record @sequence is done has been answered. */
void vfsd_agent_did(struct vfsd_agent *agent, uint64_t sequence);

/* The object of the record @sequence was looked up: for this guest it is @nodeid. */
void vfsd_agent_found(struct vfsd_agent *agent, uint64_t sequence, uint64_t nodeid);

/* A node id for an object that the table of inodes does not have; each time another. */
uint64_t vfsd_agent_ghost(struct vfsd_agent *agent);

/* agent_file.c, for dispatch.c. Is @req for the agent's file, or of its thread? Then *n is its result. */
bool vfsd_agent_serves(struct vfsd_request *req, ssize_t *n);

/* agent_ghost.c, for agent_file.c. A request of the session's thread; likewise. */
bool vfsd_agent_answers(struct vfsd_request *req, ssize_t *n);

#endif
