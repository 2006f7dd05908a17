/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who watches what: the fdinfo of an inotify descriptor has a line for each watch, with the file handle of
 * what is watched, which of FUSE is node id and generation.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent.h"

enum { LOOK_ANYWAY_MS = 30000 };

static int compare(const void *a, const void *b)
{
	const struct watch *left = a, *right = b;

	if (left->node != right->node)
		return left->node < right->node ? -1 : 1;
	return 0;
}

static int add(struct watches *list, const struct watch *watch)
{
	if (list->n == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		struct watch *at = realloc(list->at, room * sizeof(*at));

		if (!at)
			return -ENOMEM;
		list->at = at;
		list->room = room;
	}
	list->at[list->n++] = *watch;
	return 0;
}

/* Sorted by node, each of them once with all that is wanted of it. */
static void merge(struct watches *list)
{
	size_t n = 0;

	if (list->n == 0)
		return;
	qsort(list->at, list->n, sizeof(*list->at), compare);
	for (size_t i = 1; i < list->n; i++)
		if (list->at[i].node == list->at[n].node)
			list->at[n].mask |= list->at[i].mask;
		else
			list->at[++n] = list->at[i];
	list->n = n + 1;
}

/*
 * inotify wd:1 ino:1 sdev:2b mask:fc6 ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:<hex>
 */
static bool parse(const char *line, dev_t *dev, struct watch *ret)
{
	const char *hex = strstr(line, "f_handle:");
	unsigned int sdev, bytes, type, mask, byte;
	union {
		uint8_t bytes[12];
		uint32_t words[3];
	} handle;

	if (!hex ||
	    sscanf(line,
		   "inotify wd:%*x ino:%*x sdev:%x mask:%x ignored_mask:%*x fhandle-bytes:%x "
		   "fhandle-type:%x",
		   &sdev, &mask, &bytes, &type) != 4 ||
	    bytes != sizeof(handle.bytes))
		return false;
	hex += strlen("f_handle:");
	for (size_t i = 0; i < sizeof(handle.bytes); i++) {
		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			return false;
		handle.bytes[i] = (uint8_t)byte;
	}
	*dev = makedev(sdev >> 20, sdev & 0xfffff);
	*ret = (struct watch){
		.node = (uint64_t)handle.words[0] << 32 | handle.words[1],
		.generation = handle.words[2],
		.mask = mask & IN_ALL_EVENTS,
	};
	/* What a file was opened for shows when it is closed: both are reported then. */
	if (ret->mask & IN_OPEN)
		ret->mask |= IN_CLOSE;
	return true;
}

static int read_fdinfo(int proc, const char *pid, const char *number, struct mount *mounts,
		       struct watches *found, size_t n)
{
	char path[300], line[512];
	struct watch watch;
	FILE *file;
	dev_t dev;
	int fd, err = 0;

	(void)snprintf(path, sizeof(path), "%s/fdinfo/%s", pid, number);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file) {
		if (fd >= 0)
			(void)close(fd);
		return 0; /* its process has ended, or closed it */
	}
	while (!err && fgets(line, sizeof(line), file))
		if (parse(line, &dev, &watch))
			for (size_t i = 0; i < n && !err; i++)
				if (mounts[i].dev == dev)
					err = add(&found[i], &watch);
	(void)fclose(file);
	return err;
}

static int look_at(int proc, const char *pid, struct mount *mounts, struct watches *found, size_t n)
{
	char path[300], target[32];
	struct dirent *entry;
	DIR *dir;
	int fd, err = 0;

	(void)snprintf(path, sizeof(path), "%s/fd", pid);
	fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			(void)close(fd);
		return 0;
	}
	while (!err && (entry = readdir(dir))) {
		ssize_t bytes = readlinkat(fd, entry->d_name, target, sizeof(target) - 1);

		if (bytes < 0)
			continue;
		target[bytes] = '\0';
		if (strcmp(target, "anon_inode:inotify") == 0)
			err = read_fdinfo(proc, pid, entry->d_name, mounts, found, n);
	}
	(void)closedir(dir);
	return err;
}

