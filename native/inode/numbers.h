/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/numbers - unique inode numbers for a guest that has one st_dev for several host filesystems.
 *
 * In such a guest find, tar and cp take two inodes of different filesystems with the same number for one inode.
 * Numbers below 2^48 of the share's own filesystem are not changed. In those of other filesystems, the upper
 * bits are an index that is derived from st_dev, so that it is normally the same as long as the filesystem is
 * mounted. A number that does not fit is replaced by a counter's value. Counted numbers of inodes that the
 * guest does not hold are forgotten when there are many. No two inodes ever have the same number.
 * Owner thread: any; a lock inside, which only counted numbers take.
 */
#ifndef VFSD_INODE_NUMBERS_H
#define VFSD_INODE_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_inodes;
struct vfsd_numbers;

/* @inodes has its root already and is borrowed. 0 or -ENOMEM. */
int vfsd_numbers_create(struct vfsd_inodes *inodes, struct vfsd_numbers **ret);
void vfsd_numbers_destroy(struct vfsd_numbers *numbers);

/*
 * The guest's number of the inode @ino of the filesystem @dev (st_dev). Without memory it is a new one each
 * time.
 */
uint64_t vfsd_numbers_of(struct vfsd_numbers *numbers, uint64_t dev, uint64_t ino);

/* Has vfsd_numbers_of() ever returned another number than the host's? */
bool vfsd_numbers_differ(const struct vfsd_numbers *numbers);

/* How many counted numbers are remembered. */
uint32_t vfsd_numbers_counted(struct vfsd_numbers *numbers);

#endif
