/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs steps of POSIX cases: one line in, one line out, until end of input. The first line out is
 * "ready". The steps and what they must answer are in qemu-tests/posix; this program does not judge.
 *
 *   in:   case DIRECTORY                            a fresh one; undoes what the last case left
 *         [as UID:GID[,GID...]] [umask MODE] VERB ARGUMENT...
 *   out:  "0", a value, or the name of an errno
 *
 * Words are encoded as the agent's (words.h). "as" gives the effective ids and the supplementary
 * groups, so no capability is effective unless UID is 0. A path "!" is an address that is not mapped.
 * Runs as root in a mount namespace of its own.
 */
#define _GNU_SOURCE
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_GROUPS 8

static int top; /* the directory that holds those of the cases */

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "posix: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void become_root(void)
{
	if (seteuid(0) != 0 || setegid(0) != 0 || setgroups(0, NULL) != 0)
		die("root");
	umask(0);
}

/* @ids: UID:GID[,GID...] */
static void become(const char *ids)
{
	gid_t groups[MAX_GROUPS];
	size_t count = 0;
	char *at;
	const uid_t uid = (uid_t)strtoul(ids, &at, 10);

	while ((*at == ':' || *at == ',') && count < MAX_GROUPS)
		groups[count++] = (gid_t)strtoul(at + 1, &at, 10);
	if (count == 0 || *at)
		errno = EINVAL, die(ids);
	if (setgroups(count, groups) != 0 || setegid(groups[0]) != 0 || seteuid(uid) != 0)
		die(ids);
}

/* Leaves the last case and enters @directory, which it makes. */
static void enter(const char *directory)
{
	for (int slot = 0; slot < MAX_SLOTS; slot++) {
		if (slots[slot] >= 0)
			close(slots[slot]);
		slots[slot] = -1;
	}
	if (fchdir(top) != 0)
		die("fchdir");
	posix_undo();
	if (mkdir(directory, 0777) != 0 || chdir(directory) != 0)
		die(directory);
}

static void call(const struct words *words)
{
	static const struct verb *const parts[] = {posix_name_verbs, posix_inode_verbs,
						   posix_file_verbs};

	for (size_t part = 0; words->count > 0 && part < COUNT(parts); part++) {
		for (const struct verb *verb = parts[part]; verb->name; verb++) {
			if (strcmp(words->at[0], verb->name) != 0)
				continue;
			if (words->count > verb->arguments)
				verb->run(words);
			else
				fputs("too-few-arguments", stdout);
			return;
		}
	}
	fputs("no-such-verb", stdout);
}

static void run(struct words *words)
{
	if (words->count >= 2 && strcmp(words->at[0], "as") == 0) {
		const char *ids = words->at[1];

		words_drop(words, 2);
		become(ids);
	}
	if (words->count >= 2 && strcmp(words->at[0], "umask") == 0) {
		umask((mode_t)strtoul(words->at[1], NULL, 8));
		words_drop(words, 2);
	}
	call(words);
	become_root();
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t size = 0;

	if (argc == 2 && strcmp(argv[1], "--pause") == 0) { /* a program that runs: posix_calls.c */
		for (;;)
			pause();
	}
	if (argc != 2) {
		fprintf(stderr, "usage: posix DIRECTORY\n");
		return 2;
	}
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		die("mount namespace");
	top = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		die(argv[1]);
	for (int slot = 0; slot < MAX_SLOTS; slot++)
		slots[slot] = -1;
	become_root();
	puts("ready");
	fflush(stdout);
	while (getline(&line, &size, stdin) > 0) {
		struct words words;

		if (!words_split(line, &words))
			errno = E2BIG, die(words.at[0]);
		if (words.count == 2 && strcmp(words.at[0], "case") == 0) {
			enter(words.at[1]);
			putchar('0');
		} else {
			run(&words);
		}
		putchar('\n');
		fflush(stdout);
	}
	if (fchdir(top) == 0)
		posix_undo();
	free(line);
	return 0;
}
