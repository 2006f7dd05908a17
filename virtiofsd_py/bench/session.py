# SPDX-License-Identifier: BSD-3-Clause
"""A virtio-fs device that is up: the only module that imports the compiled driver."""

from __future__ import annotations

import enum
import errno
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from virtiofsd_py._bench import ffi, lib
from virtiofsd_py.bench.frontend import FrontEnd, Refused, Ring
from virtiofsd_py.fuse.wire import Opcode

ROOT_ID: Final = 1
QUEUES_MAX: Final[int] = lib.VFSD_BENCH_QUEUES_MAX
DEPTH_MAX: Final[int] = lib.VFSD_BENCH_DEPTH_MAX
_DATA_BYTES: Final[int] = lib.VFSD_BENCH_DATA_BYTES
_RING_ENTRIES: Final[int] = lib.VFSD_BENCH_RING_ENTRIES
_PAGE_BYTES: Final = 4096

# Linux 6.12, but for what changes how it writes (WRITEBACK_CACHE, HANDLE_KILLPRIV) or asks for
# extensions of requests.
_MAJOR, _MINOR = 7, 41
_ASYNC_READ, _ATOMIC_O_TRUNC, _BIG_WRITES = 1 << 0, 1 << 3, 1 << 5
_AUTO_INVAL_DATA, _DO_READDIRPLUS, _READDIRPLUS_AUTO = 1 << 12, 1 << 13, 1 << 14
_ASYNC_DIO, _PARALLEL_DIROPS, _MAX_PAGES, _SUBMOUNTS = 1 << 15, 1 << 18, 1 << 22, 1 << 27
_OFFERED: Final = (
    *(_ASYNC_READ, _ATOMIC_O_TRUNC, _BIG_WRITES, _AUTO_INVAL_DATA, _DO_READDIRPLUS),
    *(_READDIRPLUS_AUTO, _ASYNC_DIO, _PARALLEL_DIROPS, _MAX_PAGES, _SUBMOUNTS),
)
_INIT_IN = struct.Struct("=IIII48x")
_INIT_OUT = struct.Struct("=IIIIHHIIHH")
_INIT_OUT_BYTES: Final = 64
_ENTRY_OUT_BYTES: Final = 128
_OPEN_OUT = struct.Struct("=QII")


class BadReply(Exception):
    """The daemon answered a load otherwise than it has to, or not at all."""


class Gone(BadReply):
    """Nothing more is to be expected of it."""


_GONE: Final = (-errno.EPIPE, -errno.ETIMEDOUT, -errno.EBADMSG)


class Kind(enum.IntEnum):
    """enum vfsd_bench_kind."""

    GETATTR = lib.VFSD_BENCH_GETATTR
    LOOKUP = lib.VFSD_BENCH_LOOKUP
    READ = lib.VFSD_BENCH_READ
    WRITE = lib.VFSD_BENCH_WRITE
    READDIRPLUS = lib.VFSD_BENCH_READDIRPLUS
    CREATE = lib.VFSD_BENCH_CREATE


