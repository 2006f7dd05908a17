/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtiofsd-agent - real inotify events of what the host does in a virtio-fs share, in a guest whose kernel
 * knows nothing of that.
 *
 * The daemon says what the host has done. A thread for each mount does it again by ordinary system
 * calls; the daemon answers these as if they had been done and touches nothing, and the guest's VFS
 * raises the events. Another thread looks for what is watched in this guest, and tells the daemon.
 */
#ifndef VIRTIOFSD_AGENT_H
#define VIRTIOFSD_AGENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fuse/agent_wire.h"

/* A watched object: by what a FUSE file handle has. */
struct watch {
	uint64_t node;
	uint32_t generation;
	uint32_t mask; /* IN_* */
};

struct watches {
	struct watch *at;
	size_t n, room;
};

struct mount {
	const char *path;
	dev_t dev;
	int root; /* of its directory */

	/* The lock is held while the interest thread uses what follows. */
	pthread_mutex_t lock;
	int session;	   /* the open VFSD_AGENT_FILE, -1: none */
	uint64_t sessions; /* how many there have been */

	/* Of the session's own thread. */
	int elsewhere;	/* O_PATH of VFSD_AGENT_ELSEWHERE */
	struct {	/* the directory of the last record, for the length of a batch */
		int fd; /* O_PATH, -1: none */
		uint64_t node;
		uint32_t generation;
	} dir;
	uint8_t said[VFSD_AGENT_KINDS]; /* an errno that has been logged, by kind */

	/* Of the interest thread; read by the other one under the lock. */
	struct watches watches;
	uint64_t told; /* the session that knows them */
};

extern bool verbose;
extern int interval_ms;	  /* at which watches are looked for where nothing says when */
extern int session_began; /* an eventfd: wakes the interest thread */

/* One line to standard error, and to the journal by that. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* session.c */

/* Open the share at mount->path. 0 or -errno, after a line that says why. */
int mount_open(struct mount *mount);
/* Begin a session. 0 or -errno; -EBUSY: there is another agent, or the kernel needs none. */
int session_open(struct mount *mount);
/* Do what the host does for as long as the session lasts; -errno says how it ended. */
int session_run(struct mount *mount);
void session_close(struct mount *mount);
/* Send one message. 0 or -errno. */
int session_send(int session, enum vfsd_agent_type type, const struct vfsd_agent_message *from);

/* replay.c */

/* Do again what @record says. 0, or -errno: the guest's watchers miss it. */
int replay(struct mount *mount, const struct vfsd_agent_record *record);
/* A batch is done: hold no directory, for the end of one that is held would not be seen. */
void replay_done(struct mount *mount);
/* Open what has that id, through @mount_fd, which is not O_PATH. The descriptor or -errno. */
int open_node(int mount_fd, uint64_t node, uint32_t generation, int flags);

/* interest.c */

/* Look for every inotify watch in this guest that is on one of @mounts. 0 or -errno. */
int interest_find(struct mount *mounts, size_t n);
/* What the daemon was told of @node is void, of all nodes if that is 0: it is told again. */
void interest_forget(struct mount *mount, uint64_t node);
/*
 * Find, and tell the daemon what is new, whenever there may be some; never returns. @ready is called
 * once, when every mount has a session that knows what is watched.
 */
void interest_run(struct mount *mounts, size_t n, void (*ready)(void)) __attribute__((noreturn));

/* trigger.c */

/* A descriptor that becomes readable when somebody adds a watch, or -errno: look every second. */
int trigger_open(void);
/* Wait for that, for a session that begins, or for as long. */
void trigger_wait(int trigger, int timeout_ms);

/* check.c */

/* Say what is there and what is missing. Returns an exit status. */
int check(const char *const *paths, size_t n);

#endif
