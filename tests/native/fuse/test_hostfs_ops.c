/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What requests do to a real directory, with inodes held by descriptor and (where the host allows
 * it) by handle. Cases that need root say so and are left out without.
 */
#include "hostfs/hostfs.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"
#include "fuse_guest.h"
#include "base/util.h"

enum { ROOT = VFSD_NODEID_ROOT };

static struct stat stat_of(const struct fuse_guest *g, const char *name)
{
	struct stat st;

	CHECK_EQ(fstatat(g->tree.fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static void check_content(const struct fuse_guest *g, const char *name, const char *text)
{
	char got[256];
	int fd = openat(g->tree.fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, got, sizeof(got));

	CHECK_EQ(n, strlen(text));
	CHECK(memcmp(got, text, (size_t)n) == 0);
	close(fd);
}

/* Files */

static void test_read_write(struct fuse_guest *g)
{
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_open_out second;
	const struct fuse_fsync_in data_only = {.fsync_flags = FUSE_FSYNC_FDATASYNC};
	struct fuse_fsync_in sync = data_only;
	struct fuse_flush_in flush = {0};

	CHECK_EQ(fuse_guest_create_file(g, ROOT, "f", O_RDWR, 0640, &entry, &opened), 0);
	CHECK_EQ(entry.attr.mode, S_IFREG | 0640);
	CHECK_EQ(entry.attr.ino, stat_of(g, "f").st_ino);
	CHECK_EQ(fuse_guest_node(g, ROOT, "f"), entry.nodeid);
	CHECK_EQ(fuse_guest_write(g, entry.nodeid, opened.fh, 0, "hello world", 0, 0), 11);
	CHECK_EQ(fuse_guest_read(g, FUSE_READ, entry.nodeid, opened.fh, 6, 4096), 5);
	CHECK(memcmp(g->reply, "world", 5) == 0);
	CHECK_EQ(fuse_guest_read(g, FUSE_READ, entry.nodeid, opened.fh, 11, 4096), 0);
	CHECK_EQ(fuse_guest_read(g, FUSE_READ, entry.nodeid, opened.fh, 0, 0), 0);
	CHECK_EQ(fuse_guest_read(g, FUSE_READ, entry.nodeid, opened.fh, UINT64_MAX, 10), -EINVAL);
	CHECK_EQ(fuse_guest_read(g, FUSE_READ, ROOT, opened.fh, 0, 10), -EBADF);

	/* Appending is told with each write, and pages written back have a place of their own. */
	CHECK_EQ(fuse_guest_write(g, entry.nodeid, opened.fh, 0, "!", O_APPEND, 0), 1);
	CHECK_EQ(fuse_guest_write(g, entry.nodeid, opened.fh, 0, "H", O_APPEND, FUSE_WRITE_CACHE),
		 1);
	check_content(g, "f", "Hello world!");

	flush.fh = sync.fh = opened.fh;
	CHECK_EQ(fuse_guest_call(g, FUSE_FLUSH, entry.nodeid, &flush, sizeof(flush), 0), 0);
	CHECK_EQ(fuse_guest_call(g, FUSE_FSYNC, entry.nodeid, &sync, sizeof(sync), 0), 0);
	sync.fsync_flags = 0;
	CHECK_EQ(fuse_guest_call(g, FUSE_FSYNC, entry.nodeid, &sync, sizeof(sync), 0), 0);
	CHECK_EQ(fuse_guest_open(g, FUSE_OPEN, entry.nodeid, O_WRONLY | O_TRUNC, &second), 0);
	CHECK_EQ(stat_of(g, "f").st_size, 0);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh), -EBADF);
	CHECK_EQ(fuse_guest_read(g, FUSE_READ, entry.nodeid, opened.fh, 0, 10), -EBADF);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, second.fh), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
}

static int open_flags_of(struct fuse_guest *g, uint64_t node, uint32_t flags)
{
	struct fuse_open_out opened;
	struct vfsd_open_file *handle;
	int got;

	CHECK_EQ(fuse_guest_open(g, FUSE_OPEN, node, flags, &opened), 0);
	handle = vfsd_open_file_get(g->handles, opened.fh, node);
	CHECK(handle);
	got = fcntl(handle->fd, F_GETFL);
	CHECK_EQ(fcntl(handle->fd, F_GETFD), FD_CLOEXEC);
	vfsd_open_file_put(g->handles, handle);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, node, opened.fh), 0);
	return got;
}

