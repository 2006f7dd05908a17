/* SPDX-License-Identifier: BSD-3-Clause */
/* A session that is saved and loaded again, and blocks that must not be loaded. */
#include "saved_session.h"

#include <errno.h>

struct block {
	uint8_t *data;
	size_t bytes;
	/* What the guest had. */
	uint64_t d, f, g, l, fh_f, fh_d;
};

/* A guest with a directory, two files, a link, two open files and two watches. */
static void save(const struct share *share, bool by_handle, bool verify, struct block *block)
{
	struct session session;
	void *data;

	session_create(&session, share->fd, by_handle ? VFSD_HANDLES_PREFER : VFSD_HANDLES_NEVER);
	session.config.options.mode = by_handle ? VFSD_MIGRATION_FILE_HANDLES :
						  VFSD_MIGRATION_FIND_PATHS;
	session.config.options.verify_handles = verify;
	CHECK_EQ(vfsd_events_resume(session.config.events, 0), 0);
	block->d = session_look_up(&session, share->fd, "d");
	block->f = session_look_up(&session, share->fd, "d/f");
	CHECK_EQ(session_look_up(&session, share->fd, "d/f"), block->f);
	block->g = session_look_up(&session, share->fd, "g");
	block->l = session_look_up(&session, share->fd, "l");
	block->fh_f = session_open(&session, block->f, O_RDWR | O_APPEND);
	block->fh_d = session_open(&session, block->d, O_RDONLY | O_DIRECTORY);
	session_watch(&session, block->d, 0, 0x100);
	session_watch(&session, VFSD_NODEID_ROOT, VFSD_EVENTS_FILESYSTEM, 0x2);
	CHECK_EQ(vfsd_state_save(&session.config, &data, &block->bytes), 0);
	CHECK_EQ(fake.released, 1);
	block->data = data;
	session_destroy(&session);
}

static int fd_flags(struct session *session, uint64_t fh, uint64_t nodeid)
{
	struct vfsd_open_file *file = vfsd_open_file_get(session->config.open_files, fh, nodeid);
	int flags;

	CHECK(file);
	flags = fcntl(file->fd, F_GETFL);
	vfsd_open_file_put(session->config.open_files, file);
	return flags;
}

static void check_loaded(struct session *session, const struct share *share,
			 const struct block *block)
{
	CHECK(session_knows(session, block->d, share->fd, "d", 1));
	CHECK(session_knows(session, block->f, share->fd, "d/f", 2));
	CHECK(session_knows(session, block->g, share->fd, "g", 1));
	CHECK(session_knows(session, block->l, share->fd, "l", 1));
	CHECK_EQ(vfsd_inodes_count(session->config.inodes), 5);
	CHECK_EQ(fd_flags(session, block->fh_f, block->f) & (O_ACCMODE | O_APPEND), O_RDWR);
	CHECK(fd_flags(session, block->fh_d, block->d) & O_DIRECTORY);
	CHECK_EQ(fake_watched(block->d), 0x100);
	CHECK_EQ(fake_watched(block->f), 0);
	CHECK_EQ(fake_filesystem(VFSD_NODEID_ROOT), 0x2);
	/* New ids are none of those that the guest has. */
	CHECK(vfsd_inodes_generation(session->config.inodes) > block->l >> 32);
}

static void test_round_trip(const struct share *share, bool has_handles)
{
	for (int by_handle = 0; by_handle <= has_handles; by_handle++)
		for (int verify = 0; verify <= has_handles; verify++) {
			struct session session;
			struct block block;
			void *again;
			size_t bytes;

			save(share, by_handle, verify, &block);
			session_create(&session, share->fd,
				       by_handle ? VFSD_HANDLES_PREFER : VFSD_HANDLES_NEVER);
			session.config.options.mode = by_handle ? VFSD_MIGRATION_FILE_HANDLES :
								  VFSD_MIGRATION_FIND_PATHS;
			CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), 0);
			check_loaded(&session, share, &block);
			/* It can be saved again, and means the same. */
			session.config.options.verify_handles = verify;
			CHECK_EQ(vfsd_state_save(&session.config, &again, &bytes), 0);
			CHECK_EQ(bytes, block.bytes);
			free(again);
			session_destroy(&session);
			free(block.data);
		}
}

