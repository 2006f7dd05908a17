/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What newer requests do to real files: nameless ones, ranges, flags, all of their attributes; and
 * who they belong to when ids are translated.
 */
#include "hostfs/hostfs.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "check.h"
#include "fuse_guest.h"
#include "fuse/id_map.h"
#include "base/util.h"

enum { ROOT = VFSD_NODEID_ROOT, BLOCK = 65536 };

static int tmpfile_in(struct fuse_guest *g, uint64_t parent, uint32_t flags,
		      struct fuse_entry_out *entry, struct fuse_open_out *opened)
{
	const struct fuse_create_in in = {.flags = flags, .mode = S_IFREG | 0640};
	int error = fuse_guest_call2(g, FUSE_TMPFILE, parent, &in, sizeof(in), "/", 2,
				     sizeof(*entry) + sizeof(*opened));

	if (error)
		return error;
	memcpy(entry, g->reply, sizeof(*entry));
	memcpy(opened, g->reply + sizeof(*entry), sizeof(*opened));
	return 0;
}

static void test_tmpfile(enum vfsd_handle_policy handles)
{
	const struct fuse_guest_config config = {.handles = handles};
	struct fuse_link_in link_in;
	struct fuse_entry_out entry;
	struct fuse_entry_out other;
	struct fuse_open_out opened;
	struct fuse_open_out again;
	struct fuse_attr_out attr;
	struct fuse_guest g;
	int error;

	fuse_guest_create(&g, &config);
	error = tmpfile_in(&g, ROOT, O_RDWR | O_EXCL, &entry, &opened);
	if (error == -EOPNOTSUPP) {
		(void)fprintf(stderr, "left out: no nameless files on this filesystem\n");
		fuse_guest_destroy(&g);
		return;
	}
	CHECK_EQ(error, 0);
	CHECK_EQ(entry.attr.nlink, 0);
	CHECK_EQ(entry.attr.mode, S_IFREG | 0640);
	CHECK_EQ(fuse_guest_write(&g, entry.nodeid, opened.fh, 0, "text", 0, 0), 4);
	CHECK_EQ(tmpfile_in(&g, ROOT, O_RDONLY, &other, &again), -EINVAL);
	CHECK_EQ(tmpfile_in(&g, entry.nodeid, O_RDWR, &other, &again), -ENOTDIR);

	/* It can be found by its node id, also when nothing has it open, and be given a name. */
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, entry.nodeid, O_RDONLY, &again), 0);
	CHECK_EQ(fuse_guest_read(&g, FUSE_READ, entry.nodeid, again.fh, 0, 10), 4);
	CHECK_EQ(fuse_guest_release(&g, FUSE_RELEASE, entry.nodeid, again.fh), 0);
	CHECK_EQ(fuse_guest_release(&g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
	CHECK_EQ(fuse_guest_getattr(&g, entry.nodeid, &attr), 0);
	link_in.oldnodeid = entry.nodeid;
	CHECK_EQ(fuse_guest_call2(&g, FUSE_LINK, ROOT, &link_in, sizeof(link_in), "f", 2, 128), 0);
	memcpy(&other, g.reply, sizeof(other));
	CHECK_EQ(other.nodeid, entry.nodeid);
	CHECK_EQ(other.attr.nlink, 1);
	CHECK_EQ(fuse_guest_node(&g, ROOT, "f"), entry.nodeid);

	/* Forgotten, nothing of it is left. */
	CHECK_EQ(tmpfile_in(&g, ROOT, O_WRONLY, &entry, &opened), 0);
	CHECK_EQ(fuse_guest_release(&g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
	fuse_guest_tell(&g, FUSE_FORGET, entry.nodeid, &(struct fuse_forget_in){1}, 8);
	CHECK_EQ(fuse_guest_getattr(&g, entry.nodeid, &attr), -ESTALE);
	fuse_guest_destroy(&g);
}

/* Ranges */

static int allocate(struct fuse_guest *g, uint64_t node, uint64_t fh, uint32_t mode,
		    uint64_t offset, uint64_t length)
{
	const struct fuse_fallocate_in in = {
		.fh = fh, .mode = mode, .offset = offset, .length = length};

	return fuse_guest_call(g, FUSE_FALLOCATE, node, &in, sizeof(in), 0);
}

static int64_t seek(struct fuse_guest *g, uint64_t node, uint64_t fh, uint64_t offset,
		    uint32_t whence)
{
	const struct fuse_lseek_in in = {.fh = fh, .offset = offset, .whence = whence};
	int error = fuse_guest_call(g, FUSE_LSEEK, node, &in, sizeof(in), 8);

	return error ? error : (int64_t)((struct fuse_lseek_out *)g->reply)->offset;
}

static struct stat stat_of(const struct fuse_guest *g, const char *name)
{
	struct stat st;

	CHECK_EQ(fstatat(g->tree.fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static void test_fallocate_and_lseek(struct fuse_guest *g)
{
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	uint64_t node;
	uint64_t fh;

	CHECK_EQ(fuse_guest_create_file(g, ROOT, "f", O_RDWR, 0600, &entry, &opened), 0);
	node = entry.nodeid;
	fh = opened.fh;
	if (allocate(g, node, fh, 0, 0, 4 * BLOCK) == -EOPNOTSUPP) {
		(void)fprintf(stderr, "left out: this filesystem does not allocate\n");
		return;
	}
	CHECK_EQ(stat_of(g, "f").st_size, 4 * BLOCK);
	CHECK_EQ(fuse_guest_write(g, node, fh, 0, "a", 0, 0), 1);
	CHECK_EQ(fuse_guest_write(g, node, fh, 4 * BLOCK - 1, "z", 0, 0), 1);
	CHECK_EQ(allocate(g, node, fh, FALLOC_FL_KEEP_SIZE, 8 * BLOCK, BLOCK), 0);
	CHECK_EQ(stat_of(g, "f").st_size, 4 * BLOCK);
	CHECK_EQ(allocate(g, node, fh, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLOCK, BLOCK),
		 0);
	CHECK_EQ(seek(g, node, fh, 4 * BLOCK - 1, SEEK_DATA), 4 * BLOCK - 1);
	CHECK(seek(g, node, fh, 0, SEEK_HOLE) <= BLOCK);
	CHECK_EQ(seek(g, node, fh, 4 * BLOCK, SEEK_DATA), -ENXIO);
	CHECK_EQ(seek(g, node, fh, UINT64_MAX, SEEK_DATA), -ENXIO);
	for (uint32_t whence = 0; whence < 10; whence++)
		if (whence != SEEK_DATA && whence != SEEK_HOLE)
			CHECK_EQ(seek(g, node, fh, 0, whence), -EINVAL);
	/* Not every filesystem clears or moves blocks. */
	if (allocate(g, node, fh, FALLOC_FL_ZERO_RANGE, 0, BLOCK) == 0) {
		CHECK_EQ(fuse_guest_read(g, FUSE_READ, node, fh, 0, 1), 1);
		CHECK_EQ(g->reply[0], 0);
	}
	if (allocate(g, node, fh, FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK) == 0) {
		CHECK_EQ(stat_of(g, "f").st_size, 3 * BLOCK);
		CHECK_EQ(allocate(g, node, fh, FALLOC_FL_INSERT_RANGE, 0, BLOCK), 0);
		CHECK_EQ(stat_of(g, "f").st_size, 4 * BLOCK);
	}
	CHECK(allocate(g, node, fh, UINT32_MAX, 0, BLOCK) < 0);
	CHECK_EQ(allocate(g, node, fh, 0, 0, 0), -EINVAL);
	CHECK_EQ(allocate(g, node, fh, 0, UINT64_MAX, 1), -EINVAL);
	CHECK_EQ(allocate(g, node, fh, 0, INT64_MAX, 2), -EFBIG);
	CHECK_EQ(allocate(g, node, fh + 1, 0, 0, 1), -EBADF);
	CHECK_EQ(allocate(g, ROOT, fh, 0, 0, 1), -EBADF);
	CHECK_EQ(seek(g, ROOT, fh, 0, SEEK_DATA), -EBADF);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, node, fh), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
}

/* Set-id bits, which a guest with HANDLE_KILLPRIV_V2 leaves to us. */
static void test_kill_priv(bool v2)
{
	const struct fuse_guest_config config = {.fuse = {.options.killpriv_v2 = v2}};
	struct fuse_copy_file_range_in copy = {.off_in = 0, .off_out = 1, .len = 1};
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_guest g;
	mode_t after = v2 ? 0755 : 04755;

	if (geteuid() != 0)
		return;
	fuse_guest_create(&g, &config);
	CHECK_EQ(fuse_guest_create_file(&g, ROOT, "s", O_RDWR, 0755, &entry, &opened), 0);
	CHECK_EQ(fuse_guest_write(&g, entry.nodeid, opened.fh, 0, "x", 0, 0), 1);
	copy.fh_in = copy.fh_out = opened.fh;
	copy.nodeid_out = entry.nodeid;
	for (uint32_t uid = 0; uid <= 1; uid++) {
		g.uid = uid;
		CHECK_EQ(fchmodat(g.tree.fd, "s", 04755, 0), 0);
		if (allocate(&g, entry.nodeid, opened.fh, 0, 0, BLOCK) == 0)
			CHECK_EQ(stat_of(&g, "s").st_mode & 07777, uid ? after : 04755);
		CHECK_EQ(fchmodat(g.tree.fd, "s", 04755, 0), 0);
		CHECK_EQ(fuse_guest_call(&g, FUSE_COPY_FILE_RANGE, entry.nodeid, &copy,
					 sizeof(copy), 8),
			 0);
		CHECK_EQ(stat_of(&g, "s").st_mode & 07777, uid ? after : 04755);
	}
	fuse_guest_destroy(&g);
}

/* A seek in a directory must not confuse who reads it. */
static void test_lseek_in_directory(struct fuse_guest *g)
{
	struct fuse_open_out opened;
	int n;

	tree_file(&g->tree, "one", "");
	CHECK_EQ(fuse_guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &opened), 0);
	n = fuse_guest_read(g, FUSE_READDIR, ROOT, opened.fh, 0, 4096);
	CHECK(n > 0);
	(void)seek(g, ROOT, opened.fh, 0, SEEK_HOLE);
	CHECK_EQ(fuse_guest_read(g, FUSE_READDIR, ROOT, opened.fh, 0, 4096), n);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASEDIR, ROOT, opened.fh), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "one", 0), 0);
}

static void test_copy(struct fuse_guest *g, uint32_t opcode)
{
	struct fuse_copy_file_range_in in = {.len = UINT64_MAX};
	struct fuse_entry_out from;
	struct fuse_entry_out to;
	struct fuse_open_out opened;
	uint64_t copied = 0;

	CHECK_EQ(fuse_guest_create_file(g, ROOT, "from", O_RDWR, 0600, &from, &opened), 0);
	in.fh_in = opened.fh;
	CHECK_EQ(fuse_guest_write(g, from.nodeid, in.fh_in, 0, "hello world", 0, 0), 11);
	CHECK_EQ(fuse_guest_create_file(g, ROOT, "to", O_RDWR, 0600, &to, &opened), 0);
	in.fh_out = opened.fh;
	in.nodeid_out = to.nodeid;
	in.off_in = 6;
	in.off_out = 1;
	in.len = 1000;
	CHECK_EQ(fuse_guest_call(g, opcode, from.nodeid, &in, sizeof(in), 8), 0);
	memcpy(&copied, g->reply, opcode == FUSE_COPY_FILE_RANGE ? 4 : 8);
	CHECK_EQ(copied, 5);
	CHECK_EQ(fuse_guest_read(g, FUSE_READ, to.nodeid, in.fh_out, 0, 100), 6);
	CHECK(memcmp(g->reply, "\0world", 6) == 0);

	in.flags = 1ULL << 32;
	CHECK_EQ(fuse_guest_call(g, opcode, from.nodeid, &in, sizeof(in), 8), -EINVAL);
	in.flags = 1;
	CHECK_EQ(fuse_guest_call(g, opcode, from.nodeid, &in, sizeof(in), 8), -EINVAL);
	in.flags = 0;
	in.off_in = UINT64_MAX;
	CHECK(fuse_guest_call(g, opcode, from.nodeid, &in, sizeof(in), 8) < 0);
	in.off_in = 0;
	in.len = 0;
	CHECK_EQ(fuse_guest_call(g, opcode, from.nodeid, &in, sizeof(in), 8), 0);
	in.nodeid_out = from.nodeid;
	CHECK_EQ(fuse_guest_call(g, opcode, from.nodeid, &in, sizeof(in), 8), -EBADF);
	in.nodeid_out = to.nodeid;
	CHECK_EQ(fuse_guest_call(g, opcode, to.nodeid, &in, sizeof(in), 8), -EBADF);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, from.nodeid, in.fh_in), 0);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, to.nodeid, in.fh_out), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "from", 0), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "to", 0), 0);
}

