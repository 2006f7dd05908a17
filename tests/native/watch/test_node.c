/* SPDX-License-Identifier: BSD-3-Clause */
/* Which directories a watch covers: the interest it takes in each, and what remains of it when it ends. */
#include "client.h"

#include "base/proc_fd.h"

#include <errno.h>

/* A source that refuses a directory, or all from the nth on. */
static struct {
	int error;
	unsigned int after, watched;
} refuse;

static int watch(struct vfsd_source *source, struct vfsd_inode *inode, uint32_t old_mask,
		 uint32_t new_mask)
{
	(void)source, (void)inode;
	if ((new_mask & ~old_mask) && refuse.error && refuse.watched++ >= refuse.after)
		return refuse.error;
	return 0;
}

static const struct vfsd_source_ops ops = {.watch = watch, .drain = client_source_drain};

static void dispatch(struct client *client)
{
	while (vfsd_watch_dispatch(&client->registry))
		;
}

static void announce(struct client *client, const char *dir, uint32_t mask, const char *name)
{
	client->host.events[client->host.n_events++] = (struct vfsd_source_event){
		.nodeid = client_node(client, dir),
		.mask = mask | FAN_ONDIR,
		.name = name,
		.name_bytes = (uint32_t)strlen(name),
	};
}

static uint32_t interest(struct client *client, const char *path)
{
	return vfsd_marks_union(client->registry.marks, client_node(client, path));
}

static void test_interest(void)
{
	static const struct {
		const char *watched;
		bool recursive, file;
		uint32_t mask;
		uint32_t want_root, want_child; /* besides FAN_EVENT_ON_CHILD */
	} table[] = {
		{"a", false, false, FAN_MODIFY, FAN_MODIFY | FAN_MOVE_SELF, 0},
		{"a", true, false, FAN_MODIFY,
		 FAN_MODIFY | FAN_MOVE_SELF | FAN_CREATE | FAN_DELETE | FAN_MOVE,
		 FAN_MODIFY | FAN_CREATE | FAN_DELETE | FAN_MOVE},
		/* A file has nothing below it. */
		{"a/f", true, true, FAN_MODIFY, FAN_MODIFY | FAN_MOVE_SELF, 0},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct client client;
		uint64_t root;

		client_create(&client, table[i].watched, table[i].recursive);
		CHECK_EQ(mknodat(client.registry.config.root_fd, "a/f", S_IFREG | 0600, 0), 0);
		client.watch->mask = table[i].mask;
		client_begin(&client);
		root = vfsd_path_tree_root(client.watch->tree);
		CHECK_EQ(vfsd_marks_union(client.registry.marks, root) &
				 ~(uint32_t)FAN_EVENT_ON_CHILD,
			 table[i].want_root);
		CHECK_EQ(client.watch->recursive, table[i].recursive && !table[i].file);
		if (!table[i].file)
			CHECK_EQ(interest(&client, "b") & ~(uint32_t)FAN_EVENT_ON_CHILD,
				 table[i].want_child);
		vfsd_watch_end(&client.registry, client.watch);
		CHECK_EQ(vfsd_marks_count(client.registry.marks), 0);
		CHECK_EQ(vfsd_inodes_count(client.registry.inodes), 1);
		vfsd_watch_end(&client.registry, client.watch); /* there is nothing more to end */
		client_destroy(&client);
	}
}

/* A watch that cannot begin says why, and leaves nothing behind. */
static void test_a_watch_that_cannot_begin(void)
{
	for (unsigned int after = 0; after < 2; after++) {
		struct client client;

		client_create(&client, "a/b", true);
		client.host.source.ops = &ops;
		refuse.error = -ENOSPC;
		refuse.after = after; /* the root's, and one of the directories above it */
		refuse.watched = 0;
		client_begin(&client);
		client_expect(&client, "failed a/b\n");
		CHECK(!client.watch->tree);
		CHECK_EQ(vfsd_marks_count(client.registry.marks), 0);
		CHECK_EQ(vfsd_inodes_count(client.registry.inodes), 1);
		refuse.error = 0;
		client_destroy(&client);
	}
}

/* One directory that cannot be watched is reported, and the others are watched. */
static void test_incomplete(void)
{
	struct client client;

	client_create(&client, "", true);
	client.host.source.ops = &ops;
	refuse.error = -ENOSPC;
	refuse.after = 2; /* the root and "a" */
	refuse.watched = 0;
	client_begin(&client);
	client_expect(&client, "incomplete a/b\nready \n");
	CHECK(client_node(&client, "a") != 0);
	CHECK_EQ(client_node(&client, "a/b"), 0);
	CHECK_EQ(vfsd_inodes_count(client.registry.inodes), 2);
	refuse.error = 0;
	client_destroy(&client);
}

