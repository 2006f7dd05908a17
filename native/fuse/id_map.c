/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/id_map.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

struct table {
	struct vfsd_id_range *ranges;
	uint32_t n;
};

struct vfsd_idmap {
	struct table tables[VFSD_ID_WAYS];
};

int vfsd_idmap_translate(const struct vfsd_idmap *map, enum vfsd_id_way way, uint32_t *id)
{
	const struct table *table;
	uint32_t low = 0;
	uint32_t high;

	if (VFSD_LIKELY(!map) || *id == UINT32_MAX)
		return 0;
	table = &map->tables[way];
	high = table->n;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct vfsd_id_range *range = &table->ranges[middle];

		if (*id < range->first) {
			high = middle;
		} else if (*id - range->first >= range->count) {
			low = middle + 1;
		} else {
			if (range->effect == VFSD_ID_FORBID)
				return -EPERM;
			*id = range->to + (range->effect == VFSD_ID_SHIFT ? *id - range->first : 0);
			return 0;
		}
	}
	return 0;
}

/* Ascending, without overlaps, within 32 bits. */
static bool is_table(const struct vfsd_id_range *ranges, uint32_t n)
{
	uint64_t next = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct vfsd_id_range *range = &ranges[i];

		if (range->effect > VFSD_ID_FORBID || range->count == 0 || range->first < next)
			return false;
		next = (uint64_t)range->first + range->count;
		if (next > UINT64_C(1) << 32)
			return false;
		if (range->effect == VFSD_ID_SHIFT && range->count - 1 > UINT32_MAX - range->to)
			return false;
	}
	return true;
}

int vfsd_idmap_create(const struct vfsd_id_range *const ranges[static VFSD_ID_WAYS],
		      const uint32_t n[static VFSD_ID_WAYS], struct vfsd_idmap **ret)
{
	struct vfsd_idmap *map;

	for (int way = 0; way < VFSD_ID_WAYS; way++)
		if (!is_table(ranges[way], n[way]))
			return -EINVAL;
	map = calloc(1, sizeof(*map));
	if (!map)
		return -ENOMEM;
	for (int way = 0; way < VFSD_ID_WAYS; way++) {
		struct table *table = &map->tables[way];

		if (n[way] == 0)
			continue;
		table->ranges = calloc(n[way], sizeof(*table->ranges));
		if (!table->ranges) {
			vfsd_idmap_destroy(map);
			return -ENOMEM;
		}
		memcpy(table->ranges, ranges[way], n[way] * sizeof(*table->ranges));
		table->n = n[way];
	}
	*ret = map;
	return 0;
}

void vfsd_idmap_destroy(struct vfsd_idmap *map)
{
	if (!map)
		return;
	for (int way = 0; way < VFSD_ID_WAYS; way++)
		free(map->tables[way].ranges);
	free(map);
}
