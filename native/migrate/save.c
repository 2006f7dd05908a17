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

struct blob {
	uint8_t *data;
	size_t bytes;
	size_t room;
	bool failed; /* no memory */
};

struct saving {
	const struct vfsd_state_config *config;
	struct vfsd_state_header header;
	struct blob blob;
	struct vfsd_state_search search;
	struct vfsd_state_root root;
};

enum { FIRST_ROOM_BYTES = 1 << 16 };

static void put(struct blob *blob, const void *data, size_t bytes)
{
	size_t room = blob->room ? blob->room : FIRST_ROOM_BYTES;
	uint8_t *grown;

	while (room - blob->bytes < bytes)
		room *= 2;
	if (room != blob->room && !blob->failed) {
		grown = realloc(blob->data, room);
		blob->failed = grown == NULL;
		if (grown) {
			blob->data = grown;
			blob->room = room;
		}
	}
	if (blob->failed)
		return;
	memcpy(blob->data + blob->bytes, data, bytes);
	blob->bytes += bytes;
}

static void align(struct blob *blob)
{
	static const uint8_t zeros[VFSD_STATE_ALIGN];

	put(blob, zeros, VFSD_ALIGN_UP(blob->bytes, (size_t)VFSD_STATE_ALIGN) - blob->bytes);
}

/*
 * Can the other end open @fd by @handle? Not if it is on another filesystem than the root, where the handle
 * would mean something else, and not without a name, because it could not be shown to be below the share.
 */
static bool is_found_by_handle(const struct saving *saving, int fd,
			       const struct vfsd_file_handle *handle)
{
	VFSD_FD_GUARD found = vfsd_inode_decode(saving->config->inodes, handle);
	struct statx st;

	return found >= 0 && vfsd_statx_same(fd, found) &&
	       statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &st) == 0 && st.stx_nlink > 0;
}

/* Decide how the other end opens @inode, which is open as @fd. 0, or -errno: it cannot. */
static int locate(const struct saving *saving, const struct vfsd_inode *inode, int fd,
		  bool transient, struct vfsd_state_inode *record, struct vfsd_file_handle *handle,
		  char *path, const char **relative)
{
	bool reopenable = false;
	int error = vfsd_inode_encode(fd, handle, &reopenable);

	if (error)
		handle->bytes = 0;
	record->handle_type = handle->bytes ? handle->type : 0;
	record->handle_bytes = handle->bytes;
	if (inode->nodeid == VFSD_NODEID_ROOT) {
		record->how = VFSD_STATE_BY_PATH;
		return 0;
	}
	if (saving->config->options.mode == VFSD_MIGRATION_FILE_HANDLES && reopenable &&
	    is_found_by_handle(saving, fd, handle)) {
		record->how = VFSD_STATE_BY_HANDLE;
		if (vfsd_state_path_of(&saving->root, fd, true, path, relative) == 0)
			record->path_bytes = (uint16_t)strlen(*relative);
		return 0;
	}
	/* An inode that was opened by handle may have no name in the host's dentry cache. */
	error = vfsd_state_path_of(&saving->root, fd,
				   !transient && !saving->config->options.confirm_paths, path,
				   relative);
	if (error)
		return error;
	record->how = VFSD_STATE_BY_PATH;
	record->path_bytes = (uint16_t)strlen(*relative);
	return 0;
}

static int put_inode(struct saving *saving, const struct vfsd_state_inode *record, const char *path,
		     const struct vfsd_file_handle *handle)
{
	put(&saving->blob, record, sizeof(*record));
	put(&saving->blob, path, record->path_bytes);
	put(&saving->blob, handle->data, record->handle_bytes);
	align(&saving->blob);
	saving->header.inodes++;
	return saving->blob.failed ? -ENOMEM : 0;
}

static int put_lost(struct saving *saving, struct vfsd_state_inode record, int error)
{
	const struct vfsd_file_handle none = {.bytes = 0};

	VFSD_LOG_LIMITED(VFSD_LOG_WARN, "state: inode has no path to save nodeid=%llu errno=%d",
			 (unsigned long long)record.nodeid, -error);
	if (saving->config->options.on_error != VFSD_MIGRATION_GUEST_ERROR)
		return -ENOENT;
	record.how = VFSD_STATE_LOST;
	record.handle_bytes = record.path_bytes = 0;
	return put_inode(saving, &record, "", &none);
}

/* Search for it after all others have been saved. */
static int search_for(struct saving *saving, const struct vfsd_inode *inode, uint64_t nlookup)
{
	const struct vfsd_state_missing one = {
		.nodeid = inode->nodeid,
		.nlookup = nlookup,
		.dev = inode->dev,
		.ino = inode->ino,
		.mnt_id = inode->mnt_id,
		.type = inode->type,
	};

	return vfsd_state_search_add(&saving->search, &one);
}

