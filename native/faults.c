/* SPDX-License-Identifier: BSD-3-Clause */
#include "faults.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

enum { HOLD_MS = 10000 }; /* should the host not remove anything */

static struct {
	int delay_ms;
	bool no_barrier;
	bool hold, hold_dir;
} faults;

static int number(const char *name)
{
	const char *text = getenv(name);

	return text ? atoi(text) : 0;
}

static bool is(const char *name, const char *value)
{
	const char *text = getenv(name);

	return text && strcmp(text, value) == 0;
}

void vfsd_faults_init(void)
{
	faults.delay_ms = number("VFSD_FAULT_DELAY_MS");
	faults.no_barrier = number("VFSD_FAULT_NO_BARRIER") != 0;
	faults.hold_dir = is("VFSD_FAULT_HOLD", "dir");
	faults.hold = faults.hold_dir || is("VFSD_FAULT_HOLD", "name");
	vfsd_log(VFSD_LOG_WARN, "faults: test build delay_ms=%d no_barrier=%d hold=%d hold_dir=%d",
		 faults.delay_ms, faults.no_barrier, faults.hold, faults.hold_dir);
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

/*
 * What has lost its name, or all its links, may not have been told yet; whoever removes it holds the
 * lock of the directory until it has, and a lookup that no cache can answer waits for that.
 */
void vfsd_faults_hold(int dir_fd, const char *name)
{
	int fd = faults.hold ? openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	struct stat st;

	if (fd < 0)
		return;
	for (int ms = 0; ms < HOLD_MS; ms++) {
		bool name_gone = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0;
		bool dir_gone = fstat(dir_fd, &st) == 0 && st.st_nlink == 0;

		if (faults.hold_dir ? dir_gone : name_gone)
			break;
		(void)poll(NULL, 0, 1);
	}
	if (faults.hold_dir)
		(void)fstatat(dir_fd, "../nothing is called so", &st, AT_SYMLINK_NOFOLLOW);
	(void)close(fd);
}
