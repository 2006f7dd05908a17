/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What engine.c (the parts and their beginning and end) and rings.c (what the front-end says
 * of rings, memory, dirty log and migration) share.
 * Owner thread: the control thread.
 */
#ifndef VFSD_DEVICE_INTERNAL_H
#define VFSD_DEVICE_INTERNAL_H

#include "device/engine.h"
#include "base/quota.h"
#include "fuse/xattr_map.h"

/* A ring as the front-end described it; @running while it is started, enabled and mapped. */
struct ring {
	vfsd_engine_vring vring; /* base is where to go on; descriptors owned; -1 when stopped */
	bool started;
	bool running;
	bool anew;		  /* begins at 0 though it had got somewhere: another guest's */
	struct vfsd_queue *queue; /* of a running request ring */
};

struct vfsd_engine {
	vfsd_engine_config config;
	struct vfsd_dirtylog *dirtylog; /* NULL: none */
	int dirtylog_fd;
	bool logging; /* what is written to buffers */
	struct vfsd_migrate *migrate;
	uint64_t features;
	struct vfsd_quota fd_quota; /* of inodes and open files together */
	struct vfsd_logqueue *log;
	struct vfsd_mem *mem;
	struct vfsd_inodes *inodes;
	struct vfsd_open_files *handles;
	struct vfsd_hostfs *hostfs;
	struct vfsd_xattrmap *xattrmap; /* NULL: names are the same on both sides */
	char capability_name[VFSD_XATTR_NAME_BYTES];
	struct vfsd_idmap *idmap; /* NULL: so are ids */
	struct vfsd_upcalls *upcalls;
	struct vfsd_fuse *fuse;
	struct vfsd_events *events; /* NULL: remote fsnotify is off */
	int root_fd;		    /* of the share, for the next */
	struct vfsd_watch_registry *watches;
	struct ring *rings;
};

/* Stop every ring and close what the front-end gave with it. */
void vfsd_engine_forget_rings(struct vfsd_engine *engine);

#endif
