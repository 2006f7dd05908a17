/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * FUSE requests of a hostile guest, against a host filesystem that is not there.
 *
 * An input is a list of requests: which opcode, which node id and file handle (known ones, so that
 * something happens, or any), how long the header says it is, how the buffers are cut, how much
 * room the reply has, and the body. Replies must keep to their room and to their form; at the end
 * nothing may be held.
 */
#include "fuzz.h"
#include "input.h"
#define VFSD_CHECK_ABORT
#include "null_hostfs.h"

#include <linux/fs.h>

#include "fuse/deferred.h"
#include "fuse/fuse.h"
#include "fuse/id_map.h"
#include "base/quota.h"
#include "fuse/upcall.h"
#include "fuse/wire.h"
#include "fuse/xattr_map.h"
#include "virtio/vring.h"

enum {
	BODY_MAX = 255,
	ROOM_MAX = 8192,
	KNOWN = 8, /* ids and handles from replies that are remembered */
	PIECES = 64,
	MAX_FDS = 12,
	ANY = 0xff,
};

static const uint32_t opcodes[] = {
	FUSE_LOOKUP,
	FUSE_FORGET,
	FUSE_GETATTR,
	FUSE_SETATTR,
	FUSE_READLINK,
	FUSE_SYMLINK,
	FUSE_MKNOD,
	FUSE_MKDIR,
	FUSE_UNLINK,
	FUSE_RMDIR,
	FUSE_RENAME,
	FUSE_LINK,
	FUSE_OPEN,
	FUSE_READ,
	FUSE_WRITE,
	FUSE_STATFS,
	FUSE_RELEASE,
	FUSE_FSYNC,
	FUSE_SETXATTR,
	FUSE_GETXATTR,
	FUSE_LISTXATTR,
	FUSE_REMOVEXATTR,
	FUSE_FLUSH,
	FUSE_INIT,
	FUSE_OPENDIR,
	FUSE_READDIR,
	FUSE_RELEASEDIR,
	FUSE_FSYNCDIR,
	FUSE_ACCESS,
	FUSE_CREATE,
	FUSE_INTERRUPT,
	FUSE_DESTROY,
	FUSE_IOCTL,
	FUSE_BATCH_FORGET,
	FUSE_FALLOCATE,
	FUSE_READDIRPLUS,
	FUSE_RENAME2,
	FUSE_LSEEK,
	FUSE_COPY_FILE_RANGE,
	FUSE_SYNCFS,
	FUSE_TMPFILE,
	FUSE_STATX,
	FUSE_COPY_FILE_RANGE_64,
	FUSE_FSNOTIFY,
	FUSE_POLL, /* answered later */
};

struct target {
	struct vfsd_hostfs fs;
	struct vfsd_quota quota;
	struct vfsd_xattrmap *xattrmap;
	struct vfsd_idmap *idmap;
	struct vfsd_inodes *inodes;
	struct vfsd_open_files *handles;
	struct vfsd_upcalls *upcalls;
	struct vfsd_fuse *fuse;
	struct vfsd_reply_ring replies;
	struct vfsd_fuse_worker *worker;
	uint32_t written; /* of a request that was answered later */
	bool unpopped;
	uint64_t nodes[KNOWN];
	uint64_t fhs[KNOWN];
	uint32_t n_nodes, n_fhs;
	uint64_t unique;
};

static bool on_start(void *ctx, bool fsnotify, uint32_t *server_mask)
{
	(void)ctx;
	*server_mask = 0;
	return fsnotify;
}

static int on_subscribe(void *ctx, struct vfsd_inode *inode,
			const struct vfsd_fuse_interest *interest)
{
	struct target *t = ctx;

	/* What marks do with an inode. */
	t->fs.sum ^= (uint8_t)(inode->nodeid ^ interest->mask ^ interest->flags);
	return interest->mask & 1 ? -ENOSPC : 0;
}

static void on_forgotten(void *ctx, struct vfsd_inode *inode)
{
	struct target *t = ctx;
	struct vfsd_inode *again = vfsd_inode_get(t->inodes, inode->nodeid);

	CHECK(!again);
}

static void on_push(void *ctx, uint16_t head, const struct iovec *out, uint32_t n_out,
		    uint32_t written)
{
	struct target *t = ctx;

	(void)out;
	CHECK(head == 1 && n_out > 0 && t->written == 0);
	t->written = written;
}

static void on_unpop(void *ctx, uint16_t head)
{
	struct target *t = ctx;

	CHECK_EQ(head, 1);
	t->unpopped = true;
}