static void test_open_flags(void)
{
	const uint32_t all = O_WRONLY | O_APPEND | O_NOATIME | O_CREAT | O_EXCL | O_NOFOLLOW;
	struct fuse_guest_config config = {.minor = 41};
	struct fuse_guest g;
	uint64_t node;

	fuse_guest_create(&g, &config);
	tree_file(&g.tree, "f", "");
	node = fuse_guest_node(&g, ROOT, "f");
	CHECK_EQ(open_flags_of(&g, node, all) & (O_ACCMODE | O_APPEND | O_NOATIME), O_WRONLY);
	CHECK_EQ(open_flags_of(&g, node, O_RDONLY | O_DIRECT) & O_DIRECT, 0);
	CHECK_EQ(open_flags_of(&g, node, O_PATH) & O_PATH, 0);
	fuse_guest_destroy(&g);

	config.fuse.options.writeback = true;
	config.fuse.options.preserve_noatime = true;
	fuse_guest_create(&g, &config);
	tree_file(&g.tree, "f", "");
	node = fuse_guest_node(&g, ROOT, "f");
	CHECK_EQ(open_flags_of(&g, node, all) & (O_ACCMODE | O_APPEND | O_NOATIME),
		 O_RDWR | O_NOATIME);
	CHECK_EQ(open_flags_of(&g, node, O_RDONLY) & O_ACCMODE, O_RDONLY);
	fuse_guest_destroy(&g);

	/* The host decides which filesystems can. */
	config.fuse.options.allow_direct_io = true;
	fuse_guest_create(&g, &config);
	tree_file(&g.tree, "f", "");
	node = fuse_guest_node(&g, ROOT, "f");
	int direct = openat(g.tree.fd, "f", O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (direct >= 0) {
		CHECK_EQ(open_flags_of(&g, node, O_RDONLY | O_DIRECT) & O_DIRECT, O_DIRECT);
		close(direct);
	}
	fuse_guest_destroy(&g);
}

static void test_create_existing(struct fuse_guest *g)
{
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	uint64_t inodes = vfsd_inodes_count(g->inodes);

	tree_file(&g->tree, "f", "text");
	CHECK_EQ(fuse_guest_create_file(g, ROOT, "f", O_RDWR | O_EXCL, 0600, &entry, &opened),
		 -EEXIST);
	CHECK_EQ(fuse_guest_create_file(g, ROOT, "f", O_RDWR, 0600, &entry, &opened), 0);
	CHECK_EQ(entry.attr.mode, S_IFREG | 0644);
	CHECK_EQ(entry.attr.size, 4);
	CHECK_EQ(fuse_guest_read(g, FUSE_READ, entry.nodeid, opened.fh, 0, 10), 4);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
	CHECK_EQ(fuse_guest_create_file(g, ROOT, "f", O_RDWR | O_TRUNC, 0600, &entry, &opened), 0);
	CHECK_EQ(stat_of(g, "f").st_size, 0);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
	fuse_guest_tell(g, FUSE_FORGET, entry.nodeid, &(struct fuse_forget_in){2}, 8);

	/* Others than files: the guest looks again. Never through a link of ours. */
	CHECK_EQ(symlinkat("/etc/passwd", g->tree.fd, "l"), 0);
	CHECK_EQ(mkdirat(g->tree.fd, "d", 0755), 0);
	CHECK_EQ(fuse_guest_create_file(g, ROOT, "l", O_RDWR, 0600, &entry, &opened), -ESTALE);
	CHECK_EQ(fuse_guest_create_file(g, ROOT, "d", O_RDWR, 0600, &entry, &opened), -ESTALE);
	CHECK_EQ(vfsd_inodes_count(g->inodes), inodes);
	CHECK_EQ(vfsd_open_files_count(g->handles), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "l", 0), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "d", AT_REMOVEDIR), 0);
}

/* One quota for inodes and open files. With handles, inodes need no descriptors; the root has one. */
static void test_fd_quota(enum vfsd_handle_policy handles)
{
	const struct fuse_guest_config config = {.handles = handles, .max_fds = 4};
	struct fuse_forget_in forget = {.nlookup = 1};
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_guest g;
	uint64_t node;

	fuse_guest_create(&g, &config);
	tree_file(&g.tree, "a", "");
	tree_file(&g.tree, "b", "");
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPENDIR, ROOT, O_RDONLY, &opened), 0);
	node = fuse_guest_node(&g, ROOT, "a");
	if (handles == VFSD_HANDLES_PREFER && g.quota.used == 2) {
		(void)fuse_guest_node(&g, ROOT, "b");
		CHECK_EQ(g.quota.used, 2);
		CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, node, O_RDONLY, &opened), 0);
	}
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, node, O_RDONLY, &opened), 0);
	CHECK_EQ(g.quota.used, 4);
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, node, O_RDONLY, &opened), -ENFILE);
	CHECK_EQ(fuse_guest_open(&g, FUSE_OPENDIR, ROOT, O_RDONLY, &opened), -ENFILE);
	CHECK_EQ(fuse_guest_create_file(&g, ROOT, "c", O_RDWR, 0600, &entry, &opened), -ENFILE);
	if (handles == VFSD_HANDLES_NEVER) {
		CHECK_EQ(fuse_guest_lookup(&g, ROOT, "b", &entry), -ENFILE);
		fuse_guest_tell(&g, FUSE_FORGET, node, &forget, sizeof(forget));
		(void)fuse_guest_node(&g, ROOT, "b");
	}
	CHECK_EQ(vfsd_inodes_count(g.inodes), handles == VFSD_HANDLES_NEVER ? 2 : 3);
	fuse_guest_destroy(&g);
	CHECK_EQ(g.quota.used, 0);
}

