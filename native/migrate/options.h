/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/options - what a command line says that acts in this folder: part of vfsd_engine_config. cffi reads
 * this file too, so it holds plain declarations and include lines only.
 * Constant once the engine has been made.
 */
#ifndef VFSD_MIGRATE_OPTIONS_H
#define VFSD_MIGRATE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* What the other daemon finds an inode by. */
enum vfsd_migration_mode {
	VFSD_MIGRATION_FIND_PATHS,
	VFSD_MIGRATION_FILE_HANDLES, /* where there is one; and handles are taken */
};

/* What an inode that is lost means. */
enum vfsd_migration_on_error {
	VFSD_MIGRATION_ABORT,
	VFSD_MIGRATION_GUEST_ERROR, /* it fails alone, in the guest */
};

typedef struct vfsd_migration_options {
	enum vfsd_migration_mode mode;
	enum vfsd_migration_on_error on_error;
	bool verify_handles; /* compare handles of what is found */
	bool confirm_paths;  /* look up each path again before it is sent */
} vfsd_migration_options;

#endif