static void target_create(struct target *t)
{
	static const uint32_t later[] = {FUSE_POLL};
	static const struct vfsd_xattr_rule rules[] = {
		{VFSD_XATTR_BAD, VFSD_XATTR_SERVER, "", "user.hidden"},
		{VFSD_XATTR_UNSUPPORTED, VFSD_XATTR_CLIENT, "user.no", ""},
		{VFSD_XATTR_PREFIX, VFSD_XATTR_ALL, "trusted.", "user."},
		{VFSD_XATTR_OK, VFSD_XATTR_ALL, "", ""},
	};
	static const struct vfsd_id_range ranges[] = {{1, 100, 1000, VFSD_ID_SHIFT},
						      {200, 1, 0, VFSD_ID_FORBID}};
	const struct vfsd_id_range *const tables[VFSD_ID_WAYS] = {[VFSD_UID_TO_HOST] = ranges,
								  [VFSD_GID_TO_HOST] = ranges};
	const uint32_t n[VFSD_ID_WAYS] = {[VFSD_UID_TO_HOST] = 2, [VFSD_GID_TO_HOST] = 2};
	struct vfsd_fuse_config config = {.options = {.cache = VFSD_CACHE_AUTO,
						      .readdirplus = true,
						      .announce_submounts = true,
						      .writeback = true,
						      .xattr = true,
						      .posix_acl = true,
						      .security_label = true},
					  .upcall_opcodes = later,
					  .n_upcall_opcodes = 1};
	const struct vfsd_fuse_hooks hooks = {.ctx = t,
					      .session_start = on_start,
					      .subscribe = on_subscribe,
					      .forgotten = on_forgotten};
	const struct vfsd_inodes_config inodes = {.options.file_handles = VFSD_HANDLES_NEVER,
						  .proc_self_fd = -1,
						  .fd_quota = &t->quota};

	*t = (struct target){
		.quota = {.limit = MAX_FDS}, .n_nodes = 1, .nodes = {VFSD_NODEID_ROOT}};
	CHECK_EQ(vfsd_xattrmap_create(rules, sizeof(rules) / sizeof(rules[0]), &t->xattrmap), 0);
	CHECK_EQ(vfsd_idmap_create(tables, n, &t->idmap), 0);
	config.xattrmap = t->xattrmap;
	CHECK_EQ(vfsd_upcalls_create(&t->upcalls), 0);
	config.upcalls = t->upcalls;
	t->replies = (struct vfsd_reply_ring){.ctx = t, .push = on_push, .limit = 1};
	config.idmap = t->idmap;
	null_hostfs_create(&t->fs);
	CHECK_EQ(vfsd_inodes_create(&inodes, open("/usr", O_PATH | O_CLOEXEC), &t->inodes), 0);
	t->fs.inodes = t->inodes;
	CHECK_EQ(vfsd_open_files_create(&t->quota, &t->handles), 0);
	CHECK_EQ(vfsd_fuse_create(&config, &hooks, &null_hostfs_ops, &t->fs, t->inodes, t->handles,
				  &t->fuse),
		 0);
	CHECK_EQ(vfsd_fuse_worker_create(t->fuse, &t->replies, &t->worker), 0);
}

static void target_destroy(struct target *t)
{
	vfsd_open_files_clear(t->handles);
	CHECK_EQ(vfsd_open_files_count(t->handles), 0);
	vfsd_inodes_clear(t->inodes);
	CHECK_EQ(vfsd_inodes_count(t->inodes), 1);
	vfsd_fuse_worker_destroy(t->worker);
	vfsd_fuse_destroy(t->fuse);
	vfsd_upcalls_destroy(t->upcalls);
	vfsd_open_files_destroy(t->handles);
	vfsd_inodes_destroy(t->inodes);
	vfsd_xattrmap_destroy(t->xattrmap);
	vfsd_idmap_destroy(t->idmap);
	CHECK_EQ(t->quota.used, 0);
	null_hostfs_destroy(&t->fs);
}

static void remember(uint64_t *known, uint32_t *n, uint64_t id)
{
	known[*n < KNOWN ? (*n)++ : id % KNOWN] = id;
}