/* What the other end may open with handles, this end refuses without them, unless the path says the same. */
static void test_handles_are_opened_only_where_asked_for(const struct share *share)
{
	struct session session;
	struct block block;

	save(share, true, false, &block);
	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), 0);
	check_loaded(&session, share, &block);
	session_destroy(&session);

	CHECK_EQ(renameat(share->fd, "g", share->fd, "moved"), 0);
	tree_file(&share->tree, "share/g", "another");
	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), -ENOENT);
	CHECK(session_is_empty(&session));
	session_destroy(&session);
	session_create(&session, share->fd, VFSD_HANDLES_PREFER);
	session.config.options.mode = VFSD_MIGRATION_FILE_HANDLES;
	CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), 0);
	CHECK(session_knows(&session, block.g, share->fd, "moved", 1));
	session_destroy(&session);
	CHECK_EQ(renameat(share->fd, "moved", share->fd, "g"), 0);
	free(block.data);
}

/* A session that was there is replaced; a block that is refused leaves none. */
static void test_the_session_before(const struct share *share)
{
	struct session session;
	struct block block;

	save(share, false, false, &block);
	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	(void)session_look_up(&session, share->fd, "g");
	CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), 0);
	check_loaded(&session, share, &block);
	CHECK_EQ(vfsd_state_load(&session.config, "x", 1), -EBADMSG);
	CHECK(session_is_empty(&session));
	session_destroy(&session);
	free(block.data);
}

static void check_refused(const struct share *share, const void *data, size_t bytes, int error)
{
	unsigned int fds = tree_count_fds();
	struct session session;

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	session.config.options.on_error = VFSD_MIGRATION_GUEST_ERROR;
	CHECK_EQ(vfsd_state_load(&session.config, data, bytes), error);
	CHECK(session_is_empty(&session));
	session_destroy(&session);
	CHECK_EQ(tree_count_fds(), fds);
}

static void test_cut_anywhere(const struct share *share)
{
	struct block block;

	save(share, false, false, &block);
	for (size_t bytes = 0; bytes < block.bytes; bytes++) {
		/* Of its own, so that a byte too far is found. */
		void *cut = malloc(bytes ? bytes : 1);

		memcpy(cut, block.data, bytes);
		check_refused(share, cut, bytes, -EBADMSG);
		free(cut);
	}
	free(block.data);
}

static struct vfsd_state_header *header_of(struct block *block)
{
	return (void *)block->data;
}

/* The record of the inode with that id. */
static struct vfsd_state_inode *inode_of(struct block *block, uint64_t nodeid)
{
	uint8_t *at = block->data + sizeof(struct vfsd_state_header);

	for (;;) {
		struct vfsd_state_inode *record = (void *)at;
		size_t n = (size_t)record->path_bytes + record->handle_bytes;

		CHECK(at < block->data + block->bytes);
		if (record->nodeid == nodeid)
			return record;
		at += sizeof(*record) + ((n + 7) & ~(size_t)7);
	}
}

static struct vfsd_state_file *files_of(struct block *block)
{
	return (void *)(block->data + block->bytes - 2 * sizeof(struct vfsd_state_watch) -
			2 * sizeof(struct vfsd_state_file));
}

static struct vfsd_state_watch *watches_of(struct block *block)
{
	return (void *)(block->data + block->bytes - 2 * sizeof(struct vfsd_state_watch));
}

/* One field at a time is changed to what no daemon writes. */
static void test_hostile(const struct share *share)
{
	enum { CASES = 28 };

	for (int i = 0; i < CASES; i++) {
		struct vfsd_state_watch *watches;
		struct vfsd_state_header *header;
		struct vfsd_state_file *files;
		struct block block;
		int error = -EBADMSG;

		save(share, false, false, &block);
		header = header_of(&block);
		files = files_of(&block);
		watches = watches_of(&block);
		switch (i) {
		case 0:
			header->magic ^= 1;
			break;
		case 1:
			header->version++;
			break;
		case 2:
			header->flags |= 1u << 31;
			break;
		case 3:
			header->reserved = 1;
			break;
		case 4:
			header->inodes = 0;
			break;
		case 5:
			header->inodes = UINT64_MAX;
			break;
		case 6:
			header->inodes--;
			break;
		case 7:
			header->files = UINT64_MAX;
			break;
		case 8:
			header->files = UINT64_MAX / sizeof(struct vfsd_state_file) + 2;
			break;
		case 9:
			header->watches--; /* bytes are left over */
			break;
		case 10:
			header->flags &= ~(uint32_t)VFSD_STATE_FSNOTIFY; /* and has watches */
			break;
		case 11:
			header->server_mask = 1; /* not this source's */
			error = -ENOTSUP;
			break;
		case 12:
			inode_of(&block, 1)->nodeid = 2; /* no root in front */
			break;
		case 13:
			inode_of(&block, block.g)->nodeid = 1; /* two roots */
			break;
		case 14:
			inode_of(&block, block.g)->nodeid = block.d; /* an id twice */
			break;
		case 15:
			inode_of(&block, block.g)->nodeid = 5; /* of generation 0 */
			break;
		case 16:
			inode_of(&block, block.g)->nodeid |= 0xffffffff; /* beyond the table */
			break;
		case 17:
			inode_of(&block, block.g)->nlookup = 0;
			break;
		case 18:
			inode_of(&block, block.g)->type = 0;
			break;
		case 19:
			inode_of(&block, block.g)->how = 9;
			break;
		case 20:
			inode_of(&block, block.g)->how = VFSD_STATE_LOST; /* with a path */
			break;
		case 21:
			inode_of(&block, block.g)->path_bytes = UINT16_MAX;
			break;
		case 22:
			inode_of(&block, block.g)->handle_bytes = UINT32_MAX;
			break;
		case 23:
			*(char *)(inode_of(&block, block.g) + 1) = '\0'; /* a NUL in the path */
			break;
		case 24:
			files[0].flags |= O_ACCMODE;
			break;
		case 25:
			files[0].nodeid = 99;
			break;
		case 26:
			files[1].fh = files[0].fh;
			break;
		case 27:
			watches[0].owner = 7; /* a group, in the dialect that has none */
			break;
		}
		check_refused(share, block.data, block.bytes, error);
		free(block.data);
	}
}

