/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of extended attributes between guest and host: the documented rules, one by one. */
#include "fuse/xattr_map.h"

#include <errno.h>
#include <string.h>

#include "check.h"
#include "base/util.h"

static struct vfsd_xattrmap *map_of(const struct vfsd_xattr_rule *rules, uint32_t n)
{
	struct vfsd_xattrmap *map;

	CHECK_EQ(vfsd_xattrmap_create(rules, n, &map), 0);
	return map;
}

static void check_to_host(const struct vfsd_xattrmap *map, const char *name, const char *wanted)
{
	char got[VFSD_XATTR_NAME_BYTES];

	CHECK_EQ(vfsd_xattrmap_to_host(map, true, name, got), 0);
	CHECK(strcmp(got, wanted) == 0);
}

static void check_to_guest(const struct vfsd_xattrmap *map, const char *name, const char *wanted)
{
	const char *got = vfsd_xattrmap_to_guest(map, true, name);

	CHECK(wanted ? got && strcmp(got, wanted) == 0 : !got);
}

/* ":map::user.virtiofs.:" spelt out. */
static void test_map_everything(void)
{
	static const struct vfsd_xattr_rule rules[] = {
		{VFSD_XATTR_PREFIX, VFSD_XATTR_ALL, "", "user.virtiofs."},
		{VFSD_XATTR_BAD, VFSD_XATTR_ALL, "", ""},
	};
	struct vfsd_xattrmap *map = map_of(rules, VFSD_ARRAY_SIZE(rules));
	char got[VFSD_XATTR_NAME_BYTES];
	char name[VFSD_XATTR_NAME_BYTES];

	check_to_host(map, "security.capability", "user.virtiofs.security.capability");
	check_to_host(map, "user.virtiofs.x", "user.virtiofs.user.virtiofs.x");
	check_to_guest(map, "user.virtiofs.trusted.a", "trusted.a");
	check_to_guest(map, "user.virtiofs.", NULL);
	check_to_guest(map, "user.other", NULL);
	memset(name, 'n', sizeof(name));
	name[255 - 14] = '\0';
	CHECK_EQ(vfsd_xattrmap_to_host(map, true, name, got), 0);
	CHECK_EQ(strlen(got), 255);
	name[255 - 14] = 'n';
	name[255 - 13] = '\0';
	CHECK_EQ(vfsd_xattrmap_to_host(map, true, name, got), -ERANGE);
	vfsd_xattrmap_destroy(map);
}

/* ":map:trusted.:user.virtiofs.:" spelt out. */
static void test_map_some(void)
{
	static const struct vfsd_xattr_rule rules[] = {
		{VFSD_XATTR_PREFIX, VFSD_XATTR_ALL, "trusted.", "user.virtiofs."},
		{VFSD_XATTR_BAD, VFSD_XATTR_SERVER, "", "trusted."},
		{VFSD_XATTR_BAD, VFSD_XATTR_CLIENT, "user.virtiofs.", ""},
		{VFSD_XATTR_OK, VFSD_XATTR_ALL, "", ""},
	};
	struct vfsd_xattrmap *map = map_of(rules, VFSD_ARRAY_SIZE(rules));
	char got[VFSD_XATTR_NAME_BYTES];

	check_to_host(map, "trusted.overlay.opaque", "user.virtiofs.trusted.overlay.opaque");
	check_to_host(map, "user.a", "user.a");
	CHECK_EQ(vfsd_xattrmap_to_host(map, true, "user.virtiofs.trusted.a", got), -EPERM);
	check_to_guest(map, "user.virtiofs.trusted.overlay.opaque", "trusted.overlay.opaque");
	check_to_guest(map, "trusted.a", NULL);
	check_to_guest(map, "user.a", "user.a");
	vfsd_xattrmap_destroy(map);
}

static void test_types_and_scopes(void)
{
	static const struct vfsd_xattr_rule rules[] = {
		{VFSD_XATTR_UNSUPPORTED, VFSD_XATTR_CLIENT, "security.", "zzz"},
		{VFSD_XATTR_UNSUPPORTED, VFSD_XATTR_SERVER, "zzz", "trusted."},
		{VFSD_XATTR_OK, VFSD_XATTR_CLIENT, "user.a", "ignored"},
		{VFSD_XATTR_OK, VFSD_XATTR_SERVER, "ignored", "user.b"},
	};
	struct vfsd_xattrmap *map = map_of(rules, VFSD_ARRAY_SIZE(rules));
	char got[VFSD_XATTR_NAME_BYTES];

	CHECK_EQ(vfsd_xattrmap_to_host(map, true, "security.selinux", got), -ENOTSUP);
	check_to_host(map, "user.abc", "user.abc");
	check_to_guest(map, "user.bcd", "user.bcd");
	check_to_guest(map, "trusted.x", NULL);
	/* What no rule matches is neither here nor there. */
	CHECK_EQ(vfsd_xattrmap_to_host(map, true, "user.b", got), -EPERM);
	check_to_guest(map, "user.a", NULL);
	vfsd_xattrmap_destroy(map);
}

static void test_no_map(void)
{
	static const struct vfsd_xattr_rule bad[] = {
		{(enum vfsd_xattr_type)4, VFSD_XATTR_ALL, "", ""},
		{VFSD_XATTR_OK, (enum vfsd_xattr_scope)0, "", ""},
	};
	struct vfsd_xattrmap *map;
	char got[VFSD_XATTR_NAME_BYTES];

	check_to_host(NULL, "user.a", "user.a");
	check_to_guest(NULL, "user.a", "user.a");
	CHECK_EQ(vfsd_xattrmap_to_host(NULL, true, "", got), -EINVAL);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(bad); i++)
		CHECK_EQ(vfsd_xattrmap_create(&bad[i], 1, &map), -EINVAL);
	vfsd_xattrmap_destroy(NULL);
}

/* A guest that has no ACLs has those of a host that calls them otherwise no more than others. */
static void test_acls(void)
{
	static const struct vfsd_xattr_rule rules[] = {
		{VFSD_XATTR_PREFIX, VFSD_XATTR_ALL, "", "user.virtiofs."},
	};
	static const char *const acls[] = {"system.posix_acl_access", "system.posix_acl_default"};
	struct vfsd_xattrmap *map = map_of(rules, VFSD_ARRAY_SIZE(rules));
	char got[VFSD_XATTR_NAME_BYTES];

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(acls); i++) {
		check_to_host(NULL, acls[i], acls[i]);
		check_to_guest(NULL, acls[i], acls[i]);
		CHECK_EQ(vfsd_xattrmap_to_host(NULL, false, acls[i], got), -ENOTSUP);
		CHECK_EQ(vfsd_xattrmap_to_host(map, false, acls[i], got), -ENOTSUP);
		CHECK(!vfsd_xattrmap_to_guest(NULL, false, acls[i]));
		CHECK_EQ(vfsd_xattrmap_to_host(map, true, acls[i], got), 0);
		check_to_guest(map, got, acls[i]);
		CHECK(!vfsd_xattrmap_to_guest(map, false, got));
	}
	CHECK_EQ(vfsd_xattrmap_to_host(NULL, false, "system.posix_acl", got), 0);
	vfsd_xattrmap_destroy(map);
}

int main(void)
{
	test_map_everything();
	test_map_some();
	test_types_and_scopes();
	test_no_map();
	test_acls();
	return 0;
}
