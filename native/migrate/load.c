/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fsnotify/events.h"
#include "fuse/fuse.h"
#include "inode/open_file.h"
#include "inode/inode.h"
#include "base/log.h"
#include "migrate/state.h"
#include "migrate/path.h"
#include "migrate/search.h"
#include "base/statx.h"
#include "base/util.h"
#include "fuse/wire.h"

/* Flags that are kept when a file is opened again: it has been created and truncated already. */
static const uint32_t flags_kept = O_ACCMODE | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_NOATIME;

struct loading {
	const struct vfsd_state_config *config;
	struct vfsd_state_header header;
	struct vfsd_state_root root;
	struct vfsd_state_search search; /* for inodes whose path is not known */
	const uint8_t *at;
	size_t left;
	struct vfsd_open_file_state *files;
	size_t n_files;
	uint64_t lost;
};

/* The next @bytes, or NULL if there are fewer. The block is aligned, and so is each record. */
static const void *take(struct loading *loading, size_t bytes)
{
	const void *at = loading->at;

	if (bytes > loading->left)
		return NULL;
	loading->at += bytes;
	loading->left -= bytes;
	return at;
}

/* Count something as lost. 0 with --migration-on-error=guest-error, else -ENOENT. */
static int lose(struct loading *loading, const char *what, uint64_t nodeid, int error)
{
	loading->lost++;
	VFSD_LOG_LIMITED(VFSD_LOG_WARN, "state: %s not found again nodeid=%llu errno=%d", what,
			 (unsigned long long)nodeid, -error);
	return loading->config->options.on_error == VFSD_MIGRATION_GUEST_ERROR ? 0 : -ENOENT;
}

static bool is_type(uint32_t type)
{
	return type == S_IFREG || type == S_IFDIR || type == S_IFLNK || type == S_IFBLK ||
	       type == S_IFCHR || type == S_IFIFO || type == S_IFSOCK;
}

/* Check that @fd is the inode of @record. 0 or -errno. */
static int check_found(const struct loading *loading, const struct vfsd_state_inode *record,
		       const struct vfsd_file_handle *expected, int fd, struct statx *st)
{
	/* A handle that is not opened is compared. */
	bool verify = loading->config->options.verify_handles ||
		      loading->header.flags & VFSD_STATE_VERIFY ||
		      (record->how == VFSD_STATE_BY_HANDLE &&
		       loading->config->options.mode != VFSD_MIGRATION_FILE_HANDLES);
	struct vfsd_file_handle handle = {.bytes = 0};
	bool reopenable;
	int error;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, st))
		return -errno;
	if ((st->stx_mode & S_IFMT) != record->type)
		return -ESTALE;
	if (!verify)
		return 0;
	error = expected->bytes ? vfsd_inode_encode(fd, &handle, &reopenable) : -EOPNOTSUPP;
	if (error)
		return error;
	handle.fsid = expected->fsid; /* it may differ between hosts */
	return vfsd_file_handle_equal(&handle, expected) ? 0 : -ESTALE;
}

static int search_for(struct loading *loading, const struct vfsd_state_inode *record, int fd)
{
	struct vfsd_state_missing one = {
		.nodeid = record->nodeid, .nlookup = record->nlookup, .record = record};
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st))
		return -errno;
	if ((st.stx_mode & S_IFMT) != record->type || st.stx_nlink == 0)
		return -ESTALE;
	one.dev = vfsd_statx_dev(&st);
	one.ino = st.stx_ino;
	one.mnt_id = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0;
	return vfsd_state_search_add(&loading->search, &one);
}

/*
 * Open the inode of @handle by a path below the share, because a handle may mean any inode of the filesystem.
 * The fd or -errno; *later: it was added to the search.
 */
