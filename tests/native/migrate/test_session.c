/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration from one daemon to another through a pipe, and those that are not finished. */
#include "migrate/migrate.h"

#include <signal.h>

#include "saved_session.h"

static void test_nothing_begun(const struct share *share)
{
	struct vfsd_migrate *migrate;
	struct session session;

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_migrate_create(&session.config, &migrate), 0);
	CHECK_EQ(vfsd_migrate_finish(migrate), -ENOENT);
	vfsd_migrate_cancel(migrate);
	vfsd_migrate_destroy(migrate);
	vfsd_migrate_destroy(NULL);
	session_destroy(&session);
}

/* What one end saves, the other one has. */
static void test_from_one_to_another(const struct share *share)
{
	struct session source, destination;
	struct vfsd_migrate *out, *in;
	uint64_t d, g;
	int fds[2];

	session_create(&source, share->fd, VFSD_HANDLES_NEVER);
	d = session_look_up(&source, share->fd, "d");
	g = session_look_up(&source, share->fd, "g");
	session_create(&destination, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_migrate_create(&source.config, &out), 0);
	CHECK_EQ(vfsd_migrate_create(&destination.config, &in), 0);
	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	CHECK_EQ(vfsd_migrate_load(in, fds[0]), 0);
	CHECK_EQ(vfsd_migrate_save(out, fds[1]), 0);
	CHECK_EQ(vfsd_migrate_finish(out), 0);
	CHECK_EQ(vfsd_migrate_finish(in), 0);
	CHECK(session_knows(&destination, d, share->fd, "d", 1));
	CHECK(session_knows(&destination, g, share->fd, "g", 1));
	/* It is over at either end. */
	CHECK_EQ(vfsd_migrate_finish(out), -ENOENT);
	CHECK_EQ(vfsd_migrate_finish(in), -ENOENT);
	vfsd_migrate_destroy(out);
	vfsd_migrate_destroy(in);
	session_destroy(&destination);
	session_destroy(&source);
}

/* A session that cannot be saved writes nothing, and the pipe is closed. */
static void test_save_that_fails(const struct share *share)
{
	struct vfsd_migrate *migrate;
	struct session session;
	char byte;
	int fds[2];

	tree_file(&share->tree, "share/gone", "");
	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	(void)session_look_up(&session, share->fd, "gone");
	CHECK_EQ(unlinkat(share->fd, "gone", 0), 0);
	CHECK_EQ(vfsd_migrate_create(&session.config, &migrate), 0);
	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	CHECK_EQ(vfsd_migrate_save(migrate, fds[1]), -ENOENT);
	CHECK_EQ(read(fds[0], &byte, 1), 0);
	CHECK_EQ(vfsd_migrate_finish(migrate), -ENOENT);
	CHECK_EQ(vfsd_inodes_count(session.config.inodes), 2);
	CHECK_EQ(close(fds[0]), 0);
	vfsd_migrate_destroy(migrate);
	session_destroy(&session);
}

/* Until it is finished a load changes nothing; what is no state leaves no session; a cancel leaves it all. */
static void test_load_that_fails(const struct share *share)
{
	for (int cancel = 0; cancel < 3; cancel++) {
		struct vfsd_migrate *migrate;
		struct session session;
		int fds[2];

		session_create(&session, share->fd, VFSD_HANDLES_NEVER);
		(void)session_look_up(&session, share->fd, "g");
		CHECK_EQ(vfsd_migrate_create(&session.config, &migrate), 0);
		CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
		CHECK_EQ(vfsd_migrate_load(migrate, fds[0]), 0);
		CHECK_EQ(write(fds[1], "nonsense", 8), 8);
		CHECK_EQ(vfsd_inodes_count(session.config.inodes), 2);
		if (cancel == 0) {
			CHECK_EQ(close(fds[1]), 0);
			CHECK_EQ(vfsd_migrate_finish(migrate), -EBADMSG);
			CHECK(session_is_empty(&session));
		} else if (cancel == 1) { /* the other end is not done */
			CHECK_EQ(vfsd_migrate_finish(migrate), -ECANCELED);
			CHECK_EQ(vfsd_inodes_count(session.config.inodes), 2);
			CHECK_EQ(close(fds[1]), 0);
		} else {
			vfsd_migrate_cancel(migrate);
			CHECK_EQ(vfsd_inodes_count(session.config.inodes), 2);
			CHECK_EQ(vfsd_migrate_finish(migrate), -ENOENT);
			CHECK_EQ(close(fds[1]), 0);
		}
		vfsd_migrate_destroy(migrate);
		session_destroy(&session);
	}
}

/* The next one takes the place of one that goes on; destruction ends it, too. */
static void test_another_one(const struct share *share)
{
	struct vfsd_migrate *migrate;
	struct session session;
	int fds[2], others[2];
	char byte;

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_migrate_create(&session.config, &migrate), 0);
	CHECK_EQ(pipe2(fds, O_CLOEXEC) | pipe2(others, O_CLOEXEC), 0);
	CHECK_EQ(vfsd_migrate_load(migrate, fds[0]), 0);
	CHECK_EQ(vfsd_migrate_save(migrate, others[1]), 0);
	CHECK_EQ(vfsd_migrate_finish(migrate), 0);
	CHECK_EQ(read(others[0], &byte, 1), 1);
	CHECK_EQ(write(fds[1], "x", 1), -1); /* nobody reads it: SIGPIPE is ignored */
	CHECK_EQ(errno, EPIPE);
	CHECK_EQ(close(fds[1]) | close(others[0]), 0);
	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	CHECK_EQ(vfsd_migrate_load(migrate, fds[0]), 0);
	vfsd_migrate_destroy(migrate);
	CHECK_EQ(close(fds[1]), 0);
	session_destroy(&session);
}

static void test_descriptors_that_are_none(const struct share *share)
{
	struct vfsd_migrate *migrate;
	struct session session;

	session_create(&session, share->fd, VFSD_HANDLES_NEVER);
	CHECK_EQ(vfsd_migrate_create(&session.config, &migrate), 0);
	CHECK_EQ(vfsd_migrate_save(migrate, -1), -EBADF);
	CHECK_EQ(vfsd_migrate_finish(migrate), -ENOENT);
	CHECK_EQ(vfsd_migrate_load(migrate, -1), -EBADF);
	CHECK_EQ(vfsd_migrate_finish(migrate), -ENOENT);
	vfsd_migrate_destroy(migrate);
	session_destroy(&session);
}

int main(void)
{
	struct share share;

	(void)signal(SIGPIPE, SIG_IGN);
	share_create(&share);
	test_nothing_begun(&share);
	test_from_one_to_another(&share);
	test_save_that_fails(&share);
	test_load_that_fails(&share);
	test_another_one(&share);
	test_descriptors_that_are_none(&share);
	share_destroy(&share);
	return 0;
}
