/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/thread - the core's threads, and interrupting one that waits in the kernel.
 *
 * A request may wait for a lease, a network filesystem or a descriptor of the front-end, and whoever joins its
 * thread then waits, too. When the daemon is to end, another thread calls vfsd_threads_interrupt() until the
 * join is done: interruptible waits fail with EINTR. Nothing is interrupted in normal operation, so no guest
 * sees EINTR.
 * Owner thread: of a struct vfsd_thread whoever starts and joins it; the rest: any.
 */
#ifndef VFSD_BASE_THREAD_H
#define VFSD_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

enum {
	VFSD_THREAD_NAME_BYTES = 16, /* pthread_setname_np(3) */
	/* Ignored by default, and at most one is pending, so one that arrives late does no harm. */
	VFSD_THREAD_SIGNAL = SIGURG,
};

struct vfsd_thread {
	pthread_t id;	/* for the join */
	pthread_t self; /* the same, for vfsd_threads_interrupt() */
	void (*run)(void *arg);
	void *arg;
	char name[VFSD_THREAD_NAME_BYTES];
	struct vfsd_thread
		*next; /* in the list of running threads; protected by a lock of thread.c */
};

/*
 * Run @run(@arg) in a thread called @name that handles no signal but ours; @thread stays in its place
 * until the join. 0 or -errno.
 */
int vfsd_thread_start(struct vfsd_thread *thread, const char *name, void (*run)(void *arg),
		      void *arg);
void vfsd_thread_join(struct vfsd_thread *thread);

/*
 * Interrupt, once, the system call that each thread waits in. A thread that is just about to wait is missed, so
 * call it again until all threads are joined.
 */
void vfsd_threads_interrupt(void);

#endif
