/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtiofsd-agent --check: is everything there that an agent needs?
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

static bool missing;

static void report(const char *path, const char *what, int err, const char *hint)
{
	if (err == 0) {
		(void)printf("%s: %s: yes\n", path, what);
		return;
	}
	missing = true;
	(void)printf("%s: %s: no (%s); %s\n", path, what, strerror(-err), hint);
}

/* Does the kernel say by which handle a watch on @path is? */
static int watch_shows(const char *path)
{
	char name[64], text[4096];
	int fd, info, err = 0;
	ssize_t n;

	fd = inotify_init1(IN_CLOEXEC);
	if (fd < 0 || inotify_add_watch(fd, path, IN_ATTRIB) < 0)
		err = -errno;
	(void)snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	info = err ? -1 : open(name, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
	if (!err && n < 0)
		err = -errno;
	if (!err && n >= 0) {
		text[n] = '\0';
		err = strstr(text, "f_handle:") ? 0 : -EOPNOTSUPP;
	}
	if (info >= 0)
		(void)close(info);
	if (fd >= 0)
		(void)close(fd);
	return err;
}

static void check_one(const char *path)
{
	struct mount mount = {.path = path};
	int fd, node, err = mount_open(&mount);

	report(path, "a virtio-fs share", err, "mount it: mount -t virtiofs TAG DIRECTORY");
	if (err)
		return;
	fd = openat(mount.root, VFSD_AGENT_FILE, O_PATH | O_CLOEXEC);
	report(path, "the daemon offers events", fd < 0 ? -errno : 0,
	       "start it with --guest-agent=on");
	if (fd >= 0)
		(void)close(fd);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	node = fd < 0 ? -errno : open_node(fd, 1, 0, O_PATH | O_DIRECTORY);
	report(path, "open by file handle", node < 0 ? node : 0,
	       "run as root, with a kernel that has CONFIG_FHANDLE");
	if (node >= 0)
		(void)close(node);
	if (fd >= 0)
		(void)close(fd);
	report(path, "watches can be found", watch_shows(path),
	       "mount /proc; the kernel needs CONFIG_EXPORTFS");
}

int check(const char *const *paths, size_t n)
{
	int trigger;

	for (size_t i = 0; i < n; i++)
		check_one(paths[i]);
	trigger = trigger_open();
	(void)printf("tracefs: %s\n",
		     trigger < 0 ? "no; watches are looked for every second" : "yes");
	if (trigger >= 0)
		(void)close(trigger);
	return missing ? 1 : 0;
}
