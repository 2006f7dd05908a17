# SPDX-License-Identifier: BSD-3-Clause
"""The front-end's side of the vhost-user conversation.

Spec: QEMU docs/interop/vhost-user.rst.
"""

from __future__ import annotations

import enum
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.frontend.closing import Closing
from tests.frontend.memory import GuestMemory
from tests.frontend.vring import DEADLINE_S, DriverRing

HEADER = struct.Struct("=III")
VERSION = 1
REPLY = 1 << 2
NEED_REPLY = 1 << 3
NO_FD = 1 << 8

F_RING_INDIRECT = 1 << 28
F_RING_EVENT_IDX = 1 << 29
F_PROTOCOL_FEATURES = 1 << 30
F_VERSION_1 = 1 << 32
F_FS_NOTIFICATION = 1 << 0

F_LOG_ALL = 1 << 26

P_MQ = 1 << 0
P_LOG_SHMFD = 1 << 1
P_REPLY_ACK = 1 << 3
P_BACKEND_REQ = 1 << 5
P_CONFIG = 1 << 9
P_RESET_DEVICE = 1 << 13
P_CONFIGURE_MEM_SLOTS = 1 << 15
P_STATUS = 1 << 16
P_DEVICE_STATE = 1 << 19

_SAVE, _LOAD = struct.pack("=II", 0, 0), struct.pack("=II", 1, 0)


