/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests cut off at every byte, and replies without room, for every opcode. Each must get an
 * error reply (or none, where none fits) and must not reach the host filesystem.
 */
#include "fuse/fuse.h"

#include "check.h"
#include "null_hostfs.h"
#include "served.h"
#include "tree.h"
#include "base/util.h"
#include "fuse/wire.h"

enum { BODY_MAX = 512, OUT_MAX = 4096, UNIQUE = 0x1234 };

static struct vfsd_hostfs fs;
static struct vfsd_inodes *inodes;
static struct vfsd_open_files *handles;
static struct vfsd_fuse *fuse;
static struct vfsd_fuse_worker *worker;
static uint64_t fh;

/* With the longer form of SETXATTR. */
static const uint64_t acl = FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;

static bool on_start(void *ctx, bool fsnotify, uint32_t *server_mask)
{
	(void)ctx;
	(void)server_mask;
	return fsnotify;
}

static int on_subscribe(void *ctx, struct vfsd_inode *inode,
			const struct vfsd_fuse_interest *interest)
{
	(void)ctx;
	(void)inode;
	(void)interest;
	fs.calls++;
	return 0;
}

/* A good request of each opcode. */
struct sample {
	uint32_t opcode;
	uint16_t args_bytes;
	const char *names[2]; /* with their NUL; NULL for none */
	bool has_fh;	      /* first word of args */
	bool has_node;	      /* first word of args is a node id */
	uint16_t data_bytes;  /* behind args, WRITE's */
	uint16_t payload;     /* least room for the reply */
	bool silent;
	int error; /* of a request that is all right */
	bool host; /* reaches the host filesystem */
};

#define ARGS(type) sizeof(struct type)

