/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/rfc2021.h"

#include <string.h>
#include <sys/inotify.h>

#include "fsnotify/record_ring.h"
#include "source/source.h"
#include "base/util.h"
#include "fuse/wire.h"

enum { NAME_ALIGN = 16 };

_Static_assert(sizeof(struct vfsd_rfc2021_out) == 24, "fuse_notify_fsnotify_out");
_Static_assert(sizeof(struct fuse_out_header) + sizeof(struct vfsd_rfc2021_out) + 256 ==
		       VFSD_RFC2021_BYTES_MAX,
	       "a message holds the longest name");

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
	/* This dialect has no loss: send an overflow of an inode that exists. */
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
