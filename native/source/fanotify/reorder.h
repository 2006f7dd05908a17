/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source/fanotify/reorder - in which order a name came and went, where the host has merged what it reports of it.
 *
 * fanotify merges an event into any unread one of the same name and process, even across events of
 * the same name by others: what is read may say CREATE and DELETE at once, or end with a DELETE of a
 * name that is there. What is told of one name must come and go in turns, and end as things are.
 * Renames are merged with nothing but their like, so they tell what was there before and after them.
 * Remembers the names of one window, from an empty host queue to the next: nothing is merged beyond.
 * Owner thread: the source's.
 */
#ifndef VFSD_SOURCE_FANOTIFY_REORDER_H
#define VFSD_SOURCE_FANOTIFY_REORDER_H

#include <stdbool.h>
#include <stdint.h>

struct vfsd_names;

/* What is told of a name, and what that leaves. */
enum vfsd_name_bits {
	VFSD_NAME_COMES = 1, /* CREATE or MOVED_TO */
	VFSD_NAME_GOES = 2,  /* DELETE or MOVED_FROM */
};

enum { VFSD_NAME_STEPS_MAX = 3 };

/* 0 or -ENOMEM. */
int vfsd_names_create(struct vfsd_names **ret);
void vfsd_names_destroy(struct vfsd_names *names);

/* The host's queue was empty. */
void vfsd_names_forget(struct vfsd_names *names);

/*
 * Must somebody look whether the name is there now, before vfsd_names_order()? Not if @bits (any of
 * enum vfsd_name_bits) is one bit of a name that is new in this window.
 */
bool vfsd_names_must_look(const struct vfsd_names *names, uint64_t dir, const char *name,
			  uint32_t bits);

/* What becomes of a name in its window behind the event at hand, as far as somebody has looked. */
struct vfsd_names_ahead {
	bool any;	/* there are more events of the name, renames among them */
	uint32_t first; /* what the next of them does with it; 0: both, or there is none */
	uint32_t last;	/* what the last one does */
};

/*
 * What to tell, in order, of an event with @bits, into @ret: each one of enum vfsd_name_bits. It may
 * be more than @bits, where merging hid a step, or nothing, for a step that was told already.
 * @exists: whether the name is there now, @ahead what happens until then; both are ignored where
 * nobody had to look. A step that belongs further on is left to vfsd_names_hidden(). Returns
 * how many.
 */
uint32_t vfsd_names_order(struct vfsd_names *names, uint64_t dir, const char *name, uint32_t bits,
			  bool exists, const struct vfsd_names_ahead *ahead,
			  uint32_t ret[VFSD_NAME_STEPS_MAX]);

/*
 * The name comes or goes by a rename, which is told as it is. Returns what has to be told before: 0,
 * or VFSD_NAME_COMES of what goes now and was hidden in an event told before.
 */
uint32_t vfsd_names_moved(struct vfsd_names *names, uint64_t dir, const char *name, uint32_t bit);

/* May vfsd_names_hidden() have something to tell? If not, nobody has to look. */
bool vfsd_names_may_hide(const struct vfsd_names *names, uint64_t dir, const char *name);

/*
 * If nothing more comes of the name in this window: what has to be told now, for it was hidden in an
 * event told before? 0, or one of enum vfsd_name_bits, to be told and confirmed by
 * vfsd_names_told().
 */
uint32_t vfsd_names_hidden(const struct vfsd_names *names, uint64_t dir, const char *name,
			   bool exists);
void vfsd_names_told(struct vfsd_names *names, uint64_t dir, const char *name, uint32_t step);

/* May an event that was told of the name in this window belong elsewhere in it? */
bool vfsd_names_is_merged(const struct vfsd_names *names, uint64_t dir, const char *name);

#endif
