/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session's state as another daemon might send it: loaded, or refused without a trace. The share is
 * a directory with a neighbour, which nothing that is loaded may mean. The seeds are states of the
 * share, one for each way of finding inodes again, and one of a guest that had the neighbour, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"
#define VFSD_CHECK_ABORT
#include "check.h"
#include "null_hostfs.h"
#include "tree.h"
#include "fsnotify/events.h"
#include "fuse/fuse.h"
#include "inode/open_file.h"
#include "inode/inode.h"
#include "base/quota.h"
#include "source/source.h"
#include "migrate/state.h"

enum { SEEDS = 4, FILES = 4, NEIGHBOURS = 3 };

struct session {
	struct vfsd_quota quota;
	struct vfsd_state_config config;
};

static const char *const neighbours[NEIGHBOURS] = {"outside", "outside/f", "outside/p"};

static struct tree tree;
static int share;
static ino_t outside[NEIGHBOURS];

static void clean_up(void)
{
	(void)close(share);
	tree_destroy(&tree);
}

static void make_tree(void)
{
	if (tree.fd > 0)
		return;
	tree_create(&tree);
	CHECK(mkdirat(tree.fd, "share", 0700) == 0);
	CHECK(mkdirat(tree.fd, "share/d", 0700) == 0);
	tree_file(&tree, "share/d/f", "data");
	CHECK(symlinkat("../outside", tree.fd, "share/l") == 0);
	CHECK(mkfifoat(tree.fd, "share/p", 0600) == 0);
	CHECK(mkdirat(tree.fd, "outside", 0700) == 0);
	tree_file(&tree, "outside/f", "secret");
	CHECK(mkfifoat(tree.fd, "outside/p", 0600) == 0);
	share = openat(tree.fd, "share", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(share >= 0);
	for (size_t i = 0; i < NEIGHBOURS; i++) {
		struct stat st;

		CHECK(fstatat(tree.fd, neighbours[i], &st, AT_SYMLINK_NOFOLLOW) == 0);
		outside[i] = st.st_ino;
	}
	(void)atexit(clean_up);
}

static void session_create(struct session *session, uint32_t seed, int root)
{
	const struct vfsd_inodes_config inodes = {
		.options.file_handles = seed >= 2 ? VFSD_HANDLES_PREFER : VFSD_HANDLES_NEVER,
		.need_handles = true,
		.fd_quota = &session->quota,
		.proc_self_fd = tree_proc_self_fd(),
	};
	struct vfsd_state_config *config = &session->config;
	const struct vfsd_fuse_config fuse = {.options.cache = VFSD_CACHE_AUTO};
	struct vfsd_events_config events = {
		.source = &vfsd_source_inotify,
		.proc_self_fd = inodes.proc_self_fd,
		.options.ring_kib = 16,
	};

	session->quota = (struct vfsd_quota){.limit = 100};
	*config = (struct vfsd_state_config){
		.proc_self_fd = inodes.proc_self_fd,
		.options = {.mode = seed > 0 ? VFSD_MIGRATION_FILE_HANDLES :
					       VFSD_MIGRATION_FIND_PATHS,
			    .on_error = VFSD_MIGRATION_GUEST_ERROR,
			    .verify_handles = seed == 1,
			    .confirm_paths = true},
	};
	CHECK_EQ(vfsd_inodes_create(&inodes, dup(root), &config->inodes), 0);
	CHECK_EQ(vfsd_open_files_create(&session->quota, &config->open_files), 0);
	events.inodes = config->inodes;
	CHECK_EQ(vfsd_events_create(&events, &config->events), 0);
	CHECK_EQ(vfsd_fuse_create(&fuse, NULL, NULL, NULL, config->inodes, config->open_files,
				  &config->fuse),
		 0);
}

static void session_destroy(struct session *session)
{
	const struct vfsd_state_config *config = &session->config;

	vfsd_fuse_destroy(config->fuse);
	vfsd_events_destroy(config->events);
	vfsd_open_files_destroy(config->open_files);
	vfsd_inodes_destroy(config->inodes);
	CHECK_EQ(session->quota.used, 0);
	(void)close(config->proc_self_fd);
}

size_t vfsd_fuzz_seed(uint32_t index, uint8_t *bytes, size_t max)
{
	static const char *const inside[FILES] = {"d", "d/f", "l", "p"};
	const char *const *names = index == 3 ? neighbours : inside;
	size_t n_names = index == 3 ? NEIGHBOURS : FILES;
	struct session session;
	int root;
	size_t n;
	void *data;

	if (index >= SEEDS)
		return 0;
	make_tree();
	root = index == 3 ? tree.fd : share;
	session_create(&session, index, root);
	CHECK_EQ(vfsd_events_resume(session.config.events, vfsd_source_inotify.server_mask), 0);
	for (size_t i = 0; i < n_names; i++) {
		int fd = openat(root, names[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
		struct vfsd_inode *inode;
		struct statx st;
		uint64_t fh;

		CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) == 0);
		CHECK_EQ(vfsd_inode_lookup_fd(session.config.inodes, fd, &st, &inode), 0);
		if (i < 2) {
			CHECK_EQ(vfsd_open_file_add(session.config.open_files,
						    vfsd_inode_open(session.config.inodes, inode,
								    O_RDONLY),
						    inode->nodeid, &fh),
				 0);
			CHECK_EQ(vfsd_events_watch(session.config.events, inode, 0, 0x100), 0);
		}
		vfsd_inode_put(session.config.inodes, inode);
	}
	CHECK_EQ(vfsd_state_save(&session.config, &data, &n), 0);
	CHECK(n <= max);
	memcpy(bytes, data, n);
	free(data);
	session_destroy(&session);
	return n;
}

static void check_inside(int fd)
{
	struct stat st;

	CHECK(fstat(fd, &st) == 0);
	for (size_t i = 0; i < NEIGHBOURS; i++)
		CHECK(st.st_ino != outside[i]);
}

static int check_inode(void *ctx, struct vfsd_inode *inode, uint64_t nlookup)
{
	struct vfsd_inodes *inodes = ctx;
	bool transient = false;
	int fd = vfsd_inode_fd_get(inodes, inode, &transient);

	CHECK(nlookup > 0);
	if (fd < 0) /* lost */
		return 0;
	check_inside(fd);
	if (inode->type == S_IFDIR)
		CHECK(vfsd_inode_is_below_root(inodes, fd));
	vfsd_inode_fd_put(fd, transient);
	return 0;
}

static int check_file(void *ctx, const struct vfsd_open_file_state *file)
{
	struct stat st;

	(void)ctx;
	if (file->fd < 0)
		return 0;
	check_inside(file->fd);
	CHECK(fstat(file->fd, &st) == 0);
	CHECK(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
	CHECK((fcntl(file->fd, F_GETFL) & (O_PATH | O_APPEND)) == 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int fds;
	struct session session;
	/* From malloc: aligned, and a byte beyond is found out. */
	void *copy = malloc(size ? size : 1);

	make_tree();
	fds = tree_count_fds();
	memcpy(copy, data, size);
	session_create(&session, 2, share);
	if (vfsd_state_load(&session.config, copy, size) != 0) {
		CHECK_EQ(vfsd_inodes_count(session.config.inodes), 1);
		CHECK_EQ(vfsd_open_files_count(session.config.open_files), 0);
		CHECK_EQ(vfsd_fuse_session(session.config.fuse), 0);
	} else {
		size_t bytes;
		void *again;

		(void)vfsd_inodes_each(session.config.inodes, check_inode, session.config.inodes);
		(void)vfsd_open_files_each(session.config.open_files, check_file, NULL);
		/* What was taken can be told again. */
		CHECK_EQ(vfsd_state_save(&session.config, &again, &bytes), 0);
		free(again);
	}
	session_destroy(&session);
	CHECK_EQ(tree_count_fds(), fds);
	free(copy);
	return 0;
}
