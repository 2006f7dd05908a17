/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/fuse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/faults.h"
#include "fuse/agent.h"
#include "fuse/internal.h"
#include "base/log.h"
#include "fuse/rfc2021.h"
#include "base/util.h"

enum row_flags {
	NODE = 1 << 0,	      /* header.nodeid must be held: gives req->inode */
	NO_REPLY = 1 << 1,    /* the guest expects none, not even for an error */
	WRITES = 1 << 2,      /* -EROFS on a read-only share */
	BARRIER = 1 << 3,     /* older events go before the reply */
	STREAM = 1 << 4,      /* only args are copied, the rest is read from guest memory */
	PRE_INIT = 1 << 5,    /* allowed before INIT */
	ANY_ID = 1 << 6,      /* also callers whose ids are forbidden: it only gives things back */
	OWN_BARRIER = 1 << 7, /* as BARRIER, where the guest's own events are reported by us */
	/* NODE, but a node that the guest does not hold is the handler's: no inode. */
	FORGOTTEN = 1 << 8,
	ERRORS_ONLY = 1 << 9, /* a reply says what went wrong, success has none */
};

/* One opcode. To add one: a row in operations.h, a handler in the file of its group. */
struct vfsd_fuse_row {
	const char *name;
	vfsd_fuse_handler handle; /* NULL: -ENOSYS */
	uint16_t args_bytes;	  /* of the fixed struct: the least a body has */
	uint16_t reply_bytes;	  /* of a fixed reply: the least the guest leaves room for */
	uint32_t flags;
};

#define ARGS(type) (uint16_t)sizeof(struct type)
#define ROW(opcode, ...) [FUSE_##opcode] = {#opcode, __VA_ARGS__},

static const struct vfsd_fuse_row rows[FUSE_OPCODES] = {VFSD_FUSE_OPERATIONS(ROW)};

static const struct vfsd_fuse_row row_fsnotify = {"FSNOTIFY", vfsd_fuse_fsnotify,
						  ARGS(fuse_fsnotify_in), 0, NODE | BARRIER};
/* Its body is looked at by the handler: for other guests this opcode is another. */
static const struct vfsd_fuse_row row_rfc2021 = {"FSNOTIFY", vfsd_fuse_fsnotify_rfc2021, 0, 0,
						 NODE | BARRIER};
static const struct vfsd_fuse_row row_hold = {"HOLD", vfsd_fuse_hold, 0, 0, NODE};
static const struct vfsd_fuse_row row_unknown = {.name = "unknown"};
static const struct vfsd_fuse_row row_upcall = {"upcall", vfsd_fuse_upcall, 0, 0, 0};

static bool is_upcall(const struct vfsd_fuse *fuse, uint32_t opcode)
{
	for (uint32_t i = 0; i < fuse->config.n_upcall_opcodes; i++)
		if (fuse->upcall_opcodes[i] == opcode)
			return true;
	return false;
}

static const struct vfsd_fuse_row *row_of(const struct vfsd_fuse *fuse, uint32_t opcode)
{
	if (opcode < VFSD_ARRAY_SIZE(rows))
		return fuse->rows[opcode].name ? &fuse->rows[opcode] : &row_unknown;
	if (opcode == FUSE_FSNOTIFY && !fuse->config.rfc2021)
		return &row_fsnotify;
	if (opcode == FUSE_HOLD)
		return &row_hold;
	return is_upcall(fuse, opcode) ? &row_upcall : &row_unknown;
}

/*
 * The header, as much of it as there is (the rest zero): a reply to a stump still names the
 * request. 0 or -EINVAL.
 */
static int read_header(struct vfsd_request *req)
{
	size_t there = req->in.left;
	size_t body;

	if (VFSD_UNLIKELY(there < sizeof(req->header))) {
		memset(&req->header, 0, sizeof(req->header));
		(void)vfsd_cursor_read(&req->in, &req->header, there);
		/* Half a number is none. */
		if (there < offsetof(struct fuse_in_header, unique))
			req->header.opcode = 0;
		if (there < offsetof(struct fuse_in_header, nodeid))
			req->header.unique = 0;
		return -EINVAL;
	}
	(void)vfsd_cursor_read(&req->in, &req->header, sizeof(req->header));
	if (req->header.len < sizeof(req->header))
		return -EINVAL;
	body = req->header.len - sizeof(req->header);
	if (body > req->in.left)
		return -EINVAL;
	req->in_left = body;
	return 0;
}

