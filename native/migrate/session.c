/* SPDX-License-Identifier: BSD-3-Clause */
#include "migrate/migrate.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "migrate/pipe.h"
#include "base/util.h"

struct vfsd_migrate {
	struct vfsd_state_config config;
	struct vfsd_transfer *transfer; /* NULL: none */
	bool loading;
};

int vfsd_migrate_create(const struct vfsd_state_config *config, struct vfsd_migrate **ret)
{
	struct vfsd_migrate *migrate = calloc(1, sizeof(*migrate));

	if (!migrate)
		return -ENOMEM;
	migrate->config = *config;
	*ret = migrate;
	return 0;
}

void vfsd_migrate_destroy(struct vfsd_migrate *migrate)
{
	if (!migrate)
		return;
	vfsd_migrate_cancel(migrate);
	free(migrate);
}

int vfsd_migrate_save(struct vfsd_migrate *migrate, int fd)
{
	VFSD_FD_GUARD guard = fd;
	size_t bytes = 0;
	void *data;
	int error;

	vfsd_migrate_cancel(migrate);
	error = vfsd_state_save(&migrate->config, &data, &bytes);
	if (error)
		return error;
	migrate->loading = false;
	return vfsd_transfer_send(vfsd_fd_take(&guard), data, bytes, &migrate->transfer);
}

int vfsd_migrate_load(struct vfsd_migrate *migrate, int fd)
{
	vfsd_migrate_cancel(migrate);
	migrate->loading = true;
	return vfsd_transfer_receive(fd, VFSD_STATE_BYTES_MAX, &migrate->transfer);
}

/* What was received, or NULL. */
static int end(struct vfsd_migrate *migrate, void **data, size_t *bytes)
{
	struct vfsd_transfer *transfer = migrate->transfer;

	migrate->transfer = NULL;
	return vfsd_transfer_end(transfer, data, bytes);
}

int vfsd_migrate_finish(struct vfsd_migrate *migrate)
{
	size_t bytes = 0;
	void *data = NULL;
	int error;

	if (!migrate->transfer)
		return -ENOENT;
	error = end(migrate, migrate->loading ? &data : NULL, &bytes);
	if (error)
		vfsd_log(VFSD_LOG_ERROR, "state: not transferred errno=%d", -error);
	else if (migrate->loading)
		error = vfsd_state_load(&migrate->config, data, bytes);
	free(data);
	return error;
}

void vfsd_migrate_cancel(struct vfsd_migrate *migrate)
{
	if (migrate->transfer)
		(void)end(migrate, NULL, NULL);
}
