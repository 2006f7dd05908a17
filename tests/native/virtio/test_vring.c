/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring's device side against a driver that is honest, one that lies, and one in a hurry. */
#include "virtio/vring.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "guest.h"
#include "base/util.h"

enum {
	NEXT = VFSD_VRING_DESC_NEXT,
	WRITE = VFSD_VRING_DESC_WRITE,
	INDIRECT = VFSD_VRING_DESC_INDIRECT,
	DESC_BYTES = 16,
};

static struct guest guest;
static struct vfsd_chain chain;

/* A fresh ring of 8 whose table the caller fills; nothing is offered yet. */
static void start(struct guest_ring *driver, struct vfsd_vring *device)
{
	guest_ring_init(driver, device, &guest, 8, false, 0);
}

static void offer(struct guest_ring *driver, uint16_t head)
{
	guest_ring_offer(driver, head);
	(void)guest_ring_publish(driver);
}

/* Put @n descriptors into the guest's memory as an indirect table at @gpa. */
static void put_table(uint64_t gpa, const struct vfsd_vring_desc *table, size_t n)
{
	guest_write(&guest, gpa, table, n * sizeof(*table));
}

static void test_setup(void)
{
	struct vfsd_vring_setup good = guest_setup(8, false, 0), bad;
	static const uint32_t sizes[] = {0, 3, 12, VFSD_VRING_SIZE_MAX * 2, 1u << 31, UINT32_MAX};
	uint64_t *addresses[] = {&bad.desc_uva, &bad.avail_uva, &bad.used_uva};
	struct vfsd_vring device;

	CHECK_EQ(vfsd_vring_init(&device, guest.mem, &good), 0);
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(sizes); i++) {
		bad = good;
		bad.num = sizes[i];
		CHECK_EQ(vfsd_vring_init(&device, guest.mem, &bad), -EINVAL);
	}
	for (size_t i = 0; i < VFSD_ARRAY_SIZE(addresses); i++) {
		bad = good;
		*addresses[i] += 1;
		CHECK_EQ(vfsd_vring_init(&device, guest.mem, &bad), -EINVAL);
		*addresses[i] = GUEST_UVA + GUEST_NEXT_GPA + GUEST_NEXT_BYTES - 16;
		CHECK_EQ(vfsd_vring_init(&device, guest.mem, &bad), -EFAULT);
		*addresses[i] = UINT64_MAX - 15;
		CHECK_EQ(vfsd_vring_init(&device, guest.mem, &bad), -EFAULT);
	}
	bad = good;
	bad.num = VFSD_VRING_SIZE_MAX;
	CHECK_EQ(vfsd_vring_init(&device, guest.mem, &bad), 0);
}

static void test_direct(void)
{
	struct vfsd_vring device;
	struct guest_ring driver;
	uint32_t id, len;

	start(&driver, &device);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 0);
	CHECK(!vfsd_vring_pending(&device));
	CHECK(!vfsd_vring_should_notify(&device));

	driver.desc[5] = guest_desc(GUEST_DATA, 4, NEXT, 2);
	driver.desc[2] = guest_desc(GUEST_DATA + 8, 3, NEXT, 7);
	driver.desc[7] = guest_desc(GUEST_DATA + 16, 5, WRITE, 5 /* ignored: no NEXT */);
	guest_write(&guest, GUEST_DATA, "ping....pad", 11);
	offer(&driver, 5);

	CHECK(vfsd_vring_pending(&device));
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(chain.head, 5);
	CHECK_EQ(chain.n_in, 2);
	CHECK_EQ(chain.n_out, 1);
	CHECK_EQ(chain.in_bytes, 7);
	CHECK_EQ(chain.out_bytes, 5);
	CHECK(chain.iov[0].iov_len == 4 && memcmp(chain.iov[0].iov_base, "ping", 4) == 0);
	CHECK(chain.iov[1].iov_len == 3 && memcmp(chain.iov[1].iov_base, "pad", 3) == 0);
	memcpy(chain.iov[2].iov_base, "pong!", 5);
	CHECK_EQ(vfsd_vring_base(&device), 1);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 0);

	vfsd_vring_push(&device, 5, 5);
	CHECK(!guest_ring_take(&driver, &id, &len)); /* not before it is published */
	CHECK(vfsd_vring_should_notify(&device));
	CHECK(!vfsd_vring_should_notify(&device));
	CHECK(guest_ring_take(&driver, &id, &len));
	CHECK(id == 5 && len == 5);
	CHECK(memcmp(guest_at(&guest, GUEST_DATA + 16), "pong!", 5) == 0);
}

