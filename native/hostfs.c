/* SPDX-License-Identifier: BSD-3-Clause */
#include "hostfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hostfs_internal.h"

const struct vfsd_hostfs_ops vfsd_hostfs_ops = {
	.lookup = vfsd_hostfs_lookup,
	.getattr = vfsd_hostfs_getattr,
	.setattr = vfsd_hostfs_setattr,
	.statfs = vfsd_hostfs_statfs,
	.readlink = vfsd_hostfs_readlink,
	.symlink = vfsd_hostfs_symlink,
	.mknod = vfsd_hostfs_mknod,
	.mkdir = vfsd_hostfs_mkdir,
	.link = vfsd_hostfs_link,
	.unlink = vfsd_hostfs_unlink,
	.rmdir = vfsd_hostfs_rmdir,
	.rename = vfsd_hostfs_rename,
	.open = vfsd_hostfs_open,
	.create = vfsd_hostfs_create_file,
	.read = vfsd_hostfs_read,
	.write = vfsd_hostfs_write,
	.flush = vfsd_hostfs_flush,
	.fsync = vfsd_hostfs_fsync,
	.readdir = vfsd_hostfs_readdir,
};

struct vfsd_proc_name vfsd_hostfs_proc_name(int fd)
{
	struct vfsd_proc_name proc;

	(void)snprintf(proc.name, sizeof(proc.name), "%d", fd);
	return proc;
}

int vfsd_hostfs_create(struct vfsd_inodes *inodes, struct vfsd_handles *handles, int proc_self_fd,
		       struct vfsd_hostfs **ret)
{
	struct vfsd_hostfs *fs = calloc(1, sizeof(*fs));

	if (!fs)
		return -ENOMEM;
	fs->inodes = inodes;
	fs->handles = handles;
	fs->proc_self_fd = proc_self_fd;
	fs->uid = geteuid();
	fs->gid = getegid();
	*ret = fs;
	return 0;
}

void vfsd_hostfs_destroy(struct vfsd_hostfs *fs)
{
	free(fs);
}
