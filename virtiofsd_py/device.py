# SPDX-License-Identifier: BSD-3-Clause
"""The virtio-fs device that the vhost-user conversation configures: thin, policy-free glue.

Spec: virtio 1.2, "File System Device", "Feature bits" and "Device configuration layout".
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntFlag
from typing import Final

from virtiofsd_py.engine import NOTIFY_BUF_BYTES, Engine
from virtiofsd_py.errors import EngineError
from virtiofsd_py.vhost_user import (
    BackendError,
    DirtyLog,
    GuestAddress,
    MemoryRegion,
    TransferDirection,
    VringSetup,
)

_CONFIG: Final = struct.Struct("<36sII")


class VirtioFsFeature(IntFlag):
    """Feature bits of this device: its own, and of the ring and transport what we serve."""

    NOTIFICATION = 1 << 0
    INDIRECT_DESC = 1 << 28
    EVENT_IDX = 1 << 29
    VERSION_1 = 1 << 32


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        raise BackendError(str(error)) from error


class VirtioFsDevice:
    """`virtiofsd_py.vhost_user.Backend` over an `Engine`."""

    def __init__(
        self, engine: Engine, *, num_rings: int, num_request_queues: int, tag: str, fsnotify: bool
    ) -> None:
        """Describe the device.

        Args:
            engine: the core; borrowed.
            num_rings: rings that a front-end may use.
            num_request_queues: what the configuration space says.
            tag: mount tag, at most 36 bytes of UTF-8; may be empty.
            fsnotify: whether the notification queue is offered.
        """
        self._engine = engine
        self._num_rings = num_rings
        self._config = _CONFIG.pack(
            tag.encode(), num_request_queues, NOTIFY_BUF_BYTES if fsnotify else 0
        )
        self._features = (
            VirtioFsFeature.VERSION_1 | VirtioFsFeature.INDIRECT_DESC | VirtioFsFeature.EVENT_IDX
        )
        if fsnotify:
            self._features |= VirtioFsFeature.NOTIFICATION
        self._channel: int | None = None

    @property
    def num_queues(self) -> int:
        """Rings that a front-end may use."""
        return self._num_rings

    @property
    def device_features(self) -> int:
        """Feature bits to offer."""
        return int(self._features)

    def set_features(self, features: int) -> None:
        """Take what was acknowledged; bit 0 decides what ring 1 is."""
        with _refusals():
            self._engine.set_features(features & int(self._features))

    def read_config(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return exactly the bytes asked for."""
        data = self._config[offset_bytes : offset_bytes + size_bytes]
        if len(data) != size_bytes:
            raise BackendError(
                f"configuration read of {size_bytes} bytes at {offset_bytes} goes past the end"
            )
        return data

    def write_config(self, offset_bytes: int, data: bytes) -> None:
        """Refuse: nothing here is writable."""
        raise BackendError("the configuration space is read-only")

    def replace_memory(self, regions: Sequence[MemoryRegion]) -> None:
        """Hand the whole table to the core."""
        with _refusals():
            self._engine.set_memory(regions)

    def start_vring(self, index: int, setup: VringSetup) -> None:
        """Start a ring."""
        with _refusals():
            self._engine.start_vring(index, setup)

    def stop_vring(self, index: int) -> int:
        """Stop a ring."""
        with _refusals():
            return self._engine.stop_vring(index)

    def set_vring_enabled(self, index: int, enabled: bool) -> None:
        """Let a ring be served, or rest."""
        with _refusals():
            self._engine.enable_vring(index, enabled)

    def set_vring_call(self, index: int, fd: int | None) -> None:
        """Replace a call descriptor."""
        with _refusals():
            self._engine.set_call(index, fd)

    def set_vring_err(self, index: int, fd: int | None) -> None:
        """Replace an error descriptor."""
        with _refusals():
            self._engine.set_err(index, fd)

    def set_backend_channel(self, fd: int | None) -> None:
        """Keep the channel; nothing is sent on it yet."""
        self.close()
        self._channel = fd

    def set_log(self, log: DirtyLog | None) -> None:
        """Replace the dirty log, or drop it."""
        with _refusals():
            if log is None:
                self._engine.set_log(None)
            else:
                self._engine.set_log(log.fd, log.size_bytes, log.mmap_offset_bytes)

    def set_log_fd(self, fd: int | None) -> None:
        """Replace the descriptor to write to after pages have been marked."""
        with _refusals():
            self._engine.set_log_fd(fd)

    def set_logging(self, enabled: bool) -> None:
        """Mark what is written to buffers, or no more."""
        with _refusals():
            self._engine.set_logging(enabled)

    def set_vring_log(self, index: int, log_address: GuestAddress | None) -> None:
        """Mark what is written to a used ring, or no more."""
        with _refusals():
            self._engine.set_vring_log(index, log_address)

    def start_transfer(self, direction: TransferDirection, fd: int) -> None:
        """Begin to save or load the guest's session."""
        with _refusals():
            if direction is TransferDirection.SAVE:
                self._engine.save(fd)
            else:
                self._engine.load(fd)

    def finish_transfer(self) -> None:
        """Have the session saved or in force."""
        with _refusals():
            self._engine.finish_transfer()

    def cancel_transfer(self) -> None:
        """Give it up."""
        self._engine.cancel_transfer()

    def set_status(self, status: int) -> None:
        """Nothing hangs on the status: rings say when they start and stop."""

    def reset_device(self) -> None:
        """Nothing to forget: the next INIT voids what the last session held."""

    def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            os.close(self._channel)
            self._channel = None
