/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/faults.h"
#include "base/proc_fd.h"
#include "inode/inode.h"
#include "base/util.h"

void vfsd_source_took(struct vfsd_source *source, const struct vfsd_source_sink *sink,
		      bool overflow)
{
	source->after_overflow |= source->overflow != VFSD_SOURCE_COMPLETE;
	if (!overflow)
		return;
	source->overflow = VFSD_SOURCE_LOST_NOW;
	sink->lost(sink->ctx);
}

void vfsd_source_end_drain(struct vfsd_source *source, const struct vfsd_source_sink *sink)
{
	int waiting = 0;

	if (source->overflow == VFSD_SOURCE_COMPLETE)
		return;
	if (source->after_overflow)
		sink->lost(sink->ctx);
	source->after_overflow = false;
	/* What waits now was perhaps queued while the overflow event was still there. */
	if (source->overflow == VFSD_SOURCE_LOST_NOW &&
	    ioctl(source->fd, FIONREAD, &waiting) == 0 && waiting > 0)
		source->overflow = VFSD_SOURCE_LOST_BEFORE;
	else
		source->overflow = VFSD_SOURCE_COMPLETE;
}

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

uint64_t vfsd_source_node_in(struct vfsd_inodes *inodes, int dir_fd, const char *name, bool *exists)
{
	struct vfsd_inode *inode = vfsd_inode_find_name(inodes, dir_fd, name, exists);
	uint64_t nodeid;

	vfsd_faults_hold(dir_fd, name);
	if (!inode)
		return 0;
	nodeid = inode->nodeid;
	vfsd_inode_put(inodes, inode);
	return nodeid;
}

enum { TOO_LONG = NAME_MAX + 1 };

/*
 * Whoever removes a name holds the directory's lock until that is in the queue. A lookup that no cache can
 * answer waits for the lock; one that fails leaves no trace.
 */
static void await_lock(int fd, const char *dir)
{
	char path[2 * TOO_LONG];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s%0*d", dir, TOO_LONG, 0);
	(void)fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW);
}

void vfsd_source_await_removals(int dir_fd)
{
	await_lock(dir_fd, "");
}

void vfsd_source_outlast(int fd)
{
	/* As deep a tree as is likely to go while one of its names is looked up. */
	static const char up[] = "../../../../../../../../";
	struct stat st;

	for (const char *dir = up + sizeof(up) - 1; dir > up; dir -= 3) {
		if (fstatat(fd, *dir ? dir : ".", &st, 0) < 0 || st.st_nlink != 0)
			return;
		await_lock(fd, dir - 3);
	}
}

bool vfsd_source_lost_name(int dir_fd, const char *name, const struct vfsd_file_handle *object)
{
	struct stat st;

	if (object ? vfsd_inode_handle_is_at(object, dir_fd, name) :
		     fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	vfsd_source_await_removals(dir_fd); /* it may not be in the queue yet */
	return true;
}

int vfsd_source_begin(const struct vfsd_source_config *config, struct vfsd_inode *inode,
		      uint32_t watches, uint32_t max, bool is_new, bool *transient)
{
	if (is_new && max != 0 && watches >= max)
		return -ENOSPC;
	/* A pinned dentry would keep the host from reporting the end of the object. */
	if (is_new && inode->nodeid != VFSD_NODEID_ROOT)
		(void)vfsd_inode_unpin(config->inodes, inode);
	return vfsd_inode_fd_get(config->inodes, inode, transient);
}

/*
 * What the directory @fd is called in its parent @up; checked, for the path is only a hint. By numbers:
 * nothing else has those of what is open.
 */
static bool name_in(int proc_self_fd, int up, int fd, char name[VFSD_SOURCE_NAME_BYTES])
{
	char path[PATH_MAX];
	struct stat here, there;
	const char *last;
	ssize_t n;

	n = readlinkat(proc_self_fd, vfsd_proc_name(fd).name, path, sizeof(path) - 1);
	if (n <= 0)
		return false;
	path[n] = '\0';
	last = strrchr(path, '/');
	if (!last || last[1] == '\0' || strlen(last + 1) >= VFSD_SOURCE_NAME_BYTES)
		return false;
	if (fstat(fd, &here) < 0 || fstatat(up, last + 1, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
	    here.st_ino != there.st_ino || here.st_dev != there.st_dev)
		return false;
	memcpy(name, last + 1, strlen(last + 1) + 1);
	return true;
}

struct vfsd_inode *vfsd_source_parent_of(struct vfsd_inodes *inodes, int proc_self_fd, int fd,
					 char name[VFSD_SOURCE_NAME_BYTES])
{
	struct vfsd_inode *parent;
	bool exists;
	int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (up < 0)
		return NULL;
	parent = vfsd_inode_find_name(inodes, up, "", &exists);
	if (parent && !name_in(proc_self_fd, up, fd, name)) {
		vfsd_inode_put(inodes, parent);
		parent = NULL;
	}
	(void)close(up);
	return parent;
}

bool vfsd_source_is_unlinked(struct vfsd_inodes *inodes, struct vfsd_inode *inode)
{
	struct statx st;
	bool transient, gone;
	int fd;

	if (!vfsd_inode_is_pinned(inode))
		return false;
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	if (fd < 0) /* unpinned meanwhile */
		return false;
	gone = statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &st) == 0 && st.stx_nlink == 0;
	vfsd_inode_fd_put(fd, transient);
	return gone;
}
