/* SPDX-License-Identifier: BSD-3-Clause */
/* The POSIX checker's steps that make, move and remove names, and those that must be undone. */
#define _GNU_SOURCE
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_UNDO 8

static const struct name attributes[] = {
	{"none", 0},
	{"immutable", FS_IMMUTABLE_FL},
	{"append", FS_APPEND_FL},
};

static const struct name exchange_flags[] = {
	NAME(RENAME_NOREPLACE),
	NAME(RENAME_EXCHANGE),
};

/* ---- what a case leaves behind ------------------------------------------------------------- */

static struct {
	char *at[MAX_UNDO];
	int count;
} flagged, mounted;
static pid_t running;

static void remember(const char *what, char **at, int *count)
{
	char *where = realpath(what, NULL);

	if (!where || *count == MAX_UNDO) {
		fprintf(stderr, "posix: cannot undo %s\n", what);
		exit(1);
	}
	at[(*count)++] = where;
}

static int change_flags(const char *file, int flags)
{
	const int fd = open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int now = 0, ret = -1;

	if (fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &now) == 0) {
		now = (now & ~(FS_IMMUTABLE_FL | FS_APPEND_FL)) | flags;
		ret = ioctl(fd, FS_IOC_SETFLAGS, &now);
	}
	if (fd >= 0) {
		const int error = errno;

		close(fd);
		errno = error;
	}
	return ret;
}

void posix_undo(void)
{
	if (running > 0) {
		kill(running, SIGKILL);
		waitpid(running, NULL, 0);
		running = 0;
	}
	while (flagged.count > 0) {
		change_flags(flagged.at[--flagged.count], 0);
		free(flagged.at[flagged.count]);
	}
	while (mounted.count > 0) {
		umount2(mounted.at[--mounted.count], MNT_DETACH);
		free(mounted.at[mounted.count]);
	}
}

/* ---- names --------------------------------------------------------------------------------- */

static void do_mkdir(const struct words *w) /* PATH MODE */
{
	posix_result(mkdir(posix_path(w, 1), posix_mode(w, 2)));
}

static void do_mkfifo(const struct words *w) /* PATH MODE */
{
	posix_result(mkfifo(posix_path(w, 1), posix_mode(w, 2)));
}

static void do_mknod(const struct words *w) /* PATH TYPE MODE [MAJOR MINOR] */
{
	const dev_t device =
		makedev((unsigned int)posix_number(w, 4), (unsigned int)posix_number(w, 5));

	posix_result(mknod(posix_path(w, 1), posix_type(w->at[2]) | posix_mode(w, 3), device));
}

static void do_bind(const struct words *w) /* PATH: a socket */
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", posix_path(w, 1));
	posix_result(bind(fd, (const struct sockaddr *)&address, sizeof(address)));
	close(fd);
}

static void do_symlink(const struct words *w) /* TARGET PATH */
{
	posix_result(symlink(posix_path(w, 1), posix_path(w, 2)));
}

static void do_link(const struct words *w)
{
	posix_result(link(posix_path(w, 1), posix_path(w, 2)));
}

static void do_linkfollow(const struct words *w)
{
	posix_result(
		linkat(AT_FDCWD, posix_path(w, 1), AT_FDCWD, posix_path(w, 2), AT_SYMLINK_FOLLOW));
}

static void do_unlink(const struct words *w)
{
	posix_result(unlink(posix_path(w, 1)));
}

static void do_rmdir(const struct words *w)
{
	posix_result(rmdir(posix_path(w, 1)));
}

static void do_rename(const struct words *w)
{
	posix_result(rename(posix_path(w, 1), posix_path(w, 2)));
}

static void do_renameat2(const struct words *w) /* FROM TO FLAG */
{
	posix_result(renameat2(AT_FDCWD, posix_path(w, 1), AT_FDCWD, posix_path(w, 2),
			       (unsigned int)VALUE(exchange_flags, w->at[3])));
}

static void do_chdir(const struct words *w) /* until the case ends */
{
	posix_result(chdir(posix_path(w, 1)));
}

static void do_readlink(const struct words *w) /* -> target */
{
	char target[8192];
	const ssize_t length = readlink(posix_path(w, 1), target, sizeof(target) - 1);

	if (length < 0)
		posix_result(length);
	else
		fwrite(target, 1, (size_t)length, stdout);
}