static int open_handle(struct loading *loading, const struct vfsd_state_inode *record,
		       const char *hint, const struct vfsd_file_handle *handle, bool *later)
{
	const struct vfsd_state_config *config = loading->config;
	VFSD_FD_GUARD anywhere = -1;
	int fd;

	if (config->options.mode != VFSD_MIGRATION_FILE_HANDLES) {
		fd = hint[0] ? vfsd_state_open_path(config->inodes, hint) : -EPERM;
		if (fd < 0)
			VFSD_LOG_LIMITED(VFSD_LOG_WARN,
					 "state: an inode comes by handle, which is not opened "
					 "without "
					 "--migration-mode=file-handles nodeid=%llu",
					 (unsigned long long)record->nodeid);
		return fd;
	}
	anywhere = vfsd_inode_decode(config->inodes, handle);
	if (anywhere < 0)
		return anywhere;
	fd = vfsd_state_find_path(&loading->root, anywhere, hint);
	if (fd >= 0)
		return fd;
	if (record->type != S_IFDIR) {
		fd = search_for(loading, record, anywhere);
		*later = fd == 0;
		return fd;
	}
	/* ".." tells where a directory is, even if its path is too long. */
	if (fd == -ENAMETOOLONG && vfsd_inode_is_below_root(config->inodes, anywhere))
		return vfsd_fd_take(&anywhere);
	return fd;
}

/* Restore the id of @record with the inode of @fd (consumed), or as a lost one. 0 or -errno. */
static int restore_found(struct loading *loading, const struct vfsd_state_inode *record,
			 const struct vfsd_file_handle *handle, int fd)
{
	struct vfsd_inodes *inodes = loading->config->inodes;
	VFSD_FD_GUARD guard = fd;
	struct statx st;
	int error = fd < 0 ? fd : check_found(loading, record, handle, fd, &st);

	if (record->nodeid == VFSD_NODEID_ROOT) /* there is no session without it */
		return error ? -ENOENT : 0;
	if (!error)
		error = vfsd_inode_restore(inodes, record->nodeid, record->nlookup,
					   vfsd_fd_take(&guard), &st);
	if (!error)
		return 0;
	if (error == -EINVAL)
		return -EBADMSG;
	if (error == -ENOMEM)
		return error;
	error = lose(loading, "inode", record->nodeid, error);
	if (!error)
		error = vfsd_inode_restore_lost(inodes, record->nodeid, record->nlookup,
						record->type);
	return error == -EINVAL ? -EBADMSG : error;
}

static int restore_inode(struct loading *loading, const struct vfsd_state_inode *record,
			 const char *path, const struct vfsd_file_handle *handle)
{
	bool later = false;
	int fd = -ENOENT;

	if (record->how == VFSD_STATE_BY_HANDLE)
		fd = open_handle(loading, record, path, handle, &later);
	else if (record->how == VFSD_STATE_BY_PATH)
		fd = vfsd_state_open_path(loading->config->inodes, path);
	return later ? 0 : restore_found(loading, record, handle, fd);
}

static void read_handle(const struct vfsd_state_inode *record, struct vfsd_file_handle *handle)
{
	const uint8_t *path = (const uint8_t *)(record + 1);

	*handle = (struct vfsd_file_handle){
		.type = record->handle_type,
		.bytes = record->handle_bytes,
	};
	memcpy(handle->data, path + record->path_bytes, record->handle_bytes);
}

static int load_inode(struct loading *loading, bool root)
{
	const struct vfsd_state_inode *record = take(loading, sizeof(*record));
	char path[VFSD_STATE_PATH_MAX];
	struct vfsd_file_handle handle;
	const void *bytes;
	size_t n;

	if (!record || record->path_bytes >= sizeof(path) ||
	    record->handle_bytes > sizeof(handle.data) || record->how > VFSD_STATE_BY_HANDLE ||
	    !is_type(record->type) || (record->nodeid == VFSD_NODEID_ROOT) != root)
		return -EBADMSG;
	n = (size_t)record->path_bytes + record->handle_bytes;
	bytes = take(loading, VFSD_ALIGN_UP(n, (size_t)VFSD_STATE_ALIGN));
	if (!bytes || memchr(bytes, '\0', record->path_bytes))
		return -EBADMSG;
	memcpy(path, bytes, record->path_bytes);
	path[record->path_bytes] = '\0';
	read_handle(record, &handle);
	if ((record->how == VFSD_STATE_BY_PATH && (record->path_bytes == 0) != root) ||
	    (record->how != VFSD_STATE_BY_PATH && root) ||
	    (record->how == VFSD_STATE_LOST && record->path_bytes > 0) ||
	    (record->how == VFSD_STATE_BY_HANDLE && handle.bytes == 0))
		return -EBADMSG;
	return restore_inode(loading, record, path, &handle);
}

