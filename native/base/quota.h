/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/quota - how much of something one guest may hold, counted without a lock.
 *
 * One vfsd_quota per guest bounds the descriptors of its inodes and open files together, below the
 * process limit, so that the daemon itself never runs out; another one the bytes that its open
 * directories keep.
 * Owner thread: any.
 */
#ifndef VFSD_BASE_QUOTA_H
#define VFSD_BASE_QUOTA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/faults.h"

struct vfsd_quota {
	uint64_t limit; /* set before use */
	_Atomic uint64_t used;
};

/* Count @n more. False: that would be beyond the limit. NULL has no limit. */
static inline bool vfsd_quota_take_n(struct vfsd_quota *quota, uint64_t n)
{
	if (vfsd_faults_refuse())
		return false;
	if (!quota)
		return true;
	if (atomic_fetch_add_explicit(&quota->used, n, memory_order_relaxed) + n <= quota->limit)
		return true;
	atomic_fetch_sub_explicit(&quota->used, n, memory_order_relaxed);
	return false;
}

static inline void vfsd_quota_give_n(struct vfsd_quota *quota, uint64_t n)
{
	if (quota)
		atomic_fetch_sub_explicit(&quota->used, n, memory_order_relaxed);
}

static inline bool vfsd_quota_take(struct vfsd_quota *quota)
{
	return vfsd_quota_take_n(quota, 1);
}

static inline void vfsd_quota_give(struct vfsd_quota *quota)
{
	vfsd_quota_give_n(quota, 1);
}

#endif
