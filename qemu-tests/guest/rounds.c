/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "rounds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what is counted ------------------------------------------------------------------------- */

enum event { CREATE, MODIFY, ATTRIB, MOVED_TO, DELETE, DELETE_SELF, IGNORED, EVENTS };

static const struct {
	const char *name;
	uint32_t bit;
} events[EVENTS] = {
	[CREATE] = {"CREATE", IN_CREATE},    [MODIFY] = {"MODIFY", IN_MODIFY},
	[ATTRIB] = {"ATTRIB", IN_ATTRIB},    [MOVED_TO] = {"MOVED_TO", IN_MOVED_TO},
	[DELETE] = {"DELETE", IN_DELETE},    [DELETE_SELF] = {"DELETE_SELF", IN_DELETE_SELF},
	[IGNORED] = {"IGNORED", IN_IGNORED},
};

#define WATCHED (IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF)

/* Where an event is received: at the watched directory by name, or to the watch of a thing itself. */
enum place { NAME, FILE_WATCH, DIR_WATCH, PLACES };

static const char *const place_names[PLACES] = {"name", "file", "directory"};

/* How often at each place: at least, at most. Neighbours that are alike are merged. */
struct expected {
	uint8_t least[EVENTS], most[EVENTS];
};

struct seen {
	enum place place;
	uint8_t times[EVENTS];
};

struct run {
	const char *seen, *behind; /* the directory, for the guest and for the host */
	int instance;
	int top; /* watch descriptor of the directory */
	int64_t round;
	int64_t count;
	struct seen *names;   /* one a round */
	struct seen *watches; /* by watch descriptor, which inotify counts up */
	int watches_max;
	int64_t disordered, overflows, strange;
	bool ended; /* the last sentinel has come */
};

/* ---- doing ----------------------------------------------------------------------------------- */

static const char *path_in(const char *directory, const struct run *run, const char *below)
{
	static char paths[4][PATH_MAX];
	static unsigned int turn;
	char *path = paths[turn++ % 4];

	(void)snprintf(path, PATH_MAX, "%s/r%lld%s", directory, (long long)run->round, below);
	return path;
}

static int make(const char *path)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	return fd < 0 ? -errno : (close(fd), 0);
}

static int watch(struct run *run, const char *below, enum place place)
{
	int wd = inotify_add_watch(run->instance, path_in(run->seen, run, below), WATCHED);

	if (wd < 0)
		return -errno;
	if (wd >= run->watches_max)
		return -ERANGE;
	run->watches[wd].place = place;
	return 0;
}

/* One ATTRIB, one MODIFY. */
static int touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	int ret = 0;

	if (fd < 0 || chmod(path, 0600) < 0 || write(fd, "x", 1) != 1)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

static int done(int result)
{
	return result < 0 ? -errno : 0;
}

#define TRY(expression)                                                                            \
	do {                                                                                       \
		int try_result = (expression);                                                     \
		if (try_result < 0)                                                                \
			return try_result;                                                         \
	} while (0)

#define SEEN(below) path_in(run->seen, run, below)
#define BEHIND(below) path_in(run->behind, run, below)

static int by_guest(struct run *run)
{
	TRY(make(SEEN("")));
	TRY(watch(run, "", FILE_WATCH));
	return done(unlink(SEEN("")));
}

static int by_host(struct run *run)
{
	TRY(make(BEHIND("")));
	TRY(watch(run, "", FILE_WATCH));
	return done(unlink(BEHIND("")));
}

static int by_both(struct run *run)
{
	TRY(by_host(run));
	/* Locally, and where the guest has received it, there is nothing to ask the host for. */
	return unlink(SEEN("")) == 0 ? -EEXIST : errno == ENOENT ? 0 : -errno;
}

static int touched(struct run *run)
{
	TRY(make(BEHIND("")));
	TRY(watch(run, "", FILE_WATCH));
	TRY(touch(BEHIND("")));
	return done(unlink(SEEN("")));
}

