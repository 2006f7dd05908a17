/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse/agent_due - the rule of safety of the guest's agent: what a request of its thread is answered with
 * while a record is due.
 *
 * Nothing that the thread asks for changes the host. What reads is served; what the due record is done
 * again by is answered as if it had been done; all else is refused. A pure function, so that the rule
 * can be read, and tested, in one place.
 * Owner thread: any, no state.
 */
#ifndef VFSD_FUSE_AGENT_DUE_H
#define VFSD_FUSE_AGENT_DUE_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_agent_record;

/* Node ids that the inode table never gives, as VFSD_AGENT_NODE: their index is beyond its last one. */
#define VFSD_AGENT_NODE_NAMED 0x00000001fffffff3ULL /* VFSD_AGENT_FILE, looked up by name */
#define VFSD_AGENT_NODE_ELSEWHERE 0x00000001fffffff1ULL
/* Of objects that are gone: a count in the upper half. */
#define VFSD_AGENT_NODE_GHOST 0x00000000fffffff2ULL
/* The file handle of what is opened as a ghost; no table of open files gives it. */
#define VFSD_AGENT_GHOST_FH UINT64_MAX

enum vfsd_agent_answer {
	VFSD_ANSWER_PLAIN,  /* it changes nothing: serve it */
	VFSD_ANSWER_REFUSE, /* -EPERM */
	VFSD_ANSWER_ABSENT, /* -ENOENT */
	VFSD_ANSWER_NOW,    /* entry: what has the record's name now, or a ghost */
	VFSD_ANSWER_CHILD,  /* entry: the record's child, or a ghost */
	VFSD_ANSWER_ELSEWHERE,
	VFSD_ANSWER_DONE,	/* 0, without a body */
	VFSD_ANSWER_ATTR,	/* attributes with the mark */
	VFSD_ANSWER_STALE_ATTR, /* the same with another mtime, so that the guest drops its pages */
	VFSD_ANSWER_OPEN,	/* a ghost's file handle */
};

/* One request, as far as it matters here. Names are NULL where the opcode has none. */
struct vfsd_agent_request {
	uint32_t opcode;
	uint64_t node;
	const char *name;
	uint64_t other; /* RENAME, RENAME2 */
	const char *other_name;
	uint32_t flags; /* OPEN: open(2)'s; SETATTR: FATTR_*; RENAME2: RENAME_* */
};

/*
 * What @request is answered with. @due: the record that the agent does again now, NULL: none. @done: the
 * request that does it has been answered already.
 */
enum vfsd_agent_answer vfsd_agent_answer(const struct vfsd_agent_record *due, bool done,
					 const struct vfsd_agent_request *request);

/* Does that opcode have one name right after its fixed struct, and RENAME's another one? */
bool vfsd_agent_has_name(uint32_t opcode);
bool vfsd_agent_is_rename(uint32_t opcode);

#endif
