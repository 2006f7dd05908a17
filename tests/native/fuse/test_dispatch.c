/* SPDX-License-Identifier: BSD-3-Clause */
/* A session: INIT and its flags, what policies tell the guest, hooks, refusals. */
#include "fuse/fuse.h"

#include "check.h"
#include "fuse_guest.h"
#include "fuse/rfc2021.h"
#include "base/util.h"

enum { ROOT = VFSD_NODEID_ROOT };

static void test_init(void)
{
	struct fuse_guest g;
	struct fuse_guest_config config = {
		.fuse = {.options.announce_submounts = true, .options.readdirplus = true}};
	struct fuse_entry_out entry;
	struct fuse_init_out out;
	struct fuse_init_in in = {.major = 8, .minor = 0};
	uint64_t flags;

	fuse_guest_create_cold(&g, &config);
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "a", &entry), -EIO);
	CHECK_EQ(fuse_guest_call(&g, FUSE_DESTROY, 0, NULL, 0, 0), -EIO);
	CHECK_EQ(fuse_guest_init(&g, 26, UINT64_MAX, &out), -EPROTO);
	in.major = 6;
	CHECK_EQ(fuse_guest_call(&g, FUSE_INIT, 0, &in, sizeof(in), sizeof(out)), -EPROTO);
	/* A newer major is told ours and asks again: no session yet. */
	in.major = 8;
	CHECK_EQ(fuse_guest_call(&g, FUSE_INIT, 0, &in, sizeof(in), sizeof(out)), 0);
	CHECK_EQ(((struct fuse_init_out *)g.reply)->major, 7);
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "a", &entry), -EIO);
	CHECK_EQ(g.starts, 0);

	CHECK_EQ(fuse_guest_init(&g, 41, UINT64_MAX, &out), 0);
	CHECK_EQ(out.major, 7);
	CHECK_EQ(out.minor, 41);
	CHECK_EQ(out.max_readahead, 65536);
	CHECK_EQ(out.max_write, 1 << 20);
	CHECK_EQ(out.max_pages, 256);
	CHECK_EQ(out.max_background, 65535);
	CHECK_EQ(out.time_gran, 1);
	CHECK_EQ(out.fsnotify_server_mask, 0x42);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(out.unused); i++)
		CHECK_EQ(out.unused[i], 0);
	flags = out.flags | (uint64_t)out.flags2 << 32;
	CHECK_EQ(flags, FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_BIG_WRITES |
				FUSE_AUTO_INVAL_DATA | FUSE_ASYNC_DIO | FUSE_ATOMIC_O_TRUNC |
				FUSE_MAX_PAGES | FUSE_SUBMOUNTS | FUSE_INIT_EXT |
				FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ALLOW_IDMAP |
				FUSE_HAS_FSNOTIFY | FUSE_HAS_IOCTL_DIR | FUSE_CREATE_SUPP_GROUP |
				FUSE_EXPORT_SUPPORT | FUSE_HAS_HOLD | FUSE_HAS_STATX_ATTR);

	/* Only what was offered, and nothing from words that were not sent. */
	CHECK_EQ(fuse_guest_init(&g, 41, FUSE_HAS_FSNOTIFY | FUSE_BIG_WRITES, &out), 0);
	CHECK_EQ(out.flags, FUSE_BIG_WRITES);
	CHECK_EQ(out.flags2, 0);
	CHECK_EQ(out.fsnotify_server_mask, 0);
	CHECK(!g.offered_fsnotify);
	CHECK_EQ(fuse_guest_init(&g, 27, FUSE_INIT_EXT | FUSE_HAS_FSNOTIFY, &out), 0);
	CHECK_EQ(out.flags2, FUSE_HAS_FSNOTIFY >> 32);
	in = (struct fuse_init_in){.major = 7, .minor = 41, .flags = (uint32_t)FUSE_INIT_EXT};
	CHECK_EQ(fuse_guest_call(&g, FUSE_INIT, 0, &in, 63, sizeof(out)), -EINVAL);
	fuse_guest_destroy(&g);
}