/* Attributes */

static int set_attr(struct fuse_guest *g, uint64_t node, const struct fuse_setattr_in *in,
		    struct fuse_attr *ret)
{
	int error = fuse_guest_call(g, FUSE_SETATTR, node, in, sizeof(*in),
				    sizeof(struct fuse_attr_out));

	if (!error)
		*ret = ((struct fuse_attr_out *)g->reply)->attr;
	return error;
}

static void test_setattr(struct fuse_guest *g)
{
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 0100600};
	struct fuse_getattr_in getattr_in = {.getattr_flags = FUSE_GETATTR_FH};
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_attr attr;
	struct stat st;
	uint64_t node;

	CHECK_EQ(fuse_guest_create_file(g, ROOT, "f", O_RDWR, 0644, &entry, &opened), 0);
	node = entry.nodeid;
	CHECK_EQ(set_attr(g, node, &in, &attr), 0);
	CHECK_EQ(attr.mode, S_IFREG | 0600);

	in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 1000};
	CHECK_EQ(set_attr(g, node, &in, &attr), 0);
	CHECK_EQ(attr.size, 1000);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_FH, .fh = opened.fh, .size = 10};
	CHECK_EQ(set_attr(g, node, &in, &attr), 0);
	CHECK_EQ(attr.size, 10);
	in.fh++;
	CHECK_EQ(set_attr(g, node, &in, &attr), -EBADF);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = UINT64_MAX};
	CHECK_EQ(set_attr(g, node, &in, &attr), -EINVAL);

	in = (struct fuse_setattr_in){.valid = FATTR_ATIME | FATTR_MTIME,
				      .atime = 1000,
				      .atimensec = 1,
				      .mtime = 2000,
				      .mtimensec = 999999999};
	CHECK_EQ(set_attr(g, node, &in, &attr), 0);
	CHECK_EQ(attr.atime, 1000);
	CHECK_EQ(attr.mtime, 2000);
	st = stat_of(g, "f");
	CHECK_EQ(st.st_mtim.tv_nsec, 999999999);
	in.valid = FATTR_MTIME | FATTR_MTIME_NOW;
	CHECK_EQ(set_attr(g, node, &in, &attr), 0);
	CHECK_EQ(attr.atime, 1000);
	CHECK(attr.mtime > 2000);
	in.valid = FATTR_MTIME;
	in.mtimensec = UTIME_NOW;
	CHECK_EQ(set_attr(g, node, &in, &attr), -EINVAL);
	in = (struct fuse_setattr_in){.valid = 0};
	CHECK_EQ(set_attr(g, node, &in, &attr), 0);
	CHECK_EQ(attr.atime, 1000);

	/* A link itself, not what it leads to. */
	CHECK_EQ(symlinkat("f", g->tree.fd, "l"), 0);
	in = (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 5};
	CHECK_EQ(set_attr(g, fuse_guest_node(g, ROOT, "l"), &in, &attr), 0);
	CHECK_EQ(stat_of(g, "l").st_mtime, 5);
	CHECK(stat_of(g, "f").st_mtime > 2000);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE};
	CHECK_EQ(set_attr(g, fuse_guest_node(g, ROOT, "l"), &in, &attr), -EBADF);
	CHECK_EQ(set_attr(g, ROOT, &in, &attr), -EISDIR);

	if (geteuid() == 0) {
		in = (struct fuse_setattr_in){.valid = FATTR_UID, .uid = 1234, .gid = 99};
		CHECK_EQ(set_attr(g, node, &in, &attr), 0);
		CHECK_EQ(attr.uid, 1234);
		CHECK_EQ(attr.gid, getegid());
		in.valid = FATTR_GID;
		CHECK_EQ(set_attr(g, node, &in, &attr), 0);
		CHECK_EQ(attr.uid, 1234);
		CHECK_EQ(attr.gid, 99);
	}

	/* Unlinked but open. */
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
	in = (struct fuse_setattr_in){
		.valid = FATTR_MODE | FATTR_FH, .fh = opened.fh, .mode = 0640};
	CHECK_EQ(set_attr(g, node, &in, &attr), 0);
	CHECK_EQ(attr.mode, S_IFREG | 0640);
	getattr_in.fh = opened.fh;
	CHECK_EQ(fuse_guest_call(g, FUSE_GETATTR, node, &getattr_in, 16, 104), 0);
	CHECK_EQ(((struct fuse_attr_out *)g->reply)->attr.mode, S_IFREG | 0640);
	CHECK_EQ(fuse_guest_call(g, FUSE_GETATTR, ROOT, &getattr_in, 16, 104), -EBADF);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_FH, .fh = opened.fh, .size = 7};
	CHECK_EQ(set_attr(g, node, &in, &attr), 0);
	CHECK_EQ(attr.size, 7);
	CHECK_EQ(attr.nlink, 0);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, node, opened.fh), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "l", 0), 0);
}

