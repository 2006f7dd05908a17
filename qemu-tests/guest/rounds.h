/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rounds - create, watch, remove, thousands of times, and count the events that miss or come twice.
 *
 * Each round makes names of its own in one watched directory and removes them again, some by this
 * kernel, some behind its back: at another path of the same directory, which the host serves
 * (hostfs). What must come of that is a table in rounds.c.
 */
#ifndef ROUNDS_H
#define ROUNDS_H

#include <stdint.h>

/*
 * KIND of rounds.c's table, how often, the directory as watched and as the host sees it (the same
 * on a local file system), and how long to wait for what is missing in the end. Prints what is
 * wrong as words "WHAT:WHERE:EVENT NUMBER". Returns the rounds done or -errno; -EINVAL: no such
 * kind.
 */
int64_t rounds_run(const char *kind, int64_t count, const char *seen, const char *behind,
		   int timeout_ms);

#endif
