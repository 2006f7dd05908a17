/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a session and of those who serve it: INIT, DESTROY, workers, and what concerns all of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/internal.h"
#include "base/log.h"
#include "fuse/rfc2021.h"
#include "base/util.h"

enum {
	MINOR_MIN = 27,
	MAX_BACKGROUND = 65535,
	GUEST_PAGE_BYTES = 4096,
};

/* What works here, whoever asks. Options add to it. */
static const uint64_t always_granted = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_BIG_WRITES |
				       FUSE_AUTO_INVAL_DATA | FUSE_ASYNC_DIO | FUSE_ATOMIC_O_TRUNC |
				       FUSE_MAX_PAGES | FUSE_INIT_EXT | FUSE_ALLOW_IDMAP |
				       FUSE_HAS_IOCTL_DIR | FUSE_CREATE_SUPP_GROUP |
				       FUSE_EXPORT_SUPPORT | FUSE_HAS_HOLD | FUSE_HAS_STATX_ATTR;

/* The one is nothing without the others. */
static const uint64_t posix_acl = FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;

/* What is granted of what is @offered. */
static uint64_t grantable(const struct vfsd_fuse_options *options, uint64_t offered)
{
	uint64_t flags = always_granted;

	if (options->readdirplus && options->cache != VFSD_CACHE_NEVER)
		flags |= FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO;
	if (options->writeback)
		flags |= FUSE_WRITEBACK_CACHE;
	if (options->announce_submounts)
		flags |= FUSE_SUBMOUNTS;
	if (options->allow_mmap)
		flags |= FUSE_DIRECT_IO_ALLOW_MMAP;
	if (options->killpriv_v2)
		flags |= FUSE_HANDLE_KILLPRIV_V2;
	if (options->posix_acl)
		flags |= posix_acl;
	if (options->security_label)
		flags |= FUSE_SECURITY_CTX;
	return flags & offered;
}

/*
 * Can this guest's kernel do what options demand? Without ACLs it would let users in whom the host's
 * ACLs keep out, so it had better not mount. 0 or -EPROTO.
 */
static int check_demands(const struct vfsd_fuse_options *options, uint64_t offered)
{
	static const char line[] = "fuse: this guest's kernel is too old for %s";

	if (options->killpriv_v2 && !(offered & FUSE_HANDLE_KILLPRIV_V2))
		VFSD_LOG_LIMITED(VFSD_LOG_WARN, line, "killpriv-v2");
	if (options->posix_acl && (offered & posix_acl) != posix_acl) {
		VFSD_LOG_LIMITED(VFSD_LOG_ERROR, line, "posix-acl");
		return -EPROTO;
	}
	if (options->security_label && !(offered & FUSE_SECURITY_CTX)) {
		VFSD_LOG_LIMITED(VFSD_LOG_ERROR, line, "security-label");
		return -EPROTO;
	}
	return 0;
}

/* Everything of an earlier session is void. Requests on other queues are refused meanwhile. */
void vfsd_fuse_end_session(struct vfsd_fuse *fuse)
{
	atomic_store_explicit(&fuse->granted, 0, memory_order_release);
	vfsd_deferrals_end_session(fuse->deferrals);
	vfsd_open_files_clear(fuse->handles);
	vfsd_inodes_clear(fuse->inodes);
}

uint64_t vfsd_fuse_session(const struct vfsd_fuse *fuse)
{
	return atomic_load(&fuse->granted);
}

int vfsd_fuse_resume(struct vfsd_fuse *fuse, uint64_t session)
{
	uint64_t possible = grantable(&fuse->config.options, UINT64_MAX) | FUSE_HAS_FSNOTIFY;

	if (session && !(session & VFSD_FUSE_READY))
		return -ENOTSUP;
	if (session & ~(possible | VFSD_FUSE_READY))
		return -ENOTSUP;
	vfsd_inodes_set_remember(fuse->inodes, session & FUSE_EXPORT_SUPPORT);
	atomic_store(&fuse->granted, session);
	return 0;
}

/*
 * A kernel of 2021 sends a short INIT, and what is INIT_EXT to others announces remote fsnotify. Any
 * other kernel is served as ever, without it.
 */
static bool is_rfc2021(const struct vfsd_request *req)
{
	return req->fuse->config.rfc2021 && req->text_left == 0;
}

/* The flags offered. -EINVAL: INIT_EXT without the words it announces. */
static int read_offer(const struct vfsd_request *req, uint64_t *ret)
{
	struct fuse_init_in in = {.major = 0};

	memcpy(&in, req->args, FUSE_INIT_IN_OLD_BYTES);
	*ret = in.flags;
	if (!(in.flags & FUSE_INIT_EXT) || is_rfc2021(req))
		return 0;
	if (req->text_left < sizeof(in) - FUSE_INIT_IN_OLD_BYTES)
		return -EINVAL;
	memcpy(&in, req->args, sizeof(in));
	*ret |= (uint64_t)in.flags2 << 32;
	return 0;
}

/* Does the guest ask for remote fsnotify, in the dialect that we speak? */
static bool wants_fsnotify(const struct vfsd_request *req, uint64_t offered)
{
	const uint64_t both = FUSE_HAS_FSNOTIFY | FUSE_INIT_EXT;

	if (req->fuse->config.rfc2021)
		return is_rfc2021(req) && offered & VFSD_RFC2021_HAVE_FSNOTIFY;
	return (offered & both) == both;
}

/* The flags of the reply, in the guest's dialect. */
static uint64_t as_said(const struct vfsd_request *req, uint64_t granted)
{
	uint64_t said = granted & UINT32_MAX & ~VFSD_RFC2021_HAVE_FSNOTIFY;

	if (!is_rfc2021(req))
		return granted;
	return granted & FUSE_HAS_FSNOTIFY ? said | VFSD_RFC2021_HAVE_FSNOTIFY : said;
}

