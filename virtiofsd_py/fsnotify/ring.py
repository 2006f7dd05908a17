# SPDX-License-Identifier: BSD-3-Clause
"""The client's end of an event ring in shared memory: the only module that imports `_ring`.

That is native/watch/shm_reader.c alone, without the daemon's core.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from virtiofsd_py._ring import ffi, lib
from virtiofsd_py.errors import EngineError, check


@dataclass(frozen=True, slots=True)
class RingEntry:
    """A record in a ring that another process fills; ``vfsd_ring_entry``.

    Attributes:
        type: a `RecordType`, or a number that means nothing to us.
        subtype: what kind of that.
        watch: the `WatchSpec` that it is about, or 0.
        payload: the ring's own memory, not copied: good until the next entry is asked for. Somebody
            may be writing to it, so read a value once.
        lost: in a loss, how many records are missing at this place.
    """

    type: int
    subtype: int
    watch: int
    payload: memoryview
    lost: int


class ShmReader:
    """Reads an event ring that another process fills, and does not trust it.

    See native/watch/shm_reader.h, also for how to wait. One thread at a time.
    """

    def __init__(self, fd: int) -> None:
        """Map the ring; `fd` is borrowed.

        Raises:
            EngineError: EINVAL if it is no ring, or could be cut short.
        """
        self._raw: Any = ffi.NULL
        out = ffi.new("vfsd_shm_reader **")
        check(lib.vfsd_shm_reader_create(fd, out), "event ring")
        self._raw = out[0]
        self._entry = ffi.new("vfsd_ring_entry *")
        self._payload = memoryview(b"")

    def next(self) -> RingEntry | None:
        """Release the last entry and return the oldest that is left, None if there is none now.

        Raises:
            EngineError: EBADMSG, from then on: the ring is malformed.
        """
        if self._raw == ffi.NULL:
            raise EngineError(errno.EBADF, "event ring")
        self._payload.release()
        lib.vfsd_shm_reader_release(self._raw)
        entry = self._entry
        if not check(lib.vfsd_shm_reader_next(self._raw, entry), "event ring"):
            return None
        raw = ffi.buffer(entry.payload, entry.bytes) if entry.bytes else b""
        self._payload = memoryview(raw).toreadonly()
        return RingEntry(entry.type, entry.subtype, entry.watch, self._payload, entry.lost)

    def close(self) -> None:
        """Unmap it. Idempotent."""
        self._payload.release()
        raw, self._raw = self._raw, ffi.NULL
        lib.vfsd_shm_reader_destroy(raw)
