/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The requests of a load, and what their replies must be: a device that is wrong, or does less than
 * it was asked for, is not fast.
 *
 * Files that are read hold in the first word of each page the number of that page; so do the pages
 * that are written, and whoever prepared the file can look.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bench_internal.h"
#include "base/util.h"

/* Steps of a unit of CREATE. */
enum { CREATED, RELEASED, UNLINKED };

static int wrong(struct bench_load *load, const char *what)
{
	if (!load->wrong)
		load->wrong = what;
	return -EPROTO;
}

static int send(struct bench_load *load, struct bench_slot *slot, uint32_t opcode, uint64_t nodeid,
		const struct bench_shape *shape)
{
	return bench_send(load->queue, slot, opcode, nodeid, shape);
}

/* The next of @count things, or any of them. */
static uint64_t choose(struct bench_load *load, uint64_t count)
{
	if (load->work->random)
		return (uint64_t)(((unsigned __int128)bench_random(&load->random) * count) >> 64);
	return load->next++ % count;
}

/* ---- GETATTR, LOOKUP --------------------------------------------------------------------------- */

static int getattr(struct bench_load *load, struct bench_slot *slot)
{
	static const struct fuse_getattr_in in;
	const struct bench_shape shape = {.body = sizeof(in),
					  .reply = sizeof(struct fuse_attr_out)};

	memcpy(bench_body(slot), &in, sizeof(in));
	return send(load, slot, FUSE_GETATTR, load->work->nodeid, &shape);
}

static int got_attr(struct bench_load *load, struct bench_slot *slot, ssize_t bytes)
{
	struct fuse_attr_out out;

	if (bytes != sizeof(out))
		return wrong(load, "GETATTR: length of the reply");
	memcpy(&out, bench_reply(slot), sizeof(out));
	if (!S_ISREG(out.attr.mode) || out.attr.size != load->work->file_bytes)
		return wrong(load, "GETATTR: not the file's attributes");
	return 1;
}

static int lookup(struct bench_load *load, struct bench_slot *slot)
{
	const struct bench_shape shape = {.body = BENCH_NAME_BYTES,
					  .reply = sizeof(struct fuse_entry_out)};

	slot->index = (uint32_t)choose(load, load->work->names->count);
	bench_name(bench_body(slot), slot->index);
	return send(load, slot, FUSE_LOOKUP, load->work->nodeid, &shape);
}