static void test_hostile_watches(const struct share *share)
{
	for (int i = 0; i < 3; i++) {
		struct vfsd_state_watch *watches;
		struct block block;

		save(share, false, false, &block);
		watches = watches_of(&block);
		if (i == 0)
			watches[0].mask = 0;
		else if (i == 1)
			watches[0].reserved = 1;
		else
			watches[0].nodeid = 99;
		check_refused(share, block.data, block.bytes, -EBADMSG);
		free(block.data);
	}
}

/* A filesystem mark where the guest sees no filesystem is lost, and not set. */
static void test_a_filesystem_mark_needs_a_root(const struct share *share)
{
	for (int guest_error = 0; guest_error < 2; guest_error++) {
		struct session session;
		struct block block;

		save(share, false, false, &block);
		for (int i = 0; i < 2; i++)
			if (watches_of(&block)[i].owner == VFSD_EVENTS_FILESYSTEM)
				watches_of(&block)[i].nodeid = block.d;
		session_create(&session, share->fd, VFSD_HANDLES_NEVER);
		session.config.options.on_error = guest_error ? VFSD_MIGRATION_GUEST_ERROR :
								VFSD_MIGRATION_ABORT;
		CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes),
			 guest_error ? 0 : -ENOENT);
		if (guest_error) {
			CHECK_EQ(fake_filesystem(block.d), 0);
			CHECK_EQ(fake_watched(block.d), 0x100);
		} else {
			CHECK(session_is_empty(&session));
		}
		session_destroy(&session);
		free(block.data);
	}
}

/* Paths that lead out of the share, or nowhere: the inode is lost, and nothing else is opened. */
static void test_paths_that_lead_elsewhere(const struct share *share)
{
	static const char *const paths[] = {"l/f",	   "../outside/f", "d/../../outside/f",
					    "/etc/passwd", "nothing",	   "d"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		for (int guest_error = 0; guest_error < 2; guest_error++) {
			struct vfsd_state_inode record = {
				.nodeid = UINT64_C(7) << 32 | 9, .nlookup = 3, .type = S_IFREG};
			struct {
				struct vfsd_state_header header;
				struct vfsd_state_inode root, inode;
				char path[32];
			} data = {.header = {.magic = VFSD_STATE_MAGIC,
					     .version = VFSD_STATE_VERSION,
					     .inodes = 2,
					     .inode_generation = 8},
				  .root = {.nodeid = 1,
					   .nlookup = 1,
					   .type = S_IFDIR,
					   .how = VFSD_STATE_BY_PATH}};
			const size_t path = (strlen(paths[i]) + 7) & ~(size_t)7;
			struct session session;

			record.how = VFSD_STATE_BY_PATH;
			record.path_bytes = (uint16_t)strlen(paths[i]);
			data.inode = record;
			memcpy(data.path, paths[i], strlen(paths[i]));
			session_create(&session, share->fd, VFSD_HANDLES_NEVER);
			session.config.options.on_error = guest_error ? VFSD_MIGRATION_GUEST_ERROR :
									VFSD_MIGRATION_ABORT;
			CHECK_EQ(vfsd_state_load(&session.config, &data,
						 sizeof(data) - sizeof(data.path) + path),
				 guest_error ? 0 : -ENOENT);
			if (guest_error) {
				struct vfsd_inode *inode =
					vfsd_inode_get(session.config.inodes, record.nodeid);
				bool transient;

				CHECK(inode);
				CHECK_EQ(vfsd_inode_fd_get(session.config.inodes, inode,
							   &transient),
					 -ESTALE);
				CHECK_EQ(vfsd_inode_lookups(inode), 3);
				vfsd_inode_put(session.config.inodes, inode);
			} else {
				CHECK(session_is_empty(&session));
			}
			session_destroy(&session);
		}
}

/* What this daemon would not let the guest open is not opened for it either. */
static void test_open_as_options_permit(const struct share *share)
{
	struct session session;
	struct block block;

	save(share, false, false, &block);
	files_of(&block)[0].flags |= O_NOATIME;
	files_of(&block)[1].flags |= O_NOATIME;
	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), 0);
	CHECK(!(fd_flags(&session, block.fh_f, block.f) & O_NOATIME));
	session_destroy(&session);

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	session.config.open.preserve_noatime = true;
	CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), 0);
	CHECK(fd_flags(&session, block.fh_f, block.f) & O_NOATIME);
	session_destroy(&session);

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	session.config.open.readonly = true;
	CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), -ENOENT);
	CHECK(session_is_empty(&session));
	session_destroy(&session);

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	session.config.open.readonly = true;
	session.config.options.on_error = VFSD_MIGRATION_GUEST_ERROR;
	CHECK_EQ(vfsd_state_load(&session.config, block.data, block.bytes), 0);
	CHECK_EQ(vfsd_open_file_missing(session.config.open_files, block.fh_f, block.f), -ESTALE);
	CHECK(fd_flags(&session, block.fh_d, block.d) >= 0);
	session_destroy(&session);
	free(block.data);
}

