/* SPDX-License-Identifier: BSD-3-Clause */
/* Ids between guest and host, compared with a look at every range. */
#include "fuse/id_map.h"

#include <errno.h>

#include "check.h"
#include "base/util.h"

static const struct vfsd_id_range ranges[] = {
	{0, 1, 1000, VFSD_ID_SHIFT},   {1000, 100, 5000, VFSD_ID_SHIFT},
	{1100, 1, 77, VFSD_ID_SQUASH}, {2000, 500, 65534, VFSD_ID_SQUASH},
	{3000, 10, 0, VFSD_ID_FORBID}, {UINT32_MAX - 10, 10, 0, VFSD_ID_SHIFT},
};

static int naively(uint32_t *id)
{
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(ranges); i++) {
		if (*id < ranges[i].first || *id - ranges[i].first >= ranges[i].count)
			continue;
		if (ranges[i].effect == VFSD_ID_FORBID)
			return -EPERM;
		if (ranges[i].effect == VFSD_ID_SQUASH)
			*id = ranges[i].to;
		else
			*id += ranges[i].to - ranges[i].first;
		return 0;
	}
	return 0;
}

static int create(const struct vfsd_id_range *table, uint32_t count, struct vfsd_idmap **ret)
{
	const struct vfsd_id_range *const tables[VFSD_ID_WAYS] = {[VFSD_GID_TO_HOST] = table};
	const uint32_t n[VFSD_ID_WAYS] = {[VFSD_GID_TO_HOST] = count};

	return vfsd_idmap_create(tables, n, ret);
}

static void test_translation(void)
{
	struct vfsd_idmap *map;
	uint32_t id;

	CHECK_EQ(create(ranges, VFSD_ARRAY_SIZE(ranges), &map), 0);
	for (uint32_t start = 0; start < 4000; start++) {
		uint32_t wanted = start;
		int error = naively(&wanted);

		id = start;
		CHECK_EQ(vfsd_idmap_translate(map, VFSD_GID_TO_HOST, &id), error);
		CHECK_EQ(id, wanted);
		/* The other tables are empty. */
		id = start;
		CHECK_EQ(vfsd_idmap_translate(map, VFSD_GID_TO_GUEST, &id), 0);
		CHECK_EQ(vfsd_idmap_translate(map, VFSD_UID_TO_HOST, &id), 0);
		CHECK_EQ(id, start);
	}
	id = UINT32_MAX - 1;
	CHECK_EQ(vfsd_idmap_translate(map, VFSD_GID_TO_HOST, &id), 0);
	CHECK_EQ(id, 9);
	id = UINT32_MAX; /* none */
	CHECK_EQ(vfsd_idmap_translate(map, VFSD_GID_TO_HOST, &id), 0);
	CHECK_EQ(id, UINT32_MAX);
	CHECK_EQ(vfsd_idmap_translate(NULL, VFSD_GID_TO_HOST, &id), 0);
	vfsd_idmap_destroy(map);
	vfsd_idmap_destroy(NULL);
}

static void test_bad_tables(void)
{
	static const struct vfsd_id_range bad[][2] = {
		{{5, 2, 0, VFSD_ID_SHIFT}, {6, 1, 0, VFSD_ID_SHIFT}}, /* overlap */
		{{5, 1, 0, VFSD_ID_SHIFT}, {4, 1, 0, VFSD_ID_SHIFT}}, /* order */
		{{5, 1, 0, VFSD_ID_SHIFT}, {6, 0, 0, VFSD_ID_SHIFT}}, /* empty */
		{{5, 1, 0, VFSD_ID_SHIFT}, {UINT32_MAX, 2, 0, VFSD_ID_SQUASH}},
		{{5, 1, 0, VFSD_ID_SHIFT}, {6, 2, UINT32_MAX, VFSD_ID_SHIFT}},
		{{5, 1, 0, VFSD_ID_SHIFT}, {6, 2, 0, (enum vfsd_id_effect)3}},
	};
	struct vfsd_idmap *map;

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(bad); i++)
		CHECK_EQ(create(bad[i], 2, &map), -EINVAL);
}

int main(void)
{
	test_translation();
	test_bad_tables();
	return 0;
}
