/* SPDX-License-Identifier: BSD-3-Clause */
#include "migrate/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/nowait.h"
#include "base/thread.h"
#include "base/util.h"

enum { FIRST_ROOM_BYTES = 1 << 16 };

struct vfsd_transfer {
	struct vfsd_thread thread;
	int fd;
	int stop_fd;
	int error;
	uint8_t *data;
	size_t bytes; /* there, or received */
	size_t room;  /* for receiving */
	size_t max;
};

/* Wait until the pipe is ready. False: vfsd_transfer_end() was called before. */
static bool wait_for(const struct vfsd_transfer *transfer, short events)
{
	struct pollfd fds[] = {
		{.fd = transfer->fd, .events = events},
		{.fd = transfer->stop_fd, .events = POLLIN},
	};

	while (poll(fds, VFSD_ARRAY_SIZE(fds), -1) < 0)
		if (errno != EINTR)
			return false;
	/* What has arrived before the stop counts. */
	return fds[0].revents != 0;
}

static int send_all(struct vfsd_transfer *transfer)
{
	size_t at = 0;

	while (at < transfer->bytes) {
		ssize_t n =
			vfsd_nowait_write(transfer->fd, transfer->data + at, transfer->bytes - at);

		if (n >= 0)
			at += (size_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			return -errno;
		else if (errno == EAGAIN && !wait_for(transfer, POLLOUT))
			return -ECANCELED;
	}
	return 0;
}

static int make_room(struct vfsd_transfer *transfer)
{
	size_t room = transfer->room ? transfer->room * 2 : FIRST_ROOM_BYTES;
	uint8_t *data;

	if (transfer->room >= transfer->max)
		return -EFBIG;
	if (room > transfer->max)
		room = transfer->max;
	data = realloc(transfer->data, room);
	if (!data)
		return -ENOMEM;
	transfer->data = data;
	transfer->room = room;
	return 0;
}

static int receive_all(struct vfsd_transfer *transfer)
{
	for (;;) {
		ssize_t n;

		if (transfer->bytes == transfer->room) {
			int error = make_room(transfer);

			if (error)
				return error;
		}
		n = vfsd_nowait_read(transfer->fd, transfer->data + transfer->bytes,
				     transfer->room - transfer->bytes);
		if (n == 0)
			return 0;
		if (n > 0)
			transfer->bytes += (size_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			return -errno;
		else if (errno == EAGAIN && !wait_for(transfer, POLLIN))
			return -ECANCELED;
	}
}

static void run(void *arg)
{
	struct vfsd_transfer *transfer = arg;

	transfer->error = transfer->max ? receive_all(transfer) : send_all(transfer);
	/* Its end is how the other side learns that this was all. */
	(void)close(vfsd_fd_take(&transfer->fd));
}

static void transfer_free(struct vfsd_transfer *transfer)
{
	if (transfer->fd >= 0)
		(void)close(transfer->fd);
	if (transfer->stop_fd >= 0)
		(void)close(transfer->stop_fd);
	free(transfer->data);
	free(transfer);
}

/* @max 0: send. Consumes fd and data. */
static int start(int fd, void *data, size_t bytes, size_t max, struct vfsd_transfer **ret)
{
	struct vfsd_transfer *transfer = malloc(sizeof(*transfer));
	int flags;
	int error;

	if (!transfer) {
		(void)close(fd);
		free(data);
		return -ENOMEM;
	}
	*transfer = (struct vfsd_transfer){
		.fd = fd, .data = data, .bytes = bytes, .max = max, .stop_fd = -1};
	transfer->stop_fd = eventfd(0, EFD_CLOEXEC);
	flags = fcntl(fd, F_GETFL);
	if (transfer->stop_fd < 0 || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		error = -errno;
		transfer_free(transfer);
		return error;
	}
	error = vfsd_thread_start(&transfer->thread, "vfsd-state", run, transfer);
	if (error)
		transfer_free(transfer);
	else
		*ret = transfer;
	return error;
}

int vfsd_transfer_send(int fd, void *data, size_t bytes, struct vfsd_transfer **ret)
{
	return start(fd, data, bytes, 0, ret);
}

int vfsd_transfer_receive(int fd, size_t max, struct vfsd_transfer **ret)
{
	return start(fd, NULL, 0, max, ret);
}

int vfsd_transfer_end(struct vfsd_transfer *transfer, void **data, size_t *bytes)
{
	int error;

	(void)eventfd_write(transfer->stop_fd, 1);
	vfsd_thread_join(&transfer->thread);
	error = transfer->error;
	if (data && !error) {
		*data = transfer->data;
		*bytes = transfer->bytes;
		transfer->data = NULL;
	}
	transfer_free(transfer);
	return error;
}
