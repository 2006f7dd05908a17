/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory, requests one at a time, and FORGETs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench_internal.h"
#include "base/util.h"

enum { SLOT_BYTES = BENCH_TABLE_BYTES + BENCH_PAGE_BYTES + VFSD_BENCH_DATA_BYTES };

static size_t ring_bytes(void)
{
	return VFSD_ALIGN_UP((size_t)guest_ring_bytes(VFSD_BENCH_RING_ENTRIES),
			     (size_t)BENCH_PAGE_BYTES);
}

static size_t queue_bytes(void)
{
	return ring_bytes() + VFSD_BENCH_DEPTH_MAX * (size_t)SLOT_BYTES;
}

/* Guest physical addresses count from the start of the memory. */
static uint64_t gpa(const struct vfsd_bench *bench, const void *at)
{
	return (uint64_t)((const uint8_t *)at - bench->memory);
}

static int init_queue(struct vfsd_bench *bench, struct bench_queue *queue, uint8_t *at)
{
	int error;

	queue->ring = guest_ring_at(at, VFSD_BENCH_RING_ENTRIES, true);
	error = guest_ring_open(&queue->ring);
	queue->bench = bench;
	at += ring_bytes();
	for (int i = 0; i < VFSD_BENCH_DEPTH_MAX; i++, at += SLOT_BYTES) {
		struct bench_slot *slot = &queue->slots[i];

		slot->table = (void *)at;
		slot->head = at + BENCH_TABLE_BYTES;
		slot->data = slot->head + BENCH_PAGE_BYTES;
	}
	return error;
}

static int init_hiprio(struct vfsd_bench *bench, uint8_t *at)
{
	int error;

	bench->hiprio = guest_ring_at(at, VFSD_BENCH_RING_ENTRIES, true);
	error = guest_ring_open(&bench->hiprio);
	bench->forgets = at + ring_bytes();
	for (uint16_t i = 0; i < BENCH_FORGETS; i++) {
		bench->hiprio.desc[i] = (struct vfsd_vring_desc){
			.addr = htole64(gpa(bench, bench->forgets + i * BENCH_FORGET_BYTES)),
			.len = htole32(sizeof(struct fuse_in_header) +
				       sizeof(struct fuse_forget_in)),
		};
		bench->free_forgets[bench->num_free_forgets++] = i;
	}
	return error;
}

int vfsd_bench_create(unsigned int queues, vfsd_bench **ret)
{
	size_t hiprio_bytes = ring_bytes() + BENCH_FORGETS * BENCH_FORGET_BYTES;
	struct vfsd_bench *bench;
	int error;

	if (queues < 1 || queues > VFSD_BENCH_QUEUES_MAX)
		return -EINVAL;
	bench = calloc(1, sizeof(*bench));
	if (!bench)
		return -ENOMEM;
	(void)pthread_mutex_init(&bench->hiprio_lock, NULL);
	bench->alarm_fd = -1;
	bench->hiprio.kick_fd = bench->hiprio.call_fd = -1;
	for (unsigned int i = 0; i < queues; i++)
		bench->queues[i].ring.kick_fd = bench->queues[i].ring.call_fd = -1;
	bench->num_queues = queues;
	bench->memory_bytes = hiprio_bytes + queues * queue_bytes();
	bench->memory = MAP_FAILED;
	bench->memory_fd = memfd_create("guest", MFD_CLOEXEC);
	error = bench->memory_fd < 0 ? -errno : 0;
	if (!error && ftruncate(bench->memory_fd, (off_t)bench->memory_bytes) < 0)
		error = -errno;
	if (!error)
		bench->memory = mmap(NULL, bench->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
				     bench->memory_fd, 0);
	if (!error && bench->memory == MAP_FAILED)
		error = -errno;
	if (!error)
		error = init_hiprio(bench, bench->memory);
	for (unsigned int i = 0; i < queues && !error; i++)
		error = init_queue(bench, &bench->queues[i],
				   bench->memory + hiprio_bytes + i * queue_bytes());
	if (error)
		vfsd_bench_destroy(bench);
	else
		*ret = bench;
	return error;
}

void vfsd_bench_destroy(vfsd_bench *bench)
{
	if (!bench)
		return;
	guest_ring_close(&bench->hiprio);
	for (unsigned int i = 0; i < bench->num_queues; i++)
		guest_ring_close(&bench->queues[i].ring);
	if (bench->memory != MAP_FAILED)
		(void)munmap(bench->memory, bench->memory_bytes);
	if (bench->memory_fd >= 0)
		(void)close(bench->memory_fd);
	(void)pthread_mutex_destroy(&bench->hiprio_lock);
	free(bench);
}

