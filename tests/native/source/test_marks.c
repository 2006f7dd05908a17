/* SPDX-License-Identifier: BSD-3-Clause */
/* Mask aggregation against the naive union over all (inode, owner) pairs. */
#include "source/marks.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { NODES = 300, OWNERS = 9 };

static uint32_t naive[NODES][OWNERS];

static uint32_t naive_union(size_t node)
{
	uint32_t mask = 0;

	for (size_t owner = 0; owner < OWNERS; owner++)
		mask |= naive[node][owner];
	return mask;
}

/* Ids as the inode table makes them: index below, generation above. */
static uint64_t nodeid(size_t node)
{
	return (uint64_t)(node % 7) << 32 | (node + 1);
}

static void check_all(const struct vfsd_marks *marks)
{
	size_t inodes = 0, entries = 0;

	for (size_t node = 0; node < NODES; node++) {
		CHECK(vfsd_marks_union(marks, nodeid(node)) == naive_union(node));
		inodes += naive_union(node) != 0;
		for (size_t owner = 0; owner < OWNERS; owner++)
			entries += naive[node][owner] != 0;
	}
	CHECK(vfsd_marks_entries(marks) == entries);
	CHECK(vfsd_marks_count(marks) == inodes);
}

static void test_against_naive_union(unsigned int seed)
{
	struct vfsd_marks_change change;
	struct vfsd_marks *marks;

	srandom(seed);
	memset(naive, 0, sizeof(naive));
	CHECK(vfsd_marks_create(&marks) == 0);
	for (int step = 0; step < 20000; step++) {
		size_t node = (size_t)random() % NODES;
		uint32_t owner = (uint32_t)random() % OWNERS;
		uint32_t mask = random() % 3 ? (uint32_t)random() & 0xfff : 0;
		uint32_t before = naive_union(node);

		if (random() % 20 == 0) {
			CHECK(vfsd_marks_drop(marks, nodeid(node)) == before);
			memset(naive[node], 0, sizeof(naive[node]));
		} else {
			CHECK(vfsd_marks_set(marks, nodeid(node), owner, mask, &change) == 0);
			CHECK(change.old_union == before);
			CHECK(change.before == naive[node][owner]);
			CHECK(vfsd_marks_mask(marks, nodeid(node), owner) == mask);
			naive[node][owner] = mask;
			CHECK(change.new_union == naive_union(node));
		}
		if (step % 500 == 0)
			check_all(marks);
	}
	check_all(marks);
	vfsd_marks_clear(marks);
	memset(naive, 0, sizeof(naive));
	check_all(marks);
	vfsd_marks_destroy(marks);
}

static void test_undo(void)
{
	struct vfsd_marks_change change, undone;
	struct vfsd_marks *marks;

	CHECK(vfsd_marks_create(&marks) == 0);
	CHECK(vfsd_marks_set(marks, 9, 1, 0x2, &change) == 0);
	CHECK(vfsd_marks_set(marks, 9, 1, 0x6, &change) == 0);
	CHECK(vfsd_marks_set(marks, 9, 1, change.before, &undone) == 0);
	CHECK(undone.new_union == change.old_union);
	vfsd_marks_destroy(marks);
}

int main(void)
{
	vfsd_marks_destroy(NULL);
	for (unsigned int seed = 1; seed <= 10; seed++)
		test_against_naive_union(seed);
	test_undo();
	return 0;
}
