# SPDX-License-Identifier: BSD-3-Clause
"""The notification queue, and the records of remote fsnotify in it.

A notification is a `fuse_out_header` with `unique` 0 and the code in `error`; behind code
FSNOTIFY come one or more records, each aligned to 8 bytes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.frontend import fuse_wire as wire
from tests.frontend.vring import DEADLINE_S, Buffer, DriverRing, Used

NOTIFY_FSNOTIFY = 1024
FSN_UNLINKED = 1 << 0
FSN_PARENT_ONLY = 1 << 1
FSN_UNNAMED = 1 << 2
FSN_UNKNOWN_DIR = 1 << 3

FS_ISDIR = 0x4000_0000
FS_Q_OVERFLOW = 0x4000

_RECORD = struct.Struct("=QQQIIIIiI")
_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class Record:
    """struct fuse_notify_fsnotify_out with its name."""

    nodeid: int
    child: int
    mask: int
    generation: int
    child_generation: int
    flags: int
    cookie: int
    error: int
    name: bytes


def parse_notification(raw: bytes) -> list[Record]:
    """Decode one buffer, strictly.

    Raises:
        ValueError: a byte is not as the protocol has it.
    """
    if len(raw) < wire.OUT_HEADER.size:
        raise ValueError(f"a notification of {len(raw)} bytes")
    size, code, unique = wire.OUT_HEADER.unpack_from(raw)
    if (size, code, unique) != (len(raw), NOTIFY_FSNOTIFY, 0):
        raise ValueError(f"length {size} of {len(raw)}, code {code}, unique {unique}")
    rest = raw[wire.OUT_HEADER.size :]
    records = []
    while rest:
        if len(rest) < _RECORD.size:
            raise ValueError(f"{len(rest)} bytes left over")
        *fields, namelen = _RECORD.unpack_from(rest)
        padded = -(-(namelen + 1) // 8) * 8 if namelen else 0
        end = _RECORD.size + padded
        if namelen > _NAME_MAX or end > len(rest):
            raise ValueError(f"a name of {namelen} bytes in {len(rest)}")
        name, padding = rest[_RECORD.size :][:namelen], rest[_RECORD.size + namelen : end]
        if padding.strip(b"\0") or b"\0" in name or b"/" in name:
            raise ValueError(f"name {name!r} with padding {padding!r}")
        records.append(Record(*[*fields, name]))
        rest = rest[end:]
    if not records:
        raise ValueError("a notification without records")
    return records


class NotificationQueue:
    """Keeps buffers in a notification ring and reads what comes back."""

    def __init__(
        self, ring: DriverRing, buffer_bytes: int, buffers: int = 16, *, repost: bool = True
    ) -> None:
        """Use a ring; `post` gives it to the device, once it is started.

        Args:
            ring: the notification ring.
            buffer_bytes: size of each buffer: the device's notify_buf_size.
            buffers: how many there are.
            repost: give a buffer back as soon as it is read; if not, `post` does.
        """
        self.ring = ring
        self.repost = repost
        self._buffer_bytes = buffer_bytes
        self._spare = [ring.memory.alloc(buffer_bytes) for _ in range(buffers)]
        self._posted: dict[int, int] = {}  # head: guest address

    def post(self, count: int | None = None) -> None:
        """Give `count` spare buffers, or all, to the device."""
        for _ in range(len(self._spare) if count is None else count):
            address = self._spare.pop(0)
            self._posted[self.ring.add([], [Buffer(address, self._buffer_bytes)])] = address
        self.ring.publish()
        self.ring.kick_if_needed()

    def forget_posted(self) -> None:
        """Take back all buffers, after the ring was reset."""
        self._spare += self._posted.values()
        self._posted.clear()

    def read_raw(self, deadline_s: float = DEADLINE_S) -> bytes:
        """Return the next buffer as it was written; TimeoutError if none comes."""
        return self._take(self.ring.wait_used(deadline_s))

    def read(self, deadline_s: float = DEADLINE_S) -> list[Record]:
        """Return the records of the next buffer; TimeoutError if none comes."""
        return parse_notification(self.read_raw(deadline_s))

    def read_now(self) -> list[Record]:
        """Return all records that are there already."""
        records = []
        while (used := self.ring.pop_used()) is not None:
            records += parse_notification(self._take(used))
        return records

    def read_until(
        self, last: Callable[[Record], bool], deadline_s: float = DEADLINE_S
    ) -> list[Record]:
        """Return records up to the buffer with one that is the `last`."""
        end = time.monotonic() + deadline_s
        records: list[Record] = []
        while not any(map(last, records)):
            records += self.read(end - time.monotonic())
        return records

    def _take(self, used: Used) -> bytes:
        address = self._posted.pop(used.head)
        raw = self.ring.memory.read(address, used.written_bytes)
        self._spare.append(address)
        if self.repost:
            self.post()
        return raw
