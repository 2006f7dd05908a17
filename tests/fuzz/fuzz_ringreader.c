/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring's reader against memory that somebody hostile owns. The input is what is in it: a byte how
 * often it changes between two records, dropped, head and tail, and then the data, at the end of which
 * and at whose beginning again it lies, so that both sides of the wrap are reached.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#define VFSD_CHECK_ABORT
#include "check.h"
#include "watch/shm_reader.h"
#include "watch/shm_ring.h"

enum {
	BYTES = VFSD_SHM_RING_BYTES_MIN,
	WHOLE = VFSD_SHM_RING_DATA_OFFSET + BYTES,
	HEADER = 1 + 3 * 8,
	NEAR_END = 256, /* bytes of data that come before the wrap */
};

static struct {
	int fd;
	uint8_t *memory;
} ring;

static void make_ring(void)
{
	if (ring.memory)
		return;
	ring.fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(ftruncate(ring.fd, WHOLE) == 0);
	CHECK(fcntl(ring.fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	ring.memory = mmap(NULL, WHOLE, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, 0);
	CHECK(ring.memory != MAP_FAILED);
}

/* Records as the daemon writes them, from just before the wrap on. */
size_t vfsd_fuzz_seed(uint32_t index, uint8_t *bytes, size_t max)
{
	struct vfsd_shm_record record = {.type = VFSD_RECORD_FSNOTIFY, .size = 48, .bytes = 30};
	uint64_t tail = BYTES - NEAR_END, head = tail, dropped = index;
	size_t at = HEADER;

	if (index >= 3)
		return 0;
	memset(bytes, 0, max);
	for (int i = 0; i < 10; i++) {
		if (index == 2 && i == 5) {
			const struct vfsd_shm_record loss = {
				.type = VFSD_RECORD_LOSS, .size = 24, .bytes = 8};

			memcpy(bytes + at, &loss, sizeof(loss));
			memcpy(bytes + at + sizeof(loss), &dropped, sizeof(dropped));
			at += loss.size;
		} else if (NEAR_END - (at - HEADER) < record.size && at - HEADER < NEAR_END) {
			const struct vfsd_shm_record skip = {
				.size = (uint32_t)(NEAR_END - (at - HEADER))};

			memcpy(bytes + at, &skip, 8);
			at += skip.size;
		} else {
			record.type = (uint16_t)(1 + i % 6);
			record.type = record.type == VFSD_RECORD_LOSS ? 3 : record.type;
			memcpy(bytes + at, &record, sizeof(record));
			at += record.size;
		}
	}
	head += at - HEADER;
	bytes[0] = (uint8_t)index;
	memcpy(bytes + 1, &dropped, 8);
	memcpy(bytes + 9, &head, 8);
	memcpy(bytes + 17, &tail, 8);
	CHECK(at <= max);
	return at;
}

static void fill(const uint8_t *data, size_t size)
{
	size_t first = size < NEAR_END ? size : NEAR_END;

	memcpy(ring.memory + WHOLE - NEAR_END, data, first);
	memcpy(ring.memory + VFSD_SHM_RING_DATA_OFFSET, data + first, size - first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vfsd_shm_ring_producer *producer;
	vfsd_shm_reader *reader;
	vfsd_ring_entry entry;
	int got, err;

	make_ring();
	if (size < HEADER || size - HEADER > BYTES)
		return 0;
	producer = (struct vfsd_shm_ring_producer *)(void *)ring.memory;
	*producer = (struct vfsd_shm_ring_producer){
		.magic = VFSD_SHM_RING_MAGIC,
		.version = VFSD_SHM_RING_VERSION,
		.data_bytes = data[0] & 0x80 ? UINT64_MAX : BYTES,
	};
	memcpy(&producer->dropped, data + 1, 8);
	memcpy(&producer->head, data + 9, 8);
	memcpy(ring.memory + 4096, data + 17, 8);
	fill(data + HEADER, size - HEADER);
	err = vfsd_shm_reader_create(ring.fd, &reader);
	if (err) {
		CHECK_EQ(err, -EINVAL);
		return 0;
	}
	/* A ring of the smallest records; and the last loss. */
	for (uint32_t n = 0; (got = vfsd_shm_reader_next(reader, &entry)) == 1; n++) {
		uint8_t sum = 0;

		CHECK(entry.type != VFSD_RECORD_SKIP);
		for (uint32_t i = 0; i < entry.bytes; i++)
			sum = (uint8_t)(sum + ((const uint8_t *)entry.payload)[i]);
		/* Under our hands: what was shown must not be believed a second time. */
		if (data[0] & 1)
			memset(ring.memory + VFSD_SHM_RING_DATA_OFFSET, sum, 64);
		if (data[0] & 2)
			producer->head += 8;
		if (data[0] & 4)
			memset(ring.memory + 4096, 0xff, 8);
		vfsd_shm_reader_release(reader);
		if (n > 2 * BYTES / 8)
			break; /* it feeds us for ever, which is its right */
		CHECK(n <= BYTES / 8 + 1 || (data[0] & 3));
	}
	CHECK(got == 1 || got == 0 || got == -EBADMSG);
	if (got == -EBADMSG)
		CHECK_EQ(vfsd_shm_reader_next(reader, &entry), -EBADMSG);
	vfsd_shm_reader_destroy(reader);
	return 0;
}
