/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_guest - a pretended guest's FUSE client: a share on a real temporary directory, a session,
 * and calls whose replies are checked for their form.
 */
#ifndef VFSD_FUSE_GUEST_H
#define VFSD_FUSE_GUEST_H

#include <stdatomic.h>

#include "check.h"
#include "fuse/deferred.h"
#include "fuse/fuse.h"
#include "inode/open_file.h"
#include "hostfs/hostfs.h"
#include "inode/inode.h"
#include "base/quota.h"
#include "served.h"
#include "tree.h"
#include "fuse/wire.h"

enum { FUSE_GUEST_OUT_BYTES = 2 << 20 };

struct fuse_guest {
	struct tree tree;
	struct vfsd_inodes *inodes;
	struct vfsd_open_files *handles;
	struct vfsd_hostfs *fs;
	struct vfsd_fuse *fuse;
	struct vfsd_reply_ring replies; /* zeros: nothing can be deferred */
	struct vfsd_fuse_worker *worker;
	struct vfsd_quota quota;
	int proc_self_fd;
	unsigned int fds;

	/* What the hooks saw. */
	_Atomic unsigned int starts, ends, barriers, own_barriers, forgotten, subscriptions;
	atomic_bool offered_fsnotify;
	_Atomic uint64_t subscribed_node, subscribed_mask, subscribed_owner;
	int subscribe_error;
	bool forget_while_subscribing; /* as another queue might */

	/* The next request. */
	uint32_t uid, gid;
	uint64_t unique;
	uint16_t total_extlen;

	/* The last reply. */
	size_t reply_bytes; /* without header */
	uint8_t *reply;
	uint8_t *out;
};

/* How a session is made; zeros are the daemon's defaults, but for the options' names. */
struct fuse_guest_config {
	struct vfsd_fuse_config fuse;
	struct vfsd_hostfs_options hostfs;
	enum vfsd_handle_policy handles;
	const char *capability_name;	   /* NULL: not remapped */
	const struct vfsd_hostfs_ops *ops; /* NULL: the real ones */
	uint32_t max_fds;		   /* of inodes and open files; 0: no limit */
	uint64_t flags;			   /* INIT flags offered; 0: all */
	uint32_t minor;			   /* 0: ours */
};

static inline bool fuse_guest_on_start(void *ctx, bool fsnotify, uint32_t *server_mask)
{
	struct fuse_guest *g = ctx;

	g->starts++;
	g->offered_fsnotify = fsnotify;
	*server_mask = 0x42;
	return fsnotify;
}

static inline void fuse_guest_on_end(void *ctx)
{
	((struct fuse_guest *)ctx)->ends++;
}

static inline int fuse_guest_on_subscribe(void *ctx, struct vfsd_inode *inode,
					  const struct vfsd_fuse_interest *interest)
{
	struct fuse_guest *g = ctx;

	g->subscriptions++;
	g->subscribed_node = inode->nodeid;
	g->subscribed_mask = interest->mask;
	g->subscribed_owner = interest->owner;
	if (g->forget_while_subscribing)
		vfsd_inode_put(g->inodes, vfsd_inode_forget(g->inodes, inode->nodeid, 1));
	return g->subscribe_error;
}

static inline void fuse_guest_on_forgotten(void *ctx, struct vfsd_inode *inode)
{
	CHECK(inode->nodeid > VFSD_NODEID_ROOT);
	((struct fuse_guest *)ctx)->forgotten++;
}

static inline void fuse_guest_on_barrier(void *ctx, bool own)
{
	struct fuse_guest *g = ctx;

	if (own)
		g->own_barriers++;
	else
		g->barriers++;
}

/*
 * Send a request of @args and then @tail, with room for @room bytes of payload. Returns the reply's
 * error. The reply must be well-formed.
 */
