/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/source - where host events come from, and what they look like once the host's dialect is gone.
 *
 * A source watches inodes for the union of all interest, and turns what the host says into events
 * of one bit each, in order. One that can tell whose doing an event is leaves out our own (the
 * guest's VFS has reported that already); one that cannot names in server_mask the bits that it
 * tells for everybody's doing, and the guest then does not raise those itself.
 * Owner thread: the holder of the engine's event lock; fd may be polled by anybody.
 */
#ifndef VFSD_SOURCE_SOURCE_H
#define VFSD_SOURCE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_file_handle;
struct vfsd_inode;
struct vfsd_inodes;
struct vfsd_marks;

/*
 * In the mask of a watch: somebody wants nothing of objects by names that are gone (IN_EXCL_UNLINK),
 * so events of that kind are told with unnamed set.
 */
#define VFSD_SOURCE_EXCL_UNLINK 0x04000000u
/* FAN_FS_ERROR, which older headers lack (Linux 5.16). */
#define VFSD_SOURCE_FS_ERROR 0x8000u

/* Watched as a whole at once: one is the share, the others are mounted below it. */
enum { VFSD_SOURCE_FILESYSTEMS_MAX = 64 };

struct vfsd_source_event {
	uint64_t nodeid; /* the directory if there is a name (0: has left since), else the object */
	uint64_t child;	 /* the object called name, 0 = the guest does not know it */
	uint32_t mask;	 /* one FAN_* bit, plus FAN_ONDIR; 0 with unlinked set is possible */
	uint32_t cookie; /* pairs MOVED_FROM and MOVED_TO, else 0 */
	bool unlinked;	 /* the object (child, or nodeid without a name) has no links left */
	bool parent_only;    /* the object's own watchers are told by an event of their own */
	bool unnamed;	     /* the name that it was opened by was gone; only where asked for */
	bool unknown_dir;    /* nodeid is a directory that the guest has not looked up */
	int32_t error;	     /* FAN_FS_ERROR: the first one, positive; of a filesystem that is */
	uint32_t errors;     /* watched as a whole, how many, */
	uint64_t root;	     /* and its root */
	const char *name;    /* borrowed, NUL-terminated; NULL without one */
	uint32_t name_bytes; /* without the NUL */
};

struct vfsd_source_sink {
	void *ctx;
	void (*event)(void *ctx, const struct vfsd_source_event *event);
	void (*lost)(void *ctx);    /* the host dropped an unknown number of events here */
	void (*pass_on)(void *ctx); /* what has been told may go on its way; more may follow */
};

struct vfsd_source_config {
	struct vfsd_inodes *inodes;	/* borrowed */
	const struct vfsd_marks *marks; /* borrowed: what is wanted of each inode */
	int proc_self_fd;		/* borrowed */
	/* Of a source that makes fanotify marks, and of one that makes inotify watches; 0: as the host. */
	uint32_t max_marks;
	uint32_t max_watches;
	bool everything;   /* all bits, everybody's doing: who hears of it has nobody but us */
	bool cross_mounts; /* to the guest all that is mounted below the share is one filesystem */

	/* Of what is kept for the guest, see source/fanotify/fs_mark.h: nobody holds it any more. */
	void *ctx;
	void (*forgotten)(void *ctx, struct vfsd_inode *inode);
	/*
	 * Roots of what is watched as a whole may have been removed or unmounted: have it watched no
	 * more if so. Called by drain(). NULL: nobody minds.
	 */
	void (*roots_may_end)(void *ctx);
};

/* What every source begins with. */
struct vfsd_source {
	const struct vfsd_source_ops *ops;
	int fd;	  /* readable when events wait */
	bool own; /* while one is told: our doing, for a guest; only from a source that can tell */
	/* When the host's queue overflowed, and whether it told more since: see vfsd_source_end_drain(). */
	enum { VFSD_SOURCE_WHOLE, VFSD_SOURCE_LOST_NOW, VFSD_SOURCE_LOST_BEFORE } overflow;
	bool after_overflow;
};

struct vfsd_source_ops {
	/* Event bits that it tells for everybody's doing, ours included. */
	uint32_t server_mask;

	/* 0 or -errno: the host has no such thing, or not for this share. */
	int (*create)(const struct vfsd_source_config *config, struct vfsd_source **ret);
	void (*destroy)(struct vfsd_source *source);

	/*
	 * The union of all interest in @inode goes from @old_mask to @new_mask (FS_* bits as a guest
	 * sends them; 0: none). Growth is in force when this returns. 0 or -errno; on error the host
	 * watch still carries @old_mask. -ENOSPC: the limit of watches.
	 */
	int (*watch)(struct vfsd_source *source, struct vfsd_inode *inode, uint32_t old_mask,
		     uint32_t new_mask);

	/*
	 * Watch the whole filesystem that @root is the root of, as the guest sees it, for @mask (0: no
	 * more, which never fails). NULL: only inodes can be watched. 0 or -errno, then things are as
	 * before; -EPERM: not by us.
	 */
	int (*watch_whole)(struct vfsd_source *source, struct vfsd_inode *root, uint32_t mask);

	/* Give up the node ids that are kept for the guest. NULL: none ever are. */
	void (*let_go)(struct vfsd_source *source);

	/*
	 * Read everything the host holds now, and not much of what comes meanwhile: a host that is
	 * faster than we are must not keep us here. fsnotify queues synchronously, so every event of
	 * an operation that has returned is told to @sink before this returns.
	 */
	void (*drain)(struct vfsd_source *source, const struct vfsd_source_sink *sink);
};

/* Knows whose doing it is: fanotify inode marks (Linux 5.13 without privilege). */
extern const struct vfsd_source_ops vfsd_source_fanotify;
/* Does not: inotify, for hosts and filesystems without usable fanotify. */
extern const struct vfsd_source_ops vfsd_source_inotify;

/* For sources: an event was read; @overflow: it tells that the host dropped some. */
void vfsd_source_took(struct vfsd_source *source, const struct vfsd_source_sink *sink,
		      bool overflow);

/*
 * For sources: at the end of each drain(). While the host's overflow event waits in its queue, more
 * may be dropped behind it, and nothing tells of that: what the host queued after it, up to what waited
 * when it was read, is followed by a loss of its own.
 */
void vfsd_source_end_drain(struct vfsd_source *source, const struct vfsd_source_sink *sink);

/* For sources: the event bits of @mask one by one, in the order in which an operation raises them. */
uint32_t vfsd_source_next_bit(uint32_t *mask);

/*
 * For sources: the node id of what is called @name in the directory @dir_fd now. 0 if the guest does
 * not know it, or if there is no such thing, which *exists tells.
 */
uint64_t vfsd_source_node_in(struct vfsd_inodes *inodes, int dir_fd, const char *name,
			     bool *exists);

/*
 * For sources: is @name in the directory @dir_fd gone, or by now another object than @object (NULL:
 * any will do)? What took it away is in the host's queue when this returns true.
 */
bool vfsd_source_lost_name(int dir_fd, const char *name, const struct vfsd_file_handle *object);

/*
 * For sources: wait until whoever is removing something from the directory @dir_fd has told it: what is
 * being removed there is in the host's queue when this returns.
 */
void vfsd_source_await_removals(int dir_fd);

/*
 * For sources: the directory @fd is let go next, and with it those that it is in. If some of them are
 * being removed, wait for that: then it is we who end them.
 */
void vfsd_source_outlast(int fd);

/*
 * For sources: what every watch of @inode begins with, one that is new among @watches or not. Keeps
 * to the limit @max (0: none), lets go of what would hide the object's end from us, and borrows a descriptor, to be
 * given back with vfsd_inode_fd_put(). Returns it, or -errno (-ENOSPC: the limit).
 */
int vfsd_source_begin(const struct vfsd_source_config *config, struct vfsd_inode *inode,
		      uint32_t watches, uint32_t max, bool is_new, bool *transient);

enum { VFSD_SOURCE_NAME_BYTES = 256 };

/*
 * For sources: the directory that the directory @fd is in, if the guest knows it, and what it is
 * called there. Transient reference or NULL.
 */
struct vfsd_inode *vfsd_source_parent_of(struct vfsd_inodes *inodes, int proc_self_fd, int fd,
					 char name[VFSD_SOURCE_NAME_BYTES]);

/*
 * For sources: did the last link of @inode go, and must that do for its end? Not where nothing of
 * ours pins it: the host then reports DELETE_SELF, when the last one who has it open lets go.
 */
bool vfsd_source_is_unlinked(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

#endif
