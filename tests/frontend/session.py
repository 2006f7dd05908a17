# SPDX-License-Identifier: BSD-3-Clause
"""A whole virtio-fs driver: connection, memory, rings and clients, in the order QEMU does it."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.frontend import vhost
from tests.frontend.closing import Closing
from tests.frontend.fuse import FuseClient
from tests.frontend.memory import GuestMemory
from tests.frontend.notify import NotificationQueue
from tests.frontend.vhost import FrontEnd, Req
from tests.frontend.vring import DriverRing

DEFAULT_FEATURES = (
    vhost.F_VERSION_1 | vhost.F_RING_INDIRECT | vhost.F_RING_EVENT_IDX | vhost.F_FS_NOTIFICATION
)
_NOTIFY_BUF_BYTES = 512
_CONFIG_NUM_QUEUES = 36
_CONFIG_NOTIFY_BUF_SIZE = 40


class Session(Closing):
    """A device that is up. `close` vanishes as a killed guest does; `stop` goes politely.

    Attributes:
        front_end: the control connection.
        memory: guest memory.
        rings: all rings by index; those that the driver does not use are not started.
        fuse: a client on the first request ring.
        clients: one client for each request ring.
        notifications: the notification queue, posted, or None if it was not negotiated.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        *,
        features: int = DEFAULT_FEATURES,
        protocol_features: int = ~0,
        memory_bytes: int = 32 << 20,
        queue_size: int = 256,
        request_queues: int | None = None,
        notify_buffers: int = 16,
        chunk_bytes: int | None = None,
        state: bytes | None = None,
    ) -> None:
        """Bring the device up over a fresh connection, which the session owns from now on.

        Args:
            front_end: connected, nothing said yet.
            features: virtio features to take if offered.
            protocol_features: likewise, ~0 for all.
            memory_bytes: guest memory.
            queue_size: entries of each ring.
            request_queues: how many to use; None: all there are.
            notify_buffers: how many notification buffers to post, if the ring has room.
            chunk_bytes: see `FuseClient`.
            state: another device's, to go on with; its rings were empty.
        """
        with ExitStack() as stack:
            stack.callback(front_end.close)
            self.front_end = front_end
            front_end.negotiate(features, protocol_features, state)
            self.memory = stack.enter_context(GuestMemory(memory_bytes))
            self.notify_buf_bytes = _NOTIFY_BUF_BYTES
            self._has_notification = bool(front_end.features & vhost.F_FS_NOTIFICATION)
            queues = self._count_request_queues()
            if request_queues is not None:
                queues = min(queues, request_queues)
            self.rings = []
            for _ in range(self._first_request + queues):
                ring = DriverRing(
                    self.memory,
                    queue_size,
                    event_idx=bool(front_end.features & vhost.F_RING_EVENT_IDX),
                    indirect=bool(front_end.features & vhost.F_RING_INDIRECT),
                )
                stack.callback(ring.close)
                self.rings.append(ring)
            self.clients = [
                FuseClient(ring, hiprio=self.rings[0], chunk_bytes=chunk_bytes)
                for ring in self.rings[self._first_request :]
            ]
            self.fuse = self.clients[0]
            self.notifications = (
                NotificationQueue(
                    self.rings[1], self.notify_buf_bytes, min(notify_buffers, queue_size)
                )
                if self._has_notification
                else None
            )
            front_end.set_mem_table(self.memory)
            self._start()
            self._cleanup = stack.pop_all()

    @classmethod
    def connect(
        cls,
        path: str | Path,
        *,
        features: int = DEFAULT_FEATURES,
        protocol_features: int = ~0,
        memory_bytes: int = 32 << 20,
        queue_size: int = 256,
        request_queues: int | None = None,
        notify_buffers: int = 16,
        chunk_bytes: int | None = None,
        state: bytes | None = None,
    ) -> Self:
        """Bring up the device that listens at `path`; for the rest see the class."""
        return cls(
            FrontEnd.connect(path),
            features=features,
            protocol_features=protocol_features,
            memory_bytes=memory_bytes,
            queue_size=queue_size,
            request_queues=request_queues,
            notify_buffers=notify_buffers,
            chunk_bytes=chunk_bytes,
            state=state,
        )

    def stop(self) -> list[int]:
        """Disable and stop all rings, as QEMU does at a reset; return their available indices."""
        if self.front_end.features & vhost.F_PROTOCOL_FEATURES:
            for index in range(len(self.rings)):
                self.front_end.set_vring_enable(index, False)
        return [self.front_end.stop_ring(index) for index in range(len(self.rings))]

    def reset(self) -> None:
        """Reset the guest: stop, and start anew from empty rings, without FUSE's DESTROY."""
        self.stop()
        for ring in self.rings:
            ring.reset()
        if self.notifications is not None:
            self.notifications.forget_posted()
        self.front_end.tell_u64(Req.SET_FEATURES, self.front_end.features)
        self.front_end.set_mem_table(self.memory)
        self._start()

    def close(self) -> None:
        """Vanish, and free everything."""
        self._cleanup.close()

    @property
    def _first_request(self) -> int:
        return 2 if self._has_notification else 1

    def _count_request_queues(self) -> int:
        if self.front_end.protocol_features & vhost.P_CONFIG:
            config = self.front_end.get_config(0, _CONFIG_NUM_QUEUES + 4)
            assert config is not None
            (queues,) = struct.unpack_from("<I", config, _CONFIG_NUM_QUEUES)
            if self._has_notification:
                size = self.front_end.get_config(_CONFIG_NOTIFY_BUF_SIZE, 4)
                assert size is not None
                (self.notify_buf_bytes,) = struct.unpack("<I", size)
            return int(queues)
        if self.front_end.protocol_features & vhost.P_MQ:
            return self.front_end.ask_u64(Req.GET_QUEUE_NUM) - self._first_request
        return 1

    def _start(self) -> None:
        for index, ring in enumerate(self.rings):
            self.front_end.start_ring(index, ring)
        if self.notifications is not None:
            self.notifications.post()
