/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Extended attributes of real inodes of every type, and what comes with them: ACLs, labels,
 * capabilities under another name.
 */
#include "hostfs/hostfs.h"

#include <pthread.h>
#include <sys/xattr.h>

#include "check.h"
#include "fuse_guest.h"
#include "base/util.h"
#include "fuse/xattr_map.h"

enum { ROOT = VFSD_NODEID_ROOT, ROOM = 4096 };

static int set(struct fuse_guest *g, uint64_t node, const char *name, const char *value,
	       uint32_t flags)
{
	const struct fuse_setxattr_in in = {.size = (uint32_t)strlen(value), .flags = flags};
	char text[512];
	size_t n = (size_t)snprintf(text, sizeof(text), "%s%c%s", name, 0, value);

	return fuse_guest_call2(g, FUSE_SETXATTR, node, &in, FUSE_SETXATTR_IN_OLD_BYTES, text, n,
				0);
}

/* Returns bytes (in g->reply) or -errno. */
static int get(struct fuse_guest *g, uint64_t node, const char *name, uint32_t size)
{
	const struct fuse_getxattr_in in = {.size = size};
	int error = fuse_guest_call2(g, FUSE_GETXATTR, node, &in, sizeof(in), name,
				     strlen(name) + 1, ROOM);

	if (error || size > 0)
		return error ? error : (int)g->reply_bytes;
	CHECK_EQ(g->reply_bytes, sizeof(struct fuse_getxattr_out));
	return (int)((struct fuse_getxattr_out *)g->reply)->size;
}

static int list(struct fuse_guest *g, uint64_t node, uint32_t size)
{
	const struct fuse_getxattr_in in = {.size = size};
	int error = fuse_guest_call(g, FUSE_LISTXATTR, node, &in, sizeof(in), ROOM);

	if (error || size > 0)
		return error ? error : (int)g->reply_bytes;
	return (int)((struct fuse_getxattr_out *)g->reply)->size;
}

static int drop(struct fuse_guest *g, uint64_t node, const char *name)
{
	return fuse_guest_call(g, FUSE_REMOVEXATTR, node, name, strlen(name) + 1, 0);
}

/* The host's view of @name in the share. Bytes or -errno. */
static int host_get(const struct fuse_guest *g, const char *name, const char *attribute, char *got,
		    size_t size)
{
	char path[PATH_MAX + 256];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/%s", g->tree.path, name);
	n = lgetxattr(path, attribute, got, size);
	return n < 0 ? -errno : (int)n;
}

static bool can_have_xattrs(const struct fuse_guest *g)
{
	char path[PATH_MAX + 16];
	bool can;

	(void)snprintf(path, sizeof(path), "%s/probe", g->tree.path);
	tree_file(&g->tree, "probe", "");
	can = setxattr(path, "user.probe", "1", 1, 0) == 0;
	CHECK_EQ(unlink(path), 0);
	if (!can)
		(void)fprintf(stderr, "left out: no user attributes on this filesystem\n");
	return can;
}

