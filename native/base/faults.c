/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/faults.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { HOLD_MS = 10000 }; /* should the host not remove anything */

static struct {
	int delay_ms;
	bool no_barrier;
	bool old_host;
	int hold;
	int take;
} faults;

static _Thread_local int takes; /* until the one that fails */

static int number(const char *name)
{
	const char *text = getenv(name);

	return text ? atoi(text) : 0;
}

void vfsd_faults_init(void)
{
	faults.delay_ms = number("VFSD_FAULT_DELAY_MS");
	faults.no_barrier = number("VFSD_FAULT_NO_BARRIER") != 0;
	faults.old_host = number("VFSD_FAULT_OLD_HOST") != 0;
	faults.hold = number("VFSD_FAULT_HOLD");
	faults.take = number("VFSD_FAULT_TAKE");
	vfsd_log(VFSD_LOG_WARN,
		 "faults: test build delay_ms=%d no_barrier=%d old_host=%d hold=%d take=%d",
		 faults.delay_ms, faults.no_barrier, faults.old_host, faults.hold, faults.take);
}

void vfsd_faults_delay(int stop_fd)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};

	if (faults.delay_ms > 0)
		(void)poll(&stop, 1, (int)(random() % (faults.delay_ms + 1)));
}

bool vfsd_faults_no_barrier(void)
{
	return faults.no_barrier;
}

bool vfsd_faults_old_host(void)
{
	return faults.old_host;
}

/*
 * When the name or the last link is gone, its event may not have been raised yet. Whoever removes it holds the
 * lock of the directory until then, and a lookup that the dentry cache cannot answer waits for that lock.
 */
void vfsd_faults_hold(int dir_fd, const char *name)
{
	static const char *const nothing[] = {"", "", "../nothing is called so",
					      "../../nothing is called so"};
	const char *what = faults.hold == 2 ? "." : faults.hold == 3 ? ".." : name;
	int fd = faults.hold ? openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	struct stat st;

	if (fd < 0)
		return;
	for (int ms = 0; ms < HOLD_MS; ms++) {
		if (fstatat(dir_fd, what, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_nlink == 0)
			break;
		(void)poll(NULL, 0, 1);
	}
	(void)fstatat(dir_fd, nothing[faults.hold % 4], &st, AT_SYMLINK_NOFOLLOW);
	(void)close(fd);
}

void vfsd_faults_request(bool changes)
{
	takes = changes ? faults.take : 0;
}

bool vfsd_faults_refuse(void)
{
	return takes > 0 && --takes == 0;
}
