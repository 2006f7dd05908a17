/* SPDX-License-Identifier: BSD-3-Clause */
#include "driver_ring.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

enum { WAIT_MS = 30000 };

uint64_t vfsd_bench_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int vfsd_driver_ring_init(struct vfsd_driver_ring *ring, void *memory, uint32_t num)
{
	uint8_t *at = memory;
	size_t used = vfsd_vring_desc_bytes(num) + vfsd_vring_avail_bytes(num);

	*ring = (struct vfsd_driver_ring){
		.num = num,
		.desc = memory,
		.avail = (void *)(at + vfsd_vring_desc_bytes(num)),
		.used = (void *)(at + VFSD_ALIGN_UP(used, (size_t)VFSD_VRING_USED_ALIGN)),
		.kick_fd = eventfd(0, EFD_CLOEXEC),
		.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.alarm_fd = -1,
	};
	return ring->kick_fd < 0 || ring->call_fd < 0 ? -errno : 0;
}

void vfsd_driver_ring_deinit(struct vfsd_driver_ring *ring)
{
	if (ring->kick_fd >= 0)
		(void)close(ring->kick_fd);
	if (ring->call_fd >= 0)
		(void)close(ring->call_fd);
}

int vfsd_driver_ring_offer(struct vfsd_driver_ring *ring, uint16_t head)
{
	uint16_t wanted;

	vfsd_vring_store(&ring->avail->ring[ring->next_avail % ring->num], head);
	vfsd_vring_store_release(&ring->avail->idx, ++ring->next_avail);
	vfsd_vring_full_fence();
	wanted = vfsd_vring_load(vfsd_vring_avail_event(ring->used, ring->num));
	if (wanted == (uint16_t)(ring->next_avail - 1) && eventfd_write(ring->kick_fd, 1) < 0)
		return -errno;
	return 0;
}

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

/* Until the device signals, perhaps for something that was seen already. */
static int sleep_until_called(struct vfsd_driver_ring *ring)
{
	struct pollfd fds[] = {{.fd = ring->call_fd, .events = POLLIN},
			       {.fd = ring->alarm_fd, .events = POLLIN}};
	eventfd_t count;
	int n;

	do
		n = poll(fds, VFSD_ARRAY_SIZE(fds), WAIT_MS);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ETIMEDOUT;
	if (fds[0].revents == 0)
		return -EPIPE;
	(void)eventfd_read(ring->call_fd, &count);
	return 0;
}

int vfsd_driver_ring_wait(struct vfsd_driver_ring *ring)
{
	uint64_t end;
	int error = 0;

	while (!error && vfsd_driver_ring_ready(ring) == 0) {
		/* used_event: the device signals when it uses the entry of this index. */
		vfsd_vring_store(&ring->avail->ring[ring->num], ring->next_used);
		vfsd_vring_full_fence();
		if (ring->poll_ns) {
			end = vfsd_bench_now_ns() + ring->poll_ns;
			while (vfsd_driver_ring_ready(ring) == 0 && vfsd_bench_now_ns() < end)
				relax();
		}
		if (vfsd_driver_ring_ready(ring) == 0)
			error = sleep_until_called(ring);
	}
	return error;
}
