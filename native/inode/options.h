/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/options - what a command line says that acts in this folder: part of vfsd_engine_config. cffi reads
 * this file too, so it holds plain declarations and include lines only.
 * Constant once the engine has been made.
 */
#ifndef VFSD_INODE_OPTIONS_H
#define VFSD_INODE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum vfsd_handle_policy { VFSD_HANDLES_NEVER, VFSD_HANDLES_PREFER, VFSD_HANDLES_MANDATORY };

typedef struct vfsd_inode_options {
	enum vfsd_handle_policy file_handles;
} vfsd_inode_options;

#endif
