/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names against a model of the host's queue: what is told comes and goes in turns, holds no event
 * that did not happen, and ends as things are, however the host has merged.
 */
#include "names.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

enum {
	COMES = VFSD_NAME_COMES,
	GOES = VFSD_NAME_GOES,
	BOTH = COMES | GOES,
	PROCESSES = 3,
	OPS_MAX = 12,
};

static uint32_t order(struct vfsd_names *names, const char *name, uint32_t bits, bool exists,
		      uint32_t *ret)
{
	bool look = vfsd_names_must_look(names, 7, name, bits);

	/* What need not be looked at is not: a lie must not matter. */
	return vfsd_names_order(names, 7, name, bits, look ? exists : !exists, ret);
}

static void test_single_events(void)
{
	struct vfsd_names *names;
	uint32_t got[VFSD_NAME_STEPS_MAX];

	CHECK(vfsd_names_create(&names) == 0);
	CHECK(!vfsd_names_must_look(names, 7, "a", COMES));
	CHECK(!vfsd_names_must_look(names, 7, "a", GOES));
	CHECK(vfsd_names_must_look(names, 7, "a", BOTH));
	CHECK(order(names, "a", COMES, true, got) == 1 && got[0] == COMES);
	CHECK(vfsd_names_must_look(names, 7, "a", GOES));
	CHECK(!vfsd_names_must_look(names, 8, "a", GOES));
	CHECK(!vfsd_names_must_look(names, 7, "b", GOES));
	CHECK(order(names, "b", BOTH, true, got) == 2 && got[0] == GOES && got[1] == COMES);
	CHECK(order(names, "c", BOTH, false, got) == 2 && got[0] == COMES && got[1] == GOES);
	vfsd_names_forget(names);
	CHECK(!vfsd_names_must_look(names, 7, "a", GOES));
	vfsd_names_moved(names, 7, "a", COMES);
	/* Moved here, and then removed by somebody whose event was merged into an older one. */
	CHECK(order(names, "a", COMES, false, got) == 1 && got[0] == GOES);
	vfsd_names_destroy(names);
	vfsd_names_destroy(NULL);
}

/* CREATE, DELETE, CREATE, of which the last was merged into the first. */
static void test_a_batch_that_ends_with_an_existing_name(void)
{
	struct vfsd_names *names;
	uint32_t got[VFSD_NAME_STEPS_MAX];

	CHECK(vfsd_names_create(&names) == 0);
	CHECK(order(names, "n", COMES, true, got) == 1 && got[0] == COMES);
	CHECK(order(names, "n", GOES, true, got) == 2 && got[0] == GOES && got[1] == COMES);
	/* The next CREATE of that window is the one that has been told. */
	CHECK(order(names, "n", COMES, true, got) == 0);
	vfsd_names_destroy(names);
}

struct event {
	unsigned int process;
	uint32_t bits;
};

/* One window of one name: @first tells whether it was there before. */
static void test_window(struct vfsd_names *names, bool first)
{
	uint32_t truth[OPS_MAX], told[OPS_MAX * VFSD_NAME_STEPS_MAX];
	struct event queue[OPS_MAX];
	size_t n_ops = (size_t)random() % OPS_MAX + 1, n_queue = 0, n_told = 0;
	bool exists = first;

	for (size_t i = 0; i < n_ops; i++) {
		struct event event = {(unsigned int)random() % PROCESSES, exists ? GOES : COMES};
		size_t at = 0;

		truth[i] = event.bits;
		exists = !exists;
		while (at < n_queue && queue[at].process != event.process)
			at++;
		/* Merging gives up on long lists, so what could be merged need not be. */
		if (at == n_queue || random() % 8 == 0)
			queue[n_queue++] = event;
		else
			queue[at].bits |= event.bits;
	}
	for (size_t i = 0; i < n_queue; i++) {
		uint32_t n = order(names, "name", queue[i].bits, exists, told + n_told);

		for (uint32_t k = 0; k < n; k++, n_told++) {
			CHECK(told[n_told] == COMES || told[n_told] == GOES);
			CHECK(n_told == 0 || told[n_told] != told[n_told - 1]);
		}
	}
	CHECK(n_told > 0);
	CHECK(told[n_told - 1] == truth[n_ops - 1]);
	if (n_queue == n_ops) /* nothing was merged, so nothing is lost */
		CHECK(n_told >= n_ops);
}

static void test_against_model(unsigned int seed)
{
	struct vfsd_names *names;
	char other[16];

	srandom(seed);
	CHECK(vfsd_names_create(&names) == 0);
	for (int window = 0; window < 20000; window++) {
		uint32_t got[VFSD_NAME_STEPS_MAX];

		vfsd_names_forget(names);
		for (int i = 0; i < 3; i++) { /* neighbours */
			(void)snprintf(other, sizeof(other), "%ld", random());
			CHECK(order(names, other, COMES, true, got) == 1);
		}
		test_window(names, random() % 2);
	}
	vfsd_names_destroy(names);
}

/* More names than there is room for: forgotten, not lost. */
static void test_many_names(void)
{
	struct vfsd_names *names;
	uint32_t got[VFSD_NAME_STEPS_MAX];
	char name[16];

	CHECK(vfsd_names_create(&names) == 0);
	for (int i = 0; i < 100000; i++) {
		(void)snprintf(name, sizeof(name), "%d", i);
		CHECK(order(names, name, COMES, true, got) == 1 && got[0] == COMES);
	}
	vfsd_names_destroy(names);
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