/* Several chains' beginnings are read at once; what has been read is not looked at again. */
static void test_ahead(void)
{
	struct vfsd_vring device;
	struct guest_ring driver;

	start(&driver, &device);
	/* More than the ring holds, a different number each time. */
	for (uint16_t n = 1; n <= driver.num; n++) {
		for (uint16_t i = 0; i < n; i++) {
			driver.desc[i] = guest_desc(GUEST_DATA, 100u * n + i, 0, 0);
			offer(&driver, i);
		}
		for (uint16_t i = 0; i < n; i++) {
			CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
			CHECK_EQ(chain.head, i);
			CHECK_EQ(chain.in_bytes, 100u * n + i);
		}
		CHECK_EQ(vfsd_vring_pop(&device, &chain), 0);
	}

	start(&driver, &device);
	driver.desc[0] = guest_desc(GUEST_DATA, 10, 0, 0);
	driver.desc[1] = guest_desc(GUEST_DATA, 11, 0, 0);
	offer(&driver, 0);
	offer(&driver, 1);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	driver.desc[1] = guest_desc(GUEST_DATA, 12, 0, 0);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(chain.in_bytes, 11);
	/* Put back, it is as if it had never been looked at. */
	vfsd_vring_unpop(&device, 1);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(chain.in_bytes, 12);
	vfsd_vring_unpop(&device, 1);
	vfsd_vring_unpop(&device, 0);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(chain.in_bytes, 10);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(chain.in_bytes, 12);

	/* What breaks the ring does so when it is its turn. */
	start(&driver, &device);
	driver.desc[0] = guest_desc(GUEST_DATA, 10, 0, 0);
	offer(&driver, 0);
	offer(&driver, (uint16_t)driver.num);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), -EPROTO);
	CHECK_EQ(vfsd_vring_base(&device), 1);
}

/* Chains that are given back need not be the last ones: those between have been used meanwhile. */
static void test_unpop(void)
{
	struct vfsd_vring device;
	struct guest_ring driver;

	start(&driver, &device);
	for (uint16_t round = 0; round < 3 * driver.num; round++) {
		for (uint16_t i = 0; i < 4; i++) {
			driver.desc[i] = guest_desc(GUEST_DATA, 10u + i, 0, 0);
			offer(&driver, i);
			CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
			CHECK_EQ(chain.head, i);
		}
		vfsd_vring_push(&device, 1, 0);
		vfsd_vring_push(&device, 3, 0);
		vfsd_vring_unpop(&device, 2);
		vfsd_vring_unpop(&device, 0);
		CHECK_EQ(vfsd_vring_base(&device), driver.next_avail - 2);
		/* One that the driver offers meanwhile comes behind them. */
		offer(&driver, 1);
		for (uint16_t i = 0; i < 3; i++) {
			static const uint16_t heads[] = {0, 2, 1};

			CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
			CHECK_EQ(chain.head, heads[i]);
			CHECK_EQ(chain.in_bytes, 10u + heads[i]);
		}
		CHECK_EQ(vfsd_vring_pop(&device, &chain), 0);
	}
}