static int replaced(struct run *run, const char *directory)
{
	char new[PATH_MAX];

	(void)snprintf(new, sizeof(new), "%s/new", directory);
	TRY(make(BEHIND("")));
	TRY(make(new));
	TRY(watch(run, "", FILE_WATCH));
	TRY(touch(BEHIND("")));
	TRY(done(rename(new, path_in(directory, run, ""))));
	return done(unlink(path_in(directory, run, "")));
}

static int replaced_by_guest(struct run *run)
{
	return replaced(run, run->seen);
}

static int replaced_by_host(struct run *run)
{
	return replaced(run, run->behind);
}

/* A directory with a file and a directory in it, all watched. */
static int make_tree(struct run *run)
{
	TRY(done(mkdir(BEHIND(""), 0755)));
	TRY(make(BEHIND("/f")));
	TRY(done(mkdir(BEHIND("/d"), 0755)));
	TRY(watch(run, "", DIR_WATCH));
	TRY(watch(run, "/f", FILE_WATCH));
	return 0;
}

static int remove_tree(struct run *run, const char *inner, const char *outer)
{
	TRY(make_tree(run));
	TRY(done(unlink(path_in(inner, run, "/f"))));
	TRY(done(rmdir(path_in(inner, run, "/d"))));
	return done(rmdir(path_in(outer, run, "")));
}

static int tree_by_guest(struct run *run)
{
	return remove_tree(run, run->seen, run->seen);
}

static int tree_by_host(struct run *run)
{
	return remove_tree(run, run->behind, run->behind);
}

static int tree_by_both(struct run *run)
{
	return remove_tree(run, run->behind, run->seen);
}

/* The last link goes while somebody has it open. */
static int open_in(struct run *run, const char *first, const char *second, const char *unlinker)
{
	int one, two;

	TRY(make(BEHIND("")));
	TRY(watch(run, "", FILE_WATCH));
	one = open(path_in(first, run, ""), O_RDONLY | O_CLOEXEC);
	two = open(path_in(second, run, ""), O_RDONLY | O_CLOEXEC);
	if (one < 0 || two < 0)
		return -errno;
	TRY(done(unlink(path_in(unlinker, run, ""))));
	close(one);
	close(two);
	return 0;
}

static int open_in_guest_unlinked_by_guest(struct run *run)
{
	return open_in(run, run->seen, run->seen, run->seen);
}

static int open_in_guest_unlinked_by_host(struct run *run)
{
	return open_in(run, run->seen, run->seen, run->behind);
}

static int open_on_host_unlinked_by_guest(struct run *run)
{
	return open_in(run, run->behind, run->behind, run->seen);
}

static int open_on_host_unlinked_by_host(struct run *run)
{
	return open_in(run, run->behind, run->behind, run->behind);
}

static int open_in_both_unlinked_by_guest(struct run *run)
{
	return open_in(run, run->seen, run->behind, run->seen);
}

static int open_in_both_unlinked_by_host(struct run *run)
{
	return open_in(run, run->seen, run->behind, run->behind);
}

#define EXACTLY(event, times) .least[event] = (times), .most[event] = (times)
/* A change of the host's and the last unlink may be neighbours. */
#define ONE_OR_TWO(event) .least[event] = 1, .most[event] = 2

#define MADE_AND_GONE EXACTLY(CREATE, 1), EXACTLY(DELETE, 1)
#define THE_END EXACTLY(DELETE_SELF, 1), EXACTLY(IGNORED, 1)

#define PLAIN                                                                                      \
	{                                                                                          \
		[NAME] = {MADE_AND_GONE},                                                          \
		[FILE_WATCH] = {EXACTLY(ATTRIB, 1), THE_END},                                      \
	}
