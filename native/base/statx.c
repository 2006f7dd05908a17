/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/statx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's, so the same for all. */
static _Atomic bool takes_null;

/* The C library's function is declared to take no NULL. */
static int statx_of(int fd, const char *name, int flags, unsigned int mask, struct statx *ret)
{
	return (int)syscall(SYS_statx, fd, name, AT_EMPTY_PATH | flags, mask, ret);
}

void vfsd_statx_probe(int fd)
{
	struct statx st;

	vfsd_statx_set_takes_null(statx_of(fd, NULL, 0, STATX_TYPE, &st) == 0);
}

bool vfsd_statx_takes_null(void)
{
	return atomic_load_explicit(&takes_null, memory_order_relaxed);
}

void vfsd_statx_set_takes_null(bool does)
{
	atomic_store_explicit(&takes_null, does, memory_order_relaxed);
}

int vfsd_statx_fd(int fd, int flags, unsigned int mask, struct statx *ret)
{
	return statx_of(fd, vfsd_statx_takes_null() ? NULL : "", flags, mask, ret) ? -errno : 0;
}

bool vfsd_statx_same(int a, int b)
{
	const unsigned int mask = STATX_INO | STATX_MNT_ID;
	struct statx at, bt;

	return vfsd_statx_fd(a, 0, mask, &at) == 0 && vfsd_statx_fd(b, 0, mask, &bt) == 0 &&
	       at.stx_ino == bt.stx_ino && vfsd_statx_dev(&at) == vfsd_statx_dev(&bt) &&
	       vfsd_statx_mnt(&at) == vfsd_statx_mnt(&bt);
}
