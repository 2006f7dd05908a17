/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/fair_lock - a lock that many threads want now and then, and one always.
 *
 * Whoever works off what a host has to say takes it again as soon as it has let go, which a mutex
 * permits; and a host that never rests would keep all others out. So that thread lets them go first.
 * Owner thread: any.
 */
#ifndef VFSD_BASE_FAIR_LOCK_H
#define VFSD_BASE_FAIR_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct vfsd_fairlock {
	pthread_mutex_t mutex;
	_Atomic uint32_t wanted; /* threads that wait, but for the one that waits for them */
};

void vfsd_fairlock_init(struct vfsd_fairlock *lock);
/* Nobody holds it or waits for it. */
void vfsd_fairlock_destroy(struct vfsd_fairlock *lock);

void vfsd_fairlock_enter(struct vfsd_fairlock *lock);
/* After everybody who wants it now: for the thread that would be back at once. */
void vfsd_fairlock_enter_last(struct vfsd_fairlock *lock);
void vfsd_fairlock_leave(struct vfsd_fairlock *lock);

#endif
