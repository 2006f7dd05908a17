/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * herd - many files, a thousand in a directory, made by the host, known to the driver, watched.
 *
 * Whatever fails ends the program, but for requests: those are counted. Owner thread: one.
 */
#ifndef BENCH_HERD_H
#define BENCH_HERD_H

#include <stddef.h>
#include <stdint.h>

#include "reader.h"

struct herd {
	uint32_t count;
	uint64_t *directories; /* their node ids, as far as they are known */
	uint64_t *nodes;       /* likewise */
	uint32_t mask;	       /* of watches */
	uint64_t errors;
};

/* On the host; gone again with the second. */
void herd_make(struct herd *herd, uint32_t count);
void herd_remove(struct herd *herd);

uint32_t herd_directories(const struct herd *herd);
uint32_t herd_directory_of(uint32_t index);
void herd_directory_name(char name[16], uint32_t directory);

/* In its directory, with the final zero: returns its length. */
size_t herd_file_name(void *name, uint32_t index);
void herd_path(char path[64], uint32_t index);

/* Ask for the directories. The requests below need that. */
void herd_find_directories(struct herd *herd, struct reader *reader);

/* One request for each file, by its index: look it up; watch it with mask. */
struct driver_work herd_lookups(struct herd *herd);
struct driver_work herd_watches(struct herd *herd);

/* The same for driver_work of one's own; the second counts an error. */
size_t herd_make_lookup(void *herd, uint64_t index, uint32_t *opcode, uint64_t *nodeid, void *body);
void herd_note_error(void *herd, uint64_t index, int error, const void *payload, size_t bytes);

#endif
