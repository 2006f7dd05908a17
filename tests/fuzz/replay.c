/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay - a main for fuzz targets where there is no libFuzzer: gcc, the sanitizers, `make test`.
 *
 *   fuzz_ROOM [FILE|DIRECTORY]... [--random N SEED | --seconds N]
 *
 * Runs the target's own seeds, the files, and then N inputs that are mutations of these (20000 of
 * seed 1 unless told), or as many as N seconds allow, of a seed that is new each time. A file called
 * *.hex is hexadecimal text, so that a corpus can be read. The input that kills the target, or keeps
 * it for a minute, is shown in that form, behind the arguments that lead there again (with the same
 * files).
 * A directory that does not exist is an empty corpus.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

enum {
	INPUT_MAX = 4096, /* of mutated inputs */
	FILE_BYTES_MAX = 1 << 20,
	CORPUS_MAX = 4096,
	HANG_S = 60,
	RANDOM_RUNS = 20000,
};

struct input {
	uint8_t *bytes;
	size_t len;
};

static struct input corpus[CORPUS_MAX];
static size_t corpus_n;

static struct input current;	/* what the target is working on */
static char current_replay[64]; /* arguments that lead there; empty: the files themselves do */

/* Targets without seeds of their own need not define it. */
__attribute__((weak)) size_t vfsd_fuzz_seed(uint32_t index, uint8_t *bytes, size_t max)
{
	(void)index;
	(void)bytes;
	(void)max;
	return 0;
}

static void put(const char *text, size_t len)
{
	ssize_t done = write(STDERR_FILENO, text, len);

	(void)done; /* we are dying anyway */
}

/* From a signal handler. */
static void show_current(void)
{
	static const char digits[] = "0123456789abcdef";

	put(current_replay, strlen(current_replay));
	put("input, as a .hex file:\n", 23);
	for (size_t i = 0; i < current.len; i++) {
		char text[3] = {digits[current.bytes[i] >> 4], digits[current.bytes[i] & 15], '\n'};

		put(text, i % 32 == 31 ? 3 : 2);
	}
	put("\n", 1);
}

static void died(int sig)
{
	if (sig == SIGALRM)
		put("the target hangs\n", 17);
	show_current();
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

/* The sanitizers end the process themselves, and say so here. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static void run(const uint8_t *bytes, size_t len)
{
	/* A copy of exactly that size, so that reading behind its end is seen. */
	current.bytes = malloc(len ? len : 1);
	current.len = len;
	if (!current.bytes)
		abort();
	memcpy(current.bytes, bytes, len);
	(void)alarm(HANG_S);
	(void)LLVMFuzzerTestOneInput(current.bytes, len);
	(void)alarm(0);
	free(current.bytes);
	current = (struct input){0};
}

static void add(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy || corpus_n == CORPUS_MAX)
		abort();
	memcpy(copy, bytes, len);
	corpus[corpus_n++] = (struct input){.bytes = copy, .len = len};
}

static size_t decode_hex(const char *path, uint8_t *bytes, size_t len)
{
	size_t digits = 0;
	uint8_t high = 0;

	for (size_t i = 0; i < len; i++) {
		int c = tolower(bytes[i]), value;

		if (isspace(c))
			continue;
		if (!isxdigit(c)) {
			(void)fprintf(stderr, "%s: not hexadecimal\n", path);
			exit(2);
		}
		value = isdigit(c) ? c - '0' : c - 'a' + 10;
		if (digits % 2)
			bytes[digits / 2] = (uint8_t)(high << 4 | value);
		else
			high = (uint8_t)value;
		digits++;
	}
	return digits / 2;
}

