/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PID 1 of a run-guest guest. Mounts what a program needs and the share, runs one command, carries
 * its standard streams and its exit status over the data channel, and powers off. Static, so that
 * it needs nothing of the root filesystem.
 *
 * The host speaks to it before the channel is open by kernel parameters, which the kernel hands
 * over as environment variables:
 *   vfsd_channel  a device path, or "virtio:NAME" for the virtio-serial port called NAME
 *   vfsd_tag      tag of the share, mounted at /mnt/share
 *   vfsd_tools    directory of these helpers on the root filesystem, bound at /mnt/tools
 *   vfsd_host     (UML only) the share's path on the host, mounted at /mnt/host by hostfs: what is
 *                 done there is done by the host
 *
 * Whatever goes wrong here is reported on the channel (FAILURE) if there is one, on the console always;
 * the host takes silence for failure.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHARE "/mnt/share"
#define MAX_ARGUMENTS 8192
#define MAX_COMMAND 65536 /* bytes */

static int channel = -1;
static volatile sig_atomic_t child_changed;

__attribute__((noreturn)) static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;) /* PID 1 must not return */
		pause();
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
	char text[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(text))
		length = sizeof(text) - 1;
	fprintf(stderr, "guest init: %s\n", text);
	if (channel >= 0)
		channel_send(channel, FRAME_FAILURE, text, (size_t)length);
	power_off();
}

/* ---- mounts ---------------------------------------------------------------------------------- */

static const struct {
	const char *type;
	const char *target;
	const char *options;
	bool needed;
} mounts[] = {
	{"proc", "/proc", NULL, true},
	{"sysfs", "/sys", NULL, true},
	{"devtmpfs", "/dev", NULL, true},
	{"devpts", "/dev/pts", "mode=620,ptmxmode=666", false},
	{"tmpfs", "/dev/shm", "mode=1777", true},
	{"tmpfs", "/tmp", "mode=1777", true},
	{"tmpfs", "/run", "mode=755", true},
	{"tmpfs", "/mnt", "mode=755", true},
	{"tmpfs", "/var/tmp", "mode=1777", true},
};

static const char *parameter(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		fail("kernel parameter %s is missing", name);
	return value;
}

static void mount_everything(void)
{
	/* Held across the tmpfs mounts, which may hide the directory's path. */
	int tools = open(parameter("vfsd_tools"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	char tools_path[32];

	if (tools < 0)
		fail("%s: %s", getenv("vfsd_tools"), strerror(errno));
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].target, 0755); /* EEXIST and EROFS show in mount() */
		/* EBUSY: it is there already (CONFIG_DEVTMPFS_MOUNT). */
		if (mount(mounts[i].type, mounts[i].target, mounts[i].type, 0, mounts[i].options) !=
			    0 &&
		    errno != EBUSY && mounts[i].needed)
			fail("mount %s: %s", mounts[i].target, strerror(errno));
	}
	mkdir(SHARE, 0755);
	mkdir("/mnt/tools", 0755);
	snprintf(tools_path, sizeof(tools_path), "/proc/self/fd/%d", tools);
	if (mount(tools_path, "/mnt/tools", NULL, MS_BIND, NULL) != 0)
		fail("bind /mnt/tools: %s", strerror(errno));
	close(tools);
	if (getenv("vfsd_host")) {
		mkdir("/mnt/host", 0755);
		if (mount("host", "/mnt/host", "hostfs", 0, getenv("vfsd_host")) != 0)
			fail("mount hostfs %s: %s", getenv("vfsd_host"), strerror(errno));
	}
}

/* Has those processors run that the kernel leaves off while booting (maxcpus). */
static void start_processors(void)
{
	glob_t found;

	if (glob("/sys/devices/system/cpu/cpu[0-9]*/online", 0, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		int fd = open(found.gl_pathv[i], O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, "1", 1) != 1)
			fail("%s: %s", found.gl_pathv[i], strerror(errno));
		close(fd);
	}
	globfree(&found);
}

/* The root's own console node may have been stale or absent: log to the one of this kernel. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		return;
	for (int target = 0; target <= 2; target++)
		if (fd != target)
			dup2(fd, target);
	if (fd > 2)
		close(fd);
}

/* ---- channel --------------------------------------------------------------------------------- */

/* Finds the virtio-serial port called @name. True and its device path in @path, or false. */
static bool find_virtio_port(const char *name, char *path, size_t size)
{
	DIR *ports = opendir("/sys/class/virtio-ports");
	const struct dirent *entry;
	bool found = false;

	while (ports && !found && (entry = readdir(ports)) != NULL) {
		char attribute[512], value[128] = "";
		FILE *file;

		snprintf(attribute, sizeof(attribute), "/sys/class/virtio-ports/%s/name",
			 entry->d_name);
		file = fopen(attribute, "re");
		if (!file)
			continue;
		if (fgets(value, sizeof(value), file)) {
			value[strcspn(value, "\n")] = '\0';
			found = strcmp(value, name) == 0;
		}
		fclose(file);
		if (found)
			snprintf(path, size, "/dev/%s", entry->d_name);
	}
	if (ports)
		closedir(ports);
	return found;
}

