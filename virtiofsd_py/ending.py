# SPDX-License-Identifier: BSD-3-Clause
"""The end of the daemon, whatever its threads wait for.

A request may wait for a lease, for a filesystem of the network or for the front-end, and who stops
its ring then waits too. So another thread looks for what is to end the daemon: a signal, the
front-end's going, a decision of the control thread. From then on all that waits is interrupted
until the end is reached; what cannot be interrupted is left behind after a grace period.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from virtiofsd_py import engine as core
from virtiofsd_py.sandbox import libc
from virtiofsd_py.vhost_user import Connection

_log = logging.getLogger(__name__)

GRACE_S: Final = 4.0
"""How long an end may take. A guardian waits longer, for this process may not even get that far."""
# Requests that the host just takes its time for are answered.
_PATIENCE_S: Final = 0.2
_INTERVAL_S: Final = 0.02
# For the last words: who reads them may not.
_LAST_S: Final = 1.0


class Ending:
    """A context manager: the daemon serves for the length of the block, and ends by its end."""

    def __init__(
        self,
        ended: socket.socket,
        announce: Callable[[], None],
        clean_up: Callable[[], None],
    ) -> None:
        """Begin to look.

        Args:
            ended: readable once a signal asks for the end; borrowed, and not read.
            announce: called when an end begins.
            clean_up: called before the process leaves its threads behind.
        """
        self._announce = announce
        self._clean_up = clean_up
        self._status = 0
        self._over = threading.Event()
        self._begun = os.eventfd(0)
        self._epoll = select.epoll()
        self._epoll.register(ended, select.EPOLLIN)
        self._epoll.register(self._begun, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def attend(self, connection: Connection) -> None:
        """End when the peer of `connection` has gone; borrowed until its close."""
        self._epoll.register(connection, select.EPOLLRDHUP)

    def begin(self, status: int) -> None:
        """End now; with `status` if the process has to be left."""
        self._status = status
        os.eventfd_write(self._begun, 1)

    def __enter__(self) -> Self:
        """Serve for the length of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The end is reached."""
        self._over.set()
        os.eventfd_write(self._begun, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._begun)

    def _run(self) -> None:
        libc.name_thread("vfsd-ending")
        self._epoll.poll()
        if self._over.is_set():
            return
        self._announce()
        last = time.monotonic() + GRACE_S
        wait = _PATIENCE_S
        while not self._over.wait(wait):
            if time.monotonic() > last:
                self._leave()
            wait = _INTERVAL_S
            core.interrupt_threads()
            control = threading.main_thread().ident
            if control is not None:
                signal.pthread_kill(control, signal.SIGURG)

    def _leave(self) -> None:
        # Whatever comes next may wait as well.
        timer = threading.Timer(_LAST_S, os._exit, [self._status])
        timer.daemon = True
        timer.start()
        with suppress(OSError):
            self._clean_up()
        _log.warning("event=forced_end after_s=%g reason=threads wait for the host", GRACE_S)
        os._exit(self._status)
