/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/operations - every opcode that is served for all guests, once. Only this folder includes it.
 *
 * X(opcode without FUSE_, handler, bytes of the fixed struct that its body begins with, bytes of the fixed reply,
 * flags of the row). dispatch.c makes the table of it, and has the flags; internal.h declares the handlers.
 */
#ifndef VFSD_FUSE_OPERATIONS_H
#define VFSD_FUSE_OPERATIONS_H

/* clang-format off */
#define VFSD_FUSE_OPERATIONS(X) \
	X(LOOKUP, vfsd_fuse_lookup, 0, ARGS(fuse_entry_out), NODE | FORGOTTEN) \
	X(FORGET, vfsd_fuse_forget, ARGS(fuse_forget_in), 0, NO_REPLY | ANY_ID) \
	X(GETATTR, vfsd_fuse_getattr, ARGS(fuse_getattr_in), ARGS(fuse_attr_out), NODE) \
	X(SETATTR, vfsd_fuse_setattr, ARGS(fuse_setattr_in), ARGS(fuse_attr_out), NODE | WRITES) \
	X(READLINK, vfsd_fuse_readlink, 0, 0, NODE) \
	X(SYMLINK, vfsd_fuse_symlink, 0, ARGS(fuse_entry_out), NODE | WRITES) \
	X(MKNOD, vfsd_fuse_mknod, ARGS(fuse_mknod_in), ARGS(fuse_entry_out), NODE | WRITES) \
	X(MKDIR, vfsd_fuse_mkdir, ARGS(fuse_mkdir_in), ARGS(fuse_entry_out), NODE | WRITES) \
	X(UNLINK, vfsd_fuse_unlink, 0, 0, NODE | WRITES | BARRIER) \
	X(RMDIR, vfsd_fuse_rmdir, 0, 0, NODE | WRITES | BARRIER) \
	X(RENAME, vfsd_fuse_rename, ARGS(fuse_rename_in), 0, NODE | WRITES | BARRIER) \
	X(LINK, vfsd_fuse_link, ARGS(fuse_link_in), ARGS(fuse_entry_out), NODE | WRITES) \
	X(OPEN, vfsd_fuse_open, ARGS(fuse_open_in), ARGS(fuse_open_out), NODE) \
	X(READ, vfsd_fuse_read, ARGS(fuse_read_in), 0, 0) \
	X(WRITE, vfsd_fuse_write, ARGS(fuse_write_in), ARGS(fuse_write_out), WRITES | STREAM) \
	X(STATFS, vfsd_fuse_statfs, 0, ARGS(fuse_statfs_out), NODE) \
	X(RELEASE, vfsd_fuse_release, ARGS(fuse_release_in), 0, ANY_ID) \
	X(FSYNC, vfsd_fuse_fsync, ARGS(fuse_fsync_in), 0, 0) \
	X(SETXATTR, vfsd_fuse_setxattr, FUSE_SETXATTR_IN_OLD_BYTES, 0, NODE | WRITES) \
	X(GETXATTR, vfsd_fuse_getxattr, ARGS(fuse_getxattr_in), 0, NODE) \
	X(LISTXATTR, vfsd_fuse_listxattr, ARGS(fuse_getxattr_in), 0, NODE) \
	X(REMOVEXATTR, vfsd_fuse_removexattr, 0, 0, NODE | WRITES) \
	X(FLUSH, vfsd_fuse_flush, ARGS(fuse_flush_in), 0, OWN_BARRIER) \
	X(INIT, vfsd_fuse_init, FUSE_INIT_IN_OLD_BYTES, ARGS(fuse_init_out), PRE_INIT | ANY_ID) \
	X(OPENDIR, vfsd_fuse_opendir, ARGS(fuse_open_in), ARGS(fuse_open_out), NODE) \
	X(READDIR, vfsd_fuse_readdir, ARGS(fuse_read_in), 0, 0) \
	X(RELEASEDIR, vfsd_fuse_release, ARGS(fuse_release_in), 0, ANY_ID) \
	X(FSYNCDIR, vfsd_fuse_fsync, ARGS(fuse_fsync_in), 0, 0) \
	/* Locks are the guest's own: GETLK, SETLK and SETLKW are not served. */ \
	X(ACCESS, vfsd_fuse_access, ARGS(fuse_access_in), 0, NODE) \
	X(CREATE, vfsd_fuse_create_file, ARGS(fuse_create_in), \
	  ARGS(fuse_entry_out) + ARGS(fuse_open_out), NODE | WRITES | OWN_BARRIER) \
	X(INTERRUPT, vfsd_fuse_interrupt, ARGS(fuse_interrupt_in), 0, ERRORS_ONLY | ANY_ID) \
	X(DESTROY, vfsd_fuse_destroy_session, 0, 0, ANY_ID) \
	X(IOCTL, vfsd_fuse_ioctl, ARGS(fuse_ioctl_in), ARGS(fuse_ioctl_out), 0) \
	X(BATCH_FORGET, vfsd_fuse_batch_forget, ARGS(fuse_batch_forget_in), 0, \
	  NO_REPLY | STREAM | ANY_ID) \
	X(FALLOCATE, vfsd_fuse_fallocate, ARGS(fuse_fallocate_in), 0, WRITES) \
	X(READDIRPLUS, vfsd_fuse_readdirplus, ARGS(fuse_read_in), 0, NODE) \
	X(RENAME2, vfsd_fuse_rename2, ARGS(fuse_rename2_in), 0, NODE | WRITES | BARRIER) \
	X(LSEEK, vfsd_fuse_lseek, ARGS(fuse_lseek_in), ARGS(fuse_lseek_out), 0) \
	X(COPY_FILE_RANGE, vfsd_fuse_copy_file_range, ARGS(fuse_copy_file_range_in), \
	  ARGS(fuse_write_out), WRITES) \
	X(SYNCFS, vfsd_fuse_syncfs, ARGS(fuse_syncfs_in), 0, NODE) \
	X(TMPFILE, vfsd_fuse_tmpfile, ARGS(fuse_create_in), \
	  ARGS(fuse_entry_out) + ARGS(fuse_open_out), NODE | WRITES) \
	X(STATX, vfsd_fuse_statx, ARGS(fuse_statx_in), ARGS(fuse_statx_out), NODE) \
	X(COPY_FILE_RANGE_64, vfsd_fuse_copy_file_range_64, ARGS(fuse_copy_file_range_in), \
	  ARGS(fuse_copy_file_range_out), WRITES)
/* clang-format on */

#endif
