/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/statx - statx(2) of a descriptor, the fastest way that this kernel has.
 *
 * From Linux 6.11 on statx(2) takes NULL for the empty name and then does no path lookup, which saves a tenth
 * of the call. An older kernel fails with EFAULT. Owner thread: any; vfsd_statx_probe() before there are
 * others.
 */
#ifndef VFSD_BASE_STATX_H
#define VFSD_BASE_STATX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Test whether the kernel takes NULL; @fd is any descriptor. */
void vfsd_statx_probe(int fd);

/* For tests. */
bool vfsd_statx_takes_null(void);
void vfsd_statx_set_takes_null(bool takes_null);

/* 0 or -errno. @flags: AT_STATX_*; @mask: STATX_*. */
int vfsd_statx_fd(int fd, int flags, unsigned int mask, struct statx *ret);

/* Are both descriptors of the same inode on the same mount? */
bool vfsd_statx_same(int a, int b);

static inline uint64_t vfsd_statx_dev(const struct statx *st)
{
	return makedev(st->stx_dev_major, st->stx_dev_minor);
}

/* 0: unknown */
static inline uint64_t vfsd_statx_mnt(const struct statx *st)
{
	return st->stx_mask & STATX_MNT_ID ? st->stx_mnt_id : 0;
}

#endif