/* A guest that reboots without goodbye, and one that says it. */
static void test_sessions(void)
{
	struct fuse_guest g;
	struct fuse_guest_config config = {.fuse = {.options.cache = VFSD_CACHE_AUTO}};
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_attr_out attr;
	struct fuse_init_out out;
	uint64_t before;

	fuse_guest_create(&g, &config);
	CHECK_EQ(fuse_guest_create_file(&g, ROOT, "a", O_RDWR, 0644, &entry, &opened), 0);
	before = entry.nodeid;
	CHECK_EQ(fuse_guest_init(&g, 41, 0, &out), 0);
	CHECK_EQ(g.starts, 2);
	CHECK_EQ(vfsd_inodes_count(g.inodes), 1);
	CHECK_EQ(vfsd_open_files_count(g.handles), 0);
	CHECK_EQ(fuse_guest_getattr(&g, before, &attr), -ESTALE);
	CHECK_EQ(fuse_guest_write(&g, before, opened.fh, 0, "x", 0, 0), -EBADF);
	CHECK(fuse_guest_node(&g, ROOT, "a") != before);
	CHECK_EQ(fuse_guest_call(&g, FUSE_DESTROY, 0, NULL, 0, 0), 0);
	CHECK_EQ(g.ends, 1);
	CHECK_EQ(vfsd_inodes_count(g.inodes), 1);
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "a", &entry), -EIO);
	fuse_guest_destroy(&g);
}

/* What options add to what is granted, and that a guest has to offer it. */
static void test_options(void)
{
	static const uint64_t acl = FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;
	static const struct {
		struct vfsd_fuse_options options;
		uint64_t flags;
	} cases[] = {
		{{.writeback = true}, FUSE_WRITEBACK_CACHE},
		{{.announce_submounts = true}, FUSE_SUBMOUNTS},
		{{.allow_mmap = true}, FUSE_DIRECT_IO_ALLOW_MMAP},
		{{.killpriv_v2 = true}, FUSE_HANDLE_KILLPRIV_V2},
		{{.xattr = true, .posix_acl = true}, acl},
		{{.xattr = true, .security_label = true}, FUSE_SECURITY_CTX},
		{{.readdirplus = true}, FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO},
		{{.readdirplus = true, .cache = VFSD_CACHE_NEVER}, 0},
		{{.xattr = true}, 0},
	};
	const struct fuse_guest_config plain = {.minor = 41};
	struct fuse_init_out out;
	struct fuse_guest g;
	uint64_t always;
	bool demanded;

	fuse_guest_create_cold(&g, &plain);
	CHECK_EQ(fuse_guest_init(&g, 41, UINT64_MAX, &out), 0);
	always = out.flags | (uint64_t)out.flags2 << 32;
	fuse_guest_destroy(&g);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(cases); i++) {
		const struct fuse_guest_config config = {.fuse.options = cases[i].options};

		fuse_guest_create_cold(&g, &config);
		CHECK_EQ(fuse_guest_init(&g, 41, UINT64_MAX, &out), 0);
		CHECK_EQ(out.flags | (uint64_t)out.flags2 << 32, always | cases[i].flags);
		/* Who asked for ACLs or labels does not want to go without. */
		demanded = cases[i].options.posix_acl || cases[i].options.security_label;
		CHECK_EQ(fuse_guest_init(&g, 41, FUSE_INIT_EXT, &out), demanded ? -EPROTO : 0);
		if (!demanded)
			CHECK_EQ(out.flags | (uint64_t)out.flags2 << 32, FUSE_INIT_EXT);
		CHECK_EQ(fuse_guest_init(&g, 41, acl & ~FUSE_SETXATTR_EXT, &out),
			 demanded ? -EPROTO : 0);
		if (!demanded)
			CHECK_EQ(out.flags, 0);
		fuse_guest_destroy(&g);
	}
}