static void test_syncfs(struct fuse_guest *g)
{
	const struct fuse_syncfs_in in = {0};
	uint64_t pipe;

	CHECK_EQ(fuse_guest_call(g, FUSE_SYNCFS, ROOT, &in, sizeof(in), 0), 0);
	CHECK_EQ(mkfifoat(g->tree.fd, "p", 0600), 0);
	pipe = fuse_guest_node(g, ROOT, "p");
	CHECK_EQ(fuse_guest_call(g, FUSE_SYNCFS, pipe, &in, sizeof(in), 0), -EBADF);
	CHECK_EQ(unlinkat(g->tree.fd, "p", 0), 0);
}

/* Attributes and flags */

static void test_statx(struct fuse_guest *g)
{
	struct fuse_statx_in in = {.sx_mask = STATX_BTIME | STATX_SIZE, .sx_flags = UINT32_MAX};
	struct fuse_open_out opened;
	struct fuse_statx_out out;
	struct statx st;
	uint64_t node;

	tree_file(&g->tree, "f", "12345");
	node = fuse_guest_node(g, ROOT, "f");
	CHECK_EQ(statx(g->tree.fd, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &st), 0);
	in.sx_flags = AT_STATX_DONT_SYNC;
	CHECK_EQ(fuse_guest_call(g, FUSE_STATX, node, &in, sizeof(in), sizeof(out)), 0);
	memcpy(&out, g->reply, sizeof(out));
	CHECK_EQ(out.attr_valid, 1);
	CHECK_EQ(out.flags, 0);
	CHECK_EQ(out.stat.mask, st.stx_mask & (STATX_BASIC_STATS | STATX_BTIME));
	CHECK_EQ(out.stat.ino, st.stx_ino);
	CHECK_EQ(out.stat.size, 5);
	CHECK_EQ(out.stat.mode, S_IFREG | 0644);
	CHECK_EQ(out.stat.nlink, 1);
	CHECK_EQ(out.stat.btime.tv_sec, st.stx_btime.tv_sec);
	CHECK_EQ(out.stat.btime.tv_nsec, st.stx_btime.tv_nsec);
	CHECK_EQ(out.stat.mtime.tv_nsec, st.stx_mtime.tv_nsec);
	CHECK_EQ(out.stat.dev_major, st.stx_dev_major);
	CHECK_EQ(out.stat.attributes_mask & STATX_ATTR_MOUNT_ROOT, 0);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(out.stat.spare2); i++)
		CHECK_EQ(out.stat.spare2[i], 0);

	/* Any flags and mask; by handle, and by one that is not. */
	in = (struct fuse_statx_in){.sx_mask = UINT32_MAX, .sx_flags = AT_SYMLINK_NOFOLLOW};
	CHECK_EQ(fuse_guest_call(g, FUSE_STATX, node, &in, sizeof(in), sizeof(out)), 0);
	CHECK_EQ(fuse_guest_open(g, FUSE_OPEN, node, O_RDONLY, &opened), 0);
	in.getattr_flags = FUSE_GETATTR_FH;
	in.fh = opened.fh;
	CHECK_EQ(fuse_guest_call(g, FUSE_STATX, node, &in, sizeof(in), sizeof(out)), 0);
	CHECK_EQ(((struct fuse_statx_out *)g->reply)->stat.ino, st.stx_ino);
	CHECK_EQ(fuse_guest_call(g, FUSE_STATX, ROOT, &in, sizeof(in), sizeof(out)), -EBADF);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, node, opened.fh), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
}

