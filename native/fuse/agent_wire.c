/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuse/agent_wire.h"

#include <errno.h>
#include <string.h>

enum { ALIGN = 8 };

/* What a kind must have, or may have. */
enum needs { NAME = 1 << 0, OTHER = 1 << 1, CHILD = 1 << 2, NAME_OR_CHILD = 1 << 3 };

static const struct {
	const char *name;
	uint32_t needs;
} kinds[VFSD_AGENT_KINDS] = {
	[VFSD_AGENT_CREATE] = {"CREATE", NAME},
	[VFSD_AGENT_DELETE] = {"DELETE", NAME},
	[VFSD_AGENT_RENAME] = {"RENAME", NAME | OTHER},
	[VFSD_AGENT_MOVED_OUT] = {"MOVED_OUT", NAME},
	[VFSD_AGENT_MOVED_IN] = {"MOVED_IN", NAME},
	[VFSD_AGENT_MODIFY] = {"MODIFY", NAME_OR_CHILD},
	[VFSD_AGENT_ATTRIB] = {"ATTRIB", NAME_OR_CHILD},
	[VFSD_AGENT_ACCESS] = {"ACCESS", NAME_OR_CHILD},
	[VFSD_AGENT_OPEN] = {"OPEN", NAME_OR_CHILD},
	[VFSD_AGENT_CLOSE_WRITE] = {"CLOSE_WRITE", NAME_OR_CHILD},
	[VFSD_AGENT_CLOSE_NOWRITE] = {"CLOSE_NOWRITE", NAME_OR_CHILD},
	[VFSD_AGENT_MOVE_SELF] = {"MOVE_SELF", CHILD},
	[VFSD_AGENT_ENDED] = {"ENDED", CHILD},
	[VFSD_AGENT_FORGOTTEN] = {"FORGOTTEN", CHILD},
	[VFSD_AGENT_LOSS] = {"LOSS", 0},
};

const char *vfsd_agent_kind_name(uint32_t kind)
{
	return kind < VFSD_AGENT_KINDS && kinds[kind].name ? kinds[kind].name : "unknown";
}

