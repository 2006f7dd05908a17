/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source_fanotify - host events by fanotify inode marks (Linux 5.13, no capability needed).
 *
 * The group reports file handles and names (FAN_REPORT_FID | FAN_REPORT_DFID_NAME) and the pid that
 * acted: ours is an echo. Without privilege the kernel shows other pids as 0, which is all that is
 * needed. Renames come as FAN_RENAME (Linux 5.17), both halves in one event, else as two halves
 * that are paired here.
 */
#include "source/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "source/fanotify/internal.h"
#include "base/faults.h"
#include "base/log.h"
#include "base/proc_fd.h"
#include "source/marks.h"
#include "base/util.h"

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
	vfsd_whole_destroy(source->whole);
	vfsd_names_destroy(source->names);
	vfsd_fan_ahead_destroy(source->ahead);
	vfsd_batch_free(&source->batch);
	free(source);
}

/*
 * With FAN_REPORT_TARGET_FID the host says which object came or went by a name. Directories are gone
 * before we look, and nothing else names their events; and what came and went by one name a hundred
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
	source->self = getpid();
	source->dir_fd = -1;
	err = open_group(source);
	if (!err)
		err = vfsd_batch_init(&source->batch, source->base.fd);
	if (!err)
		err = vfsd_fan_ahead_create(&source->batch, &source->ahead);
	if (!err)
		err = vfsd_names_create(&source->names);
	if (!err)
		err = probe(source);
	if (err) {
		destroy(&source->base);
		return err;
	}
	*ret = &source->base;
	return 0;
}

/* What the host must watch so that a guest interested in @mask hears all it needs. */
static uint64_t host_mask(const struct vfsd_fan_source *source, uint32_t mask, bool is_dir)
{
	uint64_t host = mask & REPORTABLE;

	if (host == 0)
		return 0;
	/*
	 * The end of an object is always told: by DELETE_SELF where nothing of ours pins it, else by
	 * the ATTRIB of the last unlink.
	 */
	host |= FAN_ATTRIB | FAN_DELETE_SELF;
	/* What takes names away, see is_unnamed(). */
	if ((mask & VFSD_SOURCE_EXCL_UNLINK) && (host & BY_NAME))
		host |= is_dir ? FAN_DELETE | MOVED : FAN_MOVE_SELF;
	/* An event of a directory has no name; one that is gone has that of its DELETE. */
	if ((mask & FAN_EVENT_ON_CHILD) && (mask & OF_DIRECTORIES))
		host |= FAN_DELETE;
	if (!is_dir)
		return host & ~(uint64_t)DIRENT;
	if (source->has_rename && (host & MOVED))
		host = (host & ~(uint64_t)MOVED) | FAN_RENAME;
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

static int watch_whole(struct vfsd_source *base, struct vfsd_inode *root, uint32_t mask)
{
	struct vfsd_fan_source *source = (struct vfsd_fan_source *)base;
	/* Nothing but what was asked for: all of a host's filesystem may come. */
	uint64_t host = mask & REPORTABLE & ~(uint64_t)MOVED;
	int err = 0;

	if (!source->has_rename)
		return -EPERM;
	if (!source->whole && mask != 0)
		err = vfsd_whole_create(&source->config, base->fd, &source->batch, &source->whole);
	if (err || !source->whole)
		return err;
	if (mask == 0)
		return vfsd_whole_watch(source->whole, root, 0);
	if (mask & MOVED)
		host |= FAN_RENAME;
	err = vfsd_whole_watch(source->whole, root, host | (mask & VFSD_SOURCE_FS_ERROR));
	/* Errors are told since Linux 5.16, and not by every filesystem. */
	return err == -EINVAL ? vfsd_whole_watch(source->whole, root, host) : err;
}

static void let_go(struct vfsd_source *base)
{
	struct vfsd_fan_source *source = (struct vfsd_fan_source *)base;

	if (source->whole)
		vfsd_whole_let_go(source->whole);
}

static void handle_event(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink,
			 const struct vfsd_fan_event *event)
{
	uint32_t on_dir = (uint32_t)event->mask & FAN_ONDIR;
	uint32_t mask;

	vfsd_source_took(&source->base, sink, event->mask & FAN_Q_OVERFLOW);
	if (event->mask & FAN_Q_OVERFLOW) {
		vfsd_names_forget(source->names);
		source->nameless.count = 0;
		return;
	}
	if (event->mask & VFSD_SOURCE_FS_ERROR) {
		if (source->whole)
			vfsd_fan_tell_error(source, sink, event);
		return;
	}
	if (event->mask & (FAN_DELETE | FAN_RENAME))
		vfsd_fan_tell_nameless(source, sink, &event->object.handle,
				       vfsd_fan_lost_place(event));
	mask = vfsd_fan_begin_event(source, event);
	if ((event->mask & FAN_RENAME) && (!source->base.own || source->config.everything))
		vfsd_fan_tell_renames(source, sink, event); /* it is merged with nothing else */
	else if (mask & DIRENT)
		vfsd_fan_tell_dirents(source, sink, event, mask, on_dir);
	else if (mask != 0)
		vfsd_fan_tell_object(source, sink, event, mask, on_dir, NULL);
}

/* The events of the batch. Returns how many. */
static uint64_t handle_events(struct vfsd_fan_source *source, const struct vfsd_source_sink *sink)
{
	const bool whole = source->whole != NULL;
	struct vfsd_batch *batch = &source->batch;
	struct vfsd_fan_event event;
	uint64_t count = 0, before;

	if (whole)
		vfsd_whole_begin(source->whole);
	source->ends.count = 0;
	do {
		before = count;
		for (; vfsd_fan_next(&batch->at, batch->end, &event); count++) {
			if (vfsd_fan_put_off(source, &event, batch->at, batch->end))
				event.mask &= ~(uint64_t)FAN_DELETE_SELF;
			if (whole)
				vfsd_whole_enter(source->whole, &event);
			handle_event(source, sink, &event);
			vfsd_fan_tell_ends(source, sink, batch->at, NULL);
		}
		/* An open directory does not end as long as it is; what does now is in the batch. */
		vfsd_fan_close_dir(source);
		vfsd_fan_tell_ends(source, sink, batch->at, NULL);
	} while (count > before && batch->at < batch->end);
	if (whole && vfsd_whole_end(source->whole))
		sink->lost(sink->ctx);
	return count;
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

	while (left > 0) {
		int got = vfsd_batch_read(&source->batch);
		uint64_t count;

		if (got < 0)
			VFSD_LOG_LIMITED(VFSD_LOG_ERROR, "fanotify: read failed errno=%d", -got);
		if (got <= 0)
			break;
		vfsd_fan_ahead_reset(source->ahead);
		count = handle_events(source, sink);
		sink->pass_on(sink->ctx);
		left -= count < left ? count : left;
	}
	vfsd_source_end_drain(base, sink);
	if (waiting(source) > 0)
		return;
	vfsd_names_forget(source->names);
	/* Nor is there anything left that only its mark has reported. */
	if (source->whole && !vfsd_whole_active(source->whole)) {
		vfsd_whole_destroy(source->whole);
		source->whole = NULL;
	}
}

const struct vfsd_source_ops vfsd_source_fanotify = {
	.create = create,
	.destroy = destroy,
	.watch = watch,
	.watch_whole = watch_whole,
	.let_go = let_go,
	.drain = drain,
};
