/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsnotify/agent_feed - from the records of the event ring, which are inotify's events, to what the guest's agent
 * can do again.
 *
 * The halves of a rename become one record. What the guest's kernel raises by itself while that is done
 * is left out: MOVE_SELF of what was renamed, ATTRIB of what has lost its last name, be that in the
 * record of its end or in one of its own, read before the host had the end. Order and loss are
 * the ring's.
 * Owner thread: the holder of the engine's event lock.
 */
#ifndef VFSD_FSNOTIFY_AGENT_FEED_H
#define VFSD_FSNOTIFY_AGENT_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse/agent_wire.h"

struct vfsd_record_ring;

/* The least room for a batch: what one record of the ring becomes always fits. */
enum { VFSD_AGENT_FEED_MIN = 4096 };

struct vfsd_agent_feed {
	/*
	 * S_IFMT bits of what is called @name in the directory @node, or of the node itself if that is
	 * NULL. 0: there is no such thing.
	 */
	uint32_t (*type_of)(void *ctx, uint64_t node, const char *name);
	/* Has the node a name left, or is that not known? */
	bool (*has_name)(void *ctx, uint64_t node);
	void *ctx;

	/* All that follows is ours; zeros to begin with. */
	uint64_t sequence;	       /* of the last record */
	struct vfsd_agent_record from; /* half of a rename; its kind is 0 if there is none */
	uint64_t moved;		       /* renamed, so that its MOVE_SELF is left out */
	uint32_t moved_left;	       /* for so many records more */
};

/* Forget what is left of the ring's last reader. */
void vfsd_agent_feed_reset(struct vfsd_agent_feed *feed);

/*
 * Move what waits in @ring into a batch of at most @room (VFSD_AGENT_FEED_MIN or more) bytes at @to, which is
 * aligned to 8 bytes. Returns its bytes, 0: there is nothing for the agent.
 */
size_t vfsd_agent_feed_take(struct vfsd_agent_feed *feed, struct vfsd_record_ring *ring, void *to,
			    size_t room);

#endif