/* Can that be one component of a path? */
static bool is_name(const char *name)
{
	return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

bool vfsd_agent_record_is_valid(const struct vfsd_agent_record *record)
{
	uint32_t needs;

	if (record->kind == 0 || record->kind >= VFSD_AGENT_KINDS)
		return false;
	needs = kinds[record->kind].needs;
	if (needs & NAME_OR_CHILD)
		needs = record->node != 0 ? NAME : CHILD;
	if ((needs & NAME) ? record->node == 0 || !is_name(record->name) :
			     record->node != 0 || record->name[0] != '\0')
		return false;
	if ((needs & OTHER) ? record->other == 0 || !is_name(record->other_name) :
			      record->other != 0 || record->other_name[0] != '\0')
		return false;
	return !(needs & CHILD) || record->child != 0;
}

void vfsd_agent_batch_begin(struct vfsd_agent_writer *writer, void *at, size_t size)
{
	*writer = (struct vfsd_agent_writer){
		.at = at, .size = size, .used = sizeof(struct vfsd_agent_batch)};
}

bool vfsd_agent_batch_add(struct vfsd_agent_writer *writer, const struct vfsd_agent_record *record)
{
	const size_t names[2] = {strlen(record->name), strlen(record->other_name)};
	struct vfsd_agent_record_head head = {
		.kind = (uint16_t)record->kind,
		.sequence = record->sequence,
		.node = record->node,
		.child = record->child,
		.other = record->other,
		.node_generation = record->node_generation,
		.child_generation = record->child_generation,
		.other_generation = record->other_generation,
		.mode = record->mode,
		.cookie = record->cookie,
		.name_bytes = (uint16_t)names[0],
		.other_name_bytes = (uint16_t)names[1],
	};
	const size_t exact = sizeof(head) + names[0] + names[1];
	const size_t bytes = (exact + ALIGN - 1) / ALIGN * ALIGN;
	uint8_t *to = writer->at + writer->used;

	if (!vfsd_agent_record_is_valid(record) || bytes > writer->size - writer->used ||
	    writer->count == UINT16_MAX)
		return false;
	head.bytes = (uint32_t)bytes;
	memcpy(to, &head, sizeof(head));
	memcpy(to + sizeof(head), record->name, names[0]);
	memcpy(to + sizeof(head) + names[0], record->other_name, names[1]);
	memset(to + exact, 0, bytes - exact);
	writer->used += bytes;
	writer->count++;
	return true;
}

size_t vfsd_agent_batch_end(struct vfsd_agent_writer *writer, uint64_t sequence)
{
	const struct vfsd_agent_batch header = {
		.magic = VFSD_AGENT_MAGIC,
		.version = VFSD_AGENT_VERSION,
		.count = writer->count,
		.bytes = (uint32_t)writer->used,
		.sequence = sequence,
	};

	memcpy(writer->at, &header, sizeof(header));
	return writer->used;
}

int vfsd_agent_batch_open(struct vfsd_agent_reader *reader, const void *at, size_t bytes)
{
	struct vfsd_agent_batch header;

	if (bytes < sizeof(header))
		return -EBADMSG;
	memcpy(&header, at, sizeof(header));
	if (header.magic != VFSD_AGENT_MAGIC)
		return -EBADMSG;
	if (header.version != VFSD_AGENT_VERSION)
		return -EPROTONOSUPPORT;
	if (header.bytes != bytes || header.padding != 0)
		return -EBADMSG;
	*reader = (struct vfsd_agent_reader){
		.at = (const uint8_t *)at + sizeof(header),
		.left = bytes - sizeof(header),
		.count = header.count,
		.sequence = header.sequence,
	};
	return header.count == 0 && reader->left != 0 ? -EBADMSG : 0;
}

/* @bytes of a name, which hold no NUL, as a string. */
static bool take_name(char *to, const uint8_t *from, size_t bytes)
{
	memcpy(to, from, bytes);
	to[bytes] = '\0';
	return !memchr(from, '\0', bytes);
}

/* The record at reader->at, if it is one. */
static bool take_record(const struct vfsd_agent_reader *reader, struct vfsd_agent_record_head *head,
			struct vfsd_agent_record *ret)
{
	const uint8_t *names = reader->at + sizeof(*head);
	size_t exact;

	if (reader->left < sizeof(*head))
		return false;
	memcpy(head, reader->at, sizeof(*head));
	exact = sizeof(*head) + head->name_bytes + head->other_name_bytes;
	if (head->name_bytes > VFSD_AGENT_NAME_MAX ||
	    head->other_name_bytes > VFSD_AGENT_NAME_MAX || head->bytes > reader->left ||
	    head->bytes % ALIGN != 0 || head->bytes < exact || head->bytes - exact >= ALIGN ||
	    head->padding != 0)
		return false;
	for (size_t i = exact; i < head->bytes; i++)
		if (reader->at[i] != 0)
			return false;
	*ret = (struct vfsd_agent_record){
		.kind = (enum vfsd_agent_kind)head->kind,
		.sequence = head->sequence,
		.node = head->node,
		.child = head->child,
		.other = head->other,
		.node_generation = head->node_generation,
		.child_generation = head->child_generation,
		.other_generation = head->other_generation,
		.mode = head->mode,
		.cookie = head->cookie,
	};
	return take_name(ret->name, names, head->name_bytes) &&
	       take_name(ret->other_name, names + head->name_bytes, head->other_name_bytes) &&
	       head->sequence == reader->sequence && vfsd_agent_record_is_valid(ret);
}

int vfsd_agent_batch_next(struct vfsd_agent_reader *reader, struct vfsd_agent_record *ret)
{
	struct vfsd_agent_record_head head;

	if (reader->count == 0)
		return 0;
	if (!take_record(reader, &head, ret) ||
	    (reader->count == 1 && head.bytes != reader->left)) {
		reader->count = 1; /* and so it stays: the next call finds the same */
		reader->left = 0;
		return -EBADMSG;
	}
	reader->at += head.bytes;
	reader->left -= head.bytes;
	reader->count--;
	reader->sequence++;
	return 1;
}

struct vfsd_agent_message vfsd_agent_message_make(enum vfsd_agent_type type,
						  const struct vfsd_agent_message *from)
{
	struct vfsd_agent_message message = {
		.magic = VFSD_AGENT_MAGIC,
		.version = VFSD_AGENT_VERSION,
		.type = (uint16_t)type,
	};

	if (type == VFSD_AGENT_HELLO)
		message.pid = from->pid;
	if (type == VFSD_AGENT_ACK)
		message.sequence = from->sequence;
	if (type == VFSD_AGENT_WATCH) {
		message.node = from->node;
		message.generation = from->generation;
		message.mask = from->mask;
	}
	return message;
}

int vfsd_agent_message_read(const void *at, size_t bytes, struct vfsd_agent_message *ret)
{
	struct vfsd_agent_message message, exact;

	if (bytes != sizeof(message))
		return -EBADMSG;
	memcpy(&message, at, sizeof(message));
	if (message.magic != VFSD_AGENT_MAGIC)
		return -EBADMSG;
	if (message.version != VFSD_AGENT_VERSION)
		return -EPROTONOSUPPORT;
	if (message.type == 0 || message.type >= VFSD_AGENT_TYPES)
		return -EBADMSG;
	exact = vfsd_agent_message_make((enum vfsd_agent_type)message.type, &message);
	if (memcmp(&exact, &message, sizeof(exact)) != 0)
		return -EBADMSG;
	*ret = message;
	return 0;
}
