/* SPDX-License-Identifier: BSD-3-Clause */
/* The verbs of the POSIX checker: each is one system call, or says so. */
#define _GNU_SOURCE
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
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
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define MAX_UNDO 8
#define MAX_MARKS 16

struct name {
	const char *name;
	int value;
};

#define NAME(word) {#word, word}

static const struct name open_flags[] = {
	NAME(O_RDONLY), NAME(O_WRONLY), NAME(O_RDWR),	  NAME(O_CREAT),    NAME(O_EXCL),
	NAME(O_TRUNC),	NAME(O_APPEND), NAME(O_NONBLOCK), NAME(O_NOFOLLOW), NAME(O_DIRECTORY),
	NAME(O_PATH),	NAME(O_SYNC),	NAME(O_TMPFILE),  NAME(O_NOATIME),  NAME(O_CLOEXEC),
};

static const struct name types[] = {
	{"regular", S_IFREG}, {"dir", S_IFDIR},	    {"fifo", S_IFIFO},	  {"char", S_IFCHR},
	{"block", S_IFBLK},   {"socket", S_IFSOCK}, {"symlink", S_IFLNK},
};

static const struct name attributes[] = {
	{"none", 0},
	{"immutable", FS_IMMUTABLE_FL},
	{"append", FS_APPEND_FL},
};

static const struct name exchange_flags[] = {
	NAME(RENAME_NOREPLACE),
	NAME(RENAME_EXCHANGE),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define VALUE(table, word) value_of(table, COUNT(table), word)
#define VERB(function, at_least) {#function, at_least, do_##function}

/* The sum of the comma separated @words. Ends the program on one that it does not know. */
static int value_of(const struct name *table, size_t count, const char *words)
{
	int value = 0;

	while (*words) {
		const size_t length = strcspn(words, ",");
		size_t i = 0;

		while (i < count && (strlen(table[i].name) != length ||
				     memcmp(table[i].name, words, length) != 0))
			i++;
		if (i == count) {
			fprintf(stderr, "posix: what is %s?\n", words);
			exit(1);
		}
		value |= table[i].value;
		words += length + (words[length] == ',');
	}
	return value;
}

static const char *path(const struct words *w, int index)
{
	const char *word = index < w->count ? w->at[index] : "%";

	if (strcmp(word, "!") == 0)
		return (const char *)(intptr_t)1;
	return strcmp(word, "%") == 0 ? "" : word;
}

static long number(const struct words *w, int index)
{
	return index < w->count ? strtol(w->at[index], NULL, 10) : 0;
}

static mode_t mode(const struct words *w, int index)
{
	return index < w->count ? (mode_t)strtoul(w->at[index], NULL, 8) : 0;
}

/* The descriptor in the slot, or -1, which answers EBADF. */
static int slot(const struct words *w, int index)
{
	const long at = number(w, index);

	return at >= 0 && at < MAX_SLOTS ? slots[at] : -1;
}

void posix_result(long result)
{
	const char *name = result < 0 ? strerrorname_np(errno) : "0";

	fputs(name ? name : "unknown-errno", stdout);
}

/* ---- what a case leaves behind ---------------------------------------------------------------- */

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

/* ---- names ----------------------------------------------------------------------------------- */

static void do_mkdir(const struct words *w) /* PATH MODE */
{
	posix_result(mkdir(path(w, 1), mode(w, 2)));
}

static void do_mkfifo(const struct words *w) /* PATH MODE */
{
	posix_result(mkfifo(path(w, 1), mode(w, 2)));
}

static void do_mknod(const struct words *w) /* PATH TYPE MODE [MAJOR MINOR] */
{
	const dev_t device = makedev((unsigned int)number(w, 4), (unsigned int)number(w, 5));

	posix_result(mknod(path(w, 1), (mode_t)VALUE(types, w->at[2]) | mode(w, 3), device));
}

static void do_bind(const struct words *w) /* PATH: a socket */
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path(w, 1));
	posix_result(bind(fd, (const struct sockaddr *)&address, sizeof(address)));
	close(fd);
}

static void do_symlink(const struct words *w) /* TARGET PATH */
{
	posix_result(symlink(path(w, 1), path(w, 2)));
}

