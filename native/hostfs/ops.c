/* SPDX-License-Identifier: BSD-3-Clause */
#include "hostfs/hostfs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "hostfs/internal.h"

const struct vfsd_hostfs_ops vfsd_hostfs_ops = {
	.lookup = vfsd_hostfs_lookup,
	.again = vfsd_hostfs_again,
	.forgotten = vfsd_hostfs_forgotten,
	.parent = vfsd_hostfs_parent,
	.getattr = vfsd_hostfs_getattr,
	.setattr = vfsd_hostfs_setattr,
	.statfs = vfsd_hostfs_statfs,
	.statx = vfsd_hostfs_statx,
	.access = vfsd_hostfs_access,
	.ioctl = vfsd_hostfs_ioctl,
	.getxattr = vfsd_hostfs_getxattr,
	.listxattr = vfsd_hostfs_listxattr,
	.setxattr = vfsd_hostfs_setxattr,
	.removexattr = vfsd_hostfs_removexattr,
	.readlink = vfsd_hostfs_readlink,
	.symlink = vfsd_hostfs_symlink,
	.mknod = vfsd_hostfs_mknod,
	.mkdir = vfsd_hostfs_mkdir,
	.link = vfsd_hostfs_link,
	.hold = vfsd_hostfs_hold,
	.unlink = vfsd_hostfs_unlink,
	.rmdir = vfsd_hostfs_rmdir,
	.rename = vfsd_hostfs_rename,
	.open = vfsd_hostfs_open,
	.create = vfsd_hostfs_create_file,
	.tmpfile = vfsd_hostfs_tmpfile,
	.read = vfsd_hostfs_read,
	.write = vfsd_hostfs_write,
	.flush = vfsd_hostfs_flush,
	.fsync = vfsd_hostfs_fsync,
	.syncfs = vfsd_hostfs_syncfs,
	.fallocate = vfsd_hostfs_fallocate,
	.lseek = vfsd_hostfs_lseek,
	.copy_file_range = vfsd_hostfs_copy_file_range,
	.readdir = vfsd_hostfs_readdir,
	.list = vfsd_hostfs_list,
	.list_entry = vfsd_hostfs_list_entry,
	.list_number = vfsd_hostfs_list_number,
};

int vfsd_hostfs_create(const struct vfsd_hostfs_options *options, struct vfsd_inodes *inodes,
		       struct vfsd_handles *handles, int proc_self_fd, struct vfsd_hostfs **ret)
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
		vfsd_hostfs_destroy(fs);
		return error;
	}
	*ret = fs;
	return 0;
}

void vfsd_hostfs_destroy(struct vfsd_hostfs *fs)
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