/* A lookup of the name @index has been counted by the device. */
static int count_lookup(struct bench_load *load, uint32_t index, const struct fuse_entry_out *entry)
{
	struct bench_name *name = &load->work->names->name[index];
	uint64_t known = 0;

	if (entry->nodeid <= FUSE_ROOT_ID || !S_ISREG(entry->attr.mode))
		return wrong(load, "LOOKUP: not the file's node");
	if (load->work->forget)
		return bench_send_forget(load->queue->bench, entry->nodeid, 1);
	__atomic_fetch_add(&name->lookups, 1, __ATOMIC_RELAXED);
	/* As long as a node is known, it keeps its id. */
	if (!__atomic_compare_exchange_n(&name->nodeid, &known, entry->nodeid, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
	    known != entry->nodeid)
		return wrong(load, "LOOKUP: another node id than before");
	return 0;
}

static int got_entry(struct bench_load *load, struct bench_slot *slot, ssize_t bytes)
{
	struct fuse_entry_out entry;
	int error;

	if (bytes != sizeof(entry))
		return wrong(load, "LOOKUP: length of the reply");
	memcpy(&entry, bench_reply(slot), sizeof(entry));
	error = count_lookup(load, slot->index, &entry);
	return error ? error : 1;
}

/* ---- READ, WRITE ------------------------------------------------------------------------------- */

static void choose_offset(struct bench_load *load, struct bench_slot *slot)
{
	const vfsd_bench_work *work = load->work;

	slot->offset = choose(load, work->file_bytes / work->request_bytes) * work->request_bytes;
}

/* The words that say which page this is. */
static uint64_t *stamp(struct bench_slot *slot, uint32_t page)
{
	return (uint64_t *)(void *)(slot->data + page * BENCH_PAGE_BYTES);
}

static int read_file(struct bench_load *load, struct bench_slot *slot)
{
	struct fuse_read_in in = {.fh = load->work->handles[0], .size = load->work->request_bytes};
	const struct bench_shape shape = {.body = sizeof(in), .data_in = in.size};

	choose_offset(load, slot);
	in.offset = slot->offset;
	memcpy(bench_body(slot), &in, sizeof(in));
	return send(load, slot, FUSE_READ, load->work->nodeid, &shape);
}

static int got_data(struct bench_load *load, struct bench_slot *slot, ssize_t bytes)
{
	const uint32_t pages = load->work->request_bytes / BENCH_PAGE_BYTES;
	const uint64_t first = slot->offset / BENCH_PAGE_BYTES;

	if (bytes != load->work->request_bytes)
		return wrong(load, "READ: length of the reply");
	for (uint32_t i = 0; i < pages; i++) {
		if (*stamp(slot, i) != first + i)
			return wrong(load, "READ: other data than the file's");
		*stamp(slot, i) = UINT64_MAX;
	}
	return 1;
}

static int write_file(struct bench_load *load, struct bench_slot *slot)
{
	struct fuse_write_in in = {.fh = load->work->handles[0], .size = load->work->request_bytes};
	const struct bench_shape shape = {
		.body = sizeof(in), .data_out = in.size, .reply = sizeof(struct fuse_write_out)};

	choose_offset(load, slot);
	in.offset = slot->offset;
	memcpy(bench_body(slot), &in, sizeof(in));
	for (uint32_t i = 0; i < in.size / BENCH_PAGE_BYTES; i++)
		*stamp(slot, i) = in.offset / BENCH_PAGE_BYTES + i;
	return send(load, slot, FUSE_WRITE, load->work->nodeid, &shape);
}

static int wrote(struct bench_load *load, struct bench_slot *slot, ssize_t bytes)
{
	struct fuse_write_out out;

	if (bytes != sizeof(out))
		return wrong(load, "WRITE: length of the reply");
	memcpy(&out, bench_reply(slot), sizeof(out));
	if (out.size != load->work->request_bytes)
		return wrong(load, "WRITE: less written than asked for");
	return 1;
}

/*
 * ---- READDIRPLUS: each slot reads the directory through a handle of its own, over and over, from one
 * load to the next. -------------------------------------------------------------------------------
 */

static int read_directory(struct bench_load *load, struct bench_slot *slot)
{
	/* Handles are numbered through all queues. */
	const size_t queue = (size_t)(load->queue - load->queue->bench->queues);
	const size_t number = queue * load->work->depth + (size_t)(slot - load->queue->slots);
	struct fuse_read_in in = {
		.fh = load->work->handles[number],
		.size = load->work->request_bytes,
	};
	const struct bench_shape shape = {.body = sizeof(in), .data_in = in.size};

	if (slot->directory != in.fh) {
		slot->directory = in.fh;
		slot->place = 0;
		slot->entries = 0;
	}
	in.offset = slot->place;
	memcpy(bench_body(slot), &in, sizeof(in));
	return send(load, slot, FUSE_READDIRPLUS, load->work->nodeid, &shape);
}

static bool is_dots(const struct fuse_dirent *dirent)
{
	return (dirent->namelen == 1 || dirent->namelen == 2) && dirent->name[0] == '.';
}

/* The number in a name of ours, or UINT32_MAX. */
static uint32_t number_of(const struct fuse_dirent *dirent)
{
	uint32_t number = 0;

	if (dirent->namelen != BENCH_NAME_BYTES - 1 || dirent->name[0] != 'n')
		return UINT32_MAX;
	for (int i = 1; i < BENCH_NAME_BYTES - 1; i++)
		number = number * 10 + (uint32_t)(dirent->name[i] - '0');
	return number;
}

static int got_entries(struct bench_load *load, struct bench_slot *slot, ssize_t bytes)
{
	const size_t head = sizeof(struct fuse_entry_out), total = (size_t)bytes;
	const struct fuse_entry_out *entry;
	const struct fuse_dirent *dirent;
	size_t at = 0, left;
	int error = 0;

	if (bytes == 0) {
		if (slot->entries != load->work->names->count)
			return wrong(load, "READDIRPLUS: not every name, once");
		slot->entries = 0;
		slot->place = 0;
		return 1;
	}
	while (at < total && !error) {
		left = total - at;
		entry = (const void *)(slot->data + at);
		dirent = (const void *)(slot->data + at + head);
		if (left < head + sizeof(*dirent) ||
		    left - head - sizeof(*dirent) < dirent->namelen)
			return wrong(load, "READDIRPLUS: a cut entry");
		slot->place = dirent->off;
		if (!is_dots(dirent)) {
			if (number_of(dirent) >= load->work->names->count)
				return wrong(load, "READDIRPLUS: a strange name");
			error = count_lookup(load, number_of(dirent), entry);
			slot->entries++;
			load->units++;
		}
		at += head + VFSD_ALIGN_UP(sizeof(*dirent) + dirent->namelen, sizeof(uint64_t));
	}
	return error ? error : 1;
}

/* ---- CREATE, RELEASE, UNLINK, FORGET ------------------------------------------------------------- */

static int create(struct bench_load *load, struct bench_slot *slot)
{
	const struct fuse_create_in in = {.flags = O_RDWR | O_CREAT | O_EXCL,
					  .mode = S_IFREG | 0644};
	const size_t queue = (size_t)(load->queue - load->queue->bench->queues);
	const struct bench_shape shape = {
		.reply = sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out),
		.body = (uint32_t)(sizeof(in) + 1) +
			(uint32_t)snprintf(slot->name, sizeof(slot->name), "c%zu-%llu", queue,
					   (unsigned long long)load->next++),
	};
	uint8_t *body = bench_body(slot);

	slot->step = CREATED;
	memcpy(body, &in, sizeof(in));
	memcpy(body + sizeof(in), slot->name, shape.body - sizeof(in));
	return send(load, slot, FUSE_CREATE, load->work->nodeid, &shape);
}