class Req(enum.IntEnum):
    """Requests that this front-end knows how to make."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    GET_CONFIG = 24
    SET_CONFIG = 25
    RESET_DEVICE = 34
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43


class RefusedByBackend(Exception):
    """The back-end acknowledged a message with something else than 0."""


class FrontEnd(Closing):
    """One connection to a back-end. Every wait has a deadline and ends in TimeoutError."""

    def __init__(self, sock: socket.socket, deadline_s: float = DEADLINE_S) -> None:
        """Own `sock`, a connected unix stream socket."""
        sock.settimeout(deadline_s)
        self.sock = sock
        self.features = 0
        self.protocol_features = 0

    @classmethod
    def connect(cls, path: str | Path, deadline_s: float = DEADLINE_S) -> Self:
        """Connect to a socket that is listened at already."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(deadline_s)
            sock.connect(os.fspath(path))
        except BaseException:
            sock.close()
            raise
        return cls(sock, deadline_s)

    def close(self) -> None:
        self.sock.close()

    # Messages, honest or not.

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send any bytes with any descriptors."""
        if fds:
            sent = socket.send_fds(self.sock, [data], list(fds))
            data = data[sent:]
        self.sock.sendall(data)

    def send(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = VERSION
    ) -> None:
        """Send one message of sound framing."""
        self.send_raw(HEADER.pack(request, flags, len(payload)) + payload, fds)

    def receive(self) -> tuple[int, bytes]:
        """Return request code and payload of one reply.

        Raises:
            EOFError: the back-end closed the connection.
        """
        request, flags, size = HEADER.unpack(self._receive_exactly(HEADER.size))
        assert flags == VERSION | REPLY, f"reply with flags {flags:#x}"
        return request, self._receive_exactly(size)

    def ask(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Send a message that has a reply of its own and return that."""
        self.send(request, payload, fds)
        code, reply = self.receive()
        assert code == request, f"reply to {code} instead of {request}"
        return reply

    def ask_u64(self, request: int) -> int:
        (value,) = struct.unpack("=Q", self.ask(request))
        return int(value)

    def tell(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send a message without a reply, and have it acknowledged if that is negotiated.

        Raises:
            RefusedByBackend: the acknowledgement says so.
        """
        if not self.protocol_features & P_REPLY_ACK:
            self.send(request, payload, fds)
            return
        self.send(request, payload, fds, VERSION | NEED_REPLY)
        code, reply = self.receive()
        assert code == request, f"acknowledgement of {code} instead of {request}"
        (result,) = struct.unpack("=Q", reply)
        if result:
            raise RefusedByBackend(f"request {request}: {result}")

    def tell_u64(self, request: int, value: int) -> None:
        self.tell(request, struct.pack("=Q", value))

    def wait_closed(self) -> None:
        """Return when the back-end has closed the connection; drop what it says before."""
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionResetError:
            pass

    # The usual course.

    def negotiate(
        self,
        features: int = F_RING_INDIRECT | F_RING_EVENT_IDX | F_VERSION_1 | F_FS_NOTIFICATION,
        protocol_features: int = ~0,
        state: bytes | None = None,
    ) -> None:
        """Take the session and acknowledge those of the named features that are offered.

        Args:
            features: virtio features; F_PROTOCOL_FEATURES is taken if offered and any protocol
                feature is wanted.
            protocol_features: likewise; ~0 for all that are offered, 0 to ask for none.
            state: device state to load, as QEMU does it: before it knows the driver's features.
        """
        offered = self.ask_u64(Req.GET_FEATURES)
        if offered & F_PROTOCOL_FEATURES and protocol_features:
            features |= F_PROTOCOL_FEATURES
            wanted = self.ask_u64(Req.GET_PROTOCOL_FEATURES) & protocol_features
            self.tell_u64(Req.SET_PROTOCOL_FEATURES, wanted)
            self.protocol_features = wanted
        self.tell(Req.SET_OWNER)
        if state is not None:
            self.load_state(state)
        self.features = offered & features
        self.tell_u64(Req.SET_FEATURES, self.features)

    def set_mem_table(self, *regions: GuestMemory) -> None:
        payload = struct.pack("=II", len(regions), 0) + b"".join(map(describe, regions))
        self.tell(Req.SET_MEM_TABLE, payload, [region.fd for region in regions])

    def add_mem_reg(self, region: GuestMemory) -> None:
        self.tell(Req.ADD_MEM_REG, bytes(8) + describe(region), [region.fd])

    def rem_mem_reg(self, region: GuestMemory) -> None:
        self.tell(Req.REM_MEM_REG, bytes(8) + describe(region))

    def set_vring_num(self, index: int, num: int) -> None:
        self.tell(Req.SET_VRING_NUM, struct.pack("=II", index, num))

    def set_vring_base(self, index: int, base: int) -> None:
        self.tell(Req.SET_VRING_BASE, struct.pack("=II", index, base))

    def set_vring_addr(
        self, index: int, desc: int, used: int, avail: int, flags: int = 0, log: int = 0
    ) -> None:
        """Set a ring's user addresses."""
        payload = struct.pack("=IIQQQQ", index, flags, desc, used, avail, log)
        self.tell(Req.SET_VRING_ADDR, payload)

    def set_vring_kick(self, index: int, fd: int | None) -> None:
        self._set_vring_fd(Req.SET_VRING_KICK, index, fd)

    def set_vring_call(self, index: int, fd: int | None) -> None:
        self._set_vring_fd(Req.SET_VRING_CALL, index, fd)

    def set_vring_err(self, index: int, fd: int | None) -> None:
        self._set_vring_fd(Req.SET_VRING_ERR, index, fd)

    def set_vring_enable(self, index: int, enabled: bool) -> None:
        self.tell(Req.SET_VRING_ENABLE, struct.pack("=II", index, enabled))

    def start_ring(self, index: int, ring: DriverRing, base: int = 0) -> None:
        """Hand over a ring and enable it.

        The call descriptor goes before the kick: without acknowledgements, the first buffers might
        else be used before the device knows whom to tell.
        """
        user = ring.memory.user_address
        self.set_vring_num(index, ring.num)
        self.set_vring_base(index, base)
        self.set_vring_addr(index, user(ring.desc), user(ring.used), user(ring.avail))
        self.set_vring_call(index, ring.call_fd)
        self.set_vring_kick(index, ring.kick_fd)
        if self.features & F_PROTOCOL_FEATURES:
            self.set_vring_enable(index, True)

    def stop_ring(self, index: int) -> int:
        """Stop a ring and return the next available index."""
        reply = self.ask(Req.GET_VRING_BASE, struct.pack("=II", index, 0))
        echoed, base = struct.unpack("=II", reply)
        assert echoed == index
        return int(base)

    def begin_transfer(self, direction: bytes, fd: int) -> None:
        """Hand over one end of a pipe.

        Raises:
            RefusedByBackend: it says no.
        """
        (reply,) = struct.unpack("=Q", self.ask(Req.SET_DEVICE_STATE_FD, direction, [fd]))
        if reply & 0xFF:
            raise RefusedByBackend(f"state transfer: {reply:#x}")
        assert reply == NO_FD

    def check_state(self) -> None:
        """End a transfer; raises RefusedByBackend if it failed."""
        result = self.ask_u64(Req.CHECK_DEVICE_STATE)
        if result:
            raise RefusedByBackend(f"check of the state: {result:#x}")

    def begin_save(self) -> int:
        """Return the end of a pipe to read the state from."""
        ours, theirs = os.pipe()
        return self._begin(_SAVE, ours, theirs)

    def begin_load(self) -> int:
        """Return the end of a pipe to write the state to."""
        theirs, ours = os.pipe()
        return self._begin(_LOAD, ours, theirs)

    def _begin(self, direction: bytes, ours: int, theirs: int) -> int:
        try:
            self.begin_transfer(direction, theirs)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return ours

    def save_state(self) -> bytes:
        """Return the device's state; the rings are stopped.

        Raises:
            RefusedByBackend: it has none to give.
        """
        with os.fdopen(self.begin_save(), "rb") as pipe:
            state = pipe.read()
        self.check_state()
        return state

    def load_state(self, state: bytes) -> None:
        """Give the device its state; raises RefusedByBackend if it does not take it."""
        with os.fdopen(self.begin_load(), "wb") as pipe:
            pipe.write(state)
        self.check_state()

    def set_log_base(self, fd: int, size_bytes: int, offset_bytes: int = 0) -> None:
        """Share a dirty log; raises RefusedByBackend if it is not taken."""
        payload = struct.pack("=QQ", size_bytes, offset_bytes)
        (result,) = struct.unpack("=Q", self.ask(Req.SET_LOG_BASE, payload, [fd]))
        if result:
            raise RefusedByBackend(f"dirty log: {result:#x}")

    def set_log_fd(self, fd: int) -> None:
        self.tell(Req.SET_LOG_FD, b"", [fd])

    def get_config(self, offset_bytes: int, size_bytes: int) -> bytes | None:
        """Return a piece of the configuration space, or None if the back-end refuses."""
        head = struct.pack("=III", offset_bytes, size_bytes, 0)
        reply = self.ask(Req.GET_CONFIG, head + bytes(size_bytes))
        if not reply:
            return None
        assert len(reply) == 12 + size_bytes
        assert reply[:12] == head
        return reply[12:]

    def set_backend_channel(self, fd: int) -> None:
        self.tell(Req.SET_BACKEND_REQ_FD, b"", [fd])

    def _set_vring_fd(self, request: Req, index: int, fd: int | None) -> None:
        if fd is None:
            self.tell_u64(request, index | NO_FD)
        else:
            self.tell(request, struct.pack("=Q", index), [fd])

    def _receive_exactly(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            try:
                piece = self.sock.recv(size_bytes - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise EOFError("the back-end closed the connection")
            data += piece
        return data


def describe(region: GuestMemory) -> bytes:
    """Return the wire form of a memory region."""
    return struct.pack(
        "=QQQQ", region.guest_base, region.size_bytes, region.user_base, region.mmap_offset_bytes
    )
