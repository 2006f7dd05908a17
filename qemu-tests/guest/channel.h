/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data channel between run-guest and the guest's PID 1: frames over a byte stream that is
 * not the console (virtio-serial in QEMU, a raw UML console line). The host's half is
 * runguest/frames.py; the two must agree.
 *
 * frame:  le32 type (an ASCII letter), le32 length in bytes (at most CHANNEL_MAX_PAYLOAD), payload
 *
 * COMMAND and STDIN frames need a credit: HELLO gives the first, each WANT another. So init never
 * has to stop reading the channel because COMMAND does not read its input, and so little is under
 * way that a UML console line is never throttled (Linux 6.12 would not take it up again).
 */
#ifndef GUEST_CHANNEL_H
#define GUEST_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#define CHANNEL_MAX_PAYLOAD 65536u /* guest to host */
#define CHANNEL_MAX_INPUT 2048u	   /* host to guest */

enum channel_type {
	/* guest to host */
	FRAME_HELLO = 'H', /* the share is mounted; nothing may be sent to the guest before this */
	FRAME_STDOUT = 'O',
	FRAME_STDERR = 'E',
	FRAME_WANT = 'W',    /* one more COMMAND or STDIN frame, please */
	FRAME_EXIT = 'X',    /* le32 status as a shell has it: 0..127 exit, 128 + signal */
	FRAME_FAILURE = 'F', /* text: the guest itself failed; no EXIT follows */
	FRAME_PONG = 'P',
	/* host to guest */
	FRAME_COMMAND = 'C', /* a piece of: directory, then each argument, all ending with NUL;
			      * empty: that was all, start it */
	FRAME_STDIN = 'I',   /* empty: end of input */
	FRAME_PING = 'p',
	FRAME_BYE = 'B', /* EXIT has been seen: power off */
};

struct channel_frame {
	uint32_t type;
	uint32_t length; /* of payload, bytes */
	char payload[CHANNEL_MAX_PAYLOAD];
};

/* Opens the channel at @path and makes it raw if it is a terminal. Returns a descriptor or -errno. */
int channel_open(const char *path);

/* Writes one whole frame, waiting for room. 0 or -errno. */
int channel_send(int fd, uint32_t type, const void *payload, size_t length);

/* Reads one whole frame, waiting for it. 0 or -errno (-EPIPE: end of stream, -EBADMSG: nonsense). */
int channel_receive(int fd, struct channel_frame *frame);

#endif
