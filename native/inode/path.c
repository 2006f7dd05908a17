/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where on the host an inode is.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inode/internal.h"
#include "base/util.h"

enum { DENTS_BYTES = 32 << 10 };

/* The path that the host's cache knows of what is open as @fd. False: none. */
static bool path_of(const struct vfsd_inodes *inodes, int fd, char path[PATH_MAX])
{
	char name[16];
	ssize_t n;

	(void)snprintf(name, sizeof(name), "%d", fd);
	n = readlinkat(inodes->config.proc_self_fd, name, path, PATH_MAX);
	if (n <= 0 || n == PATH_MAX || path[0] != '/')
		return false;
	path[n] = '\0';
	return true;
}

static bool is_same(int a, int b)
{
	struct statx at, bt;

	return statx(a, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &at) == 0 &&
	       statx(b, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &bt) == 0 &&
	       at.stx_ino == bt.stx_ino && vfsd_statx_dev(&at) == vfsd_statx_dev(&bt) &&
	       vfsd_statx_mnt(&at) == vfsd_statx_mnt(&bt);
}

bool vfsd_inode_is_found_below_root(struct vfsd_inodes *inodes, int fd, uint32_t type)
{
	const struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	const int root = vfsd_fd_number(atomic_load(&vfsd_slot_at(inodes, VFSD_NODEID_ROOT)->fd));
	char path[PATH_MAX], top[PATH_MAX];
	VFSD_FD_GUARD found = -1;
	size_t n;

	if (type == S_IFDIR)
		return vfsd_inode_is_below_root(inodes, fd);
	if (!path_of(inodes, fd, path) || !path_of(inodes, root, top))
		return false;
	n = strcmp(top, "/") == 0 ? 0 : strlen(top);
	if (strncmp(path, top, n) != 0 || path[n] != '/')
		return false;
	/* A name is taken at its word only if it leads there. */
	found = (int)syscall(SYS_openat2, root, path + n + 1, &how, sizeof(how));
	return found >= 0 && is_same(found, fd);
}

bool vfsd_inode_is_in(const struct vfsd_inodes *inodes, const struct vfsd_file_handle *handle,
		      int fd, int dir_fd)
{
	_Alignas(struct dirent64) uint8_t dents[DENTS_BYTES];
	VFSD_FD_GUARD dir = -1;
	struct statx st;
	char name[16];
	ssize_t n;

	(void)snprintf(name, sizeof(name), "%d", dir_fd);
	dir = openat(inodes->config.proc_self_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
