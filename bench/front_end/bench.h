/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench - a virtio-fs driver to measure daemons with: rings and requests as Linux makes them.
 *
 * Not part of the daemon, and linked with none of its rooms; it borrows the layout of rings and the
 * structs of FUSE. Python holds the vhost-user conversation and calls once for a whole measurement.
 * Owner thread: one at a time. vfsd_bench_run() makes a thread for each queue but the first.
 */
#ifndef VFSD_BENCH_H
#define VFSD_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench.cdef.h"

#endif