class Names:
    """What a session knows of ``n0000000``, ``n0000001`` and so on in one directory."""

    def __init__(self, count: int) -> None:
        """Know nothing of `count` names yet."""
        self.count = count
        self.handle = lib.vfsd_bench_names_create(count)
        if self.handle == ffi.NULL:
            raise MemoryError
        self.handle = ffi.gc(self.handle, lib.vfsd_bench_names_destroy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """``vfsd_bench_work``, see bench/front_end/bench.cdef.h; either `seconds` or `units`."""

    kind: Kind
    depth: int = 1
    seconds: float = 0.0
    units: int = 0
    poll_us: int = 0
    nodeid: int = 0
    handles: Sequence[int] = ()
    file_bytes: int = 0
    request_bytes: int = 0
    random: bool = False
    forget: bool = False
    names: Names | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """``vfsd_bench_result``."""

    units: int
    requests: int
    wall_ns: int
    cpu_ns: int
    p50_ns: int
    p99_ns: int


class Session:
    """One connection with a driver behind it, which has said INIT."""

    def __init__(self, sock: socket.socket, *, queues: int = 1) -> None:
        """Bring the device up.

        Args:
            sock: connected to the daemon; owned from now on.
            queues: request queues to use, each by a thread of its own.

        Raises:
            Refused: it cannot be brought up.
        """
        self.peer_pid = _peer_pid(sock)
        """Who listens there."""
        self._front_end = FrontEnd(sock)
        ret = ffi.new("vfsd_bench **")
        error = lib.vfsd_bench_create(queues, ret)
        if error:
            self._front_end.close()
            raise OSError(-error, os.strerror(-error))
        self._bench = ret[0]
        self.queues = queues
        try:
            self._bring_up()
        except BaseException:
            self.close()
            raise

    @classmethod
    def connect(cls, path: str | Path, *, queues: int = 1) -> Self:
        """Connect to a daemon that listens at `path`."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(os.fspath(path))
        except OSError as error:
            sock.close()
            raise Refused(f"{path}: {error.strerror}") from None
        return cls(sock, queues=queues)

    def _bring_up(self) -> None:
        bench = self._bench
        rings = self._front_end.negotiate()
        if rings < self.queues + 1:
            raise Refused(f"it has {rings - 1} request queues")
        self._front_end.share_memory(
            lib.vfsd_bench_memory_fd(bench),
            lib.vfsd_bench_memory_bytes(bench),
            lib.vfsd_bench_user_address(bench),
        )
        ring = ffi.new("vfsd_bench_ring *")
        for index in range(self.queues + 1):
            lib.vfsd_bench_get_ring(bench, index, ring)
            where = (ring.desc, ring.avail, ring.used)
            self._front_end.start_ring(
                index, Ring(_RING_ENTRIES, *where, ring.kick_fd, ring.call_fd)
            )
        lib.vfsd_bench_set_alarm(bench, self._front_end.fileno())
        offer = _INIT_IN.pack(_MAJOR, _MINOR, 128 << 10, sum(_OFFERED))
        reply = self.ask(Opcode.INIT, 0, offer, _INIT_OUT_BYTES)
        if len(reply) < _INIT_OUT.size:
            raise Refused(f"its reply to INIT has {len(reply)} bytes")
        _, _, _, granted, _, _, max_write, _, max_pages, _ = _INIT_OUT.unpack_from(reply)
        pages = max_pages if granted & _MAX_PAGES else 32
        most = min(_DATA_BYTES, max_write, pages * _PAGE_BYTES)
        self.max_request_bytes = most - most % _PAGE_BYTES
        """The longest READ or WRITE that Linux would make."""

    def close(self) -> None:
        """Vanish."""
        self._front_end.close()
        lib.vfsd_bench_destroy(self._bench)
        self._bench = ffi.NULL

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def ask(self, opcode: Opcode, nodeid: int, body: bytes, room_bytes: int) -> bytes:
        """Make one request; returns what follows the reply's header.

        Raises:
            BadReply: it is an error, or there is none.
        """
        reply = ffi.new("uint8_t[]", max(room_bytes, 1))
        got = lib.vfsd_bench_ask(self._bench, opcode, nodeid, body, len(body), reply, room_bytes)
        if got < 0:
            raise _bad(int(got), f"{opcode.name}: {os.strerror(-got)}")
        return bytes(ffi.buffer(reply, got))

    def lookup(self, parent: int, name: str) -> int:
        """Return the node id of a name."""
        body = os.fsencode(name) + b"\0"
        reply = self.ask(Opcode.LOOKUP, parent, body, _ENTRY_OUT_BYTES)
        (nodeid,) = struct.unpack_from("=Q", reply)
        return int(nodeid)

    def open(self, nodeid: int, flags: int) -> int:
        """Open a file; returns its handle."""
        return self._open(Opcode.OPEN, nodeid, flags)

    def opendir(self, nodeid: int) -> int:
        """Open a directory; returns its handle."""
        return self._open(Opcode.OPENDIR, nodeid, os.O_RDONLY | os.O_DIRECTORY)

    def _open(self, opcode: Opcode, nodeid: int, flags: int) -> int:
        reply = self.ask(opcode, nodeid, struct.pack("=II", flags, 0), _OPEN_OUT.size)
        return int(_OPEN_OUT.unpack(reply)[0])

    def run(self, work: Work) -> Outcome:
        """Do `work`; the first reply that is wrong ends it.

        Raises:
            BadReply: what was wrong.
        """
        handles = ffi.new("uint64_t[]", list(work.handles) or [0])
        ret = ffi.new("vfsd_bench_result *")
        complaint = ffi.new("char[]", lib.VFSD_BENCH_COMPLAINT_BYTES)
        error = lib.vfsd_bench_run(self._bench, _as_c(work, handles), ret, complaint)
        if error:
            said = ffi.string(complaint).decode() or "the load makes no sense"
            raise _bad(error, f"{work.kind.name}: {said}: {os.strerror(-error)}")
        return _outcome(ret)

    def forget(self, names: Names) -> None:
        """Give up all lookups of `names`."""
        error = lib.vfsd_bench_forget(self._bench, names.handle)
        if error:
            raise _bad(error, f"FORGET: {os.strerror(-error)}")


def _bad(error: int, said: str) -> BadReply:
    return Gone(said) if error in _GONE else BadReply(said)


def _peer_pid(sock: socket.socket) -> int:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII"))
    pid, _, _ = struct.unpack("=iII", raw)
    return int(pid)


def run_bare(fd: int, names: int, work: Work) -> Outcome:
    """Do the same as plain system calls of this thread.

    Args:
        fd: the open file, or the directory.
        names: how many there are in it.
        work: what to do; kind, seconds, sizes and order count.

    Raises:
        OSError: one of them fails.
    """
    ret = ffi.new("vfsd_bench_result *")
    error = lib.vfsd_bench_bare(fd, names, _as_c(work, ffi.NULL), ret)
    if error:
        raise OSError(-error, f"{work.kind.name}: {os.strerror(-error)}")
    return _outcome(ret)


def _as_c(work: Work, handles: Any) -> Any:  # noqa: ANN401 - cffi's objects have no types
    return ffi.new(
        "vfsd_bench_work *",
        {
            "kind": work.kind,
            "depth": work.depth,
            "duration_ns": int(work.seconds * 1e9),
            "units": work.units,
            "poll_ns": work.poll_us * 1000,
            "nodeid": work.nodeid,
            "handles": handles,
            "file_bytes": work.file_bytes,
            "request_bytes": work.request_bytes,
            "random": work.random,
            "forget": work.forget,
            "names": work.names.handle if work.names else ffi.NULL,
        },
    )


def _outcome(ret: Any) -> Outcome:  # noqa: ANN401 - cffi's objects have no types
    return Outcome(ret.units, ret.requests, ret.wall_ns, ret.cpu_ns, ret.p50_ns, ret.p99_ns)
