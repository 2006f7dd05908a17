/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * words - the lines of agent and POSIX checker: words separated by single spaces, percent-encoded
 * (%XX for any byte outside '!'..'~' and for '%'; the empty word is "%"). The host's half is
 * runguest/words.py.
 */
#ifndef WORDS_H
#define WORDS_H

#include <stdbool.h>
#include <stddef.h>

#define MAX_WORDS 16

struct words {
	int count;
	char *at[MAX_WORDS]; /* decoded, NUL-terminated, in the line */
	size_t length[MAX_WORDS];
};

/* Takes @line apart, in place. False: there are more than MAX_WORDS, of which @ret has the first. */
bool words_split(char *line, struct words *ret);

/* Takes the first @count away. */
void words_drop(struct words *words, int count);

/* Word @index as a number, decimal or 0x hexadecimal; 0 if it is missing. */
long long words_number(const struct words *words, int index);

/* Writes one word to stdout, encoded, without a separator. */
void words_put(const char *data, size_t length);

#endif