static int created(struct bench_load *load, struct bench_slot *slot, ssize_t bytes)
{
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	struct fuse_release_in in = {.flags = O_RDWR};
	const struct bench_shape shape = {.body = sizeof(in)};

	if (bytes != sizeof(entry) + sizeof(open))
		return wrong(load, "CREATE: length of the reply");
	memcpy(&entry, bench_reply(slot), sizeof(entry));
	memcpy(&open, (const uint8_t *)bench_reply(slot) + sizeof(entry), sizeof(open));
	if (entry.nodeid <= FUSE_ROOT_ID || !S_ISREG(entry.attr.mode))
		return wrong(load, "CREATE: not the file's node");
	slot->nodeid = entry.nodeid;
	slot->step = RELEASED;
	in.fh = open.fh;
	memcpy(bench_body(slot), &in, sizeof(in));
	return send(load, slot, FUSE_RELEASE, slot->nodeid, &shape);
}

static int unlink_created(struct bench_load *load, struct bench_slot *slot)
{
	const struct bench_shape shape = {.body = (uint32_t)strlen(slot->name) + 1};

	slot->step = UNLINKED;
	memcpy(bench_body(slot), slot->name, shape.body);
	return send(load, slot, FUSE_UNLINK, load->work->nodeid, &shape);
}

static int create_goes_on(struct bench_load *load, struct bench_slot *slot, ssize_t bytes)
{
	int error;

	if (slot->step == CREATED)
		return created(load, slot, bytes);
	if (bytes != 0)
		return wrong(load, "RELEASE, UNLINK: length of the reply");
	if (slot->step == RELEASED)
		return unlink_created(load, slot);
	error = bench_send_forget(load->queue->bench, slot->nodeid, 1);
	return error ? error : 1;
}

/* ---- all of them --------------------------------------------------------------------------------- */

static const struct {
	int (*begin)(struct bench_load *load, struct bench_slot *slot);
	int (*go_on)(struct bench_load *load, struct bench_slot *slot, ssize_t bytes);
} kinds[] = {
	[VFSD_BENCH_GETATTR] = {getattr, got_attr},
	[VFSD_BENCH_LOOKUP] = {lookup, got_entry},
	[VFSD_BENCH_READ] = {read_file, got_data},
	[VFSD_BENCH_WRITE] = {write_file, wrote},
	[VFSD_BENCH_READDIRPLUS] = {read_directory, got_entries},
	[VFSD_BENCH_CREATE] = {create, create_goes_on},
};

int bench_begin(struct bench_load *load, struct bench_slot *slot)
{
	return kinds[load->work->kind].begin(load, slot);
}

int bench_go_on(struct bench_load *load, struct bench_slot *slot, ssize_t bytes)
{
	int done;

	if (bytes < 0) {
		if (!load->wrong)
			load->wrong = "an error for a reply";
		return (int)bytes;
	}
	done = kinds[load->work->kind].go_on(load, slot, bytes);
	if (done == 1 && load->work->kind != VFSD_BENCH_READDIRPLUS)
		load->units++;
	return done;
}