static void test_cache_policies(void)
{
	static const struct {
		enum vfsd_cache cache;
		uint32_t timeout_s, file, directory;
		bool plus;
	} cases[] = {
		{VFSD_CACHE_AUTO, 1, 0, 0, true},
		{VFSD_CACHE_ALWAYS, 86400, FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR,
		 true},
		{VFSD_CACHE_METADATA, 86400, FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR,
		 true},
		{VFSD_CACHE_NEVER, 0, FOPEN_DIRECT_IO, 0, false},
	};

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(cases); i++) {
		struct fuse_guest_config config = {
			.fuse = {.options.cache = cases[i].cache, .options.readdirplus = true},
		};
		struct fuse_guest g;
		struct fuse_entry_out entry;
		struct fuse_open_out opened;
		struct fuse_attr_out attr;
		struct fuse_init_out out;

		fuse_guest_create_cold(&g, &config);
		CHECK_EQ(fuse_guest_init(&g, 41, UINT64_MAX, &out), 0);
		CHECK_EQ((out.flags & FUSE_DO_READDIRPLUS) != 0, cases[i].plus);
		CHECK_EQ(out.flags & FUSE_SUBMOUNTS, 0);
		CHECK_EQ(out.flags & FUSE_WRITEBACK_CACHE, 0);
		CHECK_EQ(fuse_guest_create_file(&g, ROOT, "a", O_RDWR, 0644, &entry, &opened), 0);
		CHECK_EQ(entry.entry_valid, cases[i].timeout_s);
		CHECK_EQ(entry.attr_valid, cases[i].timeout_s);
		CHECK_EQ(entry.generation, 0);
		CHECK_EQ(opened.open_flags, cases[i].file);
		CHECK_EQ(fuse_guest_getattr(&g, entry.nodeid, &attr), 0);
		CHECK_EQ(attr.attr_valid, cases[i].timeout_s);
		CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, entry.nodeid, O_RDONLY, &opened), 0);
		CHECK_EQ(opened.open_flags, cases[i].file);
		CHECK_EQ(fuse_guest_open(&g, FUSE_OPENDIR, ROOT, O_RDONLY, &opened), 0);
		CHECK_EQ(opened.open_flags, cases[i].directory);
		fuse_guest_destroy(&g);
	}
}

/* The dialect of 2021: a short INIT, another opcode; other kernels are served without it. */
static void test_rfc2021(void)
{
	const uint32_t fsnotify = VFSD_RFC2021_OPCODE;
	struct fuse_guest_config config = {.fuse = {.rfc2021 = true}};
	struct fuse_init_in in = {
		.major = 7, .minor = 36, .flags = VFSD_RFC2021_HAVE_FSNOTIFY | FUSE_BIG_WRITES};
	const struct vfsd_rfc2021_in watch = {.mask = 0x302, .group = 77, .action = 1};
	struct fuse_init_out out;
	struct fuse_guest g;

	fuse_guest_create_cold(&g, &config);
	CHECK_EQ(fuse_guest_call(&g, FUSE_INIT, 0, &in, FUSE_INIT_IN_OLD_BYTES, sizeof(out)), 0);
	memcpy(&out, g.reply, sizeof(out));
	CHECK_EQ(out.flags, in.flags);
	CHECK_EQ(out.flags2, 0);
	CHECK_EQ(fuse_guest_call(&g, fsnotify, ROOT, &watch, sizeof(watch), 0), 0);
	CHECK_EQ(g.subscribed_node, ROOT);
	CHECK_EQ(g.subscribed_mask, 0x302);
	CHECK_EQ(g.subscribed_owner, 77);
	CHECK_EQ(g.barriers, 1);
	CHECK_EQ(fuse_guest_call(&g, fsnotify, ROOT, &watch, sizeof(watch) - 1, 0), -EINVAL);
	CHECK_EQ(fuse_guest_call(&g, FUSE_FSNOTIFY, ROOT, &watch, sizeof(watch), 0), -ENOSYS);
	CHECK_EQ(g.subscriptions, 1);

	CHECK_EQ(fuse_guest_init(&g, 41, UINT64_MAX, &out), 0);
	CHECK(!g.offered_fsnotify);
	CHECK(out.flags & FUSE_INIT_EXT);
	CHECK(!(out.flags2 & (FUSE_HAS_FSNOTIFY >> 32)));
	CHECK_EQ(fuse_guest_call(&g, fsnotify, ROOT, &watch, sizeof(watch), 0), -ENOSYS);
	fuse_guest_destroy(&g);
}