static void test_files_and_directories(enum vfsd_handle_policy handles)
{
	const struct fuse_guest_config config = {.handles = handles,
						 .fuse = {.options.xattr = true}};
	struct fuse_guest g;
	uint64_t nodes[2];
	char got[16];

	fuse_guest_create(&g, &config);
	if (!can_have_xattrs(&g)) {
		fuse_guest_destroy(&g);
		return;
	}
	tree_file(&g.tree, "f", "");
	CHECK_EQ(mkdirat(g.tree.fd, "d", 0755), 0);
	nodes[0] = fuse_guest_node(&g, ROOT, "f");
	nodes[1] = fuse_guest_node(&g, ROOT, "d");
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(nodes); i++) {
		CHECK_EQ(set(&g, nodes[i], "user.a", "value", XATTR_REPLACE), -ENODATA);
		CHECK_EQ(set(&g, nodes[i], "user.a", "value", XATTR_CREATE), 0);
		CHECK_EQ(set(&g, nodes[i], "user.a", "value", XATTR_CREATE), -EEXIST);
		CHECK_EQ(set(&g, nodes[i], "user.a", "value", 77), -EINVAL);
		CHECK_EQ(set(&g, nodes[i], "nonsense", "value", 0), -EOPNOTSUPP);
		CHECK_EQ(set(&g, nodes[i], "user.empty", "", 0), 0);
		CHECK_EQ(host_get(&g, i ? "d" : "f", "user.a", got, sizeof(got)), 5);
		CHECK_EQ(get(&g, nodes[i], "user.a", 0), 5);
		CHECK_EQ(get(&g, nodes[i], "user.a", 4), -ERANGE);
		CHECK_EQ(get(&g, nodes[i], "user.a", 5), 5);
		CHECK(memcmp(g.reply, "value", 5) == 0);
		CHECK_EQ(get(&g, nodes[i], "user.a", UINT32_MAX), 5);
		CHECK_EQ(get(&g, nodes[i], "user.empty", 100), 0);
		CHECK_EQ(get(&g, nodes[i], "user.none", 100), -ENODATA);
		CHECK_EQ(get(&g, nodes[i], "", 100), -EINVAL);
		CHECK_EQ(list(&g, nodes[i], 0), 7 + 11);
		CHECK_EQ(list(&g, nodes[i], 17), -ERANGE);
		CHECK_EQ(list(&g, nodes[i], 18), 18);
		CHECK(memcmp(g.reply, "user.a", 7) == 0 || memcmp(g.reply, "user.empty", 11) == 0);
		CHECK_EQ(drop(&g, nodes[i], "user.a"), 0);
		CHECK_EQ(drop(&g, nodes[i], "user.a"), -ENODATA);
		CHECK_EQ(get(&g, 1ULL << 40, "user.a", 5), -ESTALE);
	}
	/* Without FUSE_POSIX_ACL there are no ACLs. */
	CHECK_EQ(get(&g, nodes[0], "system.posix_acl_access", 100), -ENOTSUP);
	CHECK_EQ(set(&g, nodes[0], "system.posix_acl_access", "x", 0), -ENOTSUP);
	CHECK_EQ(drop(&g, nodes[1], "system.posix_acl_default"), -ENOTSUP);
	fuse_guest_destroy(&g);
}

/* The attribute belongs to the link or the pipe itself, never to what it leads to. */
static void test_odd_inodes(void)
{
	const struct fuse_guest_config config = {.fuse = {.options.xattr = true}};
	struct fuse_guest g;
	uint64_t link;
	uint64_t pipe;
	char got[16];

	fuse_guest_create(&g, &config);
	tree_file(&g.tree, "f", "");
	CHECK_EQ(symlinkat("f", g.tree.fd, "l"), 0);
	CHECK_EQ(mkfifoat(g.tree.fd, "p", 0600), 0);
	link = fuse_guest_node(&g, ROOT, "l");
	pipe = fuse_guest_node(&g, ROOT, "p");
	CHECK_EQ(set(&g, link, "user.a", "x", 0), -EPERM); /* the host's rule */
	CHECK_EQ(set(&g, pipe, "user.a", "x", 0), -EPERM);
	if (set(&g, link, "trusted.a", "link", 0) == 0) {
		CHECK_EQ(set(&g, pipe, "trusted.a", "pipe", 0), 0);
		CHECK_EQ(host_get(&g, "l", "trusted.a", got, sizeof(got)), 4);
		CHECK_EQ(host_get(&g, "f", "trusted.a", got, sizeof(got)), -ENODATA);
		CHECK_EQ(get(&g, link, "trusted.a", 100), 4);
		CHECK(memcmp(g.reply, "link", 4) == 0);
		CHECK_EQ(list(&g, pipe, 100), 10);
		CHECK_EQ(drop(&g, pipe, "trusted.a"), 0);
		CHECK_EQ(host_get(&g, "p", "trusted.a", got, sizeof(got)), -ENODATA);
	} else {
		(void)fprintf(stderr, "left out: trusted attributes\n");
	}
	fuse_guest_destroy(&g);
}

