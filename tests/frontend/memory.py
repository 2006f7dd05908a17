# SPDX-License-Identifier: BSD-3-Clause
"""One region of guest memory in a memfd, with an allocator."""

from __future__ import annotations

import mmap
import os
import threading

from tests.frontend.closing import Closing

PAGE_BYTES = 4096
_FENCE = threading.Lock()


def fence() -> None:
    """Order all earlier stores before all later loads: taking a lock is a full barrier."""
    with _FENCE:
        pass


class GuestMemory(Closing):
    """Shared memory seen at two addresses: the guest's, and the front-end's ("user").

    The bases are arbitrary and differ on purpose, so that mixing them up cannot go unnoticed.
    """

    def __init__(
        self,
        size_bytes: int = 16 << 20,
        *,
        guest_base: int = 0x4000_0000,
        user_base: int = 0x7F12_0000_0000,
        mmap_offset_bytes: int = 0,
    ) -> None:
        self.size_bytes = size_bytes
        self.guest_base = guest_base
        self.user_base = user_base
        self.mmap_offset_bytes = mmap_offset_bytes
        self.fd = os.memfd_create("guest", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, mmap_offset_bytes + size_bytes)
        self._map = mmap.mmap(self.fd, size_bytes, offset=mmap_offset_bytes)
        self._bytes = memoryview(self._map)
        # Ring indices must be stored in one piece, which a 16-bit view does and bytes do not.
        self._words = self._bytes.cast("H")
        self._free: list[tuple[int, int]] = [(0, size_bytes)]  # (offset, size), by offset
        self._used: dict[int, int] = {}  # offset: size

    def close(self) -> None:
        self._words.release()
        self._bytes.release()
        self._map.close()
        os.close(self.fd)

    @property
    def free_bytes(self) -> int:
        return sum(size for _, size in self._free)

    def alloc(self, size_bytes: int, align: int = 16) -> int:
        """Return the guest address of zeroed memory; MemoryError if there is none."""
        size = max(16, -(-size_bytes // 16) * 16)
        for i, (start, room) in enumerate(self._free):
            offset = -(-start // align) * align
            if offset + size > start + room:
                continue
            pieces = [(start, offset - start), (offset + size, start + room - offset - size)]
            self._free[i : i + 1] = [piece for piece in pieces if piece[1]]
            self._used[offset] = size
            self._bytes[offset : offset + size] = bytes(size)
            return self.guest_base + offset
        raise MemoryError(f"no {size} bytes of guest memory left")

    def free(self, guest_address: int) -> None:
        """Give back what `alloc` returned."""
        offset = guest_address - self.guest_base
        self._free.append((offset, self._used.pop(offset)))
        self._free.sort()
        merged: list[tuple[int, int]] = []
        for start, size in self._free:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((start, size))
        self._free = merged

    def user_address(self, guest_address: int) -> int:
        return guest_address - self.guest_base + self.user_base

    def read(self, guest_address: int, size_bytes: int) -> bytes:
        offset = self._offset(guest_address, size_bytes)
        return bytes(self._bytes[offset : offset + size_bytes])

    def write(self, guest_address: int, data: bytes) -> None:
        offset = self._offset(guest_address, len(data))
        self._bytes[offset : offset + len(data)] = data

    def load16(self, guest_address: int) -> int:
        return self._words[self._offset(guest_address, 2) // 2]

    def store16(self, guest_address: int, value: int) -> None:
        self._words[self._offset(guest_address, 2) // 2] = value & 0xFFFF

    def _offset(self, guest_address: int, size_bytes: int) -> int:
        offset = guest_address - self.guest_base
        if offset < 0 or offset + size_bytes > self.size_bytes:
            raise IndexError(f"{guest_address:#x} is outside of guest memory")
        return offset