/* A directory that left is covered until the other half of its rename may have come; a file never is. */
static void test_leaving(void)
{
	struct client client;
	uint64_t b;

	client_create(&client, "", true);
	client_begin(&client);
	client_expect(&client, "ready \n");
	b = client_node(&client, "a/b");
	CHECK_EQ(unlinkat(client.registry.config.root_fd, "a/b", AT_REMOVEDIR), 0);
	announce(&client, "a", FAN_DELETE, "b");
	dispatch(&client);
	client_expect(&client, "delete a/b/\n");
	CHECK_EQ(vfsd_marks_union(client.registry.marks, b), 0);
	CHECK(!vfsd_path_tree_has(client.watch->tree, b));

	/* Announced, and something else, or nothing, by the time that it is looked up. */
	announce(&client, "a", FAN_CREATE, "gone");
	CHECK_EQ(mknodat(client.registry.config.root_fd, "a/f", S_IFREG | 0600, 0), 0);
	announce(&client, "a", FAN_CREATE, "f");
	CHECK_EQ(symlinkat("..", client.registry.config.root_fd, "a/l"), 0);
	announce(&client, "a", FAN_CREATE, "l");
	dispatch(&client);
	client_expect(&client, "create a/gone/\ncreate a/f/\ncreate a/l/\n");
	CHECK_EQ(vfsd_inodes_count(client.registry.inodes), 2);
	client_destroy(&client);
}

/* One inode stands for all of its places, and for all watches. */
static void test_two_watches_of_one_directory(void)
{
	struct client client;
	struct vfsd_inode *one, *other;
	int root;

	client_create(&client, "a", true);
	client_begin(&client);
	root = client.registry.config.root_fd;
	CHECK_EQ(vfsd_watch_lookup_fd(&client.registry, vfsd_open_beneath(root, "a/b"), &one), 0);
	CHECK_EQ(vfsd_watch_lookup_fd(&client.registry, vfsd_open_beneath(root, "a/b"), &other), 0);
	CHECK(one == other);
	CHECK_EQ(vfsd_inode_lookups(one), 3); /* the watch's, and these */
	vfsd_watch_forget(&client.registry, one->nodeid);
	vfsd_watch_forget(&client.registry, one->nodeid);
	CHECK_EQ(vfsd_inode_lookups(one), 1);
	vfsd_inode_put(client.registry.inodes, one);
	vfsd_inode_put(client.registry.inodes, other);
	vfsd_watch_forget(&client.registry, VFSD_NODEID_ROOT); /* has no effect */
	CHECK_EQ(vfsd_inodes_count(client.registry.inodes), 3);
	client_destroy(&client);
}

/* Interest is one watch's: what it drops, another one keeps. */
static void test_interest_of_others(void)
{
	struct client client;
	struct vfsd_inode *root;
	struct vfsd_watch other;

	client_create(&client, "", false);
	client.watch->mask = FAN_MODIFY;
	client_begin(&client);
	other = *client.watch;
	other.owner = 2;
	root = vfsd_inode_get(client.registry.inodes, VFSD_NODEID_ROOT);
	CHECK_EQ(vfsd_watch_set_interest(&client.registry, &other, root, FAN_OPEN), 0);
	CHECK_EQ(interest(&client, "") & (FAN_OPEN | FAN_MODIFY), FAN_OPEN | FAN_MODIFY);
	vfsd_watch_drop_interest(&client.registry, &other, VFSD_NODEID_ROOT);
	CHECK_EQ(interest(&client, "") & (FAN_OPEN | FAN_MODIFY), FAN_MODIFY);
	/* What the host refuses changes nothing. */
	client.host.source.ops = &ops;
	refuse.error = -ENOSPC;
	refuse.after = refuse.watched = 0;
	CHECK_EQ(vfsd_watch_set_interest(&client.registry, &other, root, FAN_ATTRIB), -ENOSPC);
	CHECK_EQ(interest(&client, "") & FAN_ATTRIB, 0);
	refuse.error = 0;
	vfsd_inode_put(client.registry.inodes, root);
	client_destroy(&client);
}

int main(void)
{
	test_interest();
	test_a_watch_that_cannot_begin();
	test_incomplete();
	test_leaving();
	test_two_watches_of_one_directory();
	test_interest_of_others();
	return 0;
}
