/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names against a model of the host's queue: what is told comes and goes in turns, holds no event
 * that did not happen, and ends as things are, however the host has merged.
 */
#include "source/fanotify/window.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "source/fanotify/decode.h"

enum {
	COMES = VFSD_FAN_NAME_COMES,
	GOES = VFSD_FAN_NAME_GOES,
	BOTH = COMES | GOES,
	PROCESSES = 3,
	OPS_MAX = 12,
};

/* The name @name_ in directory number @dir. */
#define PLACE(dir, name_)                                                                          \
	((struct vfsd_fan_place){                                                                  \
		.handle = &(struct vfsd_file_handle){.bytes = 1, .data = {dir}},                   \
		.name = (name_),                                                                   \
		.name_bytes = (uint32_t)strlen(name_),                                             \
	})

/* Of an event with nothing behind it. */
static uint32_t order(struct vfsd_fan_window *window, const char *name, uint32_t bits, bool exists,
		      uint32_t *ret)
{
	const struct vfsd_fan_ahead nothing = {0};
	bool look = vfsd_fan_window_must_look(window, &PLACE(7, name), bits);

	/* What need not be looked at is not: a lie must not matter. */
	return vfsd_fan_window_order(window, &PLACE(7, name), bits, look ? exists : !exists,
				     &nothing, ret);
}

static void test_single_events(void)
{
	struct vfsd_fan_window *window;
	uint32_t got[VFSD_FAN_NAME_STEPS_MAX];

	CHECK(vfsd_fan_window_create(&window) == 0);
	CHECK(!vfsd_fan_window_must_look(window, &PLACE(7, "a"), COMES));
	CHECK(!vfsd_fan_window_must_look(window, &PLACE(7, "a"), GOES));
	CHECK(vfsd_fan_window_must_look(window, &PLACE(7, "a"), BOTH));
	CHECK(order(window, "a", COMES, true, got) == 1 && got[0] == COMES);
	CHECK(vfsd_fan_window_must_look(window, &PLACE(7, "a"), GOES));
	CHECK(!vfsd_fan_window_must_look(window, &PLACE(8, "a"), GOES));
	CHECK(!vfsd_fan_window_must_look(window, &PLACE(7, "b"), GOES));
	CHECK(order(window, "b", BOTH, true, got) == 2 && got[0] == GOES && got[1] == COMES);
	CHECK(order(window, "c", BOTH, false, got) == 2 && got[0] == COMES && got[1] == GOES);
	vfsd_fan_window_clear(window);
	CHECK(!vfsd_fan_window_must_look(window, &PLACE(7, "a"), GOES));
	CHECK(vfsd_fan_window_moved(window, &PLACE(7, "a"), COMES) == 0);
	/* Moved here, and then removed by somebody whose event was merged into an older one. */
	CHECK(order(window, "a", COMES, false, got) == 1 && got[0] == GOES);
	vfsd_fan_window_destroy(window);
	vfsd_fan_window_destroy(NULL);
}

/* CREATE, DELETE, CREATE, of which the last was merged into the first. */
static void test_a_batch_that_ends_with_an_existing_name(void)
{
	struct vfsd_fan_window *window;
	uint32_t got[VFSD_FAN_NAME_STEPS_MAX];

	CHECK(vfsd_fan_window_create(&window) == 0);
	CHECK(order(window, "n", COMES, true, got) == 1 && got[0] == COMES);
	CHECK(order(window, "n", GOES, true, got) == 2 && got[0] == GOES && got[1] == COMES);
	/* The next CREATE of that window is the one that has been told. */
	CHECK(order(window, "n", COMES, true, got) == 0);
	vfsd_fan_window_destroy(window);
}

struct event {
	unsigned int process;
	uint32_t bits;
};

/* What happens to a name, by itself or by a rename. */
enum op { OP_COMES = COMES, OP_GOES = GOES, OP_MOVED_HERE = 4 | COMES, OP_MOVED_AWAY = 4 | GOES };

static bool is_rename(uint32_t op)
{
	return (op & 4) != 0;
}

static uint32_t count(const uint32_t *ops, size_t n, uint32_t op)
{
	uint32_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += ops[i] == op;
	return found;
}

/* Something that may happen to a name that @exists. */
static enum op any_op(bool exists, bool with_renames)
{
	if (!with_renames)
		return exists ? OP_GOES : OP_COMES;
	if (!exists)
		return random() % 2 ? OP_COMES : OP_MOVED_HERE;
	switch (random() % 4) {
	case 0:
		return OP_MOVED_HERE; /* in place of what was there */
	case 1:
		return OP_MOVED_AWAY;
	default:
		return OP_GOES;
	}
}

static struct vfsd_fan_ahead look_ahead(const struct event *queue, size_t from, size_t n)
{
	struct vfsd_fan_ahead ahead = {0};

	for (size_t i = from; i < n; i++) {
		uint32_t bits = queue[i].bits & BOTH;

		ahead.last = bits == BOTH ? 0 : bits;
		if (!ahead.any)
			ahead.first = ahead.last;
		ahead.any = true;
	}
	return ahead;
}

