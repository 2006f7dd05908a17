/* SPDX-License-Identifier: BSD-3-Clause */
/* What of a host filesystem's events a filesystem mark lets through, with the host's own queue. */
#include "source/fanotify/fs_mark.h"

#include <errno.h>
#include <sys/fanotify.h>
#include <sys/wait.h>

#include "share.h"
#include "source/fanotify/fs_mark_nodes.h"
#include "source/marks.h"
#include "source/source.h"

static struct share share;
static struct vfsd_marks *marks;
static struct vfsd_source *source;
static unsigned int forgotten;
static char got[1 << 16];
static uint64_t last_id;

static void on_event(void *ctx, const struct vfsd_source_event *event)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} bits[] = {{FAN_CREATE, "create"},
		    {FAN_DELETE, "delete"},
		    {FAN_MOVED_FROM, "from"},
		    {FAN_MOVED_TO, "to"},
		    {FAN_MODIFY, "modify"}};
	char line[400];

	(void)ctx;
	CHECK(!event->self_generated);
	last_id = event->nodeid;
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (event->mask & bits[i].bit) {
			(void)snprintf(line, sizeof(line), "%s%s%s %s\n",
				       event->nodeid == 0 ? "left " : "",
				       event->unknown_dir ? "unknown " : "", bits[i].name,
				       event->name ? event->name : "");
			CHECK(strlen(got) + strlen(line) < sizeof(got));
			strcat(got, line);
		}
}

static void on_lost(void *ctx)
{
	(void)ctx;
	strcat(got, "lost\n");
}

static void on_pass_on(void *ctx)
{
	(void)ctx;
}

static void on_forgotten(void *ctx, struct vfsd_inode *inode)
{
	(void)ctx;
	CHECK(inode);
	forgotten++;
}

/* What was reported since the last time is @want. */
static void expect(const char *want)
{
	const struct vfsd_source_sink sink = {
		.event = on_event, .lost = on_lost, .pass_on = on_pass_on};

	source->ops->drain(source, &sink);
	if (strcmp(got, want) != 0) {
		(void)fprintf(stderr, "got\n%swant\n%s", got, want);
		CHECK(!"as wanted");
	}
	*got = '\0';
}

