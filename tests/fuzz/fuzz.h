/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz - what a target and its main (libFuzzer, AFL++ or replay.c) know of each other.
 */
#ifndef VFSD_FUZZ_H
#define VFSD_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Work on one input; abort() when something is wrong. Keeps nothing from one call to the next. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Write seed number @index to @bytes; returns its length, 0: there are no more. Optional. */
size_t vfsd_fuzz_seed(uint32_t index, uint8_t *bytes, size_t max);

#endif
