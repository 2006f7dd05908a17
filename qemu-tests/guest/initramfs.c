/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * /init of a distribution's kernel, which has as modules what ours have built in: loads them in the order of
 * /modules/list, mounts the virtio-fs device that the kernel parameter root= names, and goes on as the program that
 * init= names. Whatever fails is told on the console, and the guest powers off.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "initramfs: %s: %s\n", what, strerror(errno));
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void load_modules(void)
{
	FILE *list = fopen("/modules/list", "re");
	char path[256];

	if (!list)
		fail("/modules/list");
	while (fgets(path, sizeof(path), list)) {
		int fd;

		path[strcspn(path, "\n")] = '\0';
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
			fail(path);
		close(fd);
	}
	fclose(list);
}

/* The value of @name among the kernel's parameters, until the next call. */
static const char *parameter(const char *name)
{
	static char text[4096];
	size_t length = strlen(name);
	FILE *file = fopen("/proc/cmdline", "re");

	if (!file || !fgets(text, sizeof(text), file))
		fail("/proc/cmdline");
	fclose(file);
	for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n"))
		if (strncmp(word, name, length) == 0 && word[length] == '=')
			return word + length + 1;
	errno = ENOENT;
	fail(name);
}

int main(void)
{
	char *argv[2] = {NULL, NULL};

	mkdir("/proc", 0755);
	mkdir("/root", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) != 0)
		fail("/proc");
	load_modules();
	if (mount(parameter("root"), "/root", "virtiofs", MS_RDONLY, NULL) != 0)
		fail("root");
	argv[0] = strdup(parameter("init"));
	umount("/proc");
	if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
	    chdir("/") != 0)
		fail("/root");
	execve(argv[0], argv, environ);
	fail(argv[0]);
}
