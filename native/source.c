/* SPDX-License-Identifier: BSD-3-Clause */
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "inode.h"
#include "util.h"

uint32_t vfsd_source_next_bit(uint32_t *mask)
{
	static const uint32_t order[] = {
		FAN_CREATE,	 FAN_MOVED_FROM,    FAN_MOVED_TO,    FAN_MOVE_SELF,
		FAN_OPEN,	 FAN_ACCESS,	    FAN_MODIFY,	     FAN_ATTRIB,
		FAN_CLOSE_WRITE, FAN_CLOSE_NOWRITE, FAN_DELETE_SELF, FAN_DELETE,
	};

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(order); i++) {
		if (*mask & order[i]) {
			*mask &= ~order[i];
			return order[i];
		}
	}
	return 0;
}

uint64_t vfsd_source_node_at(struct vfsd_inodes *inodes, struct vfsd_inode *dir, const char *name,
			     bool *exists)
{
	struct vfsd_inode *inode;
	uint64_t nodeid = 0;
	bool transient;
	int fd;

	*exists = false;
	fd = vfsd_inode_fd_get(inodes, dir, &transient);
	if (fd < 0)
		return 0;
	inode = vfsd_inode_find_name(inodes, fd, name, exists);
	vfsd_inode_fd_put(fd, transient);
	if (inode) {
		nodeid = inode->nodeid;
		vfsd_inode_put(inodes, inode);
	}
	return nodeid;
}

bool vfsd_source_is_unlinked(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	struct statx st;
	bool transient;
	int fd = vfsd_inode_fd_get(inodes, inode, &transient);
	bool gone;

	if (fd < 0)
		return fd == -ESTALE;
	gone = statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &st) == 0 && st.stx_nlink == 0;
	vfsd_inode_fd_put(fd, transient);
	return gone;
}