/* Ids from replies make later requests meaningful. */
static void learn(struct target *t, uint32_t opcode, const uint8_t *payload, size_t bytes)
{
	struct fuse_entry_out entry;
	struct fuse_open_out opened;

	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKDIR:
	case FUSE_MKNOD:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		CHECK(bytes >= sizeof(entry));
		memcpy(&entry, payload, sizeof(entry));
		CHECK(entry.nodeid != 0);
		remember(t->nodes, &t->n_nodes, entry.nodeid);
		if (opcode != FUSE_CREATE && opcode != FUSE_TMPFILE)
			break;
		CHECK_EQ(bytes, sizeof(entry) + sizeof(opened));
		memcpy(&opened, payload + sizeof(entry), sizeof(opened));
		remember(t->fhs, &t->n_fhs, opened.fh);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		CHECK_EQ(bytes, sizeof(opened));
		memcpy(&opened, payload, sizeof(opened));
		remember(t->fhs, &t->n_fhs, opened.fh);
		break;
	default:
		break;
	}
}

static uint32_t cut(uint8_t *bytes, size_t len, uint32_t pieces, struct iovec *iov)
{
	uint32_t n = 0;
	size_t at = 0;

	/* Uneven, with an empty one now and then. */
	while (n + 1 < pieces) {
		size_t piece = len / pieces + n % 3;

		if (piece > len - at)
			piece = len - at;
		if (n % 5 == 4)
			piece = 0;
		iov[n++] = (struct iovec){bytes + at, piece};
		at += piece;
	}
	iov[n++] = (struct iovec){bytes + at, len - at};
	return n;
}

/* What may happen to a request that is deferred, by @how. Returns the bytes of its reply. */
static uint32_t answer_later(struct target *t, uint16_t how)
{
	static const uint8_t payload[ROOM_MAX];
	const struct vfsd_upcall *call;
	uint64_t id = 0;

	t->written = 0;
	t->unpopped = false;
	if (how & 1) {
		CHECK_EQ(vfsd_upcalls_next(t->upcalls, &call), VFSD_UPCALL_REQUEST);
		CHECK_EQ(call->header.unique, t->unique);
		for (size_t i = 0; i < call->body_bytes; i++)
			t->fs.sum ^= call->body[i];
		id = call->id;
	}
	switch (how / 2 % 4) {
	case 0:
		CHECK_EQ(vfsd_deferrals_interrupt(vfsd_fuse_deferrals(t->fuse), t->unique), 0);
		break;
	case 1:
		vfsd_fuse_end_session(t->fuse);
		break;
	case 2:
		vfsd_reply_ring_stop(vfsd_fuse_deferrals(t->fuse), &t->replies, on_unpop);
		CHECK(t->unpopped && t->written == 0);
		break;
	default:
		if (!id) {
			CHECK_EQ(vfsd_upcalls_next(t->upcalls, &call), VFSD_UPCALL_REQUEST);
			id = call->id;
		}
		CHECK(vfsd_upcalls_answer(t->upcalls, id, how & 8 ? 0 : -(how >> 4), payload,
					  how % ROOM_MAX) != -ENOENT);
		CHECK(t->written > 0);
	}
	/* What has gone is reported, and no more than that. */
	if (vfsd_upcalls_next(t->upcalls, &call) != VFSD_UPCALL_NONE)
		CHECK(call->id == id && vfsd_upcalls_next(t->upcalls, &call) == VFSD_UPCALL_NONE);
	CHECK_EQ(t->replies.n, 0);
	return t->written;
}

/*
 * 12 bytes and the body: opcode, node, what to put where the body starts, lie about the length,
 * pieces in and out, room (2), extension length, body length, spare (2).
 */