#define TOUCHED                                                                                    \
	{                                                                                          \
		[NAME] = {MADE_AND_GONE, EXACTLY(MODIFY, 1), EXACTLY(ATTRIB, 1)},                  \
		[FILE_WATCH] = {EXACTLY(MODIFY, 1), ONE_OR_TWO(ATTRIB), THE_END},                  \
	}
#define REPLACED                                                                                   \
	{                                                                                          \
		[NAME] = {MADE_AND_GONE, EXACTLY(MODIFY, 1), EXACTLY(ATTRIB, 1),                   \
			  EXACTLY(MOVED_TO, 1)},                                                   \
		[FILE_WATCH] = {EXACTLY(MODIFY, 1), ONE_OR_TWO(ATTRIB), THE_END},                  \
	}
#define TREE                                                                                       \
	{                                                                                          \
		[NAME] = {MADE_AND_GONE},                                                          \
		[FILE_WATCH] = {EXACTLY(ATTRIB, 1), THE_END},                                      \
		[DIR_WATCH] = {EXACTLY(DELETE, 2), THE_END},                                       \
	}

static const struct kind {
	const char *name;
	int (*once)(struct run *run);
	struct expected expected[PLACES];
} kinds[] = {
	{"guest", by_guest, PLAIN},
	{"host", by_host, PLAIN},
	{"both", by_both, PLAIN},
	{"touched", touched, TOUCHED},
	{"replaced-by-guest", replaced_by_guest, REPLACED},
	{"replaced-by-host", replaced_by_host, REPLACED},
	{"tree-by-guest", tree_by_guest, TREE},
	{"tree-by-host", tree_by_host, TREE},
	{"tree-by-both", tree_by_both, TREE},
	{"open-in-guest-unlinked-by-guest", open_in_guest_unlinked_by_guest, PLAIN},
	{"open-in-guest-unlinked-by-host", open_in_guest_unlinked_by_host, PLAIN},
	{"open-on-host-unlinked-by-guest", open_on_host_unlinked_by_guest, PLAIN},
	{"open-on-host-unlinked-by-host", open_on_host_unlinked_by_host, PLAIN},
	{"open-in-both-unlinked-by-guest", open_in_both_unlinked_by_guest, PLAIN},
	{"open-in-both-unlinked-by-host", open_in_both_unlinked_by_host, PLAIN},
};

/* ---- counting -------------------------------------------------------------------------------- */

static void count_at(struct run *run, struct seen *seen, uint32_t mask)
{
	for (int event = 0; event < EVENTS; event++) {
		if (!(mask & events[event].bit))
			continue;
		/* Nothing about a name that has gone, or from a watch that has. */
		run->disordered += seen->times[IGNORED] > 0 ||
				   (seen->place == NAME && seen->times[DELETE] > 0);
		run->disordered += event == IGNORED && seen->times[DELETE_SELF] == 0;
		if (seen->times[event] < UINT8_MAX)
			seen->times[event]++;
	}
}

static void count(struct run *run, const struct inotify_event *event)
{
	if (event->mask & IN_Q_OVERFLOW) {
		run->overflows++;
	} else if (event->wd == run->top) {
		if (strcmp(event->name, "end") == 0)
			run->ended = true;
		else if (event->name[0] == 'r' && atoll(event->name + 1) < run->count)
			count_at(run, &run->names[atoll(event->name + 1)], event->mask);
	} else if (event->wd > 0 && event->wd < run->watches_max &&
		   run->watches[event->wd].place != NAME) {
		count_at(run, &run->watches[event->wd], event->mask);
	} else {
		run->strange++;
	}
}

/* All that is there. */
static void read_events(struct run *run)
{
	static char buffer[1 << 18] __attribute__((aligned(8)));
	ssize_t length;

	while ((length = read(run->instance, buffer, sizeof(buffer))) > 0) {
		for (const char *at = buffer; at < buffer + length;) {
			const struct inotify_event *event = (const void *)at;

			count(run, event);
			at += sizeof(*event) + event->len;
		}
	}
}

