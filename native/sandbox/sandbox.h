/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sandbox - the system calls, libraries and numbers that the sandbox is made with, as this machine's
 * headers have them: what virtiofsd_py.sandbox calls. The core (native/device) does not know of it.
 *
 * sandbox.cdef.h declares to Python what is included here, and what follows for the calls and numbers
 * that a C library or kernel headers of 2022 lack. Every call returns what the system call does, with
 * its error in errno.
 * Owner thread: the control thread, before the first ring starts.
 * Spec: unshare(2), mount(2), pivot_root(2), open_tree(2), statmount(2), fanotify_init(2), seccomp(2).
 */
#ifndef VFSD_SANDBOX_SANDBOX_H
#define VFSD_SANDBOX_SANDBOX_H

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x4
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

/* Linux 6.15 */
#ifndef FAN_REPORT_MNT
#define FAN_REPORT_MNT 0x4000
#define FAN_MARK_MNTNS 0x110
#define FAN_MNT_ATTACH 0x01000000
#define FAN_MNT_DETACH 0x02000000
#endif

/* Linux 6.8; one number on every machine but Alpha. */
#ifndef SYS_statmount
#define SYS_statmount 457
#endif

/* SCMP_ACT_ERRNO(0): an error number is added to it. */
#define VFSD_SCMP_ACT_ERRNO SCMP_ACT_ERRNO(0)

/* Which argument of clone(2) has the flags. */
#ifdef __s390__
#define VFSD_CLONE_FLAGS_ARGUMENT 1
#else
#define VFSD_CLONE_FLAGS_ARGUMENT 0
#endif

/* struct fanotify_event_info_mnt */
struct vfsd_mount_info {
	struct fanotify_event_info_header header;
	uint32_t padding;
	uint64_t mnt_id;
};

/* struct mnt_id_req and the head of struct statmount, which are younger than many headers. */
struct vfsd_mount_request {
	uint32_t size;
	uint32_t spare;
	uint64_t mnt_id;
	uint64_t param;
};

struct vfsd_mount_answer {
	uint32_t size;
	uint32_t mnt_opts;
	uint64_t mask;
	uint32_t sb_dev_major;
	uint32_t sb_dev_minor;
	uint64_t sb_magic;
	uint32_t sb_flags;
	uint32_t fs_type;
	uint64_t mnt_id;
	uint64_t mnt_parent_id;
	uint32_t mnt_id_old;
	uint32_t mnt_parent_id_old;
	uint64_t mnt_attr;
	uint64_t mnt_propagation;
	uint64_t mnt_peer_group;
	uint64_t mnt_master;
	uint64_t propagate_from;
	uint32_t mnt_root;
	uint32_t mnt_point; /* where in text */
	uint64_t spare[50];
	char text[4096 + 1];
};
_Static_assert(offsetof(struct vfsd_mount_answer, mnt_point) == 108, "struct statmount");
_Static_assert(offsetof(struct vfsd_mount_answer, text) == 512, "struct statmount");

static inline int vfsd_pivot_root(const char *new_root, const char *put_old)
{
	return (int)syscall(SYS_pivot_root, new_root, put_old);
}

/* Where the mount with the unique number @mnt_id is, from our root, into @ret of 4097 bytes. */
static inline int vfsd_mount_point(uint64_t mnt_id, char *ret)
{
	const uint64_t want_mnt_point = 0x10;
	struct vfsd_mount_request request = {
		.size = sizeof(request), .mnt_id = mnt_id, .param = want_mnt_point};
	struct vfsd_mount_answer answer;

	if (syscall(SYS_statmount, &request, &answer, sizeof(answer), 0))
		return -1;
	if (answer.mnt_point >= sizeof(answer.text)) {
		errno = EOVERFLOW;
		return -1;
	}
	answer.text[sizeof(answer.text) - 1] = '\0';
	strcpy(ret, answer.text + answer.mnt_point);
	return 0;
}

/*
 * The event at @at of the @bytes that were read of a group with FAN_REPORT_MNT: its FAN_* bits, and the
 * unique number of its mount (0: none). Returns where the next one is; 0: there is none at @at.
 */
static inline size_t vfsd_mount_event(const void *buffer, size_t bytes, size_t at, uint64_t *mask,
				      uint64_t *mnt_id)
{
	const char *raw = (const char *)buffer + at;
	struct fanotify_event_metadata event;
	struct vfsd_mount_info info = {.mnt_id = 0};

	if (bytes - at < sizeof(event))
		return 0;
	memcpy(&event, raw, sizeof(event));
	if (event.event_len < sizeof(event) || event.event_len > bytes - at)
		return 0;
	if (event.event_len >= event.metadata_len + sizeof(info))
		memcpy(&info, raw + event.metadata_len, sizeof(info));
	*mask = event.mask;
	*mnt_id = info.mnt_id;
	return at + event.event_len;
}

#endif
