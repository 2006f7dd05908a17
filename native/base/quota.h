/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/quota - a limit of what one guest may hold, counted without a lock.
 *
 * One vfsd_quota bounds the descriptors of a guest's inodes and open files together, below the process limit,
 * so that the daemon itself never runs out. Another one bounds the bytes that its open directories keep.
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

/* Count @n more. False: that would exceed the limit. @quota NULL has no limit. */
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
