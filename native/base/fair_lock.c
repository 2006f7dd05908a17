/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/fair_lock.h"

#include <sched.h>

void vfsd_fairlock_init(struct vfsd_fairlock *lock)
{
	pthread_mutex_init(&lock->mutex, NULL);
	atomic_init(&lock->waiting, 0);
}

void vfsd_fairlock_destroy(struct vfsd_fairlock *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

void vfsd_fairlock_enter(struct vfsd_fairlock *lock)
{
	atomic_fetch_add(&lock->waiting, 1);
	pthread_mutex_lock(&lock->mutex);
	atomic_fetch_sub(&lock->waiting, 1);
}

void vfsd_fairlock_enter_last(struct vfsd_fairlock *lock)
{
	while (atomic_load(&lock->waiting) > 0)
		sched_yield();
	pthread_mutex_lock(&lock->mutex);
}

void vfsd_fairlock_leave(struct vfsd_fairlock *lock)
{
	pthread_mutex_unlock(&lock->mutex);
}