static void open_channel(void)
{
	const char *where = parameter("vfsd_channel");
	char path[512];
	int fd;

	if (strncmp(where, "virtio:", 7) != 0) {
		snprintf(path, sizeof(path), "%s", where);
	} else {
		/* The driver names its ports from a work item, maybe after init has started. */
		for (int tries = 0; !find_virtio_port(where + 7, path, sizeof(path)); tries++) {
			if (tries == 1000)
				fail("no virtio-serial port %s", where + 7);
			usleep(10000);
		}
	}
	fd = channel_open(path);
	if (fd < 0)
		fail("%s: %s", path, strerror(-fd));
	channel = fd;
}

static void send_frame(uint32_t type, const void *payload, size_t length)
{
	int ret = channel_send(channel, type, payload, length);

	if (ret != 0) {
		channel = -1;
		fail("channel: %s", strerror(-ret));
	}
}

static void receive_frame(struct channel_frame *frame)
{
	int ret = channel_receive(channel, frame);

	if (ret != 0) {
		channel = -1;
		fail("channel: %s", strerror(-ret));
	}
}

/* Waits for a frame of @type, answering pings meanwhile. */
static void await_frame(uint32_t type, struct channel_frame *frame)
{
	for (;;) {
		receive_frame(frame);
		if (frame->type == type)
			return;
		if (frame->type == FRAME_PING)
			send_frame(FRAME_PONG, NULL, 0);
	}
}

/* ---- the command ----------------------------------------------------------------------------- */

struct command {
	pid_t pid;		       /* 0: reaped */
	int status;		       /* of waitpid(), valid once reaped */
	int stdin_fd;		       /* nonblocking; -1: closed */
	int output_fds[2];	       /* stdout, stderr; -1: end of file seen */
	char input[CHANNEL_MAX_INPUT]; /* what the command has not read yet */
	size_t input_start, input_end;
};

static void on_child(int number)
{
	(void)number;
	child_changed = 1;
}

/* In the child: becomes the command, or says why not, with a shell's status. */
__attribute__((noreturn)) static void become(const char *cwd, char **argv)
{
	sigset_t none;
	int status;

	setsid();
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	clearenv();
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	setenv("LANG", "C.UTF-8", 1);
	setenv("TERM", "dumb", 1);
	if (chdir(cwd) != 0) {
		fprintf(stderr, "guest init: %s: %s\n", cwd, strerror(errno));
		_exit(126);
	}
	execvp(argv[0], argv);
	status = errno == ENOENT ? 127 : 126;
	fprintf(stderr, "guest init: %s: %s\n", argv[0], strerror(errno));
	_exit(status);
}

/* Collects the pieces of the command in @text. Returns its length, bytes. */
static size_t await_command(char *text, size_t size, struct channel_frame *frame)
{
	size_t length = 0;

	for (;;) {
		await_frame(FRAME_COMMAND, frame);
		if (frame->length == 0)
			break;
		if (frame->length > size - length)
			fail("the command is longer than %zu bytes", size);
		memcpy(text + length, frame->payload, frame->length);
		length += frame->length;
		send_frame(FRAME_WANT, NULL, 0);
	}
	if (length == 0 || text[length - 1] != '\0')
		fail("the command does not end with NUL");
	return length;
}

static void start(struct command *command, struct channel_frame *frame)
{
	static char text[MAX_COMMAND];
	const size_t length = await_command(text, sizeof(text), frame);
	const char *cwd = text;
	static char *argv[MAX_ARGUMENTS + 1];
	size_t argc = 0;
	int in[2], out[2], err[2];

	for (char *p = text + strlen(cwd) + 1; p < text + length; p += strlen(p) + 1) {
		if (argc == MAX_ARGUMENTS)
			fail("more than %d arguments", MAX_ARGUMENTS);
		argv[argc++] = p;
	}
	argv[argc] = NULL;
	if (argc == 0)
		fail("the command is empty");
	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		fail("pipe: %s", strerror(errno));
	command->pid = fork();
	if (command->pid < 0)
		fail("fork: %s", strerror(errno));
	if (command->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		become(cwd, argv);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	command->stdin_fd = in[1];
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	command->output_fds[0] = out[0];
	command->output_fds[1] = err[0];
}

static void close_input(struct command *command)
{
	if (command->stdin_fd >= 0)
		close(command->stdin_fd);
	command->stdin_fd = -1;
	command->input_start = command->input_end = 0;
}

/* Gives the command what it takes of the pending input; asks for more when all is gone. */
static void feed_input(struct command *command)
{
	ssize_t n = write(command->stdin_fd, command->input + command->input_start,
			  command->input_end - command->input_start);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) { /* EPIPE: it will never read the rest; go on swallowing */
		close_input(command);
		send_frame(FRAME_WANT, NULL, 0);
		return;
	}
	command->input_start += (size_t)n;
	if (command->input_start == command->input_end) {
		command->input_start = command->input_end = 0;
		send_frame(FRAME_WANT, NULL, 0);
	}
}

