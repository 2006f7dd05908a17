/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rest of an open directory: entries that were read and did not fit into the guest's buffer.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "inode/open_file.h"
#include "base/quota.h"

struct vfsd_dir_rest {
	int64_t begin; /* the offset that the guest asks for it by */
	int64_t end;   /* the offset of the entry after it */
	size_t bytes;
	uint8_t dents[];
};

static int64_t end_of(const void *dents, size_t bytes)
{
	const struct dirent64 *entry = dents;

	for (size_t at = 0; at < bytes; at += entry->d_reclen)
		entry = (const struct dirent64 *)((const char *)dents + at);
	return entry->d_off;
}

void vfsd_dir_drop_rest(struct vfsd_open_file *file)
{
	if (!file->dir_rest)
		return;
	vfsd_quota_give_n(file->rest_quota, file->dir_rest->bytes);
	free(file->dir_rest);
	file->dir_rest = NULL;
}

void vfsd_dir_unread(struct vfsd_open_file *file, int64_t offset, const void *dents, size_t bytes)
{
	struct vfsd_dir_rest *rest;

	if (!vfsd_quota_take_n(file->rest_quota, bytes))
		return;
	rest = malloc(sizeof(*rest) + bytes);
	if (!rest) {
		vfsd_quota_give_n(file->rest_quota, bytes);
		return;
	}
	*rest = (struct vfsd_dir_rest){
		.begin = offset, .end = end_of(dents, bytes), .bytes = bytes};
	memcpy(rest->dents, dents, bytes);
	pthread_mutex_lock(&file->dir_lock);
	vfsd_dir_drop_rest(file);
	file->dir_rest = rest;
	pthread_mutex_unlock(&file->dir_lock);
}

size_t vfsd_dir_take_rest(struct vfsd_open_file *file, int64_t offset, void *buf, size_t size)
{
	struct vfsd_dir_rest *rest = file->dir_rest;
	size_t bytes = 0;

	if (!rest)
		return 0;
	/* Another request may have read on through this open file. */
	if (rest->begin == offset && rest->end == file->dir_offset && rest->bytes <= size) {
		bytes = rest->bytes;
		memcpy(buf, rest->dents, bytes);
	}
	vfsd_dir_drop_rest(file);
	return bytes;
}
