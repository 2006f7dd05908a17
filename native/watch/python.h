/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What of this folder crosses between C and Python: the declarations of watch.cdef.h, once. Owner
 * threads: watch.h and shm_reader.h.
 */
#ifndef VFSD_WATCH_PYTHON_H
#define VFSD_WATCH_PYTHON_H

#include <stdbool.h>
#include <stdint.h>

#include "fsnotify/records.h"
#include "watch/watch.cdef.h"

#endif
