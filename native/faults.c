/* SPDX-License-Identifier: BSD-3-Clause */
#include "faults.h"

#include <poll.h>
#include <stdlib.h>

#include "log.h"

static struct {
	int delay_ms;
	bool no_barrier;
} faults;

static int number(const char *name)
{
	const char *text = getenv(name);

	return text ? atoi(text) : 0;
}

void vfsd_faults_init(void)
{
	faults.delay_ms = number("VFSD_FAULT_DELAY_MS");
	faults.no_barrier = number("VFSD_FAULT_NO_BARRIER") != 0;
	vfsd_log(VFSD_LOG_WARN, "faults: test build delay_ms=%d no_barrier=%d", faults.delay_ms,
		 faults.no_barrier);
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
