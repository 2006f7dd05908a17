/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device/engine - joins the folders into one virtio-fs device; the only thing Python sees.
 *
 * Everything here is control plane: rare calls from one thread. Requests and events never leave C.
 * Unless said otherwise a function returns 0 or -errno, and takes over the descriptors it is given,
 * on error too.
 * Owner thread: the control thread, for every function but those that say "any thread".
 */
#ifndef VFSD_DEVICE_ENGINE_H
#define VFSD_DEVICE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "fsnotify/options.h"
#include "fuse/options.h"
#include "hostfs/options.h"
#include "inode/options.h"
#include "migrate/options.h"
#include "watch/options.h"
#include "watch/python.h"

#include "device/native.cdef.h" /* names what is above */

#endif