static void test_indirect(void)
{
	/* In one piece, at any address; and with the second descriptor across the regions' border. */
	static const uint64_t places[] = {GUEST_TABLE, GUEST_TABLE + 1,
					  GUEST_NEXT_GPA - DESC_BYTES - 7};
	const struct vfsd_vring_desc table[] = {
		guest_desc(GUEST_DATA, 10, NEXT, 2),
		guest_desc(GUEST_HIGH_GPA, 0x1000, WRITE, 0),
		guest_desc(GUEST_DATA + 0x100, 20, NEXT, 1),
	};
	struct vfsd_vring device;
	struct guest_ring driver;

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(places); i++) {
		start(&driver, &device);
		put_table(places[i], table, 3);
		/* Its own WRITE flag means nothing; direct descriptors may come before it. */
		driver.desc[0] = guest_desc(places[i], sizeof(table), INDIRECT | WRITE, 0);
		driver.desc[1] = guest_desc(GUEST_DATA + 0x200, 5, NEXT, 0);
		offer(&driver, 0);
		offer(&driver, 1);

		CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
		CHECK_EQ(chain.n_in, 2);
		CHECK_EQ(chain.n_out, 1);
		CHECK_EQ(chain.in_bytes, 30);
		CHECK_EQ(chain.out_bytes, 0x1000);
		CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
		CHECK_EQ(chain.n_in, 3);
		CHECK_EQ(chain.in_bytes, 35);
	}
}

/* What is fetched ahead is not believed: any nonsense may wait behind a good chain. */
static void test_fetch(void)
{
	static const struct vfsd_vring_desc nonsense[] = {
		{GUEST_NEXT_GPA + GUEST_NEXT_BYTES - 1, DESC_BYTES, INDIRECT, 0},
		{UINT64_MAX, UINT32_MAX, INDIRECT | NEXT, 0xffff},
		{0, 0, 0, 0xffff},
	};
	struct vfsd_vring device;
	struct guest_ring driver;

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(nonsense); i++) {
		start(&driver, &device);
		driver.desc[0] = guest_desc(GUEST_DATA, 10, NEXT, 1);
		driver.desc[1] = guest_desc(GUEST_NEXT_GPA + GUEST_NEXT_BYTES - 1, 1, WRITE, 0);
		driver.desc[2] = guest_desc(nonsense[i].addr, nonsense[i].len, nonsense[i].flags,
					    nonsense[i].next);
		guest_ring_offer(&driver, 0);
		guest_ring_offer(&driver, 2);
		guest_ring_offer(&driver, 0xffff);
		(void)guest_ring_publish(&driver);
		CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
		vfsd_vring_prefetch(&device, &chain);
		CHECK_EQ(chain.n_in + chain.n_out, 2);
	}
}

static void test_merge(void)
{
	struct vfsd_vring device;
	struct guest_ring driver;

	/* Neighbours are one iovec, but not across the border of readable and writable. */
	start(&driver, &device);
	driver.desc[0] = guest_desc(GUEST_DATA, 0x100, NEXT, 1);
	driver.desc[1] = guest_desc(0, 0, NEXT, 2); /* empty: skipped, wherever it points */
	driver.desc[2] = guest_desc(GUEST_DATA + 0x100, 0x100, NEXT, 3);
	driver.desc[3] = guest_desc(GUEST_DATA + 0x200, 0x100, NEXT | WRITE, 4);
	driver.desc[4] = guest_desc(GUEST_DATA + 0x300, 0x100, NEXT | WRITE, 5);
	driver.desc[5] = guest_desc(GUEST_DATA + 0x500, 0x100, NEXT | WRITE, 6);
	driver.desc[6] = guest_desc(GUEST_DATA, 0, WRITE, 0);
	offer(&driver, 0);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(chain.n_in, 1);
	CHECK_EQ(chain.n_out, 2);
	CHECK_EQ(chain.iov[0].iov_len, 0x200);
	CHECK_EQ(chain.iov[1].iov_len, 0x200);
	CHECK_EQ(chain.iov[2].iov_len, 0x100);
	CHECK_EQ(chain.in_bytes, 0x200);
	CHECK_EQ(chain.out_bytes, 0x300);

	/* Nothing but emptiness is a chain too; so is one without a readable part. */
	driver.desc[0] = guest_desc(0, 0, 0, 0);
	offer(&driver, 0);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK(chain.n_in == 0 && chain.n_out == 0 && chain.in_bytes == 0 && chain.out_bytes == 0);
	driver.desc[0] = guest_desc(GUEST_DATA, 9, WRITE, 0);
	offer(&driver, 0);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK(chain.n_in == 0 && chain.n_out == 1 && chain.in_bytes == 0 && chain.out_bytes == 9);

	/* A buffer across two regions: the bytes are right, however the mappings lie. */
	driver.desc[0] = guest_desc(GUEST_NEXT_GPA - 3, 6, 0, 0);
	guest_write(&guest, GUEST_NEXT_GPA - 3, "abcdef", 6);
	offer(&driver, 0);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK(chain.n_in >= 1 && chain.n_in <= 2 && chain.in_bytes == 6);
	CHECK(memcmp(chain.iov[0].iov_base, "abc", 3) == 0);
	CHECK(*((char *)chain.iov[chain.n_in - 1].iov_base + chain.iov[chain.n_in - 1].iov_len -
		1) == 'f');
}

