/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring's device side against a driver made of the input's bytes.
 *
 * An input is a header (ring size, features, base) and a program: put descriptors and tables into
 * guest memory, move indices, pop, push, publish. What pop returns is compared byte range by byte
 * range with a second reading of the same chain that is slow and obvious.
 */
#include <errno.h>

#include "fuzz.h"
#include "input.h"
#define VFSD_CHECK_ABORT
#include "guest.h"

enum {
	SEGMENTS_MAX = 2 * VFSD_VRING_SIZE_MAX,
	DIRTY_BYTES_MAX = GUEST_DATA - GUEST_DESC, /* all that the program can write to */
};

/* The second reading. */

struct segment {
	uint64_t gpa;
	uint32_t len;
	bool writable;
};

struct reading {
	struct segment segments[SEGMENTS_MAX];
	size_t n;
	uint64_t in_bytes, out_bytes;
};

static bool is_mapped(const struct guest *guest, uint64_t gpa, uint64_t len)
{
	while (len > 0) {
		uint64_t room = 0;

		for (int i = 0; i < GUEST_REGIONS; i++)
			if (gpa >= guest->regions[i].gpa &&
			    gpa - guest->regions[i].gpa < guest->regions[i].bytes)
				room = guest->regions[i].bytes - (gpa - guest->regions[i].gpa);
		if (room == 0)
			return false;
		if (room > len)
			room = len;
		gpa += room;
		len -= room;
	}
	return true;
}

static bool read_desc(const struct guest *guest, uint64_t gpa, struct vfsd_vring_desc *ret)
{
	uint8_t *bytes = (uint8_t *)ret;

	if (!is_mapped(guest, gpa, sizeof(*ret)))
		return false;
	for (size_t i = 0; i < sizeof(*ret); i++)
		bytes[i] = *(uint8_t *)guest_at(guest, gpa + i);
	return true;
}

/* Where chains began when the device last prefetched; by avail index. */
static struct beginning {
	uint16_t head;
	struct vfsd_vring_desc desc;
} beginnings[VFSD_VRING_PREFETCHED];

/* The device is going to prefetch, @n chains from @index on. */
static void note_beginnings(const struct guest *guest, const struct guest_ring *driver,
			    uint16_t index, uint16_t n)
{
	for (uint16_t i = 0; i < n && i < VFSD_VRING_PREFETCHED; i++, index++) {
		struct beginning *begin = &beginnings[index % VFSD_VRING_PREFETCHED];

		begin->head = vfsd_vring_load(&driver->avail->ring[index & (driver->num - 1)]);
		if (begin->head < driver->num)
			CHECK(read_desc(guest, GUEST_DESC + begin->head * sizeof(begin->desc),
					&begin->desc));
	}
}

static bool read_chain(const struct guest *guest, const struct vfsd_vring *device,
		       const struct beginning *begin, struct reading *ret)
{
	uint64_t table = GUEST_DESC;
	uint32_t size = device->num, at = begin->head, steps = 0;
	bool inside = false;

	ret->n = 0;
	ret->in_bytes = 0;
	ret->out_bytes = 0;
	for (;;) {
		struct vfsd_vring_desc desc;

		if (at >= size || steps++ >= size)
			return false;
		if (ret->n == 0 && !inside && steps == 1)
			desc = begin->desc;
		else if (!read_desc(guest, table + at * sizeof(desc), &desc))
			return false;
		if (desc.flags & VFSD_VRING_DESC_INDIRECT) {
			if (inside || !device->indirect || (desc.flags & VFSD_VRING_DESC_NEXT))
				return false;
			if (desc.len == 0 || desc.len % sizeof(desc) ||
			    desc.len / sizeof(desc) > VFSD_VRING_SIZE_MAX ||
			    !is_mapped(guest, desc.addr, desc.len))
				return false;
			inside = true;
			table = desc.addr;
			size = desc.len / (uint32_t)sizeof(desc);
			at = 0;
			steps = 0;
			continue;
		}
		if (!(desc.flags & VFSD_VRING_DESC_WRITE) && ret->n > 0 &&
		    ret->segments[ret->n - 1].writable)
			return false;
		if (!is_mapped(guest, desc.addr, desc.len))
			return false;
		ret->segments[ret->n++] = (struct segment){
			.gpa = desc.addr,
			.len = desc.len,
			.writable = desc.flags & VFSD_VRING_DESC_WRITE,
		};
		if (desc.flags & VFSD_VRING_DESC_WRITE)
			ret->out_bytes += desc.len;
		else
			ret->in_bytes += desc.len;
		if (!(desc.flags & VFSD_VRING_DESC_NEXT))
			return ret->in_bytes + ret->out_bytes <= UINT32_MAX;
		at = desc.next;
	}
}

