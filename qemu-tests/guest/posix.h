/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two halves of the POSIX checker (posix.c, posix_calls.c) share. One thread. */
#ifndef GUEST_POSIX_H
#define GUEST_POSIX_H

#include <stdbool.h>
#include <sys/types.h>

#define MAX_WORDS 16
#define MAX_SLOTS 10

struct words {
	int count;
	char *at[MAX_WORDS];
};

/* Descriptors that steps hold, by slot; -1: none. */
extern int slots[MAX_SLOTS];

/* Runs the step @words, verb first, and prints its result without end of line. */
void posix_call(const struct words *words);

/* Prints "0" for a system call that succeeded, the name of errno for one that did not. */
void posix_result(long result);

/* Undoes what a case has done to the file system beyond making files: mounts, flags, a program. */
void posix_undo(void);

#endif
