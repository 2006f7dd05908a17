# SPDX-License-Identifier: BSD-3-Clause
"""The guest memory table, kept so that single regions can come and go.

The backend always gets the whole table; what is kept here are descriptors of our own.

Spec: QEMU docs/interop/vhost-user.rst, "Memory access", "VHOST_USER_ADD_MEM_REG".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter

from virtiofsd_py.vhost_user.backend import GuestAddress, MemoryRegion, UserAddress
from virtiofsd_py.vhost_user.errors import MessageRefused
from virtiofsd_py.vhost_user.fds import ReceivedFds, close_fds, duplicate_fds
from virtiofsd_py.vhost_user.messages import RegionDescription

HandOver = Callable[[Sequence[MemoryRegion]], None]
"""Takes the new table and the descriptors in it, also when it raises."""


class GuestMemory:
    """The current table. A change that is refused leaves it as it was."""

    def __init__(self, max_slots: int, hand_over: HandOver) -> None:
        """Start without memory.

        Args:
            max_slots: most regions.
            hand_over: called with each new table.
        """
        self.max_slots = max_slots
        self._hand_over = hand_over
        self._regions: tuple[MemoryRegion, ...] = ()

    def covers(self, user_address: int, size_bytes: int) -> bool:
        """Return whether one region holds all of a piece of the front-end's address space."""
        return any(
            0 <= user_address - region.user_address <= region.size_bytes - size_bytes
            for region in self._regions
        )

    def replace(self, descriptions: Sequence[RegionDescription], fds: ReceivedFds) -> None:
        """Replace the table by `descriptions`, one descriptor for each, in order.

        Raises:
            MessageRefused: wrong number of descriptors, too many regions, or an overlap.
            BackendError: the backend did not take it.
        """
        fds.expect(len(descriptions))
        self._adopt((), descriptions, fds)

    def add(self, description: RegionDescription, fds: ReceivedFds) -> None:
        """Add one region.

        Raises:
            MessageRefused: not one descriptor, no free slot, or an overlap.
            BackendError: the backend did not take it.
        """
        fds.expect(1)
        self._adopt(self._regions, [description], fds)

    def remove(self, description: RegionDescription) -> None:
        """Remove the region of this guest address, user address and size.

        Raises:
            MessageRefused: there is none.
            BackendError: the backend did not let it go.
        """
        wanted = (description.guest_address, description.user_address, description.size_bytes)
        kept = tuple(
            region
            for region in self._regions
            if (region.guest_address, region.user_address, region.size_bytes) != wanted
        )
        if len(kept) == len(self._regions):
            raise MessageRefused(f"no memory region at {description.guest_address:#x} to remove")
        self._commit(kept)

    def close(self) -> None:
        """Forget all memory, without a call of the backend."""
        close_fds(region.fd for region in self._regions)
        self._regions = ()

    def _adopt(
        self,
        kept: tuple[MemoryRegion, ...],
        descriptions: Sequence[RegionDescription],
        fds: ReceivedFds,
    ) -> None:
        if len(kept) + len(descriptions) > self.max_slots:
            raise MessageRefused(f"more than {self.max_slots} memory regions")
        _refuse_overlap([*kept, *descriptions])
        added = tuple(
            MemoryRegion(
                GuestAddress(description.guest_address),
                description.size_bytes,
                UserAddress(description.user_address),
                description.mmap_offset_bytes,
                fds.take(),
            )
            for description in descriptions
        )
        try:
            self._commit(kept + added)
        except BaseException:
            close_fds(region.fd for region in added)
            raise

    def _commit(self, regions: tuple[MemoryRegion, ...]) -> None:
        copies = duplicate_fds(region.fd for region in regions)
        self._hand_over(
            [
                replace(region, fd=copy)
                for region, copy in zip(regions, copies, strict=True)
                if copy is not None
            ]
        )
        in_use = {region.fd for region in regions}
        close_fds(region.fd for region in self._regions if region.fd not in in_use)
        self._regions = regions


def _refuse_overlap(regions: Sequence[MemoryRegion | RegionDescription]) -> None:
    """Raise `MessageRefused` if an address of either kind would mean two places."""
    for kind in ("guest_address", "user_address"):
        start = attrgetter(kind)
        ordered = sorted(regions, key=start)
        for low, high in pairwise(ordered):
            if start(high) - start(low) < low.size_bytes:
                raise MessageRefused(f"memory regions overlap at {kind} {start(high):#x}")
