/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/fuse - decode a request, call the host filesystem, encode the reply.
 *
 * One table row per opcode. Sees chains and a hostfs operations table, never a ring. Bad bytes get
 * an error reply. An opcode that Python has registered goes up to it, also one that is served here
 * otherwise; any other without a handler gets ENOSYS. A handler that would wait defers its request
 * (fuse/deferred.h).
 * Owner thread: vfsd_fuse is shared by all queue threads (negotiated values are written by INIT
 * only, published with release); a vfsd_fuse_worker belongs to one queue thread.
 * Spec: include/uapi/linux/fuse.h, protocol 7.27 .. 7.45.
 */
#ifndef VFSD_FUSE_FUSE_H
#define VFSD_FUSE_FUSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fuse/options.h"

struct vfsd_inode;
struct vfsd_inodes;
struct vfsd_open_files;
struct vfsd_hostfs;
struct vfsd_hostfs_ops;
struct vfsd_idmap;
struct vfsd_upcalls;
struct vfsd_chain;
struct vfsd_deferrals;
struct vfsd_reply_ring;
struct vfsd_xattrmap;

/* Which events of an inode a guest, or one of its groups, wants. */
struct vfsd_fuse_interest {
	uint64_t owner; /* a group of the old dialect; 0: the guest as a whole */
	uint64_t mask;	/* absolute, 0 ends it */
	uint32_t flags; /* FUSE_FSNOTIFY_*, as on the wire */
	bool add;	/* to what this owner has, instead of replacing it */
};

/* How remote fsnotify and session changes reach the engine. Every hook may be NULL. */
struct vfsd_fuse_hooks {
	void *ctx;
	/*
	 * INIT (again): everything of an earlier session is void. Called after the tables are
	 * cleared; @fsnotify says whether the guest asked for remote fsnotify. Returns true to
	 * grant it; *server_mask gets the event bits that only we report (0 in merged mode).
	 */
	bool (*session_start)(void *ctx, bool fsnotify, uint32_t *server_mask);
	void (*session_end)(void *ctx); /* DESTROY */
	/* FUSE_FSNOTIFY. 0 or -errno for the guest. */
	int (*subscribe)(void *ctx, struct vfsd_inode *inode,
			 const struct vfsd_fuse_interest *interest);
	/* The guest forgot this inode: drop its interest. */
	void (*forgotten)(void *ctx, struct vfsd_inode *inode);
	/*
	 * Before a reply that must not overtake older events (UNLINK, RMDIR, RENAME*, FSNOTIFY), or
	 * (@own) must not if events that the guest has caused are among them: CREATE, FLUSH, for an OPEN or CLOSE
	 * of its own follows.
	 */
	void (*barrier)(void *ctx, bool own);
};

struct vfsd_fuse_config {
	struct vfsd_fuse_options options;
	bool rfc2021;			      /* the old dialect of remote fsnotify */
	const struct vfsd_xattrmap *xattrmap; /* borrowed; NULL: names are the host's */
	const struct vfsd_idmap *idmap;	      /* borrowed; NULL: ids are the host's */
	uint32_t max_write_bytes;	      /* 0: 1 MiB */
	struct vfsd_upcalls *upcalls;	      /* borrowed; NULL: nothing goes up to Python */
	const uint32_t *upcall_opcodes;	      /* what does; copied */
	uint32_t n_upcall_opcodes;
};

struct vfsd_fuse;
struct vfsd_fuse_worker;

/* What has become of a request. */
enum vfsd_served {
	VFSD_SERVED_DONE,      /* its chain goes into the used ring */
	VFSD_SERVED_DEFERRED,  /* it is answered later: its chain is not the caller's any more */
	VFSD_SERVED_NOT_TAKEN, /* nothing was done, for the ring is to stop: it goes back to it */
};

/* @config and @hooks are copied; the other pointers are borrowed and must outlive the session. */
int vfsd_fuse_create(const struct vfsd_fuse_config *config, const struct vfsd_fuse_hooks *hooks,
		     const struct vfsd_hostfs_ops *ops, struct vfsd_hostfs *fs,
		     struct vfsd_inodes *inodes, struct vfsd_open_files *handles,
		     struct vfsd_fuse **ret); /* -EINVAL: an opcode that cannot go up */
void vfsd_fuse_destroy(struct vfsd_fuse *fuse);

/* What INIT has granted: FUSE_* flags, and a bit of ours that there is a session. 0: none yet. */
uint64_t vfsd_fuse_session(const struct vfsd_fuse *fuse);

/*
 * Go on with a session that another daemon began: its tables are filled, no ring runs. 0, or
 * -ENOTSUP: it was granted what this one's options do not grant.
 */
int vfsd_fuse_resume(struct vfsd_fuse *fuse, uint64_t session);

/* Everything of this session is void, as after INIT; no ring runs. */
void vfsd_fuse_end_session(struct vfsd_fuse *fuse);

/*
 * What a request of the guest means by @nodeid. Transient reference; NULL (-ESTALE for the guest): no id
 * that it holds, or one that it has by an event alone, of a directory that has left the share since.
 */
struct vfsd_inode *vfsd_fuse_inode(struct vfsd_fuse *fuse, uint64_t nodeid);

/* For vfsd_reply_ring_stop(). */
struct vfsd_deferrals *vfsd_fuse_deferrals(struct vfsd_fuse *fuse);

/* Scratch memory of one thread of @ring (borrowed); NULL: it cannot defer. 0 or -ENOMEM. */
int vfsd_fuse_worker_create(struct vfsd_fuse *fuse, struct vfsd_reply_ring *ring,
			    struct vfsd_fuse_worker **ret);
void vfsd_fuse_worker_destroy(struct vfsd_fuse_worker *worker);

/*
 * Close cached descriptors that nobody has asked for in a while. Returns in how many ms to call it
 * again, -1: after more requests. A queue calls it between batches, and when it is idle.
 */
int vfsd_fuse_expire_fds(struct vfsd_fuse_worker *worker);

/*
 * Serve the request in @chain. Of one that is done, *written are the bytes of its reply (0 for FORGET
 * and the like).
 */
enum vfsd_served vfsd_fuse_serve(struct vfsd_fuse_worker *worker, const struct vfsd_chain *chain,
				 uint32_t *written);

#endif
