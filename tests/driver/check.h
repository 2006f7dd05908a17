/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check - what C tests and fuzz targets are sure of. The first doubt ends the process: status 1, or
 * SIGABRT with VFSD_CHECK_ABORT defined, which is what fuzzers look for.
 */
#ifndef VFSD_CHECK_H
#define VFSD_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline _Noreturn void vfsd_check_failed(const char *file, int line, const char *what)
{
	(void)fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
#ifdef VFSD_CHECK_ABORT
	abort();
#else
	_exit(1); /* no leak report on top */
#endif
}

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			vfsd_check_failed(__FILE__, __LINE__, #condition);                         \
	} while (0)

/* Integers of any type; tells both values. */
#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_) {                                                                    \
			(void)fprintf(stderr, "%lld != %lld\n", a_, b_);                           \
			vfsd_check_failed(__FILE__, __LINE__, #a " == " #b);                       \
		}                                                                                  \
	} while (0)

#endif