struct total {
	int64_t lost[PLACES][EVENTS], doubled[PLACES][EVENTS];
	int64_t all;
};

static void compare(const struct kind *kind, const struct seen *seen, struct total *total)
{
	const struct expected *expected = &kind->expected[seen->place];

	for (int event = 0; event < EVENTS; event++) {
		int times = seen->times[event];

		if (times < expected->least[event])
			total->lost[seen->place][event] += expected->least[event] - times;
		if (times > expected->most[event])
			total->doubled[seen->place][event] += times - expected->most[event];
		total->all += times < expected->least[event] || times > expected->most[event];
	}
}

static void compare_all(const struct run *run, const struct kind *kind, struct total *total)
{
	*total = (struct total){0};
	for (int64_t i = 0; i < run->count; i++)
		compare(kind, &run->names[i], total);
	for (int wd = 1; wd < run->watches_max; wd++)
		if (run->watches[wd].place != NAME)
			compare(kind, &run->watches[wd], total);
}

/* Events are in order: what is older than the sentinel has come with it. */
static int settle(struct run *run, const struct kind *kind, int timeout_ms, struct total *total)
{
	struct pollfd readable = {.fd = run->instance, .events = POLLIN};
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/end", run->behind);
	TRY(make(path));
	do
		read_events(run);
	while (!run->ended && poll(&readable, 1, timeout_ms) == 1);
	/* The last watch may end a little later, and so may an error be reported. */
	do {
		read_events(run);
		compare_all(run, kind, total);
	} while (total->all > 0 && poll(&readable, 1, timeout_ms) == 1);
	TRY(done(unlink(path)));
	return run->ended ? 0 : -ETIMEDOUT;
}

static void print(const char *what, int64_t number)
{
	if (number)
		printf("%s %lld ", what, (long long)number);
}

static void report(const struct run *run, const struct total *total)
{
	char what[64];

	for (int place = 0; place < PLACES; place++) {
		for (int event = 0; event < EVENTS; event++) {
			(void)snprintf(what, sizeof(what), "lost:%s:%s", place_names[place],
				       events[event].name);
			print(what, total->lost[place][event]);
			(void)snprintf(what, sizeof(what), "doubled:%s:%s", place_names[place],
				       events[event].name);
			print(what, total->doubled[place][event]);
		}
	}
	print("disordered", run->disordered);
	print("overflows", run->overflows);
	print("strange", run->strange);
}

static int run_all(struct run *run, const struct kind *kind, int timeout_ms)
{
	struct total total;

	run->top = inotify_add_watch(run->instance, run->seen, WATCHED & ~(uint32_t)IN_DELETE_SELF);
	if (run->top < 0)
		return -errno;
	for (run->round = 0; run->round < run->count; run->round++) {
		TRY(kind->once(run));
		read_events(run);
	}
	TRY(settle(run, kind, timeout_ms, &total));
	report(run, &total);
	return 0;
}

int64_t rounds_run(const char *kind, int64_t count, const char *seen, const char *behind,
		   int timeout_ms)
{
	struct run run = {.seen = seen, .behind = behind, .count = count};
	const struct kind *found = NULL;
	int ret;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, kind) == 0)
			found = &kinds[i];
	if (!found || count < 0 || count > INT_MAX / 4)
		return -EINVAL;
	run.watches_max = (int)(count * 2 + 8);
	run.names = calloc((size_t)count + 1, sizeof(*run.names));
	run.watches = calloc((size_t)run.watches_max, sizeof(*run.watches));
	run.instance = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	ret = run.names && run.watches && run.instance >= 0 ? run_all(&run, found, timeout_ms) :
							      -ENOMEM;
	if (run.instance >= 0)
		close(run.instance);
	free(run.names);
	free(run.watches);
	return ret < 0 ? ret : run.round;
}