/* Copy what the handler may look at, once. 0 or -EINVAL. */
static int read_body(struct vfsd_request *req, const struct vfsd_fuse_row *row)
{
	size_t copied = row->flags & STREAM ? row->args_bytes : req->in_left;

	if (req->in_left < row->args_bytes || copied > sizeof(req->worker->body))
		return -EINVAL;
	if (vfsd_cursor_read(&req->in, req->worker->body, copied))
		return -EINVAL;
	req->in_left -= copied;
	req->args = req->worker->body;
	req->text = req->worker->body + row->args_bytes;
	req->text_left = copied - row->args_bytes;
	return 0;
}

/* Who asks, in the host's ids. 0 or -EPERM. */
static int translate_caller(struct vfsd_request *req, const struct vfsd_fuse_row *row)
{
	const struct vfsd_idmap *ids = req->fuse->config.idmap;
	int error;

	req->caller = (struct vfsd_caller){.uid = req->header.uid, .gid = req->header.gid};
	if (VFSD_LIKELY(!ids))
		return 0;
	error = vfsd_idmap_translate(ids, VFSD_UID_TO_HOST, &req->caller.uid);
	if (!error)
		error = vfsd_idmap_translate(ids, VFSD_GID_TO_HOST, &req->caller.gid);
	return row->flags & ANY_ID ? 0 : error;
}

/* All that every opcode needs before its handler, which then runs. */
static ssize_t dispatch(struct vfsd_request *req, const struct vfsd_fuse_row *row)
{
	int error;

	if (!(req->granted & VFSD_FUSE_READY) && !(row->flags & PRE_INIT))
		return -EIO;
	if (!row->handle)
		return -ENOSYS;
	if (req->out.left < row->reply_bytes)
		return -EINVAL;
	error = read_body(req, row);
	if (!error)
		error = translate_caller(req, row);
	if (error)
		return error;
	if (VFSD_UNLIKELY(req->fuse->config.agent != NULL)) {
		ssize_t n;

		if (vfsd_agent_serves(req, &n))
			return n;
	}
	if (row->flags & WRITES && req->fuse->config.options.readonly)
		return -EROFS;
	memset(req->worker->reply, 0, row->reply_bytes);
	vfsd_faults_request(row->flags & WRITES || req->header.opcode == FUSE_OPEN);
	if (!(row->flags & NODE))
		return row->handle(req);

	ssize_t n = -ESTALE;

	req->inode = vfsd_fuse_inode(req->fuse, req->header.nodeid);
	if (req->inode || row->flags & FORGOTTEN)
		n = row->handle(req);
	vfsd_inode_put(req->fuse->inodes, req->inode);
	return n;
}

/* The reply to what a handler has returned, for which @out has @room. Returns its bytes. */
static uint32_t reply(const struct vfsd_request *req, const struct iovec *out, uint32_t n_out,
		      size_t room, ssize_t n)
{
	if (n > 0 && (size_t)n > room)
		n = -EINVAL;
	return vfsd_fuse_place_reply(out, n_out, req->header.unique, n < 0 ? (int)n : 0,
				     req->in_place ? NULL : req->worker->reply,
				     n < 0 ? 0 : (size_t)n);
}

/* A request that has no reply, or only if it fails and there is room. Apart, because it is rare. */
static __attribute__((noinline)) uint32_t serve_silent(struct vfsd_request *req,
						       const struct vfsd_fuse_row *row,
						       const struct iovec *out, uint32_t n_out)
{
	size_t room = req->out.left;
	ssize_t n = dispatch(req, row);

	if (n >= 0 || row->flags & NO_REPLY || room < sizeof(struct fuse_out_header))
		return 0;
	return reply(req, out, n_out, 0, n);
}

enum vfsd_served vfsd_fuse_serve(struct vfsd_fuse_worker *worker, const struct vfsd_chain *chain,
				 uint32_t *written)
{
	const struct vfsd_fuse_hooks *hooks = &worker->fuse->hooks;
	const struct iovec *out = chain->iov + chain->n_in;
	const uint32_t n_out = chain->n_out;
	struct vfsd_request req;
	const struct vfsd_fuse_row *row;
	size_t room;
	ssize_t n;

	req.fuse = worker->fuse;
	req.worker = worker;
	req.chain = chain;
	req.granted = atomic_load_explicit(&worker->fuse->granted, memory_order_acquire);
	req.inode = NULL;
	req.reply = worker->reply;
	req.in_place = false;
	req.outcome = VFSD_SERVED_DONE;
	vfsd_cursor_init(&req.in, chain->iov, chain->n_in);
	vfsd_cursor_init(&req.out, out, n_out);
	*written = 0;

	n = read_header(&req);
	row = row_of(worker->fuse, req.header.opcode);
	if (VFSD_UNLIKELY(n)) {
		VFSD_LOG_LIMITED(VFSD_LOG_WARN, "fuse: malformed request op=%s opcode=%u len=%u",
				 row->name, req.header.opcode, req.header.len);
		if (!(row->flags & NO_REPLY) && req.out.left >= sizeof(struct fuse_out_header))
			*written = reply(&req, out, n_out, 0, n);
		return VFSD_SERVED_DONE;
	}
	atomic_store_explicit(&worker->serving, req.header.unique, memory_order_relaxed);
	if (VFSD_UNLIKELY(row->flags & (NO_REPLY | ERRORS_ONLY))) {
		*written = serve_silent(&req, row, out, n_out);
		return VFSD_SERVED_DONE;
	}
	/* What cannot be answered is not done either. */
	if (vfsd_cursor_skip(&req.out, sizeof(struct fuse_out_header)))
		return VFSD_SERVED_DONE;
	room = req.out.left;
	n = dispatch(&req, row);
	if (VFSD_UNLIKELY(req.outcome != VFSD_SERVED_DONE))
		return req.outcome;
	if (row->flags & (BARRIER | OWN_BARRIER) && hooks->barrier)
		hooks->barrier(hooks->ctx, (row->flags & BARRIER) == 0);
	*written = reply(&req, out, n_out, room, n);
	return VFSD_SERVED_DONE;
}

