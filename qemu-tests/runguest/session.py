# SPDX-License-Identifier: BSD-3-Clause
"""The conversation with a running guest: command in, streams both ways, status out."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from .errors import GuestFailedError, TimedOutError
from .frames import MAX_INPUT_BYTES, Frame, FrameParser, FrameType, command_frames
from .processes import Child

BOOT_DEADLINE_S: Final = 180.0
"""From start to HELLO; generous for TCG on a busy machine."""
SILENCE_PING_S: Final = 20.0
SILENCE_DEADLINE_S: Final = 120.0
"""How long a booted guest may leave a ping unanswered."""


Move = Callable[[], tuple[socket.socket, Child]]
"""Moves the guest to another VMM and ends the old one; returns the new channel and VMM."""


class Session:
    """One command in one guest. Single-threaded; reads descriptor 0, writes 1 and 2.

    Attributes:
        booted: the guest has mounted the share.
    """

    def __init__(
        self,
        channel: socket.socket,
        vmm: Child,
        cwd: str,
        argv: Sequence[str],
        end_s: float | None,
        wishes: socket.socket,
        move: Move,
    ) -> None:
        """Prepares; nothing is sent before the guest says HELLO.

        Args:
            channel: the host's end of the data channel.
            vmm: its end is the guest's end.
            cwd: the command's directory in the guest.
            argv: the command.
            end_s: ``time.monotonic()`` at which to give up, or None.
            wishes: each byte that comes is somebody's wish that the guest be moved.
            move: does so.

        Raises:
            UsageError: the command is too long.
        """
        self._channel = channel
        self._channel.setblocking(False)
        self._vmm = vmm
        self._command = command_frames(cwd, argv)
        self._command_left: deque[Frame] = deque()
        self._end_s = end_s
        self._wishes = wishes
        self._move = move
        self._parser = FrameParser()
        self._outgoing: deque[bytes] = deque()
        self.booted = False
        self._credit = False
        self._stdin_open = True
        self._status: int | None = None
        self._last_heard_s = time.monotonic()
        self._pinged = False

    def run(self) -> int:
        """Carries the streams until the guest reports the command's status, and returns it.

        Raises:
            GuestFailedError: the guest died, fell silent or said that it failed.
            TimedOutError: the time given is up.
        """
        while self._status is None:
            self._step()
        self._send(Frame(FrameType.BYE))
        while self._outgoing and not self._hung_up():
            self._step()
        return self._status

    def _hung_up(self) -> bool:
        return self._vmm.status is not None

    def _step(self) -> None:
        if self._credit and self._command_left:
            self._credit = False
            self._send(self._command_left.popleft())
        want_stdin = self._stdin_open and self._credit and self._status is None
        events = select.POLLIN | (select.POLLOUT if self._outgoing else 0)
        poll = select.poll()
        poll.register(self._channel, events)
        poll.register(self._vmm.pidfd, select.POLLIN)
        poll.register(self._wishes, select.POLLIN)
        if want_stdin:
            poll.register(0, select.POLLIN)
        ready = dict(poll.poll(self._patience_s() * 1000))
        channel_events = ready.get(self._channel.fileno(), 0)
        if channel_events & select.POLLOUT:
            self._flush()
        if channel_events & ~select.POLLOUT:
            self._receive()
        elif self._vmm.pidfd in ready and self._status is None:  # all it sent has been read
            raise self._ended_early()
        if want_stdin and 0 in ready and self._status is None:
            self._forward_stdin()
        if self._wishes.fileno() in ready and self._wishes.recv(1):
            self._change_over()

    def _change_over(self) -> None:
        channel, self._vmm = self._move()
        with self._channel:
            while data := self._channel.recv(1 << 18):  # up to the end of the old VMM
                for frame in self._parser.feed(data):
                    self._handle(frame)
        self._channel = channel
        self._channel.setblocking(False)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _ended_early(self) -> GuestFailedError:
        status = self._vmm.wait(10)
        return GuestFailedError(f"{self._vmm.name} ended (status {status}) before the command did")

    def _patience_s(self) -> float:
        """How long to wait for the next event; pings a silent guest, gives up on a dead one."""
        now = time.monotonic()
        if self._end_s is not None and now >= self._end_s:
            raise TimedOutError("time is up")
        silent_s = now - self._last_heard_s
        limit_s = SILENCE_DEADLINE_S if self.booted else BOOT_DEADLINE_S
        if silent_s >= limit_s:
            what = "has fallen silent" if self.booted else "does not boot"
            raise GuestFailedError(f"the guest {what} ({limit_s:.0f} s)")
        if self.booted and not self._pinged and silent_s >= SILENCE_PING_S:
            self._send(Frame(FrameType.PING))
            self._pinged = True
        next_s = SILENCE_PING_S if self.booted and not self._pinged else limit_s
        patience_s = next_s - silent_s
        return patience_s if self._end_s is None else min(patience_s, self._end_s - now)

    def _send(self, frame: Frame) -> None:
        self._outgoing.append(frame.pack())
        self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            data = self._outgoing.popleft()
            try:
                sent = self._channel.send(data)
            except BlockingIOError:
                sent = 0
            except (BrokenPipeError, ConnectionResetError):
                self._outgoing.clear()  # the end of the VMM is reported instead
                return
            if sent < len(data):
                self._outgoing.appendleft(data[sent:])
                return

    def _receive(self) -> None:
        try:
            data = self._channel.recv(1 << 18)
        except (BlockingIOError, ConnectionResetError):
            data = b""
        if not data:
            if self._status is not None:
                self._outgoing.clear()
                return
            raise self._ended_early()
        self._last_heard_s = time.monotonic()
        self._pinged = False
        for frame in self._parser.feed(data):
            self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.HELLO:  # again after a reset: the command starts anew
                self.booted = True
                self._credit = True
                self._outgoing.clear()
                self._command_left = deque(self._command)
            case FrameType.STDOUT:
                _write_all(1, frame.payload)
            case FrameType.STDERR:
                _write_all(2, frame.payload)
            case FrameType.WANT:
                self._credit = True
            case FrameType.EXIT:
                self._status = frame.exit_status()
            case FrameType.FAILURE:
                text = frame.payload.decode("utf-8", "replace")
                raise GuestFailedError(f"the guest failed: {text}")
            case FrameType.PONG:
                pass
            case _:
                raise GuestFailedError(f"unexpected frame from the guest: {frame.type.name}")

    def _forward_stdin(self) -> None:
        try:
            data = os.read(0, MAX_INPUT_BYTES)
        except OSError:  # no stdin, or the read of a background terminal
            data = b""
        self._stdin_open = bool(data)
        self._credit = False
        self._send(Frame(FrameType.STDIN, data))


def _write_all(fd: int, data: bytes) -> None:
    (sys.stdout if fd == 1 else sys.stderr).flush()
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