ssize_t vfsd_fuse_init(struct vfsd_request *req)
{
	struct vfsd_fuse *fuse = req->fuse;
	const struct fuse_init_in *in = req->args; /* only the old part is sure to be there */
	struct fuse_init_out *out = req->reply;
	uint32_t pages = (fuse->config.max_write_bytes + GUEST_PAGE_BYTES - 1) / GUEST_PAGE_BYTES;
	uint32_t server_mask = 0;
	uint64_t offered;
	uint64_t granted, said;
	bool fsnotify;
	int error;

	if (in->major < FUSE_KERNEL_VERSION ||
	    (in->major == FUSE_KERNEL_VERSION && in->minor < MINOR_MIN))
		return -EPROTO;
	out->major = FUSE_KERNEL_VERSION;
	out->minor = FUSE_KERNEL_MINOR_VERSION;
	if (in->major > FUSE_KERNEL_VERSION) /* it will ask again in our language */
		return (ssize_t)sizeof(*out);
	error = read_offer(req, &offered);
	if (!error)
		error = check_demands(&fuse->config.options, offered);
	if (error)
		return error;

	vfsd_fuse_end_session(fuse);
	granted = grantable(&fuse->config.options, offered);
	fsnotify = wants_fsnotify(req, offered);
	if (fuse->hooks.session_start &&
	    fuse->hooks.session_start(fuse->hooks.ctx, fsnotify, &server_mask) && fsnotify) {
		granted |= FUSE_HAS_FSNOTIFY;
		out->fsnotify_server_mask = server_mask;
	}
	said = as_said(req, granted);

	out->max_readahead = in->max_readahead;
	out->flags = (uint32_t)said;
	out->flags2 = (uint32_t)(said >> 32);
	out->max_background = MAX_BACKGROUND;
	out->congestion_threshold = MAX_BACKGROUND / 4 * 3;
	out->max_write = fuse->config.max_write_bytes;
	out->time_gran = 1;
	out->max_pages = (uint16_t)(pages < UINT16_MAX ? pages : UINT16_MAX);
	vfsd_inodes_set_remember(fuse->inodes, granted & FUSE_EXPORT_SUPPORT);
	atomic_store_explicit(&fuse->granted, granted | VFSD_FUSE_READY, memory_order_release);
	return (ssize_t)sizeof(*out);
}

ssize_t vfsd_fuse_destroy_session(struct vfsd_request *req)
{
	vfsd_fuse_end_session(req->fuse);
	if (req->fuse->hooks.session_end)
		req->fuse->hooks.session_end(req->fuse->hooks.ctx);
	return 0;
}

ssize_t vfsd_fuse_interrupt(struct vfsd_request *req)
{
	const struct fuse_interrupt_in *in = req->args;

	return vfsd_deferrals_interrupt(req->fuse->deferrals, in->unique);
}

static ssize_t subscribe(struct vfsd_request *req, const struct vfsd_fuse_interest *interest)
{
	const struct vfsd_fuse_hooks *hooks = &req->fuse->hooks;
	struct vfsd_inode *still;
	int error;

	if (!(req->granted & FUSE_HAS_FSNOTIFY) || !hooks->subscribe)
		return -ENOSYS;
	error = hooks->subscribe(hooks->ctx, req->inode, interest);
	/* If another queue forgot the inode meanwhile, nobody else would drop this interest. */
	still = vfsd_inode_get(req->fuse->inodes, req->header.nodeid);
	if (!still && hooks->forgotten)
		hooks->forgotten(hooks->ctx, req->inode);
	vfsd_inode_put(req->fuse->inodes, still);
	return error;
}

ssize_t vfsd_fuse_fsnotify(struct vfsd_request *req)
{
	const struct fuse_fsnotify_in *in = req->args;
	const struct vfsd_fuse_interest interest = {.mask = in->mask, .flags = in->flags};

	return subscribe(req, &interest);
}

ssize_t vfsd_fuse_fsnotify_rfc2021(struct vfsd_request *req)
{
	struct vfsd_rfc2021_in in;
	struct vfsd_fuse_interest interest;
	int error;

	if (!(req->granted & FUSE_HAS_FSNOTIFY))
		return -ENOSYS; /* for this guest it is TMPFILE */
	if (req->text_left < sizeof(in))
		return -EINVAL;
	memcpy(&in, req->text, sizeof(in));
	error = vfsd_rfc2021_decode(&in, &interest);
	return error ? error : subscribe(req, &interest);
}

struct vfsd_deferrals *vfsd_fuse_deferrals(struct vfsd_fuse *fuse)
{
	return fuse->deferrals;
}

int vfsd_fuse_worker_create(struct vfsd_fuse *fuse, struct vfsd_reply_ring *ring,
			    struct vfsd_fuse_worker **ret)
{
	struct vfsd_fuse_worker *worker = malloc(sizeof(*worker));

	if (!worker)
		return -ENOMEM;
	worker->fuse = fuse;
	worker->ring = ring;
	/* No guest has such a request. */
	atomic_init(&worker->serving, UINT64_MAX);
	worker->interrupted = UINT64_MAX;
	vfsd_deferrals_enter(fuse->deferrals, worker);
	*ret = worker;
	return 0;
}

void vfsd_fuse_worker_destroy(struct vfsd_fuse_worker *worker)
{
	if (!worker)
		return;
	vfsd_deferrals_leave(worker->fuse->deferrals, worker);
	free(worker);
}

int vfsd_fuse_expire_fds(struct vfsd_fuse_worker *worker)
{
	return vfsd_inodes_expire_fds(worker->fuse->inodes);
}