static void take_frame(struct command *command, struct channel_frame *frame)
{
	receive_frame(frame);
	switch (frame->type) {
	case FRAME_PING:
		send_frame(FRAME_PONG, NULL, 0);
		break;
	case FRAME_STDIN:
		if (frame->length == 0) {
			close_input(command);
		} else if (command->stdin_fd < 0) {
			send_frame(FRAME_WANT, NULL, 0);
		} else {
			if (command->input_end != 0 || frame->length > sizeof(command->input))
				fail("input without credit");
			memcpy(command->input, frame->payload, frame->length);
			command->input_end = frame->length;
			feed_input(command);
		}
		break;
	default:
		fail("unexpected frame type %u", (unsigned int)frame->type);
	}
}

static void forward_output(struct command *command, int which, struct channel_frame *scratch)
{
	ssize_t n = read(command->output_fds[which], scratch->payload, 32768);

	if (n > 0) {
		send_frame(which == 0 ? FRAME_STDOUT : FRAME_STDERR, scratch->payload, (size_t)n);
	} else if (n == 0 || errno != EINTR) {
		close(command->output_fds[which]);
		command->output_fds[which] = -1;
	}
}

/* Reaps the command and any orphan. When the command is gone, so is everything it left running. */
static void reap(struct command *command)
{
	int status;
	pid_t pid;

	child_changed = 0;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != command->pid)
			continue;
		command->pid = 0;
		command->status = status;
		kill(-1, SIGKILL);
	}
}

/* Returns when the command has been reaped and all it wrote is on its way. */
static void supervise(struct command *command, struct channel_frame *frame)
{
	enum { CHANNEL, STDIN, OUTPUTS, COUNT = OUTPUTS + 2 };
	sigset_t with_child;

	sigprocmask(SIG_SETMASK, NULL, &with_child);
	sigdelset(&with_child, SIGCHLD);
	send_frame(FRAME_WANT, NULL, 0);
	while (command->pid != 0 || command->output_fds[0] >= 0 || command->output_fds[1] >= 0) {
		struct pollfd fds[COUNT] = {
			[CHANNEL] = {.fd = channel, .events = POLLIN},
			[STDIN] = {.fd = command->input_end ? command->stdin_fd : -1,
				   .events = POLLOUT},
			[OUTPUTS] = {.fd = command->output_fds[0], .events = POLLIN},
			[OUTPUTS + 1] = {.fd = command->output_fds[1], .events = POLLIN},
		};

		if (child_changed) {
			reap(command);
			continue;
		}
		if (ppoll(fds, COUNT, NULL, &with_child) <= 0)
			continue;
		if (fds[CHANNEL].revents)
			take_frame(command, frame);
		if (fds[STDIN].revents && command->stdin_fd >= 0)
			feed_input(command);
		for (int which = 0; which < 2; which++)
			if (fds[OUTPUTS + which].revents)
				forward_output(command, which, frame);
	}
	close_input(command);
	while (waitpid(-1, NULL, 0) > 0) /* killed orphans: the share must not be busy */
		;
}

static void report(int wait_status, struct channel_frame *frame)
{
	uint32_t status = WIFSIGNALED(wait_status) ? 128u + (uint32_t)WTERMSIG(wait_status) :
						     (uint32_t)WEXITSTATUS(wait_status);

	send_frame(FRAME_EXIT, &status, sizeof(status));
	await_frame(FRAME_BYE, frame);
}

int main(void)
{
	static struct channel_frame frame;
	static struct command command;
	struct sigaction on_sigchld = {.sa_handler = on_child};
	sigset_t only_child;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&only_child);
	sigaddset(&only_child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &only_child, NULL); /* delivered only inside ppoll() */
	sigaction(SIGCHLD, &on_sigchld, NULL);

	mount_everything();
	open_console();
	start_processors();
	sethostname("guest", 5);
	open_channel();
	if (mount(parameter("vfsd_tag"), SHARE, "virtiofs", 0, NULL) != 0)
		fail("mount %s: %s", SHARE, strerror(errno));
	send_frame(FRAME_HELLO, NULL, 0);
	start(&command, &frame);
	supervise(&command, &frame);
	if (umount2(SHARE, 0) != 0)
		fail("umount %s: %s", SHARE, strerror(errno));
	report(command.status, &frame);
	power_off();
}
