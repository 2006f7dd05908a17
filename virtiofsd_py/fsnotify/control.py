# SPDX-License-Identifier: BSD-3-Clause
"""The daemon's side of the watch socket: checks who connects, and adds consumers.

Only the user that started the daemon may connect, and root as the daemon's user namespace has it.
The kernel says who the peer is (SO_PEERCRED), and the socket's mode, 0600, keeps others away.

Everything here runs on the control thread, and nothing blocks: one descriptor, to be polled, stands
for the listening socket and all connections.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from virtiofsd_py._records import RecordType
from virtiofsd_py.errors import EngineError
from virtiofsd_py.fsnotify.request import REQUEST_BYTES_MAX, BadRequest, parse_untrusted
from virtiofsd_py.structures import WatchRequest

_log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 32
_MOUNT_TYPES: Final = frozenset({RecordType.MOUNT, RecordType.SUPERBLOCK})
_UCRED: Final = struct.Struct("=iII")  # pid, uid, gid: unix(7)
_OVERFLOW_UID: Final = 65534  # of users that the user namespace has no number for
_REFUSALS_LOGGED: Final = 16


class Consumers(Protocol):
    """What of `virtiofsd_py.engine.Engine` is needed here."""

    def add_consumer(self, request: WatchRequest, notify_fd: int) -> tuple[int, int]:
        """See there."""

    def remove_consumer(self, number: int) -> None:
        """See there."""


class Mounts(Protocol):
    """What of `virtiofsd_py.fsnotify.mounts.MountWatch` is needed here."""

    def hold(self) -> None:
        """See there."""

    def release(self) -> None:
        """See there."""


class WatchSocket:
    """The listening socket; made before the sandbox, which may hide its place."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`, in place of a stale socket.

        Raises:
            OSError: another process listens there, or the path is unusable.
        """
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            _remove_stale(path)
            before = os.umask(0o177)
            try:
                self._sock.bind(os.fspath(path))
            finally:
                os.umask(before)
            self._sock.listen(CONNECTIONS_MAX)
            # Nothing changes, but an event tells whoever waits for this socket that it listens.
            path.chmod(0o600)
            self._file = path.lstat()
        except BaseException:
            self._sock.close()
            raise

    @property
    def sock(self) -> socket.socket:
        """The socket; borrowed."""
        return self._sock

    def close(self) -> None:
        """Stop listening, and remove the socket file unless another has replaced it."""
        self._sock.close()
        with suppress(OSError):
            if os.path.samestat(self._path.lstat(), self._file):
                self._path.unlink()

    def __enter__(self) -> WatchSocket:
        """Be open for the length of a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class Control:
    """Adds a consumer for each connection, and removes it when the peer hangs up."""

    def __init__(self, sock: socket.socket, consumers: Consumers, mounts: Mounts) -> None:
        """Serve on `sock`, which is borrowed, and listening."""
        self._sock = sock
        self._mounts = mounts
        self._consumers = consumers
        self._epoll = select.epoll()
        self._epoll.register(sock, select.EPOLLIN)
        # Connections by descriptor; with a number once they are consumers.
        self._connections: dict[int, tuple[socket.socket, int | None]] = {}
        self._watch_mounts: set[int] = set()
        self._may = _permitted(sock)
        self._refusals = 0

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._epoll.fileno()

    def serve(self) -> bool:
        """Serve what is ready; always return True, to go on."""
        for fd, _events in self._epoll.poll(0):
            if fd == self._sock.fileno():
                self._accept()
            elif fd in self._connections:
                self._read_request(fd)
        return True

    def close(self) -> None:
        """Remove all consumers."""
        for fd in list(self._connections):
            self._drop(fd)
        self._epoll.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError as error:
            _log.debug("event=watch_accept_failed reason=%s", error.strerror)
            return
        sock.setblocking(False)
        uid = _peer(sock)
        if uid not in self._may:
            self._refuse(sock, errno.EACCES, f"not permitted to user {uid}")
        elif len(self._connections) >= CONNECTIONS_MAX:
            self._refuse(sock, errno.EUSERS, f"there are {CONNECTIONS_MAX} consumers already")
        else:
            self._connections[sock.fileno()] = (sock, None)
            self._epoll.register(sock, select.EPOLLIN | select.EPOLLRDHUP)

    def _read_request(self, fd: int) -> None:
        sock, number = self._connections[fd]
        try:
            raw = sock.recv(REQUEST_BYTES_MAX + 1)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        if not raw or number is not None:
            self._drop(fd)
            return
        try:
            if len(raw) > REQUEST_BYTES_MAX:
                raise BadRequest("the request is too long")
            self._add(fd, sock, parse_untrusted(raw))
        except (BadRequest, EngineError) as error:
            del self._connections[fd]
            self._epoll.unregister(fd)
            code = error.errno if isinstance(error, EngineError) else errno.EINVAL
            self._refuse(sock, code, str(error))

    def _add(self, fd: int, sock: socket.socket, request: WatchRequest) -> None:
        number, ring_fd = self._consumers.add_consumer(request, os.dup(fd))
        self._connections[fd] = (sock, number)
        if _MOUNT_TYPES & request.subtypes.keys():
            self._watch_mounts.add(number)
            self._mounts.hold()
        _log.info("event=consumer number=%d watches=%d", number, len(request.watches))
        answer = json.dumps({"ring_bytes": request.ring_bytes}).encode()
        try:
            socket.send_fds(sock, [answer], [ring_fd], socket.MSG_NOSIGNAL)
        except OSError:
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        sock, number = self._connections.pop(fd)
        self._epoll.unregister(fd)
        sock.close()
        if number is not None:
            self._consumers.remove_consumer(number)
            if number in self._watch_mounts:
                self._watch_mounts.remove(number)
                self._mounts.release()
            _log.info("event=consumer_gone number=%d", number)

    def _refuse(self, sock: socket.socket, error: int, reason: str) -> None:
        """Send the reason, and hang up."""
        answer = json.dumps({"error": error, "reason": reason}).encode()
        with sock, suppress(OSError):
            sock.send(answer, socket.MSG_NOSIGNAL)
            # Closed with data unread, the socket would give the peer ECONNRESET, not the answer.
            sock.shutdown(socket.SHUT_RD)
            while sock.recv(REQUEST_BYTES_MAX):
                pass
        self._refusals += 1
        # Log each of the first, then each that doubles their number.
        if self._refusals <= _REFUSALS_LOGGED or not self._refusals & (self._refusals - 1):
            _log.warning("event=consumer_refused count=%d reason=%s", self._refusals, reason)


def _peer(sock: socket.socket) -> int:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(raw)[1])


def _permitted(listening: socket.socket) -> frozenset[int]:
    """Return the ids of the users that may connect, as this user namespace numbers them.

    The socket has the credentials of the process that began to listen, before the sandbox. Users
    that the namespace has no number for all look the same.
    """
    owner = _peer(listening)
    if owner == _OVERFLOW_UID and os.geteuid() != _OVERFLOW_UID:
        return frozenset({0})
    return frozenset({0, owner})


def _remove_stale(path: Path) -> None:
    """Remove a socket at which no process listens; bind() refuses any other kind of file."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError:
            pass