/* An inode without a path cannot be saved: that fails, or it is lost at the other end. */
static void test_without_a_name(const struct share *share)
{
	for (int guest_error = 0; guest_error < 2; guest_error++) {
		struct session session, other;
		uint64_t nodeid, fh;
		size_t bytes = 99;
		void *data = NULL;

		tree_file(&share->tree, "share/gone", "");
		session_create(&session, share->fd, VFSD_HANDLES_NEVER);
		session.config.options.on_error = guest_error ? VFSD_MIGRATION_GUEST_ERROR :
								VFSD_MIGRATION_ABORT;
		nodeid = session_look_up(&session, share->fd, "gone");
		fh = session_open(&session, nodeid, O_RDONLY);
		CHECK_EQ(unlinkat(share->fd, "gone", 0), 0);
		CHECK_EQ(vfsd_state_save(&session.config, &data, &bytes),
			 guest_error ? 0 : -ENOENT);
		/* The session goes on here either way. */
		CHECK_EQ(vfsd_inodes_count(session.config.inodes), 2);
		CHECK(fd_flags(&session, fh, nodeid) >= 0);
		session_destroy(&session);
		if (!guest_error) {
			CHECK(!data && bytes == 99);
			continue;
		}
		session_create(&other, share->fd, VFSD_HANDLES_NEVER);
		CHECK_EQ(vfsd_state_load(&other.config, data, bytes), -ENOENT);
		other.config.options.on_error = VFSD_MIGRATION_GUEST_ERROR;
		CHECK_EQ(vfsd_state_load(&other.config, data, bytes), 0);
		CHECK(!session_knows(&other, nodeid, share->fd, "g", 1));
		CHECK_EQ(vfsd_open_file_missing(other.config.open_files, fh, nodeid), -ESTALE);
		session_destroy(&other);
		free(data);
	}
}

/* A session without host events has none at the other end, whose own it ends. */
static void test_without_events(const struct share *share)
{
	struct session session;
	size_t bytes;
	void *data;

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_state_save(&session.config, &data, &bytes), 0);
	CHECK_EQ(vfsd_events_resume(session.config.events, 0), 0);
	CHECK_EQ(vfsd_state_load(&session.config, data, bytes), 0);
	CHECK(!fake.now);
	session_destroy(&session);
	free(data);
}

int main(void)
{
	struct share share;
	bool has_handles;

	share_create(&share);
	has_handles = share_has_handles(&share);
	test_round_trip(&share, has_handles);
	if (has_handles)
		test_handles_are_opened_only_where_asked_for(&share);
	test_the_session_before(&share);
	test_cut_anywhere(&share);
	test_hostile(&share);
	test_hostile_watches(&share);
	test_a_filesystem_mark_needs_a_root(&share);
	test_paths_that_lead_elsewhere(&share);
	test_open_as_options_permit(&share);
	test_without_a_name(&share);
	test_without_events(&share);
	share_destroy(&share);
	return 0;
}
