/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Credentials of one thread, and its umask, for the length of one system call.
 *
 * The raw system calls, because glibc's wrappers change every thread of the process. Only effective
 * ids change: real and saved ones stay root's, and are what lets us come back.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostfs/internal.h"
#include "base/log.h"

#define ID_KEEP ((uint32_t)-1)

static int set_effective(long call, uint32_t id)
{
	return syscall(call, ID_KEEP, id, ID_KEEP) ? -errno : 0;
}

/* Change this thread's effective capabilities within what is permitted. 1: changed, 0: no need. */
static int change_effective(uint32_t drop, uint32_t add)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uint32_t effective;

	if (syscall(SYS_capget, &header, data))
		return -errno;
	effective = (data[0].effective & ~drop) | (data[0].permitted & add);
	if (effective == data[0].effective)
		return 0;
	data[0].effective = effective;
	return syscall(SYS_capset, &header, data) ? -errno : 1;
}

int vfsd_creds_enter(const struct vfsd_hostfs *fs, const struct vfsd_caller *caller,
		     struct vfsd_creds *creds)
{
	int error;

	*creds = (struct vfsd_creds){.uid_changed = false};
	if (caller->umask) {
		error = vfsd_creds_own_fs(fs);
		if (error)
			return error;
		(void)umask(caller->umask);
		creds->umask_changed = true;
	}
	if (fs->uid != 0)
		return 0;
	/*
	 * Groups first: afterwards we might not be allowed to. Where nobody may change the others (a
	 * user namespace with one id), the guest loses no more than set-group-id bits.
	 */
	if (caller->has_group)
		creds->groups_changed = syscall(SYS_setgroups, 1, &caller->group) == 0;
	if (caller->gid != ID_KEEP && caller->gid != fs->gid) {
		error = set_effective(SYS_setresgid, caller->gid);
		if (error) {
			vfsd_creds_leave(fs, creds);
			return error;
		}
		creds->gid_changed = true;
	}
	if (caller->uid != ID_KEEP && caller->uid != fs->uid) {
		error = set_effective(SYS_setresuid, caller->uid);
		if (error) {
			vfsd_creds_leave(fs, creds);
			return error;
		}
		creds->uid_changed = true;
		/*
		 * That took all effective capabilities. The guest's kernel has checked permissions
		 * with supplementary groups that we don't know: keep from refusing what it granted.
		 */
		(void)change_effective(0, 1u << CAP_DAC_OVERRIDE);
	}
	return 0;
}

void vfsd_creds_drop_fsetid(struct vfsd_creds *creds)
{
	creds->fsetid_dropped = change_effective(1u << CAP_FSETID, 0) == 1;
}

void vfsd_creds_leave(const struct vfsd_hostfs *fs, const struct vfsd_creds *creds)
{
	int error = 0;

	if (creds->umask_changed)
		(void)umask(0);
	/* Back at effective uid 0 the kernel gives all permitted capabilities back. */
	if (creds->uid_changed)
		error = set_effective(SYS_setresuid, fs->uid);
	if (!error && creds->gid_changed)
		error = set_effective(SYS_setresgid, fs->gid);
	if (!error && creds->groups_changed)
		error = syscall(SYS_setgroups, fs->n_groups, fs->groups) ? -errno : 0;
	if (!error && creds->fsetid_dropped)
		error = change_effective(0, 1u << CAP_FSETID);
	if (error >= 0)
		return;
	/* Serving the next request as somebody's user would be worse than not serving it. */
	vfsd_log(VFSD_LOG_ERROR, "hostfs: cannot restore credentials errno=%d", -error);
	abort();
}

int vfsd_creds_remember_groups(struct vfsd_hostfs *fs)
{
	int n = getgroups(0, NULL);

	if (n > 0) {
		fs->groups = calloc((size_t)n, sizeof(*fs->groups));
		if (!fs->groups)
			return -ENOMEM;
		n = getgroups(n, fs->groups);
	}
	if (n < 0)
		return -errno;
	fs->n_groups = (size_t)n;
	return 0;
}

int vfsd_creds_own_fs(const struct vfsd_hostfs *fs)
{
	/* Another session's /proc/self/fd is the same directory. */
	static _Thread_local bool owned;

	if (owned)
		return 0;
	if (unshare(CLONE_FS) || fchdir(fs->proc_self_fd))
		return -errno;
	owned = true;
	return 0;
}
