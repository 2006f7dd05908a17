# SPDX-License-Identifier: BSD-3-Clause
"""What a device has to offer so that `Server` can drive it.

Ownership: a descriptor in the arguments of a call belongs to the backend from the moment of the
call, also when it raises. Threads: one control thread calls all of this; the rings' own threads
are the backend's business.

Errors: a method may raise `BackendError`, and must then have left things as they were; the
front-end is told that the message was refused. Any other exception is a bug and goes up to the
caller of the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from virtiofsd_py.vhost_user.messages import TransferDirection

GuestAddress = NewType("GuestAddress", int)
"""A physical address of the guest: what descriptors hold."""
UserAddress = NewType("UserAddress", int)
"""A virtual address of the front-end: what SET_VRING_ADDR holds."""


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """Guest memory to map from `fd`.

    Addresses, size and offset are as the front-end gave them: nothing wraps around, regions do not
    overlap, but none need be page-aligned and the file may be shorter than it ought to be.
    """

    guest_address: GuestAddress
    size_bytes: int
    user_address: UserAddress
    mmap_offset_bytes: int
    fd: int


@dataclass(frozen=True, slots=True)
class VringSetup:
    """Everything needed to start one ring.

    Attributes:
        num: number of entries, a power of two.
        desc_user_address: descriptor table, aligned to 16 bytes.
        avail_user_address: available ring, aligned to 2 bytes.
        used_user_address: used ring, aligned to 4 bytes.
        base: next index of the available ring to process, 16 bits.
        kick_fd: readable when there are buffers. May be in blocking mode.
        call_fd: to be written to (8 bytes: an eventfd or a pipe) after buffers are used; None: the
            driver polls.
        err_fd: likewise, when the ring is found broken.
        enabled: if not, buffers stay where they are until `Backend.set_vring_enabled`.
        log_address: see `Backend.set_vring_log`.
    """

    num: int
    desc_user_address: UserAddress
    avail_user_address: UserAddress
    used_user_address: UserAddress
    base: int
    kick_fd: int
    call_fd: int | None
    err_fd: int | None
    enabled: bool
    log_address: GuestAddress | None = None


@dataclass(frozen=True, slots=True)
class DirtyLog:
    """A bitmap to map from `fd`: the bit of each 4 KiB of the guest that the device writes to.

    As the front-end gave it: it may be too short for the memory table, or the file for it.
    """

    size_bytes: int
    mmap_offset_bytes: int
    fd: int


class Backend(Protocol):
    """One device of a given number of rings."""

    @property
    def num_queues(self) -> int:
        """Number of rings, whatever the driver is going to use."""

    @property
    def device_features(self) -> int:
        """Virtio feature bits to offer, without VHOST_USER_F_PROTOCOL_FEATURES."""

    def set_features(self, features: int) -> None:
        """Take what was acknowledged of `device_features`; no ring is running."""

    def read_config(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return exactly `size_bytes` of the configuration space; raise if beyond its end."""

    def write_config(self, offset_bytes: int, data: bytes) -> None:
        """Change the configuration space; raise if these bytes are read-only."""

    def replace_memory(self, regions: Sequence[MemoryRegion]) -> None:
        """Replace the whole guest memory table, possibly while rings are running.

        The backend quiesces itself meanwhile, and finds the running rings' parts again in the new
        table: a ring that is no longer mapped is to be treated as broken.
        """

    def start_vring(self, index: int, setup: VringSetup) -> None:
        """Start a ring that is not running."""

    def stop_vring(self, index: int) -> int:
        """Stop a running ring, close its descriptors and return the next available index.

        When this returns, every buffer that was taken from the ring has been used, and nothing is
        placed on the ring any more. Must not fail.
        """

    def set_vring_enabled(self, index: int, enabled: bool) -> None:
        """Enable or disable a running ring."""

    def set_vring_call(self, index: int, fd: int | None) -> None:
        """Replace the call descriptor of a running ring.

        A new one is better written to at once: without acknowledgements, buffers may have been used
        before it was there, and a needless signal does no harm.
        """

    def set_vring_err(self, index: int, fd: int | None) -> None:
        """Replace the error descriptor of a running ring."""

    def set_backend_channel(self, fd: int | None) -> None:
        """Take the socket or pipe on which `BackendRequest` messages may be sent, or drop it."""

    def set_log(self, log: DirtyLog | None) -> None:
        """Replace the dirty log, or drop it, possibly while rings are running.

        What is marked is decided by `set_logging` and `set_vring_log`. Raise if the log is too
        short for the memory table; `replace_memory` has to raise if it is a table that the log in
        use is too short for.
        """

    def set_log_fd(self, fd: int | None) -> None:
        """Take the descriptor to write to (8 bytes) after pages have been marked, or drop it."""

    def set_logging(self, enabled: bool) -> None:
        """Mark, from now on or no more, what is written to the guest's buffers.

        Rings may be running. Without a log there is nothing to mark in, until `set_log` brings one.
        """

    def set_vring_log(self, index: int, log_address: GuestAddress | None) -> None:
        """Mark, for a running ring, what is written to its used ring.

        Args:
            index: the ring.
            log_address: where the used ring begins as far as the log is concerned; None: don't.
        """

    def start_transfer(self, direction: TransferDirection, fd: int) -> None:
        """Begin to write this device's state to `fd`, or to read one from it; no ring is running.

        Must not wait for the other end. One of the next two calls ends it, before another begins
        or a ring is started.
        """

    def finish_transfer(self) -> None:
        """End the transfer, whose other end is done; raise unless all of it went well.

        After a LOAD, what was read is in force when this returns, or nothing of it. The transfer is
        over also if it raises.
        """

    def cancel_transfer(self) -> None:
        """Give up the transfer. Must not fail."""

    def set_status(self, status: int) -> None:
        """Take the virtio device status (8 bits); at 0 no ring is running."""

    def reset_device(self) -> None:
        """Forget everything but memory and channel; no ring is running."""
