# SPDX-License-Identifier: BSD-3-Clause
"""FUSE requests over a ring: one method per operation, and `submit`/`wait` below them.

Spec: Linux include/uapi/linux/fuse.h; VIRTIO 1.3, "Device Operation: Request Queues" of the file
system device.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass

from tests.frontend import fuse_wire as wire
from tests.frontend.fuse_wire import (
    AttrReply,
    Dirent,
    Entry,
    InitFlag,
    InitReply,
    Opcode,
    Opened,
    SetattrValid,
    Statfs,
    Statx,
)
from tests.frontend.vring import DEADLINE_S, Buffer, DriverRing, Used

Name = str | bytes

DEFAULT_INIT_FLAGS = (
    InitFlag.ASYNC_READ
    | InitFlag.BIG_WRITES
    | InitFlag.ATOMIC_O_TRUNC
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.INIT_EXT
    | InitFlag.HAS_FSNOTIFY
)
_MAX_REPLY_BYTES = 4096
_NO_BITS = SetattrValid(0)


class FuseError(OSError):
    """The daemon answered with an error; `errno` is positive."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply whose header has been checked: `error` is 0 or a negative errno."""

    error: int
    payload: bytes

    def check(self) -> bytes:
        """Return the payload; FuseError if there is an error instead."""
        if self.error:
            raise FuseError(-self.error, os.strerror(-self.error))
        return self.payload


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that the device has, or had."""

    unique: int
    ring: DriverRing
    head: int
    out: tuple[Buffer, ...]
    into: tuple[Buffer, ...]


class FuseClient:
    """Makes requests on one ring, as one kernel would.

    Several may be in flight: `submit` some, then `wait` for them in any order.
    """

    def __init__(
        self,
        ring: DriverRing,
        *,
        hiprio: DriverRing | None = None,
        chunk_bytes: int | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Use a started ring.

        Args:
            ring: where requests go.
            hiprio: where FORGET and INTERRUPT go; `ring` if None.
            chunk_bytes: cut buffers into pieces of at most this size, as a kernel does with pages.
            deadline_s: for each reply.
        """
        self.ring = ring
        self.hiprio = hiprio or ring
        self.chunk_bytes = chunk_bytes
        self.deadline_s = deadline_s
        self.uid = self.gid = 0
        self.pid = os.getpid()
        self._uniques = itertools.count(2, 2)
        self._done: dict[tuple[int, int], Used] = {}  # (ring's id, head)

    # Requests as such.

    def submit(
        self,
        opcode: int,
        nodeid: int,
        body: bytes = b"",
        *,
        reply_bytes: int = _MAX_REPLY_BYTES,
        wants_reply: bool = True,
        ring: DriverRing | None = None,
        kick: bool = True,
    ) -> Pending:
        """Give one request to the device.

        Args:
            opcode: any number.
            nodeid: the object.
            body: everything behind the header.
            reply_bytes: room behind the reply's header.
            wants_reply: offer any room at all; FORGET does not.
            ring: not the usual one.
            kick: publish and kick; if not, the caller does so for a whole batch.
        """
        unique = next(self._uniques)
        header = wire.IN_HEADER.pack(
            wire.IN_HEADER.size + len(body),
            opcode,
            unique,
            nodeid,
            self.uid,
            self.gid,
            self.pid,
            0,
            0,
        )
        return self.submit_raw(
            [header, body],
            [wire.OUT_HEADER.size, reply_bytes] if wants_reply else [],
            unique=unique,
            ring=ring,
            kick=kick,
        )

    def submit_raw(
        self,
        out: Iterable[bytes],
        into: Iterable[int],
        *,
        unique: int = 0,
        ring: DriverRing | None = None,
        kick: bool = True,
    ) -> Pending:
        """Give any bytes to the device, with room of the given sizes; empty ones are left out."""
        ring = ring or self.ring
        out_buffers = [self._place(ring, data) for data in out if data]
        into_buffers = [Buffer(ring.memory.alloc(size), size) for size in into if size]
        head = ring.add(
            [piece for buffer in out_buffers for piece in self._cut(buffer)],
            [piece for buffer in into_buffers for piece in self._cut(buffer)],
        )
        if kick:
            ring.publish()
            ring.kick_if_needed()
        return Pending(unique, ring, head, tuple(out_buffers), tuple(into_buffers))

    def wait_raw(self, pending: Pending) -> bytes:
        """Return what the device wrote, unchecked; TimeoutError if it is not done in time."""
        ring = pending.ring
        wanted = (id(ring), pending.head)
        while wanted not in self._done:
            used = ring.wait_used(self.deadline_s)
            self._done[id(ring), used.head] = used
        left = self._done.pop(wanted).written_bytes
        room = sum(buffer.size_bytes for buffer in pending.into)
        assert left <= room, f"the device claims to have written {left} bytes into {room}"
        pieces = []
        for buffer in pending.into:
            pieces.append(ring.memory.read(buffer.guest_address, min(left, buffer.size_bytes)))
            left -= len(pieces[-1])
        for buffer in (*pending.out, *pending.into):
            ring.memory.free(buffer.guest_address)
        return b"".join(pieces)

    def wait(self, pending: Pending) -> Reply:
        """Return the reply, with its header checked."""
        raw = self.wait_raw(pending)
        assert len(raw) >= wire.OUT_HEADER.size, f"a reply of {len(raw)} bytes"
        size, error, unique = wire.OUT_HEADER.unpack_from(raw)
        assert size == len(raw), f"length {size} in a reply of {len(raw)} bytes"
        assert unique == pending.unique, "the reply belongs to another request"
        assert -4096 < error <= 0, f"error {error}"
        assert not error or size == wire.OUT_HEADER.size, "an error with a payload"
        return Reply(error, raw[wire.OUT_HEADER.size :])

    def request(
        self, opcode: int, nodeid: int, body: bytes = b"", *, reply_bytes: int = _MAX_REPLY_BYTES
    ) -> bytes:
        """Make one request and return its reply's payload; FuseError if it fails."""
        return self.wait(self.submit(opcode, nodeid, body, reply_bytes=reply_bytes)).check()

    # The session.

    def init(
        self,
        flags: int = DEFAULT_INIT_FLAGS,
        *,
        major: int = wire.KERNEL_VERSION,
        minor: int = wire.KERNEL_MINOR_VERSION,
        max_readahead: int = 128 << 10,
    ) -> InitReply:
        body = wire.INIT_IN.pack(
            major, minor, max_readahead, flags & 0xFFFF_FFFF, flags >> 32, *[0] * 11
        )
        return InitReply.parse(self.request(Opcode.INIT, 0, body))

    def destroy(self) -> None:
        self.request(Opcode.DESTROY, 0)

    def interrupt(self, unique: int) -> None:
        """Ask for another request to be given up; has a reply only if it fails."""
        pending = self.submit(Opcode.INTERRUPT, 0, wire.INTERRUPT_IN.pack(unique), ring=self.hiprio)
        self.wait_raw(pending)

    # Names.

    def lookup(self, parent: int, name: Name) -> Entry:
        return self._entry(Opcode.LOOKUP, parent, b"", name)

    def forget(self, nodeid: int, nlookup: int = 1) -> None:
        """Return lookup references; there is no reply."""
        body = wire.FORGET_IN.pack(nlookup)
        self._wait_unanswered(Opcode.FORGET, nodeid, body)

    def batch_forget(self, counts: Iterable[tuple[int, int]]) -> None:
        """Return (nodeid, nlookup) references; there is no reply."""
        items = [wire.FORGET_ONE.pack(*one) for one in counts]
        body = wire.BATCH_FORGET_IN.pack(len(items), 0) + b"".join(items)
        self._wait_unanswered(Opcode.BATCH_FORGET, 0, body)

    def mkdir(self, parent: int, name: Name, mode: int = 0o755, umask: int = 0) -> Entry:
        return self._entry(Opcode.MKDIR, parent, wire.MKDIR_IN.pack(mode, umask), name)

    def mknod(
        self, parent: int, name: Name, mode: int = 0o100644, rdev: int = 0, umask: int = 0
    ) -> Entry:
        body = wire.MKNOD_IN.pack(mode, rdev, umask, 0)
        return self._entry(Opcode.MKNOD, parent, body, name)

    def symlink(self, parent: int, name: Name, target: Name) -> Entry:
        return self._entry(Opcode.SYMLINK, parent, b"", name, target)

    def link(self, nodeid: int, parent: int, name: Name) -> Entry:
        return self._entry(Opcode.LINK, parent, wire.LINK_IN.pack(nodeid), name)

    def hold(self, nodeid: int) -> None:
        """Say that it stays in use when its name goes."""
        self.request(Opcode.HOLD, nodeid)

    def unlink(self, parent: int, name: Name) -> None:
        self.request(Opcode.UNLINK, parent, _names(name))

    def rmdir(self, parent: int, name: Name) -> None:
        self.request(Opcode.RMDIR, parent, _names(name))

    def rename(self, parent: int, name: Name, new_parent: int, new_name: Name) -> None:
        body = wire.RENAME_IN.pack(new_parent) + _names(name, new_name)
        self.request(Opcode.RENAME, parent, body)

    def rename2(self, parent: int, name: Name, new_parent: int, new_name: Name, flags: int) -> None:
        body = wire.RENAME2_IN.pack(new_parent, flags, 0) + _names(name, new_name)
        self.request(Opcode.RENAME2, parent, body)

    def readlink(self, nodeid: int) -> bytes:
        return self.request(Opcode.READLINK, nodeid)

    # Attributes.

    def getattr(self, nodeid: int, fh: int | None = None) -> AttrReply:
        body = wire.GETATTR_IN.pack(fh is not None, 0, fh or 0)
        return AttrReply.parse(self.request(Opcode.GETATTR, nodeid, body))

    def setattr(
        self,
        nodeid: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: tuple[int, int] | None = None,
        mtime: tuple[int, int] | None = None,
        fh: int | None = None,
        also: SetattrValid = _NO_BITS,
    ) -> AttrReply:
        """Change what is given; times are (s, ns); `also` adds bits such as MTIME_NOW."""
        valid = also
        for value, bit in (
            (mode, SetattrValid.MODE),
            (uid, SetattrValid.UID),
            (gid, SetattrValid.GID),
            (size, SetattrValid.SIZE),
            (atime, SetattrValid.ATIME),
            (mtime, SetattrValid.MTIME),
            (fh, SetattrValid.FH),
        ):
            if value is not None:
                valid |= bit
        a, m = atime or (0, 0), mtime or (0, 0)
        body = wire.SETATTR_IN.pack(
            valid,
            0,
            fh or 0,
            size or 0,
            0,  # lock owner
            a[0],
            m[0],
            0,  # ctime
            a[1],
            m[1],
            0,
            mode or 0,
            0,
            uid or 0,
            gid or 0,
            0,
        )
        return AttrReply.parse(self.request(Opcode.SETATTR, nodeid, body))

    def access(self, nodeid: int, mask: int) -> None:
        self.request(Opcode.ACCESS, nodeid, wire.ACCESS_IN.pack(mask, 0))

    def statx(self, nodeid: int, mask: int = 0xFFF, flags: int = 0, fh: int | None = None) -> Statx:
        body = wire.STATX_IN.pack(fh is not None, 0, fh or 0, flags, mask)
        return Statx.parse(self.request(Opcode.STATX, nodeid, body))

    def statfs(self, nodeid: int = wire.ROOT_ID) -> Statfs:
        return Statfs.parse(self.request(Opcode.STATFS, nodeid))

    def syncfs(self, nodeid: int = wire.ROOT_ID) -> None:
        self.request(Opcode.SYNCFS, nodeid, wire.SYNCFS_IN.pack(0))

    def ioctl(
        self, nodeid: int, fh: int, command: int, data: bytes = b"", out_bytes: int = 0
    ) -> bytes:
        """Return what the command gives."""
        body = wire.IOCTL_IN.pack(fh, 0, command, 0, len(data), out_bytes) + data
        raw = self.request(Opcode.IOCTL, nodeid, body)
        assert wire.IOCTL_OUT.unpack_from(raw) == (0, 0, 0, 0)
        return raw[wire.IOCTL_OUT.size :]

    # Extended attributes.

    def getxattr(self, nodeid: int, name: Name, size: int = 4096) -> bytes:
        body = wire.GETXATTR_IN.pack(size, 0) + _names(name)
        return self.request(Opcode.GETXATTR, nodeid, body, reply_bytes=max(size, 8))

    def getxattr_size(self, nodeid: int, name: Name) -> int:
        """Return how many bytes the value has."""
        body = wire.GETXATTR_IN.pack(0, 0) + _names(name)
        size, _ = wire.GETXATTR_OUT.unpack(self.request(Opcode.GETXATTR, nodeid, body))
        return int(size)

    def listxattr(self, nodeid: int, size: int = 4096) -> list[bytes]:
        body = wire.GETXATTR_IN.pack(size, 0)
        raw = self.request(Opcode.LISTXATTR, nodeid, body, reply_bytes=max(size, 8))
        assert not raw or raw.endswith(b"\0")
        return raw.split(b"\0")[:-1]

    def setxattr(
        self,
        nodeid: int,
        name: Name,
        value: bytes,
        flags: int = 0,
        *,
        setxattr_flags: int | None = None,
    ) -> None:
        """Set it; with `setxattr_flags` in the longer form of SETXATTR_EXT."""
        if setxattr_flags is None:
            head = wire.SETXATTR_IN_OLD.pack(len(value), flags)
        else:
            head = wire.SETXATTR_IN.pack(len(value), flags, setxattr_flags, 0)
        self.request(Opcode.SETXATTR, nodeid, head + _names(name) + value)

    def removexattr(self, nodeid: int, name: Name) -> None:
        self.request(Opcode.REMOVEXATTR, nodeid, _names(name))

    # Files.

    def open(self, nodeid: int, flags: int = os.O_RDONLY) -> Opened:
        return Opened.parse(self.request(Opcode.OPEN, nodeid, wire.OPEN_IN.pack(flags, 0)))

    def create(
        self,
        parent: int,
        name: Name,
        mode: int = 0o100644,
        flags: int = os.O_RDWR | os.O_CREAT,
        umask: int = 0,
    ) -> tuple[Entry, Opened]:
        body = wire.CREATE_IN.pack(flags, mode, umask, 0) + _names(name)
        raw = self.request(Opcode.CREATE, parent, body)
        at = wire.ENTRY_OUT_BYTES
        return Entry.parse(raw[:at]), Opened.parse(raw[at:])

    def read(self, nodeid: int, fh: int, offset: int, size: int) -> bytes:
        body = wire.READ_IN.pack(fh, offset, size, 0, 0, 0, 0)
        return self.request(Opcode.READ, nodeid, body, reply_bytes=size)

    def write(self, nodeid: int, fh: int, offset: int, data: bytes, write_flags: int = 0) -> int:
        """Return how many bytes were taken."""
        body = wire.WRITE_IN.pack(fh, offset, len(data), write_flags, 0, 0, 0) + data
        written, _ = wire.WRITE_OUT.unpack(self.request(Opcode.WRITE, nodeid, body))
        return int(written)

    def tmpfile(
        self, parent: int, mode: int = 0o100644, flags: int = os.O_RDWR, umask: int = 0
    ) -> tuple[Entry, Opened]:
        body = wire.CREATE_IN.pack(flags, mode, umask, 0) + _names("/")
        raw = self.request(Opcode.TMPFILE, parent, body)
        at = wire.ENTRY_OUT_BYTES
        return Entry.parse(raw[:at]), Opened.parse(raw[at:])

    def fallocate(self, nodeid: int, fh: int, mode: int, offset: int, length: int) -> None:
        body = wire.FALLOCATE_IN.pack(fh, offset, length, mode, 0)
        self.request(Opcode.FALLOCATE, nodeid, body)

    def lseek(self, nodeid: int, fh: int, offset: int, whence: int) -> int:
        """Return the offset found."""
        body = wire.LSEEK_IN.pack(fh, offset, whence, 0)
        (found,) = wire.LSEEK_OUT.unpack(self.request(Opcode.LSEEK, nodeid, body))
        return int(found)

    def copy_file_range(
        self,
        source: tuple[int, int, int],
        target: tuple[int, int, int],
        length: int,
        *,
        wide: bool = True,
    ) -> int:
        """Copy between (nodeid, fh, offset); return how many bytes. `wide`: the 64-bit form."""
        body = wire.COPY_FILE_RANGE_IN.pack(*source[1:], *target, length, 0)
        opcode = Opcode.COPY_FILE_RANGE_64 if wide else Opcode.COPY_FILE_RANGE
        reply = wire.COPY_FILE_RANGE_OUT if wide else wire.WRITE_OUT
        return int(reply.unpack(self.request(opcode, source[0], body))[0])

    def flush(self, nodeid: int, fh: int) -> None:
        self.request(Opcode.FLUSH, nodeid, wire.FLUSH_IN.pack(fh, 0, 0, 0))

    def fsync(self, nodeid: int, fh: int, *, data_only: bool = False) -> None:
        self.request(Opcode.FSYNC, nodeid, wire.FSYNC_IN.pack(fh, data_only, 0))

    def release(self, nodeid: int, fh: int, flags: int = os.O_RDONLY) -> None:
        self.request(Opcode.RELEASE, nodeid, wire.RELEASE_IN.pack(fh, flags, 0, 0))

    # Directories.

    def opendir(self, nodeid: int) -> Opened:
        return Opened.parse(self.request(Opcode.OPENDIR, nodeid, wire.OPEN_IN.pack(0, 0)))

    def readdir(self, nodeid: int, fh: int, offset: int = 0, size: int = 4096) -> list[Dirent]:
        """Return what fits `size` bytes from `offset` on; empty at the end."""
        body = wire.READ_IN.pack(fh, offset, size, 0, 0, 0, 0)
        return Dirent.parse_all(self.request(Opcode.READDIR, nodeid, body, reply_bytes=size))

    def readdirplus(self, nodeid: int, fh: int, offset: int = 0, size: int = 8192) -> list[Dirent]:
        """Like `readdir`; each entry but "." and ".." counts as a lookup."""
        body = wire.READ_IN.pack(fh, offset, size, 0, 0, 0, 0)
        raw = self.request(Opcode.READDIRPLUS, nodeid, body, reply_bytes=size)
        return Dirent.parse_all(raw, plus=True)

    def listdir(self, nodeid: int, size: int = 4096) -> list[Dirent]:
        """Return all of a directory, by as many READDIR as it takes."""
        fh = self.opendir(nodeid).fh
        found: list[Dirent] = []
        while batch := self.readdir(nodeid, fh, found[-1].offset if found else 0, size):
            found += batch
        self.releasedir(nodeid, fh)
        return found

    def fsyncdir(self, nodeid: int, fh: int, *, data_only: bool = False) -> None:
        self.request(Opcode.FSYNCDIR, nodeid, wire.FSYNC_IN.pack(fh, data_only, 0))

    def releasedir(self, nodeid: int, fh: int) -> None:
        self.request(Opcode.RELEASEDIR, nodeid, wire.RELEASE_IN.pack(fh, 0, 0, 0))

    # Remote fsnotify.

    def fsnotify(self, nodeid: int, mask: int, flags: int = 0) -> None:
        """Publish the aggregate interest in one object; 0 ends it."""
        payload = self.request(
            Opcode.FSNOTIFY, nodeid, wire.FSNOTIFY_IN.pack(mask, flags, 0), reply_bytes=64
        )
        assert not payload, "FSNOTIFY is answered by a bare header"

    # Helpers.

    def _entry(self, opcode: Opcode, parent: int, body: bytes, *names: Name) -> Entry:
        return Entry.parse(self.request(opcode, parent, body + _names(*names)))

    def _wait_unanswered(self, opcode: Opcode, nodeid: int, body: bytes) -> None:
        pending = self.submit(opcode, nodeid, body, wants_reply=False, ring=self.hiprio)
        assert not self.wait_raw(pending)

    def _cut(self, buffer: Buffer) -> Iterable[Buffer]:
        step = self.chunk_bytes or buffer.size_bytes
        return (
            Buffer(buffer.guest_address + at, min(step, buffer.size_bytes - at))
            for at in range(0, buffer.size_bytes, step)
        )

    @staticmethod
    def _place(ring: DriverRing, data: bytes) -> Buffer:
        address = ring.memory.alloc(len(data))
        ring.memory.write(address, data)
        return Buffer(address, len(data))


def _names(*names: Name) -> bytes:
    return b"".join(os.fsencode(name) + b"\0" for name in names)
