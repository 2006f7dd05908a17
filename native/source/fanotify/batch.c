/* SPDX-License-Identifier: BSD-3-Clause */
#include "source/fanotify/batch.h"

#include "base/log.h"

int vfsd_fan_batch_init(struct vfsd_fan_batch *batch, int group, pid_t self)
{
	int err = vfsd_read_buffer_init(&batch->buffer, group);

	batch->malformed = false;
	return err ? err : vfsd_fan_events_init(&batch->events, self, VFSD_READ_BUFFER_ALL);
}

void vfsd_fan_batch_free(struct vfsd_fan_batch *batch)
{
	vfsd_read_buffer_free(&batch->buffer);
	vfsd_fan_events_free(&batch->events);
}

static void decode(struct vfsd_fan_batch *batch)
{
	struct vfsd_read_buffer *buffer = &batch->buffer;

	buffer->at +=
		vfsd_fan_decode(&batch->events, buffer->at, (size_t)(buffer->end - buffer->at));
	if (buffer->at == buffer->end)
		return;
	VFSD_LOG_LIMITED(VFSD_LOG_ERROR, "fanotify: malformed event bytes=%td",
			 buffer->end - buffer->at);
	buffer->at = buffer->end;
	batch->malformed = true;
}

int vfsd_fan_batch_read(struct vfsd_fan_batch *batch)
{
	int got = vfsd_read_buffer_read(&batch->buffer);

	vfsd_fan_events_clear(&batch->events);
	if (got > 0)
		decode(batch);
	return got;
}

bool vfsd_fan_batch_more(struct vfsd_fan_batch *batch, uint32_t upto, bool *all)
{
	const uint32_t most = VFSD_READ_BUFFER_CHUNK / FAN_EVENT_METADATA_LEN;

	/* Without room for the events that one read may bring, the buffer counts as full. */
	if (batch->events.max - batch->events.count < most)
		upto = 0;
	if (!vfsd_read_buffer_more(&batch->buffer, upto, all))
		return false;
	decode(batch);
	return true;
}
