/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/internal - one request on its way through this folder. Nobody else includes this.
 *
 * An opcode is a row in dispatch.c and a handler in one of fuse_*.c. What the guest sent has been
 * copied before a handler runs: args and text are private memory.
 * Owner thread: the queue thread that serves the request.
 */
#ifndef VFSD_FUSE_INTERNAL_H
#define VFSD_FUSE_INTERNAL_H

#include <stdatomic.h>
#include <sys/types.h>

#include "fuse/cursor.h"
#include "fuse/deferred.h"
#include "fuse/fuse.h"
#include "inode/open_file.h"
#include "hostfs/hostfs.h"
#include "fuse/id_map.h"
#include "fuse/operations.h"
#include "inode/inode.h"
#include "inode/numbers.h"
#include "fuse/wire.h"
#include "fuse/xattr_map.h"
#include "virtio/vring.h"

enum {
	VFSD_FUSE_MAX_WRITE_BYTES = 1 << 20,
	/* The longest copied body: a SETXATTR with name and value. */
	VFSD_FUSE_BODY_BYTES = 80 << 10,
	/* The longest reply that is built here: directory entries. */
	VFSD_FUSE_REPLY_BYTES = 128 << 10,
	VFSD_FUSE_DENTS_BYTES = 64 << 10,
	VFSD_FUSE_IOV_MAX = 1024, /* UIO_MAXIOV */
	VFSD_FUSE_STALE_REPORTED = 16,
};

/* Our own bit among the granted INIT flags: there is a session. */
#define VFSD_FUSE_READY (1ULL << 63)

struct vfsd_fuse {
	struct vfsd_fuse_config config;
	const struct vfsd_fuse_row *rows; /* by opcode; our own if options change some */
	uint32_t *upcall_opcodes;	  /* as in config, but ours */
	struct vfsd_fuse_hooks hooks;
	const struct vfsd_hostfs_ops *ops;
	struct vfsd_hostfs *fs;
	struct vfsd_inodes *inodes;
	struct vfsd_open_files *handles;
	struct vfsd_numbers *numbers;
	struct vfsd_deferrals *deferrals;
	_Atomic uint64_t stale_reported[VFSD_FUSE_STALE_REPORTED]; /* see vfsd_fuse_goes_on() */
	_Atomic uint64_t granted; /* FUSE_* INIT flags and VFSD_FUSE_READY, 0: no session */
};

struct vfsd_fuse_worker {
	struct vfsd_fuse *fuse;
	struct vfsd_reply_ring *ring; /* NULL: nothing can be deferred */
	_Atomic uint64_t serving;     /* the unique of the request at hand, or of the last */
	/* Under the lock of deferred.c. */
	uint64_t interrupted; /* the unique of an INTERRUPT that came while it was being served */
	struct vfsd_fuse_worker *next;
	struct iovec iov[VFSD_FUSE_IOV_MAX];
	char xattr_name[VFSD_XATTR_NAME_BYTES];
	_Alignas(8) uint8_t body[VFSD_FUSE_BODY_BYTES];
	_Alignas(8) uint8_t reply[VFSD_FUSE_REPLY_BYTES];
	_Alignas(8) uint8_t dents[VFSD_FUSE_DENTS_BYTES];
};

struct vfsd_request {
	struct vfsd_fuse *fuse;
	struct vfsd_fuse_worker *worker;
	const struct vfsd_chain *chain;
	uint64_t granted;
	struct fuse_in_header header;
	struct vfsd_caller caller; /* in the host's ids */
	struct vfsd_label label;   /* what caller.label points to, if there is one */
	struct vfsd_inode *inode;  /* of header.nodeid, if the row says so; dropped by dispatch.c */
	const void *args;	   /* the opcode's fixed struct */
	const uint8_t *text;	   /* names and what else follows it */
	size_t text_left;	   /* bytes */
	struct vfsd_cursor in;	   /* rows that stream: what follows args, in guest memory */
	size_t in_left;		   /* bytes of it that belong to the request */
	struct vfsd_cursor out;	   /* room for the payload of the reply, in guest memory */
	void *reply;   /* where a handler builds the payload, zeroed up to the row's size */
	bool in_place; /* the payload has been put into guest memory already */
	enum vfsd_served outcome; /* unless it is DONE there is no reply now; see deferred.h */
};

