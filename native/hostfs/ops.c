/* SPDX-License-Identifier: BSD-3-Clause */
#include "hostfs/hostfs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "hostfs/internal.h"

const struct vfsd_hostfs_ops vfsd_hostfs_ops = {
#define POINTER(type, name, ...) .name = vfsd_hostfs_##name,
	VFSD_HOSTFS_OPERATIONS(POINTER)
#undef POINTER
};

int vfsd_hostfs_new(const struct vfsd_hostfs_options *options, struct vfsd_inodes *inodes,
		    struct vfsd_open_files *handles, int proc_self_fd, struct vfsd_hostfs **ret)
{
	struct vfsd_hostfs *fs = calloc(1, sizeof(*fs));
	int error;

	if (!fs)
		return -ENOMEM;
	fs->options = *options;
	fs->inodes = inodes;
	fs->handles = handles;
	fs->proc_self_fd = proc_self_fd;
	fs->uid = geteuid();
	fs->gid = getegid();
	error = vfsd_creds_remember_groups(fs);
	if (error) {
		vfsd_hostfs_free(fs);
		return error;
	}
	*ret = fs;
	return 0;
}

void vfsd_hostfs_free(struct vfsd_hostfs *fs)
{
	if (!fs)
		return;
	free(fs->groups);
	free(fs);
}

void vfsd_hostfs_set_capability_name(struct vfsd_hostfs *fs, const char *name)
{
	fs->capability_name = name;
}