static void test_hooks(void)
{
	const struct fuse_guest_config config = {.minor = 41};
	const struct fuse_fsnotify_in in = {.mask = 0x302};
	struct fuse_guest g;
	struct fuse_entry_out entry;
	struct fuse_init_out out;
	struct fuse_forget_in forget = {.nlookup = 1};
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[3];
	} batch = {.in = {.count = 1000}}; /* more than there are */

	fuse_guest_create(&g, &config);
	CHECK_EQ(fuse_guest_call(&g, FUSE_FSNOTIFY, ROOT, &in, sizeof(in), 0), 0);
	CHECK_EQ(g.subscribed_node, ROOT);
	CHECK_EQ(g.subscribed_mask, 0x302);
	CHECK_EQ(g.barriers, 1);
	g.subscribe_error = -ENOSPC;
	CHECK_EQ(fuse_guest_call(&g, FUSE_FSNOTIFY, ROOT, &in, sizeof(in), 0), -ENOSPC);
	CHECK_EQ(g.barriers, 2);
	CHECK_EQ(fuse_guest_call(&g, FUSE_FSNOTIFY, 12345, &in, sizeof(in), 0), -ESTALE);
	CHECK_EQ(g.subscriptions, 2);

	g.barriers = 0;
	CHECK_EQ(fuse_guest_call(&g, FUSE_UNLINK, ROOT, "none", 5, 0), -ENOENT);
	CHECK_EQ(fuse_guest_call(&g, FUSE_RMDIR, ROOT, "none", 5, 0), -ENOENT);
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "none", &entry), -ENOENT);
	CHECK_EQ(g.barriers, 2);

	tree_file(&g.tree, "a", "");
	tree_file(&g.tree, "b", "");
	batch.one[0] = (struct fuse_forget_one){fuse_guest_node(&g, ROOT, "a"), 1};
	batch.one[1] = (struct fuse_forget_one){0x77777, 1};
	batch.one[2] = (struct fuse_forget_one){fuse_guest_node(&g, ROOT, "b"), 9};
	fuse_guest_tell(&g, FUSE_FORGET, batch.one[0].nodeid, &forget, sizeof(forget));
	CHECK_EQ(g.forgotten, 1);
	fuse_guest_tell(&g, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch));
	CHECK_EQ(g.forgotten, 2);
	CHECK_EQ(vfsd_inodes_count(g.inodes), 1);
	/* Nothing with this number has come yet, or it is done. */
	CHECK_EQ(fuse_guest_call(&g, FUSE_INTERRUPT, 0, &(uint64_t){1000}, 8, 0), -EAGAIN);

	/* A FORGET on another queue wins: no interest outlives it. */
	g.forget_while_subscribing = true;
	CHECK_EQ(fuse_guest_call(&g, FUSE_FSNOTIFY, fuse_guest_node(&g, ROOT, "a"), &in, sizeof(in),
				 0),
		 -ENOSPC);
	CHECK_EQ(g.forgotten, 3);
	CHECK_EQ(vfsd_inodes_count(g.inodes), 1);

	/* Not granted: not served. */
	CHECK_EQ(fuse_guest_init(&g, 41, FUSE_INIT_EXT, &out), 0);
	CHECK_EQ(fuse_guest_call(&g, FUSE_FSNOTIFY, ROOT, &in, sizeof(in), 0), -ENOSYS);
	fuse_guest_destroy(&g);
}

