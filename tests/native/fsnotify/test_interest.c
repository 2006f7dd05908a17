/* SPDX-License-Identifier: BSD-3-Clause */
/* What a guest subscribes to: which host watches that makes, what is refused, and what ends with an inode. */
#include "event_guest.h"

static struct vfsd_inode *root_of(struct event_guest *g)
{
	return vfsd_inode_get(g->inodes, VFSD_NODEID_ROOT);
}

static int subscribe(struct event_guest *g, struct vfsd_inode *inode,
		     struct vfsd_fuse_interest interest)
{
	return g->hooks.subscribe(g->hooks.ctx, inode, &interest);
}

static void test_masks_are_absolute(void)
{
	struct event_guest g;

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE | FAN_DELETE), 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_CREATE | FAN_DELETE);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_MODIFY), 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_MODIFY);
	CHECK_EQ(fake_watched(g.file->nodeid), 0);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, 0), 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), 0);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, 0), 0); /* nothing is there to end */
	event_guest_destroy(&g);
}

/* What is refused leaves the watch as it was. */
static void test_refused(void)
{
	struct event_guest g;

	event_guest_create(&g);
	event_guest_start_ring(&g, 0, 1, false);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), -ENOSYS); /* no session */
	event_guest_destroy(&g);

	event_guest_create(&g);
	event_guest_begin(&g);
	CHECK_EQ(subscribe(&g, g.dir, (struct vfsd_fuse_interest){.mask = 1, .flags = 1 << 7}),
		 -EINVAL);
	CHECK_EQ(fake_watched(g.dir->nodeid), 0);
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	fake.watch_error = -ENOSPC;
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE | FAN_MODIFY), -ENOSPC);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_CREATE);
	/* The next change starts from what was in force. */
	CHECK_EQ(event_guest_subscribe(&g, g.dir, 0), 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), 0);
	event_guest_destroy(&g);
}

static void test_groups_of_2021(void)
{
	enum { GROUPS_MAX = 1024 };
	struct event_guest g;

	event_guest_create_with(&g, &fake_source_merged, NULL, true);
	event_guest_begin(&g);
	CHECK_EQ(subscribe(&g, g.dir, (struct vfsd_fuse_interest){.owner = 1, .mask = FAN_CREATE}),
		 0);
	CHECK_EQ(subscribe(&g, g.dir, (struct vfsd_fuse_interest){.owner = 2, .mask = FAN_DELETE}),
		 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_CREATE | FAN_DELETE);
	CHECK_EQ(
		subscribe(&g, g.dir,
			  (struct vfsd_fuse_interest){.owner = 1, .mask = FAN_MODIFY, .add = true}),
		0);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_CREATE | FAN_DELETE | FAN_MODIFY);
	CHECK_EQ(subscribe(&g, g.dir, (struct vfsd_fuse_interest){.owner = 1}), 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_DELETE);

	/* A guest invents groups, but not without end; those that it has may change. */
	for (uint64_t group = 3; group <= GROUPS_MAX + 1; group++)
		CHECK_EQ(subscribe(&g, g.dir,
				   (struct vfsd_fuse_interest){.owner = group, .mask = FAN_OPEN}),
			 0);
	CHECK_EQ(subscribe(&g, g.dir,
			   (struct vfsd_fuse_interest){.owner = 5000, .mask = FAN_MODIFY}),
		 -ENOSPC);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_DELETE | FAN_OPEN);
	CHECK_EQ(subscribe(&g, g.dir, (struct vfsd_fuse_interest){.owner = 3, .mask = FAN_MODIFY}),
		 0);
	CHECK_EQ(subscribe(&g, g.file,
			   (struct vfsd_fuse_interest){.owner = 5000, .mask = FAN_MODIFY}),
		 0);
	event_guest_destroy(&g);
}