/* What the source tells of a queue that it has read to its end. Returns how many. */
static size_t tell(struct vfsd_fan_window *window, const struct event *queue, size_t n, bool exists,
		   uint32_t *told)
{
	size_t n_told = 0;

	for (size_t i = 0; i < n; i++) {
		struct vfsd_fan_ahead ahead = look_ahead(queue, i + 1, n);
		uint32_t bits = queue[i].bits, step;
		bool look;

		if (!is_rename(bits)) {
			look = vfsd_fan_window_must_look(window, &PLACE(7, "name"), bits);
			if (!look)
				ahead = (struct vfsd_fan_ahead){true, COMES, GOES}; /* lies */
			n_told += vfsd_fan_window_order(window, &PLACE(7, "name"), bits,
							look ? exists : !exists, &ahead,
							told + n_told);
			continue;
		}
		step = vfsd_fan_window_moved(window, &PLACE(7, "name"), bits & BOTH);
		if (step != 0)
			told[n_told++] = step;
		told[n_told++] = bits;
		if (i + 1 < n || !vfsd_fan_window_may_hide(window, &PLACE(7, "name")))
			continue;
		step = vfsd_fan_window_hidden(window, &PLACE(7, "name"), exists);
		if (step != 0) {
			vfsd_fan_window_reported(window, &PLACE(7, "name"), step);
			told[n_told++] = step;
		}
	}
	return n_told;
}

/* One window of one name: events of renames are merged with none of the name. */
static void test_window(struct vfsd_fan_window *window, bool exists, bool with_renames)
{
	uint32_t truth[OPS_MAX], told[OPS_MAX * (VFSD_FAN_NAME_STEPS_MAX + 1)];
	struct event queue[OPS_MAX];
	size_t n_ops = (size_t)random() % OPS_MAX + 1, n_queue = 0, n_told;
	uint32_t known = 0;

	for (size_t i = 0; i < n_ops; i++) {
		struct event event = {(unsigned int)random() % PROCESSES,
				      any_op(exists, with_renames)};
		size_t at = 0;

		truth[i] = event.bits;
		exists = (event.bits & COMES) != 0;
		while (at < n_queue &&
		       (queue[at].process != event.process || is_rename(queue[at].bits)))
			at++;
		if (at == n_queue || is_rename(event.bits) || random() % 8 == 0)
			queue[n_queue++] = event;
		else
			queue[at].bits |= event.bits;
	}
	n_told = tell(window, queue, n_queue, exists, told);
	for (size_t i = 0; i < n_told; i++) {
		uint32_t effect = told[i] & BOTH;

		if (told[i] != OP_MOVED_HERE)
			CHECK(known !=
			      effect); /* it comes to where it is not, and goes from where it is */
		known = effect;
	}
	CHECK(known == (exists ? COMES : GOES));
	CHECK(count(told, n_told, OP_MOVED_HERE) == count(truth, n_ops, OP_MOVED_HERE));
	CHECK(count(told, n_told, OP_MOVED_AWAY) == count(truth, n_ops, OP_MOVED_AWAY));
	for (uint32_t op = COMES; op <= GOES; op++)
		CHECK(count(truth, n_ops, op) == 0 || count(told, n_told, op) > 0);
	if (n_queue == n_ops) {
		CHECK(n_told == n_ops);
		CHECK(memcmp(told, truth, n_ops * sizeof(*truth)) == 0);
	}
}

static void test_against_model(unsigned int seed)
{
	struct vfsd_fan_window *window;
	char other[16];

	srandom(seed);
	CHECK(vfsd_fan_window_create(&window) == 0);
	for (int round = 0; round < 20000; round++) {
		uint32_t got[VFSD_FAN_NAME_STEPS_MAX];

		vfsd_fan_window_clear(window);
		for (int i = 0; i < 3; i++) { /* neighbours */
			(void)snprintf(other, sizeof(other), "%ld", random());
			CHECK(order(window, other, COMES, true, got) == 1);
		}
		test_window(window, random() % 2, round % 2);
	}
	vfsd_fan_window_destroy(window);
}

/* More names than there is room for: forgotten, not lost. */
static void test_many_names(void)
{
	struct vfsd_fan_window *window;
	uint32_t got[VFSD_FAN_NAME_STEPS_MAX];
	char name[16];

	CHECK(vfsd_fan_window_create(&window) == 0);
	for (int i = 0; i < 100000; i++) {
		(void)snprintf(name, sizeof(name), "%d", i);
		CHECK(order(window, name, COMES, true, got) == 1 && got[0] == COMES);
	}
	vfsd_fan_window_destroy(window);
}

int main(void)
{
	test_single_events();
	test_a_batch_that_ends_with_an_existing_name();
	for (unsigned int seed = 1; seed <= 5; seed++)
		test_against_model(seed);
	test_many_names();
	return 0;
}
