/* SPDX-License-Identifier: BSD-3-Clause */
#include "watch/shm_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "watch/shm_ring.h"

/* At most a skip, a loss that was reported already and another skip lie between two records. */
enum { UNSEEN_MAX = 3 };

struct vfsd_shm_reader {
	struct vfsd_shm_ring_producer *producer;
	struct vfsd_shm_ring_consumer *consumer;
	const uint8_t *data;
	uint64_t size;	   /* checked once */
	uint64_t tail;	   /* what holds; the shared one is for the producer */
	uint64_t reported; /* lost records, so far */
	uint64_t step;	   /* what release adds to tail */
	bool broken;
};

static bool cannot_shrink(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK);
}

int vfsd_shm_reader_create(int fd, vfsd_shm_reader **ret)
{
	struct vfsd_shm_reader *reader;
	struct stat st;
	uint64_t size;
	uint8_t *memory;

	if (fstat(fd, &st) < 0)
		return -errno;
	size = (uint64_t)st.st_size - VFSD_SHM_RING_DATA_OFFSET;
	if (!cannot_shrink(fd) || st.st_size < VFSD_SHM_RING_DATA_OFFSET ||
	    size < VFSD_SHM_RING_BYTES_MIN || size > VFSD_SHM_RING_BYTES_MAX ||
	    (size & (size - 1)) != 0)
		return -EINVAL;
	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		int err = -errno;

		free(reader);
		return err;
	}
	reader->producer = (struct vfsd_shm_ring_producer *)(void *)memory;
	reader->consumer = (struct vfsd_shm_ring_consumer *)(void *)(memory + 4096);
	reader->data = memory + VFSD_SHM_RING_DATA_OFFSET;
	reader->size = size;
	reader->tail = atomic_load(&reader->consumer->tail);
	if (reader->producer->magic != VFSD_SHM_RING_MAGIC ||
	    reader->producer->version != VFSD_SHM_RING_VERSION ||
	    reader->tail % VFSD_RECORD_ALIGN != 0) {
		vfsd_shm_reader_destroy(reader);
		return -EINVAL;
	}
	*ret = reader;
	return 0;
}

void vfsd_shm_reader_destroy(vfsd_shm_reader *reader)
{
	if (!reader)
		return;
	(void)munmap(reader->producer, (size_t)reader->size + VFSD_SHM_RING_DATA_OFFSET);
	free(reader);
}

static int broken(struct vfsd_shm_reader *reader)
{
	reader->broken = true;
	reader->step = 0;
	return -EBADMSG;
}

/* The header at the tail, checked, with @used bytes written from there on. 0 or -EBADMSG. */
static int header_at_tail(const struct vfsd_shm_reader *reader, uint64_t used,
			  struct vfsd_shm_record *ret)
{
	uint64_t at = reader->tail & (reader->size - 1);
	uint64_t room = reader->size - at;

	/* Type and size; a skip record may have no more. */
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, reader->data + at, VFSD_RECORD_ALIGN);
	if (ret->size < VFSD_RECORD_ALIGN || ret->size % VFSD_RECORD_ALIGN != 0 ||
	    ret->size > room || ret->size > used)
		return -EBADMSG;
	if (ret->type == VFSD_RECORD_SKIP)
		return 0;
	if (ret->size < sizeof(*ret))
		return -EBADMSG;
	memcpy((uint8_t *)ret + VFSD_RECORD_ALIGN, reader->data + at + VFSD_RECORD_ALIGN,
	       sizeof(*ret) - VFSD_RECORD_ALIGN);
	return ret->bytes <= ret->size - sizeof(*ret) ? 0 : -EBADMSG;
}

static int report_loss(struct vfsd_shm_reader *reader, uint64_t total, uint64_t step,
		       vfsd_ring_entry *ret)
{
	*ret = (vfsd_ring_entry){.type = VFSD_RECORD_LOSS, .lost = total - reader->reported};
	reader->reported = total;
	reader->step = step;
	return 1;
}

int vfsd_shm_reader_next(vfsd_shm_reader *reader, vfsd_ring_entry *ret)
{
	struct vfsd_shm_record header;
	uint64_t dropped, head, total;
	const uint8_t *payload;

	for (int unseen = 0; unseen <= UNSEEN_MAX; unseen++) {
		reader->step = 0;
		if (reader->broken)
			return -EBADMSG;
		/* In this order: what was dropped so far is missing after all that is before head. */
		dropped = atomic_load(&reader->producer->dropped);
		head = atomic_load(&reader->producer->head);
		if (head == reader->tail && dropped > reader->reported)
			return report_loss(reader, dropped, 0, ret);
		if (head == reader->tail)
			return 0;
		if (head - reader->tail > reader->size || head % VFSD_RECORD_ALIGN != 0 ||
		    header_at_tail(reader, head - reader->tail, &header) < 0)
			return broken(reader);
		payload = reader->data + (reader->tail & (reader->size - 1)) + sizeof(header);
		reader->step = header.size;
		if (header.type == VFSD_RECORD_LOSS) {
			if (header.bytes != sizeof(total))
				return broken(reader);
			memcpy(&total, payload, sizeof(total));
			if (total > reader->reported)
				return report_loss(reader, total, header.size, ret);
		} else if (header.type != VFSD_RECORD_SKIP) {
			*ret = (vfsd_ring_entry){
				.type = header.type,
				.subtype = header.subtype,
				.watch = header.watch,
				.bytes = header.bytes,
				.payload = payload,
			};
			return 1;
		}
		vfsd_shm_reader_release(reader);
	}
	return broken(reader);
}

void vfsd_shm_reader_release(vfsd_shm_reader *reader)
{
	if (reader->step == 0)
		return;
	reader->tail += reader->step;
	reader->step = 0;
	atomic_store(&reader->consumer->tail, reader->tail);
}
