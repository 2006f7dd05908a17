/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate/migrate - saves a session into a pipe, or loads one: the block of bytes is state.h's, the transfer
 * pipe.h's.
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

/* Begin to write the session to @fd, or to read one from it. @fd is consumed also on error. 0 or -errno. */
int vfsd_migrate_save(struct vfsd_migrate *migrate, int fd);
int vfsd_migrate_load(struct vfsd_migrate *migrate, int fd);

/*
 * Finish: the front-end says that the other end is done. After a load the session is in force; on error there
 * is no session. 0 or -errno; -ENOENT: no transfer was begun.
 */
int vfsd_migrate_finish(struct vfsd_migrate *migrate);

/* Abandon the transfer, if there is one. */
void vfsd_migrate_cancel(struct vfsd_migrate *migrate);

#endif
