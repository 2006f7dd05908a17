/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "script.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 6, MAX_BRANCHES = 8, MAX_FDS = 10, LONG_AGO_S = 1000000000 };

struct run {
	const char *at; /* what is left of the text */
	bool paced;
	struct script_failure *failure;
};

static int fds[MAX_FDS] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
static bool pacing; /* of the script that runs */

/* ---- verbs: 0 or more, or -1 with errno ------------------------------------------------------- */

/* After each system call that may be noticed: lets whoever watches catch up. */
static long did(long ret)
{
	int error = errno;
	char line[16];

	if (pacing) {
		puts("step");
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin))
			_exit(1);
	}
	errno = error;
	return ret;
}

static int *slot(const char *name)
{
	return &fds[isdigit((unsigned char)name[0]) ? name[0] - '0' : 0];
}

static long number(const char *word)
{
	return strtol(word, NULL, 0);
}

static long do_close(char **w)
{
	int *fd = slot(w[0]);
	int ret = close(*fd);

	*fd = -1;
	return did(ret);
}

static int open_flags(const char *letters)
{
	int flags = O_CLOEXEC;
	bool reads = strchr(letters, 'r'), writes = strchr(letters, 'w');

	flags |= reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY;
	for (; *letters; letters++)
		flags |= *letters == 'a' ? O_APPEND :
			 *letters == 'c' ? O_CREAT :
			 *letters == 'd' ? O_DIRECTORY :
			 *letters == 'n' ? O_NONBLOCK :
			 *letters == 'p' ? O_PATH :
			 *letters == 't' ? O_TRUNC :
			 *letters == 'x' ? O_EXCL :
					   0;
	return flags;
}

static long do_open(char **w) /* FD NAME LETTERS, see open_flags */
{
	return did(*slot(w[0]) = open(w[1], open_flags(w[2]), 0644));
}

static long do_tmpfile(char **w) /* FD DIRECTORY */
{
	return did(*slot(w[0]) = open(w[1], O_TMPFILE | O_RDWR | O_CLOEXEC, 0644));
}

static long do_linkfd(char **w) /* FD NAME */
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", *slot(w[0]));
	return did(linkat(AT_FDCWD, path, AT_FDCWD, w[1], AT_SYMLINK_FOLLOW));
}

static long do_dup(char **w) /* FD FD: the first as a second one */
{
	return *slot(w[1]) = fcntl(*slot(w[0]), F_DUPFD_CLOEXEC, 0);
}

static long do_r(char **w) /* FD: reads a byte */
{
	char byte;

	return did(read(*slot(w[0]), &byte, 1));
}

static long do_w(char **w) /* FD: writes a byte */
{
	return did(write(*slot(w[0]), "x", 1));
}

static long do_pwrite(char **w) /* FD OFFSET */
{
	return did(pwrite(*slot(w[0]), "y", 1, number(w[1])));
}

static long do_nothing(char **w) /* FD: writes no byte at all */
{
	return did(write(*slot(w[0]), "", 0));
}

static long do_ftruncate(char **w) /* FD SIZE */
{
	return did(ftruncate(*slot(w[0]), number(w[1])));
}

static long do_fchmod(char **w) /* FD MODE */
{
	return did(fchmod(*slot(w[0]), (mode_t)number(w[1])));
}

static long do_fchown(char **w) /* FD ID */
{
	return did(fchown(*slot(w[0]), (uid_t)number(w[1]), (gid_t)number(w[1])));
}

static long do_futime(char **w) /* FD */
{
	const struct timespec times[2] = {{.tv_sec = LONG_AGO_S}, {.tv_sec = LONG_AGO_S}};

	return did(futimens(*slot(w[0]), times));
}

static long do_fsetxattr(char **w) /* FD KEY VALUE */
{
	return did(fsetxattr(*slot(w[0]), w[1], w[2], strlen(w[2]), 0));
}

static long do_fallocate(char **w) /* FD: the first 4 KiB */
{
	return did(fallocate(*slot(w[0]), 0, 0, 4096));
}