/* Lead some of @own up to Python. 0 or -errno. */
static int register_upcalls(struct vfsd_fuse *fuse, struct vfsd_fuse_row *own)
{
	const struct vfsd_fuse_config *config = &fuse->config;

	fuse->upcall_opcodes = calloc(config->n_upcall_opcodes, sizeof(*fuse->upcall_opcodes));
	if (!fuse->upcall_opcodes)
		return -ENOMEM;
	for (uint32_t i = 0; i < config->n_upcall_opcodes; i++) {
		uint32_t opcode = config->upcall_opcodes[i];

		/* What begins and ends things, or has no reply, is ours. */
		if (opcode == FUSE_FSNOTIFY || opcode == FUSE_HOLD ||
		    (config->rfc2021 && opcode == VFSD_RFC2021_OPCODE) ||
		    (opcode < VFSD_ARRAY_SIZE(rows) &&
		     rows[opcode].flags & (NO_REPLY | ERRORS_ONLY | PRE_INIT | ANY_ID)))
			return -EINVAL;
		fuse->upcall_opcodes[i] = opcode;
		if (opcode < VFSD_ARRAY_SIZE(rows))
			own[opcode] = row_upcall;
	}
	return 0;
}

/* The table of opcodes, a copy of its own for options that change it. 0 or -errno. */
static int make_rows(struct vfsd_fuse *fuse)
{
	struct vfsd_fuse_row *own;

	fuse->rows = rows;
	if (!fuse->config.upcalls)
		fuse->config.n_upcall_opcodes = 0;
	if (fuse->config.n_upcall_opcodes == 0 && !fuse->config.rfc2021)
		return 0;
	own = malloc(sizeof(rows));
	if (!own)
		return -ENOMEM;
	memcpy(own, rows, sizeof(rows));
	fuse->rows = own;
	if (fuse->config.rfc2021)
		own[VFSD_RFC2021_OPCODE] = row_rfc2021;
	return fuse->config.n_upcall_opcodes == 0 ? 0 : register_upcalls(fuse, own);
}

int vfsd_fuse_create(const struct vfsd_fuse_config *config, const struct vfsd_fuse_hooks *hooks,
		     const struct vfsd_hostfs_ops *ops, struct vfsd_hostfs *fs,
		     struct vfsd_inodes *inodes, struct vfsd_open_files *handles,
		     struct vfsd_fuse **ret)
{
	struct vfsd_fuse *fuse = calloc(1, sizeof(*fuse));
	int error;

	if (!fuse)
		return -ENOMEM;
	fuse->config = *config;
	error = make_rows(fuse);
	if (!error)
		error = vfsd_numbers_create(inodes, &fuse->numbers);
	if (!error)
		error = vfsd_deferrals_create(&fuse->deferrals);
	if (error) {
		vfsd_fuse_destroy(fuse);
		return error;
	}
	if (!fuse->config.max_write_bytes)
		fuse->config.max_write_bytes = VFSD_FUSE_MAX_WRITE_BYTES;
	if (hooks)
		fuse->hooks = *hooks;
	fuse->ops = ops;
	fuse->fs = fs;
	fuse->inodes = inodes;
	fuse->handles = handles;
	*ret = fuse;
	return 0;
}

void vfsd_fuse_destroy(struct vfsd_fuse *fuse)
{
	if (!fuse)
		return;
	if (fuse->rows != rows)
		free((void *)(uintptr_t)fuse->rows);
	free(fuse->upcall_opcodes);
	vfsd_numbers_destroy(fuse->numbers);
	vfsd_deferrals_destroy(fuse->deferrals);
	free(fuse);
}
