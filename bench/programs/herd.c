/* SPDX-License-Identifier: BSD-3-Clause */
#include "herd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "inode/inode.h"
#include "fuse/wire.h"

enum { PER_DIRECTORY = 1000 };

uint32_t herd_directory_of(uint32_t index)
{
	return index / PER_DIRECTORY;
}

void herd_directory_name(char name[16], uint32_t directory)
{
	(void)snprintf(name, 16, "w%u", directory);
}

size_t herd_file_name(void *name, uint32_t index)
{
	return (size_t)snprintf(name, 64, "file-%08d", (int)(index % PER_DIRECTORY)) + 1;
}

void herd_path(char path[64], uint32_t index)
{
	char directory[16];

	herd_directory_name(directory, herd_directory_of(index));
	host_name_of(path, directory, (int)(index % PER_DIRECTORY));
}

uint32_t herd_directories(const struct herd *herd)
{
	return herd_directory_of(herd->count - 1) + 1;
}

void herd_make(struct herd *herd, uint32_t count)
{
	char name[64];

	*herd = (struct herd){.count = count};
	herd->directories = calloc(herd_directories(herd), sizeof(*herd->directories));
	herd->nodes = calloc(count, sizeof(*herd->nodes));
	CHECK(herd->directories && herd->nodes);
	for (uint32_t d = 0; d < herd_directories(herd); d++) {
		herd_directory_name(name, d);
		host_make_directory(name);
	}
	for (uint32_t i = 0; i < count; i++) {
		herd_path(name, i);
		CHECK(mknodat(bench_share_fd, name, S_IFREG | 0644, 0) == 0);
	}
}

void herd_remove(struct herd *herd)
{
	char name[64];

	for (uint32_t i = 0; i < herd->count; i++) {
		herd_path(name, i);
		CHECK(unlinkat(bench_share_fd, name, 0) == 0);
	}
	for (uint32_t d = 0; d < herd_directories(herd); d++) {
		herd_directory_name(name, d);
		CHECK(unlinkat(bench_share_fd, name, AT_REMOVEDIR) == 0);
	}
	free(herd->directories);
	free(herd->nodes);
}

size_t herd_make_lookup(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid, void *body)
{
	const struct herd *herd = ctx;

	*opcode = FUSE_LOOKUP;
	*nodeid = herd->directories[herd_directory_of((uint32_t)index)];
	return herd_file_name(body, (uint32_t)index);
}

static void note_node(void *ctx, uint64_t index, int error, const void *payload, size_t bytes)
{
	struct herd *herd = ctx;
	struct fuse_entry_out entry = {0};

	herd->errors += error != 0 || bytes < sizeof(entry);
	if (error == 0 && bytes >= sizeof(entry))
		memcpy(&entry, payload, sizeof(entry));
	herd->nodes[index] = entry.nodeid;
}

void herd_note_error(void *ctx, uint64_t index, int error, const void *payload, size_t bytes)
{
	struct herd *herd = ctx;

	(void)index;
	(void)payload;
	(void)bytes;
	herd->errors += error != 0;
}

static size_t make_watch(void *ctx, uint64_t index, uint32_t *opcode, uint64_t *nodeid, void *body)
{
	const struct herd *herd = ctx;
	const struct fuse_fsnotify_in interest = {.mask = herd->mask};

	*opcode = FUSE_FSNOTIFY;
	*nodeid = herd->nodes[index];
	memcpy(body, &interest, sizeof(interest));
	return sizeof(interest);
}

void herd_find_directories(struct herd *herd, struct reader *reader)
{
	char name[16];

	for (uint32_t d = 0; d < herd_directories(herd); d++) {
		herd_directory_name(name, d);
		herd->directories[d] = reader_lookup(reader, VFSD_NODEID_ROOT, name);
	}
}

struct driver_work herd_lookups(struct herd *herd)
{
	return (struct driver_work){.ctx = herd, .make = herd_make_lookup, .answer = note_node};
}

struct driver_work herd_watches(struct herd *herd)
{
	return (struct driver_work){.ctx = herd, .make = make_watch, .answer = herd_note_error};
}
