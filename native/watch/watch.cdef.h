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

typedef struct vfsd_watch_request {
	uint32_t ring_bytes; /* shm_ring.h */
	uint32_t types; /* a bit for each enum vfsd_record_type; LOSS and WATCH are sent anyway */
	uint64_t subtypes[VFSD_RECORD_TYPES]; /* of each type, a bit for each subtype */
	const vfsd_watch_spec *watches;	      /* copied */
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