static const struct sample samples[] = {
	{.opcode = FUSE_LOOKUP, .names = {"a"}, .payload = 128, .host = true},
	{.opcode = FUSE_FORGET, .args_bytes = ARGS(fuse_forget_in), .silent = true},
	{.opcode = FUSE_GETATTR, .args_bytes = ARGS(fuse_getattr_in), .payload = 104, .host = true},
	{.opcode = FUSE_SETATTR, .args_bytes = ARGS(fuse_setattr_in), .payload = 104, .host = true},
	{.opcode = FUSE_READLINK, .payload = 100, .host = true},
	{.opcode = FUSE_SYMLINK, .names = {"a", "target"}, .payload = 128, .host = true},
	{.opcode = FUSE_MKNOD,
	 .args_bytes = ARGS(fuse_mknod_in),
	 .names = {"a"},
	 .payload = 128,
	 .host = true},
	{.opcode = FUSE_MKDIR,
	 .args_bytes = ARGS(fuse_mkdir_in),
	 .names = {"b"},
	 .payload = 128,
	 .host = true},
	{.opcode = FUSE_UNLINK, .names = {"a"}, .host = true},
	{.opcode = FUSE_RMDIR, .names = {"a"}, .host = true},
	{.opcode = FUSE_RENAME,
	 .args_bytes = ARGS(fuse_rename_in),
	 .names = {"a", "b"},
	 .has_node = true,
	 .host = true},
	{.opcode = FUSE_LINK,
	 .args_bytes = ARGS(fuse_link_in),
	 .names = {"a"},
	 .has_node = true,
	 .payload = 128,
	 .host = true},
	{.opcode = FUSE_OPEN, .args_bytes = ARGS(fuse_open_in), .payload = 16, .host = true},
	{.opcode = FUSE_READ,
	 .args_bytes = ARGS(fuse_read_in),
	 .has_fh = true,
	 .payload = 1000,
	 .host = true},
	{.opcode = FUSE_WRITE,
	 .args_bytes = ARGS(fuse_write_in),
	 .has_fh = true,
	 .data_bytes = 100,
	 .payload = 8,
	 .host = true},
	{.opcode = FUSE_STATFS, .payload = 80, .host = true},
	{.opcode = FUSE_RELEASE, .args_bytes = ARGS(fuse_release_in), .has_fh = true},
	{.opcode = FUSE_FSYNC, .args_bytes = ARGS(fuse_fsync_in), .has_fh = true, .host = true},
	{.opcode = FUSE_FLUSH, .args_bytes = ARGS(fuse_flush_in), .has_fh = true, .host = true},
	{.opcode = FUSE_INIT, .args_bytes = ARGS(fuse_init_in), .payload = 64},
	{.opcode = FUSE_OPENDIR, .args_bytes = ARGS(fuse_open_in), .payload = 16, .host = true},
	{.opcode = FUSE_READDIR, .args_bytes = ARGS(fuse_read_in), .has_fh = true, .host = true},
	{.opcode = FUSE_RELEASEDIR, .args_bytes = ARGS(fuse_release_in), .has_fh = true},
	{.opcode = FUSE_FSYNCDIR, .args_bytes = ARGS(fuse_fsync_in), .has_fh = true, .host = true},
	{.opcode = FUSE_CREATE,
	 .args_bytes = ARGS(fuse_create_in),
	 .names = {"c"},
	 .payload = 144,
	 .host = true},
	{.opcode = FUSE_INTERRUPT, .args_bytes = ARGS(fuse_interrupt_in), .error = -EAGAIN},
	{.opcode = FUSE_DESTROY},
	{.opcode = FUSE_BATCH_FORGET,
	 .args_bytes = ARGS(fuse_batch_forget_in),
	 .data_bytes = 32,
	 .silent = true},
	{.opcode = FUSE_READDIRPLUS, .args_bytes = ARGS(fuse_read_in), .has_fh = true, .host = true},
	{.opcode = FUSE_RENAME2,
	 .args_bytes = ARGS(fuse_rename2_in),
	 .names = {"a", "b"},
	 .has_node = true,
	 .host = true},
	{.opcode = FUSE_SETXATTR,
	 .args_bytes = ARGS(fuse_setxattr_in),
	 .names = {"user.a"},
	 .data_bytes = 10,
	 .host = true},
	{.opcode = FUSE_GETXATTR,
	 .args_bytes = ARGS(fuse_getxattr_in),
	 .names = {"user.a"},
	 .payload = 8,
	 .host = true},
	{.opcode = FUSE_LISTXATTR, .args_bytes = ARGS(fuse_getxattr_in), .payload = 8, .host = true},
	{.opcode = FUSE_REMOVEXATTR, .names = {"user.a"}, .host = true},
	{.opcode = FUSE_ACCESS, .args_bytes = ARGS(fuse_access_in), .host = true},
	{.opcode = FUSE_IOCTL,
	 .args_bytes = ARGS(fuse_ioctl_in),
	 .has_fh = true,
	 .payload = 20,
	 .host = true},
	{.opcode = FUSE_FALLOCATE,
	 .args_bytes = ARGS(fuse_fallocate_in),
	 .has_fh = true,
	 .host = true},
	{.opcode = FUSE_LSEEK,
	 .args_bytes = ARGS(fuse_lseek_in),
	 .has_fh = true,
	 .payload = 8,
	 .host = true},
	{.opcode = FUSE_COPY_FILE_RANGE,
	 .args_bytes = ARGS(fuse_copy_file_range_in),
	 .has_fh = true,
	 .payload = 8,
	 .host = true},
	{.opcode = FUSE_COPY_FILE_RANGE_64,
	 .args_bytes = ARGS(fuse_copy_file_range_in),
	 .has_fh = true,
	 .payload = 8,
	 .host = true},
	{.opcode = FUSE_SYNCFS, .args_bytes = ARGS(fuse_syncfs_in), .host = true},
	{.opcode = FUSE_TMPFILE,
	 .args_bytes = ARGS(fuse_create_in),
	 .names = {"/"},
	 .payload = 144,
	 .host = true},
	{.opcode = FUSE_STATX, .args_bytes = ARGS(fuse_statx_in), .payload = 288, .host = true},
	{.opcode = FUSE_FSNOTIFY, .args_bytes = ARGS(fuse_fsnotify_in), .host = true},
};

