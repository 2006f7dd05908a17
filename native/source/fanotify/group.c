/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/group - host events by a fanotify group (Linux 5.13, no capability needed for marks of inodes).
 *
 * The group reports file handles and names (FAN_REPORT_FID | FAN_REPORT_DFID_NAME) and the pid that
 * acted: that of this daemon makes an event self-generated. Without privilege the kernel shows other
 * pids as 0, which is all that is needed. Renames come as FAN_RENAME (Linux 5.17), both halves in one
 * event, else as two halves.
 */
#include "source/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/faults.h"
#include "base/log.h"
#include "base/proc_fd.h"
#include "source/fanotify/internal.h"
#include "source/marks.h"

/* What happens to directories too, and their parents' watchers receive. */
#define OF_DIRECTORIES (FAN_ACCESS | FAN_ATTRIB | FAN_CLOSE_NOWRITE | FAN_OPEN)

/* What reordering asks for, and where its steps go */

static bool reports(void *ctx, const struct vfsd_fan_place *place)
{
	return place->name && vfsd_fan_dir_of(ctx, place)->inode;
}

static bool knows(void *ctx, const struct vfsd_file_handle *handle)
{
	const struct vfsd_fan_source *source = ctx;
	struct vfsd_inode *inode = vfsd_inode_find_handle(source->config.inodes, handle);

	vfsd_inode_put(source->config.inodes, inode);
	return inode != NULL;
}

static bool exists(void *ctx, const struct vfsd_fan_place *place,
		   const struct vfsd_file_handle *object)
{
	struct vfsd_fan_source *source = ctx;
	bool found;
	int fd;

	(void)vfsd_fan_look_up(source, place, &found);
	if (!object)
		return found;
	/* Another object of that name has events of its own. */
	fd = vfsd_fan_open_dir(source, vfsd_fan_dir_of(source, place)->inode);
	return fd >= 0 &&
	       !vfsd_source_lost_name(fd, place->name, object->bytes != 0 ? object : NULL);
}

static bool more(void *ctx)
{
	struct vfsd_fan_source *source = ctx;
	bool all;

	return vfsd_fan_batch_more(&source->batch, VFSD_READ_BUFFER_AHEAD, &all);
}

static const struct vfsd_fan_reorder_ops reorder_ops = {.reports = reports,
							.knows = knows,
							.exists = exists,
							.more = more,
							.step = vfsd_fan_emit_step};

static int mark(const struct vfsd_fan_source *source, unsigned int how, int inode_fd, uint64_t mask)
{
	if (fanotify_mark(source->base.fd, how, mask, source->config.proc_self_fd,
			  vfsd_proc_name(inode_fd).name) < 0)
		return -errno;
	return 0;
}

static int probe(struct vfsd_fan_source *source)
{
	struct vfsd_inode *root = vfsd_inode_get(source->config.inodes, VFSD_NODEID_ROOT);
	bool transient;
	int fd, err;

	if (!root)
		return -ESTALE;
	fd = vfsd_inode_fd_get(source->config.inodes, root, &transient);
	if (fd < 0) {
		vfsd_inode_put(source->config.inodes, root);
		return fd;
	}
	source->has_rename = mark(source, FAN_MARK_ADD, fd, FAN_RENAME | FAN_ONDIR) == 0;
	/* What is no directory has no such events, and says so to groups that report targets. */
	err = mark(source, FAN_MARK_ADD, fd,
		   S_ISDIR(root->type) ? FAN_CREATE | FAN_ONDIR : FAN_ATTRIB);
	if (err == 0)
		(void)fanotify_mark(source->base.fd, FAN_MARK_FLUSH, 0, AT_FDCWD, ".");
	vfsd_inode_fd_put(fd, transient);
	vfsd_inode_put(source->config.inodes, root);
	return err;
}

static void destroy(struct vfsd_source *base)
{
	struct vfsd_fan_source *source = (struct vfsd_fan_source *)base;

	if (!source)
		return;
	if (base->fd >= 0)
		(void)close(base->fd);
	vfsd_fs_mark_destroy(source->fs_mark);
	vfsd_fan_reorder_free(&source->reorder);
	vfsd_fan_batch_free(&source->batch);
	free(source);
}

/*
 * With FAN_REPORT_TARGET_FID the host says which object came or went by a name. Directories are gone
 * before anybody looks, and nothing else names their events; and what came and went by one name a hundred
 * times is a hundred events, not one. It costs the order of an object's CREATE, bits and DELETE, which
 * come as one event then. Linux before 5.17 does without.
 */
