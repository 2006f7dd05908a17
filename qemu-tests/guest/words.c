/* SPDX-License-Identifier: BSD-3-Clause */
#include "words.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hex(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : (tolower((unsigned char)c) - 'a') + 10;
}

/* Decodes in place, ends the word with NUL, returns its length. */
static size_t decode(char *word)
{
	char *to = word;

	for (const char *from = word; *from; from++) {
		if (*from != '%') {
			*to++ = *from;
		} else if (isxdigit((unsigned char)from[1]) && isxdigit((unsigned char)from[2])) {
			*to++ = (char)(hex(from[1]) << 4 | hex(from[2]));
			from += 2;
		}
	}
	*to = '\0';
	return (size_t)(to - word);
}

void words_put(const char *data, size_t length)
{
	if (length == 0)
		putchar('%');
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c > ' ' && c < 0x7f && c != '%')
			putchar(c);
		else
			printf("%%%02x", c);
	}
}

bool words_split(char *line, struct words *words)
{
	words->count = 0;
	for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
		if (words->count == MAX_WORDS)
			return false;
		words->at[words->count] = word;
		words->length[words->count++] = decode(word);
	}
	return true;
}

void words_drop(struct words *words, int count)
{
	words->count -= count;
	memmove(words->at, words->at + count, (size_t)words->count * sizeof(words->at[0]));
	memmove(words->length, words->length + count,
		(size_t)words->count * sizeof(words->length[0]));
}

long long words_number(const struct words *words, int index)
{
	return index < words->count ? strtoll(words->at[index], NULL, 0) : 0;
}