static long do_punch(char **w) /* FD: a hole into the first 4 KiB */
{
	return did(fallocate(*slot(w[0]), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
}

static long do_fsync(char **w)
{
	return did(fsync(*slot(w[0])));
}

static long do_flock(char **w)
{
	return did(flock(*slot(w[0]), LOCK_EX));
}

static long do_mmap(char **w) /* FD: stores a byte through a shared mapping */
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, *slot(w[0]), 0);

	if (page == MAP_FAILED)
		return -1;
	page[0] = 'm';
	msync(page, 4096, MS_SYNC);
	return did(munmap(page, 4096));
}

static long do_copy(char **w) /* FD FD */
{
	loff_t from = 0, to = 0;

	return did(copy_file_range(*slot(w[0]), &from, *slot(w[1]), &to, 4, 0));
}

static long do_sendfile(char **w) /* FD FD */
{
	off_t from = 0;

	return did(sendfile(*slot(w[1]), *slot(w[0]), &from, 4));
}

static long do_mknod(char **w)
{
	return did(mknod(w[0], S_IFREG | 0644, 0));
}

static long do_fifo(char **w)
{
	return did(mknod(w[0], S_IFIFO | 0644, 0));
}

static long do_socket(char **w)
{
	return did(mknod(w[0], S_IFSOCK | 0644, 0));
}

static long do_mkdir(char **w)
{
	return did(mkdir(w[0], 0755));
}

static long do_rmdir(char **w)
{
	return did(rmdir(w[0]));
}

static long do_unlink(char **w)
{
	return did(unlink(w[0]));
}

static long do_mv(char **w)
{
	return did(rename(w[0], w[1]));
}

static long do_exchange(char **w)
{
	return did(renameat2(AT_FDCWD, w[0], AT_FDCWD, w[1], RENAME_EXCHANGE));
}

static long do_noreplace(char **w)
{
	return did(renameat2(AT_FDCWD, w[0], AT_FDCWD, w[1], RENAME_NOREPLACE));
}

static long do_link(char **w)
{
	return did(link(w[0], w[1]));
}

static long do_symlink(char **w) /* TARGET NAME */
{
	return did(symlink(w[0], w[1]));
}

static long do_truncate(char **w) /* NAME SIZE */
{
	return did(truncate(w[0], number(w[1])));
}

static long do_chmod(char **w) /* NAME MODE */
{
	return did(chmod(w[0], (mode_t)number(w[1])));
}

static long do_chown(char **w) /* NAME ID */
{
	return did(lchown(w[0], (uid_t)number(w[1]), (gid_t)number(w[1])));
}

static long do_utime(char **w)
{
	const struct timespec times[2] = {{.tv_sec = LONG_AGO_S}, {.tv_sec = LONG_AGO_S}};

	return did(utimensat(AT_FDCWD, w[0], times, AT_SYMLINK_NOFOLLOW));
}

static long do_setxattr(char **w) /* NAME KEY VALUE */
{
	return did(lsetxattr(w[0], w[1], w[2], strlen(w[2]), 0));
}

static long do_rmxattr(char **w) /* NAME KEY */
{
	return did(lremovexattr(w[0], w[1]));
}

static long do_stat(char **w)
{
	struct stat st;

	return did(lstat(w[0], &st));
}

static long do_access(char **w)
{
	return did(access(w[0], R_OK));
}

static long do_readlink(char **w)
{
	char target[PATH_MAX];

	return did(readlink(w[0], target, sizeof(target)));
}

/* open, write unless @data is empty, close */
static long put(const char *name, int flags, const char *data)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC | flags, 0644);
	long ret = 0;

	if (fd < 0)
		return -1;
	did(0);
	if (data[0])
		ret = did(write(fd, data, strlen(data)));
	close(fd);
	return did(ret);
}

static long do_file(char **w) /* NAME: a new file with four bytes */
{
	return put(w[0], O_CREAT | O_EXCL, "data");
}

static long do_empty(char **w) /* NAME: a new file without any */
{
	return put(w[0], O_CREAT | O_EXCL, "");
}

static long do_write(char **w) /* NAME: over what is there */
{
	return put(w[0], 0, "x");
}

static long do_append(char **w) /* NAME */
{
	return put(w[0], O_APPEND, "y");
}

