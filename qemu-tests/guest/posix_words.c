/* SPDX-License-Identifier: BSD-3-Clause */
/* The words of the POSIX checker's steps, and what they mean. */
#define _GNU_SOURCE
#include "posix.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int slots[MAX_SLOTS];

static const struct name types[] = {
	{"regular", S_IFREG}, {"dir", S_IFDIR},	    {"fifo", S_IFIFO},	  {"char", S_IFCHR},
	{"block", S_IFBLK},   {"socket", S_IFSOCK}, {"symlink", S_IFLNK},
};

int posix_value(const struct name *table, size_t count, const char *words)
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

mode_t posix_type(const char *word)
{
	return (mode_t)VALUE(types, word);
}

const char *posix_type_name(mode_t type)
{
	for (size_t i = 0; i < COUNT(types); i++)
		if ((type & S_IFMT) == (mode_t)types[i].value)
			return types[i].name;
	return "unknown-type";
}

const char *posix_path(const struct words *w, int index)
{
	const char *word = index < w->count ? w->at[index] : "";

	return strcmp(word, "!") == 0 ? (const char *)(intptr_t)1 : word;
}

long posix_number(const struct words *w, int index)
{
	return index < w->count ? strtol(w->at[index], NULL, 10) : 0;
}

mode_t posix_mode(const struct words *w, int index)
{
	return index < w->count ? (mode_t)strtoul(w->at[index], NULL, 8) : 0;
}

int posix_slot(const struct words *w, int index)
{
	const long at = posix_number(w, index);

	return at >= 0 && at < MAX_SLOTS ? slots[at] : -1;
}

void posix_result(long result)
{
	const char *name = result < 0 ? strerrorname_np(errno) : "0";

	fputs(name ? name : "unknown-errno", stdout);
}