/* With CAP_FSETID the kernel leaves set-id bits alone, unless the guest wants them gone. */
static void test_kill_priv(struct fuse_guest *g)
{
	struct fuse_setattr_in in = {.valid = FATTR_SIZE | FATTR_KILL_SUIDGID, .size = 1};
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_attr attr;

	if (geteuid() != 0)
		return;
	CHECK_EQ(fuse_guest_create_file(g, ROOT, "s", O_RDWR, 0644, &entry, &opened), 0);
	CHECK_EQ(fchmodat(g->tree.fd, "s", 04755, 0), 0);
	CHECK_EQ(fuse_guest_write(g, entry.nodeid, opened.fh, 0, "x", 0, 0), 1);
	CHECK_EQ(stat_of(g, "s").st_mode, S_IFREG | 04755);
	CHECK_EQ(fuse_guest_write(g, entry.nodeid, opened.fh, 0, "x", 0, FUSE_WRITE_KILL_SUIDGID),
		 1);
	CHECK_EQ(stat_of(g, "s").st_mode, S_IFREG | 0755);
	CHECK_EQ(fchmodat(g->tree.fd, "s", 04755, 0), 0);
	CHECK_EQ(fuse_guest_write(g, entry.nodeid, opened.fh, 0, "x", 0, 0), 1);
	CHECK_EQ(stat_of(g, "s").st_mode, S_IFREG | 04755);
	CHECK_EQ(set_attr(g, entry.nodeid, &in, &attr), 0);
	CHECK_EQ(stat_of(g, "s").st_mode, S_IFREG | 0755);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
	CHECK_EQ(unlinkat(g->tree.fd, "s", 0), 0);
}

static void test_statfs(struct fuse_guest *g)
{
	struct statvfs fs;
	struct fuse_statfs_out *out;

	CHECK_EQ(fuse_guest_call(g, FUSE_STATFS, ROOT, NULL, 0, sizeof(*out)), 0);
	out = (struct fuse_statfs_out *)g->reply;
	CHECK_EQ(fstatvfs(g->tree.fd, &fs), 0);
	CHECK_EQ(out->st.bsize, fs.f_bsize);
	CHECK_EQ(out->st.frsize, fs.f_frsize);
	CHECK_EQ(out->st.blocks, fs.f_blocks);
	CHECK_EQ(out->st.namelen, fs.f_namemax);
}

/* Names */

static int make(struct fuse_guest *g, uint32_t opcode, uint64_t parent, const void *in,
		size_t bytes, const char *name, struct fuse_entry_out *ret)
{
	int error = fuse_guest_call2(g, opcode, parent, in, bytes, name, strlen(name) + 1,
				     sizeof(*ret));

	if (!error)
		memcpy(ret, g->reply, sizeof(*ret));
	return error;
}

static int rename2(struct fuse_guest *g, uint64_t from, uint64_t to, uint32_t flags,
		   const char *names, size_t names_bytes)
{
	const struct fuse_rename2_in in = {.newdir = to, .flags = flags};

	return fuse_guest_call2(g, FUSE_RENAME2, from, &in, sizeof(in), names, names_bytes, 0);
}