static void one_request(struct target *t, struct input *input)
{
	uint8_t which = get8(input);
	uint8_t node = get8(input);
	uint8_t first = get8(input);
	int8_t lie = (int8_t)get8(input);
	uint32_t in_pieces = 1 + get8(input) % PIECES;
	uint32_t out_pieces = 1 + get8(input) % PIECES;
	size_t room = get16(input) % ROOM_MAX;
	uint8_t extensions = get8(input);
	size_t body = get8(input);
	uint16_t spare = get16(input);
	struct fuse_in_header header = {
		.opcode = which == ANY ? spare : opcodes[which % (sizeof(opcodes) / 4)],
		.unique = ++t->unique,
		.nodeid = node == ANY ? spare : t->nodes[node % t->n_nodes],
		.uid = spare,
		.gid = spare,
		.total_extlen = extensions,
	};
	struct vfsd_chain chain;
	struct fuse_out_header reply;
	uint8_t *request;
	uint8_t *out;
	uint32_t written;
	size_t len;

	if (body > input->left)
		body = input->left;
	len = sizeof(header) + body;
	header.len = lie == -128 ? UINT32_MAX : (uint32_t)((int)len + lie);
	request = malloc(len);
	out = malloc(room ? room : 1);
	CHECK(request && out);
	memcpy(request, &header, sizeof(header));
	memcpy(request + sizeof(header), input->data, body);
	input->data += body;
	input->left -= body;
	if (first != ANY && body >= sizeof(uint64_t)) {
		if (first < 128 && t->n_fhs)
			memcpy(request + sizeof(header), &t->fhs[first % t->n_fhs], 8);
		else
			memcpy(request + sizeof(header), &t->nodes[first % t->n_nodes], 8);
	}

	chain.n_in = cut(request, len, in_pieces, chain.iov);
	chain.n_out = cut(out, room, out_pieces, chain.iov + chain.n_in);
	chain.head = 1;
	if (vfsd_fuse_serve(t->worker, &chain, &written) == VFSD_SERVED_DEFERRED)
		written = answer_later(t, spare);
	CHECK(written <= room);
	if (written > 0) {
		CHECK(written >= sizeof(reply));
		memcpy(&reply, out, sizeof(reply));
		CHECK_EQ(reply.len, written);
		CHECK_EQ(reply.unique, t->unique);
		CHECK(reply.error <= 0 && reply.error > -4096);
		if (reply.error)
			CHECK_EQ(written, sizeof(reply));
		else
			learn(t, header.opcode, out + sizeof(reply), written - sizeof(reply));
	}
	free(request);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct target t;

	target_create(&t);
	while (input.left > 0)
		one_request(&t, &input);
	target_destroy(&t);
	return 0;
}

/* Seeds: a session in which each opcode is well-formed once. */

struct program {
	uint8_t *bytes;
	size_t len;
};

static void put_request(struct program *program, uint32_t opcode, uint8_t node, uint8_t first,
			const void *body, size_t bytes)
{
	uint8_t *at = program->bytes + program->len;
	uint8_t which = 0;

	while (opcodes[which] != opcode)
		which++;
	memcpy(at,
	       (const uint8_t[]){which, node, first, 0, 3, 5, 0xe0, 0x1f, 0, (uint8_t)bytes, 0, 0},
	       12);
	memcpy(at + 12, body, bytes);
	program->len += 12 + bytes;
}

static void put_start(struct program *program)
{
	const struct fuse_init_in init = {
		.major = 7, .minor = 41, .flags = UINT32_MAX, .flags2 = UINT32_MAX};
	const struct fuse_open_in opened = {0};

	put_request(program, FUSE_INIT, 0, ANY, &init, sizeof(init));
	put_request(program, FUSE_LOOKUP, 0, ANY, "a", 2);
	put_request(program, FUSE_OPENDIR, 1, ANY, &opened, sizeof(opened));
}

