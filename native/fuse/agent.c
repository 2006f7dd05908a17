/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/agent.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/agent_due.h"

struct vfsd_agent {
	_Atomic uint32_t pid; /* of the session's thread, 0: none; written under the lock */
	_Atomic uint32_t ghosts;

	pthread_mutex_t lock; /* protects all below */
	bool is_open;
	uint32_t sessions;
	struct vfsd_agent_record due; /* its kind is 0 if there is none */
	bool done;
	struct vfsd_agent_reader rest; /* of batch: what comes after it */
	_Alignas(8) uint8_t batch[VFSD_AGENT_BATCH_MAX];
};

int vfsd_agent_create(struct vfsd_agent **ret)
{
	struct vfsd_agent *agent = calloc(1, sizeof(*agent));

	if (!agent)
		return -ENOMEM;
	pthread_mutex_init(&agent->lock, NULL);
	*ret = agent;
	return 0;
}

void vfsd_agent_destroy(struct vfsd_agent *agent)
{
	if (!agent)
		return;
	pthread_mutex_destroy(&agent->lock);
	free(agent);
}

/* The lock is held, here and below up to the public functions. */
static bool is_session(const struct vfsd_agent *agent, uint64_t fh)
{
	return agent->is_open && fh == agent->sessions;
}

static void clear(struct vfsd_agent *agent)
{
	agent->is_open = false;
	atomic_store(&agent->pid, 0);
	agent->due.kind = (enum vfsd_agent_kind)0;
	agent->rest = (struct vfsd_agent_reader){.count = 0};
}

/* The next record of the batch, if there is one, is due. */
static void advance(struct vfsd_agent *agent)
{
	agent->done = false;
	if (vfsd_agent_batch_next(&agent->rest, &agent->due) != 1)
		agent->due.kind = (enum vfsd_agent_kind)0;
}

int vfsd_agent_begin(struct vfsd_agent *agent, uint64_t *fh)
{
	int err = -EBUSY;

	pthread_mutex_lock(&agent->lock);
	if (!agent->is_open) {
		agent->is_open = true;
		*fh = ++agent->sessions;
		err = 0;
	}
	pthread_mutex_unlock(&agent->lock);
	return err;
}

bool vfsd_agent_end(struct vfsd_agent *agent, uint64_t fh)
{
	bool ended;

	pthread_mutex_lock(&agent->lock);
	ended = is_session(agent, fh);
	if (ended)
		clear(agent);
	pthread_mutex_unlock(&agent->lock);
	return ended;
}

void vfsd_agent_reset(struct vfsd_agent *agent)
{
	pthread_mutex_lock(&agent->lock);
	clear(agent);
	pthread_mutex_unlock(&agent->lock);
}

bool vfsd_agent_is_open(struct vfsd_agent *agent)
{
	bool is_open;

	pthread_mutex_lock(&agent->lock);
	is_open = agent->is_open;
	pthread_mutex_unlock(&agent->lock);
	return is_open;
}

int vfsd_agent_check(struct vfsd_agent *agent, uint64_t fh)
{
	int err = 0;

	pthread_mutex_lock(&agent->lock);
	if (!is_session(agent, fh))
		err = -EBADF;
	else if (atomic_load(&agent->pid) == 0)
		err = -EINVAL;
	pthread_mutex_unlock(&agent->lock);
	return err;
}

int vfsd_agent_hello(struct vfsd_agent *agent, uint64_t fh, uint32_t pid)
{
	int err = 0;

	pthread_mutex_lock(&agent->lock);
	if (!is_session(agent, fh))
		err = -EBADF;
	else if (pid == 0)
		err = -EPERM;
	else if (atomic_load(&agent->pid) != 0)
		err = -EINVAL;
	else
		atomic_store(&agent->pid, pid);
	pthread_mutex_unlock(&agent->lock);
	return err;
}

void vfsd_agent_deliver(struct vfsd_agent *agent, const void *batch, size_t bytes)
{
	pthread_mutex_lock(&agent->lock);
	agent->rest = (struct vfsd_agent_reader){.count = 0};
	if (agent->is_open && bytes != 0 && bytes <= sizeof(agent->batch)) {
		memcpy(agent->batch, batch, bytes);
		(void)vfsd_agent_batch_open(&agent->rest, agent->batch, bytes);
	}
	advance(agent);
	pthread_mutex_unlock(&agent->lock);
}

int vfsd_agent_ack(struct vfsd_agent *agent, uint64_t fh, uint64_t sequence)
{
	int err = 0;

	pthread_mutex_lock(&agent->lock);
	if (!is_session(agent, fh))
		err = -EBADF;
	else if (agent->due.kind == 0 || agent->due.sequence != sequence)
		err = -EINVAL;
	else
		advance(agent);
	pthread_mutex_unlock(&agent->lock);
	return err;
}

bool vfsd_agent_due(struct vfsd_agent *agent, uint32_t pid, struct vfsd_agent_record *ret,
		    bool *done)
{
	bool ours;

	/* This is all that other threads' requests cost. */
	if (pid == 0 || atomic_load_explicit(&agent->pid, memory_order_relaxed) != pid)
		return false;
	pthread_mutex_lock(&agent->lock);
	ours = atomic_load(&agent->pid) == pid;
	if (ours) {
		*ret = agent->due;
		*done = agent->done;
	}
	pthread_mutex_unlock(&agent->lock);
	return ours;
}

void vfsd_agent_did(struct vfsd_agent *agent, uint64_t sequence)
{
	pthread_mutex_lock(&agent->lock);
	if (agent->due.kind != 0 && agent->due.sequence == sequence)
		agent->done = true;
	pthread_mutex_unlock(&agent->lock);
}

void vfsd_agent_found(struct vfsd_agent *agent, uint64_t sequence, uint64_t nodeid)
{
	pthread_mutex_lock(&agent->lock);
	if (agent->due.kind != 0 && agent->due.sequence == sequence)
		agent->due.child = nodeid;
	pthread_mutex_unlock(&agent->lock);
}

uint64_t vfsd_agent_ghost(struct vfsd_agent *agent)
{
	return (uint64_t)(atomic_fetch_add(&agent->ghosts, 1) + 1) << 32 | VFSD_AGENT_NODE_GHOST;
}
