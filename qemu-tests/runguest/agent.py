# SPDX-License-Identifier: BSD-3-Clause
"""A guest for cases and the demo: ``run-guest`` with ``guest/agent.c`` as its command."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from . import paths
from .errors import GuestFailedError
from .events import Event, Mask
from .words import decode, encode

READY_DEADLINE_S: Final = 240.0
REPLY_DEADLINE_S: Final = 120.0
END_DEADLINE_S: Final = 180.0
GUEST_AGENT: Final = f"{paths.GUEST_TOOLS}/agent"
KEPT_FAILURES: Final = 20
"""How many failed guests' logs stay in ``paths.FAILED_GUESTS``, the latest."""


class LineProcess:
    """A process that talks in lines; ``close`` or ``with`` ends it."""

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        """Starts ``argv`` with its stderr in ``log``."""
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = self.close()
        if kind is None and status != 0:
            raise GuestFailedError(f"{self.process.args!r} ended with {status}: {self.log_text()}")

    def close(self) -> int:
        """Ends its input and waits for its end; then, by force. Returns its status."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        self.process.stdout.close()
        return self.process.returncode

    def log_text(self) -> str:
        """What it wrote to stderr."""
        return self.log.read_text(errors="replace")

    def read_line(self, deadline_s: float) -> str:
        """One line of its stdout, without the newline.

        Raises:
            GuestFailedError: none came in ``deadline_s`` seconds, or it has ended.
        """
        assert self.process.stdout
        fd = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        end = time.monotonic() + deadline_s
        while b"\n" not in self._unread:
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                raise GuestFailedError(f"no answer in {deadline_s:.0f} s: {self.log_text()}")
            data = os.read(fd, 1 << 16)
            if not data:
                raise GuestFailedError(f"it has ended: {self.log_text()}")
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode("ascii", "replace")

    def write_line(self, line: str) -> None:
        """Gives it a line of input."""
        assert self.process.stdin
        self.process.stdin.write(line.encode("ascii") + b"\n")
        self.process.stdin.flush()


class Guest(LineProcess):
    """A running ``run-guest``; leaving ``with`` also checks that guest and daemon ended well.

    If they did not, a copy of their logs stays in ``paths.FAILED_GUESTS``: what fails rarely should
    not have to fail again to be understood.

    Attributes:
        share: the shared directory, on this side.
        logs: what ``--keep-logs`` leaves, and ``run-guest.err``.
        vmm: ``uml`` or ``qemu``.
    """

    def __init__(
        self,
        vmm: str,
        share: Path,
        logs: Path,
        options: Sequence[str] = (),
        command: Sequence[str] = (GUEST_AGENT,),
    ) -> None:
        """Starts it; does not wait.

        Args:
            vmm: ``uml`` or ``qemu``.
            share: directory to share.
            logs: directory for its logs, created.
            options: further options of ``run-guest``.
            command: what to run in the guest.
        """
        self.vmm = vmm
        self.share = share
        self.logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        argv = [os.fspath(paths.RUN_GUEST), "--vmm", vmm, "--share", os.fspath(share)]
        argv += ["--keep-logs", os.fspath(logs), *options, "--", *command]
        super().__init__(argv, logs / "run-guest.err")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            if self.process.returncode != 0:
                self._keep_logs()

    def _keep_logs(self) -> None:
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        kept = paths.FAILED_GUESTS / f"{moment}-{self.vmm}-{self.process.pid}"
        shutil.copytree(self.logs, kept, symlinks=True)
        for old in sorted(paths.FAILED_GUESTS.iterdir())[:-KEPT_FAILURES]:
            shutil.rmtree(old, ignore_errors=True)

    def record(self, name: str) -> dict[str, Any]:
        """``state`` (since the start) or ``result`` (since the end), as ``run-guest`` left it."""
        values: dict[str, Any] = json.loads((self.logs / f"{name}.json").read_text())
        return values


def _value(line: str) -> tuple[list[str], int]:
    words = line.split(" ")
    if words[0] == "err":
        number = int(words[1])
        raise OSError(number, os.strerror(number))
    if len(words) < 2 or words[-2] != "ok":
        raise GuestFailedError(f"the agent said {words!r}")
    return words[:-2], int(words[-1])


class Agent:
    """The agent at the other end of a process: system calls there, inotify instances, events."""

    def __init__(self, process: LineProcess) -> None:
        self._process = process
        self._await_ready()

    def _await_ready(self) -> None:
        line = self._process.read_line(READY_DEADLINE_S)
        if line != "ready":
            raise GuestFailedError(f"the agent said {line!r}")

    def restarted(self) -> None:
        """Waits for the agent of the next boot; all instances of the last one are gone.

        Raises:
            GuestFailedError: it does not come.
        """
        self._await_ready()

    def send(self, verb: str, *arguments: int | bytes) -> None:
        """Sends one request; each needs one ``reply``."""
        words = [encode(a) if isinstance(a, bytes) else str(a) for a in arguments]
        self._process.write_line(" ".join([verb, *words]))

    def reply(self, deadline_s: float = REPLY_DEADLINE_S) -> tuple[list[str], int]:
        """The next reply: words and value.

        Raises:
            OSError: the guest's system call failed.
            GuestFailedError: the guest did.
        """
        return _value(self._process.read_line(deadline_s))

    def call(self, verb: str, *arguments: int | bytes) -> int:
        """One request and its value; raises as ``reply``."""
        self.send(verb, *arguments)
        return self.reply()[1]

    def script(
        self, root: bytes, text: bytes, on_step: Callable[[], None] | None = None
    ) -> tuple[str, int]:
        """Runs a script, see ``guest/script.h``.

        Args:
            root: its directory.
            text: the script.
            on_step: called after each system call, while the script waits.

        Returns:
            The step that failed and its errno; ``("", 0)`` if all was well.
        """
        self.send("script", root, int(on_step is not None), text)
        line = self._process.read_line(REPLY_DEADLINE_S)
        while line == "step" and on_step:
            on_step()
            self._process.write_line("go")
            line = self._process.read_line(REPLY_DEADLINE_S)
        words, error = _value(line)
        return decode(words[0]).decode() if words else "", error

    def inotify(self) -> Instance:
        """A new inotify instance in the guest."""
        return Instance(self, self.call("init"))


class Instance:
    """An inotify instance in the guest."""

    def __init__(self, agent: Agent, fd: int) -> None:
        self._agent = agent
        self._fd = fd

    def add(self, path: bytes, mask: Mask) -> int:
        """``inotify_add_watch()``: the watch descriptor, or OSError."""
        return self._agent.call("add", self._fd, int(mask), path)

    def remove(self, wd: int) -> None:
        """``inotify_rm_watch()``."""
        self._agent.call("rm", self._fd, wd)

    def close(self) -> None:
        """Closes it, and with it all its watches."""
        self._agent.call("close", self._fd)

    def request(self, timeout_ms: int, until: tuple[int, bytes] | None = None) -> None:
        """Asks for events; ``collect`` has them. For those who act in between.

        Args:
            timeout_ms: at most that long, milliseconds.
            until: wait for this (watch descriptor, name), else for the first readable events.
        """
        self._agent.send("events", self._fd, timeout_ms, *(until or ()))

    def collect(self) -> list[Event]:
        """The events that ``request`` asked for; empty if none came in time."""
        words, _ = self._agent.reply()
        events = []
        for head, name in zip(words[0::2], words[1::2], strict=True):
            wd, mask, cookie = head.split(":")
            events.append(Event(int(wd), Mask(int(mask, 0)), int(cookie), decode(name)))
        return events

    def read(self, timeout_ms: int, until: tuple[int, bytes] | None = None) -> list[Event]:
        """``request`` and ``collect``."""
        self.request(timeout_ms, until)
        return self.collect()