static int may(struct fuse_guest *g, uint64_t node, uint32_t uid, uint32_t gid, uint32_t mask)
{
	const struct fuse_access_in in = {.mask = mask};
	int error;

	g->uid = uid;
	g->gid = gid;
	error = fuse_guest_call(g, FUSE_ACCESS, node, &in, sizeof(in), 0);
	g->uid = g->gid = 0;
	return error;
}

static void test_access(struct fuse_guest *g)
{
	uint64_t node;

	tree_file(&g->tree, "f", "");
	node = fuse_guest_node(g, ROOT, "f");
	CHECK_EQ(fchmodat(g->tree.fd, "f", 0642, 0), 0);
	CHECK_EQ(may(g, node, 77, 77, W_OK), 0);
	CHECK_EQ(may(g, node, 77, 77, R_OK), -EACCES);
	CHECK_EQ(may(g, node, 77, getegid(), R_OK), 0);
	CHECK_EQ(may(g, node, 77, getegid(), W_OK), -EACCES);
	CHECK_EQ(may(g, node, geteuid(), 77, R_OK | W_OK), 0);
	CHECK_EQ(may(g, node, 0, 0, R_OK | W_OK), 0);
	CHECK_EQ(may(g, node, 0, 0, X_OK), -EACCES);
	CHECK_EQ(may(g, ROOT, 0, 0, X_OK), 0);
	CHECK_EQ(may(g, node, 0, 0, F_OK), 0);
	CHECK_EQ(may(g, node, 0, 0, 8), -EINVAL);
	CHECK_EQ(may(g, 1ULL << 40, 0, 0, F_OK), -ESTALE);
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
}