/* Names on their way: ":map:trusted.:user.virtiofs.:". */
static void test_mapped_names(void)
{
	static const struct vfsd_xattr_rule rules[] = {
		{VFSD_XATTR_UNSUPPORTED, VFSD_XATTR_CLIENT, "user.no", ""},
		{VFSD_XATTR_PREFIX, VFSD_XATTR_ALL, "trusted.", "user.virtiofs."},
		{VFSD_XATTR_BAD, VFSD_XATTR_SERVER, "", "trusted."},
		{VFSD_XATTR_BAD, VFSD_XATTR_CLIENT, "user.virtiofs.", ""},
		{VFSD_XATTR_OK, VFSD_XATTR_ALL, "", ""},
	};
	struct vfsd_xattrmap *map;
	struct fuse_guest_config config = {.fuse = {.options.xattr = true}};
	struct fuse_guest g;
	uint64_t node;
	char got[16];

	CHECK_EQ(vfsd_xattrmap_create(rules, VFSD_ARRAY_SIZE(rules), &map), 0);
	config.fuse.xattrmap = map;
	fuse_guest_create(&g, &config);
	if (can_have_xattrs(&g)) {
		tree_file(&g.tree, "f", "");
		node = fuse_guest_node(&g, ROOT, "f");
		CHECK_EQ(set(&g, node, "trusted.overlay.opaque", "y", 0), 0);
		CHECK_EQ(host_get(&g, "f", "user.virtiofs.trusted.overlay.opaque", got,
				  sizeof(got)),
			 1);
		CHECK_EQ(get(&g, node, "trusted.overlay.opaque", 10), 1);
		CHECK_EQ(list(&g, node, 0), 23);
		CHECK_EQ(list(&g, node, 23), 23);
		CHECK(memcmp(g.reply, "trusted.overlay.opaque", 23) == 0);
		/* Refused to be written, told not to be there when read. */
		CHECK_EQ(set(&g, node, "user.virtiofs.x", "y", 0), -EPERM);
		CHECK_EQ(drop(&g, node, "user.virtiofs.x"), -EPERM);
		CHECK_EQ(get(&g, node, "user.virtiofs.trusted.overlay.opaque", 10), -ENODATA);
		CHECK_EQ(set(&g, node, "user.no", "y", 0), -ENOTSUP);
		CHECK_EQ(get(&g, node, "user.no", 10), -ENOTSUP);
	}
	fuse_guest_destroy(&g);
	vfsd_xattrmap_destroy(map);
}