static long do_replace(char **w) /* NAME: as the shell's > */
{
	return put(w[0], O_CREAT | O_TRUNC, "z");
}

static long do_touch(char **w) /* as touch(1) */
{
	int fd = open(w[0], O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	long ret;

	if (fd < 0)
		return -1;
	did(0);
	ret = did(futimens(fd, NULL));
	close(fd);
	return did(ret);
}

static long do_cat(char **w)
{
	char data[4096];
	int fd = open(w[0], O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -1;
	did(0);
	do
		got = did(read(fd, data, sizeof(data)));
	while (got > 0);
	close(fd);
	return did(got);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Reads the directory @name: at most @room names into @names, sorted. Their number or -1. */
static long list(const char *name, char **names, long room)
{
	char buffer[8192] __attribute__((aligned(8)));
	int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long count = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	did(0);
	while ((got = did(getdents64(fd, buffer, sizeof(buffer)))) > 0) {
		for (ssize_t at = 0; at < got;) {
			const struct dirent64 *entry = (const void *)(buffer + at);

			at += entry->d_reclen;
			if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
			    count < room)
				names[count++] = strdup(entry->d_name);
		}
	}
	close(fd);
	did(0);
	qsort(names, (size_t)count, sizeof(*names), by_name);
	return count;
}

static long do_ls(char **w)
{
	char *names[256];
	long count = list(w[0], names, 256);

	for (long i = 0; i < count; i++)
		free(names[i]);
	return count;
}

static long remove_tree(const char *path)
{
	char *names[256], child[PATH_MAX];
	struct stat st;
	long count, ret = 0;

	if (lstat(path, &st) < 0)
		return -1;
	if (!S_ISDIR(st.st_mode))
		return did(unlink(path));
	count = list(path, names, 256);
	for (long i = 0; i < count; i++) {
		(void)snprintf(child, sizeof(child), "%s/%s", path, names[i]);
		ret |= remove_tree(child);
		free(names[i]);
	}
	return count < 0 || ret < 0 ? -1 : did(rmdir(path));
}

static long do_rm(char **w) /* as rm -rf, names in order */
{
	return remove_tree(w[0]);
}

static const struct verb {
	const char *name;
	int arguments;
	long (*run)(char **words);
} verbs[] = {
	/* by name, one system call */
	{"mknod", 1, do_mknod},
	{"fifo", 1, do_fifo},
	{"socket", 1, do_socket},
	{"mkdir", 1, do_mkdir},
	{"rmdir", 1, do_rmdir},
	{"unlink", 1, do_unlink},
	{"mv", 2, do_mv},
	{"exchange", 2, do_exchange},
	{"noreplace", 2, do_noreplace},
	{"link", 2, do_link},
	{"symlink", 2, do_symlink},
	{"truncate", 2, do_truncate},
	{"chmod", 2, do_chmod},
	{"chown", 2, do_chown},
	{"utime", 1, do_utime},
	{"setxattr", 3, do_setxattr},
	{"rmxattr", 2, do_rmxattr},
	{"stat", 1, do_stat},
	{"access", 1, do_access},
	{"readlink", 1, do_readlink},
	/* by name, with the open and the close that belong to it */
	{"file", 1, do_file},
	{"empty", 1, do_empty},
	{"write", 1, do_write},
	{"append", 1, do_append},
	{"replace", 1, do_replace},
	{"touch", 1, do_touch},
	{"cat", 1, do_cat},
	{"ls", 1, do_ls},
	{"rm", 1, do_rm},
	/* by descriptor */
	{"open", 3, do_open},
	{"tmpfile", 2, do_tmpfile},
	{"close", 1, do_close},
	{"linkfd", 2, do_linkfd},
	{"dup", 2, do_dup},
	{"r", 1, do_r},
	{"w", 1, do_w},
	{"pwrite", 2, do_pwrite},
	{"nothing", 1, do_nothing},
	{"ftruncate", 2, do_ftruncate},
	{"fchmod", 2, do_fchmod},
	{"fchown", 2, do_fchown},
	{"futime", 1, do_futime},
	{"fsetxattr", 3, do_fsetxattr},
	{"fallocate", 1, do_fallocate},
	{"punch", 1, do_punch},
	{"fsync", 1, do_fsync},
	{"flock", 1, do_flock},
	{"mmap", 1, do_mmap},
	{"copy", 2, do_copy},
	{"sendfile", 2, do_sendfile},
};

/* ---- the language ----------------------------------------------------------------------------- */

static bool run_list(struct run *run);

static void skip_spaces(struct run *run)
{
	run->at += strspn(run->at, " ");
}

static bool fail(struct run *run, const char *step, size_t length, int error)
{
	(void)snprintf(run->failure->step, sizeof(run->failure->step), "%.*s", (int)length, step);
	run->failure->error = error;
	return false;
}

static bool run_step(struct run *run)
{
	const char *start = run->at;
	size_t length = strcspn(start, ";|)");
	char copy[1024], *words[MAX_ARGUMENTS + 1] = {NULL}, *rest;
	const char *verb = copy;
	bool must_fail = start[0] == '!';
	int count = 0;
	long ret;

	run->at += length;
	if (length >= sizeof(copy))
		return fail(run, start, length, E2BIG);
	memcpy(copy, start + must_fail, length - must_fail);
	copy[length - must_fail] = '\0';
	for (char *word = strtok_r(copy, " ", &rest); word && count <= MAX_ARGUMENTS;
	     word = strtok_r(NULL, " ", &rest))
		words[count++] = word;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]) && count > 0; i++) {
		if (strcmp(verb, verbs[i].name) != 0)
			continue;
		if (verbs[i].arguments != count - 1)
			return fail(run, start, length, EINVAL);
		errno = 0;
		ret = verbs[i].run(words + 1);
		return (ret < 0) == must_fail || fail(run, start, length, errno);
	}
	return fail(run, start, length, EOPNOTSUPP);
}

