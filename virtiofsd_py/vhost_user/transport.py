# SPDX-License-Identifier: BSD-3-Clause
"""Messages over a unix stream socket, with descriptors; nothing here blocks but `poll`.

Spec: QEMU docs/interop/vhost-user.rst, "Message Specification", "Communication".
"""

from __future__ import annotations

import array
import errno
import logging
import os
import select
import socket
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from virtiofsd_py.vhost_user.errors import Disconnected, ProtocolError, TransportError
from virtiofsd_py.vhost_user.fds import close_fds
from virtiofsd_py.vhost_user.messages import MAX_FDS, Header
from virtiofsd_py.vhost_user.server import Server

_log = logging.getLogger(__name__)

Watch = Mapping[int, Callable[[], bool]]
"""Further descriptors to wait for. When one is readable or broken its function is called, has to
deal with the cause, and returns whether to go on."""

_FD_BYTES: Final = array.array("i").itemsize
_GONE: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
_REFUSALS_LOGGED: Final = 16


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message; `fds` belong to whoever holds it."""

    header: Header
    payload: bytes
    fds: tuple[int, ...]


class Connection:
    """One connected front-end."""

    def __init__(self, sock: socket.socket) -> None:
        """Own `sock`, a connected unix stream socket."""
        sock.setblocking(False)
        self._sock = sock
        self._header: Header | None = None
        self._data = bytearray()
        self._fds: list[int] = []
        self._unsent = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._sock.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether part of a reply still waits for room in the socket."""
        return bool(self._unsent)

    def receive(self) -> Message | None:
        """Read on, up to the end of one message.

        Returns:
            The message, or None if more has to arrive first.

        Raises:
            Disconnected: the front-end is gone.
            TransportError: descriptors were lost, or the socket failed.
            BadMessage: the header cannot be trusted.
        """
        try:
            while True:
                if self._header is None and len(self._data) == Header.STRUCT.size:
                    self._header = Header.parse_untrusted(bytes(self._data))
                    self._data.clear()
                if self._header is not None and len(self._data) == self._header.payload_bytes:
                    return self._take_message(self._header)
                if not self._read_some():
                    return None
        except BaseException:
            self._drop_fds()
            raise

    def send(self, data: bytes) -> None:
        """Send a reply, or keep what finds no room for `flush`.

        Raises:
            Disconnected: the front-end is gone.
            TransportError: the socket failed.
        """
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send more of what `send` kept.

        Raises:
            Disconnected: the front-end is gone.
            TransportError: the socket failed.
        """
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._socket_error(error) from error

    def close(self) -> None:
        """Close the socket and what came in for an unfinished message."""
        self._drop_fds()
        self._sock.close()

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

    def _read_some(self) -> bool:
        """Read at most to the end of the part at hand; False: nothing is there yet."""
        whole = Header.STRUCT.size if self._header is None else self._header.payload_bytes
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(
                whole - len(self._data),
                socket.CMSG_SPACE(MAX_FDS * _FD_BYTES),
                socket.MSG_CMSG_CLOEXEC,
            )
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._socket_error(error) from error
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(raw[: len(raw) - len(raw) % _FD_BYTES])
                self._fds.extend(fds)
        if flags & socket.MSG_CTRUNC:
            raise TransportError("descriptors were lost: too many for a message or this process")
        if len(self._fds) > MAX_FDS:
            raise TransportError(f"more than {MAX_FDS} descriptors in one message")
        if not data:
            raise Disconnected(clean=self._header is None and not self._data)
        self._data += data
        return True

    def _take_message(self, header: Header) -> Message:
        message = Message(header, bytes(self._data), tuple(self._fds))
        self._header = None
        self._data.clear()
        self._fds.clear()
        return message

    def _drop_fds(self) -> None:
        close_fds(self._fds)
        self._fds.clear()

    def _socket_error(self, error: OSError) -> TransportError:
        if error.errno in _GONE:
            return Disconnected(clean=self._header is None and not self._data)
        return TransportError(f"the socket failed: {error.strerror}")


class Listener:
    """A listening unix socket. One that we made goes from the filesystem when it is closed."""

    def __init__(self, sock: socket.socket, path: Path | None = None) -> None:
        """Own `sock`, and the file at `path` if given."""
        sock.setblocking(False)
        self._sock = sock
        self._path = path
        self._file = _identity(path) if path else None

    @classmethod
    def bind(cls, path: Path, mode: int = 0o600) -> Self:
        """Listen at `path`, in place of a socket that nobody listens at any more.

        Args:
            path: where; its directory exists.
            mode: permission bits of the socket, in force before anyone can connect.

        Raises:
            TransportError: another process listens there, or the path is unusable.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            try:
                _remove_stale(path)
                sock.bind(os.fspath(path))
            except OSError as error:
                raise TransportError(f"{path}: {error.strerror or error}") from error
        except BaseException:
            sock.close()
            raise
        listener = cls(sock, path)
        try:
            path.chmod(mode)
            sock.listen(1)
        except OSError as error:
            listener.close()
            raise TransportError(f"{path}: {error.strerror}") from error
        return listener

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Listen at a socket that was handed to us; owns `fd`.

        Raises:
            TransportError: it is no listening unix stream socket; `fd` is closed all the same.
        """
        try:
            sock = socket.socket(fileno=fd)
        except OSError as error:
            if error.errno != errno.EBADF:
                os.close(fd)
            raise TransportError(f"descriptor {fd} is no socket: {error.strerror}") from error
        if (
            sock.family != socket.AF_UNIX
            or sock.type != socket.SOCK_STREAM
            or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            sock.close()
            raise TransportError(f"descriptor {fd} is no listening unix stream socket")
        sock.set_inheritable(False)
        return cls(sock)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._sock.fileno()

    def accept(self, watch: Watch | None = None) -> Connection | None:
        """Wait for a front-end.

        Args:
            watch: see `Watch`.

        Returns:
            The connection, or None if a watch function asked to stop.

        Raises:
            TransportError: the socket failed.
        """
        loop = _Loop(watch or {})
        while loop.wait(self, select.POLLIN):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue  # It went away again before we looked.
            except OSError as error:
                raise TransportError(f"cannot accept: {error.strerror}") from error
            return Connection(sock)
        return None

    def close(self) -> None:
        """Stop listening, and remove the socket from the filesystem if it is still ours."""
        self._sock.close()
        if self._path and self._file is not None and _identity(self._path) == self._file:
            self._path.unlink(missing_ok=True)
        self._path = None

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


def serve(connection: Connection, server: Server, watch: Watch | None = None) -> bool:
    """Answer messages until the front-end goes; closes neither of the two.

    A front-end that vanishes in the middle of a message was killed, which is an ordinary end.

    Args:
        connection: where messages come from.
        server: who answers.
        watch: see `Watch`.

    Returns:
        True if the front-end went, False if a watch function asked to stop.

    Raises:
        ProtocolError: the front-end has to be cut off; its `survives` is False.
        TransportError: the socket failed.
    """
    loop = _Loop(watch or {})
    refusals = _RefusalLog()
    try:
        # No new message before the last one's reply is out.
        while loop.wait(connection, select.POLLOUT if connection.has_unsent else select.POLLIN):
            if connection.has_unsent:
                connection.flush()
            else:
                _serve_one(connection, server, refusals)
    except Disconnected as end:
        if not end.clean:
            _log.warning("event=disconnected detail=%s", end)
        return True
    return False


def _serve_one(connection: Connection, server: Server, refusals: _RefusalLog) -> None:
    message = connection.receive()
    if message is None:
        return
    try:
        reply = server.receive(message.header, message.payload, message.fds)
    except ProtocolError as error:
        if not error.survives:
            raise
        refusals.add(error)
        reply = error.reply
    if reply is not None:
        connection.send(reply)


class _RefusalLog:
    """Logs the first refusals of a peer, then ever fewer: each that doubles their number."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, error: ProtocolError) -> None:
        self._count += 1
        if self._count <= _REFUSALS_LOGGED or not self._count & (self._count - 1):
            _log.warning("event=refused count=%d reason=%s", self._count, error)


class _Loop:
    """Waits for one thing at a time, and serves what is watched meanwhile."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._poll = select.poll()
        for fd in watch:
            self._poll.register(fd, select.POLLIN)

    def wait(self, thing: Connection | Listener, events: int) -> bool:
        """Return True once `thing` is ready for `events`, False if a function says to stop."""
        self._poll.register(thing, events)
        while True:
            ready = self._poll.poll()
            for fd, _events in ready:
                if fd in self._watch and not self._watch[fd]():
                    return False
            if any(fd not in self._watch for fd, _events in ready):
                return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens at.

    Asked with a datagram socket, because that tells the two apart without connecting to a living
    listener, which might serve only one front-end and take us for it.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # bind() says what is wrong.
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
