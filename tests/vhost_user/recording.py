# SPDX-License-Identifier: BSD-3-Clause
"""A backend that does nothing but insist on its contract and remember."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from virtiofsd_py.vhost_user import (
    BackendError,
    DirtyLog,
    GuestAddress,
    MemoryRegion,
    TransferDirection,
    VringSetup,
)

STEP = 7
"""How far each run of a ring gets before it is stopped."""


class RecordingBackend:
    """Owns and closes what it is given.

    Attributes:
        calls: name of each call, in order.
        fail: names of methods that refuse from now on.
        running: the rings that run, as they were set up.
        enabled: whether they are.
        memory: the current table.
        log: the dirty log.
        logging: whether buffers are logged.
        vring_logs: where the used rings of running rings are, for the log.
        transfer: the state transfer that is not finished.
    """

    def __init__(
        self, num_queues: int = 3, device_features: int = 1 << 32 | 1, config: bytes = bytes(44)
    ) -> None:
        self._num_queues = num_queues
        self._device_features = device_features
        self.config = config
        self.calls: list[str] = []
        self.fail: set[str] = set()
        self.running: dict[int, VringSetup] = {}
        self.enabled: dict[int, bool] = {}
        self.fds: dict[int, dict[str, int | None]] = {}
        self.memory: list[MemoryRegion] = []
        self.features: int | None = None
        self.status: int | None = None
        self.channel: int | None = None
        self.log: DirtyLog | None = None
        self.log_fd: int | None = None
        self.logging = False
        self.vring_logs: dict[int, GuestAddress | None] = {}
        self.transfer: tuple[TransferDirection, int] | None = None

    @property
    def num_queues(self) -> int:
        return self._num_queues

    @property
    def device_features(self) -> int:
        return self._device_features

    def set_features(self, features: int) -> None:
        self._call("set_features")
        assert not self.running
        assert not features & ~self._device_features
        self.features = features

    def read_config(self, offset_bytes: int, size_bytes: int) -> bytes:
        self._call("read_config")
        return self.config[offset_bytes : offset_bytes + size_bytes]

    def write_config(self, offset_bytes: int, data: bytes) -> None:
        self._call("write_config")
        end = offset_bytes + len(data)
        self.config = self.config[:offset_bytes] + data + self.config[end:]

    def replace_memory(self, regions: Sequence[MemoryRegion]) -> None:
        self._call("replace_memory", *(region.fd for region in regions))
        _close(region.fd for region in self.memory)
        self.memory = list(regions)

    def start_vring(self, index: int, setup: VringSetup) -> None:
        fds = (setup.kick_fd, setup.call_fd, setup.err_fd)
        self._call("start_vring", *fds)
        assert index not in self.running
        assert self.features is not None
        assert setup.num.bit_count() == 1
        assert not setup.desc_user_address % 16
        assert not setup.avail_user_address % 2
        assert not setup.used_user_address % 4
        assert not self.transfer
        self.running[index] = setup
        self.vring_logs[index] = setup.log_address
        self.enabled[index] = setup.enabled
        self.fds[index] = dict(zip(("kick", "call", "err"), fds, strict=True))

    def stop_vring(self, index: int) -> int:
        self._call("stop_vring")
        _close(self.fds.pop(index).values())
        del self.enabled[index], self.vring_logs[index]
        return (self.running.pop(index).base + STEP) & 0xFFFF

    def set_vring_enabled(self, index: int, enabled: bool) -> None:
        self._call("set_vring_enabled")
        assert self.enabled[index] is not enabled
        self.enabled[index] = enabled

    def set_vring_call(self, index: int, fd: int | None) -> None:
        self._call("set_vring_call", fd)
        self._replace(index, "call", fd)

    def set_vring_err(self, index: int, fd: int | None) -> None:
        self._call("set_vring_err", fd)
        self._replace(index, "err", fd)

    def set_backend_channel(self, fd: int | None) -> None:
        self._call("set_backend_channel", fd)
        _close([self.channel])
        self.channel = fd

    def set_log(self, log: DirtyLog | None) -> None:
        self._call("set_log", log.fd if log else None)
        _close([self.log.fd if self.log else None])
        self.log = log

    def set_log_fd(self, fd: int | None) -> None:
        self._call("set_log_fd", fd)
        _close([self.log_fd])
        self.log_fd = fd

    def set_logging(self, enabled: bool) -> None:
        self._call("set_logging")
        assert enabled is not self.logging
        assert self.log or not (enabled and self.running)
        self.logging = enabled

    def set_vring_log(self, index: int, log_address: GuestAddress | None) -> None:
        self._call("set_vring_log")
        assert self.vring_logs[index] != log_address
        self.vring_logs[index] = log_address

    def start_transfer(self, direction: TransferDirection, fd: int) -> None:
        assert not self.running
        assert not self.transfer
        self._call("start_transfer", fd)
        self.transfer = (direction, fd)

    def finish_transfer(self) -> None:
        assert self.transfer
        assert not self.running
        self._end_transfer()
        self._call("finish_transfer")

    def cancel_transfer(self) -> None:
        self._call("cancel_transfer")
        assert self.transfer
        self._end_transfer()

    def _end_transfer(self) -> None:
        _close([self.transfer[1] if self.transfer else None])
        self.transfer = None

    def set_status(self, status: int) -> None:
        self._call("set_status")
        assert status or not self.running
        self.status = status

    def reset_device(self) -> None:
        self._call("reset_device")
        assert not self.running

    def _call(self, name: str, *fds: int | None) -> None:
        self.calls.append(name)
        assert all(fd is None or not os.get_inheritable(fd) for fd in fds)
        if name in self.fail:
            _close(fds)
            raise BackendError(f"{name} was told to fail")

    def _replace(self, index: int, kind: str, fd: int | None) -> None:
        _close([self.fds[index][kind]])
        self.fds[index][kind] = fd


def _close(fds: Iterable[int | None]) -> None:
    for fd in fds:
        if fd is not None:
            os.close(fd)


def count_fds() -> int:
    """Return how many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def new_fd() -> int:
    """Return any close-on-exec descriptor, as one comes out of a message."""
    return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