static void test_names(void)
{
	/* A guest that opens file handles may look up the dots, see test_whole.py. */
	const struct fuse_guest_config config = {.minor = 41, .flags = ~FUSE_EXPORT_SUPPORT};
	static const char *const bad[] = {"", ".", "..", "/", "a/b", "../x", "a/", "/etc"};
	char name[300];
	struct fuse_guest g;
	struct fuse_entry_out entry;

	fuse_guest_create(&g, &config);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(bad); i++) {
		const uint8_t zeros[16] = {1}; /* fixed parts; newdir is the root */
		size_t n = strlen(bad[i]) + 1;
		char two[32];
		size_t n_two;

		CHECK_EQ(fuse_guest_lookup(&g, ROOT, bad[i], &entry), -EINVAL);
		CHECK_EQ(fuse_guest_call(&g, FUSE_UNLINK, ROOT, bad[i], n, 0), -EINVAL);
		CHECK_EQ(fuse_guest_call(&g, FUSE_RMDIR, ROOT, bad[i], n, 0), -EINVAL);
		CHECK_EQ(fuse_guest_call2(&g, FUSE_MKDIR, ROOT, zeros, 8, bad[i], n, 128), -EINVAL);
		CHECK_EQ(fuse_guest_call2(&g, FUSE_MKNOD, ROOT, zeros, 16, bad[i], n, 128),
			 -EINVAL);
		CHECK_EQ(fuse_guest_call2(&g, FUSE_LINK, ROOT, zeros, 8, bad[i], n, 128), -EINVAL);
		CHECK_EQ(fuse_guest_call2(&g, FUSE_CREATE, ROOT, zeros, 16, bad[i], n, 144),
			 -EINVAL);
		n_two = (size_t)snprintf(two, sizeof(two), "%s%cgood", bad[i], 0) + 1;
		CHECK_EQ(fuse_guest_call(&g, FUSE_SYMLINK, ROOT, two, n_two, 128), -EINVAL);
		CHECK_EQ(fuse_guest_call2(&g, FUSE_RENAME, ROOT, zeros, 8, two, n_two, 0), -EINVAL);
		CHECK_EQ(fuse_guest_call2(&g, FUSE_RENAME2, ROOT, zeros, 16, two, n_two, 0),
			 -EINVAL);
		n_two = (size_t)snprintf(two, sizeof(two), "good%c%s", 0, bad[i]) + 1;
		CHECK_EQ(fuse_guest_call2(&g, FUSE_RENAME, ROOT, zeros, 8, two, n_two, 0), -EINVAL);
		CHECK_EQ(fuse_guest_call2(&g, FUSE_RENAME2, ROOT, zeros, 16, two, n_two, 0),
			 -EINVAL);
	}
	/* A NUL inside, and none at all. */
	CHECK_EQ(fuse_guest_call(&g, FUSE_LOOKUP, ROOT, "a\0b", 4, 128), -EINVAL);
	CHECK_EQ(fuse_guest_call(&g, FUSE_LOOKUP, ROOT, "ab", 2, 128), -EINVAL);
	/* Announced extensions may follow, and are not part of the name. */
	g.total_extlen = 1;
	CHECK_EQ(fuse_guest_call(&g, FUSE_LOOKUP, ROOT, "a\0\10\0\0\0\0\0\0\0", 10, 128), -ENOENT);
	CHECK_EQ(fuse_guest_call(&g, FUSE_LOOKUP, ROOT, "a\0\10\0\0\0\0\0\0", 9, 128), -EINVAL);
	g.total_extlen = 0;

	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, name, &entry), -ENAMETOOLONG);
	name[255] = '\0';
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, name, &entry), -ENOENT);
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "...", &entry), -ENOENT);
	fuse_guest_destroy(&g);
}

static void test_readonly(void)
{
	const struct fuse_guest_config config = {.fuse = {.options.readonly = true}};
	static const uint32_t opcodes[] = {
		FUSE_SETATTR,	  FUSE_SYMLINK,	  FUSE_MKNOD,		FUSE_MKDIR,
		FUSE_UNLINK,	  FUSE_RMDIR,	  FUSE_RENAME,		FUSE_LINK,
		FUSE_CREATE,	  FUSE_WRITE,	  FUSE_RENAME2,		FUSE_SETXATTR,
		FUSE_REMOVEXATTR, FUSE_FALLOCATE, FUSE_COPY_FILE_RANGE, FUSE_COPY_FILE_RANGE_64,
		FUSE_TMPFILE,
	};
	const uint8_t body[256] = {0};
	struct fuse_open_out opened;
	struct fuse_guest g;
	uint64_t node;

	fuse_guest_create(&g, &config);
	tree_file(&g.tree, "a", "text");
	node = fuse_guest_node(&g, ROOT, "a");
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(opcodes); i++)
		CHECK_EQ(fuse_guest_call(&g, opcodes[i], ROOT, body, sizeof(body), 256), -EROFS);
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, node, O_WRONLY, &opened), -EROFS);
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, node, O_RDWR, &opened), -EROFS);
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, node, O_RDONLY | O_TRUNC, &opened), -EROFS);
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, node, O_RDONLY, &opened), 0);
	CHECK_EQ(fuse_guest_read(&g, FUSE_READ, node, opened.fh, 0, 10), 4);
	fuse_guest_destroy(&g);
}

static void test_unserved(void)
{
	const struct fuse_guest_config config = {.minor = 41};
	static const uint32_t opcodes[] = {0,
					   7,
					   19,
					   FUSE_GETLK,
					   FUSE_SETLK,
					   FUSE_SETLKW,
					   FUSE_POLL,
					   FUSE_BMAP,
					   FUSE_SETUPMAPPING,
					   FUSE_REMOVEMAPPING,
					   FUSE_GETXATTR,
					   FUSE_SETXATTR,
					   FUSE_LISTXATTR,
					   FUSE_REMOVEXATTR,
					   FUSE_OPCODES,
					   1023,
					   4096,
					   3071,
					   3073,
					   UINT32_MAX};
	struct fuse_guest g;

	fuse_guest_create(&g, &config);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(opcodes); i++)
		CHECK_EQ(fuse_guest_call(&g, opcodes[i], ROOT, "body...", 8, 64), -ENOSYS);
	fuse_guest_destroy(&g);
}