static int control(struct fuse_guest *g, uint64_t node, uint64_t fh, uint64_t command,
		   const void *data, uint32_t in_size, uint32_t out_size)
{
	const struct fuse_ioctl_in in = {
		.fh = fh, .cmd = (uint32_t)command, .in_size = in_size, .out_size = out_size};

	return fuse_guest_call2(g, FUSE_IOCTL, node, &in, sizeof(in), data, in_size, 256);
}

static void test_ioctl(struct fuse_guest *g)
{
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_open_out dir;
	struct fsxattr x;
	uint32_t flags;
	uint64_t node;
	int error;

	CHECK_EQ(fuse_guest_create_file(g, ROOT, "f", O_RDWR, 0644, &entry, &opened), 0);
	node = entry.nodeid;
	CHECK_EQ(fuse_guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &dir), 0);
	CHECK_EQ(control(g, node, opened.fh, TCGETS, NULL, 0, 64), -ENOTTY);
	CHECK_EQ(control(g, node, opened.fh, FIONREAD, NULL, 0, 4), -ENOTTY);
	CHECK_EQ(control(g, node, opened.fh, FICLONE, &opened, 4, 0), -ENOTTY);
	CHECK_EQ(control(g, ROOT, opened.fh, FS_IOC_GETFLAGS, NULL, 0, 4), -EBADF);
	CHECK_EQ(control(g, node, opened.fh, FS_IOC_GETFLAGS, NULL, 0, 3), -EINVAL);
	CHECK_EQ(control(g, node, opened.fh, FS_IOC_GETFLAGS, "x", 1, 4), -EINVAL);
	CHECK_EQ(control(g, node, opened.fh, FS_IOC_SETFLAGS, "abc", 3, 0), -EINVAL);
	CHECK_EQ(control(g, node, opened.fh, FS_IOC_FSSETXATTR, "abc", 3, 0), -EINVAL);
	error = control(g, node, opened.fh, FS_IOC_GETFLAGS, NULL, 0, 4);
	if (error == -ENOTTY || error == -EOPNOTSUPP) {
		(void)fprintf(stderr, "left out: no inode flags on this filesystem\n");
		return;
	}
	CHECK_EQ(error, 0);
	CHECK_EQ(g->reply_bytes, sizeof(struct fuse_ioctl_out) + 4);
	memcpy(&flags, g->reply + sizeof(struct fuse_ioctl_out), sizeof(flags));
	flags |= FS_NODUMP_FL;
	CHECK_EQ(control(g, node, opened.fh, FS_IOC_SETFLAGS, &flags, 4, 0), 0);
	CHECK_EQ(control(g, node, opened.fh, FS_IOC32_GETFLAGS, NULL, 0, 4), 0);
	memcpy(&flags, g->reply + sizeof(struct fuse_ioctl_out), sizeof(flags));
	CHECK(flags & FS_NODUMP_FL);
	CHECK_EQ(control(g, ROOT, dir.fh, FS_IOC_GETFLAGS, NULL, 0, 4), 0);

	if (control(g, node, opened.fh, FS_IOC_FSGETXATTR, NULL, 0, sizeof(x)) == 0) {
		CHECK_EQ(g->reply_bytes, sizeof(struct fuse_ioctl_out) + sizeof(x));
		memcpy(&x, g->reply + sizeof(struct fuse_ioctl_out), sizeof(x));
		CHECK(x.fsx_xflags & FS_XFLAG_NODUMP);
		x.fsx_xflags &= ~(uint32_t)FS_XFLAG_NODUMP;
		CHECK_EQ(control(g, node, opened.fh, FS_IOC_FSSETXATTR, &x, sizeof(x), 0), 0);
		CHECK_EQ(control(g, node, opened.fh, FS_IOC_GETFLAGS, NULL, 0, 4), 0);
		memcpy(&flags, g->reply + sizeof(struct fuse_ioctl_out), sizeof(flags));
		CHECK(!(flags & FS_NODUMP_FL));
		/* Whose space it takes is for the host to say. */
		x.fsx_projid++;
		CHECK_EQ(control(g, node, opened.fh, FS_IOC_FSSETXATTR, &x, sizeof(x), 0), -EPERM);
		x.fsx_projid--;
		x.fsx_xflags ^= FS_XFLAG_PROJINHERIT;
		CHECK_EQ(control(g, node, opened.fh, FS_IOC_FSSETXATTR, &x, sizeof(x), 0), -EPERM);
		flags ^= FS_PROJINHERIT_FL;
		CHECK_EQ(control(g, node, opened.fh, FS_IOC_SETFLAGS, &flags, 4, 0), -EPERM);
		flags ^= FS_PROJINHERIT_FL;
	}
	/* The file is not his. */
	if (geteuid() == 0) {
		g->uid = g->gid = 1234;
		CHECK(control(g, node, opened.fh, FS_IOC_SETFLAGS, &flags, 4, 0) < 0);
		g->uid = g->gid = 0;
	}
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASEDIR, ROOT, dir.fh), 0);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, node, opened.fh), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
}

