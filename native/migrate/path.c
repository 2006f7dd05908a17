/* SPDX-License-Identifier: BSD-3-Clause */
#include "migrate/path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inode/inode.h"
#include "base/proc_fd.h"
#include "base/util.h"

enum { OPEN_RETRIES = 64 };

int vfsd_state_open_path(struct vfsd_inodes *inodes, const char *path)
{
	const struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	struct vfsd_inode *root = vfsd_inode_get(inodes, VFSD_NODEID_ROOT);
	bool transient = false;
	int error = -ESTALE;
	int root_fd;
	int fd = -1;

	if (!root)
		return error;
	root_fd = vfsd_inode_fd_get(inodes, root, &transient);
	if (root_fd >= 0 && !path[0]) {
		fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 0);
		error = fd < 0 ? -errno : 0;
	}
	/* EAGAIN: directories are being renamed. */
	for (int i = 0; root_fd >= 0 && fd < 0 && i < OPEN_RETRIES; i++) {
		fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
		error = fd < 0 ? -errno : 0;
		if (error != -EAGAIN)
			break;
	}
	if (root_fd >= 0)
		vfsd_inode_fd_put(root_fd, transient);
	else
		error = root_fd;
	vfsd_inode_put(inodes, root);
	return error ? error : fd;
}

/* The path of @fd in /proc/self/fd, NUL-terminated. Returns its length or -errno. */
static ssize_t host_path(int proc_self_fd, int fd, char path[VFSD_STATE_PATH_MAX])
{
	ssize_t n = readlinkat(proc_self_fd, vfsd_proc_name(fd).name, path, VFSD_STATE_PATH_MAX);

	if (n < 0)
		return -errno;
	if (n == VFSD_STATE_PATH_MAX)
		return -ENAMETOOLONG;
	path[n] = '\0';
	return n;
}

int vfsd_state_root_find(struct vfsd_inodes *inodes, int proc_self_fd, struct vfsd_state_root *ret)
{
	int fd = vfsd_state_open_path(inodes, "");
	ssize_t n;

	if (fd < 0)
		return fd;
	ret->inodes = inodes;
	ret->proc_self_fd = proc_self_fd;
	n = host_path(proc_self_fd, fd, ret->path);
	(void)close(fd);
	if (n < 0)
		return (int)n;
	ret->bytes = n == 1 ? 0 : (size_t)n; /* "/": in a sandbox */
	return 0;
}

bool vfsd_state_same_inode(int a, int b)
{
	struct statx sta, stb;
	const unsigned int mask = STATX_TYPE | STATX_INO | STATX_MNT_ID;

	return statx(a, "", AT_EMPTY_PATH, mask, &sta) == 0 &&
	       statx(b, "", AT_EMPTY_PATH, mask, &stb) == 0 && sta.stx_ino == stb.stx_ino &&
	       sta.stx_dev_major == stb.stx_dev_major && sta.stx_dev_minor == stb.stx_dev_minor &&
	       sta.stx_mnt_id == stb.stx_mnt_id;
}

/* Open @path if that is the inode of @fd. The fd or -ENOENT. */
static int open_same(const struct vfsd_state_root *root, int fd, const char *path)
{
	VFSD_FD_GUARD found = vfsd_state_open_path(root->inodes, path);

	return found >= 0 && vfsd_state_same_inode(fd, found) ? vfsd_fd_take(&found) : -ENOENT;
}

static bool ends_with(const char *text, size_t bytes, const char *end)
{
	size_t n = strlen(end);

	return bytes >= n && memcmp(text + bytes - n, end, n) == 0;
}

int vfsd_state_path_of(const struct vfsd_state_root *root, int fd, bool certain,
		       char buffer[VFSD_STATE_PATH_MAX], const char **ret)
{
	ssize_t n = host_path(root->proc_self_fd, fd, buffer);
	int found;

	if (n < 0)
		return (int)n;
	if ((size_t)n <= root->bytes + 1 || buffer[root->bytes] != '/' ||
	    memcmp(buffer, root->path, root->bytes) != 0)
		return -ENOENT;
	*ret = buffer + root->bytes + 1;
	/* The kernel appends this to the path of an inode without a name, but a name may end like that, too. */
	if (certain && !ends_with(buffer, (size_t)n, " (deleted)"))
		return 0;
	found = open_same(root, fd, *ret);
	if (found < 0)
		return found;
	(void)close(found);
	return 0;
}

int vfsd_state_find_path(const struct vfsd_state_root *root, int fd, const char *hint)
{
	char buffer[VFSD_STATE_PATH_MAX];
	const char *path;
	int found = hint[0] ? open_same(root, fd, hint) : -ENOENT;
	int error;

	if (found >= 0)
		return found;
	error = vfsd_state_path_of(root, fd, true, buffer, &path);
	return error ? error : open_same(root, fd, path);
}
