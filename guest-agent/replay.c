/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the host did, once more. Each call is answered by the daemon as if it had been done, and does
 * nothing; which calls raise which events is the kernel's fsnotify.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

int open_node(int mount_fd, uint64_t node, uint32_t generation, int flags)
{
	enum { FILEID_INO64_GEN = 0x81 };
	struct {
		struct file_handle head;
		uint32_t words[3];
	} handle = {
		.head = {.handle_bytes = sizeof(handle.words), .handle_type = FILEID_INO64_GEN},
		.words = {(uint32_t)(node >> 32), (uint32_t)node, generation},
	};
	int fd = open_by_handle_at(mount_fd, &handle.head, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/*
 * Is what we ask answered as if it had been done? If not, the daemon is another one by now, and would do
 * it really. *mode becomes that of the object.
 */
static int check_mark(int dir, const char *name, mode_t *mode)
{
	struct statx st;

	if (statx(dir, name,
		  AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_FORCE_SYNC,
		  STATX_BASIC_STATS, &st) < 0)
		return -errno;
	*mode = st.stx_mode;
	return st.stx_blksize == VFSD_AGENT_MARK ? 0 : -ECONNRESET;
}

void replay_done(struct mount *mount)
{
	if (mount->dir.fd >= 0)
		(void)close(mount->dir.fd);
	mount->dir.fd = -1;
}

/* A directory of @record, checked. The descriptor, borrowed until the next record, or -errno. */
static int open_dir(struct mount *mount, uint64_t node, uint32_t generation)
{
	mode_t mode;
	int err;

	if (mount->dir.fd < 0 || mount->dir.node != node || mount->dir.generation != generation) {
		replay_done(mount);
		err = open_node(mount->session, node, generation, O_PATH | O_DIRECTORY);
		if (err < 0)
			return err;
		mount->dir.fd = err;
		mount->dir.node = node;
		mount->dir.generation = generation;
	}
	err = check_mark(mount->dir.fd, "", &mode);
	return err ? err : mount->dir.fd;
}

static int result(int returned)
{
	return returned < 0 ? -errno : 0;
}

static int create(int dir, const struct vfsd_agent_record *record)
{
	const char *name = record->name;

	switch (record->mode & S_IFMT) {
	case S_IFDIR:
		return result(mkdirat(dir, name, 0700));
	case S_IFLNK:
		return result(symlinkat("x", dir, name));
	case S_IFIFO:
	case S_IFSOCK:
		return result(mknodat(dir, name, (record->mode & S_IFMT) | 0600, 0));
	default: /* a device would take CAP_MKNOD, and is looked up anew in any case */
		return result(mknodat(dir, name, S_IFREG | 0600, 0));
	}
}

/* What the guest has cached by that name may be of another kind than what the host removed. */
static int remove_name(int dir, const char *name, bool is_dir)
{
	int err = result(unlinkat(dir, name, is_dir ? AT_REMOVEDIR : 0));

	if (err == -ENOTDIR || err == -EISDIR)
		err = result(unlinkat(dir, name, is_dir ? 0 : AT_REMOVEDIR));
	return err;
}

static int rename_to(const struct mount *mount, int dir, const struct vfsd_agent_record *record)
{
	int other = open_node(mount->session, record->other, record->other_generation,
			      O_PATH | O_DIRECTORY);
	int err;

	if (other < 0)
		return other;
	err = result(renameat(dir, record->name, other, record->other_name));
	(void)close(other);
	return err;
}

/* The event of a change of times says which changed: all of them are an ATTRIB. */
static int touch(int dir, const char *name, enum vfsd_agent_kind kind)
{
	const struct timespec times[2] = {
		{.tv_nsec = kind == VFSD_AGENT_MODIFY ? UTIME_OMIT : UTIME_NOW},
		{.tv_nsec = kind == VFSD_AGENT_ACCESS ? UTIME_OMIT : UTIME_NOW},
	};
	char path[64];

	if (name[0] != '\0')
		return result(utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", dir);
	return result(utimensat(AT_FDCWD, path, times, 0));
}

/* Opening raises OPEN too: that of the host's open is left to this, for what it is for shows only now. */
static int open_and_close(int dir, const char *name, mode_t mode, bool writes)
{
	int fd;

	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return 0; /* the guest's own kernel serves these */
	if (name[0] == '\0')
		name = ".";
	fd = openat(dir, name,
		    (writes && S_ISREG(mode) ? O_WRONLY : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK |
			    O_CLOEXEC | (S_ISDIR(mode) ? O_DIRECTORY : 0));
	return result(fd < 0 ? fd : close(fd));
}

/* What happened to an object: @name in @dir, or @dir itself if that is "". */
static int object(int dir, const char *name, const struct vfsd_agent_record *record)
{
	mode_t mode;
	int err = check_mark(dir, name, &mode);

	if (err)
		return err;
	switch (record->kind) {
	case VFSD_AGENT_OPEN:
		return 0;
	case VFSD_AGENT_CLOSE_WRITE:
	case VFSD_AGENT_CLOSE_NOWRITE:
		return open_and_close(dir, name, mode, record->kind == VFSD_AGENT_CLOSE_WRITE);
	default:
		return touch(dir, name, record->kind);
	}
}

/*
 * Of an object without a name that the guest watches by. The directory elsewhere has any name for it,
 * which suits all but directories: they have one place, and are to stay there.
 */
static int nameless(const struct mount *mount, const struct vfsd_agent_record *record)
{
	const bool is_dir = S_ISDIR(record->mode);
	char name[32];
	mode_t mode;
	int err, fd;

	(void)snprintf(name, sizeof(name), "x%llu", (unsigned long long)record->sequence);
	if (record->kind == VFSD_AGENT_ENDED || record->kind == VFSD_AGENT_MOVE_SELF) {
		err = check_mark(mount->elsewhere, "", &mode);
		if (err)
			return err;
		if (record->kind == VFSD_AGENT_ENDED)
			return remove_name(mount->elsewhere, name, is_dir);
		return result(
			renameat(mount->elsewhere, name, mount->elsewhere, VFSD_AGENT_ELSEWHERE));
	}
	if (!is_dir)
		return object(mount->elsewhere, name, record);
	fd = open_node(mount->session, record->child, record->child_generation,
		       O_PATH | O_DIRECTORY);
	if (fd < 0)
		return fd;
	err = object(fd, "", record);
	(void)close(fd);
	return err;
}

/* inotify's overflow cannot be raised from here: whoever watches a directory is told to look at it. */
static int loss(struct mount *mount, const struct vfsd_agent_record *record)
{
	int fd, err, failed = 0;

	say("events were lost mount=%s: ATTRIB of every watched directory instead", mount->path);
	pthread_mutex_lock(&mount->lock);
	for (size_t i = 0; i < mount->watches.n; i++) {
		const struct watch *watch = &mount->watches.at[i];

		fd = open_node(mount->session, watch->node, watch->generation,
			       O_PATH | O_DIRECTORY);
		if (fd < 0)
			continue;
		err = object(fd, "", record);
		if (err)
			failed = err;
		(void)close(fd);
	}
	pthread_mutex_unlock(&mount->lock);
	interest_forget(mount, 0); /* nor is it known which ids were given back */
	return failed;
}

static int named(const struct mount *mount, int dir, const struct vfsd_agent_record *record)
{
	char away[32];

	(void)snprintf(away, sizeof(away), "x%llu", (unsigned long long)record->sequence);
	switch (record->kind) {
	case VFSD_AGENT_CREATE:
		return create(dir, record);
	case VFSD_AGENT_DELETE:
		return remove_name(dir, record->name, S_ISDIR(record->mode));
	case VFSD_AGENT_RENAME:
		return rename_to(mount, dir, record);
	case VFSD_AGENT_MOVED_OUT:
		return result(renameat(dir, record->name, mount->elsewhere, away));
	case VFSD_AGENT_MOVED_IN:
		return result(renameat(mount->elsewhere, away, dir, record->name));
	default:
		return object(dir, record->name, record);
	}
}

int replay(struct mount *mount, const struct vfsd_agent_record *record)
{
	int dir;

	if (record->node == 0)
		replay_done(mount);
	if (record->kind == VFSD_AGENT_LOSS)
		return loss(mount, record);
	if (record->kind == VFSD_AGENT_FORGOTTEN) {
		interest_forget(mount, record->child);
		return 0;
	}
	if (record->node == 0)
		return nameless(mount, record);
	dir = open_dir(mount, record->node, record->node_generation);
	return dir < 0 ? dir : named(mount, dir, record);
}