/* The end of the branch that begins at @at: its '|' or ')'. */
static const char *branch_end(const char *at)
{
	int depth = 0;

	for (; *at; at++) {
		if (depth == 0 && (*at == '|' || *at == ')'))
			break;
		depth += (*at == '(') - (*at == ')');
	}
	return at;
}

static bool run_group(struct run *run)
{
	const char *begin[MAX_BRANCHES], *at = run->at;
	pid_t children[MAX_BRANCHES];
	int count = 0, status;
	bool fine = true;

	do {
		begin[count++] = at + 1;
		at = branch_end(at + 1);
	} while (*at == '|' && count < MAX_BRANCHES);
	fflush(stdout);
	for (int i = 0; i < count; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			pacing = run->paced && count == 1;
			run->paced = pacing;
			run->at = begin[i];
			_exit(run_list(run) ? 0 : run->failure->error ? run->failure->error : 255);
		}
	}
	for (int i = 0; i < count; i++) {
		if (children[i] < 0 || waitpid(children[i], &status, 0) < 0 || status == 0)
			fine = fine && children[i] > 0;
		else
			fine = fail(run, begin[i], (size_t)(branch_end(begin[i]) - begin[i]),
				    WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
	}
	did(0); /* a child may have left something open that its end has closed */
	if (*at != ')')
		return fail(run, run->at, strlen(run->at), EINVAL);
	run->at = at + 1;
	return fine;
}

/* Up to the end of the text, or of the branch. */
static bool run_list(struct run *run)
{
	for (;;) {
		skip_spaces(run);
		if (*run->at != '\0' && *run->at != '|' && *run->at != ')' &&
		    !(*run->at == '(' ? run_group(run) : run_step(run)))
			return false;
		skip_spaces(run);
		if (*run->at != ';')
			return true;
		run->at++;
	}
}

bool script_run(const char *root, const char *text, bool paced, struct script_failure *ret)
{
	struct run run = {.at = text, .paced = paced, .failure = ret};
	bool fine;

	*ret = (struct script_failure){0};
	pacing = paced;
	if (chdir(root) < 0)
		return fail(&run, root, strlen(root), errno);
	fine = run_list(&run);
	if (fine && *run.at)
		fine = fail(&run, run.at, strlen(run.at), EINVAL);
	pacing = false;
	return chdir("/") == 0 && fine;
}

void script_end(void)
{
	for (int i = 0; i < MAX_FDS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}