/* Open @one, which the search has found, and compare it with @handle. The fd or -errno. */
static int open_found(struct vfsd_inodes *inodes, const struct vfsd_state_missing *one,
		      const struct vfsd_file_handle *handle)
{
	VFSD_FD_GUARD fd = vfsd_state_search_open(inodes, one);
	VFSD_FD_GUARD meant = fd < 0 ? -1 : vfsd_inode_decode(inodes, handle);

	if (fd >= 0 && (meant < 0 || !vfsd_statx_same(fd, meant)))
		return -ESTALE;
	return fd < 0 ? fd : vfsd_fd_take(&fd);
}

/* Restore the inodes that have to be searched for. */
static int load_missing(struct loading *loading)
{
	struct vfsd_inodes *inodes = loading->config->inodes;
	int error = vfsd_state_search_run(&loading->search, inodes);

	for (size_t i = 0; i < loading->search.n && !error; i++) {
		const struct vfsd_state_missing *one = &loading->search.missing[i];
		struct vfsd_file_handle handle;

		read_handle(one->record, &handle);
		error = restore_found(loading, one->record, &handle,
				      open_found(inodes, one, &handle));
	}
	return error;
}

static int open_again(const struct loading *loading, struct vfsd_inode *inode, uint32_t flags)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY;

	if (loading->config->open.readonly && writes)
		return -EROFS;
	flags = (flags & flags_kept) | O_NOCTTY;
	if (!loading->config->open.allow_direct_io)
		flags &= ~(uint32_t)O_DIRECT;
	if (!loading->config->open.preserve_noatime)
		flags &= ~(uint32_t)O_NOATIME;
	if (inode->type == S_IFDIR)
		flags |= O_DIRECTORY;
	return vfsd_inode_open(loading->config->inodes, inode, (int)flags);
}

static int load_file(struct loading *loading)
{
	const struct vfsd_state_file *record = take(loading, sizeof(*record));
	struct vfsd_open_file_state *file = &loading->files[loading->n_files];
	struct vfsd_inode *inode;
	int fd = -ESTALE;

	if (!record || (record->flags & O_ACCMODE) == O_ACCMODE || record->lost > 1)
		return -EBADMSG;
	inode = vfsd_inode_get(loading->config->inodes, record->nodeid);
	if (!inode)
		return -EBADMSG;
	if (!record->lost)
		fd = open_again(loading, inode, record->flags);
	vfsd_inode_put(loading->config->inodes, inode);
	*file = (struct vfsd_open_file_state){
		.fh = record->fh, .nodeid = record->nodeid, .fd = fd < 0 ? -1 : fd};
	loading->n_files++;
	return fd < 0 ? lose(loading, "open file", record->nodeid, fd) : 0;
}

/* In the dialect of 2021 owners are groups of the guest. It is recognised by its server mask. */
static bool is_group(const struct loading *loading)
{
	return loading->header.server_mask == UINT32_MAX;
}

/* Is @inode the root of a filesystem, as the guest sees it? */
static bool is_filesystem(const struct loading *loading, struct vfsd_inode *inode)
{
	struct vfsd_inodes *inodes = loading->config->inodes;
	bool transient = false;
	struct statx st;
	bool is_root;
	int fd;

	if (inode->nodeid == VFSD_NODEID_ROOT)
		return true;
	if (!(loading->header.session & FUSE_SUBMOUNTS))
		return false;
	fd = vfsd_inode_fd_get(inodes, inode, &transient);
	is_root = fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 &&
		  st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
	vfsd_inode_fd_put(fd, transient);
	return is_root;
}

static int load_watch(struct loading *loading)
{
	const struct vfsd_state_watch *record = take(loading, sizeof(*record));
	struct vfsd_inode *inode;
	int error = -EPERM;

	if (!record || record->mask == 0 || record->reserved != 0 ||
	    (record->owner != 0 && record->owner != VFSD_EVENTS_FILESYSTEM && !is_group(loading)))
		return -EBADMSG;
	inode = vfsd_inode_get(loading->config->inodes, record->nodeid);
	if (!inode)
		return -EBADMSG;
	if (is_group(loading) || record->owner == 0 || is_filesystem(loading, inode))
		error = vfsd_events_watch(loading->config->events, inode, record->owner,
					  record->mask);
	vfsd_inode_put(loading->config->inodes, inode);
	return error ? lose(loading, "watch", record->nodeid, error) : 0;
}