/* The ring is broken, and stays where it was. */
static void check_broken(struct guest_ring *driver, struct vfsd_vring *device, uint16_t head)
{
	uint16_t base = vfsd_vring_base(device);

	offer(driver, head);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(vfsd_vring_pop(device, &chain), -EPROTO);
	CHECK_EQ(vfsd_vring_base(device), base);
}

static void check_broken_table(const struct vfsd_vring_desc *table, size_t n, uint32_t bytes)
{
	/* Where it is read in place, and twice where it is copied first: unaligned, in two pieces. */
	static const uint64_t places[] = {GUEST_TABLE, GUEST_TABLE + 4,
					  GUEST_NEXT_GPA - DESC_BYTES / 2};
	struct vfsd_vring device;
	struct guest_ring driver;

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(places); i++) {
		start(&driver, &device);
		put_table(places[i], table, n);
		driver.desc[3] = guest_desc(places[i], bytes, INDIRECT, 0);
		check_broken(&driver, &device, 3);
	}
}

static void test_broken_direct(void)
{
	static const struct {
		const char *what;
		struct vfsd_vring_desc first, second;
	} cases[] = {
		{"loop of one", {GUEST_DATA, 1, NEXT, 0}, {0}},
		{"loop of two", {GUEST_DATA, 1, NEXT, 1}, {GUEST_DATA, 1, NEXT, 0}},
		{"empty loop", {0, 0, NEXT, 1}, {0, 0, NEXT, 0}},
		{"next outside", {GUEST_DATA, 1, NEXT, 8}, {0}},
		{"next far outside", {GUEST_DATA, 1, NEXT, 0xffff}, {0}},
		{"readable last", {GUEST_DATA, 1, NEXT | WRITE, 1}, {GUEST_DATA, 1, 0, 0}},
		{"empty, readable last", {GUEST_DATA, 0, NEXT | WRITE, 1}, {GUEST_DATA, 0, 0, 0}},
		{"unmapped", {0, 1, 0, 0}, {0}},
		{"unmapped hole", {GUEST_NEXT_GPA + GUEST_NEXT_BYTES, 1, 0, 0}, {0}},
		{"unmapped end", {GUEST_NEXT_GPA + GUEST_NEXT_BYTES - 1, 2, 0, 0}, {0}},
		{"end of the world", {UINT64_MAX, UINT32_MAX, 0, 0}, {0}},
		{"indirect and next", {GUEST_TABLE, DESC_BYTES, INDIRECT | NEXT, 1}, {0}},
		{"unmapped table", {0, DESC_BYTES, INDIRECT, 0}, {0}},
	};
	struct vfsd_vring device;
	struct guest_ring driver;

	for (size_t i = 0; i < VFSD_ARRAY_SIZE(cases); i++) {
		const struct vfsd_vring_desc *first = &cases[i].first, *second = &cases[i].second;

		start(&driver, &device);
		put_table(GUEST_TABLE, &(struct vfsd_vring_desc){0}, 1);
		driver.desc[0] = guest_desc(first->addr, first->len, first->flags, first->next);
		driver.desc[1] = guest_desc(second->addr, second->len, second->flags, second->next);
		check_broken(&driver, &device, 0);
	}

	start(&driver, &device);
	check_broken(&driver, &device, 8); /* a head outside */
	start(&driver, &device);
	check_broken(&driver, &device, 0xffff);

	/* An index that jumps: more entries than there are, or backwards. */
	for (int jump = -1; jump <= 9; jump += 10) {
		start(&driver, &device);
		vfsd_vring_store(&driver.avail->idx, (uint16_t)jump);
		CHECK_EQ(vfsd_vring_pop(&device, &chain), -EPROTO);
	}
	start(&driver, &device);
	vfsd_vring_store(&driver.avail->idx, 8);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);

	/* An honest table, but the feature was not acked. */
	start(&driver, &device);
	device.indirect = false;
	driver.desc[0] = guest_desc(GUEST_TABLE, DESC_BYTES, INDIRECT, 0);
	check_broken(&driver, &device, 0);

	/* 32 bits of bytes, and one more. */
	for (uint32_t more = 0; more <= 1; more++) {
		start(&driver, &device);
		for (uint16_t i = 0; i < 3; i++)
			driver.desc[i] = guest_desc(GUEST_HIGH_GPA, GUEST_HIGH_BYTES, NEXT,
						    (uint16_t)(i + 1));
		driver.desc[3] = guest_desc(GUEST_HIGH_GPA, GUEST_HIGH_BYTES - 1 + more, WRITE, 0);
		if (more) {
			check_broken(&driver, &device, 0);
		} else {
			offer(&driver, 0);
			CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
			CHECK_EQ(chain.in_bytes + chain.out_bytes, UINT32_MAX);
		}
	}
}

