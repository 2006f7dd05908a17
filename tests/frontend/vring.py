# SPDX-License-Identifier: BSD-3-Clause
"""The driver's side of a split virtqueue.

Spec: VIRTIO 1.3, "Split Virtqueues".
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.frontend.memory import PAGE_BYTES, GuestMemory, fence

DESC_NEXT = 1
DESC_WRITE = 2
DESC_INDIRECT = 4
AVAIL_NO_INTERRUPT = 1
USED_NO_NOTIFY = 1

DESC = struct.Struct("<QIHH")
_USED_ELEMENT = struct.Struct("<II")

DEADLINE_S = 30.0
"""How long to wait for the device before a test has failed; never a measurement."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """A piece of guest memory."""

    guest_address: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Used:
    """A chain that the device is done with."""

    head: int
    written_bytes: int


class DriverRing:
    """One ring, its two event descriptors, and the descriptors that are free.

    The methods from `write_desc` on are for lying.
    """

    def __init__(
        self,
        memory: GuestMemory,
        num: int = 256,
        *,
        event_idx: bool = False,
        indirect: bool = False,
    ) -> None:
        """Lay out an empty ring.

        Args:
            memory: where it lives.
            num: entries.
            event_idx: VIRTIO_RING_F_EVENT_IDX is negotiated.
            indirect: put chains of several buffers into an indirect table.
        """
        self.memory = memory
        self.num = num
        self.event_idx = event_idx
        self.indirect = indirect
        self.desc = memory.alloc(16 * num, PAGE_BYTES)
        self.avail = memory.alloc(6 + 2 * num, PAGE_BYTES)
        self.used = memory.alloc(6 + 8 * num, PAGE_BYTES)
        self.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.call_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._tables: dict[int, int] = {}  # head: guest address of its indirect table
        self._chains: dict[int, list[int]] = {}  # head: its descriptors
        self.reset()

    def close(self) -> None:
        os.close(self.kick_fd)
        os.close(self.call_fd)

    def reset(self) -> None:
        """Return to an empty ring at index 0; only while the device has stopped it."""
        for address, size in (
            (self.desc, 16 * self.num),
            (self.avail, 6 + 2 * self.num),
            (self.used, 6 + 8 * self.num),
        ):
            self.memory.write(address, bytes(size))
        for table in self._tables.values():
            self.memory.free(table)
        self._tables.clear()
        self._chains.clear()
        self._free = list(range(self.num))
        self._next_avail = 0  # of the next entry to write
        self._kicked_avail = 0  # published when last asked whether to kick
        self._next_used = 0  # of the next entry to read
        self._drain(self.kick_fd)
        self._drain(self.call_fd)

    @property
    def in_flight(self) -> int:
        """Chains that the device has not returned."""
        return len(self._chains)

    # Giving chains to the device.

    def add(
        self, out: Sequence[Buffer], into: Sequence[Buffer], *, indirect: bool | None = None
    ) -> int:
        """Write one chain and its available entry, unpublished; return its head.

        Args:
            out: what the device reads.
            into: what the device writes.
            indirect: overrides the ring's way.

        Raises:
            BufferError: too few descriptors are free.
        """
        buffers = [(b, 0) for b in out] + [(b, DESC_WRITE) for b in into]
        if indirect if indirect is not None else self.indirect and len(buffers) > 1:
            head = self._add_indirect(buffers)
        else:
            head = self._add_direct(buffers)
        self.put_avail(head)
        return head

    def publish(self) -> None:
        """Let the device see everything added."""
        self.set_avail_idx(self._next_avail)

    def kick(self) -> None:
        """Wake the device, needed or not."""
        os.eventfd_write(self.kick_fd, 1)

    def kick_if_needed(self) -> bool:
        """Wake the device unless it said that it need not be; return whether it was woken."""
        fence()
        old, new = self._kicked_avail, self._next_avail
        self._kicked_avail = new
        if self.event_idx:
            event = self.memory.load16(self.used + 4 + 8 * self.num)
            wanted = (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF
        else:
            wanted = not self.memory.load16(self.used) & USED_NO_NOTIFY
        if wanted:
            self.kick()
        return wanted

    def device_sleeps(self) -> bool:
        """Return whether the device has taken the last kick and asks for the next.

        For rings without F_RING_EVENT_IDX.
        """
        assert not self.event_idx
        if select.select([self.kick_fd], [], [], 0)[0]:
            return False
        fence()
        return not self.memory.load16(self.used) & USED_NO_NOTIFY

    def submit(self, out: Sequence[Buffer], into: Sequence[Buffer]) -> int:
        """Add, publish and kick."""
        head = self.add(out, into)
        self.publish()
        self.kick_if_needed()
        return head

    # Taking chains back.

    def pop_used(self) -> Used | None:
        """Return the next chain that the device is done with, and free its descriptors."""
        if self.memory.load16(self.used + 2) == self._next_used:
            return None
        fence()
        at = self.used + 4 + 8 * (self._next_used % self.num)
        head, written = _USED_ELEMENT.unpack(self.memory.read(at, 8))
        self._next_used = (self._next_used + 1) & 0xFFFF
        assert head in self._chains, f"the device used chain {head}, which it does not have"
        self._free += self._chains.pop(head)
        if head in self._tables:
            self.memory.free(self._tables.pop(head))
        return Used(head, written)

    def device_used_idx(self) -> int:
        """What the device has returned so far."""
        return self.memory.load16(self.used + 2)

    def arm_call(self, after: int = 0) -> None:
        """Ask for a signal once more than `after` further chains are used."""
        if self.event_idx:
            self.memory.store16(self.avail + 4 + 2 * self.num, self._next_used + after)
        else:
            self.memory.store16(self.avail, 0)
        fence()

    def suppress_call(self) -> None:
        """Ask for no signal; without effect on EVENT_IDX rings, which have no such flag."""
        self.memory.store16(self.avail, AVAIL_NO_INTERRUPT)

    def wait_used(self, deadline_s: float = DEADLINE_S) -> Used:
        """Return the next used chain, sleeping on the call descriptor.

        Raises:
            TimeoutError: the device did not answer.
        """
        end = time.monotonic() + deadline_s
        while True:
            self.arm_call()
            if (used := self.pop_used()) is not None:
                return used
            if not self.wait_call(end - time.monotonic()):
                idx = self.memory.load16(self.used + 2)
                raise TimeoutError(f"nothing used within {deadline_s} s: {self._next_used=} {idx=}")

    def wait_call(self, deadline_s: float = DEADLINE_S) -> bool:
        """Wait for a signal and consume it; False: none came."""
        poller = select.poll()
        poller.register(self.call_fd, select.POLLIN)
        if not poller.poll(max(0.0, deadline_s) * 1000):
            return False
        self._drain(self.call_fd)
        return True

    # Raw access: nothing here is checked.

    def write_desc(
        self, index: int, address: int, size_bytes: int, flags: int = 0, following: int = 0
    ) -> None:
        """Write one descriptor of the main table."""
        self.memory.write(self.desc + 16 * index, DESC.pack(address, size_bytes, flags, following))

    def put_avail(self, head: int) -> None:
        """Write the next available entry, unpublished."""
        self.memory.store16(self.avail + 4 + 2 * (self._next_avail % self.num), head)
        self._next_avail = (self._next_avail + 1) & 0xFFFF

    def set_avail_idx(self, index: int) -> None:
        """Publish an available index."""
        fence()
        self.memory.store16(self.avail + 2, index)

    def lie(self, head: int, descriptors: Sequence[tuple[int, int, int, int]] = ()) -> None:
        """Offer `head` behind raw (address, size, flags, next) descriptors from index 0 on."""
        for i, (address, size, flags, following) in enumerate(descriptors):
            self.write_desc(i, address, size, flags, following)
        self._chains.setdefault(head, [])
        self.put_avail(head)
        self.publish()
        self.kick()

    def _add_direct(self, buffers: list[tuple[Buffer, int]]) -> int:
        if not 0 < len(buffers) <= len(self._free):
            raise BufferError(f"{len(buffers)} descriptors wanted, {len(self._free)} free")
        chain = [self._free.pop(0) for _ in buffers]
        for i, (buffer, flags) in enumerate(buffers):
            last = i + 1 == len(buffers)
            self.write_desc(
                chain[i],
                buffer.guest_address,
                buffer.size_bytes,
                flags if last else flags | DESC_NEXT,
                0 if last else chain[i + 1],
            )
        self._chains[chain[0]] = chain
        return chain[0]

    def _add_indirect(self, buffers: list[tuple[Buffer, int]]) -> int:
        table = b"".join(
            DESC.pack(
                buffer.guest_address,
                buffer.size_bytes,
                flags if i + 1 == len(buffers) else flags | DESC_NEXT,
                0 if i + 1 == len(buffers) else i + 1,
            )
            for i, (buffer, flags) in enumerate(buffers)
        )
        at = self.memory.alloc(len(table))
        self.memory.write(at, table)
        try:
            head = self._add_direct([(Buffer(at, len(table)), DESC_INDIRECT)])
        except BufferError:
            self.memory.free(at)
            raise
        self._tables[head] = at
        return head

    @staticmethod
    def _drain(fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