static int load_header(struct loading *loading)
{
	const struct vfsd_state_header *header = take(loading, sizeof(*header));

	if (!header || header->magic != VFSD_STATE_MAGIC)
		return -EBADMSG;
	if (header->version != VFSD_STATE_VERSION) {
		vfsd_log(VFSD_LOG_ERROR, "state: version %u, this daemon reads %u", header->version,
			 (unsigned int)VFSD_STATE_VERSION);
		return -EBADMSG;
	}
	if (header->reserved != 0 ||
	    header->flags & ~(uint32_t)(VFSD_STATE_VERIFY | VFSD_STATE_FSNOTIFY) ||
	    header->inodes == 0 ||
	    header->inodes > loading->left / sizeof(struct vfsd_state_inode) ||
	    header->files > loading->left / sizeof(struct vfsd_state_file) ||
	    header->watches > loading->left / sizeof(struct vfsd_state_watch) ||
	    (header->watches > 0 && !(header->flags & VFSD_STATE_FSNOTIFY)))
		return -EBADMSG;
	loading->header = *header;
	loading->files = calloc(header->files + 1, sizeof(*loading->files));
	return loading->files ? 0 : -ENOMEM;
}

/* Resume host events as they were granted at INIT. 0 or -errno. */
static int resume_events(const struct loading *loading)
{
	int error = -ENOTSUP;

	if (!(loading->header.flags & VFSD_STATE_FSNOTIFY))
		return 0;
	if (loading->config->events)
		error = vfsd_events_resume(loading->config->events, loading->header.server_mask);
	if (error)
		vfsd_log(VFSD_LOG_ERROR,
			 "state: the guest's host events cannot be had here, see --fsnotify "
			 "errno=%d",
			 -error);
	return error;
}

static int load(struct loading *loading)
{
	const struct vfsd_state_config *config = loading->config;
	int error = load_header(loading);

	if (!error)
		error = vfsd_state_root_find(config->inodes, config->proc_self_fd, &loading->root);
	for (uint64_t i = 0; i < loading->header.inodes && !error; i++)
		error = load_inode(loading, i == 0);
	if (!error)
		error = load_missing(loading);
	/* Files are opened before anything is watched, so that no watcher receives their OPEN. */
	for (uint64_t i = 0; i < loading->header.files && !error; i++)
		error = load_file(loading);
	if (error)
		return error;
	error = vfsd_open_files_restore(config->open_files, loading->files, loading->n_files,
					loading->header.file_generation);
	loading->n_files = 0; /* consumed */
	if (error)
		return error == -EINVAL ? -EBADMSG : error;
	vfsd_inodes_set_generation(config->inodes, loading->header.inode_generation);
	error = resume_events(loading);
	for (uint64_t i = 0; i < loading->header.watches && !error; i++)
		error = load_watch(loading);
	if (!error && loading->left > 0)
		error = -EBADMSG;
	if (error)
		return error;
	if (loading->header.watches > 0)
		vfsd_events_report_loss(config->events);
	error = vfsd_fuse_resume(config->fuse, loading->header.session);
	if (error)
		vfsd_log(VFSD_LOG_ERROR,
			 "state: the guest was granted what this daemon's options do not grant "
			 "session=%#llx",
			 (unsigned long long)loading->header.session);
	return error;
}

static void end_session(const struct vfsd_state_config *config)
{
	struct vfsd_fuse_hooks hooks = {0};

	if (config->events)
		hooks = vfsd_events_hooks(config->events);
	vfsd_fuse_end_session(config->fuse);
	if (hooks.session_end)
		hooks.session_end(hooks.ctx);
}

int vfsd_state_load(const struct vfsd_state_config *config, const void *data, size_t bytes)
{
	struct loading loading = {.config = config, .at = data, .left = bytes};
	int error;

	end_session(config);
	error = load(&loading);
	for (size_t i = 0; i < loading.n_files; i++)
		if (loading.files[i].fd >= 0)
			(void)close(loading.files[i].fd);
	free(loading.files);
	vfsd_state_search_free(&loading.search);
	if (error) {
		end_session(config);
		vfsd_log(VFSD_LOG_ERROR, "state: not loaded bytes=%zu at=%zu errno=%d", bytes,
			 bytes - loading.left, -error);
		return error;
	}
	vfsd_log(VFSD_LOG_INFO, "state: loaded inodes=%llu files=%llu watches=%llu lost=%llu",
		 (unsigned long long)loading.header.inodes,
		 (unsigned long long)loading.header.files,
		 (unsigned long long)loading.header.watches, (unsigned long long)loading.lost);
	return 0;
}