static void test_broken_indirect(void)
{
	static struct vfsd_vring_desc table[VFSD_VRING_SIZE_MAX + 1];
	const struct vfsd_vring_desc fine = guest_desc(GUEST_DATA, 1, NEXT, 1);
	const uint32_t max = VFSD_VRING_SIZE_MAX * DESC_BYTES;

	check_broken_table(table, 1, 0);
	check_broken_table(table, 1, DESC_BYTES - 1);
	check_broken_table(table, 2, DESC_BYTES + 1);
	check_broken_table(table, VFSD_VRING_SIZE_MAX, max + DESC_BYTES);
	check_broken_table(table, 1, UINT32_MAX - 15);

	table[0] = fine;
	check_broken_table(table, 1, DESC_BYTES); /* next outside */
	table[1] = guest_desc(GUEST_DATA, 1, NEXT, 0);
	check_broken_table(table, 2, 2 * DESC_BYTES); /* loop */
	table[1] = guest_desc(GUEST_TABLE, DESC_BYTES, INDIRECT, 0);
	check_broken_table(table, 2, 2 * DESC_BYTES); /* nested */
	table[0] = guest_desc(GUEST_DATA, 1, NEXT | WRITE, 1);
	table[1] = guest_desc(GUEST_DATA, 1, 0, 1);
	check_broken_table(table, 2, 2 * DESC_BYTES); /* readable last */
	table[0] = fine;
	table[1] = guest_desc(GUEST_DATA, UINT32_MAX, WRITE, 0);
	check_broken_table(table, 2, 2 * DESC_BYTES); /* unmapped end */
}

/* As many iovecs as there may be, and one more: every second byte, so that none are merged. */
static void test_longest(void)
{
	struct vfsd_vring_desc table[VFSD_VRING_SIZE_MAX];
	const uint16_t spare = VFSD_CHAIN_IOV_MAX - VFSD_VRING_SIZE_MAX;
	struct vfsd_vring device;
	struct guest_ring driver;

	for (uint16_t i = 0; i < VFSD_VRING_SIZE_MAX; i++)
		table[i] = guest_desc(GUEST_DATA + 2u * i, 1,
				      i + 1 < VFSD_VRING_SIZE_MAX ? NEXT : 0, (uint16_t)(i + 1));
	guest_ring_init(&driver, &device, &guest, 256, false, 0);
	put_table(GUEST_TABLE, table, VFSD_VRING_SIZE_MAX);
	for (uint16_t i = 0; i <= spare; i++)
		driver.desc[i] = guest_desc(GUEST_DATA + 2u * i, 1, NEXT, (uint16_t)(i + 1));
	driver.desc[spare + 1] = guest_desc(GUEST_TABLE, sizeof(table), INDIRECT, 0);

	offer(&driver, 1);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(chain.n_in, VFSD_CHAIN_IOV_MAX);
	check_broken(&driver, &device, 0);
}