/*
 * Serves one request. Returns the bytes of payload (built in req->reply unless req->in_place) or
 * -errno for the guest.
 */
typedef ssize_t (*vfsd_fuse_handler)(struct vfsd_request *req);

/*
 * Place header and payload (NULL: it is there already) into @out, which has the room. Returns the bytes
 * that the reply has.
 */
static inline uint32_t vfsd_fuse_place_reply(const struct iovec *out, uint32_t n_out,
					     uint64_t unique, int error, const void *payload,
					     size_t bytes)
{
	struct fuse_out_header header = {.unique = unique, .error = error};
	struct vfsd_cursor at = {.iov = out, .n = n_out, .left = sizeof(header) + bytes};

	if (error)
		bytes = 0;
	header.len = (uint32_t)(sizeof(header) + bytes);
	(void)vfsd_cursor_write(&at, &header, sizeof(header));
	if (bytes > 0 && payload)
		(void)vfsd_cursor_write(&at, payload, bytes);
	return header.len;
}

/* parse.c: what follows the fixed struct. 0 or -errno. */

/* One name that may be looked up or made. -EINVAL: empty, dots, '/', no NUL; -ENAMETOOLONG. */
int vfsd_request_name(struct vfsd_request *req, const char **ret);
/* Any NUL-terminated text, as the target of a symbolic link. */
int vfsd_request_text(struct vfsd_request *req, const char **ret);
/* Nothing may be left but the announced extensions. */
int vfsd_request_end(const struct vfsd_request *req);
/*
 * The end of a request that creates: put the group and the label that its extensions name, and the
 * umask if the guest has left that to us, into req->caller.
 */
int vfsd_request_creation(struct vfsd_request *req, uint32_t umask);

/* attr.c */

/* How long the guest may believe names and attributes, in seconds. */
uint64_t vfsd_fuse_timeout_s(const struct vfsd_fuse *fuse);
/*
 * The inode number of @st: the host's, but for what has to share a filesystem of the guest with inodes
 * of another, as what is mounted on a file always has.
 */
uint64_t vfsd_fuse_number(const struct vfsd_fuse *fuse, bool on_file, const struct statx *st);
/* In the guest's ids. */
void vfsd_fuse_fill_attr(const struct vfsd_request *req, const struct vfsd_inode *inode,
			 const struct statx *st, struct fuse_attr *attr);
/* Encode @entry and drop its reference (the lookup stays counted). */
void vfsd_fuse_fill_entry(struct vfsd_request *req, struct vfsd_entry *entry,
			  struct fuse_entry_out *out);

/* names.c */

/* Count down what the guest forgets, and call the hook when that was the last. */
void vfsd_fuse_forget_one(struct vfsd_fuse *fuse, uint64_t nodeid, uint64_t nlookup);

/*
 * May this caller go on with the directory? If it has been removed (@removed), the caller gets -ESTALE
 * first: if it came by a cached name, it looks that up again. One that is back at once has the directory
 * open, or as working directory, or it is removed all the time; it gets what there is.
 */
bool vfsd_fuse_goes_on(struct vfsd_request *req, bool removed);

/* files.c */

/* Host flags for open(2) from the guest's, or -EROFS. */
int vfsd_fuse_open_flags(const struct vfsd_request *req, uint32_t flags);
/* FOPEN_* by cache policy. */
uint32_t vfsd_fuse_fopen_flags(const struct vfsd_fuse *fuse, bool directory);

/* Handlers: those that operations.h does not have, and those that it has. */
ssize_t vfsd_fuse_upcall(struct vfsd_request *req);
ssize_t vfsd_fuse_fsnotify(struct vfsd_request *req);
ssize_t vfsd_fuse_fsnotify_rfc2021(struct vfsd_request *req);
ssize_t vfsd_fuse_hold(struct vfsd_request *req);

#define VFSD_FUSE_HANDLER(opcode, handler, ...) ssize_t handler(struct vfsd_request *req);
VFSD_FUSE_OPERATIONS(VFSD_FUSE_HANDLER)
#undef VFSD_FUSE_HANDLER

#endif
