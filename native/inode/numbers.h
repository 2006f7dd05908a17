/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode/numbers - the inode numbers of several filesystems of the host, for a guest that takes them for one.
 *
 * Such a guest has one st_dev for all that is mounted below the share, so find, tar and cp take two
 * inodes of one number for the same one. Numbers below 2^48 of the share's own filesystem stay as they
 * are. Those of others get an index of the filesystem above them, which comes from its st_dev, so it is
 * the same as long as that is mounted, unless two meet. What does not fit is counted, and is forgotten
 * when there is much of it that the guest does not hold. No two inodes ever have one number.
 * Owner thread: any; a lock inside, for what is counted only.
 */
#ifndef VFSD_INODE_NUMBERS_H
#define VFSD_INODE_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_inodes;
struct vfsd_numbers;

/* @inodes, which has its root, is borrowed. 0 or -ENOMEM. */
int vfsd_numbers_create(struct vfsd_inodes *inodes, struct vfsd_numbers **ret);
void vfsd_numbers_destroy(struct vfsd_numbers *numbers);

/*
 * The number of the inode @ino of the filesystem @dev (st_dev). Without memory, one that has not been
 * given before.
 */
uint64_t vfsd_numbers_of(struct vfsd_numbers *numbers, uint64_t dev, uint64_t ino);

/* Has any inode been asked for whose number is not the host's? */
bool vfsd_numbers_differ(const struct vfsd_numbers *numbers);

/* How many are counted now. */
uint32_t vfsd_numbers_counted(struct vfsd_numbers *numbers);

#endif