static void test_flags(void)
{
	struct vfsd_vring device;
	struct guest_ring driver;

	start(&driver, &device);
	vfsd_vring_push(&device, 0, 0);
	CHECK(vfsd_vring_should_notify(&device));
	guest_ring_disable_call(&driver);
	vfsd_vring_push(&device, 0, 0);
	CHECK(!vfsd_vring_should_notify(&device));
	CHECK(guest_ring_enable_call(&driver));

	guest_ring_offer(&driver, 0);
	CHECK(guest_ring_publish(&driver)); /* kicks are on at first */
	vfsd_vring_disable_kick(&device);
	guest_ring_offer(&driver, 0);
	CHECK(!guest_ring_publish(&driver));
	CHECK(vfsd_vring_enable_kick(&device)); /* entries came before the driver could know */
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK(vfsd_vring_enable_kick(&device)); /* one of them is known to us already */
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK(!vfsd_vring_enable_kick(&device));
	guest_ring_offer(&driver, 0);
	CHECK(guest_ring_publish(&driver));
}

/* Both sides against the specification's words, through two wraps of the index. */
static void test_event_idx(void)
{
	struct vfsd_vring device;
	struct guest_ring driver;
	unsigned int random = 1;
	uint32_t id, len;

	guest_ring_init(&driver, &device, &guest, 8, true, 65530);
	vfsd_vring_push(&device, 0, 0);
	CHECK(vfsd_vring_should_notify(&device)); /* the first one, whatever the driver said */
	CHECK(guest_ring_take(&driver, &id, &len));
	/* Line up the driver's side with what has just been made up. */
	guest_ring_offer(&driver, 0);
	CHECK(guest_ring_publish(&driver));
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);

	for (int round = 0; round < 60000; round++) {
		uint32_t n = (uint32_t)rand_r(&random) % 8 + 1;
		bool wish = rand_r(&random) % 2, wanted = false;
		/* Which of the entries to come the other side wants to hear of. */
		uint16_t event = (uint16_t)(driver.next_avail + rand_r(&random) % 12 - 2);

		if (wish)
			CHECK(!vfsd_vring_enable_kick(&device));
		for (uint32_t i = 0; i < n; i++) {
			wanted |= wish && i == 0;
			guest_ring_offer(&driver, 0);
		}
		if (wish)
			CHECK_EQ(guest_ring_publish(&driver), wanted);
		else
			(void)guest_ring_publish(&driver);

		vfsd_vring_store(&driver.avail->ring[driver.num], event);
		wanted = false;
		for (uint32_t i = 0; i < n; i++) {
			CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
			wanted |= device.next_used == event;
			vfsd_vring_push(&device, chain.head, i);
		}
		CHECK_EQ(vfsd_vring_pop(&device, &chain), 0);
		CHECK_EQ(vfsd_vring_should_notify(&device), wanted);
		for (uint32_t i = 0; i < n; i++)
			CHECK(guest_ring_take(&driver, &id, &len) && len == i);
		CHECK(!guest_ring_take(&driver, &id, &len));
	}
}

