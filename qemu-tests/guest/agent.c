/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cases' hand inside a guest: one line in, one line out, until end of input. Every line is
 * words separated by single spaces; a word is percent-encoded (%XX for any byte outside '!'..'~'
 * and for '%'; the empty word is "%"), so a name may hold any byte. The first line out is "ready".
 *
 *   in:   VERB ARGUMENT...
 *   out:  "[WORD...] ok VALUE" or "err ERRNO"
 *
 * Numbers are decimal or 0x hexadecimal. File operations are single system calls or, where the
 * table below says so, open-write-close, so that a case knows exactly which events to expect.
 * The host's half is runguest/agent.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "inodes.h"
#include "latency.h"
#include "marks.h"
#include "observe.h"
#include "rounds.h"
#include "script.h"
#include "words.h"

#define EVENT_BUFFER 65536

static int integer(const struct words *words, int index)
{
	return (int)words_number(words, index);
}

/* ---- verbs: each returns the VALUE after "ok", or -errno -------------------------------------- */

static int64_t checked(long result)
{
	return result < 0 ? -errno : result;
}

static int64_t do_init(struct words *w)
{
	(void)w;
	return checked(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
}

static int64_t do_add(struct words *w) /* INSTANCE MASK PATH */
{
	return checked(inotify_add_watch(integer(w, 1), w->at[3], (uint32_t)words_number(w, 2)));
}

static int64_t do_rm(struct words *w) /* INSTANCE WD */
{
	return checked(inotify_rm_watch(integer(w, 1), integer(w, 2)));
}

static int64_t do_open(struct words *w) /* PATH FLAGS MODE */
{
	return checked(open(w->at[1], integer(w, 2) | O_CLOEXEC, (mode_t)words_number(w, 3)));
}

static int64_t do_close(struct words *w) /* FD or INSTANCE */
{
	return checked(close(integer(w, 1)));
}

static int64_t do_read(struct words *w) /* FD COUNT -> bytes read; the data is dropped */
{
	static char sink[65536];
	size_t count = (size_t)words_number(w, 2);

	return checked(read(integer(w, 1), sink, count < sizeof(sink) ? count : sizeof(sink)));
}

static int64_t do_write(struct words *w) /* FD DATA -> bytes written */
{
	return checked(write(integer(w, 1), w->at[2], w->length[2]));
}

static int64_t do_append(struct words *w) /* PATH DATA: open O_APPEND, write, close */
{
	int fd = open(w->at[1], O_WRONLY | O_APPEND | O_CLOEXEC);
	int64_t ret;

	if (fd < 0)
		return -errno;
	ret = checked(write(fd, w->at[2], w->length[2]));
	close(fd);
	return ret;
}

static int64_t do_mknod(struct words *w) /* PATH MODE: an empty regular file, no open, no close */
{
	return checked(mknod(w->at[1], S_IFREG | (mode_t)words_number(w, 2), 0));
}

static int64_t do_mkdir(struct words *w)
{
	return checked(mkdir(w->at[1], (mode_t)words_number(w, 2)));
}

static int64_t do_rmdir(struct words *w)
{
	return checked(rmdir(w->at[1]));
}

static int64_t do_unlink(struct words *w)
{
	return checked(unlink(w->at[1]));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)where;
	(void)(type == FTW_DP ? rmdir(path) : unlink(path));
	return 0;
}

