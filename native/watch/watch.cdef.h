/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What of the consumers' side crosses between C and Python: python.h includes it, cffi reads it. So it holds plain declarations only, nothing for the preprocessor.
 */

/* watch.h: what a watch client wants to hear of. */
typedef struct vfsd_watch_spec {
	uint32_t id;   /* the consumer's own number, in each record */
	uint32_t mask; /* FAN_* bits of events */
	bool recursive;
	const char *path; /* from the share on, without "." and ".."; "" is the share */
} vfsd_watch_spec;

enum { VFSD_RECORD_TYPE_COUNT = 7 }; /* enum vfsd_record_type */

typedef struct vfsd_watch_request {
	uint32_t ring_bytes;  /* shm_ring.h */
	uint32_t types;	      /* a bit for each enum vfsd_record_type; loss and watch come anyway */
	uint64_t subtypes[7]; /* of each type, a bit for each subtype */
	const vfsd_watch_spec *watches; /* copied */
	uint32_t n_watches;
} vfsd_watch_request;

/* watch.h: something was mounted below the share, or changed. */
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
 * under our hands; or what the host says.
 */
int vfsd_shm_reader_create(int fd, vfsd_shm_reader **ret);
void vfsd_shm_reader_destroy(vfsd_shm_reader *reader);

/*
 * The oldest record that was not given back yet. 1: it is in *ret, whose payload is borrowed until
 * the release; others may still write to it, so copy before checking. 0: there is none now.
 * -EBADMSG, from then on: the ring makes no sense.
 * A loss has no payload but entry.lost: how many records are missing at this place.
 */
int vfsd_shm_reader_next(vfsd_shm_reader *reader, vfsd_ring_entry *ret);

/* Give back the record that next has shown. Without one: nothing. */
void vfsd_shm_reader_release(vfsd_shm_reader *reader);