/* A ring taken over goes on where the last owner stopped, and kicks are on. */
static void test_resume(void)
{
	struct vfsd_vring_setup setup = guest_setup(8, false, 0);
	struct vfsd_vring device;
	struct guest_ring driver;
	uint32_t id, len;

	guest_ring_init(&driver, &device, &guest, 8, false, 65535);
	for (int i = 0; i < 3; i++)
		offer(&driver, (uint16_t)i);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	vfsd_vring_push(&device, chain.head, 1);
	(void)vfsd_vring_should_notify(&device);
	vfsd_vring_disable_kick(&device);

	setup.base = vfsd_vring_base(&device);
	CHECK_EQ(setup.base, 0);
	CHECK_EQ(vfsd_vring_init(&device, guest.mem, &setup), 0);
	CHECK_EQ(vfsd_vring_pop(&device, &chain), 1);
	CHECK_EQ(chain.head, 1);
	vfsd_vring_push(&device, chain.head, 2);
	(void)vfsd_vring_should_notify(&device);
	CHECK(guest_ring_take(&driver, &id, &len) && id == 0 && len == 1);
	CHECK(guest_ring_take(&driver, &id, &len) && id == 1 && len == 2);
	guest_ring_offer(&driver, 3);
	CHECK(guest_ring_publish(&driver));
}

/*
 * Two threads that sleep whenever they may: a lost wake-up leaves both asleep, and a request that
 * is seen before it is complete shows in its sum.
 */
enum { RACE_REQUESTS = 40000, RACE_NUM = 16, DEADLINE_MS = 60000 };

struct race {
	struct vfsd_vring device;
	struct guest_ring driver;
	int kick, call;
};

static void wait_for(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};
	eventfd_t value;

	CHECK_EQ(poll(&entry, 1, DEADLINE_MS), 1);
	CHECK_EQ(eventfd_read(fd, &value), 0);
}

static void *race_device(void *arg)
{
	struct race *race = arg;
	static struct vfsd_chain own;
	uint32_t done = 0;

	while (done < RACE_REQUESTS) {
		int got;

		vfsd_vring_disable_kick(&race->device);
		while ((got = vfsd_vring_pop(&race->device, &own)) == 1) {
			uint32_t value;

			CHECK(own.n_in == 1 && own.n_out == 1 && own.out_bytes == 4);
			memcpy(&value, own.iov[0].iov_base, sizeof(value));
			CHECK_EQ(value, done);
			value = ~value;
			memcpy(own.iov[1].iov_base, &value, sizeof(value));
			vfsd_vring_push(&race->device, own.head, 4);
			done++;
			if (done % 3 == 0 && vfsd_vring_should_notify(&race->device))
				CHECK_EQ(eventfd_write(race->call, 1), 0);
		}
		CHECK_EQ(got, 0);
		if (vfsd_vring_should_notify(&race->device))
			CHECK_EQ(eventfd_write(race->call, 1), 0);
		if (done < RACE_REQUESTS && !vfsd_vring_enable_kick(&race->device))
			wait_for(race->kick);
	}
	return NULL;
}

static void race_offer(struct race *race, uint32_t value)
{
	struct guest_ring *driver = &race->driver;
	uint16_t head = (uint16_t)(value % (RACE_NUM / 2) * 2);
	uint64_t gpa = GUEST_DATA + head * UINT64_C(16);

	memcpy(guest_at(&guest, gpa), &value, sizeof(value));
	driver->desc[head] = guest_desc(gpa, 4, NEXT, (uint16_t)(head + 1));
	driver->desc[head + 1] = guest_desc(gpa + 8, 4, WRITE, 0);
	guest_ring_offer(driver, head);
}

static void test_race(bool event_idx)
{
	struct race race = {
		.kick = eventfd(0, EFD_CLOEXEC),
		.call = eventfd(0, EFD_CLOEXEC),
	};
	struct guest_ring *driver = &race.driver;
	uint32_t offered = 0, taken = 0;
	unsigned int random = 1;
	pthread_t thread;

	guest_ring_init(driver, &race.device, &guest, RACE_NUM, event_idx, 65000);
	CHECK_EQ(pthread_create(&thread, NULL, race_device, &race), 0);
	while (taken < RACE_REQUESTS) {
		uint32_t batch = (uint32_t)rand_r(&random) % (RACE_NUM / 2) + 1;
		uint32_t id, len, value;

		while (batch-- && offered < RACE_REQUESTS && offered - taken < RACE_NUM / 2)
			race_offer(&race, offered++);
		if (driver->asked != driver->next_avail && guest_ring_publish(driver))
			CHECK_EQ(eventfd_write(race.kick, 1), 0);

		guest_ring_disable_call(driver);
		while (guest_ring_take(driver, &id, &len)) {
			CHECK_EQ(id, taken % (RACE_NUM / 2) * 2);
			CHECK_EQ(len, 4);
			memcpy(&value, guest_at(&guest, GUEST_DATA + id * UINT64_C(16) + 8), 4);
			CHECK_EQ(value, ~taken);
			taken++;
		}
		if (offered > taken && !guest_ring_enable_call(driver))
			wait_for(race.call);
	}
	CHECK_EQ(pthread_join(thread, NULL), 0);
	(void)close(race.kick);
	(void)close(race.call);
}

