/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/rfc2021.h"

#include <errno.h>
#include <sys/inotify.h>

#include "fuse/fuse.h"

enum { ACTION_REMOVE = 0, ACTION_ADD = 1 };

/* Linux 5.12; headers may be older. */
#ifndef IN_MASK_CREATE
#define IN_MASK_CREATE 0x10000000
#endif
#define EVENT_ON_CHILD 0x08000000u /* the guest kernel's own, for directories */

/* What inotify_add_watch(2) takes: more than that is a mistake of the guest. */
#define ACCEPTED                                                                                   \
	(IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ONLYDIR | IN_DONT_FOLLOW |   \
	 IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD | IN_ISDIR | IN_ONESHOT | EVENT_ON_CHILD)

_Static_assert(sizeof(struct vfsd_rfc2021_in) == 24, "fuse_notify_fsnotify_in");

int vfsd_rfc2021_decode(const struct vfsd_rfc2021_in *in, struct vfsd_fuse_interest *ret)
{
	struct vfsd_fuse_interest interest = {.owner = in->group};

	switch (in->action) {
	case ACTION_REMOVE:
		break; /* the mask is that of the watch that ends */
	case ACTION_ADD:
		if ((in->mask & ~(uint64_t)ACCEPTED) != 0 || (in->mask & IN_ALL_EVENTS) == 0)
			return -EINVAL;
		interest.mask = in->mask & IN_ALL_EVENTS;
		interest.add = (in->mask & IN_MASK_ADD) != 0;
		break;
	default:
		return -EINVAL;
	}
	*ret = interest;
	return 0;
}
