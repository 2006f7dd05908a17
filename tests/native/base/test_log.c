/* SPDX-License-Identifier: BSD-3-Clause */
/* The log: levels, hostile bytes, long lines, errno, and a call site that a guest hammers. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

struct sink {
	_Atomic unsigned int lines;
	char last[1024];
};

static void keep(void *ctx, enum vfsd_log_level level, const char *line)
{
	struct sink *sink = ctx;

	(void)level;
	sink->lines++;
	(void)snprintf(sink->last, sizeof(sink->last), "%s", line);
	errno = EIO;
}

static void count(void *ctx, enum vfsd_log_level level, const char *line)
{
	struct sink *sink = ctx;

	(void)level;
	(void)line;
	sink->lines++;
}

static void test_lines(void)
{
	struct sink sink = {0};
	char name[600];

	vfsd_log(VFSD_LOG_ERROR, "nobody listens");
	vfsd_log_set_sink(keep, &sink, VFSD_LOG_INFO);
	vfsd_log(VFSD_LOG_DEBUG, "too=detailed");
	CHECK_EQ(sink.lines, 0);

	errno = ENOENT;
	vfsd_log(VFSD_LOG_INFO, "a=%d error=%m", 1);
	CHECK_EQ(errno, ENOENT);
	CHECK(strcmp(sink.last, "a=1 error=No such file or directory") == 0);

	vfsd_log(VFSD_LOG_WARN, "name=%s", "x\ny\033[2J\177\303\244");
	CHECK(strcmp(sink.last, "name=x?y?[2J?\303\244") == 0);

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	vfsd_log(VFSD_LOG_WARN, "%s", name);
	CHECK_EQ(strlen(sink.last), 511);
	vfsd_log_set_sink(NULL, NULL, VFSD_LOG_ERROR);
	vfsd_log(VFSD_LOG_ERROR, "nobody listens");
	CHECK_EQ(sink.lines, 3);
}

enum { THREADS = 4, ROUNDS = 10000 };

static struct vfsd_log_site shared;

static void *hammer(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		vfsd_log_limited(&shared, VFSD_LOG_WARN, "bad=ring");
	return arg;
}

static void test_limited(void)
{
	struct sink sink = {0};
	pthread_t threads[THREADS];

	vfsd_log_set_sink(count, &sink, VFSD_LOG_WARN);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, hammer, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK(sink.lines >= 1 && sink.lines < THREADS * ROUNDS);

	vfsd_log_set_sink(keep, &sink, VFSD_LOG_WARN);
	shared.suppressed = 7;
	shared.next_ms = 0;
	errno = ENOENT;
	vfsd_log_limited(&shared, VFSD_LOG_WARN, "bad=%s", "ring");
	CHECK_EQ(errno, ENOENT);
	CHECK(strcmp(sink.last, "bad=ring suppressed=7") == 0);

	shared.next_ms = INT64_MAX;
	vfsd_log_limited(&shared, VFSD_LOG_WARN, "bad=again");
	CHECK_EQ(shared.suppressed, 1);
	vfsd_log_limited(&shared, VFSD_LOG_DEBUG, "not=wanted");
	CHECK_EQ(shared.suppressed, 1);
	CHECK(strcmp(sink.last, "bad=ring suppressed=7") == 0);

	for (int i = 0; i < 2; i++)
		VFSD_LOG_LIMITED(VFSD_LOG_WARN, "macro=%d", i);
	CHECK(strncmp(sink.last, "macro=", 6) == 0);
	vfsd_log_set_sink(NULL, NULL, VFSD_LOG_ERROR);
}

int main(void)
{
	test_lines();
	test_limited();
	return 0;
}
