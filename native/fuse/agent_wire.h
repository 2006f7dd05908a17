/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/agent_wire - what the guest's agent and the daemon say to each other by the file
 * `.virtiofsd-agent`: its bytes, and the codec of both sides.
 *
 * READ returns a batch of records, WRITE takes one message. All fields are in the guest's byte order,
 * which virtio-fs requires to be the host's. Each side checks whatever comes from the other.
 * Needs nothing but the C library: the agent is linked with it too.
 * Owner thread: any, no state.
 * Spec: docs/protocol.md, "The agent's file".
 */
#ifndef VFSD_FUSE_AGENT_WIRE_H
#define VFSD_FUSE_AGENT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VFSD_AGENT_FILE ".virtiofsd-agent"
/*
 * The same file by its node id (generation 0), for open_by_handle_at(): opened so it is in no directory, whose
 * watchers would see each READ and WRITE.
 */
#define VFSD_AGENT_NODE 0x00000001fffffff0ULL
/* Where the agent moves things to and from that leave and enter the share; only it can look it up. */
#define VFSD_AGENT_ELSEWHERE ".virtiofsd-elsewhere"

enum {
	VFSD_AGENT_MAGIC = 0x47415646, /* "FVAG" */
	VFSD_AGENT_VERSION = 1,
	VFSD_AGENT_NAME_MAX = 255,
	VFSD_AGENT_BATCH_MAX = 32 << 10, /* bytes; no batch is longer, no READ should ask for less */
	/* st_blksize of what is answered as if the host's change were the agent's. */
	VFSD_AGENT_MARK = 32 << 20,
};

/* What the host did. The names are those that the agent's part needs, not inotify's. */
enum vfsd_agent_kind {
	VFSD_AGENT_CREATE = 1, /* name in node */
	VFSD_AGENT_DELETE,     /* likewise */
	VFSD_AGENT_RENAME,     /* name in node to other_name in other */
	VFSD_AGENT_MOVED_OUT,  /* name in node, to where the guest does not watch */
	VFSD_AGENT_MOVED_IN,   /* name in node, from there */
	/* These and ATTRIB up to CLOSE_NOWRITE: of name in node, or of child alone. */
	VFSD_AGENT_MODIFY,
	VFSD_AGENT_ATTRIB,
	VFSD_AGENT_ACCESS,
	VFSD_AGENT_OPEN,
	VFSD_AGENT_CLOSE_WRITE,
	VFSD_AGENT_CLOSE_NOWRITE,
	VFSD_AGENT_MOVE_SELF, /* child */
	VFSD_AGENT_ENDED,     /* child: it has lost its last name */
	VFSD_AGENT_FORGOTTEN, /* child: the guest gave this id back, so its WATCH is void */
	VFSD_AGENT_LOSS,      /* events were lost here: whatever is watched may have changed */
	VFSD_AGENT_KINDS,
};

enum vfsd_agent_type {
	VFSD_AGENT_HELLO = 1, /* version, pid: the writing thread does what the records say */
	VFSD_AGENT_ACK,	      /* sequence: done, and all before it */
	VFSD_AGENT_WATCH,     /* node, generation, mask */
	VFSD_AGENT_TYPES,
};

struct vfsd_agent_batch {
	uint32_t magic;
	uint16_t version;
	uint16_t count;	   /* of records that follow */
	uint32_t bytes;	   /* with this header */
	uint32_t padding;  /* 0 */
	uint64_t sequence; /* of the first record; each next one has one more */
};

struct vfsd_agent_record_head {
	uint32_t bytes; /* with this header, the names, and zeros up to a multiple of 8 */
	uint16_t kind;
	uint16_t padding; /* 0 */
	uint64_t sequence;
	uint64_t node;	/* a directory; 0: child alone */
	uint64_t child; /* the object; 0: the guest does not know it */
	uint64_t other; /* of RENAME: the directory that it went to */
	uint32_t node_generation;
	uint32_t child_generation;
	uint32_t other_generation;
	uint32_t mode; /* at least the bits of S_IFMT */
	uint32_t cookie;
	uint16_t name_bytes; /* without NUL; 0: none */
	uint16_t other_name_bytes;
};

/* Messages have all of these; what the type does not need is 0. */
struct vfsd_agent_message {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint64_t node;
	uint64_t sequence;
	uint32_t generation;
	uint32_t mask; /* IN_* bits, all that is wanted of the node from now on; 0: nothing */
	uint32_t pid;
	uint32_t padding; /* 0 */
};

_Static_assert(sizeof(struct vfsd_agent_batch) == 24, "on the wire");
_Static_assert(sizeof(struct vfsd_agent_record_head) == 64, "on the wire");
_Static_assert(sizeof(struct vfsd_agent_message) == 40, "on the wire");

/* One record as programs use it. Names are NUL-terminated, "" without one. */
struct vfsd_agent_record {
	enum vfsd_agent_kind kind;
	uint64_t sequence;
	uint64_t node, child, other;
	uint32_t node_generation, child_generation, other_generation;
	uint32_t mode;
	uint32_t cookie;
	char name[VFSD_AGENT_NAME_MAX + 1];
	char other_name[VFSD_AGENT_NAME_MAX + 1];
};

/* Is that a record which a side may send: a kind that there is, the names that it needs and no others? */
bool vfsd_agent_record_is_valid(const struct vfsd_agent_record *record);

/* "CREATE" and so on, for logs; never NULL. */
const char *vfsd_agent_kind_name(uint32_t kind);

/* -- a batch, as it is written ------------------------------------------------------------------- */

struct vfsd_agent_writer {
	uint8_t *at; /* begins with a struct vfsd_agent_batch, aligned to 8 bytes */
	size_t size;
	size_t used;
	uint16_t count;
};

/* @size: at least that of the header. */
void vfsd_agent_batch_begin(struct vfsd_agent_writer *writer, void *at, size_t size);
/* False: no room, or not valid; the batch is as before. */
bool vfsd_agent_batch_add(struct vfsd_agent_writer *writer, const struct vfsd_agent_record *record);
/* Returns the bytes of the whole batch, whose first record has the number @sequence. */
size_t vfsd_agent_batch_end(struct vfsd_agent_writer *writer, uint64_t sequence);

/* -- and as it is read --------------------------------------------------------------------------- */

struct vfsd_agent_reader {
	const uint8_t *at;
	size_t left;
	uint16_t count;	   /* not read yet */
	uint64_t sequence; /* of the next one */
};

/* 0; -EPROTONOSUPPORT: of another version; -EBADMSG: no batch. */
int vfsd_agent_batch_open(struct vfsd_agent_reader *reader, const void *at, size_t bytes);
/* 1: *ret is the next record; 0: there is none; -EBADMSG: nor will there be. */
int vfsd_agent_batch_next(struct vfsd_agent_reader *reader, struct vfsd_agent_record *ret);

/* -- messages ------------------------------------------------------------------------------------ */

/* Of @type, with the fields of @from that it has. */
struct vfsd_agent_message vfsd_agent_message_make(enum vfsd_agent_type type,
						  const struct vfsd_agent_message *from);
/* 0; -EPROTONOSUPPORT: of another version; -EBADMSG: not one message. */
int vfsd_agent_message_read(const void *at, size_t bytes, struct vfsd_agent_message *ret);

#endif