static int open_group(struct vfsd_fan_source *source)
{
	const unsigned int flags = FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC | FAN_REPORT_FID |
				   FAN_REPORT_DFID_NAME;
	const int files = O_RDONLY | O_CLOEXEC;

	source->base.fd = fanotify_init(flags | FAN_REPORT_TARGET_FID, files);
	if (source->base.fd >= 0 && vfsd_faults_old_host()) {
		(void)close(source->base.fd);
		source->base.fd = -1;
		errno = EINVAL;
	}
	if (source->base.fd < 0 && errno == EINVAL)
		source->base.fd = fanotify_init(flags, files);
	return source->base.fd < 0 ? -errno : 0;
}

static int create(const struct vfsd_source_config *config, struct vfsd_source **ret)
{
	struct vfsd_fan_source *source = calloc(1, sizeof(*source));
	int err;

	if (!source)
		return -ENOMEM;
	source->base.ops = &vfsd_source_fanotify;
	source->config = *config;
	source->reorder.everything = config->everything;
	source->dir_fd = -1;
	err = open_group(source);
	if (!err)
		err = vfsd_fan_batch_init(&source->batch, source->base.fd, getpid());
	if (!err)
		err = vfsd_fan_reorder_init(&source->reorder, &reorder_ops, source,
					    &source->batch.events);
	if (!err)
		err = probe(source);
	if (err) {
		destroy(&source->base);
		return err;
	}
	*ret = &source->base;
	return 0;
}

/* What the host must watch so that a guest interested in @mask receives all it needs. */
static uint64_t host_mask(const struct vfsd_fan_source *source, uint32_t mask, bool is_dir)
{
	uint64_t host = mask & VFSD_FAN_REPORTABLE;

	if (host == 0)
		return 0;
	/*
	 * The end of an object is always reported: by DELETE_SELF where this daemon does not pin it, else by
	 * the ATTRIB of the last unlink.
	 */
	host |= FAN_ATTRIB | FAN_DELETE_SELF;
	/* What takes names away, see vfsd_fan_is_unnamed(). */
	if ((mask & VFSD_SOURCE_EXCL_UNLINK) && (host & VFSD_FAN_BY_NAME))
		host |= is_dir ? FAN_DELETE | VFSD_FAN_MOVED : FAN_MOVE_SELF;
	/* An event of a directory has no name; one that is gone has that of its DELETE. */
	if ((mask & FAN_EVENT_ON_CHILD) && (mask & OF_DIRECTORIES))
		host |= FAN_DELETE;
	if (!is_dir)
		return host & ~(uint64_t)VFSD_FAN_DIRENT;
	if (source->has_rename && (host & VFSD_FAN_MOVED))
		host = (host & ~(uint64_t)VFSD_FAN_MOVED) | FAN_RENAME;
	return host | FAN_ONDIR | (mask & FAN_EVENT_ON_CHILD);
}

static int set_marks(struct vfsd_fan_source *source, struct vfsd_inode *inode, uint32_t old_mask,
		     uint32_t new_mask)
{
	bool is_dir = S_ISDIR(inode->type);
	uint64_t old = host_mask(source, old_mask, is_dir);
	uint64_t new = host_mask(source, new_mask, is_dir);
	bool transient;
	int fd, err = 0;

	if (old == new)
		return 0;
	fd = vfsd_source_begin(&source->config, inode, source->watches, source->config.max_marks,
			       old == 0, &transient);
	if (fd < 0) {
		/* An inode that is gone has lost its marks too: there is less of them, never more. */
		err = new & ~old ? fd : 0;
		goto count;
	}
	if (new & ~old)
		err = mark(source, FAN_MARK_ADD, fd, new & ~old);
	if (!err && (old & ~new)) {
		int remove_err = mark(source, FAN_MARK_REMOVE, fd, old & ~new);

		if (remove_err && remove_err != -ENOENT)
			VFSD_LOG_LIMITED(VFSD_LOG_WARN, "fanotify: cannot trim a mark errno=%d",
					 -remove_err);
	}
	vfsd_inode_fd_put(fd, transient);
count:
	if (!err) {
		source->watches += old == 0 && new != 0;
		source->watches -= old != 0 && new == 0;
	}
	return err;
}

static int watch(struct vfsd_source *base, struct vfsd_inode *inode, uint32_t old_mask,
		 uint32_t new_mask)
{
	struct vfsd_fan_source *source = (struct vfsd_fan_source *)base;
	int err = set_marks(source, inode, old_mask, new_mask);

	if (!err) {
		source->excluding += (new_mask & VFSD_SOURCE_EXCL_UNLINK) != 0;
		source->excluding -= (old_mask & VFSD_SOURCE_EXCL_UNLINK) != 0;
	}
	return err;
}

