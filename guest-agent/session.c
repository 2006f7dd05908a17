/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

int mount_open(struct mount *mount)
{
	struct statfs fs;
	struct stat st;
	int err;

	pthread_mutex_init(&mount->lock, NULL);
	mount->session = mount->elsewhere = mount->dir.fd = -1;
	mount->root = open(mount->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mount->root < 0 || fstat(mount->root, &st) < 0 || fstatfs(mount->root, &fs) < 0) {
		err = -errno;
		say("mount=%s: %s", mount->path, strerror(-err));
		return err;
	}
	if (fs.f_type != FUSE_SUPER_MAGIC) {
		say("mount=%s: not a virtio-fs share", mount->path);
		return -EINVAL;
	}
	mount->dev = st.st_dev;
	return 0;
}

int session_send(int session, enum vfsd_agent_type type, const struct vfsd_agent_message *from)
{
	const struct vfsd_agent_message message = vfsd_agent_message_make(type, from);
	ssize_t n = pwrite(session, &message, sizeof(message), 0);

	if (n < 0)
		return -errno;
	return n == (ssize_t)sizeof(message) ? 0 : -EIO;
}

static const char *why_not(int err)
{
	switch (err) {
	case -ENOENT:
	case -ESTALE:
		return "the daemon has no --guest-agent=on";
	case -EBUSY:
		return "there is another agent";
	case -EOPNOTSUPP:
		return "not needed, or not possible here: the daemon's log says why";
	case -EROFS:
		return "the share is mounted read-only: mount it rw, and bind it read-only";
	case -EACCES:
	case -EPERM:
		return "only for root in the first pid namespace";
	default:
		return strerror(-err);
	}
}

int session_open(struct mount *mount)
{
	const struct vfsd_agent_message hello = {.pid = (uint32_t)syscall(SYS_gettid)};
	int err = 0, fd;

	fd = open_node(mount->root, VFSD_AGENT_NODE, 0, O_RDWR);
	if (fd < 0)
		err = fd;
	else
		err = session_send(fd, VFSD_AGENT_HELLO, &hello);
	if (!err) {
		mount->elsewhere =
			openat(mount->root, VFSD_AGENT_ELSEWHERE, O_PATH | O_DIRECTORY | O_CLOEXEC);
		err = mount->elsewhere < 0 ? -errno : 0;
	}
	if (err) {
		say("mount=%s: no session: %s", mount->path, why_not(err));
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	pthread_mutex_lock(&mount->lock);
	mount->session = fd;
	mount->sessions++;
	pthread_mutex_unlock(&mount->lock);
	(void)eventfd_write(session_began, 1);
	return 0;
}

void session_close(struct mount *mount)
{
	pthread_mutex_lock(&mount->lock);
	if (mount->session >= 0)
		(void)close(mount->session);
	mount->session = -1;
	pthread_mutex_unlock(&mount->lock);
	if (mount->elsewhere >= 0)
		(void)close(mount->elsewhere);
	mount->elsewhere = -1;
}

/* One line for each way in which a kind cannot be done, not for each time. */
static void say_failed(struct mount *mount, const struct vfsd_agent_record *record, int err)
{
	/* ESTALE: nobody here uses that any more, so nobody watches it. */
	if (!verbose && (err == -ESTALE || mount->said[record->kind] == (uint8_t)-err))
		return;
	mount->said[record->kind] = (uint8_t)-err;
	say("cannot do again: mount=%s kind=%s name=%s error=%s", mount->path,
	    vfsd_agent_kind_name(record->kind), record->name, strerror(-err));
}

/* All records of a batch. The READ that follows acknowledges the last one. */
static int run_batch(struct mount *mount, const void *bytes, size_t n)
{
	struct vfsd_agent_message done = {.sequence = 0};
	struct vfsd_agent_record record;
	struct vfsd_agent_reader reader;
	int got, err = vfsd_agent_batch_open(&reader, bytes, n);

	if (err)
		return err;
	for (bool first = true; (got = vfsd_agent_batch_next(&reader, &record)) == 1;
	     first = false) {
		err = first ? 0 : session_send(mount->session, VFSD_AGENT_ACK, &done);
		if (err)
			return err;
		err = replay(mount, &record);
		if (err == -ECONNRESET)
			return err;
		if (err)
			say_failed(mount, &record, err);
		done.sequence = record.sequence;
	}
	return got;
}

/* A daemon that has nothing to say keeps the READ for seconds. One that does not is not run for. */
static void pace(const struct timespec *since)
{
	const struct timespec second = {.tv_sec = 1};
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec - since->tv_sec < 2)
		(void)nanosleep(&second, NULL);
}

int session_run(struct mount *mount)
{
	static _Thread_local _Alignas(8) uint8_t batch[VFSD_AGENT_BATCH_MAX];
	struct timespec since;
	ssize_t n;
	int err = 0;

	while (!err) {
		(void)clock_gettime(CLOCK_MONOTONIC, &since);
		n = pread(mount->session, batch, sizeof(batch), 0);
		if (n > 0) {
			err = run_batch(mount, batch, (size_t)n);
			replay_done(mount);
		} else if (n == 0) {
			pace(&since);
		} else if (errno != EINTR && errno != EAGAIN) {
			err = -errno;
		} else {
			pace(&since);
		}
	}
	return err;
}