static void test_names(struct fuse_guest *g)
{
	const struct fuse_mkdir_in mkdir_in = {.mode = 0750};
	const struct fuse_mknod_in fifo_in = {.mode = S_IFIFO | 0600};
	struct fuse_link_in link_in;
	struct fuse_rename_in rename_in;
	struct fuse_entry_out dir;
	struct fuse_entry_out entry;
	struct fuse_entry_out again;
	struct fuse_attr_out attr;

	CHECK_EQ(make(g, FUSE_MKDIR, ROOT, &mkdir_in, 8, "d", &dir), 0);
	CHECK_EQ(dir.attr.mode, S_IFDIR | 0750);
	CHECK_EQ(make(g, FUSE_MKDIR, ROOT, &mkdir_in, 8, "d", &entry), -EEXIST);
	CHECK_EQ(make(g, FUSE_MKNOD, dir.nodeid, &fifo_in, 16, "p", &entry), 0);
	CHECK_EQ(entry.attr.mode, S_IFIFO | 0600);
	CHECK_EQ(fuse_guest_open(g, FUSE_OPEN, entry.nodeid, O_RDONLY, &(struct fuse_open_out){0}),
		 -EBADF);
	CHECK_EQ(fuse_guest_lookup(g, entry.nodeid, "x", &again), -ENOTDIR);

	CHECK_EQ(fuse_guest_call(g, FUSE_SYMLINK, ROOT, "l\0some/target", 14, 128), 0);
	memcpy(&entry, g->reply, sizeof(entry));
	CHECK_EQ(entry.attr.mode, S_IFLNK | 0777);
	CHECK_EQ(fuse_guest_call(g, FUSE_READLINK, entry.nodeid, NULL, 0, 4096), 0);
	CHECK_EQ(g->reply_bytes, 11);
	CHECK(memcmp(g->reply, "some/target", 11) == 0);
	CHECK_EQ(fuse_guest_call(g, FUSE_READLINK, dir.nodeid, NULL, 0, 4096), -EINVAL);

	/* A link is the same inode. */
	tree_file(&g->tree, "f", "one");
	CHECK_EQ(fuse_guest_lookup(g, ROOT, "f", &entry), 0);
	link_in.oldnodeid = entry.nodeid;
	CHECK_EQ(make(g, FUSE_LINK, dir.nodeid, &link_in, 8, "f2", &again), 0);
	CHECK_EQ(again.nodeid, entry.nodeid);
	CHECK_EQ(again.attr.nlink, 2);
	link_in.oldnodeid = 1ULL << 40;
	CHECK_EQ(make(g, FUSE_LINK, dir.nodeid, &link_in, 8, "f3", &again), -ESTALE);

	/* Across directories, and the inode stays what it was. */
	rename_in.newdir = dir.nodeid;
	CHECK_EQ(fuse_guest_call2(g, FUSE_RENAME, ROOT, &rename_in, 8, "f\0g", 4, 0), 0);
	CHECK_EQ(fuse_guest_node(g, dir.nodeid, "g"), entry.nodeid);
	tree_file(&g->tree, "h", "two");
	CHECK_EQ(rename2(g, ROOT, dir.nodeid, RENAME_NOREPLACE, "h\0g", 4), -EEXIST);
	CHECK_EQ(rename2(g, ROOT, dir.nodeid, RENAME_EXCHANGE, "h\0g", 4), 0);
	check_content(g, "h", "one");
	check_content(g, "d/g", "two");
	CHECK_EQ(rename2(g, ROOT, 1ULL << 40, 0, "h\0g", 4), -ESTALE);

	CHECK_EQ(g->barriers, 4);
	CHECK_EQ(fuse_guest_call(g, FUSE_RMDIR, ROOT, "d", 2, 0), -ENOTEMPTY);
	CHECK_EQ(fuse_guest_call(g, FUSE_UNLINK, ROOT, "d", 2, 0), -EISDIR);
	CHECK_EQ(fuse_guest_call(g, FUSE_RMDIR, ROOT, "h", 2, 0), -ENOTDIR);
	CHECK_EQ(fuse_guest_call(g, FUSE_UNLINK, dir.nodeid, "f2", 3, 0), 0);
	CHECK_EQ(fuse_guest_call(g, FUSE_UNLINK, dir.nodeid, "g", 2, 0), 0);
	CHECK_EQ(fuse_guest_call(g, FUSE_UNLINK, dir.nodeid, "p", 2, 0), 0);
	CHECK_EQ(fuse_guest_call(g, FUSE_UNLINK, ROOT, "h", 2, 0), 0);
	CHECK_EQ(fuse_guest_call(g, FUSE_UNLINK, ROOT, "l", 2, 0), 0);
	CHECK_EQ(fuse_guest_call(g, FUSE_RMDIR, ROOT, "d", 2, 0), 0);
	CHECK_EQ(g->barriers, 13);
	/* Gone: a descriptor still shows it, a handle does not. */
	CHECK(fuse_guest_getattr(g, dir.nodeid, &attr) == -ESTALE || attr.attr.nlink == 0);
}