/* A capability that the host sees as any attribute goes when the host would have ended it. */
static void test_capability(void)
{
	static const char name[] = "user.virtiofs.security.capability";
	struct fuse_guest_config config = {.fuse = {.options.xattr = true},
					   .capability_name = name};
	struct fuse_setattr_in truncate = {.valid = FATTR_SIZE};
	struct fuse_setattr_in chown = {.valid = FATTR_GID, .gid = getegid()};
	struct fuse_fallocate_in fallocate_in = {.length = 10};
	struct fuse_open_out again;
	struct fuse_entry_out entry;
	struct fuse_open_out opened;
	struct fuse_guest g;

	fuse_guest_create(&g, &config);
	if (!can_have_xattrs(&g)) {
		fuse_guest_destroy(&g);
		return;
	}
	CHECK_EQ(fuse_guest_create_file(&g, ROOT, "f", O_RDWR, 0755, &entry, &opened), 0);
	fallocate_in.fh = opened.fh;
	for (int step = 0; step < 7; step++) {
		CHECK_EQ(set(&g, entry.nodeid, name, "caps", 0), 0);
		CHECK_EQ(get(&g, entry.nodeid, name, 10), 4);
		switch (step) {
		case 0:
			CHECK_EQ(fuse_guest_write(&g, entry.nodeid, opened.fh, 0, "x", 0, 0), 1);
			break;
		case 1:
			CHECK_EQ(fuse_guest_call(&g, FUSE_SETATTR, entry.nodeid, &truncate,
						 sizeof(truncate), 104),
				 0);
			break;
		case 2:
			CHECK_EQ(fuse_guest_call(&g, FUSE_SETATTR, entry.nodeid, &chown,
						 sizeof(chown), 104),
				 0);
			break;
		case 3:
			CHECK_EQ(set(&g, entry.nodeid, "user.other", "x", 0), 0);
			break;
		case 4:
			CHECK_EQ(fuse_guest_open(&g, FUSE_OPEN, entry.nodeid, O_RDWR | O_TRUNC,
						 &again),
				 0);
			CHECK_EQ(fuse_guest_release(&g, FUSE_RELEASE, entry.nodeid, again.fh), 0);
			break;
		case 5:
			(void)fuse_guest_call(&g, FUSE_FALLOCATE, entry.nodeid, &fallocate_in,
					      sizeof(fallocate_in), 0);
			break;
		default: /* what changes nothing ends nothing */
			CHECK_EQ(fuse_guest_read(&g, FUSE_READ, entry.nodeid, opened.fh, 0, 1), 1);
			CHECK_EQ(get(&g, entry.nodeid, name, 10), 4);
			continue;
		}
		CHECK_EQ(get(&g, entry.nodeid, name, 10), -ENODATA);
		/* There being none is no reason to refuse. */
		CHECK_EQ(fuse_guest_write(&g, entry.nodeid, opened.fh, 0, "x", 0, 0), 1);
	}
	/* Of a link the owner only. */
	CHECK_EQ(symlinkat("f", g.tree.fd, "l"), 0);
	CHECK_EQ(fuse_guest_call(&g, FUSE_SETATTR, fuse_guest_node(&g, ROOT, "l"), &chown,
				 sizeof(chown), 104),
		 0);
	fuse_guest_destroy(&g);
}

/* POSIX ACLs, as bytes. */

struct acl_entry {
	uint16_t tag, permissions;
	uint32_t id;
};

struct acl {
	uint32_t version;
	struct acl_entry entries[4];
};

static const struct acl group_may_write = {
	2,
	{{1, 7, UINT32_MAX}, {4, 7, UINT32_MAX}, {0x10, 7, UINT32_MAX}, {0x20, 5, UINT32_MAX}}};

static int set_acl(struct fuse_guest *g, uint64_t node, const char *name, const struct acl *acl,
		   uint32_t setxattr_flags)
{
	const struct fuse_setxattr_in in = {.size = sizeof(*acl), .setxattr_flags = setxattr_flags};
	uint8_t text[256];
	size_t n = strlen(name) + 1;

	memcpy(text, name, n);
	memcpy(text + n, acl, sizeof(*acl));
	return fuse_guest_call2(g, FUSE_SETXATTR, node, &in, sizeof(in), text, n + sizeof(*acl), 0);
}

