/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

static int fds[2];
static _Atomic int result;

static void wait_in_read(void *arg)
{
	char byte;

	(void)arg;
	assert(read(fds[0], &byte, 1) == -1);
	atomic_store(&result, errno);
}

static void do_nothing(void *arg)
{
	(void)arg;
}

int main(void)
{
	struct vfsd_thread waiting, done;

	assert(pipe(fds) == 0);
	assert(vfsd_thread_start(&waiting, "a-name-that-is-too-long", wait_in_read, NULL) == 0);
	assert(vfsd_thread_start(&done, "short", do_nothing, NULL) == 0);
	/* Before it waits, it is not interrupted. */
	while (atomic_load(&result) == 0)
		vfsd_threads_interrupt();
	assert(atomic_load(&result) == EINTR);
	vfsd_thread_join(&waiting);
	vfsd_thread_join(&done);
	vfsd_threads_interrupt();
	return 0;
}
