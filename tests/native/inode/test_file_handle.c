/* SPDX-License-Identifier: BSD-3-Clause */
/* File handles: equal or not, what number is in them, and what the host makes and opens of them. */
#include "check.h"
#include "inode/internal.h"
#include "tree.h"

static struct vfsd_file_handle handle_of(int32_t type, const void *data, uint32_t bytes)
{
	struct vfsd_file_handle handle = {.fsid = 5, .type = type, .bytes = bytes};

	memcpy(handle.data, data, bytes);
	return handle;
}

static void test_equal_and_copy(void)
{
	const struct vfsd_file_handle a = handle_of(1, "abcdefgh", 8);
	struct vfsd_file_handle b = a, copy;

	CHECK(vfsd_file_handle_equal(&a, &b));
	b.data[8] = 'x'; /* behind its bytes */
	CHECK(vfsd_file_handle_equal(&a, &b));
	b.data[7] = 'x';
	CHECK(!vfsd_file_handle_equal(&a, &b));
	b = a;
	b.fsid++;
	CHECK(!vfsd_file_handle_equal(&a, &b));
	b = a;
	b.type++;
	CHECK(!vfsd_file_handle_equal(&a, &b));
	b = a;
	b.bytes--;
	CHECK(!vfsd_file_handle_equal(&a, &b));
	memset(&copy, 0xee, sizeof(copy));
	vfsd_file_handle_copy(&copy, &a);
	CHECK(vfsd_file_handle_equal(&a, &copy));
	CHECK_EQ(copy.data[8], 0xee); /* where a slot may have no more room */
}

static void test_number_in_a_handle(void)
{
	static const uint32_t words[8] = {7, 8, 9, 10, 11};
	const uint64_t low = 7 | UINT64_C(8) << 32, tmpfs = 8 | UINT64_C(9) << 32;
	static const struct {
		enum vfsd_host_fs fs;
		int32_t type;
		uint32_t bytes;
		int want; /* 0: none, 1: the first word, 2: the first two, 3: of tmpfs */
	} table[] = {
		{VFSD_FS_EXT4, 1, 8, 1},      {VFSD_FS_EXT4, 1, 7, 0},
		{VFSD_FS_EXT4, 2, 8, 0},      {VFSD_FS_EXT4, 1, 21, 0},
		{VFSD_FS_XFS, 1, 8, 1},	      {VFSD_FS_XFS, 0x81, 12, 2},
		{VFSD_FS_XFS, 0x82, 12, 0},   {VFSD_FS_BTRFS, 0x4d, 20, 2},
		{VFSD_FS_BTRFS, 0x4e, 20, 0}, {VFSD_FS_BTRFS, 1, 20, 0},
		{VFSD_FS_TMPFS, 1, 12, 3},    {VFSD_FS_TMPFS, 1, 8, 0},
		{VFSD_FS_TMPFS, 0x81, 12, 0}, {VFSD_FS_OTHER, 1, 8, 0},
		{VFSD_FS_OTHER, 0x81, 12, 0}, {VFSD_FS_EXT4, 1, 0, 0},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		const struct vfsd_file_handle handle =
			handle_of(table[i].type, words, table[i].bytes);
		const uint64_t want[] = {0, words[0], low, tmpfs};

		CHECK_EQ(vfsd_file_handle_ino(table[i].fs, &handle), want[table[i].want]);
	}
}

/* What the host says of names and descriptors. */
static void test_encode(const struct tree *tree)
{
	struct vfsd_file_handle by_name = {.fsid = 0}, by_fd = {.fsid = 0}, other = {.fsid = 0};
	uint64_t mnt_id, mnt_of_fd;
	bool reopenable, fd_reopenable;
	int fd, error;

	tree_file(tree, "f", "data");
	tree_file(tree, "g", "more");
	CHECK_EQ(symlinkat("f", tree->fd, "l"), 0);
	error = vfsd_file_handle_encode(tree->fd, "f", true, &by_name, &reopenable, &mnt_id);
	if (error) {
		(void)fprintf(stderr, "left out: a filesystem with handles\n");
		return;
	}
	fd = openat(tree->fd, "f", O_PATH | O_CLOEXEC);
	CHECK_EQ(vfsd_file_handle_encode(fd, "", true, &by_fd, &fd_reopenable, &mnt_of_fd), 0);
	CHECK(vfsd_file_handle_equal(&by_name, &by_fd));
	CHECK_EQ(reopenable, fd_reopenable);
	CHECK_EQ(mnt_id, mnt_of_fd);
	CHECK_EQ(vfsd_file_handle_encode(tree->fd, "none", true, &other, &reopenable, &mnt_id),
		 -ENOENT);
	/* A link is not followed. */
	CHECK_EQ(vfsd_file_handle_encode(tree->fd, "l", true, &other, &reopenable, &mnt_id), 0);
	CHECK(!vfsd_file_handle_equal(&by_name, &other));

	CHECK(vfsd_inode_handle_is_at(&by_name, tree->fd, "f"));
	CHECK(!vfsd_inode_handle_is_at(&by_name, tree->fd, "g"));
	CHECK(!vfsd_inode_handle_is_at(&by_name, tree->fd, "l"));
	CHECK(!vfsd_inode_handle_is_at(&by_name, tree->fd, "none"));
	CHECK_EQ(renameat(tree->fd, "g", tree->fd, "f"), 0);
	CHECK(!vfsd_inode_handle_is_at(&by_name, tree->fd, "f"));
	CHECK_EQ(close(fd), 0);
}

static void test_open(const struct tree *tree)
{
	const struct vfsd_file_handle none = {.bytes = 0}, nonsense = handle_of(99, "nonsense", 8);
	struct vfsd_file_handle handle = {.fsid = 0};
	struct stat here, there;
	uint64_t mnt_id;
	bool reopenable;
	int fd;

	CHECK_EQ(vfsd_file_handle_open(tree->fd, &none, O_PATH), -ESTALE);
	tree_file(tree, "h", "data");
	if (vfsd_file_handle_encode(tree->fd, "h", false, &handle, &reopenable, &mnt_id))
		return;
	fd = vfsd_file_handle_open(tree->fd, &handle, O_PATH);
	if (fd == -EPERM) {
		(void)fprintf(stderr, "left out: opening by handle\n");
		return;
	}
	CHECK(fd >= 0 && fstat(fd, &here) == 0);
	CHECK_EQ(fstatat(tree->fd, "h", &there, 0), 0);
	CHECK_EQ(here.st_ino, there.st_ino);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(close(fd), 0);
	CHECK(vfsd_file_handle_open(tree->fd, &nonsense, O_PATH) < 0);
	CHECK_EQ(vfsd_file_handle_open(-1, &handle, O_PATH), -EBADF);
	CHECK_EQ(unlinkat(tree->fd, "h", 0), 0);
	CHECK_EQ(vfsd_file_handle_open(tree->fd, &handle, O_PATH), -ESTALE);
}

int main(void)
{
	struct tree tree;

	tree_create(&tree);
	test_equal_and_copy();
	test_number_in_a_handle();
	test_encode(&tree);
	test_open(&tree);
	tree_destroy(&tree);
	return 0;
}
