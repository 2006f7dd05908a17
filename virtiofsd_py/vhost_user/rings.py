# SPDX-License-Identifier: BSD-3-Clause
"""What a front-end has said about one ring so far.

Spec: QEMU docs/interop/vhost-user.rst, "Ring states"; VIRTIO 1.3, "Split Virtqueues".
"""

from __future__ import annotations

from dataclasses import dataclass

from virtiofsd_py.vhost_user.fds import close_fds

LARGEST_RING = 32768
"""Most entries of a split ring."""


@dataclass(frozen=True, slots=True)
class RingParts:
    """Where a ring's three parts are in the front-end's address space."""

    desc: int
    avail: int
    used: int

    def extents(self, num: int) -> tuple[tuple[int, int], ...]:
        """Return (address, size in bytes) of each part of a ring of `num` entries.

        The event index at the end of both rings is counted, negotiated or not.
        """
        return (self.desc, 16 * num), (self.avail, 6 + 2 * num), (self.used, 6 + 8 * num)


@dataclass(slots=True)
class Ring:
    """One ring's configuration and state.

    `call_fd` and `err_fd` are ours: the backend gets duplicates, so that they outlast a stop.
    """

    num: int | None = None
    parts: RingParts | None = None
    log_address: int | None = None
    base: int = 0
    enabled: bool = False
    running: bool = False
    call_fd: int | None = None
    err_fd: int | None = None

    def forget(self) -> None:
        """Return to the initial state, keeping only the call and error descriptors."""
        self.num = None
        self.parts = None
        self.log_address = None
        self.base = 0
        self.enabled = False

    def close(self) -> None:
        """Close the descriptors."""
        close_fds((self.call_fd, self.err_fd))
        self.call_fd = self.err_fd = None
