# SPDX-License-Identifier: BSD-3-Clause
"""The client's side: an iterator over the events in the share of a running daemon."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from virtiofsd_py.errors import EngineError, VirtiofsdError
from virtiofsd_py.fsnotify.records import Record, decode_untrusted
from virtiofsd_py.fsnotify.request import Request
from virtiofsd_py.fsnotify.ring import ShmReader

_ANSWER_BYTES_MAX: Final = 4096
_WAKEUP: Final = b"!"


class Refused(VirtiofsdError):
    """The daemon refuses the client, or is no daemon.

    Attributes:
        errno: the reason, positive.
    """

    def __init__(self, code: int, reason: str) -> None:
        """Keep `code` as `errno`; `reason` is the message."""
        super().__init__(reason)
        self.errno = code


class Subscription:
    """The records of a daemon, from now on.

    Iterating waits, and ends when the daemon does. To wait for other things too, poll `fileno` and
    take records by `next_now`. One thread at a time.

    Attributes:
        ended: whether the daemon has hung up. What is in the ring can still be read.
    """

    def __init__(self, path: str | os.PathLike[str], request: Request | None = None) -> None:
        """Connect to the watch socket at `path`.

        Args:
            path: see `default_socket`.
            request: what to receive; None is all changes in the share.

        Raises:
            Refused: the daemon refuses, or does not follow the protocol.
            OSError: there is no daemon, or no permission to connect.
        """
        self.ended = False
        self._reader: ShmReader | None = None
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._sock.connect(os.fspath(path))
            # A client that is refused at once cannot send; the reason can be received.
            with suppress(ConnectionError):
                self._sock.send((request or Request()).encode())
            self._reader = self._receive_ring()
            self._sock.setblocking(False)
        except BaseException:
            self.close()
            raise

    def _receive_ring(self) -> ShmReader:
        raw = _WAKEUP
        fds: list[int] = []
        while raw == _WAKEUP and not fds:
            raw, fds, _flags, _ = socket.recv_fds(self._sock, _ANSWER_BYTES_MAX, 1)
        try:
            answer = json.loads(raw or "{}")
            if "error" in answer:
                raise Refused(int(answer["error"]), str(answer["reason"]))
            if not fds:
                raise Refused(errno.ECONNRESET, "the daemon has hung up")
            return ShmReader(fds[0])
        except (ValueError, TypeError, KeyError, EngineError) as error:
            raise Refused(errno.EPROTO, f"the daemon's answer makes no sense: {error}") from error
        finally:
            for fd in fds:
                os.close(fd)

    def fileno(self) -> int:
        """Return the descriptor that is readable as long as `next_now` may have something."""
        return self._sock.fileno()

    def next_now(self) -> Record | None:
        """Return the oldest record that is left, or None if there is none now.

        Raises:
            EngineError: the ring is malformed.
            BadRecord: a record is.
        """
        record = self._take()
        if record is None:
            # The order counts: see native/watch/shm_reader.h.
            self._drain_wakeups()
            record = self._take()
        return record

    def __iter__(self) -> Iterator[Record]:
        """Yield records as they come, until the daemon ends."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        while True:
            record = self.next_now()
            if record is not None:
                yield record
            elif self.ended:
                return
            else:
                poller.poll()

    def close(self) -> None:
        """Hang up, which ends the watches. Idempotent."""
        self._sock.close()
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def __enter__(self) -> Self:
        """Be open for the length of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _take(self) -> Record | None:
        """Return the next record of a type that this version knows."""
        assert self._reader is not None, "closed"
        while (entry := self._reader.next()) is not None:
            record = decode_untrusted(entry)
            if record is not None:
                return record
        return None

    def _drain_wakeups(self) -> None:
        """Receive all wakeups that wait."""
        try:
            while not self.ended:
                self.ended = not self._sock.recv(1)
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = True
