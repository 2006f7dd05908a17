/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base/faults - faults of a test build (meson setup -Dfaults=true), which the environment asks for. Other
 * builds have none of this code.
 *
 *   VFSD_FAULT_DELAY_MS=N    the event thread sees host events 0 to N milliseconds late
 *   VFSD_FAULT_NO_BARRIER=1  replies do not wait for older events
 *   VFSD_FAULT_HOLD=1        the event thread's lookup of a name waits until the name is gone,
 *                            2: until its directory is gone, 3: until the directory above that is
 *   VFSD_FAULT_OLD_HOST=1    fanotify events of names have no handle of the object, as before Linux 5.17
 *   VFSD_FAULT_TAKE=N        in each request that changes something, the Nth allocation of memory, table or
 *                            quota fails
 *
 * Owner thread: init by the control thread; the rest by any, nothing changes after init.
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

/* @name in @dir_fd is being looked up: wait until the host has removed it. */
void vfsd_faults_hold(int dir_fd, const char *name);

/* This thread begins to serve a request. */
void vfsd_faults_request(bool changes);

/* Does the allocation at hand fail? */
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
