/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "events.h"
#include "fuse.h"
#include "handle.h"
#include "inode.h"
#include "log.h"
#include "state.h"
#include "state_search.h"
#include "util.h"

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
	struct vfsd_state_missing *missing; /* to be searched for */
	size_t n_missing;
	size_t missing_room;
	char root[VFSD_STATE_PATH_MAX]; /* what the share's own path is, in front of the others' */
	size_t root_bytes;
};

enum { FIRST_ROOM_BYTES = 1 << 16, OPEN_RETRIES = 64 };

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

int vfsd_state_open_path(struct vfsd_inodes *inodes, const char *path)
{
	const struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	struct vfsd_inode *root = vfsd_inode_get(inodes, VFSD_NODEID_ROOT);
	bool transient = false;
	int error = -ESTALE;
	int root_fd;
	int fd = -1;

	if (!root)
		return error;
	root_fd = vfsd_inode_fd_get(inodes, root, &transient);
	if (root_fd >= 0 && !path[0]) {
		fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 0);
		error = fd < 0 ? -errno : 0;
	}
	/* EAGAIN: somebody renames directories. */
	for (int i = 0; root_fd >= 0 && fd < 0 && i < OPEN_RETRIES; i++) {
		fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
		error = fd < 0 ? -errno : 0;
		if (error != -EAGAIN)
			break;
	}
	if (root_fd >= 0)
		vfsd_inode_fd_put(root_fd, transient);
	else
		error = root_fd;
	vfsd_inode_put(inodes, root);
	return error ? error : fd;
}

/* Where the kernel says that @fd is, NUL-terminated. Returns its length or -errno. */
static ssize_t path_of(const struct saving *saving, int fd, char path[VFSD_STATE_PATH_MAX])
{
	char name[16];
	ssize_t n;

	(void)snprintf(name, sizeof(name), "%d", fd);
	n = readlinkat(saving->config->proc_self_fd, name, path, VFSD_STATE_PATH_MAX);
	if (n < 0)
		return -errno;
	if (n == VFSD_STATE_PATH_MAX)
		return -ENAMETOOLONG;
	path[n] = '\0';
	return n;
}

static bool same_inode(int a, int b)
{
	struct statx sta, stb;
	const unsigned int mask = STATX_TYPE | STATX_INO | STATX_MNT_ID;

	return statx(a, "", AT_EMPTY_PATH, mask, &sta) == 0 &&
	       statx(b, "", AT_EMPTY_PATH, mask, &stb) == 0 && sta.stx_ino == stb.stx_ino &&
	       sta.stx_dev_major == stb.stx_dev_major && sta.stx_dev_minor == stb.stx_dev_minor &&
	       sta.stx_mnt_id == stb.stx_mnt_id;
}

static bool ends_with(const char *text, size_t bytes, const char *end)
{
	size_t n = strlen(end);

	return bytes >= n && memcmp(text + bytes - n, end, n) == 0;
}

/*
 * The path of @fd relative to the share; it is in @path, and begins where *ret points.
 * -ENOENT: it has none, or none below the share.
 */
static int relative_path(const struct saving *saving, int fd, bool certain, char *path,
			 const char **ret)
{
	ssize_t n = path_of(saving, fd, path);
	int found;
	bool same;

	if (n < 0)
		return (int)n;
	if ((size_t)n <= saving->root_bytes + 1 || path[saving->root_bytes] != '/' ||
	    memcmp(path, saving->root, saving->root_bytes) != 0)
		return -ENOENT;
	*ret = path + saving->root_bytes + 1;
	/* The kernel says so of what has no name any more; but a name may end like that, too. */
	if (certain && !ends_with(path, (size_t)n, " (deleted)"))
		return 0;
	found = vfsd_state_open_path(saving->config->inodes, *ret);
	if (found < 0)
		return -ENOENT;
	same = same_inode(fd, found);
	(void)close(found);
	return same ? 0 : -ENOENT;
}