static size_t build(const struct sample *sample, uint8_t *request)
{
	struct fuse_in_header header = {
		.opcode = sample->opcode,
		.unique = UNIQUE,
		.nodeid = VFSD_NODEID_ROOT,
	};
	uint8_t *body = request + sizeof(header);
	size_t n = sample->args_bytes;

	memset(request, 0, sizeof(header) + BODY_MAX);
	if (sample->has_fh)
		memcpy(body, &fh, sizeof(fh));
	if (sample->has_node)
		body[0] = VFSD_NODEID_ROOT;
	if (sample->opcode == FUSE_READ || sample->opcode == FUSE_READDIR ||
	    sample->opcode == FUSE_READDIRPLUS)
		((struct fuse_read_in *)body)->size = 1000;
	if (sample->opcode == FUSE_WRITE)
		((struct fuse_write_in *)body)->size = sample->data_bytes;
	if (sample->opcode == FUSE_SETXATTR)
		((struct fuse_setxattr_in *)body)->size = sample->data_bytes;
	if (sample->opcode == FUSE_IOCTL) {
		((struct fuse_ioctl_in *)body)->cmd = 0x80086601; /* FS_IOC_GETFLAGS */
		((struct fuse_ioctl_in *)body)->out_size = 4;
	}
	if (sample->opcode == FUSE_LSEEK)
		((struct fuse_lseek_in *)body)->whence = SEEK_HOLE;
	if (sample->opcode == FUSE_COPY_FILE_RANGE || sample->opcode == FUSE_COPY_FILE_RANGE_64) {
		((struct fuse_copy_file_range_in *)body)->nodeid_out = VFSD_NODEID_ROOT;
		((struct fuse_copy_file_range_in *)body)->fh_out = fh;
	}
	if (sample->opcode == FUSE_BATCH_FORGET)
		((struct fuse_batch_forget_in *)body)->count = 2;
	if (sample->opcode == FUSE_INIT)
		*(struct fuse_init_in *)body = (struct fuse_init_in){
			.major = 7,
			.minor = 41,
			.flags = (uint32_t)(FUSE_INIT_EXT | acl),
			.flags2 = (uint32_t)((FUSE_HAS_FSNOTIFY | FUSE_SECURITY_CTX) >> 32)};
	for (int i = 0; i < 2 && sample->names[i]; i++) {
		memcpy(body + n, sample->names[i], strlen(sample->names[i]) + 1);
		n += strlen(sample->names[i]) + 1;
	}
	n += sample->data_bytes;
	header.len = (uint32_t)(sizeof(header) + n);
	memcpy(request, &header, sizeof(header));
	return header.len;
}

/* Buffers of exactly the given sizes, in pieces, so that the sanitizer sees one byte too many. */
static uint32_t serve(const uint8_t *request, size_t n_request, uint8_t *out, size_t n_out,
		      size_t piece)
{
	/* Chains are limited. */
	enum { PIECES = 500 };
	const size_t out_piece = n_out > PIECES * piece ? n_out / PIECES + 1 : piece;
	struct iovec in_iov[sizeof(struct fuse_in_header) + BODY_MAX];
	struct iovec out_iov[PIECES + 1];
	uint8_t *copy = malloc(n_request ? n_request : 1);
	uint8_t *reply = malloc(n_out ? n_out : 1);
	uint32_t n_in = 0;
	uint32_t n_pieces = 0;
	uint32_t written;

	CHECK(copy && reply);
	memcpy(copy, request, n_request);
	for (size_t at = 0; at < n_request; at += piece, n_in++)
		in_iov[n_in] =
			(struct iovec){copy + at, n_request - at < piece ? n_request - at : piece};
	for (size_t at = 0; at < n_out; at += out_piece, n_pieces++)
		out_iov[n_pieces] =
			(struct iovec){reply + at, n_out - at < out_piece ? n_out - at : out_piece};
	written = served_at_once(worker, in_iov, n_in, out_iov, n_pieces);
	CHECK(written <= n_out);
	memcpy(out, reply, written);
	free(copy);
	free(reply);
	return written;
}

static int serve_error(const uint8_t *request, size_t n_request, size_t n_out, size_t piece)
{
	uint8_t out[OUT_MAX];
	struct fuse_out_header header;
	uint32_t written = serve(request, n_request, out, n_out, piece);

	CHECK(written >= sizeof(header));
	memcpy(&header, out, sizeof(header));
	CHECK_EQ(header.len, written);
	CHECK_EQ(header.unique, n_request >= 16 ? UNIQUE : 0);
	return header.error;
}