/* Who owns what */

/* Of a directory's group, though not by his first one: files keep their set-group-id bit. */
static void test_supplementary_group(struct fuse_guest *g)
{
	const struct {
		struct fuse_ext_header header;
		uint32_t nr_groups, group;
	} extension = {{16, FUSE_EXT_GROUPS}, 1, 555};
	const struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 02775};
	gid_t before[64];
	gid_t after[64];
	uint8_t text[32] = "f";
	uint64_t dir;
	int n;

	if (geteuid() != 0)
		return;
	CHECK_EQ(mkdirat(g->tree.fd, "d", 0775), 0);
	CHECK_EQ(fchownat(g->tree.fd, "d", 0, 555, 0), 0);
	CHECK_EQ(fchmodat(g->tree.fd, "d", 02775, 0), 0);
	dir = fuse_guest_node(g, ROOT, "d");
	n = getgroups(64, before);
	g->uid = g->gid = 1234;
	CHECK_EQ(fuse_guest_call2(g, FUSE_CREATE, dir, &in, sizeof(in), "without", 8, 144), 0);
	CHECK_EQ(stat_of(g, "d/without").st_gid, 555);
	CHECK_EQ(stat_of(g, "d/without").st_mode & 07777, 0775);
	memcpy(text + 2, &extension, sizeof(extension));
	g->total_extlen = 2;
	CHECK_EQ(fuse_guest_call2(g, FUSE_CREATE, dir, &in, sizeof(in), text, 18, 144), 0);
	g->total_extlen = 0;
	g->uid = g->gid = 0;
	CHECK_EQ(stat_of(g, "d/f").st_gid, 555);
	CHECK_EQ(stat_of(g, "d/f").st_uid, 1234);
	CHECK_EQ(stat_of(g, "d/f").st_mode & 07777, 02775);
	CHECK_EQ(getgroups(64, after), n);
	CHECK(memcmp(before, after, (size_t)n * sizeof(gid_t)) == 0);
}

