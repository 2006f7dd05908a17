/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree - a temporary directory on a real filesystem, gone afterwards, and what a test may ask about
 * this process.
 */
#ifndef VFSD_TREE_H
#define VFSD_TREE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "check.h"

struct tree {
	char path[PATH_MAX];
	int fd; /* O_RDONLY */
};

static inline void tree_create(struct tree *tree)
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(tree->path, sizeof(tree->path), "%s/vfsd-XXXXXX", tmp ? tmp : "/tmp");
	CHECK(mkdtemp(tree->path));
	tree->fd = open(tree->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(tree->fd >= 0);
}

static inline int tree_remove_one(const char *path, const struct stat *st, int what,
				  struct FTW *ftw)
{
	(void)st;
	(void)what;
	(void)ftw;
	return remove(path);
}

static inline void tree_destroy(struct tree *tree)
{
	CHECK_EQ(close(tree->fd), 0);
	CHECK_EQ(nftw(tree->path, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline void tree_file(const struct tree *tree, const char *name, const char *text)
{
	int fd = openat(tree->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	CHECK_EQ(close(fd), 0);
}

/* Does the kernel say which mount something is on? An emulator may stand for it. */
static inline bool tree_tells_mounts(void)
{
	struct statx st = {.stx_mnt_id = 0};

	return statx(AT_FDCWD, "/", 0, STATX_MNT_ID, &st) == 0 && st.stx_mnt_id != 0;
}

/* Give this process mounts of its own. False, and told: it cannot have them. */
static inline bool tree_own_mounts(void)
{
	if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    tree_tells_mounts())
		return true;
	(void)fprintf(stderr, "left out: mounts\n");
	return false;
}

static inline int tree_proc_self_fd(void)
{
	int fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

/* Descriptors this process has open. */
static inline unsigned int tree_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	CHECK(dir);
	while (readdir(dir))
		n++;
	CHECK_EQ(closedir(dir), 0);
	return n;
}

#endif