/* A session with one open file. */
static void restart(void)
{
	static const struct sample init = {.opcode = FUSE_INIT, .args_bytes = ARGS(fuse_init_in)};
	static const struct sample open_root = {.opcode = FUSE_OPEN,
						.args_bytes = ARGS(fuse_open_in)};
	uint8_t request[sizeof(struct fuse_in_header) + BODY_MAX];
	uint8_t out[OUT_MAX];

	CHECK_EQ(serve(request, build(&init, request), out, OUT_MAX, OUT_MAX), 16 + 64);
	CHECK_EQ(serve(request, build(&open_root, request), out, OUT_MAX, OUT_MAX), 16 + 16);
	fh = ((struct fuse_open_out *)(out + 16))->fh;
}

static void test_good(const struct sample *sample)
{
	static const size_t pieces[] = {1, 7, OUT_MAX};
	uint8_t request[sizeof(struct fuse_in_header) + BODY_MAX];
	uint8_t out[OUT_MAX];
	size_t n;

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(pieces); i++) {
		restart();
		n = build(sample, request);
		fs.calls = 0;
		if (sample->silent)
			CHECK_EQ(serve(request, n, out, 0, pieces[i]), 0);
		else
			CHECK_EQ(serve_error(request, n, 2000, pieces[i]), sample->error);
		CHECK_EQ(fs.calls > 0, sample->host);
		/* More bytes than the header tells are somebody else's business. */
		restart();
		n = build(sample, request);
		if (!sample->silent)
			CHECK_EQ(serve_error(request, n + 20, 2000, OUT_MAX), sample->error);
	}
}

/* The chain ends early; then the header says so, too. */
static void test_truncated(const struct sample *sample)
{
	uint8_t request[sizeof(struct fuse_in_header) + BODY_MAX];
	uint8_t out[OUT_MAX];
	struct fuse_in_header header;
	size_t n;

	restart();
	n = build(sample, request);
	for (size_t cut = 0; cut < n; cut++) {
		fs.calls = 0;
		/* What opcode it is must be known for silence. */
		if (sample->silent && cut >= 8)
			CHECK_EQ(serve(request, cut, out, OUT_MAX, 3), 0);
		else
			CHECK_EQ(serve_error(request, cut, OUT_MAX, 3), -EINVAL);
		CHECK_EQ(serve(request, cut, out, 15, 5), 0);
		CHECK_EQ(fs.calls, 0);
	}
	for (uint32_t len = 0; len < n; len++) {
		/* INIT without INIT_EXT, or a batch cut short, is a good request. */
		if (sample->opcode == FUSE_BATCH_FORGET && len >= sizeof(header) + 8)
			break;
		n = build(sample, request);
		memcpy(&header, request, sizeof(header));
		header.len = len;
		memcpy(request, &header, sizeof(header));
		fs.calls = 0;
		if (sample->silent)
			CHECK_EQ(serve(request, n, out, OUT_MAX, 16), 0);
		else
			CHECK_EQ(serve_error(request, n, OUT_MAX, 16), -EINVAL);
		CHECK_EQ(fs.calls, 0);
	}
	header.len = UINT32_MAX;
	memcpy(request, &header, sizeof(header));
	if (!sample->silent)
		CHECK_EQ(serve_error(request, n, OUT_MAX, 16), -EINVAL);
	restart();
}

static void test_no_room(const struct sample *sample)
{
	uint8_t request[sizeof(struct fuse_in_header) + BODY_MAX];
	uint8_t out[OUT_MAX];
	size_t n;

	if (sample->silent)
		return;
	restart();
	n = build(sample, request);
	fs.calls = 0;
	for (size_t room = 0; room < 16; room++)
		CHECK_EQ(serve(request, n, out, room, 5), 0);
	CHECK_EQ(fs.calls, 0);
	for (size_t room = 0; room < sample->payload; room++)
		CHECK_EQ(serve_error(request, n, 16 + room, 5), -EINVAL);
	if (sample->opcode != FUSE_READLINK)
		CHECK_EQ(fs.calls, 0);
	CHECK_EQ(serve_error(request, n, sample->payload ? 16u + sample->payload : 2016u, 5),
		 sample->error);
}

/* Extensions behind MKDIR's name: as they should be, and every way they should not. */

