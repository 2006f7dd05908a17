/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening the inode of a remembered id. It is opened by its handle, and must be below the root, or in the
 * directory where it was found.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/proc_fd.h"
#include "base/statx.h"
#include "inode/internal.h"
#include "base/util.h"

enum { DENTS_BYTES = 32 << 10 };

/*
 * Is @fd (O_PATH), an inode of @type, below the root by what the host's dentry cache knows? For a directory the
 * answer is certain. For anything else "no" may only mean that its name is not in the cache.
 */
static bool is_found_below_root(struct vfsd_inodes *inodes, int fd, uint32_t type)
{
	const int root = vfsd_fd_number(atomic_load(&vfsd_slot_at(inodes, VFSD_NODEID_ROOT)->fd));
	char path[PATH_MAX], top[PATH_MAX];
	VFSD_FD_GUARD found = -1;
	size_t n;

	if (type == S_IFDIR)
		return vfsd_inode_is_below_root(inodes, fd);
	if (vfsd_proc_path(inodes->config.proc_self_fd, fd, path) < 0 ||
	    vfsd_proc_path(inodes->config.proc_self_fd, root, top) < 0)
		return false;
	n = strcmp(top, "/") == 0 ? 0 : strlen(top);
	if (strncmp(path, top, n) != 0 || path[n] != '/')
		return false;
	/* Check that this path leads to @fd: the text may be out of date. */
	found = vfsd_open_beneath(root, path + n + 1);
	return found >= 0 && vfsd_statx_same(found, fd);
}

/* Has the directory @dir_fd an entry with @handle, which is open as @fd? Reads the whole directory. */
static bool is_in(const struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle, int fd,
		  int dir_fd)
{
	_Alignas(struct dirent64) uint8_t dents[DENTS_BYTES];
	VFSD_FD_GUARD dir =
		vfsd_proc_reopen(inodes->config.proc_self_fd, dir_fd, O_RDONLY | O_DIRECTORY);
	struct statx st;
	ssize_t n;

	if (dir < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st))
		return false;
	while ((n = getdents64(dir, dents, sizeof(dents))) > 0) {
		const struct dirent64 *entry;

		for (ssize_t at = 0; at < n; at += entry->d_reclen) {
			entry = (const struct dirent64 *)(dents + at);
			if (entry->d_ino == st.stx_ino &&
			    vfsd_inode_handle_is_at(handle, dir, entry->d_name))
				return true;
		}
	}
	return false;
}

/* Open (O_PATH) the directory with that id, held by the guest or remembered. The fd or -errno. */
static int open_directory(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct vfsd_inode *inode = vfsd_inode_get(inodes, nodeid);
	bool transient;
	int fd, own;

	if (!inode)
		return vfsd_inode_open_forgotten(inodes, nodeid);
	fd = inode->type == S_IFDIR ? vfsd_inode_fd_get(inodes, inode, &transient) : -ESTALE;
	own = fd;
	if (fd >= 0 && !transient)
		own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	vfsd_inode_put(inodes, inode);
	return own;
}

/* Is @fd, which has @handle, below the root: by the dentry cache, or as an entry of @parent? */
static bool is_below_root(struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
			  uint64_t parent, int fd, uint32_t type)
{
	VFSD_FD_GUARD dir = -1;

	if (is_found_below_root(inodes, fd, type))
		return true;
	if (type == S_IFDIR || !parent)
		return false;
	dir = open_directory(inodes, parent);
	return dir >= 0 && vfsd_inode_is_below_root(inodes, dir) && is_in(inodes, handle, fd, dir);
}

int vfsd_inode_open_forgotten(struct vfsd_inodes *inodes, uint64_t nodeid)
{
	struct vfsd_forgotten_id id;
	struct vfsd_host_mount *mount;
	int fd;

	if (!vfsd_forgotten_find(inodes, nodeid, &id))
		return -ESTALE;
	/* The host may have reused the numbers of mount and device: compare the filesystem, too. */
	mount = vfsd_host_mount_find(inodes, id.dev, id.mnt_id);
	if (!mount)
		return -ESTALE;
	fd = mount->fsid == id.handle.fsid ?
		     vfsd_file_handle_open(atomic_load(&mount->fd), &id.handle,
					   O_PATH | O_NOFOLLOW) :
		     -ESTALE;
	vfsd_host_mount_put(inodes, mount);
	if (fd >= 0 && !is_below_root(inodes, &id.handle, id.parent, fd, id.type)) {
		(void)close(fd);
		fd = -ESTALE;
	}
	return fd;
}
