/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * saved_session - all that a migration saves and loads, over a share with a neighbour that no state may lead to.
 * Host events come from a fake source.
 */
#ifndef VFSD_SAVED_SESSION_H
#define VFSD_SAVED_SESSION_H

#include "base/quota.h"
#include "check.h"
#include "fake_source.h"
#include "fsnotify/events.h"
#include "fuse/fuse.h"
#include "fuse/wire.h"
#include "inode/open_file.h"
#include "migrate/state.h"
#include "tree.h"

enum { SESSION_RING_BYTES = 1 << 14 };

struct share {
	struct tree tree; /* "share", and "outside" beside it */
	int fd;
};

static inline void share_create(struct share *share)
{
	tree_create(&share->tree);
	CHECK_EQ(mkdirat(share->tree.fd, "share", 0700), 0);
	CHECK_EQ(mkdirat(share->tree.fd, "share/d", 0700), 0);
	tree_file(&share->tree, "share/d/f", "data");
	tree_file(&share->tree, "share/g", "more");
	CHECK_EQ(symlinkat("../outside", share->tree.fd, "share/l"), 0);
	CHECK_EQ(mkdirat(share->tree.fd, "outside", 0700), 0);
	tree_file(&share->tree, "outside/f", "secret");
	share->fd = openat(share->tree.fd, "share", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(share->fd >= 0);
}

static inline void share_destroy(struct share *share)
{
	CHECK_EQ(close(share->fd), 0);
	tree_destroy(&share->tree);
}

struct session {
	struct vfsd_quota quota;
	struct vfsd_state_config config;
};

static inline void session_create(struct session *session, int root,
				  enum vfsd_handle_policy handles)
{
	const struct vfsd_inodes_config inodes = {
		.options.file_handles = handles,
		.need_handles = true,
		.fd_quota = &session->quota,
		.proc_self_fd = tree_proc_self_fd(),
	};
	struct vfsd_state_config *config = &session->config;
	const struct vfsd_fuse_config fuse = {.options.cache = VFSD_CACHE_AUTO};
	struct vfsd_events_config events = {
		.source = &fake_source_merged,
		.proc_self_fd = inodes.proc_self_fd,
		.options.ring_kib = SESSION_RING_BYTES / 1024,
	};

	fake_reset();
	session->quota = (struct vfsd_quota){.limit = 100};
	*config = (struct vfsd_state_config){.proc_self_fd = inodes.proc_self_fd};
	CHECK_EQ(vfsd_inodes_create(&inodes, dup(root), &config->inodes), 0);
	CHECK_EQ(vfsd_open_files_create(&session->quota, &config->open_files), 0);
	events.inodes = config->inodes;
	CHECK_EQ(vfsd_events_create(&events, &config->events), 0);
	CHECK_EQ(vfsd_fuse_create(&fuse, NULL, NULL, NULL, config->inodes, config->open_files,
				  &config->fuse),
		 0);
}

static inline void session_destroy(struct session *session)
{
	const struct vfsd_state_config *config = &session->config;

	vfsd_fuse_destroy(config->fuse);
	vfsd_events_destroy(config->events);
	vfsd_open_files_destroy(config->open_files);
	vfsd_inodes_destroy(config->inodes);
	CHECK_EQ(session->quota.used, 0);
	CHECK_EQ(close(config->proc_self_fd), 0);
}

/* As a LOOKUP. Returns the node id. */
static inline uint64_t session_look_up(struct session *session, int root, const char *path)
{
	int fd = openat(root, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct vfsd_inode *inode;
	uint64_t nodeid;
	struct statx st;

	CHECK_EQ(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st), 0);
	CHECK_EQ(vfsd_inode_lookup_fd(session->config.inodes, fd, &st, &inode), 0);
	nodeid = inode->nodeid;
	vfsd_inode_put(session->config.inodes, inode);
	return nodeid;
}

/* As an OPEN. Returns the fh. */
static inline uint64_t session_open(struct session *session, uint64_t nodeid, int flags)
{
	struct vfsd_inode *inode = vfsd_inode_get(session->config.inodes, nodeid);
	uint64_t fh;
	int fd;

	CHECK(inode);
	fd = vfsd_inode_open(session->config.inodes, inode, flags);
	CHECK(fd >= 0);
	CHECK_EQ(vfsd_open_file_add(session->config.open_files, fd, nodeid, &fh), 0);
	vfsd_inode_put(session->config.inodes, inode);
	return fh;
}

static inline void session_watch(struct session *session, uint64_t nodeid, uint64_t owner,
				 uint32_t mask)
{
	struct vfsd_inode *inode = vfsd_inode_get(session->config.inodes, nodeid);

	CHECK(inode);
	CHECK_EQ(vfsd_events_watch(session->config.events, inode, owner, mask), 0);
	vfsd_inode_put(session->config.inodes, inode);
}

/* Is what the guest knows as @nodeid the file at @path, with that many lookups? */
static inline bool session_knows(struct session *session, uint64_t nodeid, int root,
				 const char *path, uint64_t lookups)
{
	struct vfsd_inode *inode = vfsd_inode_get(session->config.inodes, nodeid);
	bool transient, same = false;
	struct stat here, there;
	int fd;

	if (!inode)
		return false;
	CHECK_EQ(vfsd_inode_lookups(inode), lookups);
	fd = vfsd_inode_fd_get(session->config.inodes, inode, &transient);
	if (fd >= 0) {
		CHECK_EQ(fstat(fd, &here), 0);
		CHECK_EQ(fstatat(root, path, &there, AT_SYMLINK_NOFOLLOW), 0);
		same = here.st_ino == there.st_ino && here.st_dev == there.st_dev;
	}
	vfsd_inode_fd_put(fd, transient);
	vfsd_inode_put(session->config.inodes, inode);
	return same;
}

/* Nothing but the root, as before the first INIT. */
static inline bool session_is_empty(struct session *session)
{
	return vfsd_inodes_count(session->config.inodes) == 1 &&
	       vfsd_open_files_count(session->config.open_files) == 0 &&
	       vfsd_fuse_session(session->config.fuse) == 0 && !fake.now;
}

/* Can handles be opened in this share, and by this process? */
static inline bool share_has_handles(const struct share *share)
{
	struct session session;
	bool has;

	session_create(&session, share->fd, VFSD_HANDLES_PREFER);
	has = vfsd_inodes_are_by_handle(session.config.inodes);
	session_destroy(&session);
	if (!has)
		(void)fprintf(stderr, "left out: file handles\n");
	return has;
}

#endif