/* How many iovecs a good chain takes: one for whatever is contiguous here and of one direction. */
static size_t count_iovecs(const struct guest *guest, const struct reading *reading)
{
	const uint8_t *end = NULL;
	bool writable = false;
	size_t n = 0;

	for (size_t i = 0; i < reading->n; i++) {
		struct segment rest = reading->segments[i];

		while (rest.len > 0) {
			void *host;
			uint64_t mapped;

			CHECK_EQ(vfsd_mem_gpa(guest->mem, rest.gpa, rest.len, &host, &mapped), 0);
			n += n == 0 || host != end || writable != rest.writable;
			end = (uint8_t *)host + mapped;
			writable = rest.writable;
			rest.gpa += mapped;
			rest.len -= (uint32_t)mapped;
		}
	}
	return n;
}

/* Every byte of every segment is where the chain says, in order. */
static void compare(const struct guest *guest, const struct vfsd_chain *chain,
		    const struct reading *reading)
{
	uint32_t at = 0;
	uint64_t used = 0;

	CHECK_EQ(chain->in_bytes, reading->in_bytes);
	CHECK_EQ(chain->out_bytes, reading->out_bytes);
	CHECK(chain->n_in + chain->n_out <= VFSD_CHAIN_IOV_MAX);
	for (size_t i = 0; i < reading->n; i++) {
		struct segment rest = reading->segments[i];

		while (rest.len > 0) {
			const struct iovec *iov = &chain->iov[at];
			uint64_t here, mapped;
			void *host;

			CHECK(at < chain->n_in + chain->n_out);
			CHECK_EQ(rest.writable, at >= chain->n_in);
			CHECK(iov->iov_len > used);
			CHECK_EQ(vfsd_mem_gpa(guest->mem, rest.gpa, rest.len, &host, &mapped), 0);
			CHECK((uint8_t *)iov->iov_base + used == host);
			here = iov->iov_len - used < mapped ? iov->iov_len - used : mapped;
			rest.gpa += here;
			rest.len -= (uint32_t)here;
			used += here;
			if (used == iov->iov_len) {
				at++;
				used = 0;
			}
		}
	}
	CHECK(at == chain->n_in + chain->n_out && used == 0);
}

static void pop(const struct guest *guest, struct guest_ring *driver, struct vfsd_vring *device)
{
	static struct vfsd_chain chain;
	static struct reading reading;
	uint16_t before = vfsd_vring_base(device);
	const struct beginning *begin = &beginnings[before % VFSD_VRING_PREFETCHED];
	uint16_t waiting = (uint16_t)(vfsd_vring_load(&driver->avail->idx) - before);
	bool cached = device->avail_seen != before;
	bool pending = vfsd_vring_pending(device);
	int got;

	if (device->prefetched_end == before)
		note_beginnings(guest, driver, before,
				cached ? (uint16_t)(device->avail_seen - before) : waiting);
	got = vfsd_vring_pop(device, &chain);
	CHECK(got == 1 || got == 0 || got == -EPROTO);
	CHECK(got == 0 || pending);
	CHECK_EQ(vfsd_vring_base(device), (uint16_t)(before + (got == 1)));
	CHECK(got != 0 || waiting == 0);
	if (!cached && waiting > driver->num)
		CHECK_EQ(got, -EPROTO);
	else if (cached || waiting > 0) {
		bool good = read_chain(guest, device, begin, &reading);

		good = good && count_iovecs(guest, &reading) <= VFSD_CHAIN_IOV_MAX;
		CHECK_EQ(got == 1, good);
	}
	if (got != 1)
		return;
	CHECK_EQ(chain.head, begin->head);
	compare(guest, &chain, &reading);
	vfsd_vring_push(device, chain.head, (uint32_t)chain.out_bytes);
	CHECK_EQ(driver->used->ring[(uint16_t)(device->next_used - 1) & (driver->num - 1)].id,
		 begin->head);
}

/* Give any chain back: it is the next, and its descriptors are looked at anew. */
static void unpop(struct guest_ring *driver, struct vfsd_vring *device, uint16_t head)
{
	const uint16_t base = (uint16_t)(vfsd_vring_base(device) - 1);

	vfsd_vring_unpop(device, head);
	CHECK_EQ(vfsd_vring_base(device), base);
	CHECK_EQ(vfsd_vring_load(&driver->avail->ring[base & (driver->num - 1)]), head);
	CHECK(vfsd_vring_pending(device));
}