/* Find out how the other end is to find @inode, open as @fd. -errno: it cannot. */
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
	if (saving->config->by_handle && reopenable) {
		struct vfsd_file_handle known = *handle;
		int found = vfsd_inode_decode(saving->config->inodes, &known);

		/* On another file system than the root it would mean something else. */
		if (found >= 0) {
			bool same = same_inode(fd, found);

			(void)close(found);
			if (same) {
				record->how = VFSD_STATE_BY_HANDLE;
				return 0;
			}
		}
	}
	/* What was opened by handle may have lost its place in the host's cache of names. */
	error = relative_path(saving, fd, !transient && !saving->config->confirm, path, relative);
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
	if (!saving->config->guest_error)
		return -ENOENT;
	record.how = VFSD_STATE_LOST;
	record.handle_bytes = record.path_bytes = 0;
	return put_inode(saving, &record, "", &none);
}

/* To be searched for when all others have been told. */
static int put_off(struct saving *saving, const struct vfsd_inode *inode, uint64_t nlookup)
{
	if (saving->n_missing == saving->missing_room) {
		size_t room = saving->missing_room ? saving->missing_room * 2 : 64;
		void *grown = realloc(saving->missing, room * sizeof(*saving->missing));

		if (!grown)
			return -ENOMEM;
		saving->missing = grown;
		saving->missing_room = room;
	}
	saving->missing[saving->n_missing++] = (struct vfsd_state_missing){
		.nodeid = inode->nodeid,
		.nlookup = nlookup,
		.dev = inode->dev,
		.ino = inode->ino,
		.mnt_id = inode->mnt_id,
		.type = inode->type,
	};
	return 0;
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
	return put_off(saving, inode, nlookup);
}

/* @one is called so in a directory that the guest holds: open it. The fd or -errno. */
static int open_found(const struct saving *saving, const struct vfsd_state_missing *one)
{
	struct vfsd_inodes *inodes = saving->config->inodes;
	struct vfsd_inode *inode = vfsd_inode_get(inodes, one->directory);
	bool transient = false;
	int directory;
	int fd;

	if (!inode)
		return -ENOENT;
	directory = vfsd_inode_fd_get(inodes, inode, &transient);
	fd = directory < 0 ? directory :
			     openat(directory, one->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	fd = fd < 0 && directory >= 0 ? -errno : fd;
	vfsd_inode_fd_put(directory, transient);
	vfsd_inode_put(inodes, inode);
	return fd;
}

/* Having been opened by name, it has that name in the host's cache. */
static int save_found(struct saving *saving, const struct vfsd_state_missing *one)
{
	struct vfsd_inode *inode = vfsd_inode_get(saving->config->inodes, one->nodeid);
	struct vfsd_state_inode record = {
		.nodeid = one->nodeid, .nlookup = one->nlookup, .type = one->type};
	struct vfsd_file_handle handle = {.bytes = 0};
	char path[VFSD_STATE_PATH_MAX];
	const char *relative = path;
	int fd = open_found(saving, one);
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
	int error = vfsd_state_search(saving->config->inodes, saving->missing, saving->n_missing);

	for (size_t i = 0; i < saving->n_missing && !error; i++)
		error = save_found(saving, &saving->missing[i]);
	return error;
}

static int save_file(void *ctx, const struct vfsd_open_file *file)
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

static int find_root(struct saving *saving)
{
	int fd = vfsd_state_open_path(saving->config->inodes, "");
	ssize_t n;

	if (fd < 0)
		return fd;
	n = path_of(saving, fd, saving->root);
	(void)close(fd);
	if (n < 0)
		return (int)n;
	saving->root_bytes = n == 1 ? 0 : (size_t)n; /* "/": in a sandbox */
	return 0;
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
		.flags = config->verify ? VFSD_STATE_VERIFY : 0,
		.session = vfsd_fuse_session(config->fuse),
		.inode_generation = vfsd_inodes_generation(config->inodes),
		.handle_generation = vfsd_handles_generation(config->handles),
	};
	put(&saving->blob, &saving->header, sizeof(saving->header));
	if (config->events)
		vfsd_events_let_go(config->events);
	error = find_root(saving);
	if (!error)
		error = vfsd_inodes_each(config->inodes, save_inode, saving);
	if (!error)
		error = save_missing(saving);
	if (!error)
		error = vfsd_handles_each(config->handles, save_file, saving);
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
	free(saving->missing);
	free(saving);
	return error;
}
