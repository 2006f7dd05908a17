/* SPDX-License-Identifier: BSD-3-Clause */
/* Which directories renames have moved, by where they left them; and where that is not to be known. */
#include "source/fanotify/fs_mark_renames.h"

#include <errno.h>
#include <sys/fanotify.h>

#include "share.h"

enum { MAX = 8 };

static struct share share;
static struct vfsd_subtree *subtree;
static struct vfsd_file_handle dirs[2]; /* share and outside */
static struct vfsd_fan_event events[MAX];
static struct vfsd_fs_mark_rename at[MAX];
static struct vfsd_fs_mark_renames renames = {.at = at};

/* A path below share/ or outside/. */
static struct vfsd_fan_place place_of(const char *path)
{
	const char *name = strchr(path, '/') + 1;

	return (struct vfsd_fan_place){&dirs[*path == 'o'], name, (uint32_t)strlen(name)};
}

/* Process @pid renames @from to @to, as the host reports it. */
static void add(pid_t pid, const char *from, const char *to)
{
	struct vfsd_fan_event *event = &events[renames.count];

	*event = (struct vfsd_fan_event){.mask = FAN_RENAME | FAN_ONDIR,
					 .pid = pid,
					 .old_name = place_of(from),
					 .new_name = place_of(to)};
	at[renames.count++] = (struct vfsd_fs_mark_rename){.event = event};
}

static bool doubts(void)
{
	vfsd_subtree_trust(subtree);
	return vfsd_fs_mark_renames_doubt(&renames, share.inodes, subtree);
}

/* Is what rename @i moved now at @path (NULL: nobody knows)? */
static bool moved(uint32_t i, const char *path)
{
	struct vfsd_file_handle found, want = {0};

	vfsd_fs_mark_renames_identify(&renames, share.inodes, i, &found);
	if (path)
		share_handle(&share, path, &want);
	return path ? vfsd_file_handle_equal(&found, &want) : found.bytes == 0;
}

static enum vfsd_side look(const char *path)
{
	struct vfsd_file_handle handle;

	share_handle(&share, path, &handle);
	return vfsd_subtree_look(subtree, &handle);
}

static void test_renames_in_a_row(void)
{
	renames.count = 0;
	share_mkdir(&share, "share/a");
	share_mkdir(&share, "share/other");
	share_rename(&share, "share/a", "outside/b");
	share_rename(&share, "share/other", "share/a");
	share_rename(&share, "outside/b", "share/c");
	add(7, "share/a", "outside/b");
	add(8, "share/other", "share/a");
	add(7, "outside/b", "share/c");
	CHECK(moved(0, "share/c"));
	CHECK(moved(1, "share/a"));
	CHECK(moved(2, "share/c"));
	CHECK(!doubts());
}

static void test_what_was_removed_is_not_found(void)
{
	renames.count = 0;
	share_mkdir(&share, "share/gone");
	share_rename(&share, "share/gone", "outside/gone");
	CHECK_EQ(unlinkat(share.tree.fd, "outside/gone", AT_REMOVEDIR), 0);
	add(7, "share/gone", "outside/gone");
	CHECK(moved(0, NULL));
	CHECK(!doubts());
}

/* There and back, or an exchange: what was moved may be either. */
static void test_an_exchange_is_doubted(void)
{
	renames.count = 0;
	share_mkdir(&share, "share/x");
	share_mkdir(&share, "outside/y");
	CHECK_EQ(renameat2(share.tree.fd, "share/x", share.tree.fd, "outside/y", RENAME_EXCHANGE),
		 0);
	add(7, "share/x", "outside/y");
	add(7, "outside/y", "share/x");
	CHECK(doubts());
	CHECK_EQ(look("share/x"), VFSD_DOUBTFUL);
	CHECK_EQ(look("outside/y"), VFSD_DOUBTFUL);
	CHECK_EQ(look("share/c"), VFSD_INSIDE);
}

/* Two processes do not exchange; nor is there another directory where the first came to. */
static void test_there_and_back(void)
{
	const struct vfsd_fan_event between = {.mask = FAN_CREATE, .pid = 7};

	renames.count = 0;
	share_mkdir(&share, "share/t");
	add(7, "share/t", "share/u");
	events[renames.count] = between;
	renames.count++;
	add(7, "share/u", "share/t");
	at[1] = at[2]; /* what is between is no rename of a directory */
	renames.count = 2;
	CHECK(moved(0, "share/t"));
	CHECK(!doubts());
	/* Nothing is between: it may have been an exchange, of which the other was removed. */
	renames.count = 0;
	add(7, "share/t", "share/u");
	add(7, "share/u", "share/t");
	CHECK(doubts());
	CHECK_EQ(look("share/t"), VFSD_DOUBTFUL);
}

/* Renamed once more as it was before, and merged into that one: it is at neither end of the row. */
static void test_a_merged_rename_is_doubted(void)
{
	renames.count = 0;
	share_mkdir(&share, "share/v");
	add(7, "share/v", "share/w");
	add(7, "share/w", "share/v");
	share_rename(&share, "share/v", "share/w");
	CHECK(moved(1, NULL));
	CHECK(doubts());
	CHECK_EQ(look("share/w"), VFSD_DOUBTFUL);
}

int main(void)
{
	if (share_create(&share)) {
		share_handle(&share, "share", &dirs[0]);
		share_handle(&share, "outside", &dirs[1]);
		CHECK_EQ(vfsd_subtree_create(share.inodes, false, &subtree), 0);
		CHECK_EQ(vfsd_subtree_add_root(subtree, share.root), 0);
		test_renames_in_a_row();
		test_what_was_removed_is_not_found();
		test_an_exchange_is_doubted();
		test_there_and_back();
		test_a_merged_rename_is_doubted();
		vfsd_subtree_destroy(subtree);
	}
	share_destroy(&share);
	return 0;
}
