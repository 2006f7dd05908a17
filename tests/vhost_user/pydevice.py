# SPDX-License-Identifier: BSD-3-Clause
"""A small device in Python: rings for real, FUSE for show. It checks the driver's side.

It is written from the specification for clarity, trusts its driver, and asserts where a real
device would have to cope.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.frontend import fuse_wire as wire
from tests.frontend.fuse_wire import InitFlag, Opcode
from tests.frontend.memory import fence
from tests.frontend.notify import NOTIFY_FSNOTIFY
from tests.frontend.vhost import F_FS_NOTIFICATION, F_RING_EVENT_IDX, F_RING_INDIRECT, F_VERSION_1
from tests.frontend.vring import DESC, DESC_INDIRECT, DESC_NEXT, DESC_WRITE
from tests.vhost_user.recording import RecordingBackend
from virtiofsd_py.vhost_user import MemoryRegion, VringSetup

NOTIFY_BUF_BYTES = 512
CONFIG = struct.pack("<36sII", b"tag", 1, NOTIFY_BUF_BYTES)

Handler = Callable[[bytes, int], bytes]
"""Takes what a chain brings and the room it has; returns what to write."""


class Memory:
    """All of guest memory, mapped once more."""

    def __init__(self, regions: Sequence[MemoryRegion]) -> None:
        self._regions = [
            (r.guest_address, r.user_address, r.size_bytes, mmap.mmap(r.fd, r.size_bytes))
            for r in regions
        ]
        self._views = [memoryview(mapped) for *_, mapped in self._regions]
        self._words = [view.cast("H") for view in self._views]

    def close(self) -> None:
        for view in (*self._words, *self._views):
            view.release()
        for *_, mapped in self._regions:
            mapped.close()

    def guest_address(self, user_address: int) -> int:
        for guest, user, size, _ in self._regions:
            if user <= user_address < user + size:
                return guest + user_address - user
        raise IndexError(f"{user_address:#x}")

    def read(self, guest_address: int, size_bytes: int) -> bytes:
        i, at = self._find(guest_address, size_bytes)
        return bytes(self._views[i][at : at + size_bytes])

    def write(self, guest_address: int, data: bytes) -> None:
        i, at = self._find(guest_address, len(data))
        self._views[i][at : at + len(data)] = data

    def load16(self, guest_address: int) -> int:
        i, at = self._find(guest_address, 2)
        return self._words[i][at // 2]

    def store16(self, guest_address: int, value: int) -> None:
        i, at = self._find(guest_address, 2)
        self._words[i][at // 2] = value & 0xFFFF

    def _find(self, guest_address: int, size_bytes: int) -> tuple[int, int]:
        for i, (guest, _, size, _) in enumerate(self._regions):
            if guest <= guest_address and guest_address + size_bytes <= guest + size:
                return i, guest_address - guest
        raise IndexError(f"{guest_address:#x}")


@dataclass
class Chain:
    head: int
    out: bytes
    into: list[tuple[int, int]]  # guest address, size


class DeviceRing:
    """The device's side of one ring, on a thread of its own unless there is no handler."""

    def __init__(
        self, memory: Memory, setup: VringSetup, event_idx: bool, handler: Handler | None
    ) -> None:
        self.memory = memory
        self.num = setup.num
        self.desc = memory.guest_address(setup.desc_user_address)
        self.avail = memory.guest_address(setup.avail_user_address)
        self.used = memory.guest_address(setup.used_user_address)
        self.next_avail = setup.base
        self.next_used = memory.load16(self.used + 2)
        self.signalled = self.next_used
        self.enabled = setup.enabled
        self.kick_fd = setup.kick_fd
        self.call_fd = setup.call_fd
        self.event_idx = event_idx
        self._handler = handler
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        if handler:
            self._thread.start()

    def stop(self) -> int:
        self._stopping = True
        os.eventfd_write(self._wake_fd, 1)
        if self._handler:
            self._thread.join()
        os.close(self._wake_fd)
        return self.next_avail

    def enable(self, enabled: bool) -> None:
        self.enabled = enabled
        os.eventfd_write(self._wake_fd, 1)

    def pop(self) -> Chain | None:
        if self.event_idx:  # "Kick me for the very next one."
            self.memory.store16(self.used + 4 + 8 * self.num, self.next_avail)
            fence()
        if self.memory.load16(self.avail + 2) == self.next_avail:
            return None
        fence()
        head = self.memory.load16(self.avail + 4 + 2 * (self.next_avail % self.num))
        self.next_avail = (self.next_avail + 1) & 0xFFFF
        table, size, index = self.desc, self.num, head
        chain = Chain(head, b"", [])
        for _ in range(self.num + 1):
            assert index < size
            address, length, flags, following = DESC.unpack(
                self.memory.read(table + 16 * index, 16)
            )
            if flags & DESC_INDIRECT:
                assert table == self.desc
                assert not flags & DESC_NEXT
                table, size, index = address, length // 16, 0
                continue
            if flags & DESC_WRITE:
                chain.into.append((address, length))
            else:
                assert not chain.into, "a readable buffer behind a writable one"
                chain.out += self.memory.read(address, length)
            if not flags & DESC_NEXT:
                return chain
            index = following
        raise AssertionError("the chain has a loop")

    def push(self, chain: Chain, data: bytes) -> None:
        left = data
        for address, length in chain.into:
            self.memory.write(address, left[:length])
            left = left[length:]
        assert not left, "the reply does not fit"
        at = self.used + 4 + 8 * (self.next_used % self.num)
        self.memory.write(at, struct.pack("<II", chain.head, len(data)))
        fence()
        self.next_used = (self.next_used + 1) & 0xFFFF
        self.memory.store16(self.used + 2, self.next_used)

    def signal(self) -> None:
        fence()
        old, self.signalled = self.signalled, self.next_used
        if self.event_idx:
            event = self.memory.load16(self.avail + 4 + 2 * self.num)
            wanted = (self.next_used - event - 1) & 0xFFFF < (self.next_used - old) & 0xFFFF
        else:
            wanted = not self.memory.load16(self.avail) & 1
        if wanted and self.call_fd is not None:
            os.eventfd_write(self.call_fd, 1)

    def _run(self) -> None:
        assert self._handler
        poller = select.poll()
        poller.register(self.kick_fd, select.POLLIN)
        poller.register(self._wake_fd, select.POLLIN)
        while not self._stopping:
            for fd, _ in poller.poll():
                os.eventfd_read(fd)
            while self.enabled and not self._stopping and (chain := self.pop()) is not None:
                room = sum(length for _, length in chain.into)
                self.push(chain, self._handler(chain.out, room))
                self.signal()