struct extension {
	uint8_t bytes[256];
	size_t len;
};

static void put32(struct extension *extension, uint32_t word)
{
	memcpy(extension->bytes + extension->len, &word, sizeof(word));
	extension->len += sizeof(word);
}

static void pad(struct extension *extension)
{
	while (extension->len % 8)
		extension->bytes[extension->len++] = 0;
}

static void put_groups(struct extension *extension, uint32_t size, uint32_t claimed, uint32_t n)
{
	put32(extension, size);
	put32(extension, FUSE_EXT_GROUPS);
	put32(extension, claimed);
	for (uint32_t i = 0; i < n; i++)
		put32(extension, 100 + i);
	pad(extension);
}

static void put_label(struct extension *extension, uint32_t size, uint32_t contexts,
		      uint32_t claimed, const char *name, size_t name_bytes)
{
	put32(extension, size);
	put32(extension, contexts);
	put32(extension, claimed);
	put32(extension, 0);
	memcpy(extension->bytes + extension->len, name, name_bytes);
	extension->len += name_bytes;
	memcpy(extension->bytes + extension->len, "value", 5);
	extension->len += 5;
	pad(extension);
}

/* @announced: total_extlen. */
static int mkdir_with(const struct extension *extension, size_t announced)
{
	static const struct sample sample = {
		.opcode = FUSE_MKDIR, .args_bytes = ARGS(fuse_mkdir_in), .names = {"b"}};
	uint8_t request[sizeof(struct fuse_in_header) + BODY_MAX];
	size_t n = build(&sample, request);
	struct fuse_in_header *header = (struct fuse_in_header *)request;

	memcpy(request + n, extension->bytes, extension->len);
	header->len = (uint32_t)(n + extension->len);
	header->total_extlen = (uint16_t)announced;
	fs.calls = 0;
	return serve_error(request, header->len, OUT_MAX, OUT_MAX);
}

static void test_extensions(void)
{
	static const struct {
		uint32_t size, contexts, claimed;
		const char *name;
		size_t name_bytes;
		int error;
	} labels[] = {
		{32, 1, 5, "user.s", 7, 0},	   {32, 1, 0, "user.s", 7, 0},
		{32, 1, 10, "user.s", 7, -EINVAL}, {32, 1, UINT32_MAX, "user.s", 7, -EINVAL},
		{31, 1, 5, "user.s", 7, -EINVAL},  {24, 1, 5, "user.s", 7, -EINVAL},
		{40, 1, 5, "user.s", 7, -EINVAL},  {0, 1, 5, "user.s", 7, -EINVAL},
		{7, 1, 5, "user.s", 7, -EINVAL},   {UINT32_MAX, 1, 5, "user.s", 7, -EINVAL},
		{32, 2, 5, "user.s", 7, -EINVAL},  {32, 31, 5, "user.s", 7, -EINVAL},
		{32, 33, 5, "user.s", 7, -EINVAL}, {32, UINT32_MAX, 5, "user.s", 7, -EINVAL},
		{32, 0, 5, "user.s", 7, 0},	   {8, 1, 5, "user.s", 7, -EINVAL},
		{32, 1, 0, "\0ser.s", 7, -EINVAL}, {32, 1, 0, "user.s!xyza", 11, -EINVAL},
	};
	static const struct {
		uint32_t size, claimed, n;
		int error;
	} groups[] = {
		{16, 1, 1, 0},
		{16, 0, 1, 0},
		{16, 0, 0, 0},
		{16, 2, 1, -EINVAL},
		{24, 2, 2, -EINVAL},
		{16, UINT32_MAX, 1, -EINVAL},
		{8, 1, 1, -EINVAL},
		{24, 1, 1, -EINVAL},
		{15, 1, 1, -EINVAL},
		{0, 1, 1, -EINVAL},
		{UINT32_MAX, 1, 1, -EINVAL},
	};
	struct extension extension;

	restart();
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(labels); i++) {
		extension = (struct extension){.len = 0};
		put_label(&extension, labels[i].size, labels[i].contexts, labels[i].claimed,
			  labels[i].name, labels[i].name_bytes);
		CHECK_EQ(mkdir_with(&extension, extension.len / 8), labels[i].error);
		CHECK_EQ(fs.calls > 0, labels[i].error == 0);
		/* An older guest does not announce it, a lying one announces something else. */
		CHECK_EQ(mkdir_with(&extension, 0), labels[i].error);
		CHECK_EQ(mkdir_with(&extension, extension.len / 8 + 1), -EINVAL);
		CHECK_EQ(mkdir_with(&extension, 1), -EINVAL);
	}
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(groups); i++) {
		extension = (struct extension){.len = 0};
		put_groups(&extension, groups[i].size, groups[i].claimed, groups[i].n);
		CHECK_EQ(mkdir_with(&extension, extension.len / 8), groups[i].error);
		CHECK_EQ(fs.calls > 0, groups[i].error == 0);
	}
	/* Both, then one of them twice. */
	extension = (struct extension){.len = 0};
	put_label(&extension, 32, 1, 5, "user.s", 7);
	put_groups(&extension, 16, 1, 1);
	CHECK_EQ(mkdir_with(&extension, extension.len / 8), 0);
	put_groups(&extension, 16, 1, 1);
	CHECK_EQ(mkdir_with(&extension, extension.len / 8), -EINVAL);
	extension.len -= 32;
	put_label(&extension, 32, 1, 5, "user.s", 7);
	CHECK_EQ(mkdir_with(&extension, extension.len / 8), -EINVAL);
	/* Odd ends. */
	for (size_t cut = 1; cut < 32; cut++) {
		extension = (struct extension){.len = 0};
		put_label(&extension, 32, 1, 5, "user.s", 7);
		extension.len -= cut;
		CHECK_EQ(mkdir_with(&extension, 4), -EINVAL);
		CHECK_EQ(mkdir_with(&extension, 0), -EINVAL);
	}
}

