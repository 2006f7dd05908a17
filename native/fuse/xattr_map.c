/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/xattr_map.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vfsd_xattrmap {
	uint32_t n;
	struct vfsd_xattr_rule rules[]; /* with strings of their own */
};

static bool starts_with(const char *name, const char *start)
{
	return strncmp(name, start, strlen(start)) == 0;
}

static bool is_acl(const char *name)
{
	return strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_"
									    "default") == 0;
}

int vfsd_xattrmap_to_host(const struct vfsd_xattrmap *map, bool acls, const char *name,
			  char ret[static VFSD_XATTR_NAME_BYTES])
{
	const char *prepend = map ? NULL : "";
	int n;

	if (name[0] == '\0')
		return -EINVAL;
	if (!acls && is_acl(name))
		return -ENOTSUP;
	for (uint32_t i = 0; !prepend && i < map->n; i++) {
		const struct vfsd_xattr_rule *rule = &map->rules[i];

		if (!(rule->scope & VFSD_XATTR_CLIENT) || !starts_with(name, rule->key))
			continue;
		if (rule->type == VFSD_XATTR_BAD)
			return -EPERM;
		if (rule->type == VFSD_XATTR_UNSUPPORTED)
			return -ENOTSUP;
		prepend = rule->type == VFSD_XATTR_PREFIX ? rule->prepend : "";
	}
	if (!prepend)
		return -EPERM;
	n = snprintf(ret, VFSD_XATTR_NAME_BYTES, "%s%s", prepend, name);
	return n < VFSD_XATTR_NAME_BYTES ? 0 : -ERANGE;
}

static const char *to_guest(const struct vfsd_xattrmap *map, const char *name)
{
	if (!map)
		return name;
	for (uint32_t i = 0; i < map->n; i++) {
		const struct vfsd_xattr_rule *rule = &map->rules[i];

		if (!(rule->scope & VFSD_XATTR_SERVER) || !starts_with(name, rule->prepend))
			continue;
		if (rule->type == VFSD_XATTR_OK)
			return name;
		if (rule->type != VFSD_XATTR_PREFIX)
			return NULL;
		name += strlen(rule->prepend);
		return *name ? name : NULL;
	}
	return NULL;
}

const char *vfsd_xattrmap_to_guest(const struct vfsd_xattrmap *map, bool acls, const char *name)
{
	name = to_guest(map, name);
	return name && !acls && is_acl(name) ? NULL : name;
}

int vfsd_xattrmap_create(const struct vfsd_xattr_rule *rules, uint32_t n,
			 struct vfsd_xattrmap **ret)
{
	struct vfsd_xattrmap *map;

	for (uint32_t i = 0; i < n; i++)
		if (rules[i].type > VFSD_XATTR_UNSUPPORTED || !(rules[i].scope & VFSD_XATTR_ALL))
			return -EINVAL;
	map = calloc(1, sizeof(*map) + n * sizeof(map->rules[0]));
	if (!map)
		return -ENOMEM;
	for (; map->n < n; map->n++) {
		struct vfsd_xattr_rule *rule = &map->rules[map->n];

		*rule = rules[map->n];
		rule->key = strdup(rule->key);
		rule->prepend = strdup(rule->prepend);
		if (!rule->key || !rule->prepend) {
			map->n++;
			vfsd_xattrmap_destroy(map);
			return -ENOMEM;
		}
	}
	*ret = map;
	return 0;
}

void vfsd_xattrmap_destroy(struct vfsd_xattrmap *map)
{
	if (!map)
		return;
	for (uint32_t i = 0; i < map->n; i++) {
		free((char *)(uintptr_t)map->rules[i].key);
		free((char *)(uintptr_t)map->rules[i].prepend);
	}
	free(map);
}