/* Somebody else does it: @script is a program of the shell, in the directory of share/. */
static void host(const char *script)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_EQ(fchdir(share.tree.fd), 0);
		execl("/bin/sh", "sh", "-ec", script, NULL);
		_exit(1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

/* False, and told: the host does not allow it. */
static bool begin(uint32_t mask)
{
	const struct vfsd_source_config config = {
		.inodes = share.inodes,
		.marks = marks,
		.proc_self_fd = share.proc_self_fd,
		.forgotten = on_forgotten,
	};
	int err = vfsd_source_fanotify.create(&config, &source);

	if (!err) {
		err = source->ops->watch_filesystem(source, share.root, mask);
		if (err)
			source->ops->destroy(source);
	}
	if (err == -EPERM || err == -ENOSYS || err == -EINVAL)
		(void)fprintf(stderr, "left out: filesystem marks: %s\n", strerror(-err));
	else
		CHECK_EQ(err, 0);
	return !err;
}

static void end(void)
{
	source->ops->destroy(source);
}

enum { NAMES = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO };

static void test_only_what_is_below_the_root(void)
{
	if (!begin(NAMES))
		return;
	host(": >share/f; : >outside/f; rm share/f outside/f");
	expect("create f\ndelete f\n");
	/* A directory that the guest does not know gets an id. */
	host("mkdir share/d; : >share/d/f");
	expect("create d\nunknown create f\n");
	CHECK(last_id > VFSD_NODEID_ROOT);
	end();
}

/* An id by an event is held for the guest, until it has one by a name or enough others came. */
static void test_ids(void)
{
	const uint64_t count = vfsd_inodes_count(share.inodes);
	uint64_t id;

	if (!begin(NAMES))
		return;
	forgotten = 0;
	host("mkdir share/e; : >share/e/f");
	expect("create e\nunknown create f\n");
	id = last_id;
	CHECK_EQ(vfsd_inodes_count(share.inodes), count + 1);
	host("rm share/e/f");
	expect("unknown delete f\n");
	CHECK_EQ(last_id, id);
	/* The guest comes to it by its name: it knows it then. */
	CHECK_EQ(share_look_up(&share, "share/e"), id);
	host(": >share/e/g");
	expect("create g\n");
	/* And the id of the event is given up, not the guest's. */
	source->ops->release_nodes(source);
	CHECK_EQ(forgotten, 0);
	vfsd_inode_put(share.inodes, vfsd_inode_forget(share.inodes, id, 1));
	CHECK_EQ(vfsd_inodes_count(share.inodes), count);
	host(": >share/e/h");
	expect("unknown create h\n");
	end();
	CHECK_EQ(forgotten, 1);
	CHECK_EQ(vfsd_inodes_count(share.inodes), count);
}

/* What is renamed across the border belongs to where it was when something happened in it. */
static void test_across_the_border(void)
{
	if (!begin(NAMES))
		return;
	host("mkdir share/b; : >share/b/1; mv share/b outside/b; : >outside/b/2");
	expect("create b\nleft unknown create 1\nfrom b\n");
	host(": >outside/b/3; mv outside/b share/b; : >share/b/4");
	expect("to b\nunknown create 4\n");
	/* Gone before anybody could see where it was. */
	host("mkdir share/b/x; : >share/b/x/f; rm -r share/b/x");
	expect("unknown create x\nunknown delete x\n");
	end();
}

static void test_masks(void)
{
	if (!begin(FAN_CREATE))
		return;
	host(": >share/m; echo text >share/m; rm share/m");
	expect("create m\n");
	CHECK_EQ(source->ops->watch_filesystem(source, share.root, FAN_CREATE | FAN_MODIFY), 0);
	host(": >share/m; echo text >share/m; rm share/m");
	expect("create m\nmodify m\n");
	/* None is left: what is in the queue is not reported. */
	host(": >share/n");
	CHECK_EQ(source->ops->watch_filesystem(source, share.root, 0), 0);
	expect("");
	CHECK_EQ(source->ops->watch_filesystem(source, share.root, 0), 0);
	host("rm share/n");
	expect("");
	end();
}

static int watch(const char *path, uint32_t mask)
{
	struct vfsd_inode *root = vfsd_inode_get(share.inodes, share_look_up(&share, path));
	int err;

	CHECK(root);
	err = source->ops->watch_filesystem(source, root, mask);
	vfsd_inode_put(share.inodes, root);
	return err;
}

/* The host has one mark for all of them. */
static void test_several_roots_on_one_filesystem(void)
{
	char path[100];

	if (!begin(FAN_CREATE))
		return;
	host("mkdir share/p share/q");
	expect("create p\ncreate q\n");
	CHECK_EQ(watch("share/p", FAN_DELETE), 0);
	CHECK_EQ(source->ops->watch_filesystem(source, share.root, 0), 0);
	host(": >share/p/1; rm share/p/1; : >share/q/2; rm share/q/2");
	expect("delete 1\n");
	CHECK_EQ(watch("share/q", FAN_CREATE), 0);
	CHECK_EQ(watch("share/p", 0), 0);
	host(": >share/p/1; rm share/p/1; : >share/q/2; rm share/q/2");
	expect("create 2\n");
	for (int i = 2; i <= VFSD_SOURCE_FILESYSTEMS_MAX + 1; i++) {
		(void)snprintf(path, sizeof(path), "share/root%d", i);
		share_mkdir(&share, path);
		CHECK_EQ(watch(path, FAN_CREATE), i <= VFSD_SOURCE_FILESYSTEMS_MAX ? 0 : -ENOSPC);
	}
	end();
}

/* When there are more directories than ids are held for, earlier ones give up theirs. */
static void test_many_directories(void)
{
	const uint64_t count = vfsd_inodes_count(share.inodes);
	const struct vfsd_source_sink sink = {
		.event = on_event, .lost = on_lost, .pass_on = on_pass_on};
	char script[100];

	if (!begin(FAN_CREATE))
		return;
	forgotten = 0;
	(void)snprintf(script, sizeof(script),
		       "mkdir share/many; for i in $(seq %d); do mkdir -p share/many/$i/x; done",
		       VFSD_FS_MARK_NODES + 100);
	host(script);
	source->ops->drain(source, &sink);
	CHECK(!strstr(got, "lost"));
	*got = '\0';
	CHECK(forgotten >= 100);
	CHECK(vfsd_inodes_count(share.inodes) <= count + VFSD_FS_MARK_NODES);
	source->ops->release_nodes(source);
	CHECK_EQ(vfsd_inodes_count(share.inodes), count);
	end();
}

/* A filesystem on which nobody else does anything. */
int main(void)
{
	char path[] = "/tmp/vfsd-XXXXXX";

	if (!tree_own_mounts())
		return 0;
	CHECK(mkdtemp(path));
	CHECK_EQ(mount("tmpfs", path, "tmpfs", 0, NULL), 0);
	CHECK_EQ(setenv("TMPDIR", path, 1), 0);
	if (share_create(&share)) {
		CHECK_EQ(vfsd_marks_create(&marks), 0);
		test_only_what_is_below_the_root();
		test_ids();
		test_across_the_border();
		test_masks();
		test_several_roots_on_one_filesystem();
		test_many_directories();
		vfsd_marks_destroy(marks);
	}
	share_destroy(&share);
	CHECK_EQ(umount(path), 0);
	CHECK_EQ(rmdir(path), 0);
	return 0;
}
