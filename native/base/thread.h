/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/thread - the core's threads, and how one that waits in the kernel is brought back.
 *
 * A request may wait for a lease, for a filesystem of the network, for a descriptor of the
 * front-end; whoever joins its thread then waits too. When the daemon is to end, somebody else calls
 * vfsd_threads_interrupt() until the join is done: what waits interruptibly fails with EINTR. In
 * ordinary operation nothing is interrupted, so no guest sees EINTR.
 * Owner thread: of a struct vfsd_thread whoever starts and joins it; the rest: any.
 */
#ifndef VFSD_BASE_THREAD_H
#define VFSD_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

enum {
	VFSD_THREAD_NAME_BYTES = 16, /* pthread_setname_np(3) */
	/* Ignored where nobody handles it, and one at a time is pending: unanswered ones cost nothing. */
	VFSD_THREAD_SIGNAL = SIGURG,
};

struct vfsd_thread {
	pthread_t id;	/* for the join */
	pthread_t self; /* the same, for who finds it among those that run */
	void (*run)(void *arg);
	void *arg;
	char name[VFSD_THREAD_NAME_BYTES];
	struct vfsd_thread *next; /* among those that run; under a lock of thread.c */
};

/*
 * Run @run(@arg) in a thread called @name that handles no signal but ours; @thread stays in its place
 * until the join. 0 or -errno.
 */
int vfsd_thread_start(struct vfsd_thread *thread, const char *name, void (*run)(void *arg),
		      void *arg);
void vfsd_thread_join(struct vfsd_thread *thread);

/*
 * Interrupt once whatever system call each of the threads waits in. One that is about to wait is
 * missed: call it again until they are joined.
 */
void vfsd_threads_interrupt(void);

#endif