class PyDevice(RecordingBackend):
    """hiprio, notification if acknowledged, one request ring."""

    def __init__(self) -> None:
        offered = F_VERSION_1 | F_RING_EVENT_IDX | F_RING_INDIRECT | F_FS_NOTIFICATION
        super().__init__(3, offered, CONFIG)
        self.rings: dict[int, DeviceRing] = {}
        self.mapped: Memory | None = None
        self.forgotten: list[int] = []

    def replace_memory(self, regions: Sequence[MemoryRegion]) -> None:
        assert not self.rings
        super().replace_memory(regions)
        if self.mapped:
            self.mapped.close()
        self.mapped = Memory(regions)

    def start_vring(self, index: int, setup: VringSetup) -> None:
        super().start_vring(index, setup)
        assert self.mapped is not None
        assert self.features is not None
        event_idx = bool(self.features & F_RING_EVENT_IDX)
        silent = index == 1 and self._notifies
        self.rings[index] = DeviceRing(
            self.mapped, setup, event_idx, None if silent else self.serve
        )

    def stop_vring(self, index: int) -> int:
        base = self.rings.pop(index).stop()
        super().stop_vring(index)
        return base

    def set_vring_enabled(self, index: int, enabled: bool) -> None:
        super().set_vring_enabled(index, enabled)
        self.rings[index].enable(enabled)

    def set_vring_call(self, index: int, fd: int | None) -> None:
        self.rings[index].call_fd = fd  # before the old one is closed
        super().set_vring_call(index, fd)

    def serve(self, raw: bytes, room: int) -> bytes:
        """Answer one FUSE request, bar the file system."""
        size, opcode, unique, nodeid = wire.IN_HEADER.unpack_from(raw)[:4]
        assert size == len(raw)
        body = raw[wire.IN_HEADER.size :]
        error, payload = 0, b""
        match opcode:
            case Opcode.FORGET:
                self.forgotten.append(nodeid)
                assert not room
                return b""
            case Opcode.INIT:
                flags = InitFlag.INIT_EXT | InitFlag.HAS_FSNOTIFY
                payload = wire.INIT_OUT.pack(
                    7, 41, 0, flags & 0xFFFF_FFFF, 64, 48, 1 << 20, 1, 256, 0, flags >> 32,
                    *[0] * 6, 0x1234,
                )  # fmt: skip
            case Opcode.READ:
                _, offset, length, *_ = wire.READ_IN.unpack(body)
                payload = (bytes(range(256)) * (1 + length // 256))[offset % 256 :][:length]
            case Opcode.WRITE:
                payload = wire.WRITE_OUT.pack(len(body) - wire.WRITE_IN.size, 0)
            case Opcode.FSNOTIFY:
                mask, _, _ = wire.FSNOTIFY_IN.unpack(body)
                self.notify(nodeid, mask, b"a name of 17 byte")
            case _:
                error = -errno.ENOSYS
        return wire.OUT_HEADER.pack(16 + len(payload), error, unique) + payload

    def notify(self, nodeid: int, mask: int, name: bytes) -> None:
        """Place two records into one notification buffer."""
        chain = self.rings[1].pop()
        assert chain is not None
        padded = name + bytes(8 - len(name) % 8)
        records = struct.pack("=QQQIIIIiI", nodeid, 0, mask, 1, 0, 0, 7, 0, len(name)) + padded
        records += struct.pack("=QQQIIIIiI", nodeid, 0, 0, 1, 0, 1, 0, 0, 0)
        header = wire.OUT_HEADER.pack(16 + len(records), NOTIFY_FSNOTIFY, 0)
        self.rings[1].push(chain, header + records)
        self.rings[1].signal()

    @property
    def _notifies(self) -> bool:
        return bool((self.features or 0) & F_FS_NOTIFICATION)