static void add_file(const char *path)
{
	static uint8_t bytes[FILE_BYTES_MAX];
	size_t name_bytes = strlen(path);
	FILE *file = fopen(path, "rb");
	size_t len;

	if (!file) {
		(void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	len = fread(bytes, 1, sizeof(bytes), file);
	(void)fclose(file);
	if (name_bytes > 4 && strcmp(path + name_bytes - 4, ".hex") == 0)
		len = decode_hex(path, bytes, len);
	add(bytes, len);
}

static void add_path(const char *path)
{
	struct dirent **entries = NULL;
	struct stat st;
	int n;

	if (stat(path, &st) < 0 && errno == ENOENT) {
		(void)fprintf(stderr, "%s: no such corpus\n", path);
		return;
	}
	if (!S_ISDIR(st.st_mode)) {
		add_file(path);
		return;
	}
	n = scandir(path, &entries, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char name[4096];

		(void)snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		if (stat(name, &st) == 0 && S_ISREG(st.st_mode))
			add_file(name);
		free(entries[i]);
	}
	free(entries);
}

static void add_seeds(void)
{
	uint8_t bytes[INPUT_MAX];
	size_t len;

	for (uint32_t i = 0; (len = vfsd_fuzz_seed(i, bytes, sizeof(bytes))) > 0; i++)
		add(bytes, len);
}

/* xorshift64*: the same inputs everywhere, whatever the C library. */
static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

static void mutate(struct input *input)
{
	static const uint8_t interesting[] = {0, 1, 2, 4, 0x7f, 0x80, 0xfe, 0xff};
	uint8_t *bytes = input->bytes;
	uint32_t len = (uint32_t)input->len;
	uint32_t at, from, n;

	if (len == 0) {
		bytes[0] = (uint8_t)draw(256);
		input->len = 1;
		return;
	}
	at = draw(len);
	n = 1 + draw(len - at < 16 ? len - at : 16);
	switch (draw(8)) {
	case 0:
		bytes[at] ^= (uint8_t)(1u << draw(8));
		break;
	case 1:
		bytes[at] = (uint8_t)draw(256);
		break;
	case 2:
		bytes[at] = interesting[draw(sizeof(interesting))];
		break;
	case 3:
		bytes[at] = (uint8_t)(bytes[at] + draw(9) - 4);
		break;
	case 4: /* delete */
		memmove(bytes + at, bytes + at + n, len - at - n);
		input->len -= n;
		break;
	case 5: /* copy over */
		from = draw(len - n + 1);
		memmove(bytes + at, bytes + from, n);
		break;
	case 6: /* insert, often a piece that is there already */
		if (len + n > INPUT_MAX)
			break;
		memmove(bytes + at + n, bytes + at, len - at);
		for (uint32_t i = 0; i < n; i++)
			if (draw(4) == 0)
				bytes[at + i] = (uint8_t)draw(256);
		input->len += n;
		break;
	default: /* the end of another one */
		if (corpus_n > 0) {
			const struct input *other = &corpus[draw((uint32_t)corpus_n)];
			size_t most = INPUT_MAX - at;

			if (other->len == 0)
				break;
			from = draw((uint32_t)other->len);
			if (most > other->len - from)
				most = other->len - from;
			memcpy(bytes + at, other->bytes + from, most);
			input->len = at + most;
		}
		break;
	}
}

static time_t now_s(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
		abort();
	return now.tv_sec;
}

/* At most @runs, and for @seconds unless that is 0. Returns how many there were. */
static unsigned long run_random(unsigned long runs, unsigned long seconds, unsigned long seed)
{
	const time_t end = now_s() + (time_t)seconds;
	uint8_t bytes[INPUT_MAX];
	unsigned long i;

	random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (i = 0; i < runs && (seconds == 0 || now_s() < end); i++) {
		struct input input = {.bytes = bytes};
		uint32_t mutations = 1 + draw(1u << draw(7));

		/* Written before it is needed: a signal handler had better not format. */
		(void)snprintf(current_replay, sizeof(current_replay),
			       "replay with --random %lu %lu\n", i + 1, seed);
		/* One in sixteen is noise from the start. */
		if (corpus_n > 0 && draw(16) != 0) {
			const struct input *base = &corpus[draw((uint32_t)corpus_n)];

			input.len = base->len < INPUT_MAX ? base->len : INPUT_MAX;
			memcpy(bytes, base->bytes, input.len);
		} else {
			input.len = draw(512);
			for (size_t k = 0; k < input.len; k++)
				bytes[k] = (uint8_t)draw(256);
		}
		while (mutations-- > 0)
			mutate(&input);
		run(bytes, input.len);
	}
	return i;
}

static unsigned long new_seed(void)
{
	uint32_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		abort();
	return seed;
}

static unsigned long number(const char *text)
{
	char *end;
	unsigned long value = text ? strtoul(text, &end, 10) : 0;

	if (!text || !isdigit((unsigned char)*text) || *end) {
		(void)fprintf(stderr, "usage: [FILE|DIRECTORY]... [--random N SEED | --seconds "
				      "N]\n");
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	unsigned long runs = RANDOM_RUNS, seconds = 0, seed = 1;

	(void)signal(SIGABRT, died);
	(void)signal(SIGALRM, died);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(show_current);
	else
		(void)signal(SIGSEGV, died);

	add_seeds();
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--random") == 0) {
			runs = number(argv[i + 1]);
			seed = number(argv[i + 1] ? argv[i + 2] : NULL);
			seconds = 0;
			i += 2;
		} else if (strcmp(argv[i], "--seconds") == 0) {
			seconds = number(argv[++i]);
			runs = seconds ? ULONG_MAX : 0;
			seed = new_seed();
		} else {
			add_path(argv[i]);
		}
	}
	for (size_t i = 0; i < corpus_n; i++)
		run(corpus[i].bytes, corpus[i].len);
	runs = run_random(runs, seconds, seed);
	(void)fprintf(stderr, "%zu corpus inputs and %lu mutations of seed %lu\n", corpus_n, runs,
		      seed);
	for (size_t i = 0; i < corpus_n; i++)
		free(corpus[i].bytes);
	return 0;
}