static int save_inode(void *ctx, struct vfsd_inode *inode, uint64_t nlookup)
{
	struct saving *saving = ctx;
	struct vfsd_state_inode record = {
		.nodeid = inode->nodeid,
		.nlookup = nlookup,
		.type = inode->type,
		.how = VFSD_STATE_LOST,
	};
	struct vfsd_file_handle handle = {.bytes = 0};
	char path[VFSD_STATE_PATH_MAX];
	const char *relative = path;
	bool transient = false;
	int fd = vfsd_inode_fd_get(saving->config->inodes, inode, &transient);
	int error = fd < 0 ? fd : 0;

	if (!error)
		error = locate(saving, inode, fd, transient, &record, &handle, path, &relative);
	vfsd_inode_fd_put(fd, transient);
	if (!error)
		return put_inode(saving, &record, relative, &handle);
	if (fd < 0 || inode->type == S_IFDIR)
		return put_lost(saving, record, error);
	return search_for(saving, inode, nlookup);
}

/* Save an inode that the search has found: opened by name, it has that name in the dentry cache. */
static int save_found(struct saving *saving, const struct vfsd_state_missing *one)
{
	struct vfsd_inode *inode = vfsd_inode_get(saving->config->inodes, one->nodeid);
	struct vfsd_state_inode record = {
		.nodeid = one->nodeid, .nlookup = one->nlookup, .type = one->type};
	struct vfsd_file_handle handle = {.bytes = 0};
	char path[VFSD_STATE_PATH_MAX];
	const char *relative = path;
	int fd = vfsd_state_search_open(saving->config->inodes, one);
	int error = fd < 0 || !inode ? -ENOENT : 0;

	if (!error)
		error = locate(saving, inode, fd, true, &record, &handle, path, &relative);
	if (fd >= 0)
		(void)close(fd);
	vfsd_inode_put(saving->config->inodes, inode);
	return error ? put_lost(saving, record, error) :
		       put_inode(saving, &record, relative, &handle);
}

static int save_missing(struct saving *saving)
{
	struct vfsd_state_search *search = &saving->search;
	int error = vfsd_state_search_run(search, saving->config->inodes);

	for (size_t i = 0; i < search->n && !error; i++)
		error = save_found(saving, &search->missing[i]);
	return error;
}

static int save_file(void *ctx, const struct vfsd_open_file_state *file)
{
	struct saving *saving = ctx;
	struct vfsd_state_file record = {
		.fh = file->fh, .nodeid = file->nodeid, .lost = file->fd < 0};
	struct vfsd_inode *inode = vfsd_inode_get(saving->config->inodes, file->nodeid);
	int flags = file->fd < 0 ? 0 : fcntl(file->fd, F_GETFL);

	if (!inode) /* its RELEASE has been overtaken by the FORGET */
		return 0;
	vfsd_inode_put(saving->config->inodes, inode);
	record.flags = (uint32_t)flags;
	put(&saving->blob, &record, sizeof(record));
	saving->header.files++;
	return saving->blob.failed ? -ENOMEM : 0;
}

static void save_watch(void *ctx, uint64_t nodeid, uint64_t owner, uint32_t mask)
{
	struct saving *saving = ctx;
	const struct vfsd_state_watch record = {.nodeid = nodeid, .owner = owner, .mask = mask};

	put(&saving->blob, &record, sizeof(record));
	saving->header.watches++;
}

int vfsd_state_save(const struct vfsd_state_config *config, void **data, size_t *bytes)
{
	struct saving *saving = calloc(1, sizeof(*saving));
	int error;

	if (!saving)
		return -ENOMEM;
	saving->config = config;
	saving->header = (struct vfsd_state_header){
		.magic = VFSD_STATE_MAGIC,
		.version = VFSD_STATE_VERSION,
		.flags = config->options.verify_handles ? VFSD_STATE_VERIFY : 0,
		.session = vfsd_fuse_session(config->fuse),
		.inode_generation = vfsd_inodes_generation(config->inodes),
		.file_generation = vfsd_open_files_generation(config->open_files),
	};
	put(&saving->blob, &saving->header, sizeof(saving->header));
	if (config->events)
		vfsd_events_release_nodes(config->events);
	error = vfsd_state_root_find(config->inodes, config->proc_self_fd, &saving->root);
	if (!error)
		error = vfsd_inodes_each(config->inodes, save_inode, saving);
	if (!error)
		error = save_missing(saving);
	if (!error)
		error = vfsd_open_files_each(config->open_files, save_file, saving);
	if (!error && config->events &&
	    vfsd_events_save(config->events, &saving->header.server_mask, save_watch, saving) == 0)
		saving->header.flags |= VFSD_STATE_FSNOTIFY;
	if (!error && saving->blob.failed)
		error = -ENOMEM;
	if (error) {
		vfsd_log(VFSD_LOG_ERROR, "state: not saved inodes=%llu errno=%d",
			 (unsigned long long)saving->header.inodes, -error);
		free(saving->blob.data);
	} else {
		memcpy(saving->blob.data, &saving->header, sizeof(saving->header));
		*data = saving->blob.data;
		*bytes = saving->blob.bytes;
		vfsd_log(VFSD_LOG_INFO,
			 "state: saved inodes=%llu files=%llu watches=%llu bytes=%zu",
			 (unsigned long long)saving->header.inodes,
			 (unsigned long long)saving->header.files,
			 (unsigned long long)saving->header.watches, *bytes);
	}
	vfsd_state_search_free(&saving->search);
	free(saving);
	return error;
}
