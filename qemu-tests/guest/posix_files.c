/* SPDX-License-Identifier: BSD-3-Clause */
/* The POSIX checker's steps that open files and use descriptors. */
#define _GNU_SOURCE
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct name open_flags[] = {
	NAME(O_RDONLY), NAME(O_WRONLY), NAME(O_RDWR),	  NAME(O_CREAT),    NAME(O_EXCL),
	NAME(O_TRUNC),	NAME(O_APPEND), NAME(O_NONBLOCK), NAME(O_NOFOLLOW), NAME(O_DIRECTORY),
	NAME(O_PATH),	NAME(O_SYNC),	NAME(O_TMPFILE),  NAME(O_NOATIME),  NAME(O_CLOEXEC),
};

static int open_as_told(const struct words *w, int first)
{
	return open(posix_path(w, first), VALUE(open_flags, w->at[first + 1]) | O_CLOEXEC,
		    posix_mode(w, first + 2));
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

	slots[posix_number(w, 1) % MAX_SLOTS] = fd;
	posix_result(fd);
}

static void do_close(const struct words *w) /* SLOT */
{
	posix_result(close(posix_slot(w, 1)));
	slots[posix_number(w, 1) % MAX_SLOTS] = -1;
}

static void do_write(const struct words *w) /* SLOT TEXT */
{
	posix_result(write(posix_slot(w, 1), w->at[2], strlen(w->at[2])));
}

static void do_pwrite(const struct words *w) /* SLOT TEXT OFFSET */
{
	posix_result(pwrite(posix_slot(w, 1), w->at[2], strlen(w->at[2]), posix_number(w, 3)));
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
	put_text(posix_slot(w, 1), false);
}

static void do_pread(const struct words *w) /* SLOT -> from the start */
{
	put_text(posix_slot(w, 1), true);
}

static void do_cat(const struct words *w) /* PATH -> content; opens, reads, closes */
{
	const int fd = open(posix_path(w, 1), O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		posix_result(fd);
		return;
	}
	put_text(fd, false);
	close(fd);
}

/* PATH TEXT: opens O_CREAT O_TRUNC 0644, writes, closes */
static void do_put(const struct words *w)
{
	const int fd = open(posix_path(w, 1), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	posix_result(fd < 0 ? fd : write(fd, w->at[2], strlen(w->at[2])));
	if (fd >= 0)
		close(fd);
}

static void do_ftruncate(const struct words *w) /* SLOT SIZE */
{
	posix_result(ftruncate(posix_slot(w, 1), posix_number(w, 2)));
}

static void do_fchmod(const struct words *w) /* SLOT MODE */
{
	posix_result(fchmod(posix_slot(w, 1), posix_mode(w, 2)));
}

static void do_fchown(const struct words *w) /* SLOT UID GID */
{
	posix_result(
		fchown(posix_slot(w, 1), (uid_t)posix_number(w, 2), (gid_t)posix_number(w, 3)));
}

static void do_fallocate(const struct words *w) /* SLOT OFFSET LENGTH */
{
	const int error = posix_fallocate(posix_slot(w, 1), posix_number(w, 2), posix_number(w, 3));

	errno = error;
	posix_result(-(error != 0));
}

static void do_relink(const struct words *w) /* SLOT PATH: a name for a file without one */
{
	char link_path[32];

	snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", posix_slot(w, 1));
	posix_result(linkat(AT_FDCWD, link_path, AT_FDCWD, posix_path(w, 2), AT_SYMLINK_FOLLOW));
}

const struct verb posix_file_verbs[] = {
	VERB(cat, 1),	    VERB(close, 1), VERB(fallocate, 3), VERB(fchmod, 2), VERB(fchown, 3),
	VERB(ftruncate, 2), VERB(hold, 3),  VERB(open, 2),	VERB(pread, 1),	 VERB(put, 2),
	VERB(pwrite, 3),    VERB(read, 1),  VERB(relink, 2),	VERB(write, 2),	 {NULL, 0, NULL},
};
