# SPDX-License-Identifier: BSD-3-Clause
"""Every child process and every temporary file of a run, and their certain end."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .errors import UsageError

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PREFIX: Final = "run-guest-"
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _before_exec(death_signal: signal.Signals, parent: int) -> Callable[[], None]:
    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return prepare


class Child:
    """A process in a session of its own, with its output in a log, ended when we end."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        pass_fds: Sequence[int] = (),
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Starts it.

        Args:
            name: for messages.
            argv: program and arguments.
            log: takes stdout and stderr.
            pass_fds: descriptors it inherits.
            death_signal: what it gets if this process is killed.

        Raises:
            UsageError: the program cannot be run.
        """
        self.name = name
        self.log = log
        self._ended = False
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=pass_fds,
                    start_new_session=True,
                    preexec_fn=_before_exec(death_signal, os.getpid()),
                )
        except OSError as error:
            raise UsageError(f"{argv[0]}: {error.strerror}") from error
        self.pid: Final = self._process.pid
        self.pidfd: Final = os.pidfd_open(self.pid)

    def wait(self, timeout_s: float) -> int | None:
        """Exit status as ``subprocess`` has it (negative: signal), or None when time is up."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    @property
    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """SIGTERM to the process alone, if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()

    def end(self, grace_s: float = 5) -> None:
        """Asks the whole process group to end, then makes it; the second call does nothing."""
        if self._ended:
            return
        self._ended = True
        for signum, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            if self._process.poll() is None or signum == signal.SIGKILL:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signum)
                self.wait(patience_s)
        os.close(self.pidfd)


class Workspace:
    """A private temporary directory and the children of one run; ``with`` ends both.

    Children end in reverse order of their start. Whatever they in turn left running has become our
    child by then (we are its subreaper) and is killed too. A directory whose owner was killed is
    removed by the next run: the owner holds a lock on it as long as it lives.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self.path: Path

    def __enter__(self) -> Self:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _sweep()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._lock_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            if self.path.exists():  # else somebody swept it before it was locked
                return self
            os.close(self._lock_fd)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._children):
            child.end()
        kill_orphans()
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)

    def directory(self, name: str) -> Path:
        """A new private directory for sockets or logs."""
        path = self.path / name
        path.mkdir(mode=0o700)
        return path

    def adopt(self, child: Child) -> Child:
        """Makes ``child`` end with this workspace."""
        self._children.append(child)
        return child


def kill_orphans(deadline_s: float = 10) -> None:
    """Kills and reaps every child of this process, and what it leaves to us, until none is left."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:
            return
        for pid in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def wait_readable(fds: Sequence[int], timeout_s: float) -> list[int]:
    """Those of ``fds`` that are readable (a pidfd: has ended), after at most ``timeout_s``."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(max(0, timeout_s) * 1000)]


def _sweep() -> None:
    """Removes the directories of earlier runs that were killed before they could."""
    for path in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)
