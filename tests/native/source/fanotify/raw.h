/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw - what a fanotify group would return, from text, and events as text. A line is an event:
 *
 *   PID BIT[|BIT]... PLACE...
 *
 * PLACE is dN/NAME (DFID_NAME; dN/. is the directory itself), oN (FID), dN/NAME> (OLD_DFID_NAME) or
 * >dN/NAME (NEW_DFID_NAME). N is a handle, all of one filesystem. Process 1 is the daemon.
 */
#ifndef VFSD_RAW_H
#define VFSD_RAW_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>

#include "check.h"
#include "source/fanotify/decode.h"

enum { RAW_SELF = 1, RAW_BYTES_MAX = 65536, RAW_OLD = 10, RAW_NEW = 12 };

struct raw {
	_Alignas(8) uint8_t bytes[RAW_BYTES_MAX];
	size_t size;
	size_t last; /* where the last event begins */
};

static const struct {
	const char *name;
	uint64_t bit;
} raw_bits[] = {
	{"CREATE", FAN_CREATE},
	{"DELETE", FAN_DELETE},
	{"MOVED_FROM", FAN_MOVED_FROM},
	{"MOVED_TO", FAN_MOVED_TO},
	{"RENAME", FAN_RENAME},
	{"OPEN", FAN_OPEN},
	{"ACCESS", FAN_ACCESS},
	{"MODIFY", FAN_MODIFY},
	{"ATTRIB", FAN_ATTRIB},
	{"CLOSE_WRITE", FAN_CLOSE_WRITE},
	{"CLOSE_NOWRITE", FAN_CLOSE_NOWRITE},
	{"MOVE_SELF", FAN_MOVE_SELF},
	{"DELETE_SELF", FAN_DELETE_SELF},
	{"OVERFLOW", FAN_Q_OVERFLOW},
	{"DIR", FAN_ONDIR},
};

enum { RAW_N_BITS = sizeof(raw_bits) / sizeof(raw_bits[0]) };

static inline void raw_event(struct raw *raw, uint64_t mask, int pid)
{
	const struct fanotify_event_metadata event = {.event_len = sizeof(event),
						      .vers = FANOTIFY_METADATA_VERSION,
						      .metadata_len = sizeof(event),
						      .mask = mask,
						      .fd = -1,
						      .pid = pid};

	CHECK(raw->size + sizeof(event) <= sizeof(raw->bytes));
	memcpy(raw->bytes + raw->size, &event, sizeof(event));
	raw->last = raw->size;
	raw->size += sizeof(event);
}

/* The last event ends where the bytes do. */
static inline void raw_end(struct raw *raw)
{
	const uint32_t len = (uint32_t)(raw->size - raw->last);

	memcpy(raw->bytes + raw->last, &len, sizeof(len));
}

/* An info record of the last event; @name NULL: none. */
static inline void raw_info(struct raw *raw, uint8_t type, uint32_t handle, const char *name)
{
	const uint32_t words[] = {4, 1, handle}; /* bytes, type, the handle */
	struct fanotify_event_info_fid *info = (void *)(raw->bytes + raw->size);
	size_t len = sizeof(*info) + sizeof(words) + (name ? strlen(name) + 1 : 0);

	len = (len + 3) / 4 * 4;
	CHECK(raw->size + len <= sizeof(raw->bytes));
	memset(info, 0, len);
	info->hdr.info_type = type;
	info->hdr.len = (uint16_t)len;
	memcpy(info->handle, words, sizeof(words));
	if (name)
		memcpy(info->handle + sizeof(words), name, strlen(name) + 1);
	raw->size += len;
	raw_end(raw);
}

static inline void raw_place(struct raw *raw, char *word)
{
	const size_t len = strlen(word);
	uint8_t type = FAN_EVENT_INFO_TYPE_DFID_NAME;
	char *name = strchr(word, '/');

	if (*word == 'o') {
		type = FAN_EVENT_INFO_TYPE_FID;
	} else if (*word == '>') {
		type = RAW_NEW;
		word++;
	} else if (word[len - 1] == '>') {
		type = RAW_OLD;
		word[len - 1] = '\0';
	}
	CHECK(*word == 'o' || (*word == 'd' && name));
	raw_info(raw, type, (uint32_t)strtoul(word + 1, NULL, 10), name ? name + 1 : NULL);
}

static inline uint64_t raw_mask(char *word)
{
	uint64_t mask = 0;
	char *rest = NULL;

	for (word = strtok_r(word, "|", &rest); word; word = strtok_r(NULL, "|", &rest)) {
		size_t i = 0;

		while (i < RAW_N_BITS && strcmp(raw_bits[i].name, word) != 0)
			i++;
		CHECK(i < RAW_N_BITS);
		mask |= raw_bits[i].bit;
	}
	return mask;
}

/* Append the events of @text. */
static inline void raw_parse(struct raw *raw, const char *text)
{
	char *copy = strdup(text), *lines = NULL, *words = NULL;

	CHECK(copy);
	for (char *line = strtok_r(copy, "\n", &lines); line; line = strtok_r(NULL, "\n", &lines)) {
		const int pid = atoi(strtok_r(line, " ", &words));
		char *word = strtok_r(NULL, " ", &words);

		CHECK(word);
		raw_event(raw, raw_mask(word), pid);
		while ((word = strtok_r(NULL, " ", &words)) != NULL)
			raw_place(raw, word);
	}
	free(copy);
}

/* Text that is written piece by piece; what does not fit is cut off. */
struct text {
	char *at;
	size_t left;
};

__attribute__((format(printf, 2, 3))) static inline void text_put(struct text *text,
								  const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->at, text->left, format, args);
	va_end(args);
	n = (size_t)n < text->left ? n : (int)text->left - 1;
	text->at += n;
	text->left -= (size_t)n;
}

static inline void text_bits(struct text *text, uint64_t mask)
{
	const char *between = "";

	for (size_t i = 0; i < RAW_N_BITS; i++)
		if (mask & raw_bits[i].bit) {
			text_put(text, "%s%s", between, raw_bits[i].name);
			between = "|";
		}
}

/* Handles are numbered: those of raw_info() are their numbers, others come in the order they are seen. */
struct numbers {
	uint32_t count;
	const struct vfsd_file_handle *at[4096];
};

static inline uint32_t number_of(struct numbers *numbers, const struct vfsd_file_handle *handle)
{
	uint32_t i = 0;

	if (handle->bytes == 4) {
		memcpy(&i, handle->data, 4);
		return i;
	}
	while (i < numbers->count && !vfsd_file_handle_equal(numbers->at[i], handle))
		i++;
	CHECK(i < sizeof(numbers->at) / sizeof(numbers->at[0]));
	if (i == numbers->count)
		numbers->at[numbers->count++] = handle;
	return i + 1;
}

static inline void text_place(struct text *text, struct numbers *numbers,
			      const struct vfsd_fan_place *place)
{
	if (place->handle->bytes != 0 && place->name)
		text_put(text, " d%u/%s", number_of(numbers, place->handle), place->name);
	else if (place->handle->bytes != 0)
		text_put(text, " o%u", number_of(numbers, place->handle));
}

#endif
