/* SPDX-License-Identifier: BSD-3-Clause */
#include "fsnotify/notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>

#include "fuse/cursor.h"
#include "fsnotify/record_ring.h"
#include "base/nowait.h"
#include "fsnotify/rfc2021.h"
#include "virtio/vring.h"
#include "fuse/wire.h"

/* No message is longer: it is built in the daemon before the guest sees a byte of it. */
enum { MESSAGE_BYTES_MAX = 4096 };

struct vfsd_notify {
	struct vfsd_record_ring *records;
	bool rfc2021;
	struct vfsd_vring ring;
	int call_fd;
	bool running;
	bool broken;
	bool kick_enabled;
	struct vfsd_chain chain;
	_Alignas(8) uint8_t message[MESSAGE_BYTES_MAX];
};

_Static_assert(sizeof(struct fuse_out_header) + sizeof(struct fuse_notify_fsnotify_out) + 256 ==
		       VFSD_NOTIFY_BYTES_MIN,
	       "the smallest buffer holds the largest record");
_Static_assert((int)VFSD_RFC2021_BYTES_MAX <= (int)VFSD_NOTIFY_BYTES_MIN, "in either dialect");

int vfsd_notify_create(struct vfsd_record_ring *records, bool rfc2021, struct vfsd_notify **ret)
{
	struct vfsd_notify *notify = calloc(1, sizeof(*notify));

	if (!notify)
		return -ENOMEM;
	notify->records = records;
	notify->rfc2021 = rfc2021;
	notify->call_fd = -1;
	*ret = notify;
	return 0;
}

void vfsd_notify_destroy(struct vfsd_notify *notify)
{
	free(notify);
}

int vfsd_notify_start(struct vfsd_notify *notify, const struct vfsd_mem *mem,
		      const struct vfsd_vring_setup *setup, int call_fd)
{
	int err = vfsd_vring_init(&notify->ring, mem, setup);

	if (err)
		return err;
	notify->call_fd = call_fd;
	notify->running = true;
	notify->broken = false;
	notify->kick_enabled = false;
	vfsd_vring_disable_kick(&notify->ring);
	return 0;
}

uint16_t vfsd_notify_stop(struct vfsd_notify *notify)
{
	notify->running = false;
	notify->call_fd = -1;
	return vfsd_vring_base(&notify->ring);
}

void vfsd_notify_set_call(struct vfsd_notify *notify, int call_fd)
{
	notify->call_fd = call_fd;
}

/* One record as the guest reads it, at @at; 0 if it does not fit into @room. */
static uint32_t encode(const struct vfsd_record *record, uint8_t *at, uint32_t room)
{
	const struct fuse_notify_fsnotify_out overflow = {.mask = FAN_Q_OVERFLOW};
	const void *payload = record->payload;
	uint32_t bytes = record->size - (uint32_t)sizeof(*record);

	if (record->type == VFSD_RECORD_LOSS) {
		payload = &overflow;
		bytes = sizeof(overflow);
	}
	if (bytes > room)
		return 0;
	memcpy(at, payload, bytes);
	return bytes;
}

/* Move records into the message until @capacity is used up. Returns its length. */
static uint32_t compose(struct vfsd_notify *notify, uint32_t capacity)
{
	struct fuse_out_header header = {.error = FUSE_NOTIFY_FSNOTIFY};
	uint32_t used = sizeof(header);
	const struct vfsd_record *record;

	while ((record = vfsd_record_ring_peek(notify->records)) != NULL) {
		uint32_t bytes = encode(record, notify->message + used, capacity - used);

		if (bytes == 0)
			break;
		used += bytes;
		vfsd_record_ring_consume(notify->records);
	}
	header.len = used;
	memcpy(notify->message, &header, sizeof(header));
	return used;
}

/* The oldest record as a message of the dialect of 2021. Returns its length. */
static uint32_t compose_rfc2021(struct vfsd_notify *notify)
{
	uint32_t used =
		vfsd_rfc2021_encode(vfsd_record_ring_peek(notify->records), notify->message);

	vfsd_record_ring_consume(notify->records);
	return used;
}

/* Fill one buffer. False: it is smaller than notify_buf_size permits. */
static bool fill(struct vfsd_notify *notify)
{
	struct vfsd_chain *chain = &notify->chain;
	struct vfsd_cursor cursor;
	uint32_t used;

	if (chain->out_bytes < VFSD_NOTIFY_BYTES_MIN)
		return false;
	if (notify->rfc2021)
		used = compose_rfc2021(notify);
	else
		used = compose(notify, chain->out_bytes < MESSAGE_BYTES_MAX ?
					       (uint32_t)chain->out_bytes :
					       MESSAGE_BYTES_MAX);
	vfsd_cursor_init(&cursor, chain->iov + chain->n_in, chain->n_out);
	(void)vfsd_cursor_write(&cursor, notify->message, used);
	vfsd_vring_log_out(&notify->ring, chain->iov + chain->n_in, chain->n_out);
	vfsd_vring_push(&notify->ring, chain->head, used);
	return true;
}

/* 1: a chain is in notify->chain; 0: there is none, and the driver will kick for the next; -EPROTO. */
static int next_buffer(struct vfsd_notify *notify)
{
	for (;;) {
		int got = vfsd_vring_pop(&notify->ring, &notify->chain);

		if (got != 0) {
			if (notify->kick_enabled)
				vfsd_vring_disable_kick(&notify->ring);
			notify->kick_enabled = false;
			return got;
		}
		notify->kick_enabled = true;
		if (!vfsd_vring_enable_kick(&notify->ring))
			return 0;
	}
}

int vfsd_notify_flush(struct vfsd_notify *notify)
{
	bool pushed = false;
	int got = 0;

	if (!notify->running || notify->broken)
		return 0;
	while (vfsd_record_ring_peek(notify->records)) {
		got = next_buffer(notify);
		if (got <= 0)
			break;
		if (!fill(notify)) {
			got = -EPROTO;
			break;
		}
		pushed = true;
	}
	if (pushed && vfsd_vring_should_notify(&notify->ring))
		(void)vfsd_nowait_signal(notify->call_fd);
	if (got < 0) {
		notify->broken = true;
		return -EPROTO;
	}
	return 0;
}