int vfsd_bench_memory_fd(const vfsd_bench *bench)
{
	return bench->memory_fd;
}

uint64_t vfsd_bench_memory_bytes(const vfsd_bench *bench)
{
	return bench->memory_bytes;
}

uint64_t vfsd_bench_user_address(const vfsd_bench *bench)
{
	return (uintptr_t)bench->memory;
}

void vfsd_bench_get_ring(const vfsd_bench *bench, unsigned int index, vfsd_bench_ring *ret)
{
	const struct guest_ring *ring = index ? &bench->queues[index - 1].ring : &bench->hiprio;

	*ret = (vfsd_bench_ring){
		.desc = (uintptr_t)ring->desc,
		.avail = (uintptr_t)ring->avail,
		.used = (uintptr_t)ring->used,
		.kick_fd = ring->kick_fd,
		.call_fd = ring->call_fd,
	};
}

void vfsd_bench_set_alarm(vfsd_bench *bench, int socket_fd)
{
	bench->alarm_fd = socket_fd;
}

/* ---- requests ---------------------------------------------------------------------------------- */

static void describe(struct vfsd_bench *bench, struct bench_slot *slot, const void *at,
		     uint32_t bytes, uint16_t flags)
{
	uint32_t index = slot->table_entries++;

	slot->table[index] = (struct vfsd_vring_desc){
		.addr = htole64(gpa(bench, at)),
		.len = htole32(bytes),
		.flags = htole16(flags | VFSD_VRING_DESC_NEXT),
		.next = htole16((uint16_t)(index + 1)),
	};
}

static void describe_pages(struct vfsd_bench *bench, struct bench_slot *slot, uint32_t bytes,
			   uint16_t flags)
{
	for (uint32_t at = 0; at < bytes; at += BENCH_PAGE_BYTES)
		describe(bench, slot, slot->data + at, BENCH_PAGE_BYTES, flags);
}

/* As Linux does it: header, arguments, pages; header, arguments, pages. */
static void describe_shape(struct vfsd_bench *bench, struct bench_slot *slot,
			   const struct bench_shape *shape)
{
	const uint8_t *reply = slot->head + BENCH_REPLY_AT;

	slot->table_entries = 0;
	describe(bench, slot, slot->head, sizeof(struct fuse_in_header), 0);
	if (shape->body)
		describe(bench, slot, bench_body(slot), shape->body, 0);
	describe_pages(bench, slot, shape->data_out, 0);
	describe(bench, slot, reply, sizeof(struct fuse_out_header), VFSD_VRING_DESC_WRITE);
	if (shape->reply)
		describe(bench, slot, bench_reply(slot), shape->reply, VFSD_VRING_DESC_WRITE);
	describe_pages(bench, slot, shape->data_in, VFSD_VRING_DESC_WRITE);
	slot->table[slot->table_entries - 1].flags &= htole16((uint16_t)~VFSD_VRING_DESC_NEXT);
	slot->shape = *shape;
}

int bench_send(struct bench_queue *queue, struct bench_slot *slot, uint32_t opcode, uint64_t nodeid,
	       const struct bench_shape *shape)
{
	const uint16_t head = (uint16_t)(slot - queue->slots);
	const struct fuse_in_header header = {
		.len = (uint32_t)sizeof(header) + shape->body + shape->data_out,
		.opcode = opcode,
		.unique = queue->unique += 2,
		.nodeid = nodeid,
	};
	/* So that a reply that was not written is not mistaken for the one before. */
	const struct fuse_out_header blank = {.error = 1};

	if (memcmp(shape, &slot->shape, sizeof(*shape)) != 0)
		describe_shape(queue->bench, slot, shape);
	slot->unique = header.unique;
	memcpy(slot->head, &header, sizeof(header));
	memcpy(slot->head + BENCH_REPLY_AT, &blank, sizeof(blank));
	queue->ring.desc[head] = (struct vfsd_vring_desc){
		.addr = htole64(gpa(queue->bench, slot->table)),
		.len = htole32(slot->table_entries * (uint32_t)sizeof(struct vfsd_vring_desc)),
		.flags = htole16(VFSD_VRING_DESC_INDIRECT),
	};
	guest_ring_offer(&queue->ring, head);
	return guest_ring_kick(&queue->ring);
}