/* A directory that the host removed: there is nothing in it, perhaps in another one of its name. */
static void test_removed_directory(struct fuse_guest *g, enum vfsd_handle_policy handles)
{
	const struct fuse_mkdir_in mkdir_in = {.mode = 0700};
	const struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0600};
	struct fuse_link_in link_in;
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_attr_out attr;
	uint64_t gone;

	CHECK_EQ(mkdirat(g->tree.fd, "gone", 0755), 0);
	gone = fuse_guest_node(g, ROOT, "gone");
	CHECK_EQ(unlinkat(g->tree.fd, "gone", AT_REMOVEDIR), 0);
	tree_file(&g->tree, "f", "");
	link_in.oldnodeid = fuse_guest_node(g, ROOT, "f");
	if (handles == VFSD_HANDLES_NEVER)
		CHECK_EQ(fuse_guest_getattr(g, gone, &attr), 0);
	CHECK_EQ(fuse_guest_lookup(g, gone, "x", &entry), -ESTALE);
	CHECK_EQ(make(g, FUSE_MKDIR, gone, &mkdir_in, 8, "x", &entry), -ESTALE);
	CHECK_EQ(make(g, FUSE_MKNOD, gone, &mknod_in, 16, "x", &entry), -ESTALE);
	CHECK_EQ(make(g, FUSE_LINK, gone, &link_in, 8, "x", &entry), -ESTALE);
	CHECK_EQ(fuse_guest_call(g, FUSE_SYMLINK, gone, "x\0t", 4, 128), -ESTALE);
	CHECK_EQ(fuse_guest_create_file(g, gone, "x", O_RDWR, 0600, &entry, &opened), -ESTALE);
	CHECK_EQ(fuse_guest_call(g, FUSE_UNLINK, gone, "x", 2, 0), -ESTALE);
	CHECK_EQ(fuse_guest_call(g, FUSE_RMDIR, gone, "x", 2, 0), -ESTALE);
	CHECK_EQ(rename2(g, gone, ROOT, 0, "x\0y", 4), -ESTALE);
	CHECK_EQ(rename2(g, ROOT, gone, 0, "f\0y", 4), -ESTALE);
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
}

/* Directories */

enum { MANY = 300 };

/* Read all, @size bytes at a time; every name must come exactly once. Returns lookups counted. */
static unsigned int list_all(struct fuse_guest *g, uint64_t fh, bool plus, uint32_t size)
{
	bool seen[MANY] = {false};
	unsigned int dots = 0;
	unsigned int lookups = 0;
	uint64_t offset = 0;
	int n;

	while ((n = fuse_guest_read(g, plus ? FUSE_READDIRPLUS : FUSE_READDIR, ROOT, fh, offset,
				    size)) > 0) {
		for (int at = 0; at < n;) {
			const struct fuse_entry_out *entry = NULL;
			const struct fuse_dirent *dirent;
			char name[256];
			int index;

			if (plus) {
				entry = (const struct fuse_entry_out *)(g->reply + at);
				at += (int)sizeof(*entry);
			}
			dirent = (const struct fuse_dirent *)(g->reply + at);
			at += (int)VFSD_ALIGN_UP(sizeof(*dirent) + dirent->namelen, 8u);
			CHECK(at <= n);
			CHECK(dirent->namelen < sizeof(name));
			memcpy(name, dirent->name, dirent->namelen);
			name[dirent->namelen] = '\0';
			offset = dirent->off;
			if (name[0] == '.') {
				dots++;
				CHECK_EQ(dirent->type, DT_DIR);
				CHECK(!entry || entry->nodeid == 0);
				continue;
			}
			CHECK_EQ(sscanf(name, "entry-%d", &index), 1);
			CHECK(index >= 0 && index < MANY && !seen[index]);
			seen[index] = true;
			CHECK_EQ(dirent->type, DT_REG);
			if (!entry)
				continue;
			lookups++;
			CHECK(entry->nodeid > VFSD_NODEID_ROOT);
			CHECK_EQ(entry->attr.ino, dirent->ino);
			CHECK_EQ(entry->attr.mode, S_IFREG | 0644);
		}
	}
	CHECK_EQ(n, 0);
	CHECK_EQ(dots, 2);
	for (int i = 0; i < MANY; i++)
		CHECK(seen[i]);
	return lookups;
}