/* Fail the n-th call of the host filesystem: an honest reply, and nothing is left behind. */

static unsigned int fail_at, host_calls;

#define FAILING(call) (++host_calls == fail_at ? -EIO : (call))

static int failing_lookup(struct vfsd_hostfs *fs, struct vfsd_inode *parent, const char *name,
			  struct vfsd_entry *ret)
{
	return FAILING(vfsd_hostfs_ops.lookup(fs, parent, name, ret));
}

static int failing_open(struct vfsd_hostfs *fs, struct vfsd_inode *inode, int flags, bool kill_priv)
{
	return FAILING(vfsd_hostfs_ops.open(fs, inode, flags, kill_priv));
}

static int failing_create(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			  struct vfsd_inode *parent, const char *name, int flags, mode_t mode,
			  bool kill_priv, struct vfsd_entry *ret, int *ret_fd)
{
	return FAILING(vfsd_hostfs_ops.create(fs, caller, parent, name, flags, mode, kill_priv, ret,
					      ret_fd));
}

static int failing_tmpfile(struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
			   struct vfsd_inode *parent, int flags, mode_t mode,
			   struct vfsd_entry *ret, int *ret_fd)
{
	return FAILING(vfsd_hostfs_ops.tmpfile(fs, caller, parent, flags, mode, ret, ret_fd));
}

static ssize_t failing_readdir(struct vfsd_hostfs *fs, struct vfsd_open_file *handle,
			       int64_t offset, void *buf, size_t size, size_t *ret_early)
{
	return FAILING(vfsd_hostfs_ops.readdir(fs, handle, offset, buf, size, ret_early));
}

static int failing_list_entry(struct vfsd_hostfs *fs, struct vfsd_list *list, const char *name,
			      uint64_t ino, struct vfsd_entry *ret)
{
	return FAILING(vfsd_hostfs_ops.readdirplus_entry(fs, list, name, ino, ret));
}

/* Create three files and a nameless one, list them with their attributes, close everything. */
static void small_life(struct fuse_guest *g)
{
	static const char *const names[] = {"a", "b", "c"};
	const struct fuse_create_in create_in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
	struct fuse_entry_out entry;
	struct fuse_open_out opened;

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(names); i++) {
		if (fuse_guest_create_file(g, ROOT, names[i], O_RDWR, 0644, &entry, &opened) == 0)
			CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
	}
	if (fuse_guest_call2(g, FUSE_TMPFILE, ROOT, &create_in, sizeof(create_in), "/", 2,
			     sizeof(entry) + sizeof(opened)) == 0) {
		memcpy(&entry, g->reply, sizeof(entry));
		memcpy(&opened, g->reply + sizeof(entry), sizeof(opened));
		CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
	}
	if (fuse_guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &opened))
		return;
	(void)fuse_guest_read(g, FUSE_READDIRPLUS, ROOT, opened.fh, 0, 4096);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASEDIR, ROOT, opened.fh), 0);
}

static void test_failing_host(void)
{
	struct vfsd_hostfs_ops ops = vfsd_hostfs_ops;
	struct fuse_guest_config config = {.ops = &ops, .fuse = {.options.readdirplus = true}};
	bool failed = true;

	ops.lookup = failing_lookup;
	ops.open = failing_open;
	ops.create = failing_create;
	ops.tmpfile = failing_tmpfile;
	ops.readdir = failing_readdir;
	ops.readdirplus_entry = failing_list_entry;
	for (fail_at = 1; failed; fail_at++) {
		struct fuse_guest g;
		struct fuse_init_out out;

		fuse_guest_create(&g, &config);
		host_calls = 0;
		small_life(&g);
		failed = host_calls >= fail_at;
		CHECK_EQ(vfsd_open_files_count(g.handles), 0);
		CHECK_EQ(fuse_guest_init(&g, 41, 0, &out), 0);
		CHECK_EQ(vfsd_inodes_count(g.inodes), 1);
		fuse_guest_destroy(&g);
	}
	CHECK(fail_at > 8);
}