/* Bodies longer than anything we copy. */
static void test_too_long(void)
{
	enum { LONG = 1 << 20 };
	uint8_t *request = calloc(1, LONG);
	struct fuse_in_header header = {
		.len = LONG, .opcode = FUSE_LOOKUP, .unique = UNIQUE, .nodeid = VFSD_NODEID_ROOT};

	CHECK(request);
	memset(request + sizeof(header), 'a', LONG - sizeof(header) - 1);
	memcpy(request, &header, sizeof(header));
	{
		const struct iovec in = {request, LONG};
		uint8_t reply[64];
		const struct iovec out = {reply, sizeof(reply)};

		CHECK_EQ(served_at_once(worker, &in, 1, &out, 1), 16);
		CHECK_EQ(((struct fuse_out_header *)reply)->error, -EINVAL);
	}
	free(request);
}

int main(void)
{
	const struct vfsd_fuse_config config = {
		.options = {.xattr = true, .posix_acl = true, .security_label = true}};
	const struct vfsd_fuse_hooks hooks = {
		.session_start = on_start,
		.subscribe = on_subscribe,
	};
	struct vfsd_inodes_config inodes_config = {.options.file_handles = VFSD_HANDLES_NEVER};
	unsigned int fds = tree_count_fds();

	inodes_config.proc_self_fd = tree_proc_self_fd();
	null_hostfs_create(&fs);
	CHECK_EQ(vfsd_inodes_create(&inodes_config, open("/usr", O_PATH | O_CLOEXEC), &inodes), 0);
	CHECK_EQ(vfsd_open_files_create(NULL, &handles), 0);
	fs.inodes = inodes;
	CHECK_EQ(vfsd_fuse_create(&config, &hooks, &null_hostfs_ops, &fs, inodes, handles, &fuse),
		 0);
	CHECK_EQ(vfsd_fuse_worker_create(fuse, NULL, &worker), 0);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(samples); i++) {
		test_good(&samples[i]);
		test_truncated(&samples[i]);
		test_no_room(&samples[i]);
	}
	test_extensions();
	test_too_long();
	vfsd_fuse_worker_destroy(worker);
	vfsd_fuse_destroy(fuse);
	vfsd_open_files_destroy(handles);
	vfsd_inodes_destroy(inodes);
	null_hostfs_destroy(&fs);
	close(inodes_config.proc_self_fd);
	CHECK_EQ(tree_count_fds(), fds);
	return 0;
}
