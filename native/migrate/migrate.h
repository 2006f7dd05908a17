/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/migrate - a session on its way out or in: the block of bytes (state) and its pipe (transfer). Part
 * of the engine, which joins the folders.
 *
 * Owner thread: the control thread, while no ring runs.
 */
#ifndef VFSD_MIGRATE_MIGRATE_H
#define VFSD_MIGRATE_MIGRATE_H

#include "migrate/state.h"

struct vfsd_migrate;

/* @config is copied, what it points to borrowed. 0 or -ENOMEM. */
int vfsd_migrate_create(const struct vfsd_state_config *config, struct vfsd_migrate **ret);
void vfsd_migrate_destroy(struct vfsd_migrate *migrate);

/* Begin to write the session to @fd, or to read one; consumed also on error. 0 or -errno. */
int vfsd_migrate_save(struct vfsd_migrate *migrate, int fd);
int vfsd_migrate_load(struct vfsd_migrate *migrate, int fd);

/*
 * The other end is done. After a load the session is in force, or on error there is none.
 * 0 or -errno; -ENOENT without a transfer: nothing was begun.
 */
int vfsd_migrate_finish(struct vfsd_migrate *migrate);

/* Give the transfer up, if there is one. */
void vfsd_migrate_cancel(struct vfsd_migrate *migrate);

#endif