static void do_link(const struct words *w)
{
	posix_result(link(path(w, 1), path(w, 2)));
}

static void do_linkfollow(const struct words *w)
{
	posix_result(linkat(AT_FDCWD, path(w, 1), AT_FDCWD, path(w, 2), AT_SYMLINK_FOLLOW));
}

static void do_unlink(const struct words *w)
{
	posix_result(unlink(path(w, 1)));
}

static void do_rmdir(const struct words *w)
{
	posix_result(rmdir(path(w, 1)));
}

static void do_rename(const struct words *w)
{
	posix_result(rename(path(w, 1), path(w, 2)));
}

static void do_renameat2(const struct words *w) /* FROM TO FLAG */
{
	posix_result(renameat2(AT_FDCWD, path(w, 1), AT_FDCWD, path(w, 2),
			       (unsigned int)VALUE(exchange_flags, w->at[3])));
}

static void do_chdir(const struct words *w) /* until the case ends */
{
	posix_result(chdir(path(w, 1)));
}

static void do_readlink(const struct words *w) /* -> target */
{
	char target[8192];
	const ssize_t length = readlink(path(w, 1), target, sizeof(target) - 1);

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
	const int fd = open(path(w, 1), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

/* ---- inodes ---------------------------------------------------------------------------------- */

static void do_chmod(const struct words *w)
{
	posix_result(chmod(path(w, 1), mode(w, 2)));
}

static void do_chown(const struct words *w) /* PATH UID GID; -1: as it is */
{
	posix_result(chown(path(w, 1), (uid_t)number(w, 2), (gid_t)number(w, 3)));
}

static void do_lchown(const struct words *w)
{
	posix_result(lchown(path(w, 1), (uid_t)number(w, 2), (gid_t)number(w, 3)));
}

static void do_truncate(const struct words *w) /* PATH SIZE */
{
	posix_result(truncate(path(w, 1), number(w, 2)));
}

static void do_access(const struct words *w) /* PATH [r][w][x], for the effective ids */
{
	const char *how = w->at[2];

	posix_result(faccessat(AT_FDCWD, path(w, 1),
			       (strchr(how, 'r') ? R_OK : 0) | (strchr(how, 'w') ? W_OK : 0) |
				       (strchr(how, 'x') ? X_OK : 0),
			       AT_EACCESS));
}

/* "now", "omit" or SECONDS[.NANOSECONDS] with nine digits */
static struct timespec time_of(const char *word)
{
	struct timespec ts = {0};
	char *end;

	if (strcmp(word, "now") == 0 || strcmp(word, "omit") == 0) {
		ts.tv_nsec = word[0] == 'n' ? UTIME_NOW : UTIME_OMIT;
	} else {
		ts.tv_sec = strtol(word, &end, 10);
		ts.tv_nsec = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
	}
	return ts;
}

static void do_utimens(const struct words *w) /* PATH ATIME MTIME [nofollow] */
{
	const struct timespec times[2] = {time_of(w->at[2]), time_of(w->at[3])};

	posix_result(
		utimensat(AT_FDCWD, path(w, 1), times, w->count > 4 ? AT_SYMLINK_NOFOLLOW : 0));
}

static void do_utimenull(const struct words *w) /* PATH: both times, to now */
{
	posix_result(utimensat(AT_FDCWD, path(w, 1), NULL, 0));
}

static void do_flags(const struct words *w) /* PATH none|immutable|append: several calls */
{
	const int flags = VALUE(attributes, w->at[2]);
	const int ret = change_flags(path(w, 1), flags);

	posix_result(ret);
	if (ret == 0 && flags)
		remember(path(w, 1), flagged.at, &flagged.count);
}

static void do_setxattr(const struct words *w) /* PATH NAME VALUE */
{
	posix_result(setxattr(path(w, 1), w->at[2], w->at[3], strlen(w->at[3]), 0));
}

static void do_getxattr(const struct words *w) /* PATH NAME -> value */
{
	char value[256];
	const ssize_t length = getxattr(path(w, 1), w->at[2], value, sizeof(value));

	if (length < 0)
		posix_result(length);
	else
		fwrite(value, 1, (size_t)length, stdout);
}

static const char *type_name(mode_t type)
{
	for (size_t i = 0; i < COUNT(types); i++)
		if ((type & S_IFMT) == (mode_t)types[i].value)
			return types[i].name;
	return "unknown-type";
}

static void put_time(const struct timespec *ts)
{
	if (ts->tv_nsec)
		printf("%lld.%09ld", (long long)ts->tv_sec, ts->tv_nsec);
	else
		printf("%lld", (long long)ts->tv_sec);
}

/* Puts the comma separated @fields of @st, or the error @ret. */
static void put_status(int ret, const struct stat *st, const char *fields)
{
	if (ret != 0) {
		posix_result(ret);
		return;
	}
	for (const char *field = fields; field;
	     field = strchr(field, ',') ? strchr(field, ',') + 1 : NULL) {
		if (field != fields)
			putchar(',');
		if (strncmp(field, "type", 4) == 0)
			fputs(type_name(st->st_mode), stdout);
		else if (strncmp(field, "mode", 4) == 0)
			printf("%04o", st->st_mode & 07777);
		else if (strncmp(field, "uid", 3) == 0)
			printf("%u", st->st_uid);
		else if (strncmp(field, "gid", 3) == 0)
			printf("%u", st->st_gid);
		else if (strncmp(field, "nlink", 5) == 0)
			printf("%ju", (uintmax_t)st->st_nlink);
		else if (strncmp(field, "size", 4) == 0)
			printf("%jd", (intmax_t)st->st_size);
		else if (strncmp(field, "rdev", 4) == 0)
			printf("%u:%u", major(st->st_rdev), minor(st->st_rdev));
		else if (strncmp(field, "atime", 5) == 0)
			put_time(&st->st_atim);
		else if (strncmp(field, "mtime", 5) == 0)
			put_time(&st->st_mtim);
		else
			fputs("unknown-field", stdout);
	}
}

static void do_stat(const struct words *w) /* PATH FIELD[,FIELD...] -> values */
{
	struct stat st;

	put_status(stat(path(w, 1), &st), &st, w->at[2]);
}

static void do_lstat(const struct words *w)
{
	struct stat st;

	put_status(lstat(path(w, 1), &st), &st, w->at[2]);
}

static void do_fstat(const struct words *w) /* SLOT FIELD[,FIELD...] -> values */
{
	struct stat st;

	put_status(fstat(slot(w, 1), &st), &st, w->at[2]);
}

static void do_same(const struct words *w) /* PATH OTHER -> "yes" or "no": one inode */
{
	struct stat a, b;

	if (lstat(path(w, 1), &a) != 0 || lstat(path(w, 2), &b) != 0)
		posix_result(-1);
	else
		fputs(a.st_dev == b.st_dev && a.st_ino == b.st_ino ? "yes" : "no", stdout);
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static int open_as_told(const struct words *w, int first)
{
	return open(path(w, first), VALUE(open_flags, w->at[first + 1]) | O_CLOEXEC,
		    mode(w, first + 2));
}

static void do_open(const struct words *w) /* PATH FLAG[,FLAG...] [MODE]; closes it */
{
	const int fd = open_as_told(w, 1);

	posix_result(fd);
	if (fd >= 0)
		close(fd);
}

static void do_hold(const struct words *w) /* SLOT PATH FLAG[,FLAG...] [MODE] */
{
	const int fd = open_as_told(w, 2);

	slots[number(w, 1) % MAX_SLOTS] = fd;
	posix_result(fd);
}

static void do_close(const struct words *w) /* SLOT */
{
	posix_result(close(slot(w, 1)));
	slots[number(w, 1) % MAX_SLOTS] = -1;
}

static void do_write(const struct words *w) /* SLOT TEXT */
{
	posix_result(write(slot(w, 1), w->at[2], strlen(w->at[2])));
}

static void do_pwrite(const struct words *w) /* SLOT TEXT OFFSET */
{
	posix_result(pwrite(slot(w, 1), w->at[2], strlen(w->at[2]), number(w, 3)));
}

static void put_text(int fd, bool from_start)
{
	char text[256];
	const ssize_t length = from_start ? pread(fd, text, sizeof(text), 0) :
					    read(fd, text, sizeof(text));

	for (ssize_t i = 0; i < length; i++)
		putchar(text[i] > ' ' && text[i] < 0x7f ? text[i] : '.');
	if (length <= 0)
		fputs(length < 0 ? strerrorname_np(errno) : "-", stdout);
}

static void do_read(const struct words *w) /* SLOT -> up to 256 bytes, "." for odd ones, or "-" */
{
	put_text(slot(w, 1), false);
}

static void do_pread(const struct words *w) /* SLOT -> from the start */
{
	put_text(slot(w, 1), true);
}

static void do_cat(const struct words *w) /* PATH -> content; opens, reads, closes */
{
	const int fd = open(path(w, 1), O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		posix_result(fd);
		return;
	}
	put_text(fd, false);
	close(fd);
}

static void
do_put(const struct words *w) /* PATH TEXT: opens O_CREAT O_TRUNC 0644, writes, closes */
{
	const int fd = open(path(w, 1), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	posix_result(fd < 0 ? fd : write(fd, w->at[2], strlen(w->at[2])));
	if (fd >= 0)
		close(fd);
}

static void do_ftruncate(const struct words *w) /* SLOT SIZE */
{
	posix_result(ftruncate(slot(w, 1), number(w, 2)));
}

static void do_fchmod(const struct words *w) /* SLOT MODE */
{
	posix_result(fchmod(slot(w, 1), mode(w, 2)));
}

static void do_fchown(const struct words *w) /* SLOT UID GID */
{
	posix_result(fchown(slot(w, 1), (uid_t)number(w, 2), (gid_t)number(w, 3)));
}

static void do_futimens(const struct words *w) /* SLOT ATIME MTIME */
{
	const struct timespec times[2] = {time_of(w->at[2]), time_of(w->at[3])};

	posix_result(futimens(slot(w, 1), times));
}

static void do_fallocate(const struct words *w) /* SLOT OFFSET LENGTH */
{
	const int error = posix_fallocate(slot(w, 1), number(w, 2), number(w, 3));

	errno = error;
	posix_result(-(error != 0));
}

static void do_relink(const struct words *w) /* SLOT PATH: a name for a file without one */
{
	char link_path[32];

	snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", slot(w, 1));
	posix_result(linkat(AT_FDCWD, link_path, AT_FDCWD, path(w, 2), AT_SYMLINK_FOLLOW));
}

/* ---- several calls --------------------------------------------------------------------------- */

/* TYPE PATH [MODE [UID GID]]: whatever the umask; a symlink points to "target" */
static void do_make(const struct words *w)
{
	const mode_t type = (mode_t)VALUE(types, w->at[1]);
	const char *name = path(w, 2);
	const mode_t bits = w->count > 3 ? mode(w, 3) : (type == S_IFDIR ? 0755 : 0644);
	int ret;

	if (type == S_IFDIR)
		ret = mkdir(name, 0700);
	else if (type == S_IFLNK)
		ret = symlink("target", name);
	else
		ret = mknod(name, type | 0600, makedev(1, 3));
	if (ret == 0 && w->count > 4)
		ret = lchown(name, (uid_t)number(w, 4), (gid_t)number(w, 5));
	if (ret == 0 && type != S_IFLNK)
		ret = chmod(name, bits);
	posix_result(ret);
}

static void do_mount(const struct words *w) /* tmpfs|bind|ro DIRECTORY; bind and ro: onto itself */
{
	const char *where = path(w, 2);
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

static void
do_run(const struct words *w) /* PATH: a program there, which runs until the case ends */
{
	const char *program = path(w, 1);
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

/* ---- times ----------------------------------------------------------------------------------- */

static struct {
	char name[64];
	struct stat st;
} marks[MAX_MARKS];

static bool is_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/*
 * Stamps a directory and a regular file beside the case and gives the earlier of the two times: a
 * kernel that holds writes back stamps files by its own clock.
 */
static int stamp(struct timespec *earlier)
{
	static int probe = -1;
	struct stat directory, file;

	if (probe < 0)
		probe = open("../probe", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (chmod("..", 0777) != 0 || stat("..", &directory) != 0 ||
	    pwrite(probe, "x", 1, 0) != 1 || fstat(probe, &file) != 0)
		return -1;
	*earlier = is_later(&directory.st_ctim, &file.st_mtim) ? file.st_mtim : directory.st_ctim;
	return 0;
}

/* PATH...: remembers their times, then waits until what changes gets later ones. */
static void do_mark(const struct words *w)
{
	const struct timespec a_while = {.tv_nsec = 500000};
	struct timespec latest = {0}, now = {0};

	memset(marks, 0, sizeof(marks));
	for (int i = 1; i < w->count; i++) {
		struct stat *st = &marks[i].st;

		snprintf(marks[i].name, sizeof(marks[i].name), "%s", w->at[i]);
		if (lstat(path(w, i), st) != 0) {
			posix_result(-1);
			return;
		}
		if (is_later(&st->st_ctim, &latest))
			latest = st->st_ctim;
	}
	while (stamp(&now) == 0 && !is_later(&now, &latest))
		nanosleep(&a_while, NULL);
	posix_result(is_later(&now, &latest) ? 0 : -1);
}

static bool put_change(char letter, const struct timespec *now, const struct timespec *then)
{
	if (is_later(then, now))
		putchar('<');
	else if (!is_later(now, then))
		return false;
	putchar(letter);
	return true;
}

/* PATH [MARKED]: which of [a]ccess, [m]odification, [c]hange time is later ("<": earlier), or "-" */
static void do_newer(const struct words *w)
{
	const char *marked = w->at[w->count > 2 ? 2 : 1];
	struct stat now;

	if (lstat(path(w, 1), &now) != 0) {
		posix_result(-1);
		return;
	}
	for (int i = 0; i < MAX_MARKS; i++) {
		const struct stat *then = &marks[i].st;
		bool changed;

		if (strcmp(marks[i].name, marked) != 0)
			continue;
		changed = put_change('a', &now.st_atim, &then->st_atim);
		changed |= put_change('m', &now.st_mtim, &then->st_mtim);
		changed |= put_change('c', &now.st_ctim, &then->st_ctim);
		if (!changed)
			putchar('-');
		return;
	}
	fputs("no-such-mark", stdout);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int arguments; /* at least */
	void (*run)(const struct words *words);
} verbs[] = {
	VERB(access, 2),    VERB(bind, 1),	VERB(cat, 1),	     VERB(chdir, 1),
	VERB(chmod, 2),	    VERB(chown, 3),	VERB(close, 1),	     VERB(fallocate, 3),
	VERB(fchmod, 2),    VERB(fchown, 3),	VERB(flags, 2),	     VERB(fstat, 2),
	VERB(ftruncate, 2), VERB(futimens, 3),	VERB(getxattr, 2),   VERB(hold, 3),
	VERB(lchown, 3),    VERB(link, 2),	VERB(linkfollow, 2), VERB(list, 1),
	VERB(lstat, 2),	    VERB(make, 2),	VERB(mark, 1),	     VERB(mkdir, 2),
	VERB(mkfifo, 2),    VERB(mknod, 3),	VERB(mount, 2),	     VERB(newer, 1),
	VERB(open, 2),	    VERB(pread, 1),	VERB(put, 2),	     VERB(pwrite, 3),
	VERB(read, 1),	    VERB(readlink, 1),	VERB(relink, 2),     VERB(rename, 2),
	VERB(renameat2, 3), VERB(rmdir, 1),	VERB(run, 1),	     VERB(same, 2),
	VERB(setxattr, 3),  VERB(stat, 2),	VERB(symlink, 2),    VERB(truncate, 2),
	VERB(unlink, 1),    VERB(utimenull, 1), VERB(utimens, 3),    VERB(write, 2),
};

void posix_call(const struct words *words)
{
	for (size_t i = 0; words->count > 0 && i < COUNT(verbs); i++) {
		if (strcmp(words->at[0], verbs[i].name) != 0)
			continue;
		if (words->count > verbs[i].arguments)
			verbs[i].run(words);
		else
			fputs("too-few-arguments", stdout);
		return;
	}
	fputs("no-such-verb", stdout);
}
