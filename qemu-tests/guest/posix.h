/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the POSIX checker (posix*.c) share. One thread. */
#ifndef GUEST_POSIX_H
#define GUEST_POSIX_H

#include <stddef.h>
#include <sys/types.h>

#include "words.h"

#define MAX_SLOTS 10

/* A word of steps for a flag or a type. */
struct name {
	const char *name;
	int value;
};

/* A kind of step: one system call, or it says so. Prints its result without end of line. */
struct verb {
	const char *name;
	int arguments; /* at least */
	void (*run)(const struct words *words);
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NAME(word) {#word, word}
#define VALUE(table, word) posix_value(table, COUNT(table), word)
#define VERB(function, at_least) {#function, at_least, do_##function}

/* Of each part, up to one without a name. */
extern const struct verb posix_name_verbs[], posix_inode_verbs[], posix_file_verbs[];

/* Descriptors that steps hold, by slot; -1: none. */
extern int slots[MAX_SLOTS];

/* The sum of the comma separated @words. Ends the program on one that @table does not have. */
int posix_value(const struct name *table, size_t count, const char *words);

/* The type of a file, S_IF..., by its name; and back. */
mode_t posix_type(const char *word);
const char *posix_type_name(mode_t type);

/* Arguments: a path ("!": not mapped, missing: empty), a number, an octal mode, 0 if it is missing. */
const char *posix_path(const struct words *words, int index);
long posix_number(const struct words *words, int index);
mode_t posix_mode(const struct words *words, int index);

/* The descriptor in the slot, or -1, which answers EBADF. */
int posix_slot(const struct words *words, int index);

/* Prints "0" for a system call that succeeded, the name of errno for one that did not. */
void posix_result(long result);

/* Undoes what a case has done to the file system beyond making files: mounts, flags, a program. */
void posix_undo(void);

#endif
