/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/faults - what a test build (meson setup -Dfaults=true) does wrong when the environment asks for it.
 * Any other build has no trace of it, whatever the environment says.
 *
 *   VFSD_FAULT_DELAY_MS=N    the event thread sees host events 0 to N milliseconds late
 *   VFSD_FAULT_NO_BARRIER=1  replies do not wait for older events
 *   VFSD_FAULT_HOLD=1        the event thread holds what it looks up by name until the name is gone,
 *                            2: until the directory is, 3: until the one that that is in is
 *   VFSD_FAULT_OLD_HOST=1    fanotify does not say what came or went by a name, as before Linux 5.17
 *   VFSD_FAULT_TAKE=N        of what each request that changes something takes of memory, tables and
 *                            quota, the Nth is not there any more
 *
 * Owner thread: init by the control thread; the rest by any, what is asked for is constant then.
 */
#ifndef VFSD_BASE_FAULTS_H
#define VFSD_BASE_FAULTS_H

#include <stdbool.h>

#ifdef VFSD_FAULTS

/* Read the environment. */
void vfsd_faults_init(void);

/* Wait a random time, or until @stop_fd is readable. No lock may be held. */
void vfsd_faults_delay(int stop_fd);

bool vfsd_faults_no_barrier(void);

bool vfsd_faults_old_host(void);

/* @name in @dir_fd is being looked up, and that takes its time: until the host has removed it. */
void vfsd_faults_hold(int dir_fd, const char *name);

/* This thread serves another request. */
void vfsd_faults_request(bool changes);

/* Something is to be taken: is it not there? */
bool vfsd_faults_refuse(void);

#else

static inline void vfsd_faults_init(void)
{
}

static inline void vfsd_faults_delay(int stop_fd)
{
	(void)stop_fd;
}

static inline bool vfsd_faults_no_barrier(void)
{
	return false;
}

static inline bool vfsd_faults_old_host(void)
{
	return false;
}

static inline void vfsd_faults_hold(int dir_fd, const char *name)
{
	(void)dir_fd;
	(void)name;
}

static inline void vfsd_faults_request(bool changes)
{
	(void)changes;
}

static inline bool vfsd_faults_refuse(void)
{
	return false;
}

#endif

#endif
