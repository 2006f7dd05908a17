/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * input - the bytes that a fuzz target makes its decisions by; behind their end all are 0.
 */
#ifndef VFSD_FUZZ_INPUT_H
#define VFSD_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
	const uint8_t *data;
	size_t left;
};

static inline uint8_t get8(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->data++;
}

static inline uint16_t get16(struct input *input)
{
	uint16_t low = get8(input);

	return (uint16_t)(low | get8(input) << 8);
}

static inline uint64_t get64(struct input *input)
{
	uint64_t value = 0;

	for (int i = 0; i < 4; i++)
		value |= (uint64_t)get16(input) << (16 * i);
	return value;
}

#endif
