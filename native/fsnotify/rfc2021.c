/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/rfc2021.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>

#include "fsnotify/record_ring.h"
#include "fuse/fuse.h"
#include "source/source.h"
#include "base/util.h"
#include "fuse/wire.h"

enum { ACTION_REMOVE = 0, ACTION_ADD = 1, NAME_ALIGN = 16 };

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
_Static_assert(sizeof(struct vfsd_rfc2021_out) == 24, "fuse_notify_fsnotify_out");
_Static_assert(sizeof(struct fuse_out_header) + sizeof(struct vfsd_rfc2021_out) + 256 ==
		       VFSD_RFC2021_BYTES_MAX,
	       "a message holds the longest name");

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

uint32_t vfsd_rfc2021_split(const struct vfsd_source_event *event, uint32_t interest,
			    struct vfsd_source_event *ret)
{
	uint32_t n = 0;

	if (event->mask & interest) {
		ret[n] = *event;
		ret[n++].unlinked = false;
	}
	if (event->unlinked && (interest & IN_DELETE_SELF))
		ret[n++] = (struct vfsd_source_event){
			.nodeid = event->nodeid,
			.mask = IN_DELETE_SELF,
		};
	return n;
}

uint32_t vfsd_rfc2021_encode(const struct vfsd_record *record, uint8_t *message)
{
	const struct fuse_notify_fsnotify_out *event = (const void *)record->payload;
	struct fuse_out_header header = {.error = VFSD_RFC2021_NOTIFY};
	/* This protocol has no word for a loss: an overflow of something that exists. */
	struct vfsd_rfc2021_out out = {.inode = FUSE_ROOT_ID, .mask = IN_Q_OVERFLOW};
	uint8_t *name = message + sizeof(header) + sizeof(out);

	if (record->type == VFSD_RECORD_FSNOTIFY) {
		out.inode = event->nodeid;
		out.mask = event->mask;
		out.cookie = event->cookie;
	}
	if (record->type == VFSD_RECORD_FSNOTIFY && event->namelen > 0) {
		out.namelen = VFSD_ALIGN_UP(event->namelen + 1, (uint32_t)NAME_ALIGN);
		memset(name, 0, out.namelen);
		memcpy(name, event->name, event->namelen);
	}
	header.len = (uint32_t)(sizeof(header) + sizeof(out) + out.namelen);
	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), &out, sizeof(out));
	return header.len;
}
