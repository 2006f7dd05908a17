/* SPDX-License-Identifier: BSD-3-Clause */
#include "migrate/path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "inode/inode.h"
#include "base/proc_fd.h"
#include "base/statx.h"
#include "base/util.h"

int vfsd_state_open_path(struct vfsd_inodes *inodes, const char *path)
{
	struct vfsd_inode *root = vfsd_inode_get(inodes, VFSD_NODEID_ROOT);
	bool transient = false;
	int root_fd;
	int fd;

	if (!root)
		return -ESTALE;
	root_fd = vfsd_inode_fd_get(inodes, root, &transient);
	if (root_fd < 0 || path[0])
		fd = root_fd < 0 ? root_fd : vfsd_open_beneath(root_fd, path);
	else if ((fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 0)) < 0) /* it may be no directory */
		fd = -errno;
	vfsd_inode_fd_put(root_fd, transient);
	vfsd_inode_put(inodes, root);
	return fd;
}

int vfsd_state_root_find(struct vfsd_inodes *inodes, int proc_self_fd, struct vfsd_state_root *ret)
{
	int fd = vfsd_state_open_path(inodes, "");
	ssize_t n;

	if (fd < 0)
		return fd;
	ret->inodes = inodes;
	ret->proc_self_fd = proc_self_fd;
	n = vfsd_proc_path(proc_self_fd, fd, ret->path);
	(void)close(fd);
	if (n < 0)
		return (int)n;
	ret->bytes = n == 1 ? 0 : (size_t)n; /* "/": in a sandbox */
	return 0;
}

/* Open @path if that is the inode of @fd. The fd or -ENOENT. */
static int open_same(const struct vfsd_state_root *root, int fd, const char *path)
{
	VFSD_FD_GUARD found = vfsd_state_open_path(root->inodes, path);

	return found >= 0 && vfsd_statx_same(fd, found) ? vfsd_fd_take(&found) : -ENOENT;
}

static bool ends_with(const char *text, size_t bytes, const char *end)
{
	size_t n = strlen(end);

	return bytes >= n && memcmp(text + bytes - n, end, n) == 0;
}

int vfsd_state_path_of(const struct vfsd_state_root *root, int fd, bool certain,
		       char buffer[VFSD_STATE_PATH_MAX], const char **ret)
{
	ssize_t n = vfsd_proc_path(root->proc_self_fd, fd, buffer);
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