static void publish(struct guest_ring *driver, struct vfsd_vring *device)
{
	uint16_t old = device->asked, n = (uint16_t)(device->next_used - old);
	uint16_t event = vfsd_vring_load(vfsd_vring_used_event(driver->avail, driver->num));
	bool first = !device->signalled, want = false;

	if (device->event_idx)
		for (uint16_t i = 0; i < n; i++)
			want |= first || (uint16_t)(old + i) == event;
	else
		want = n && !(driver->avail->flags & VFSD_VRING_AVAIL_NO_INTERRUPT);
	CHECK_EQ(vfsd_vring_should_notify(device), want);
	if (n > 0) /* else the program may have written there last */
		CHECK_EQ(vfsd_vring_load(&driver->used->idx), device->next_used);
}

/* An address that is worth trying: near the start or the end of something. */
static uint64_t get_gpa(struct input *input)
{
	static const uint64_t anchors[] = {
		GUEST_LOW_GPA,
		GUEST_DATA,
		GUEST_TABLE,
		GUEST_NEXT_GPA,
		GUEST_HIGH_GPA,
		GUEST_NEXT_GPA + GUEST_NEXT_BYTES,
		0,
		GUEST_DESC,
	};
	uint8_t kind = get8(input);

	if (kind >= 0xf0)
		return get64(input);
	return anchors[kind & 7] + (uint64_t)(int64_t)(int16_t)get16(input);
}

static struct vfsd_vring_desc get_desc(struct input *input)
{
	uint64_t gpa = get_gpa(input);
	uint8_t unit = get8(input);
	uint32_t len = (uint32_t)get16(input) << (unit % 17);
	uint16_t flags = get8(input) & 7;

	return guest_desc(gpa, len, flags, get16(input));
}

/* A row of descriptors at equal distances, somewhere in the table of @size at @at. */
static void put_run(const struct guest *guest, struct input *input, uint64_t at, uint32_t size)
{
	uint32_t first = get16(input) % size, n = get16(input) % size + 1;
	uint64_t gpa = get_gpa(input);
	uint32_t stride = get16(input), len = get16(input);
	uint16_t flags = get8(input) & 2;

	for (uint32_t i = 0; i < n && first + i < size; i++) {
		struct vfsd_vring_desc desc =
			guest_desc(gpa + (uint64_t)i * stride, len,
				   i + 1 < n ? flags | VFSD_VRING_DESC_NEXT : flags,
				   (uint16_t)(first + i + 1));

		memcpy(guest_at(guest, at + (first + i) * sizeof(desc)), &desc, sizeof(desc));
	}
}

static void step(const struct guest *guest, struct input *input, struct guest_ring *driver,
		 struct vfsd_vring *device)
{
	struct vfsd_vring_setup setup;
	struct vfsd_vring_desc desc;
	uint32_t at;

