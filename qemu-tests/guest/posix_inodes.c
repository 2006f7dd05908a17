/* SPDX-License-Identifier: BSD-3-Clause */
/* The POSIX checker's steps that change attributes and look at them, times above all. */
#define _GNU_SOURCE
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define MAX_MARKS 16

static void do_chmod(const struct words *w)
{
	posix_result(chmod(posix_path(w, 1), posix_mode(w, 2)));
}

static void do_chown(const struct words *w) /* PATH UID GID; -1: as it is */
{
	posix_result(chown(posix_path(w, 1), (uid_t)posix_number(w, 2), (gid_t)posix_number(w, 3)));
}

static void do_lchown(const struct words *w)
{
	posix_result(
		lchown(posix_path(w, 1), (uid_t)posix_number(w, 2), (gid_t)posix_number(w, 3)));
}

static void do_truncate(const struct words *w) /* PATH SIZE */
{
	posix_result(truncate(posix_path(w, 1), posix_number(w, 2)));
}

static void do_access(const struct words *w) /* PATH [r][w][x], for the effective ids */
{
	const char *how = w->at[2];

	posix_result(faccessat(AT_FDCWD, posix_path(w, 1),
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

	posix_result(utimensat(AT_FDCWD, posix_path(w, 1), times,
			       w->count > 4 ? AT_SYMLINK_NOFOLLOW : 0));
}

static void do_utimenull(const struct words *w) /* PATH: both times, to now */
{
	posix_result(utimensat(AT_FDCWD, posix_path(w, 1), NULL, 0));
}

static void do_setxattr(const struct words *w) /* PATH NAME VALUE */
{
	posix_result(setxattr(posix_path(w, 1), w->at[2], w->at[3], strlen(w->at[3]), 0));
}

static void do_getxattr(const struct words *w) /* PATH NAME -> value */
{
	char value[256];
	const ssize_t length = getxattr(posix_path(w, 1), w->at[2], value, sizeof(value));

	if (length < 0)
		posix_result(length);
	else
		fwrite(value, 1, (size_t)length, stdout);
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
			fputs(posix_type_name(st->st_mode), stdout);
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

	put_status(stat(posix_path(w, 1), &st), &st, w->at[2]);
}

static void do_lstat(const struct words *w)
{
	struct stat st;

	put_status(lstat(posix_path(w, 1), &st), &st, w->at[2]);
}

static void do_fstat(const struct words *w) /* SLOT FIELD[,FIELD...] -> values */
{
	struct stat st;

	put_status(fstat(posix_slot(w, 1), &st), &st, w->at[2]);
}

static void do_same(const struct words *w) /* PATH OTHER -> "yes" or "no": one inode */
{
	struct stat a, b;

	if (lstat(posix_path(w, 1), &a) != 0 || lstat(posix_path(w, 2), &b) != 0)
		posix_result(-1);
	else
		fputs(a.st_dev == b.st_dev && a.st_ino == b.st_ino ? "yes" : "no", stdout);
}

static void do_futimens(const struct words *w) /* SLOT ATIME MTIME */
{
	const struct timespec times[2] = {time_of(w->at[2]), time_of(w->at[3])};

	posix_result(futimens(posix_slot(w, 1), times));
}

/* ---- later than before --------------------------------------------------------------------- */

static struct {
	char name[64];
	struct stat st;
} marks[MAX_MARKS];

static bool is_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

struct stamps {
	struct timespec earlier, later;
};

/*
 * Stamps a directory and a regular file beside the case: a kernel that holds writes back stamps files
 * by its own clock, which may be behind that of the share.
 */
static int stamp(struct stamps *ret)
{
	static int probe = -1;
	struct stat directory, file;

	if (probe < 0)
		probe = open("../probe", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (chmod("..", 0777) != 0 || stat("..", &directory) != 0 ||
	    pwrite(probe, "x", 1, 0) != 1 || fstat(probe, &file) != 0)
		return -1;
	ret->earlier = ret->later = file.st_mtim;
	if (is_later(&directory.st_ctim, &file.st_mtim))
		ret->later = directory.st_ctim;
	else
		ret->earlier = directory.st_ctim;
	return 0;
}

/* PATH...: remembers their times, then waits until what changes gets later ones. */
static void do_mark(const struct words *w)
{
	const struct timespec a_while = {.tv_nsec = 500000};
	struct timespec latest = {0};
	struct stamps now = {0};

	memset(marks, 0, sizeof(marks));
	(void)stamp(&now);
	for (int i = 1; i < w->count; i++) {
		struct stat *st = &marks[i].st;

		snprintf(marks[i].name, sizeof(marks[i].name), "%s", w->at[i]);
		if (lstat(posix_path(w, i), st) != 0) {
			posix_result(-1);
			return;
		}
		if (is_later(&st->st_ctim, &latest))
			latest = st->st_ctim;
		/* One clock may have given this time, the other the ctime; or the case a time to come. */
		if (is_later(&st->st_mtim, &latest) && !is_later(&st->st_mtim, &now.later))
			latest = st->st_mtim;
	}
	while (stamp(&now) == 0 && !is_later(&now.earlier, &latest))
		nanosleep(&a_while, NULL);
	posix_result(is_later(&now.earlier, &latest) ? 0 : -1);
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

	if (lstat(posix_path(w, 1), &now) != 0) {
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

const struct verb posix_inode_verbs[] = {
	VERB(access, 2),    VERB(chmod, 2),    VERB(chown, 3), VERB(fstat, 2),	  VERB(futimens, 3),
	VERB(getxattr, 2),  VERB(lchown, 3),   VERB(lstat, 2), VERB(mark, 1),	  VERB(newer, 1),
	VERB(same, 2),	    VERB(setxattr, 3), VERB(stat, 2),  VERB(truncate, 2), VERB(utimens, 3),
	VERB(utimenull, 1), {NULL, 0, NULL},
};