static int64_t do_rmtree(struct words *w) /* PATH: as rm -rf does, whoever else is at it */
{
	enum { DESCRIPTORS = 16 };

	(void)nftw(w->at[1], remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static int64_t do_rename(struct words *w)
{
	return checked(rename(w->at[1], w->at[2]));
}

static int64_t do_link(struct words *w)
{
	return checked(link(w->at[1], w->at[2]));
}

static int64_t do_symlink(struct words *w)
{
	return checked(symlink(w->at[1], w->at[2]));
}

static int64_t do_chmod(struct words *w) /* PATH MODE */
{
	return checked(chmod(w->at[1], (mode_t)words_number(w, 2)));
}

static int64_t do_truncate(struct words *w) /* PATH SIZE */
{
	return checked(truncate(w->at[1], (off_t)words_number(w, 2)));
}

static int64_t do_utime(struct words *w) /* PATH SECONDS: both times */
{
	const struct timespec times[2] = {{.tv_sec = (time_t)words_number(w, 2)},
					  {.tv_sec = (time_t)words_number(w, 2)}};

	return checked(utimensat(AT_FDCWD, w->at[1], times, AT_SYMLINK_NOFOLLOW));
}

static int64_t do_size(struct words *w) /* PATH -> st_size */
{
	struct stat st;

	return stat(w->at[1], &st) < 0 ? -errno : st.st_size;
}

static int64_t wait_readable(int fd, long long timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return checked(poll(&pfd, 1, (int)timeout_ms));
}

/*
 * INSTANCE TIMEOUT_MS [WD NAME]: waits until something is readable, or until the event NAME of
 * watch WD has come, for at most TIMEOUT_MS in all; puts all it read, each event as two words,
 * WD:MASK:COOKIE and NAME -> number of events
 */
static int64_t do_events(struct words *w)
{
	static char buffer[EVENT_BUFFER]
		__attribute__((aligned(__alignof__(struct inotify_event))));
	const int fd = integer(w, 1);
	const bool until = w->count > 4;
	struct timespec now;
	int64_t deadline_ms, count = 0;
	bool done = false;

	clock_gettime(CLOCK_MONOTONIC, &now);
	deadline_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000 + words_number(w, 2);
	while (!done) {
		ssize_t length;
		int64_t left_ms;

		clock_gettime(CLOCK_MONOTONIC, &now);
		left_ms = deadline_ms - (now.tv_sec * 1000 + now.tv_nsec / 1000000);
		if (wait_readable(fd, left_ms > 0 ? left_ms : 0) <= 0)
			break;
		length = read(fd, buffer, sizeof(buffer));
		for (const char *p = buffer; p < buffer + length;) {
			const struct inotify_event *event = (const void *)p;

			printf("%d:%#x:%u", event->wd, event->mask, event->cookie);
			putchar(' ');
			words_put(event->name, event->len ? strlen(event->name) : 0);
			putchar(' ');
			if (until && event->wd == integer(w, 3) && event->len &&
			    strcmp(event->name, w->at[4]) == 0)
				done = true;
			p += sizeof(*event) + event->len;
			count++;
		}
		if (!until)
			done = true;
	}
	return count;
}

/*
 * COUNT PATH OTHER TIMEOUT_MS -> writes seen before one was missed. COUNT times: watch PATH in a
 * new instance, at once append a byte to OTHER (the same file as the host sees it, by hostfs), wait
 * for the event.
 */
static int64_t do_race(struct words *w)
{
	int64_t seen = 0, ret = 0;

	while (ret == 0 && seen < words_number(w, 1)) {
		int instance = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		int other = open(w->at[3], O_WRONLY | O_APPEND | O_CLOEXEC);

		if (instance < 0 || other < 0)
			return -errno;
		if (inotify_add_watch(instance, w->at[2], IN_MODIFY) < 0 ||
		    write(other, "x", 1) != 1)
			ret = -errno;
		else if (wait_readable(instance, words_number(w, 4)) <= 0)
			ret = -ETIMEDOUT;
		else
			seen++;
		close(other);
		close(instance);
	}
	return ret == -ETIMEDOUT || ret == 0 ? seen : ret;
}

static int64_t do_fanotify(struct words *w) /* FLAGS -> GROUP */
{
	return marks_group((unsigned int)words_number(w, 1));
}

static int64_t do_mark(struct words *w) /* GROUP FLAGS MASK PATH */
{
	return marks_add(integer(w, 1), (unsigned int)words_number(w, 2),
			 (uint64_t)words_number(w, 3), w->at[4]);
}

static int64_t do_marked(struct words *w) /* GROUP: the events it holds, see marks.h */
{
	return marks_collect(integer(w, 1));
}

static int64_t do_places(struct words *w) /* GROUP MOUNT: the events it holds, see marks.h */
{
	return marks_places(integer(w, 1), w->at[2]);
}

static int64_t do_dnotify(struct words *w) /* PATH BITS -> FD */
{
	return marks_dnotify(w->at[1], (unsigned int)words_number(w, 2));
}

static int64_t do_signals(struct words *w) /* FD of dnotify -> signals since last asked */
{
	return marks_signals(integer(w, 1));
}

static int64_t do_umount(struct words *w)
{
	return checked(umount(w->at[1]));
}

/* ROOT PACED TEXT -> 0, or the step that failed and its errno; see script.h */
static int64_t do_script(struct words *w)
{
	struct script_failure failure;

	if (script_run(w->at[1], w->at[3], integer(w, 2) != 0, &failure))
		return 0;
	words_put(failure.step, strlen(failure.step));
	putchar(' ');
	return failure.error;
}

static int64_t do_observe(struct words *w) /* OBSERVER MASK PATH -> watch descriptor */
{
	return observe_add(integer(w, 1), w->at[3], (uint32_t)words_number(w, 2));
}

static int64_t do_fanobserve(struct words *w) /* OBSERVER MASK PATH -> as a watch descriptor */
{
	return observe_mark(integer(w, 1), w->at[3], (uint64_t)words_number(w, 2));
}

static int64_t do_unobserve(struct words *w) /* OBSERVER WD */
{
	return observe_remove(integer(w, 1), integer(w, 2));
}

static int64_t do_markers(struct words *w) /* PATH */
{
	return observe_markers(w->at[1]);
}

static int64_t do_await(struct words *w) /* NAME TIMEOUT_MS */
{
	return observe_await(w->at[1], words_number(w, 2));
}

static int64_t do_collect(struct words *w) /* -> events as observe.h has it, and their number */
{
	(void)w;
	return observe_collect();
}

static int64_t do_end(struct words *w) /* of observers and of what scripts left open */
{
	(void)w;
	observe_end();
	script_end();
	return 0;
}

static int64_t do_rounds(struct words *w) /* KIND COUNT SEEN BEHIND TIMEOUT_MS: see rounds.h */
{
	return rounds_run(w->at[1], words_number(w, 2), w->at[3], w->at[4], integer(w, 5));
}

static int64_t do_latency(struct words *w) /* COUNT SEEN BEHIND: see latency.h */
{
	return latency_run(words_number(w, 1), w->at[2], w->at[3]);
}

static int64_t do_content(struct words *w) /* PATH: see inodes.h */
{
	return inodes_content(w->at[1]);
}

static int64_t do_mtime(struct words *w) /* PATH */
{
	return inodes_mtime(w->at[1]);
}

static int64_t do_attributes(struct words *w) /* PATH: see inodes.h */
{
	return inodes_attributes(w->at[1]);
}

static int64_t do_setflags(struct words *w) /* PATH FLAGS */
{
	return inodes_set_flags(w->at[1], integer(w, 2));
}

static int64_t do_fsync(struct words *w) /* FD */
{
	return checked(fsync(integer(w, 1)));
}

static int64_t do_handle(struct words *w) /* PATH */
{
	return inodes_handle(w->at[1]);
}

static int64_t do_reopen(struct words *w) /* MOUNT FLAGS -> FD */
{
	return inodes_open_handle(w->at[1], integer(w, 2));
}

static int64_t do_forget(struct words *w)
{
	(void)w;
	return inodes_forget();
}

static const struct verb {
	const char *name;
	int arguments; /* at least */
	int64_t (*run)(struct words *words);
} verbs[] = {
	{"init", 0, do_init},
	{"add", 3, do_add},
	{"rm", 2, do_rm},
	{"events", 2, do_events},
	{"race", 4, do_race},
	{"open", 3, do_open},
	{"close", 1, do_close},
	{"read", 2, do_read},
	{"write", 2, do_write},
	{"append", 2, do_append},
	{"mknod", 2, do_mknod},
	{"mkdir", 2, do_mkdir},
	{"rmdir", 1, do_rmdir},
	{"unlink", 1, do_unlink},
	{"rename", 2, do_rename},
	{"link", 2, do_link},
	{"symlink", 2, do_symlink},
	{"chmod", 2, do_chmod},
	{"truncate", 2, do_truncate},
	{"utime", 2, do_utime},
	{"size", 1, do_size},
	{"fanotify", 1, do_fanotify},
	{"mark", 4, do_mark},
	{"marked", 1, do_marked},
	{"places", 2, do_places},
	{"dnotify", 2, do_dnotify},
	{"signals", 1, do_signals},
	{"umount", 1, do_umount},
	{"script", 3, do_script},
	{"observe", 3, do_observe},
	{"unobserve", 2, do_unobserve},
	{"fanobserve", 3, do_fanobserve},
	{"markers", 1, do_markers},
	{"await", 2, do_await},
	{"collect", 0, do_collect},
	{"end", 0, do_end},
	{"rmtree", 1, do_rmtree},
	{"rounds", 5, do_rounds},
	{"latency", 3, do_latency},
	{"content", 1, do_content},
	{"mtime", 1, do_mtime},
	{"attributes", 1, do_attributes},
	{"setflags", 2, do_setflags},
	{"fsync", 1, do_fsync},
	{"handle", 1, do_handle},
	{"reopen", 2, do_reopen},
	{"forget", 0, do_forget},
};

static int64_t dispatch(struct words *words)
{
	for (size_t i = 0; words->count > 0 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(words->at[0], verbs[i].name) == 0)
			return words->count > verbs[i].arguments ? verbs[i].run(words) : -EINVAL;
	return -EOPNOTSUPP;
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;

	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	puts("ready");
	fflush(stdout);
	while (getline(&line, &size, stdin) > 0) {
		struct words words;
		int64_t result;

		result = words_split(line, &words) ? dispatch(&words) : -E2BIG;
		if (result < 0)
			printf("err %lld\n", (long long)-result);
		else
			printf("ok %lld\n", (long long)result);
		fflush(stdout);
	}
	free(line);
	return 0;
}
