/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostfs/options - what a command line says that acts in this folder: part of vfsd_engine_config. cffi reads
 * this file too, so it holds plain declarations and include lines only.
 * Constant once the engine has been made.
 */
#ifndef VFSD_HOSTFS_OPTIONS_H
#define VFSD_HOSTFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct vfsd_hostfs_options {
	bool allow_project_ids; /* the guest may change them */
} vfsd_hostfs_options;

#endif
