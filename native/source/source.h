/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/source - the contract of a source of host events: what it watches, and what its events look like.
 *
 * A source watches inodes for the union of all interest, and turns the host's format into events of one
 * bit each, in order. One that can attribute events to a process marks what this daemon itself has
 * caused, and for a guest leaves that out, because the guest's VFS has reported it already. One that
 * cannot names in server_mask the bits that it reports whoever caused them, and the guest then does not
 * raise those itself.
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
 * so events of that kind have unnamed set.
 */
#define VFSD_SOURCE_EXCL_UNLINK 0x04000000u
/* FAN_FS_ERROR, which older headers lack (Linux 5.16). */
#define VFSD_SOURCE_FS_ERROR 0x8000u

/* Filesystem marks at a time: one is of the share, the others of what is mounted below it. */
enum { VFSD_SOURCE_FILESYSTEMS_MAX = 64 };

struct vfsd_source_event {
	uint64_t nodeid; /* the directory if there is a name (0: has left since), else the object */
	uint64_t child;	 /* the object called name, 0 = the guest does not know it */
	uint32_t mask;	 /* one FAN_* bit, plus FAN_ONDIR; 0 with unlinked set is possible */
	uint32_t cookie; /* pairs MOVED_FROM and MOVED_TO, else 0 */
	bool self_generated; /* this daemon caused it, for a guest; only where server_mask is 0 */
	bool unlinked;	     /* the object (child, or nodeid without a name) has no links left */
	bool parent_only;    /* the object's own watchers receive an event of their own */
	bool unnamed;	     /* the name that it was opened by was gone; only where asked for */
	bool unknown_dir;    /* nodeid is a directory that the guest has not looked up */
	int32_t error;	     /* FAN_FS_ERROR: the first one, positive; of a filesystem that has */
	uint32_t errors;     /* a filesystem mark, how many, */
	uint64_t root;	     /* and its root */
	const char *name;    /* borrowed, NUL-terminated; NULL without one */
	uint32_t name_bytes; /* without the NUL */
};

/* What receives the events of one drain(). */
struct vfsd_source_sink {
	void *ctx;
	void (*event)(void *ctx, const struct vfsd_source_event *event);
	void (*lost)(void *ctx);    /* the host dropped an unknown number of events here */
	void (*pass_on)(void *ctx); /* the events so far may be delivered; more may follow */
};

struct vfsd_source_config {
	struct vfsd_inodes *inodes;	/* borrowed */
	const struct vfsd_marks *marks; /* borrowed: what is wanted of each inode */
	int proc_self_fd;		/* borrowed */
	/* Of a source that makes fanotify marks, and of one that makes inotify watches; 0: as the host. */
	uint32_t max_marks;
	uint32_t max_watches;
	bool everything;   /* all bits, whoever caused them: the receiver has no other source */
	bool cross_mounts; /* to the guest all that is mounted below the share is one filesystem */

	/* Of a node id in source/fanotify/fs_mark_nodes.h: nobody holds it any more. */
	void *ctx;
	void (*forgotten)(void *ctx, struct vfsd_inode *inode);
	/*
	 * Roots of filesystem marks may have been removed or unmounted: unwatch those that were.
	 * Called by drain(). NULL: nobody minds.
	 */
	void (*roots_may_end)(void *ctx);
};

/* What every source begins with. */
struct vfsd_source {
	const struct vfsd_source_ops *ops;
	int fd; /* readable when events wait */
	/* When the host's queue overflowed, and whether more came since: see vfsd_source_end_drain(). */
	enum { VFSD_SOURCE_COMPLETE, VFSD_SOURCE_LOST_NOW, VFSD_SOURCE_LOST_BEFORE } overflow;
	bool after_overflow;
};

struct vfsd_source_ops {
	/* Event bits that it reports whoever caused them, this daemon included. */
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
	 * A filesystem mark: watch all of the filesystem that @root is the root of, as the guest sees
	 * it, for @mask (0: no more, which never fails). NULL: only inodes can be watched. 0 or -errno,
	 * then things are as before; -EPERM: the host does not let this daemon.
	 */
	int (*watch_filesystem)(struct vfsd_source *source, struct vfsd_inode *root, uint32_t mask);

	/* Give up the node ids that are held for the guest. NULL: none ever are. */
	void (*release_nodes)(struct vfsd_source *source);

	/*
	 * Read everything the host holds now, and not much of what comes meanwhile: a host that is
	 * faster than the daemon must not keep it here. fsnotify queues synchronously, so every event
	 * of an operation that has returned has reached @sink before this returns.
	 */
	void (*drain)(struct vfsd_source *source, const struct vfsd_source_sink *sink);
};

/* Can attribute events to a process: fanotify inode marks (Linux 5.13 without privilege). */
extern const struct vfsd_source_ops vfsd_source_fanotify;
/* Cannot: inotify, for hosts and filesystems without usable fanotify. */
extern const struct vfsd_source_ops vfsd_source_inotify;

/* For sources: an event was read; @overflow: it says that the host dropped some. */
void vfsd_source_took(struct vfsd_source *source, const struct vfsd_source_sink *sink,
		      bool overflow);

/*
 * For sources: at the end of each drain(). While the host's overflow event waits in its queue, more
 * may be dropped behind it, and nothing says so: what the host queued after it, up to what waited
 * when it was read, is followed by a loss of its own.
 */
void vfsd_source_end_drain(struct vfsd_source *source, const struct vfsd_source_sink *sink);

/* For sources: the event bits of @mask one by one, in the order in which an operation raises them. */
uint32_t vfsd_source_next_bit(uint32_t *mask);

/*
 * For sources: the node id of what is called @name in the directory @dir_fd now. 0 if the guest does
 * not know it, or if there is no such thing, which *exists says.
 */
uint64_t vfsd_source_node_in(struct vfsd_inodes *inodes, int dir_fd, const char *name,
			     bool *exists);

/*
 * For sources: is @name in the directory @dir_fd gone, or by now another object than @object (NULL:
 * any will do)? What took it away is in the host's queue when this returns true.
 */
bool vfsd_source_lost_name(int dir_fd, const char *name, const struct vfsd_file_handle *object);

/*
 * For sources: wait for whoever is removing something from the directory @dir_fd: what is being removed
 * there is in the host's queue when this returns.
 */
void vfsd_source_await_removals(int dir_fd);

/*
 * For sources: the directory @fd is closed next, and with it those that it is in are released. If some
 * of them are being removed, wait for that: then it is this daemon that ends them.
 */
void vfsd_source_outlast(int fd);

/*
 * For sources: what every watch of @inode begins with, one that is new among @watches or not. Keeps
 * to the limit @max (0: none), unpins what would keep the object from ending, and takes a descriptor, to
 * be given back with vfsd_inode_fd_put(). Returns it, or -errno (-ENOSPC: the limit).
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
 * For sources: did the last link of @inode go, and must that do for its end? Not where
 * this daemon does not pin it: the host then reports DELETE_SELF when the last one closes it.
 */
bool vfsd_source_is_unlinked(struct vfsd_inodes *inodes, struct vfsd_inode *inode);

#endif