/*
 * One side publishes while the other one is about to sleep, again and again at the same moment: at
 * least one of them must notice. This is what the full fences are for.
 */
enum { LITMUS_ROUNDS = 20000 };

struct litmus {
	struct vfsd_vring device;
	struct guest_ring driver;
	bool calls; /* the device publishes and the driver falls asleep, else the other way round */
	atomic_uint arrived;
	bool device_noticed, driver_noticed;
};

/* Both sides leave at about the same moment; @delay turns of a loop vary which one is ahead. */
static void meet(struct litmus *litmus, unsigned int meeting, unsigned int delay)
{
	unsigned int spins = 0;

	atomic_fetch_add(&litmus->arrived, 1);
	while (atomic_load(&litmus->arrived) < 2 * meeting)
		if (++spins % 4096 == 0)
			(void)sched_yield();
	for (unsigned int i = 0; i < delay; i++)
		__asm__ volatile("");
}

static void *litmus_device(void *arg)
{
	struct litmus *litmus = arg;
	static struct vfsd_chain own;

	for (unsigned int meeting = 1; meeting < 2 * LITMUS_ROUNDS;) {
		if (litmus->calls)
			vfsd_vring_push(&litmus->device, 0, 0);
		else
			vfsd_vring_disable_kick(&litmus->device);
		meet(litmus, meeting, meeting / 2 % 128);
		meeting++;
		if (litmus->calls)
			litmus->device_noticed = vfsd_vring_should_notify(&litmus->device);
		else
			litmus->device_noticed = vfsd_vring_enable_kick(&litmus->device);
		meet(litmus, meeting++, 0);
		if (!litmus->calls)
			CHECK_EQ(vfsd_vring_pop(&litmus->device, &own), 1);
	}
	return NULL;
}

static void test_litmus(bool event_idx, bool calls)
{
	struct litmus litmus = {.calls = calls};
	struct guest_ring *driver = &litmus.driver;
	uint32_t id, len;
	pthread_t thread;

	guest_ring_init(driver, &litmus.device, &guest, 8, event_idx, 0);
	litmus.device.signalled = true;
	CHECK_EQ(pthread_create(&thread, NULL, litmus_device, &litmus), 0);
	for (unsigned int meeting = 1; meeting < 2 * LITMUS_ROUNDS;) {
		if (calls)
			guest_ring_disable_call(driver);
		else
			guest_ring_offer(driver, 0);
		meet(&litmus, meeting, meeting / 256 % 128);
		meeting++;
		if (calls)
			litmus.driver_noticed = guest_ring_enable_call(driver);
		else
			litmus.driver_noticed = guest_ring_publish(driver);
		meet(&litmus, meeting++, 0);
		CHECK(litmus.device_noticed || litmus.driver_noticed);
		if (calls)
			CHECK(guest_ring_take(driver, &id, &len));
	}
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

int main(void)
{
	guest_create(&guest);
	test_setup();
	test_direct();
	test_ahead();
	test_unpop();
	test_indirect();
	test_fetch();
	test_merge();
	test_broken_direct();
	test_broken_indirect();
	test_longest();
	test_flags();
	test_event_idx();
	test_resume();
	test_race(false);
	test_race(true);
	for (unsigned int i = 0; i < 4; i++)
		test_litmus(i & 1, i & 2);
	guest_destroy(&guest);
	return 0;
}