static int watch_filesystem(struct vfsd_source *base, struct vfsd_inode *root, uint32_t mask)
{
	struct vfsd_fan_source *source = (struct vfsd_fan_source *)base;
	/* Nothing but what was asked for: all of a host's filesystem may come. */
	uint64_t host = mask & VFSD_FAN_REPORTABLE & ~(uint64_t)VFSD_FAN_MOVED;
	int err = 0;

	if (!source->has_rename)
		return -EPERM;
	if (!source->fs_mark && mask != 0)
		err = vfsd_fs_mark_create(&source->config, base->fd, &source->batch,
					  &source->fs_mark);
	if (err || !source->fs_mark)
		return err;
	if (mask == 0)
		return vfsd_fs_mark_watch(source->fs_mark, root, 0);
	if (mask & VFSD_FAN_MOVED)
		host |= FAN_RENAME;
	err = vfsd_fs_mark_watch(source->fs_mark, root, host | (mask & VFSD_SOURCE_FS_ERROR));
	/* Errors are reported since Linux 5.16, and not by every filesystem. */
	return err == -EINVAL ? vfsd_fs_mark_watch(source->fs_mark, root, host) : err;
}

static void release_nodes(struct vfsd_source *base)
{
	struct vfsd_fan_source *source = (struct vfsd_fan_source *)base;

	if (source->fs_mark)
		vfsd_fs_mark_release_nodes(source->fs_mark);
}

/* What an event means beside its steps. */
static void begin_event(struct vfsd_fan_source *source, const struct vfsd_fan_event *event)
{
	if (source->fs_mark)
		vfsd_fs_mark_enter(source->fs_mark, source->reorder.next);
	vfsd_source_took(&source->base, source->sink, event->mask & FAN_Q_OVERFLOW);
	if (event->mask & FAN_Q_OVERFLOW) {
		vfsd_fan_window_clear(source->reorder.window);
		source->nameless.count = 0;
	} else if (event->mask & VFSD_SOURCE_FS_ERROR) {
		vfsd_fan_emit_error(source, event);
	} else if (event->mask & (FAN_DELETE | FAN_RENAME)) {
		vfsd_fan_emit_nameless(source, event->object.handle, vfsd_fan_lost_place(event));
	}
}

/* The events of the batch, which may grow meanwhile. Returns how many. */
static uint64_t process(struct vfsd_fan_source *source)
{
	const struct vfsd_fan_events *events = &source->batch.events;

	vfsd_fan_reorder_begin(&source->reorder);
	if (source->fs_mark)
		vfsd_fs_mark_begin(source->fs_mark);
	while (source->reorder.next < events->count) {
		begin_event(source, &events->at[source->reorder.next]);
		vfsd_fan_reorder_next(&source->reorder);
		vfsd_fan_event_done(source);
		if (source->reorder.next < events->count)
			continue;
		/* An open directory does not end as long as it is; what does now is in the batch. */
		vfsd_fan_close_dir(source);
		vfsd_fan_reorder_ends(&source->reorder);
	}
	if ((source->fs_mark && vfsd_fs_mark_end(source->fs_mark)) || source->batch.malformed)
		source->sink->lost(source->sink->ctx);
	source->batch.malformed = false;
	return events->count;
}

/* Events that the host holds now: FIONREAD counts the fixed part of each. */
static uint64_t waiting(const struct vfsd_fan_source *source)
{
	int bytes = 0;

	if (ioctl(source->base.fd, FIONREAD, &bytes) < 0)
		return 0;
	return (uint64_t)bytes / FAN_EVENT_METADATA_LEN;
}

static void drain(struct vfsd_source *base, const struct vfsd_source_sink *sink)
{
	struct vfsd_fan_source *source = (struct vfsd_fan_source *)base;
	uint64_t left = waiting(source);

	source->sink = sink;
	while (left > 0) {
		int got = vfsd_fan_batch_read(&source->batch);
		uint64_t count;

		if (got < 0)
			VFSD_LOG_LIMITED(VFSD_LOG_ERROR, "fanotify: read failed errno=%d", -got);
		if (got <= 0)
			break;
		count = process(source);
		sink->pass_on(sink->ctx);
		left -= count < left ? count : left;
	}
	vfsd_source_end_drain(base, sink);
	if (waiting(source) > 0)
		return;
	vfsd_fan_window_clear(source->reorder.window);
	/* Nor is there anything left that only its mark has reported. */
	if (source->fs_mark && !vfsd_fs_mark_active(source->fs_mark)) {
		vfsd_fs_mark_destroy(source->fs_mark);
		source->fs_mark = NULL;
	}
}

const struct vfsd_source_ops vfsd_source_fanotify = {
	.create = create,
	.destroy = destroy,
	.watch = watch,
	.watch_filesystem = watch_filesystem,
	.release_nodes = release_nodes,
	.drain = drain,
};
