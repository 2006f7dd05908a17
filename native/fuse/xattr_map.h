/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/xattr_map - which extended attributes the guest has, and what they are called on the host.
 *
 * A table of rules, the first that matches decides: names from the guest match a rule whose scope
 * has CLIENT when they start with its key, names from the host match one whose scope has SERVER
 * when they start with its prepend. The language it comes from: virtiofsd_py/xattrmap.py.
 * Owner thread: any. Constant once made.
 */
#ifndef VFSD_FUSE_XATTR_MAP_H
#define VFSD_FUSE_XATTR_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse/options.h"

enum { VFSD_XATTR_NAME_BYTES = 256 }; /* XATTR_NAME_MAX and the NUL */

struct vfsd_xattrmap;

/* @rules are copied. 0, -EINVAL (no such type or scope) or -ENOMEM. */
int vfsd_xattrmap_create(const struct vfsd_xattr_rule *rules, uint32_t n,
			 struct vfsd_xattrmap **ret);
void vfsd_xattrmap_destroy(struct vfsd_xattrmap *map);

/*
 * The host's name of the guest's @name. 0, -EINVAL (empty), -EPERM, -ENOTSUP or -ERANGE (too long). A
 * NULL @map changes nothing; a name that no rule matches is -EPERM. @acls: the guest keeps ACLs and
 * modes, which ACLs are too, in step. One that does not may have no ACLs.
 */
int vfsd_xattrmap_to_host(const struct vfsd_xattrmap *map, bool acls, const char *name,
			  char ret[static VFSD_XATTR_NAME_BYTES]);

/* The guest's name of the host's @name: part of it, or NULL for one that the guest does not see. */
const char *vfsd_xattrmap_to_guest(const struct vfsd_xattrmap *map, bool acls, const char *name);

#endif