static mode_t mode_of(const struct fuse_guest *g, const char *name)
{
	struct stat st;

	CHECK_EQ(fstatat(g->tree.fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode & 07777;
}

static void test_posix_acl(void)
{
	const struct fuse_guest_config config = {
		.fuse = {.options.xattr = true, .options.posix_acl = true}};
	const struct fuse_mkdir_in mkdir_in = {.mode = 0777, .umask = 027};
	const struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0666, .umask = 027};
	struct fuse_create_in create_in = {.flags = O_RDWR, .mode = S_IFREG | 0666, .umask = 077};
	struct fuse_guest g;
	uint64_t dir;
	uint64_t node;

	fuse_guest_create(&g, &config);
	CHECK_EQ(mkdirat(g.tree.fd, "d", 0777), 0);
	dir = fuse_guest_node(&g, ROOT, "d");

	/* The umask is ours to apply now, and does not stay. */
	CHECK_EQ(fuse_guest_call2(&g, FUSE_MKDIR, dir, &mkdir_in, 8, "sub", 4, 128), 0);
	CHECK_EQ(mode_of(&g, "d/sub"), 0750);
	CHECK_EQ(fuse_guest_call2(&g, FUSE_MKNOD, dir, &mknod_in, 16, "node", 5, 128), 0);
	CHECK_EQ(mode_of(&g, "d/node"), 0640);
	CHECK_EQ(fuse_guest_call2(&g, FUSE_CREATE, dir, &create_in, 16, "file", 5, 144), 0);
	CHECK_EQ(mode_of(&g, "d/file"), 0600);
	create_in.umask = UINT32_MAX;
	CHECK_EQ(fuse_guest_call2(&g, FUSE_CREATE, dir, &create_in, 16, "none", 5, 144), 0);
	CHECK_EQ(mode_of(&g, "d/none"), 0);
	create_in.umask = 0;
	CHECK_EQ(fuse_guest_call2(&g, FUSE_CREATE, dir, &create_in, 16, "all", 4, 144), 0);
	CHECK_EQ(mode_of(&g, "d/all"), 0666);

	if (set_acl(&g, dir, "system.posix_acl_default", &group_may_write, 0)) {
		(void)fprintf(stderr, "left out: no ACLs on this filesystem\n");
		fuse_guest_destroy(&g);
		return;
	}
	/* A default ACL goes before the umask: that is why the guest leaves it to us. */
	CHECK_EQ(fuse_guest_call2(&g, FUSE_MKDIR, dir, &mkdir_in, 8, "sub2", 5, 128), 0);
	CHECK_EQ(mode_of(&g, "d/sub2"), 0775);
	CHECK_EQ(get(&g, dir, "system.posix_acl_default", 100), sizeof(struct acl));
	CHECK(memcmp(g.reply, &group_may_write, sizeof(struct acl)) == 0);
	CHECK(list(&g, dir, 100) > 0);

	/* Who is not in the file's group loses the set-group-id bit, if the guest says so. */
	tree_file(&g.tree, "s", "");
	node = fuse_guest_node(&g, ROOT, "s");
	if (geteuid() == 0) {
		CHECK_EQ(fchownat(g.tree.fd, "s", 1234, 99, 0), 0);
		CHECK_EQ(fchmodat(g.tree.fd, "s", 02755, 0), 0);
		g.uid = 1234;
		g.gid = 77;
		CHECK_EQ(set_acl(&g, node, "system.posix_acl_access", &group_may_write, 0), 0);
		CHECK_EQ(mode_of(&g, "s"), 02775);
		CHECK_EQ(set_acl(&g, node, "system.posix_acl_access", &group_may_write,
				 FUSE_SETXATTR_ACL_KILL_SGID),
			 0);
		CHECK_EQ(mode_of(&g, "s"), 0775);
		CHECK_EQ(geteuid(), 0);
		CHECK_EQ(getegid(), 0);
	}
	fuse_guest_destroy(&g);
}

/* Labels: what is new has one, or is not there. */

static size_t put_label(uint8_t *text, const char *name, const char *attribute)
{
	size_t n = strlen(name) + 1;
	struct fuse_secctx_header header = {.nr_secctx = 1};
	struct fuse_secctx context = {.size = 5};

	memcpy(text, name, n);
	header.size = (uint32_t)VFSD_ALIGN_UP(
		sizeof(header) + sizeof(context) + strlen(attribute) + 1 + 5, sizeof(uint64_t));
	memset(text + n, 0, header.size);
	memcpy(text + n, &header, sizeof(header));
	memcpy(text + n + sizeof(header), &context, sizeof(context));
	memcpy(text + n + sizeof(header) + sizeof(context), attribute, strlen(attribute) + 1);
	memcpy(text + n + sizeof(header) + sizeof(context) + strlen(attribute) + 1, "label", 5);
	return n + header.size;
}

static void test_labels(void)
{
	const struct fuse_guest_config config = {
		.fuse = {.options.xattr = true, .options.security_label = true}};
	const struct fuse_create_in create_in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
	const struct fuse_mkdir_in mkdir_in = {.mode = 0700};
	const struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0600};
	struct fuse_guest g;
	uint8_t text[256];
	char got[16];
	size_t n;

	fuse_guest_create(&g, &config);
	if (!can_have_xattrs(&g)) {
		fuse_guest_destroy(&g);
		return;
	}
	n = put_label(text, "f", "user.label");
	CHECK_EQ(fuse_guest_call2(&g, FUSE_CREATE, ROOT, &create_in, 16, text, n, 144), 0);
	CHECK_EQ(host_get(&g, "f", "user.label", got, sizeof(got)), 5);
	CHECK(memcmp(got, "label", 5) == 0);
	n = put_label(text, "d", "user.label");
	CHECK_EQ(fuse_guest_call2(&g, FUSE_MKDIR, ROOT, &mkdir_in, 8, text, n, 128), 0);
	CHECK_EQ(host_get(&g, "d", "user.label", got, sizeof(got)), 5);
	n = put_label(text, "n", "user.label");
	CHECK_EQ(fuse_guest_call2(&g, FUSE_MKNOD, ROOT, &mknod_in, 16, text, n, 128), 0);
	CHECK_EQ(host_get(&g, "n", "user.label", got, sizeof(got)), 5);

	n = put_label(text, "x", "nonsense.label");
	CHECK_EQ(fuse_guest_call2(&g, FUSE_CREATE, ROOT, &create_in, 16, text, n, 144),
		 -EOPNOTSUPP);
	CHECK_EQ(fuse_guest_call2(&g, FUSE_MKDIR, ROOT, &mkdir_in, 8, text, n, 128), -EOPNOTSUPP);
	CHECK_EQ(fuse_guest_call2(&g, FUSE_MKNOD, ROOT, &mknod_in, 16, text, n, 128), -EOPNOTSUPP);
	CHECK_EQ(faccessat(g.tree.fd, "x", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	CHECK_EQ(vfsd_inodes_count(g.inodes), 4);
	fuse_guest_destroy(&g);
}

/* The working directory and the umask of a thread that serves are its own. */

static void *serve(void *arg)
{
	struct fuse_guest *g = arg;
	char where[PATH_MAX];

	(void)get(g, ROOT, "user.a", 10);
	CHECK(getcwd(where, sizeof(where)));
	CHECK(strncmp(where, "/proc/", 6) == 0);
	return NULL;
}

static void test_thread(void)
{
	const struct fuse_guest_config config = {.fuse = {.options.xattr = true}};
	struct fuse_guest g;
	pthread_t thread;
	char before[PATH_MAX];
	char after[PATH_MAX];

	fuse_guest_create(&g, &config);
	CHECK(getcwd(before, sizeof(before)));
	CHECK_EQ(pthread_create(&thread, NULL, serve, &g), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK(getcwd(after, sizeof(after)));
	CHECK(strcmp(before, after) == 0);
	fuse_guest_destroy(&g);
}

int main(void)
{
	(void)umask(0); /* as the daemon does */
	test_thread();
	test_files_and_directories(VFSD_HANDLES_NEVER);
	test_files_and_directories(VFSD_HANDLES_PREFER);
	test_odd_inodes();
	test_mapped_names();
	test_capability();
	test_posix_acl();
	test_labels();
	return 0;
}
