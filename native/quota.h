/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * quota - how many of something one guest may hold, counted without a lock.
 *
 * One vfsd_quota per guest bounds the descriptors of its inodes and open files together, below the
 * process limit, so that the daemon itself never runs out.
 * Owner thread: any.
 */
#ifndef VFSD_QUOTA_H
#define VFSD_QUOTA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "faults.h"

struct vfsd_quota {
	uint64_t limit; /* set before use */
	_Atomic uint64_t used;
};

/* Count one more. False: the limit is reached. NULL has no limit. */
static inline bool vfsd_quota_take(struct vfsd_quota *quota)
{
	if (vfsd_faults_refuse())
		return false;
	if (!quota)
		return true;
	if (atomic_fetch_add_explicit(&quota->used, 1, memory_order_relaxed) < quota->limit)
		return true;
	atomic_fetch_sub_explicit(&quota->used, 1, memory_order_relaxed);
	return false;
}

static inline void vfsd_quota_give(struct vfsd_quota *quota)
{
	if (quota)
		atomic_fetch_sub_explicit(&quota->used, 1, memory_order_relaxed);
}

#endif