	switch (get8(input) % 15) {
	case 0:
		at = get16(input) % driver->num;
		driver->desc[at] = get_desc(input);
		break;
	case 1:
		at = get16(input) % VFSD_VRING_SIZE_MAX;
		desc = get_desc(input);
		memcpy(guest_at(guest, GUEST_TABLE + at * sizeof(desc)), &desc, sizeof(desc));
		break;
	case 2:
		put_run(guest, input, GUEST_DESC, driver->num);
		break;
	case 3:
		put_run(guest, input, GUEST_TABLE, VFSD_VRING_SIZE_MAX);
		break;
	case 4:
	case 5:
		guest_ring_offer(driver, get8(input));
		(void)guest_ring_publish(driver);
		break;
	case 6:
		guest_ring_offer(driver, get16(input));
		(void)guest_ring_publish(driver);
		break;
	case 7:
		driver->next_avail = get16(input);
		(void)guest_ring_publish(driver);
		break;
	case 8:
		pop(guest, driver, device);
		break;
	case 9:
		publish(driver, device);
		break;
	case 10:
		vfsd_vring_disable_kick(device);
		CHECK(!vfsd_vring_enable_kick(device) ||
		      vfsd_vring_load(&driver->avail->idx) != vfsd_vring_base(device) ||
		      device->avail_seen != vfsd_vring_base(device));
		break;
	case 11: /* used_event, or an entry of the ring */
		at = get16(input) % (driver->num + 1);
		vfsd_vring_store(&driver->avail->ring[at], get16(input));
		vfsd_vring_store(&driver->avail->flags, get8(input));
		break;
	case 12: /* a byte anywhere in the ring's memory */
		at = get16(input) % DIRTY_BYTES_MAX;
		*(uint8_t *)guest_at(guest, GUEST_DESC + at) = get8(input);
		break;
	case 13:
		unpop(driver, device, get16(input));
		break;
	default: /* somewhere else, or the same one again */
		setup = guest_setup(driver->num, device->event_idx, get16(input));
		setup.indirect = device->indirect;
		at = get8(input);
		if (at & 1)
			setup.avail_uva = GUEST_UVA + get_gpa(input);
		if (at & 2)
			setup.num = get16(input);
		if (at & 4)
			setup.used_uva = GUEST_UVA + get_gpa(input);
		if (vfsd_vring_init(&(struct vfsd_vring){0}, guest->mem, &setup) == 0 &&
		    (at & 7) == 0)
			CHECK_EQ(vfsd_vring_init(device, guest->mem, &setup), 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest guest;
	struct input input = {.data = data, .left = size};
	struct vfsd_vring device;
	struct guest_ring driver;
	uint8_t log2_num = get8(&input) % 11, features = get8(&input);

	if (!guest.mem)
		guest_create(&guest);
	memset(guest_at(&guest, GUEST_DESC), 0, DIRTY_BYTES_MAX);
	guest_ring_init(&driver, &device, &guest, 1u << log2_num, features & 1, get16(&input));
	device.indirect = features & 2;
	while (input.left > 0)
		step(&guest, &input, &driver, &device);
	return 0;
}

/* Seeds: little programs for the machine above. */

struct program {
	uint8_t *bytes;
	size_t len;
};

static void put8(struct program *program, unsigned int value)
{
	program->bytes[program->len++] = (uint8_t)value;
}

static void put16(struct program *program, unsigned int value)
{
	put8(program, value & 0xff);
	put8(program, value >> 8);
}

static void put_desc(struct program *program, unsigned int op, unsigned int at, unsigned int anchor,
		     unsigned int offset, unsigned int len, unsigned int flags, unsigned int next)
{
	put8(program, op);
	put16(program, at);
	put8(program, anchor);
	put16(program, offset);
	put8(program, len > UINT16_MAX ? 16 : 0);
	put16(program, len > UINT16_MAX ? len >> 16 : len);
	put8(program, flags);
	put16(program, next);
}

static void put_descs(struct program *program, unsigned int op, unsigned int n, unsigned int anchor,
		      unsigned int stride, unsigned int flags)
{
	put8(program, op);
	put16(program, 0);
	put16(program, n - 1);
	put8(program, anchor);
	put16(program, 0);
	put16(program, stride);
	put16(program, 0x1000);
	put8(program, flags);
}

/* Offer, pop and publish head 0 @n times. */
static void put_rounds(struct program *program, unsigned int n)
{
	while (n-- > 0) {
		put8(program, 4);
		put8(program, 0);
		put8(program, 8);
		put8(program, 9);
		put8(program, 10);
	}
}

size_t vfsd_fuzz_seed(uint32_t index, uint8_t *bytes, size_t max)
{
	struct program program = {.bytes = bytes};
	const uint32_t kinds = 6;

	if (index >= 4 * kinds || max < 256)
		return 0;
	put8(&program, 3 + index % 4 * 2); /* 8, 32, 128 or 512 entries */
	put8(&program, 2 + index % 2);	   /* indirect, with or without events */
	put16(&program, 0xfffe);
	switch (index / 4) {
	case 0: /* request and reply, which touch */
		put_desc(&program, 0, 0, 1, 0, 64, 1, 1);
		put_desc(&program, 0, 1, 1, 64, 16, 3, 2);
		put_desc(&program, 0, 2, 1, 0x1000, 4096, 2, 0);
		break;
	case 1: /* the same, indirect, across the border of regions */
		put_desc(&program, 1, 0, 4, 0, 40, 1, 1);
		put_desc(&program, 1, 1, 3, 0xffff, 80, 2, 0);
		put_desc(&program, 0, 0, 2, 0, 32, 4, 0);
		break;
	case 2: /* a megabyte in pages that touch */
		put_descs(&program, 3, 256, 4, 0x1000, 2);
		put_desc(&program, 0, 0, 2, 0, 4096, 4, 0);
		break;
	case 3: /* as many as can be, none of which touch, and direct ones before them */
		put_descs(&program, 3, 1024, 4, 0x2000, 0);
		put_descs(&program, 2, 8, 4, 0x3000, 0);
		put_desc(&program, 0, 7, 2, 0, 16384, 4, 0);
		break;
	case 4: /* more bytes than 32 bits count */
		for (unsigned int i = 0; i < 5; i++)
			put_desc(&program, 0, i, 4, 0, GUEST_HIGH_BYTES, i < 4, i + 1);
		break;
	default: /* a loop, then an index that jumps */
		put_desc(&program, 0, 0, 1, 0, 40, 1, 0);
		put_rounds(&program, 1);
		put8(&program, 7);
		put16(&program, 0x8000);
		break;
	}
	put_rounds(&program, 4);
	return program.len;
}