/* Several queues, and now and then the guest starts anew with requests under way. */

enum { QUEUES = 4, ROUNDS = 400 };

struct queue {
	struct fuse_guest guest; /* a copy, with worker and reply of its own */
	unsigned int index;
	pthread_t thread;
};

static bool is_fair(int error)
{
	/* A new session takes node ids and file handles away; another queue, names. */
	return error >= 0 || error == -ESTALE || error == -EBADF || error == -ENOENT ||
	       error == -EEXIST || error == -EIO || error == -ENOTEMPTY;
}

static void use_files(struct queue *queue, unsigned int round)
{
	struct fuse_guest *g = &queue->guest;
	const struct fuse_fsnotify_in watch = {.mask = 2};
	struct fuse_forget_in forget = {.nlookup = 1};
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	char name[16];

	/* Half of the names are shared. */
	(void)snprintf(name, sizeof(name), "f%u", round % 2 ? round % 7 : 10 + queue->index);
	if (fuse_guest_create_file(g, ROOT, name, O_RDWR, 0644, &entry, &opened) == 0) {
		CHECK(is_fair(fuse_guest_write(g, entry.nodeid, opened.fh, 0, "text", 0, 0)));
		CHECK(is_fair(fuse_guest_read(g, FUSE_READ, entry.nodeid, opened.fh, 0, 100)));
		CHECK(is_fair(
			fuse_guest_call(g, FUSE_FSNOTIFY, entry.nodeid, &watch, sizeof(watch), 0)));
		CHECK(is_fair(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh)));
		fuse_guest_tell(g, FUSE_FORGET, entry.nodeid, &forget, sizeof(forget));
	}
	CHECK(is_fair(fuse_guest_lookup(g, ROOT, name, &entry)));
	if (fuse_guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &opened) == 0) {
		CHECK(is_fair(fuse_guest_read(g, FUSE_READDIRPLUS, ROOT, opened.fh, 0, 4096)));
		CHECK(is_fair(fuse_guest_release(g, FUSE_RELEASEDIR, ROOT, opened.fh)));
	}
	CHECK(is_fair(fuse_guest_call(g, FUSE_UNLINK, ROOT, name, strlen(name) + 1, 0)));
}

static void *serve_queue(void *arg)
{
	struct queue *queue = arg;
	struct fuse_init_out out;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		use_files(queue, round);
		if (queue->index == 0 && round % 50 == 49)
			CHECK_EQ(fuse_guest_init(&queue->guest, 41, UINT64_MAX, &out), 0);
	}
	return NULL;
}

static void test_queues(enum vfsd_handle_policy handles)
{
	const struct fuse_guest_config config = {.handles = handles};
	struct queue queues[QUEUES];
	struct fuse_init_out out;
	struct fuse_guest g;

	fuse_guest_create(&g, &config);
	for (unsigned int i = 0; i < QUEUES; i++) {
		struct fuse_guest *copy = &queues[i].guest;

		*copy = g;
		queues[i].index = i;
		copy->unique = (uint64_t)i << 32;
		copy->out = malloc(FUSE_GUEST_OUT_BYTES);
		CHECK(copy->out);
		CHECK_EQ(vfsd_fuse_worker_create(g.fuse, &g.replies, &copy->worker), 0);
	}
	for (unsigned int i = 0; i < QUEUES; i++)
		CHECK_EQ(pthread_create(&queues[i].thread, NULL, serve_queue, &queues[i]), 0);
	for (unsigned int i = 0; i < QUEUES; i++) {
		CHECK_EQ(pthread_join(queues[i].thread, NULL), 0);
		vfsd_fuse_worker_destroy(queues[i].guest.worker);
		free(queues[i].guest.out);
	}
	CHECK_EQ(fuse_guest_init(&g, 41, 0, &out), 0);
	CHECK_EQ(vfsd_inodes_count(g.inodes), 1);
	CHECK_EQ(vfsd_open_files_count(g.handles), 0);
	fuse_guest_destroy(&g);
}

int main(void)
{
	test_init();
	test_sessions();
	test_options();
	test_cache_policies();
	test_rfc2021();
	test_hooks();
	test_names();
	test_readonly();
	test_unserved();
	test_failing_host();
	test_queues(VFSD_HANDLES_NEVER);
	test_queues(VFSD_HANDLES_PREFER);
	return 0;
}
