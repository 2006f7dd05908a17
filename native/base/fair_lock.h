/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/fair_lock - a lock for one thread that takes it all the time, and others that take it now and then.
 *
 * The thread that reads a busy host's events takes the lock again as soon as it has released it, and a mutex
 * would let it starve all others. So that thread lets all waiting threads go first. Owner thread: any.
 */
#ifndef VFSD_BASE_FAIR_LOCK_H
#define VFSD_BASE_FAIR_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct vfsd_fairlock {
	pthread_mutex_t mutex;
	_Atomic uint32_t waiting; /* threads in vfsd_fairlock_enter() */
};

void vfsd_fairlock_init(struct vfsd_fairlock *lock);
/* Nobody holds the lock or waits for it. */
void vfsd_fairlock_destroy(struct vfsd_fairlock *lock);

void vfsd_fairlock_enter(struct vfsd_fairlock *lock);
/* Lock after all threads that wait now: for the thread that takes the lock all the time. */
void vfsd_fairlock_enter_last(struct vfsd_fairlock *lock);
void vfsd_fairlock_leave(struct vfsd_fairlock *lock);

#endif