static int is_named(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static void do_list(const struct words *w) /* DIRECTORY -> names, comma separated, or "-" */
{
	/* Not scandir(PATH), which looks at PATH itself before the kernel does. */
	const int fd = open(posix_path(w, 1), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **entries;
	char through[32];
	int count;

	snprintf(through, sizeof(through), "/proc/self/fd/%d", fd);
	count = fd < 0 ? fd : scandir(through, &entries, is_named, alphasort);
	if (count < 0)
		posix_result(count);
	if (fd >= 0)
		close(fd);
	if (count < 0)
		return;
	if (count == 0)
		putchar('-');
	for (int i = 0; i < count; i++) {
		printf("%s%s", i ? "," : "", entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
}

/* ---- several calls ------------------------------------------------------------------------- */

/* TYPE PATH [MODE [UID GID]]: whatever the umask; a symlink points to "target" */
static void do_make(const struct words *w)
{
	const mode_t type = posix_type(w->at[1]);
	const char *name = posix_path(w, 2);
	const mode_t bits = w->count > 3 ? posix_mode(w, 3) : (type == S_IFDIR ? 0755 : 0644);
	int ret;

	if (type == S_IFDIR)
		ret = mkdir(name, 0700);
	else if (type == S_IFLNK)
		ret = symlink("target", name);
	else
		ret = mknod(name, type | 0600, makedev(1, 3));
	if (ret == 0 && w->count > 4)
		ret = lchown(name, (uid_t)posix_number(w, 4), (gid_t)posix_number(w, 5));
	if (ret == 0 && type != S_IFLNK)
		ret = chmod(name, bits);
	posix_result(ret);
}

static void do_mount(const struct words *w) /* tmpfs|bind|ro DIRECTORY; bind and ro: onto itself */
{
	const char *where = posix_path(w, 2);
	int ret;

	if (strcmp(w->at[1], "tmpfs") == 0) {
		ret = mount("tmpfs", where, "tmpfs", 0, "mode=0777");
	} else {
		ret = mount(where, where, NULL, MS_BIND, NULL);
		if (ret == 0 && strcmp(w->at[1], "ro") == 0)
			ret = mount(NULL, where, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
	}
	posix_result(ret);
	if (ret == 0)
		remember(where, mounted.at, &mounted.count);
}

static int copy_self(const char *to)
{
	const int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	struct stat st;
	int ret = in < 0 || out < 0 ? -1 : fstat(in, &st);

	for (off_t left = ret == 0 ? st.st_size : 0; left > 0 && ret == 0;) {
		const ssize_t n = sendfile(out, in, NULL, (size_t)left);

		left -= n;
		ret = n > 0 ? 0 : -1;
	}
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return ret;
}

/* PATH: makes a program there, which runs until the case ends */
static void do_run(const struct words *w)
{
	const char *program = posix_path(w, 1);
	int started[2];
	int error = 0;

	if (copy_self(program) != 0 || pipe2(started, O_CLOEXEC) != 0) {
		posix_result(-1);
		return;
	}
	running = fork();
	if (running == 0) {
		execl(program, program, "--pause", (char *)NULL);
		error = errno;
		_exit(write(started[1], &error, sizeof(error)) < 0);
	}
	close(started[1]);
	/* End of file: the program runs. */
	errno = read(started[0], &error, sizeof(error)) > 0 ? error : 0;
	posix_result(-(errno != 0));
	close(started[0]);
}

static void do_flags(const struct words *w) /* PATH none|immutable|append: several calls */
{
	const int flags = VALUE(attributes, w->at[2]);
	const int ret = change_flags(posix_path(w, 1), flags);

	posix_result(ret);
	if (ret == 0 && flags)
		remember(posix_path(w, 1), flagged.at, &flagged.count);
}

const struct verb posix_name_verbs[] = {
	VERB(bind, 1),	VERB(chdir, 1),	   VERB(flags, 2),  VERB(link, 2),	VERB(linkfollow, 2),
	VERB(list, 1),	VERB(make, 2),	   VERB(mkdir, 2),  VERB(mkfifo, 2),	VERB(mknod, 3),
	VERB(mount, 2), VERB(readlink, 1), VERB(rename, 2), VERB(renameat2, 3), VERB(rmdir, 1),
	VERB(run, 1),	VERB(symlink, 2),  VERB(unlink, 1), {NULL, 0, NULL},
};