/* Tell the daemon what is other than before; all of it in a new session. The lock is held. */
static void tell(struct mount *mount, struct watches *now)
{
	const struct watches none = {.n = 0};
	const struct watches *before = mount->told == mount->sessions ? &mount->watches : &none;
	struct vfsd_agent_message message = {.node = 0};
	size_t i = 0, k = 0, changes = 0;
	int err;

	while (i < before->n || k < now->n) {
		const struct watch *old = i < before->n ? &before->at[i] : NULL;
		struct watch *new = k < now->n ? &now->at[k] : NULL;
		int order = !old ? 1 : !new ? -1 : compare(old, new);

		i += order <= 0;
		k += order >= 0;
		if (order == 0 && old->mask == new->mask)
			continue;
		message.node = order < 0 ? old->node : new->node;
		message.generation = order < 0 ? old->generation : new->generation;
		message.mask = order < 0 ? 0 : new->mask;
		err = session_send(mount->session, VFSD_AGENT_WATCH, &message);
		changes++;
		if (err == -ENOSPC)
			say("mount=%s: the host has no more watches for this guest: "
			    "inotify_add_watch cannot fail for that",
			    mount->path);
		else if (err == -ESTALE && order >= 0)
			new->mask =
				0; /* given back just now; if it is used again, it is told again */
		else if (err && err != -ESTALE)
			say("mount=%s: a watch is not served: %s", mount->path, strerror(-err));
	}
	mount->told = mount->sessions;
	if (verbose && changes)
		say("interest mount=%s watches=%zu", mount->path, now->n);
}

int interest_find(struct mount *mounts, size_t n)
{
	struct watches *found = calloc(n, sizeof(*found));
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	int err = found && proc ? 0 : -errno;

	while (!err && (entry = readdir(proc)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			err = look_at(dirfd(proc), entry->d_name, mounts, found, n);
	for (size_t i = 0; i < n && found; i++) {
		pthread_mutex_lock(&mounts[i].lock);
		if (!err && mounts[i].session >= 0) {
			merge(&found[i]);
			tell(&mounts[i], &found[i]);
			free(mounts[i].watches.at);
			mounts[i].watches = found[i];
			found[i].at = NULL;
		}
		pthread_mutex_unlock(&mounts[i].lock);
		free(found[i].at);
	}
	if (proc)
		(void)closedir(proc);
	free(found);
	return err;
}

void interest_forget(struct mount *mount, uint64_t node)
{
	pthread_mutex_lock(&mount->lock);
	/* Mask 0 is what nobody wants: whatever is found is other than that. */
	for (size_t i = 0; i < mount->watches.n; i++)
		if (node == 0 || mount->watches.at[i].node == node)
			mount->watches.at[i].mask = 0;
	pthread_mutex_unlock(&mount->lock);
	(void)eventfd_write(session_began, 1);
}

static bool all_told(struct mount *mounts, size_t n)
{
	size_t told = 0;

	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&mounts[i].lock);
		told += mounts[i].sessions != 0 && mounts[i].told == mounts[i].sessions;
		pthread_mutex_unlock(&mounts[i].lock);
	}
	return told == n;
}

void interest_run(struct mount *mounts, size_t n, void (*ready)(void))
{
	const int trigger = trigger_open();
	bool was_ready = false;

	if (trigger < 0)
		say("no tracefs (%s): watches are looked for every %d ms", strerror(-trigger),
		    interval_ms);
	for (;;) {
		int err = interest_find(mounts, n);

		if (err)
			say("cannot look for watches: %s", strerror(-err));
		if (!was_ready && all_told(mounts, n)) {
			was_ready = true;
			ready();
		}
		trigger_wait(trigger, trigger < 0 ? interval_ms : LOOK_ANYWAY_MS);
	}
}