static void test_filesystem_marks(void)
{
	const struct vfsd_fuse_interest all = {.mask = FAN_CREATE, .flags = FUSE_FSNOTIFY_SB};
	const struct vfsd_fuse_interest none = {.flags = FUSE_FSNOTIFY_SB};
	struct vfsd_inode *root;
	struct event_guest g;

	event_guest_create(&g);
	root = root_of(&g);
	CHECK_EQ(subscribe(&g, root, all), -ENOSYS);
	CHECK_EQ(subscribe(&g, root, none), 0);
	event_guest_begin(&g);
	CHECK_EQ(subscribe(&g, g.dir, all), -EINVAL); /* no root of a filesystem */
	CHECK_EQ(subscribe(&g, g.file, all), -EINVAL);
	fake.filesystem_error = -EPERM;
	CHECK_EQ(subscribe(&g, root, all), -EPERM);
	CHECK_EQ(fake_filesystem(root->nodeid), 0);
	fake.filesystem_error = 0;
	CHECK_EQ(subscribe(&g, root, all), 0);
	CHECK_EQ(fake_filesystem(root->nodeid), FAN_CREATE);

	/* With a filesystem alone the barrier has something to deliver; without any it has not. */
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_CREATE, .name = "x"});
	event_guest_barrier(&g);
	event_guest_expect(&g, "0x100 d - 0 x\n;");
	CHECK_EQ(subscribe(&g, root, none), 0);
	CHECK_EQ(fake_filesystem(root->nodeid), 0);
	fake_event((struct vfsd_source_event){
		.nodeid = g.dir->nodeid, .mask = FAN_CREATE, .name = "x"});
	event_guest_barrier(&g);
	event_guest_expect(&g, "");
	vfsd_inode_put(g.inodes, root);
	event_guest_destroy(&g);

	/* A source without filesystem marks. */
	event_guest_create_with(&g, &fake_source_server, NULL, false);
	root = root_of(&g);
	event_guest_begin(&g);
	CHECK_EQ(subscribe(&g, root, all), -EPERM);
	vfsd_inode_put(g.inodes, root);
	event_guest_destroy(&g);
}

/* A submount is a filesystem as long as it is mounted. */
static void test_a_root_that_is_unmounted(void)
{
	struct vfsd_inode *mounted;
	struct event_guest g;
	char path[PATH_MAX + 8];

	event_guest_create(&g);
	(void)snprintf(path, sizeof(path), "%s/d", g.tree.path);
	if (mount("none", path, "tmpfs", 0, NULL) != 0) {
		(void)fprintf(stderr, "left out: a submount\n");
		event_guest_destroy(&g);
		return;
	}
	mounted = event_guest_look_up(&g, "d");
	CHECK(mounted != g.dir);
	event_guest_begin(&g);
	CHECK_EQ(vfsd_events_watch(g.events, g.dir, VFSD_EVENTS_FILESYSTEM, FAN_CREATE), -EINVAL);
	CHECK_EQ(vfsd_events_watch(g.events, mounted, VFSD_EVENTS_FILESYSTEM, FAN_CREATE), 0);
	vfsd_events_mounts_changed(g.events);
	CHECK_EQ(fake_filesystem(mounted->nodeid), FAN_CREATE);
	CHECK_EQ(umount2(path, MNT_DETACH), 0);
	vfsd_events_mounts_changed(g.events);
	CHECK_EQ(fake_filesystem(mounted->nodeid), 0);
	vfsd_inode_put(g.inodes, mounted);
	event_guest_destroy(&g);
}

/* What the guest forgets is not watched, whatever else is. */
static void test_forgotten(void)
{
	struct event_guest g;

	event_guest_create(&g);
	event_guest_begin(&g);
	g.hooks.forgotten(g.hooks.ctx, g.file); /* it was not watched */
	CHECK_EQ(event_guest_subscribe(&g, g.dir, FAN_CREATE), 0);
	CHECK_EQ(event_guest_subscribe(&g, g.file, FAN_MODIFY), 0);
	g.hooks.forgotten(g.hooks.ctx, g.file);
	CHECK_EQ(fake_watched(g.file->nodeid), 0);
	CHECK_EQ(fake_watched(g.dir->nodeid), FAN_CREATE);
	/* A source that holds an inode for the guest drops it the same way. */
	fake.now->config.forgotten(fake.now->config.ctx, g.dir);
	CHECK_EQ(fake_watched(g.dir->nodeid), 0);
	event_guest_destroy(&g);
}

int main(void)
{
	const bool mounts = tree_own_mounts();

	test_masks_are_absolute();
	test_refused();
	test_groups_of_2021();
	test_filesystem_marks();
	if (mounts)
		test_a_root_that_is_unmounted();
	test_forgotten();
	return 0;
}
