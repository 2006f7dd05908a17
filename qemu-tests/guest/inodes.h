/* SPDX-License-Identifier: BSD-3-Clause */
/* inodes - what a file is and what is in it, and files by handle. Functions return -errno. */
#ifndef INODES_H
#define INODES_H

#include <stdint.h>

/* Puts what read(2) finds in @path as a word. st_size before that. */
int64_t inodes_content(const char *path);

/* st_mtime of @path, seconds. */
int64_t inodes_mtime(const char *path);

/* statx(2) of @path: stx_attributes_mask, which it puts as a word MASK, and stx_attributes. */
int64_t inodes_attributes(const char *path);

/* Of immutable, append-only and no-dump gives @path the FS_*_FL in @flags. */
int64_t inodes_set_flags(const char *path, int flags);

/* Keeps the handle of @path, one at a time. */
int64_t inodes_handle(const char *path);

/* open_by_handle_at(2) of the handle that is kept, on the filesystem of @mount. The descriptor. */
int64_t inodes_open_handle(const char *mount, int flags);

/* Has the kernel forget all inodes that nobody uses. */
int64_t inodes_forget(void);

#endif