size_t vfsd_fuzz_seed(uint32_t index, uint8_t *bytes, size_t max)
{
	static const struct fuse_read_in read_in = {.size = 4096};
	struct program program = {.bytes = bytes};
	uint8_t body[BODY_MAX] = {0};

	if (max < 1024)
		return 0;
	put_start(&program);
	switch (index) {
	case 0:
		put_request(&program, FUSE_READDIR, 1, 0, &read_in, sizeof(read_in));
		put_request(&program, FUSE_READDIRPLUS, 1, 0, &read_in, sizeof(read_in));
		put_request(&program, FUSE_FSYNCDIR, 1, 0, body, 16);
		put_request(&program, FUSE_RELEASEDIR, 1, 0, body, 24);
		break;
	case 1:
		memcpy(body + 16, "b", 2);
		put_request(&program, FUSE_CREATE, 0, ANY, body, 18);
		put_request(&program, FUSE_READ, 1, 0, &read_in, sizeof(read_in));
		body[16] = 100;
		put_request(&program, FUSE_WRITE, 2, 1, body, 140);
		put_request(&program, FUSE_FLUSH, 2, 1, body, 24);
		put_request(&program, FUSE_FSYNC, 2, 1, body, 16);
		put_request(&program, FUSE_RELEASE, 2, 1, body, 24);
		break;
	case 2:
		put_request(&program, FUSE_SYMLINK, 0, ANY, "c\0target", 9);
		put_request(&program, FUSE_READLINK, 1, ANY, "", 0);
		memcpy(body + 16, "a\0b", 4);
		put_request(&program, FUSE_MKNOD, 0, ANY, body, 18);
		put_request(&program, FUSE_MKDIR, 0, ANY, body + 8, 10);
		put_request(&program, FUSE_RENAME, 0, 128, body + 8, 12);
		put_request(&program, FUSE_RENAME2, 0, 128, body, 20);
		put_request(&program, FUSE_LINK, 0, 129, body + 8, 10);
		put_request(&program, FUSE_UNLINK, 0, ANY, "a", 2);
		put_request(&program, FUSE_RMDIR, 0, ANY, "a", 2);
		break;
	case 3:
		put_request(&program, FUSE_GETATTR, 1, ANY, body, 16);
		body[0] = FATTR_MODE | FATTR_SIZE;
		put_request(&program, FUSE_SETATTR, 1, ANY, body, 88);
		put_request(&program, FUSE_STATFS, 0, ANY, "", 0);
		put_request(&program, FUSE_FSNOTIFY, 1, ANY, body, 16);
		put_request(&program, FUSE_INTERRUPT, 0, ANY, body, 8);
		put_request(&program, FUSE_POLL, 0, ANY, body, 8);
		body[0] = 1;
		put_request(&program, FUSE_BATCH_FORGET, 0, ANY, body, 24);
		put_request(&program, FUSE_FORGET, 1, ANY, body, 8);
		put_request(&program, FUSE_DESTROY, 0, ANY, "", 0);
		break;
	case 4:
		memcpy(body + 16, "user.a\0value", 12);
		body[0] = 5;
		put_request(&program, FUSE_SETXATTR, 1, ANY, body, 28);
		memcpy(body + 8, "trusted.b", 10);
		put_request(&program, FUSE_GETXATTR, 1, ANY, body, 18);
		body[0] = 0xff;
		put_request(&program, FUSE_GETXATTR, 1, ANY, body, 18);
		put_request(&program, FUSE_LISTXATTR, 1, ANY, body, 8);
		put_request(&program, FUSE_REMOVEXATTR, 1, ANY, "user.a", 7);
		memset(body, 0, 8);
		put_request(&program, FUSE_ACCESS, 1, ANY, body, 8);
		put_request(&program, FUSE_SYNCFS, 1, ANY, body, 8);
		put_request(&program, FUSE_STATX, 1, ANY, (const uint8_t[24]){0}, 24);
		break;
	case 5: {
		const struct fuse_lseek_in seek = {.whence = SEEK_DATA};
		const struct fuse_ioctl_in get = {.cmd = (uint32_t)FS_IOC_FSGETXATTR,
						  .out_size = sizeof(struct fsxattr)};
		struct fuse_ioctl_in set = {.cmd = (uint32_t)FS_IOC_SETFLAGS, .in_size = 4};

		put_request(&program, FUSE_LSEEK, 1, 0, &seek, sizeof(seek));
		put_request(&program, FUSE_FALLOCATE, 1, 0, body, 32);
		put_request(&program, FUSE_IOCTL, 1, 0, &get, sizeof(get));
		memcpy(body, &set, sizeof(set));
		put_request(&program, FUSE_IOCTL, 1, 0, body, sizeof(set) + 4);
		memset(body, 0, sizeof(set));
		body[16] = VFSD_NODEID_ROOT;
		body[40] = 99;
		put_request(&program, FUSE_COPY_FILE_RANGE, 1, 0, body, 56);
		put_request(&program, FUSE_COPY_FILE_RANGE_64, 1, 0, body, 56);
		break;
	}
	case 6: {
		/* A name, a label, a group. */
		static const struct {
			struct fuse_create_in in;
			char name[8];
			struct fuse_secctx_header header;
			struct fuse_secctx context;
			char label[16];
			struct fuse_ext_header groups;
			uint32_t nr_groups, group;
		} create = {
			.in = {.mode = 0600, .umask = 022},
			.name = "a234567",
			.header = {.size = 32, .nr_secctx = 1},
			.context = {.size = 5},
			.label = "user.s\0value",
			.groups = {.size = 16, .type = FUSE_EXT_GROUPS},
			.nr_groups = 1,
			.group = 7,
		};
		size_t at;

		put_request(&program, FUSE_CREATE, 0, ANY, &create, sizeof(create));
		at = program.len;
		put_request(&program, FUSE_TMPFILE, 0, ANY, &create, sizeof(create));
		program.bytes[at + 8] = 6; /* announced */
		put_request(&program, FUSE_MKDIR, 0, ANY, &create.in.umask, sizeof(create) - 8);
		break;
	}
	default:
		return 0;
	}
	return program.len;
}
