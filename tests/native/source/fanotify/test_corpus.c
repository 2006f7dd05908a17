/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a kernel returned of real operations (see record), and what becomes of it. expected/NAME.txt begins
 * with what was there when it was read. With --write the other lines are written: review them.
 */
#include <dirent.h>
#include <limits.h>

#include "properties.h"

static const char *root; /* tests/native */
static bool writes;
static struct steps steps;
static _Alignas(8) uint8_t bytes[RAW_BYTES_MAX];
static char text[1 << 18];

static size_t read_text(const char *folder, const char *name, const char *suffix)
{
	char path[PATH_MAX];
	FILE *file;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/source/fanotify/%s/%s%s", root, folder, name,
		       suffix);
	file = fopen(path, "r");
	CHECK(file);
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	CHECK_EQ(fclose(file), 0);
	return n;
}

static size_t read_hex(const char *name)
{
	size_t digits = 0;

	(void)read_text("corpus", name, ".hex");
	memset(bytes, 0, sizeof(bytes));
	for (const char *at = text; *at; at++) {
		char digit[2] = {*at, '\0'};

		if (*at == '\n')
			continue;
		CHECK(digits / 2 < sizeof(bytes));
		bytes[digits / 2] |= (uint8_t)(strtoul(digit, NULL, 16) << (digits % 2 ? 0 : 4));
		digits++;
	}
	return digits / 2;
}

static void write_expected(const char *name)
{
	char path[PATH_MAX];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/source/fanotify/expected/%s.txt", root, name);
	file = fopen(path, "w");
	CHECK(file);
	CHECK(fprintf(file, "%s\n%s", text, steps.got) > 0);
	CHECK_EQ(fclose(file), 0);
}

static void replay(const char *name)
{
	const size_t size = read_hex(name), chunks[] = {0, 512, 1};
	char *want, *there;

	(void)read_text("expected", name, ".txt");
	want = strchr(text, '\n');
	CHECK(want);
	*want++ = '\0';
	CHECK(asprintf(&there, "%s ", text + strlen("there:")) >= 0);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		steps_create(&steps, bytes, size, chunks[i], there);
		properties_check(&steps, chunks[i] != 0);
		steps_run(&steps);
		CHECK_EQ(steps.at, size);
		steps_destroy(&steps);
		if (writes)
			break;
		if (strcmp(steps.got, want) != 0 && chunks[i] == 0) {
			(void)fprintf(stderr, "%s: got\n%s", name, steps.got);
			CHECK(!"as expected");
		}
	}
	free(there);
	if (writes)
		write_expected(name);
}

int main(int argc, char **argv)
{
	char path[PATH_MAX];
	struct dirent **entries;
	int n;

	root = getenv("VFSD_TESTS");
	CHECK(root);
	writes = argc > 1 && strcmp(argv[1], "--write") == 0;
	(void)snprintf(path, sizeof(path), "%s/source/fanotify/corpus", root);
	n = scandir(path, &entries, NULL, alphasort);
	CHECK(n > 2 + 8);
	for (int i = 0; i < n; i++) {
		char *suffix = strstr(entries[i]->d_name, ".hex");

		if (suffix) {
			*suffix = '\0';
			replay(entries[i]->d_name);
		}
		free(entries[i]);
	}
	free(entries);
	return 0;
}