static inline int fuse_guest_call2(struct fuse_guest *g, uint32_t opcode, uint64_t nodeid,
				   const void *args, size_t args_bytes, const void *tail,
				   size_t tail_bytes, size_t room)
{
	struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + args_bytes + tail_bytes),
		.opcode = opcode,
		.unique = ++g->unique,
		.nodeid = nodeid,
		.uid = g->uid,
		.gid = g->gid,
		.total_extlen = g->total_extlen,
	};
	struct fuse_out_header *reply = (struct fuse_out_header *)g->out;
	const struct iovec in[] = {
		{&header, sizeof(header)},
		{(void *)(uintptr_t)args, args_bytes},
		{(void *)(uintptr_t)tail, tail_bytes},
	};
	const struct iovec out[] = {
		{g->out, sizeof(*reply)},
		{g->out + sizeof(*reply), room / 2},
		{g->out + sizeof(*reply) + room / 2, room - room / 2},
	};
	uint32_t written;

	CHECK(sizeof(*reply) + room <= FUSE_GUEST_OUT_BYTES);
	memset(g->out, 0x5a, sizeof(*reply) + room);
	written = served_at_once(g->worker, in, 3, out, 3);
	CHECK(written >= sizeof(*reply));
	CHECK(written <= sizeof(*reply) + room);
	CHECK_EQ(reply->len, written);
	CHECK_EQ(reply->unique, g->unique);
	CHECK(reply->error <= 0 && reply->error > -4096);
	g->reply = g->out + sizeof(*reply);
	g->reply_bytes = written - sizeof(*reply);
	if (reply->error)
		CHECK_EQ(g->reply_bytes, 0);
	return reply->error;
}

static inline int fuse_guest_call(struct fuse_guest *g, uint32_t opcode, uint64_t nodeid,
				  const void *args, size_t args_bytes, size_t room)
{
	return fuse_guest_call2(g, opcode, nodeid, args, args_bytes, NULL, 0, room);
}

/* FORGET and the like: nothing may be written. */
static inline void fuse_guest_tell(struct fuse_guest *g, uint32_t opcode, uint64_t nodeid,
				   const void *args, size_t args_bytes)
{
	struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + args_bytes),
		.opcode = opcode,
		.unique = ++g->unique,
		.nodeid = nodeid,
	};
	const struct iovec in[] = {
		{&header, sizeof(header)},
		{(void *)(uintptr_t)args, args_bytes},
	};
	const struct iovec out = {g->out, FUSE_GUEST_OUT_BYTES};

	CHECK_EQ(served_at_once(g->worker, in, 2, &out, 1), 0);
}

static inline int fuse_guest_init(struct fuse_guest *g, uint32_t minor, uint64_t flags,
				  struct fuse_init_out *ret)
{
	const struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION,
		.minor = minor,
		.max_readahead = 65536,
		.flags = (uint32_t)flags,
		.flags2 = (uint32_t)(flags >> 32),
	};
	size_t bytes = flags & FUSE_INIT_EXT ? sizeof(in) : FUSE_INIT_IN_OLD_BYTES;
	int error = fuse_guest_call(g, FUSE_INIT, 0, &in, bytes, sizeof(*ret));

	if (error)
		return error;
	CHECK_EQ(g->reply_bytes, sizeof(*ret));
	memcpy(ret, g->reply, sizeof(*ret));
	return 0;
}

/* Without a session yet. */
static inline void fuse_guest_create_cold(struct fuse_guest *g,
					  const struct fuse_guest_config *config)
{
	struct vfsd_inodes_config inodes = {.options.file_handles = config->handles};
	const struct vfsd_fuse_hooks hooks = {
		.ctx = g,
		.session_start = fuse_guest_on_start,
		.session_end = fuse_guest_on_end,
		.subscribe = fuse_guest_on_subscribe,
		.forgotten = fuse_guest_on_forgotten,
		.barrier = fuse_guest_on_barrier,
	};

	*g = (struct fuse_guest){.fds = tree_count_fds(), .quota = {.limit = config->max_fds}};
	inodes.fd_quota = config->max_fds ? &g->quota : NULL;
	g->out = malloc(FUSE_GUEST_OUT_BYTES);
	CHECK(g->out);
	tree_create(&g->tree);
	inodes.proc_self_fd = g->proc_self_fd = tree_proc_self_fd();
	CHECK_EQ(vfsd_inodes_create(&inodes, open(g->tree.path, O_PATH | O_CLOEXEC), &g->inodes),
		 0);
	CHECK_EQ(vfsd_open_files_create(inodes.fd_quota, &g->handles), 0);
	CHECK_EQ(vfsd_hostfs_new(&config->hostfs, g->inodes, g->handles, g->proc_self_fd, &g->fs),
		 0);
	if (config->capability_name)
		vfsd_hostfs_set_capability_name(g->fs, config->capability_name);
	CHECK_EQ(vfsd_fuse_create(&config->fuse, &hooks,
				  config->ops ? config->ops : &vfsd_hostfs_ops, g->fs, g->inodes,
				  g->handles, &g->fuse),
		 0);
	CHECK_EQ(vfsd_fuse_worker_create(g->fuse, &g->replies, &g->worker), 0);
}