static void test_translated_ids(void)
{
	static const struct vfsd_id_range to_host[] = {{1000, 10, 5000, VFSD_ID_SHIFT},
						       {2000, 1, 0, VFSD_ID_FORBID}};
	static const struct vfsd_id_range to_guest[] = {{5000, 10, 1000, VFSD_ID_SHIFT},
							{6000, 100, 65534, VFSD_ID_SQUASH}};
	const struct vfsd_id_range *const tables[] = {to_host, to_guest, to_host, to_guest};
	const uint32_t n[] = {2, 2, 2, 2};
	const struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_statx_in statx_in = {0};
	struct fuse_setattr_in setattr_in = {.valid = FATTR_UID | FATTR_GID};
	struct fuse_guest_config config = {.fuse = {.options.cache = VFSD_CACHE_AUTO}};
	struct fuse_entry_out entry;
	struct fuse_attr_out attr;
	struct fuse_open_out opened;
	struct vfsd_idmap *map;
	struct fuse_guest g;

	if (geteuid() != 0)
		return;
	CHECK_EQ(vfsd_idmap_create(tables, n, &map), 0);
	config.fuse.idmap = map;
	fuse_guest_create(&g, &config);
	CHECK_EQ(fchmod(g.tree.fd, 0777), 0);
	g.uid = 1003;
	g.gid = 1004;
	CHECK_EQ(fuse_guest_call2(&g, FUSE_MKDIR, ROOT, &mkdir_in, 8, "d", 2, 128), 0);
	memcpy(&entry, g.reply, sizeof(entry));
	CHECK_EQ(entry.attr.uid, 1003);
	CHECK_EQ(entry.attr.gid, 1004);
	CHECK_EQ(stat_of(&g, "d").st_uid, 5003);
	CHECK_EQ(stat_of(&g, "d").st_gid, 5004);
	CHECK_EQ(fuse_guest_call(&g, FUSE_STATX, entry.nodeid, &statx_in, sizeof(statx_in), 288),
		 0);
	CHECK_EQ(((struct fuse_statx_out *)g.reply)->stat.uid, 1003);
	CHECK_EQ(((struct fuse_statx_out *)g.reply)->stat.gid, 1004);

	/* Nobody by this id may do anything, nor be given anything; what he has he may give back. */
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPENDIR, entry.nodeid, O_RDONLY, &opened), 0);
	g.uid = 2000;
	CHECK_EQ(fuse_guest_getattr(&g, entry.nodeid, &attr), -EPERM);
	CHECK_EQ(fuse_guest_release(&g, FUSE_RELEASEDIR, entry.nodeid, opened.fh), 0);
	g.uid = 0;
	setattr_in.uid = 2000;
	setattr_in.gid = 1000;
	CHECK_EQ(fuse_guest_call(&g, FUSE_SETATTR, entry.nodeid, &setattr_in, sizeof(setattr_in),
				 104),
		 -EPERM);
	setattr_in.uid = 1000;
	CHECK_EQ(fuse_guest_call(&g, FUSE_SETATTR, entry.nodeid, &setattr_in, sizeof(setattr_in),
				 104),
		 0);
	CHECK_EQ(((struct fuse_attr_out *)g.reply)->attr.uid, 1000);
	CHECK_EQ(stat_of(&g, "d").st_uid, 5000);
	CHECK_EQ(fchownat(g.tree.fd, "d", 6042, 7, 0), 0);
	CHECK_EQ(fuse_guest_getattr(&g, entry.nodeid, &attr), 0);
	CHECK_EQ(attr.attr.uid, 65534);
	CHECK_EQ(attr.attr.gid, 7);
	fuse_guest_destroy(&g);
	vfsd_idmap_destroy(map);
}

int main(void)
{
	static const enum vfsd_handle_policy policies[] = {VFSD_HANDLES_NEVER, VFSD_HANDLES_PREFER};

	(void)umask(0); /* as the daemon does */
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(policies); i++) {
		const struct fuse_guest_config config = {.handles = policies[i]};
		struct fuse_guest g;

		test_tmpfile(policies[i]);
		fuse_guest_create(&g, &config);
		CHECK_EQ(fchmod(g.tree.fd, 0777), 0);
		test_fallocate_and_lseek(&g);
		test_lseek_in_directory(&g);
		test_copy(&g, FUSE_COPY_FILE_RANGE);
		test_copy(&g, FUSE_COPY_FILE_RANGE_64);
		test_syncfs(&g);
		test_statx(&g);
		test_access(&g);
		test_ioctl(&g);
		test_supplementary_group(&g);
		fuse_guest_destroy(&g);
	}
	test_kill_priv(false);
	test_kill_priv(true);
	test_translated_ids();
	return 0;
}
