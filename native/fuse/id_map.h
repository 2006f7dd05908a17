/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/id_map - user and group ids on their way between guest and host (--translate-uid, -gid).
 *
 * An id that no range holds passes unchanged, and so does (uint32_t)-1, which is none.
 * Owner thread: any. Constant once made.
 */
#ifndef VFSD_FUSE_ID_MAP_H
#define VFSD_FUSE_ID_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "fuse/options.h"

struct vfsd_idmap;

/*
 * @ranges[way], @n[way] of them, in ascending order and without overlaps, are copied. All may be
 * empty. 0, -EINVAL or -ENOMEM.
 */
int vfsd_idmap_create(const struct vfsd_id_range *const ranges[static VFSD_ID_WAYS],
		      const uint32_t n[static VFSD_ID_WAYS], struct vfsd_idmap **ret);
void vfsd_idmap_destroy(struct vfsd_idmap *map);

/* Translate *id in place. 0 or -EPERM. A NULL @map changes nothing. */
int vfsd_idmap_translate(const struct vfsd_idmap *map, enum vfsd_id_way way, uint32_t *id);

#endif
