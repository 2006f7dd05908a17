/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/thread.h"

#include <stdio.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* protects the list */
static struct vfsd_thread *running;

static void ignore(int number)
{
	(void)number;
}

/* Handled, not ignored, and without SA_RESTART: system calls come back. */
static void handle_signal(void)
{
	struct sigaction action = {.sa_handler = ignore};

	(void)sigaction(VFSD_THREAD_SIGNAL, &action, NULL);
}

static void enter(struct vfsd_thread *thread)
{
	pthread_mutex_lock(&lock);
	thread->next = running;
	running = thread;
	pthread_mutex_unlock(&lock);
}

static void leave(struct vfsd_thread *thread)
{
	struct vfsd_thread **link = &running;

	pthread_mutex_lock(&lock);
	while (*link != thread)
		link = &(*link)->next;
	*link = thread->next;
	pthread_mutex_unlock(&lock);
}

static void *run(void *arg)
{
	struct vfsd_thread *thread = arg;

	/* By the thread itself: others would need /proc, which a sandbox takes for the share's. */
	(void)pthread_setname_np(pthread_self(), thread->name);
	thread->self = pthread_self();
	enter(thread);
	thread->run(thread->arg);
	leave(thread);
	return NULL;
}

int vfsd_thread_start(struct vfsd_thread *thread, const char *name, void (*act)(void *arg),
		      void *arg)
{
	sigset_t mask, before;
	int err;

	pthread_once(&once, handle_signal);
	*thread = (struct vfsd_thread){.run = act, .arg = arg};
	(void)snprintf(thread->name, sizeof(thread->name), "%s", name);
	/* Other signals are the control thread's business. */
	sigfillset(&mask);
	sigdelset(&mask, VFSD_THREAD_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &mask, &before);
	err = -pthread_create(&thread->id, NULL, run, thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

void vfsd_thread_join(struct vfsd_thread *thread)
{
	(void)pthread_join(thread->id, NULL);
}

void vfsd_threads_interrupt(void)
{
	pthread_mutex_lock(&lock);
	for (const struct vfsd_thread *thread = running; thread; thread = thread->next)
		(void)pthread_kill(thread->self, VFSD_THREAD_SIGNAL);
	pthread_mutex_unlock(&lock);
}
