# SPDX-License-Identifier: BSD-3-Clause
"""Two processes: one inside the sandbox that serves, one outside that waits for it.

The guardian is what the caller started: it passes SIGTERM and SIGINT on, says that the daemon is
ready, ends as its child ended, and can still reach what has to be cleaned up outside. Whichever of
the two is killed, the other one ends. A child that is to end and does not, for it waits for the
host, is killed; one that even then stays, because the kernel cannot let it go yet, is left behind.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from virtiofsd_py.sandbox import libc

_RELAYED: Final = (signal.SIGTERM, signal.SIGINT)
_WAITED: Final = (*_RELAYED, signal.SIGCHLD, signal.SIGIO, signal.SIGALRM)

READY: Final = b"1"
ENDING: Final = b"0"
"""What a child says on its link."""

# From a signal, or the child's word, until it is killed; from then on until it is left.
_GRACE_S: Final = 5.0
_LAST_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Split:
    """The child's side.

    Attributes:
        pid: this process as its guardian knows it.
        link: to the guardian, for `READY` and `ENDING`.
    """

    pid: int
    link: socket.socket


@dataclass(frozen=True, slots=True)
class Ended:
    """The guardian's side, when its child has ended.

    Attributes:
        status: its exit status, or the negative number of the signal that killed it.
    """

    status: int

    def imitate(self) -> int:
        """Return the child's exit status, or die as it did."""
        return self.status if self.status >= 0 else _die_by(-self.status)


def split(on_ready: Callable[[], None], first: Callable[[], None] = lambda: None) -> Split | Ended:
    """Fork; returns at once in the child, and in the guardian when the child has ended.

    Args:
        on_ready: called in the guardian when the child says so.
        first: called in the child before it binds its life to the guardian's: a change of ids
            would undo that.

    Raises:
        OSError: no process or socket is to be had, or `first` failed.
    """
    guardian_link, child_link = socket.socketpair()
    for number in (signal.SIGCHLD, signal.SIGIO, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # None that is ignored would be waited for in vain.
    # Blocked from before the fork, so that none is lost; pid 1 of a namespace would ignore them
    # until it handles them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
    pid = os.fork()
    if pid:
        child_link.close()
        with guardian_link:
            return _watch(pid, guardian_link, on_ready)
    guardian_link.close()
    first()
    libc.die_with_parent(signal.SIGKILL)
    if _is_closed(child_link):
        os._exit(1)  # The guardian was killed just before that.
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    # In a new pid namespace /proc is still the old one's.
    return Split(int(os.readlink("/proc/self")), child_link)


def _watch(child: int, link: socket.socket, on_ready: Callable[[], None]) -> Ended:
    link.setblocking(False)
    # SIGIO for whatever comes; it may have come already.
    fcntl.fcntl(link, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(link, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    number = int(signal.SIGIO)
    ending = killed = False
    while True:
        if number == signal.SIGIO:
            for word in _words(link):
                if word == READY[0]:
                    on_ready()
                elif not ending:
                    ending = True
                    signal.setitimer(signal.ITIMER_REAL, _GRACE_S)
        elif number == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return Ended(0 if killed else os.waitstatus_to_exitcode(status))
        elif number == signal.SIGALRM:
            if killed:
                _log.error("event=left_behind pid=%d reason=it waits for the host", child)
                return Ended(0)
            killed = True
            os.kill(child, signal.SIGKILL)
            signal.setitimer(signal.ITIMER_REAL, _LAST_S)
            _log.warning("event=killed pid=%d after_s=%g reason=it did not end", child, _GRACE_S)
        else:
            os.kill(child, number)
            if not ending:
                ending = True
                signal.setitimer(signal.ITIMER_REAL, _GRACE_S)
        number = signal.sigwaitinfo(_WAITED).si_signo


def _words(link: socket.socket) -> bytes:
    try:
        return link.recv(16)
    except OSError:
        return b""


def _is_closed(link: socket.socket) -> bool:
    try:
        return not link.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return False


def _die_by(number: int) -> NoReturn:
    import resource

    # The child's core dump, if there is one, is the one to look at.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)