static inline void fuse_guest_create(struct fuse_guest *g, const struct fuse_guest_config *config)
{
	struct fuse_init_out out;

	fuse_guest_create_cold(g, config);
	CHECK_EQ(fuse_guest_init(g, config->minor ? config->minor : FUSE_KERNEL_MINOR_VERSION,
				 config->flags ? config->flags : UINT64_MAX, &out),
		 0);
}

static inline void fuse_guest_destroy(struct fuse_guest *g)
{
	vfsd_fuse_worker_destroy(g->worker);
	vfsd_fuse_destroy(g->fuse);
	vfsd_hostfs_free(g->fs);
	vfsd_open_files_destroy(g->handles);
	vfsd_inodes_destroy(g->inodes);
	CHECK_EQ(close(g->proc_self_fd), 0);
	tree_destroy(&g->tree);
	free(g->out);
	CHECK_EQ(tree_count_fds(), g->fds);
}

/* Short forms of what nearly every case needs. */

static inline int fuse_guest_lookup(struct fuse_guest *g, uint64_t parent, const char *name,
				    struct fuse_entry_out *ret)
{
	int error = fuse_guest_call(g, FUSE_LOOKUP, parent, name, strlen(name) + 1, sizeof(*ret));

	if (!error)
		memcpy(ret, g->reply, sizeof(*ret));
	return error;
}

static inline uint64_t fuse_guest_node(struct fuse_guest *g, uint64_t parent, const char *name)
{
	struct fuse_entry_out entry;

	CHECK_EQ(fuse_guest_lookup(g, parent, name, &entry), 0);
	return entry.nodeid;
}

static inline int fuse_guest_open(struct fuse_guest *g, uint32_t opcode, uint64_t nodeid,
				  uint32_t flags, struct fuse_open_out *ret)
{
	const struct fuse_open_in in = {.flags = flags};
	int error = fuse_guest_call(g, opcode, nodeid, &in, sizeof(in), sizeof(*ret));

	if (!error)
		memcpy(ret, g->reply, sizeof(*ret));
	return error;
}

static inline int fuse_guest_create_file(struct fuse_guest *g, uint64_t parent, const char *name,
					 uint32_t flags, uint32_t mode,
					 struct fuse_entry_out *entry, struct fuse_open_out *opened)
{
	const struct fuse_create_in in = {.flags = flags, .mode = S_IFREG | mode};
	int error = fuse_guest_call2(g, FUSE_CREATE, parent, &in, sizeof(in), name,
				     strlen(name) + 1, sizeof(*entry) + sizeof(*opened));

	if (!error) {
		memcpy(entry, g->reply, sizeof(*entry));
		memcpy(opened, g->reply + sizeof(*entry), sizeof(*opened));
	}
	return error;
}

static inline int fuse_guest_release(struct fuse_guest *g, uint32_t opcode, uint64_t nodeid,
				     uint64_t fh)
{
	const struct fuse_release_in in = {.fh = fh};

	return fuse_guest_call(g, opcode, nodeid, &in, sizeof(in), 0);
}

/* Returns bytes written or -errno. */
static inline int fuse_guest_write(struct fuse_guest *g, uint64_t nodeid, uint64_t fh,
				   uint64_t offset, const char *text, uint32_t flags,
				   uint32_t write_flags)
{
	const struct fuse_write_in in = {
		.fh = fh,
		.offset = offset,
		.size = (uint32_t)strlen(text),
		.flags = flags,
		.write_flags = write_flags,
	};
	int error = fuse_guest_call2(g, FUSE_WRITE, nodeid, &in, sizeof(in), text, strlen(text),
				     sizeof(struct fuse_write_out));

	return error ? error : (int)((struct fuse_write_out *)g->reply)->size;
}

/* Returns bytes read (in g->reply) or -errno. */
static inline int fuse_guest_read(struct fuse_guest *g, uint32_t opcode, uint64_t nodeid,
				  uint64_t fh, uint64_t offset, uint32_t size)
{
	const struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};
	int error = fuse_guest_call(g, opcode, nodeid, &in, sizeof(in), size);

	return error ? error : (int)g->reply_bytes;
}

static inline int fuse_guest_getattr(struct fuse_guest *g, uint64_t nodeid,
				     struct fuse_attr_out *ret)
{
	const struct fuse_getattr_in in = {0};
	int error = fuse_guest_call(g, FUSE_GETATTR, nodeid, &in, sizeof(in), sizeof(*ret));

	if (!error)
		memcpy(ret, g->reply, sizeof(*ret));
	return error;
}

#endif