ssize_t bench_receive(const struct bench_slot *slot, uint32_t used)
{
	struct fuse_out_header header;

	memcpy(&header, slot->head + BENCH_REPLY_AT, sizeof(header));
	if (used < sizeof(header) || header.len != used || header.unique != slot->unique ||
	    header.error > 0)
		return -EPROTO;
	if (header.error)
		return used == sizeof(header) ? header.error : -EPROTO;
	return (ssize_t)(used - sizeof(header));
}

ssize_t vfsd_bench_ask(vfsd_bench *bench, uint32_t opcode, uint64_t nodeid, const void *body,
		       size_t body_bytes, void *reply, size_t room)
{
	struct bench_queue *queue = &bench->queues[0];
	struct bench_slot *slot = &queue->slots[0];
	const struct bench_shape shape = {.body = (uint32_t)body_bytes, .reply = (uint32_t)room};
	uint32_t id, used;
	ssize_t n;

	if (body_bytes > BENCH_BODY_MAX || room > BENCH_BODY_MAX)
		return -EINVAL;
	memcpy(bench_body(slot), body, body_bytes);
	n = bench_send(queue, slot, opcode, nodeid, &shape);
	if (n == 0)
		n = bench_wait(queue->bench, &queue->ring, queue->bench->poll_ns);
	if (n)
		return n;
	if (!guest_ring_take(&queue->ring, &id, &used) || id != 0)
		return -EPROTO;
	n = bench_receive(slot, used);
	if (n > 0)
		memcpy(reply, bench_reply(slot), (size_t)n);
	return n;
}

/* ---- FORGET ------------------------------------------------------------------------------------ */

static void reclaim_forgets(struct vfsd_bench *bench)
{
	uint32_t id, used;

	while (bench->num_free_forgets < BENCH_FORGETS &&
	       guest_ring_take(&bench->hiprio, &id, &used))
		bench->free_forgets[bench->num_free_forgets++] = (uint16_t)id % BENCH_FORGETS;
}

int bench_send_forget(struct vfsd_bench *bench, uint64_t nodeid, uint64_t lookups)
{
	const struct fuse_in_header header = {
		.len = sizeof(header) + sizeof(struct fuse_forget_in),
		.opcode = FUSE_FORGET,
		.nodeid = nodeid,
	};
	const struct fuse_forget_in forget = {.nlookup = lookups};
	int error = 0;

	(void)pthread_mutex_lock(&bench->hiprio_lock);
	reclaim_forgets(bench);
	while (!error && bench->num_free_forgets == 0) {
		error = bench_wait(bench, &bench->hiprio, 0);
		reclaim_forgets(bench);
	}
	if (!error) {
		uint16_t head = bench->free_forgets[--bench->num_free_forgets];
		uint8_t *at = bench->forgets + head * BENCH_FORGET_BYTES;

		memcpy(at, &header, sizeof(header));
		memcpy(at + sizeof(header), &forget, sizeof(forget));
		guest_ring_offer(&bench->hiprio, head);
		error = guest_ring_kick(&bench->hiprio);
	}
	(void)pthread_mutex_unlock(&bench->hiprio_lock);
	return error;
}

int bench_drain_forgets(struct vfsd_bench *bench)
{
	int error = 0;

	(void)pthread_mutex_lock(&bench->hiprio_lock);
	reclaim_forgets(bench);
	while (!error && bench->num_free_forgets < BENCH_FORGETS) {
		error = bench_wait(bench, &bench->hiprio, 0);
		reclaim_forgets(bench);
	}
	(void)pthread_mutex_unlock(&bench->hiprio_lock);
	return error;
}

void bench_name(char name[32], uint32_t index)
{
	/* Seven digits; printf would be a good part of the front-end's time. */
	memcpy(name, "n0000000", BENCH_NAME_BYTES);
	for (int i = 7; i > 0 && index; i--, index /= 10)
		name[i] = (char)('0' + index % 10);
}

vfsd_bench_names *vfsd_bench_names_create(uint32_t count)
{
	vfsd_bench_names *names = calloc(1, sizeof(*names) + count * sizeof(names->name[0]));

	if (names)
		names->count = count;
	return names;
}

void vfsd_bench_names_destroy(vfsd_bench_names *names)
{
	free(names);
}

int vfsd_bench_forget(vfsd_bench *bench, vfsd_bench_names *names)
{
	int error = 0;

	for (uint32_t i = 0; i < names->count && !error; i++)
		if (names->name[i].lookups) {
			error = bench_send_forget(bench, names->name[i].nodeid,
						  names->name[i].lookups);
			names->name[i] = (struct bench_name){0};
		}
	return error ? error : bench_drain_forgets(bench);
}
