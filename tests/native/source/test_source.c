/* SPDX-License-Identifier: BSD-3-Clause */
/* What sources of host events have in common, with the host's own queues. */
#include "source/source.h"

#include <stdbool.h>
#include <sys/fanotify.h>
#include <sys/wait.h>

#include "check.h"
#include "inode/inode.h"
#include "source/marks.h"
#include "base/quota.h"
#include "tree.h"

enum {
	OFTEN = 3,
	/* More than what is read at once leaves room for, with either source. */
	BURST = 8192,
};

struct heard {
	const struct tree *tree;
	unsigned int next; /* number to be given to a name */
	unsigned int bursts;
	long last;
	bool gap_told; /* since the last gap */
	unsigned int gaps;
};

/* By somebody else, as far as the host tells that. */
static void make(struct heard *heard, unsigned int count)
{
	char name[16];
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		for (unsigned int i = 0; i < count; i++) {
			(void)snprintf(name, sizeof(name), "%u", heard->next + i);
			CHECK_EQ(mknodat(heard->tree->fd, name, S_IFREG | 0600, 0), 0);
		}
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	heard->next += count;
}

static void on_event(void *ctx, const struct vfsd_source_event *event)
{
	struct heard *heard = ctx;
	long number = strtol(event->name, NULL, 10);

	CHECK(number > heard->last);
	if (number != heard->last + 1) {
		heard->gap_told = false;
		heard->gaps++;
	}
	heard->last = number;
}

static void on_lost(void *ctx)
{
	struct heard *heard = ctx;

	heard->gap_told = true;
}

/* The host goes on while we read. */
static void on_pass_on(void *ctx)
{
	struct heard *heard = ctx;

	if (heard->bursts > 0) {
		heard->bursts--;
		make(heard, BURST);
	}
}

/*
 * The host queues one overflow event at a time: what it drops while that waits to be read, after
 * events that it still had room for, it never tells.
 */
static void loss_is_told_after_each_gap(const struct vfsd_source_ops *ops, const char *limit_path,
					bool with_handles)
{
	const struct vfsd_source_sink sink = {
		.event = on_event, .lost = on_lost, .pass_on = on_pass_on};
	struct vfsd_source_sink told = sink;
	struct vfsd_quota quota = {.limit = 100};
	struct vfsd_inodes_config inodes_config = {.options.file_handles = VFSD_HANDLES_NEVER,
						   .need_handles = with_handles,
						   .fd_quota = &quota};
	struct vfsd_source_config config = {0};
	struct vfsd_source *source;
	struct vfsd_inodes *inodes;
	struct vfsd_marks *marks;
	struct vfsd_inode *root;
	struct tree tree;
	struct heard heard = {.tree = &tree, .last = -1};
	FILE *file = fopen(limit_path, "r");
	unsigned int limit;
	int error;

	CHECK(file);
	CHECK_EQ(fscanf(file, "%u", &limit), 1);
	CHECK_EQ(fclose(file), 0);
	tree_create(&tree);
	inodes_config.proc_self_fd = tree_proc_self_fd();
	CHECK_EQ(vfsd_inodes_create(&inodes_config, dup(tree.fd), &inodes), 0);
	CHECK_EQ(vfsd_marks_create(&marks), 0);
	config.inodes = inodes;
	config.marks = marks;
	config.proc_self_fd = inodes_config.proc_self_fd;
	error = ops->create(&config, &source);
	if (error) {
		(void)fprintf(stderr, "left out: %s: %s\n", limit_path, strerror(-error));
	} else {
		root = vfsd_inode_get(inodes, VFSD_NODEID_ROOT);
		CHECK_EQ(ops->watch(source, root, 0, FAN_CREATE), 0);
		told.ctx = &heard;
		make(&heard, limit + 10);
		heard.bursts = OFTEN;
		for (int i = 0; i < OFTEN + 2; i++)
			ops->drain(source, &told);
		CHECK(heard.gaps > 0);
		CHECK(heard.gap_told);
		ops->destroy(source);
		vfsd_inode_put(inodes, root);
	}
	vfsd_marks_destroy(marks);
	vfsd_inodes_destroy(inodes);
	CHECK_EQ(close(inodes_config.proc_self_fd), 0);
	tree_destroy(&tree);
}

int main(void)
{
	loss_is_told_after_each_gap(&vfsd_source_inotify, "/proc/sys/fs/inotify/max_queued_events",
				    false);
	loss_is_told_after_each_gap(&vfsd_source_fanotify,
				    "/proc/sys/fs/fanotify/max_queued_events", true);
	return 0;
}
