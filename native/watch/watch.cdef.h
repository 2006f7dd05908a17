/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What of this folder crosses between C and Python: python.h includes it, cffi reads it. So it holds plain
 * declarations only, nothing for the preprocessor.
 */

/* watch.h: one thing that a watch client watches, and what it wants to receive of it. */
typedef struct vfsd_watch_spec {
	uint32_t id;   /* the consumer's own number, in each record */
	uint32_t mask; /* FAN_* bits of events */
	bool recursive;
	const char *path; /* from the share on, without "." and ".."; "" is the share */
} vfsd_watch_spec;

enum { VFSD_RECORD_TYPE_COUNT = 7 }; /* enum vfsd_record_type */

typedef struct vfsd_watch_request {
	uint32_t ring_bytes; /* shm_ring.h */
	uint32_t types; /* a bit for each enum vfsd_record_type; LOSS and WATCH are sent anyway */
	uint64_t subtypes[7];		/* of each type, a bit for each subtype */
	const vfsd_watch_spec *watches; /* copied */
	uint32_t n_watches;
} vfsd_watch_request;

/* watch.h: a mount below the share, or its superblock, has changed. */
typedef struct vfsd_watch_mount {
	int type;    /* VFSD_RECORD_MOUNT or VFSD_RECORD_SUPERBLOCK */
	int subtype; /* enum vfsd_mount_change or vfsd_superblock_change */
	uint64_t mnt_id;
	uint32_t major; /* of the superblock, as the next */
	uint32_t minor;
	uint32_t flags;	  /* enum vfsd_mount_flags */
	const char *path; /* from the share on */
	const char *kind; /* of filesystem */
} vfsd_watch_mount;

/* shm_reader.h: a record as its reader sees it. */
typedef struct vfsd_ring_entry {
	uint16_t type; /* enum vfsd_record_type */
	uint16_t subtype;
	uint32_t watch;
	uint32_t bytes; /* of payload */
	const void *payload;
	uint64_t lost; /* in a loss: how many records are missing here */
} vfsd_ring_entry;

typedef struct vfsd_shm_reader vfsd_shm_reader;

/* shm_reader.h, which needs no engine: it is in another process. */

/*
 * Map the memory @fd, which is borrowed. 0; -EINVAL: it is no such ring, or could be cut short
 * while it is mapped; or the host's error.
 */
int vfsd_shm_reader_create(int fd, vfsd_shm_reader **ret);
void vfsd_shm_reader_destroy(vfsd_shm_reader *reader);

/*
 * Get the oldest record that was not released yet. 1: it is in *ret, whose payload is borrowed until
 * the release; the producer may still write to it, so copy before checking. 0: there is none now.
 * -EBADMSG, from then on: the ring is malformed.
 * A loss has no payload but entry.lost: how many records are missing at this place.
 */
int vfsd_shm_reader_next(vfsd_shm_reader *reader, vfsd_ring_entry *ret);

/* Release the record that next has returned, if there is one. */
void vfsd_shm_reader_release(vfsd_shm_reader *reader);