static void test_directories(struct fuse_guest *g)
{
	static const uint32_t sizes[] = {400, 1024, 4096, 65536, 1 << 20};
	struct fuse_fsync_in sync = {0};
	struct fuse_open_out opened;
	struct fuse_init_out out;
	char name[32];

	for (int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof(name), "entry-%d", i);
		tree_file(&g->tree, name, "");
	}
	CHECK_EQ(fuse_guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &opened), 0);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(sizes); i++) {
		CHECK_EQ(list_all(g, opened.fh, false, sizes[i]), 0);
		CHECK_EQ(vfsd_inodes_count(g->inodes), 1);
	}
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(sizes); i++)
		CHECK_EQ(list_all(g, opened.fh, true, sizes[i]), MANY);
	CHECK_EQ(vfsd_inodes_count(g->inodes), MANY + 1);
	/* Each listing counted one lookup each, and what did not fit none. */
	for (int i = 0; i < MANY; i++) {
		struct fuse_forget_in forget = {.nlookup = VFSD_ARRAY_SIZE(sizes)};
		uint64_t node;

		(void)snprintf(name, sizeof(name), "entry-%d", i);
		node = fuse_guest_node(g, ROOT, name);
		fuse_guest_tell(g, FUSE_FORGET, node, &forget, sizeof(forget));
		CHECK_EQ(vfsd_inodes_count(g->inodes), MANY + 1 - i);
		forget.nlookup = 1;
		fuse_guest_tell(g, FUSE_FORGET, node, &forget, sizeof(forget));
	}
	CHECK_EQ(vfsd_inodes_count(g->inodes), 1);

	CHECK_EQ(fuse_guest_read(g, FUSE_READDIR, ROOT, opened.fh, 0, 8), -EINVAL);
	CHECK_EQ(fuse_guest_read(g, FUSE_READDIRPLUS, ROOT, opened.fh, 0, 100), -EINVAL);
	CHECK_EQ(fuse_guest_read(g, FUSE_READDIR, ROOT, opened.fh, UINT64_MAX, 4096), -EINVAL);
	sync.fh = opened.fh;
	CHECK_EQ(fuse_guest_call(g, FUSE_FSYNCDIR, ROOT, &sync, sizeof(sync), 0), 0);
	CHECK_EQ(fuse_guest_release(g, FUSE_RELEASEDIR, ROOT, opened.fh), 0);
	for (int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof(name), "entry-%d", i);
		CHECK_EQ(unlinkat(g->tree.fd, name, 0), 0);
	}

	/* Not a directory. */
	tree_file(&g->tree, "f", "");
	CHECK_EQ(fuse_guest_open(g, FUSE_OPENDIR, fuse_guest_node(g, ROOT, "f"), 0, &opened),
		 -ENOTDIR);
	CHECK_EQ(unlinkat(g->tree.fd, "f", 0), 0);
	CHECK_EQ(fuse_guest_init(g, 41, UINT64_MAX, &out), 0);
}

/* Who creates */

static void test_credentials(struct fuse_guest *g)
{
	const struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	const struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0644};
	const struct fuse_mknod_in device_in = {.mode = S_IFCHR | 0600, .rdev = 0x12345678};
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	unsigned int i = 0;
	static const struct {
		uint32_t uid, gid;
	} callers[] = {{1234, 5678}, {0, 77}, {88, 0}, {UINT32_MAX, UINT32_MAX}, {0, 0}};

	if (geteuid() != 0) {
		(void)fprintf(stderr, "left out: credentials\n");
		return;
	}
	/* The guest's kernel may know of a group that lets this user in. */
	CHECK_EQ(mkdirat(g->tree.fd, "closed", 0770), 0);
	uint64_t closed = fuse_guest_node(g, ROOT, "closed");

	for (i = 0; i < VFSD_ARRAY_SIZE(callers); i++) {
		uint32_t uid = callers[i].uid == UINT32_MAX ? 0 : callers[i].uid;
		uint32_t gid = callers[i].gid == UINT32_MAX ? 0 : callers[i].gid;
		const char *const names[] = {"closed/d", "closed/n", "closed/f", "closed/l"};

		g->uid = callers[i].uid;
		g->gid = callers[i].gid;
		CHECK_EQ(make(g, FUSE_MKDIR, closed, &mkdir_in, 8, "d", &entry), 0);
		CHECK_EQ(make(g, FUSE_MKNOD, closed, &mknod_in, 16, "n", &entry), 0);
		CHECK_EQ(entry.attr.uid, uid);
		CHECK_EQ(entry.attr.gid, gid);
		CHECK_EQ(fuse_guest_create_file(g, closed, "f", O_RDWR, 0644, &entry, &opened), 0);
		CHECK_EQ(entry.attr.uid, uid);
		CHECK_EQ(fuse_guest_release(g, FUSE_RELEASE, entry.nodeid, opened.fh), 0);
		CHECK_EQ(fuse_guest_call(g, FUSE_SYMLINK, closed, "l\0t", 4, 128), 0);
		/* Errors restore, too. */
		CHECK_EQ(make(g, FUSE_MKDIR, closed, &mkdir_in, 8, "d", &entry), -EEXIST);
		CHECK_EQ(geteuid(), 0);
		CHECK_EQ(getegid(), 0);
		for (size_t n = 0; n < VFSD_ARRAY_SIZE(names); n++) {
			CHECK_EQ(stat_of(g, names[n]).st_uid, uid);
			CHECK_EQ(stat_of(g, names[n]).st_gid, gid);
			CHECK_EQ(unlinkat(g->tree.fd, names[n], n ? 0 : AT_REMOVEDIR), 0);
		}
	}
	/* Devices are root's business, and not every host lets even root. */
	g->uid = 1234;
	CHECK_EQ(make(g, FUSE_MKNOD, closed, &device_in, 16, "n", &entry), -EPERM);
	g->uid = g->gid = 0;
	if (make(g, FUSE_MKNOD, closed, &device_in, 16, "n", &entry) == 0) {
		CHECK_EQ(entry.attr.rdev, 0x12345678);
		CHECK_EQ(unlinkat(g->tree.fd, "closed/n", 0), 0);
	}
	CHECK_EQ(unlinkat(g->tree.fd, "closed", AT_REMOVEDIR), 0);
}

