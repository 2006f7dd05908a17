/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log: which bits a write sets, what is no log, and both sides changing it at once.
 */
#include "virtio/dirty_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "guest.h"

enum { PAGE = VFSD_DIRTYLOG_PAGE_BYTES };

struct log {
	struct vfsd_dirtylog *log;
	uint8_t *view;
	size_t bytes;
};

static void log_create(struct log *log, size_t bytes, uint64_t offset)
{
	int fd = memfd_create("log", MFD_CLOEXEC);
	uint8_t *view;

	CHECK(fd >= 0 && ftruncate(fd, (off_t)(offset + bytes)) == 0);
	view = mmap(NULL, offset + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(view != MAP_FAILED);
	CHECK_EQ(vfsd_dirtylog_create(fd, bytes, offset, &log->log), 0);
	log->view = view + offset;
	log->bytes = bytes;
}

static size_t count(const struct log *log)
{
	size_t n = 0;

	for (size_t i = 0; i < log->bytes; i++)
		n += (size_t)__builtin_popcount(log->view[i]);
	return n;
}

static bool is_marked(const struct log *log, uint64_t page)
{
	return log->view[page / 8] & 1u << page % 8;
}

static void test_marks(uint64_t offset)
{
	struct log log;

	log_create(&log, 4, offset); /* 32 pages */
	vfsd_dirtylog_mark(log.log, 0, 0);
	vfsd_dirtylog_mark(log.log, UINT64_MAX, 0);
	CHECK_EQ(count(&log), 0);
	vfsd_dirtylog_mark(log.log, 3 * PAGE, 1);
	CHECK(is_marked(&log, 3) && count(&log) == 1);
	vfsd_dirtylog_mark(log.log, 5 * PAGE - 1, 2);
	CHECK(is_marked(&log, 4) && is_marked(&log, 5) && count(&log) == 3);
	vfsd_dirtylog_mark(log.log, 8 * PAGE, 9 * PAGE);
	CHECK(!is_marked(&log, 7) && is_marked(&log, 8) && is_marked(&log, 16) &&
	      !is_marked(&log, 17));
	/* Beyond its end is nowhere. */
	vfsd_dirtylog_mark(log.log, 31 * PAGE, UINT64_C(1) << 40);
	CHECK(is_marked(&log, 31));
	vfsd_dirtylog_mark(log.log, 32 * PAGE, PAGE);
	vfsd_dirtylog_mark(log.log, UINT64_MAX, 1);
	vfsd_dirtylog_mark(log.log, UINT64_MAX, 2);
	vfsd_dirtylog_mark(log.log, 2, UINT64_MAX);
	CHECK_EQ(count(&log), 13);
	vfsd_dirtylog_destroy(log.log);
	(void)munmap(log.view - offset, offset + log.bytes);
}

static void test_no_logs(void)
{
	struct vfsd_dirtylog *log;
	int fd = memfd_create("log", MFD_CLOEXEC);
	int pipes[2];

	CHECK(ftruncate(fd, 4096) == 0);
	CHECK_EQ(vfsd_dirtylog_create(dup(fd), 0, 0, &log), -EINVAL);
	CHECK_EQ(vfsd_dirtylog_create(dup(fd), 4097, 0, &log), -EINVAL);
	CHECK_EQ(vfsd_dirtylog_create(dup(fd), 4096, 1, &log), -EINVAL);
	CHECK_EQ(vfsd_dirtylog_create(dup(fd), 1, UINT64_MAX, &log), -EINVAL);
	CHECK_EQ(vfsd_dirtylog_create(dup(fd), UINT64_MAX, 2, &log), -EINVAL);
	CHECK_EQ(vfsd_dirtylog_create(-1, 1, 0, &log), -EBADF);
	CHECK(pipe2(pipes, O_CLOEXEC) == 0);
	CHECK_EQ(vfsd_dirtylog_create(pipes[0], 1, 0, &log), -EINVAL);
	(void)close(pipes[1]);
	(void)close(fd);
	vfsd_dirtylog_destroy(NULL);
}

static void test_guest_memory(void)
{
	uint64_t pages = (GUEST_HIGH_GPA + GUEST_HIGH_BYTES) / PAGE;
	struct guest guest;
	struct log log, small;
	struct iovec iov[2];
	uint64_t len;
	void *host;

	guest_create(&guest);
	log_create(&log, pages / 8, 0);
	log_create(&small, pages / 8 - 1, 0);
	CHECK(vfsd_dirtylog_covers(log.log, guest.mem));
	CHECK(!vfsd_dirtylog_covers(small.log, guest.mem));
	CHECK(vfsd_dirtylog_covers(small.log, NULL));

	CHECK_EQ(vfsd_mem_gpa(guest.mem, GUEST_NEXT_GPA + 5 * PAGE + 1, PAGE, &host, &len), 0);
	iov[0] = (struct iovec){.iov_base = host, .iov_len = PAGE};
	CHECK_EQ(vfsd_mem_gpa(guest.mem, GUEST_HIGH_GPA, PAGE, &host, &len), 0);
	iov[1] = (struct iovec){.iov_base = host, .iov_len = PAGE};
	vfsd_dirtylog_mark_iov(log.log, guest.mem, iov, 2);
	CHECK(is_marked(&log, GUEST_NEXT_GPA / PAGE + 5) &&
	      is_marked(&log, GUEST_NEXT_GPA / PAGE + 6) && is_marked(&log, GUEST_HIGH_GPA / PAGE));
	CHECK_EQ(count(&log), 3);
	/* Not of this memory: left out. */
	iov[0] = (struct iovec){.iov_base = &guest, .iov_len = 1};
	vfsd_dirtylog_mark_iov(log.log, guest.mem, iov, 1);
	CHECK_EQ(count(&log), 3);
	vfsd_dirtylog_destroy(log.log);
	vfsd_dirtylog_destroy(small.log);
	guest_destroy(&guest);
}

/* What a device writes, and the bits of it. */
static void test_ring(bool event_idx)
{
	struct guest guest;
	struct guest_ring driver;
	struct vfsd_vring ring;
	struct vfsd_vring_setup setup = guest_setup(8, event_idx, 0);
	static struct vfsd_chain chain;
	struct log log, used;
	uint64_t used_page = (GUEST_LOW_GPA + 5 * PAGE) / PAGE;

	guest_create(&guest);
	log_create(&log, (GUEST_HIGH_GPA + GUEST_HIGH_BYTES) / PAGE / 8, 0);
	log_create(&used, 16, 0);
	guest_ring_init(&driver, &ring, &guest, 8, event_idx, 0);
	setup.log = log.log;
	setup.used_log = used.log;
	setup.used_gpa = used_page * PAGE;
	CHECK_EQ(vfsd_vring_init(&ring, guest.mem, &setup), 0);
	CHECK(is_marked(&used, used_page)); /* kicks were enabled */
	used.view[used_page / 8] = 0;

	driver.desc[0] = guest_desc(GUEST_DATA, 64, VFSD_VRING_DESC_NEXT, 1);
	driver.desc[1] = guest_desc(GUEST_NEXT_GPA + PAGE, 2 * PAGE, VFSD_VRING_DESC_WRITE, 0);
	guest_ring_offer(&driver, 0);
	(void)guest_ring_publish(&driver);
	CHECK_EQ(vfsd_vring_pop(&ring, &chain), 1);
	CHECK_EQ(count(&log) + count(&used), 0);
	vfsd_vring_log_out(&ring, chain.iov + chain.n_in, chain.n_out);
	CHECK_EQ(count(&log), 2);
	CHECK(is_marked(&log, GUEST_NEXT_GPA / PAGE + 1));
	vfsd_vring_push(&ring, chain.head, 16);
	CHECK(is_marked(&used, used_page));
	used.view[used_page / 8] = 0;
	(void)vfsd_vring_should_notify(&ring);
	CHECK(is_marked(&used, used_page));
	used.view[used_page / 8] = 0;
	(void)vfsd_vring_enable_kick(&ring);
	CHECK(is_marked(&used, used_page));
	used.view[used_page / 8] = 0;
	vfsd_vring_disable_kick(&ring);
	CHECK_EQ(is_marked(&used, used_page), !event_idx);
	vfsd_dirtylog_destroy(log.log);
	vfsd_dirtylog_destroy(used.log);
	guest_destroy(&guest);
}

static void test_signal(void)
{
	struct log log;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t count;

	log_create(&log, 1, 0);
	vfsd_dirtylog_signal(log.log);
	vfsd_dirtylog_set_signal(log.log, fd);
	CHECK(eventfd_read(fd, &count) < 0);
	vfsd_dirtylog_signal(log.log);
	CHECK(eventfd_read(fd, &count) == 0);
	vfsd_dirtylog_set_signal(log.log, -1);
	vfsd_dirtylog_signal(log.log);
	CHECK(eventfd_read(fd, &count) < 0);
	vfsd_dirtylog_destroy(log.log);
	(void)close(fd);
}

/* Two devices' threads mark and a front-end takes: what was written last is never left behind. */
enum { ROUNDS = 20000, WRITERS = 2, WORDS = 16 };

static struct {
	struct log log;
	_Atomic uint64_t memory[WRITERS][WORDS]; /* of word w: page w */
	uint64_t copy[WRITERS][WORDS];
	_Atomic int writing;
} race;

static void *write_and_mark(void *arg)
{
	size_t who = (size_t)(uintptr_t)arg;

	for (uint64_t i = 1; i <= ROUNDS; i++) {
		size_t word = i % WORDS;

		atomic_store_explicit(&race.memory[who][word], i, memory_order_relaxed);
		vfsd_dirtylog_mark(race.log.log, word * PAGE, 8);
	}
	atomic_fetch_sub(&race.writing, 1);
	return NULL;
}

static void take_and_copy(void)
{
	for (size_t byte = 0; byte < WORDS / 8; byte++) {
		uint8_t bits = __atomic_exchange_n(&race.log.view[byte], 0, __ATOMIC_ACQUIRE);

		for (size_t bit = 0; bit < 8; bit++)
			for (size_t who = 0; bits & 1u << bit && who < WRITERS; who++)
				race.copy[who][byte * 8 + bit] = atomic_load_explicit(
					&race.memory[who][byte * 8 + bit], memory_order_relaxed);
	}
}

static void test_nothing_is_left_behind(void)
{
	pthread_t threads[WRITERS];

	log_create(&race.log, WORDS / 8, 0);
	atomic_store(&race.writing, WRITERS);
	for (size_t i = 0; i < WRITERS; i++)
		CHECK(pthread_create(&threads[i], NULL, write_and_mark, (void *)(uintptr_t)i) == 0);
	while (atomic_load(&race.writing) > 0)
		take_and_copy();
	take_and_copy();
	for (size_t i = 0; i < WRITERS; i++) {
		CHECK(pthread_join(threads[i], NULL) == 0);
		for (size_t word = 0; word < WORDS; word++)
			CHECK_EQ(race.copy[i][word], atomic_load(&race.memory[i][word]));
	}
	vfsd_dirtylog_destroy(race.log.log);
}

int main(void)
{
	test_marks(0);
	test_marks(4096);
	test_marks(4096 + 3);
	test_no_logs();
	test_guest_memory();
	test_ring(false);
	test_ring(true);
	test_signal();
	test_nothing_is_left_behind();
	return 0;
}