/* Mounts: in a child with its own, so that nothing stays behind. */

static void submount(enum vfsd_handle_policy handles, bool announce)
{
	const struct fuse_guest_config config = {.handles = handles,
						 .fuse = {.options.announce_submounts = announce}};
	const uint32_t expected = announce ? FUSE_ATTR_SUBMOUNT : 0;
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_init_out out;
	struct fuse_guest g;

	fuse_guest_create(&g, &config);
	CHECK_EQ(chdir(g.tree.path), 0);
	CHECK_EQ(mkdirat(g.tree.fd, "m", 0755), 0);
	CHECK_EQ(mkdirat(g.tree.fd, "b", 0755), 0);
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "m", &entry), 0);
	CHECK(!(entry.attr.flags & FUSE_ATTR_SUBMOUNT));
	CHECK_EQ(mount("vfsd", "m", "tmpfs", 0, NULL), 0);
	CHECK_EQ(mount("b", "b", NULL, MS_BIND, NULL), 0); /* the same filesystem, another mount */
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "m", &entry), 0);
	CHECK_EQ(entry.attr.flags & FUSE_ATTR_SUBMOUNT, expected);
	CHECK_EQ(fuse_guest_create_file(&g, entry.nodeid, "f", O_RDWR, 0644, &entry, &opened), 0);
	CHECK(!(entry.attr.flags & FUSE_ATTR_SUBMOUNT));
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "b", &entry), 0);
	CHECK_EQ(entry.attr.flags & FUSE_ATTR_SUBMOUNT, expected);
	CHECK_EQ(fuse_guest_init(&g, 41, 0, &out), 0); /* a guest that knows nothing of them */
	CHECK_EQ(fuse_guest_lookup(&g, ROOT, "m", &entry), 0);
	CHECK(!(entry.attr.flags & FUSE_ATTR_SUBMOUNT));
	CHECK_EQ(fuse_guest_call(&g, FUSE_DESTROY, 0, NULL, 0, 0), 0);
	CHECK_EQ(umount2("m", 0), 0);
	CHECK_EQ(umount2("b", 0), 0);
	CHECK_EQ(chdir("/"), 0);
	fuse_guest_destroy(&g);
}

static void test_submounts(enum vfsd_handle_policy handles)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		if (!tree_own_mounts())
			_exit(0);
		submount(handles, true);
		submount(handles, false);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
}

int main(void)
{
	static const enum vfsd_handle_policy policies[] = {VFSD_HANDLES_NEVER, VFSD_HANDLES_PREFER};

	(void)umask(0); /* as the daemon does */
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(policies); i++) {
		const struct fuse_guest_config config = {
			.handles = policies[i],
			.fuse = {.options.readdirplus = true},
		};
		struct fuse_guest g;

		fuse_guest_create(&g, &config);
		CHECK_EQ(fchmod(g.tree.fd, 0777), 0);
		test_directories(&g);
		test_read_write(&g);
		test_create_existing(&g);
		test_setattr(&g);
		test_kill_priv(&g);
		test_statfs(&g);
		test_names(&g);
		test_removed_directory(&g, policies[i]);
		test_credentials(&g);
		fuse_guest_destroy(&g);
		test_submounts(policies[i]);
	}
	test_open_flags();
	test_fd_quota(VFSD_HANDLES_NEVER);
	test_fd_quota(VFSD_HANDLES_PREFER);
	return 0;
}
