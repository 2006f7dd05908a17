# SPDX-License-Identifier: BSD-3-Clause
"""The front-end's side of the vhost-user conversation, as far as it takes to get a device going.

Spec: QEMU docs/interop/vhost-user.rst.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from virtiofsd_py.vhost_user.errors import BadMessage
from virtiofsd_py.vhost_user.messages import (
    NO_FLAGS,
    U64,
    Header,
    HeaderFlag,
    MemoryTable,
    ProtocolFeature,
    RegionDescription,
    Request,
    VirtioFeature,
    VringAddress,
    VringAddressFlag,
    VringFile,
    VringState,
    encode_message,
)

DEADLINE_S: Final = 30.0
_NEEDED: Final = (
    VirtioFeature.VERSION_1 | VirtioFeature.RING_INDIRECT_DESC | VirtioFeature.RING_EVENT_IDX
)


class Refused(Exception):
    """The daemon does not do what every virtio-fs daemon does, or went away."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A ring to hand over; addresses are our own."""

    entries: int
    desc: int
    avail: int
    used: int
    kick_fd: int
    call_fd: int


class FrontEnd:
    """One connection to a daemon. Owns its socket; every wait ends after `DEADLINE_S`."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        sock.settimeout(DEADLINE_S)
        self._sock = sock
        self._protocol_features = ProtocolFeature(0)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Vanish, as a front-end does that is killed."""
        self._sock.close()

    def negotiate(self) -> int:
        """Agree on features; returns how many rings there may be.

        Raises:
            Refused: it has no indirect descriptors, no EVENT_IDX, or went away.
        """
        offered = self._ask_u64(Request.GET_FEATURES)
        if offered & _NEEDED != _NEEDED:
            raise Refused(f"its features are {offered:#x}")
        features = int(_NEEDED)
        rings = 2
        if offered & VirtioFeature.PROTOCOL_FEATURES:
            features |= VirtioFeature.PROTOCOL_FEATURES
            known = ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK
            wanted = ProtocolFeature(self._ask_u64(Request.GET_PROTOCOL_FEATURES)) & known
            self._tell(Request.SET_PROTOCOL_FEATURES, U64(wanted).encode())
            self._protocol_features = wanted
            if wanted & ProtocolFeature.MQ:
                rings = self._ask_u64(Request.GET_QUEUE_NUM)
        self._tell(Request.SET_OWNER)
        self._tell(Request.SET_FEATURES, U64(features).encode())
        return rings

    def share_memory(self, fd: int, size_bytes: int, user_address: int) -> None:
        """Hand over guest memory, whose physical addresses start at 0."""
        region = RegionDescription(0, size_bytes, user_address, 0)
        self._tell(Request.SET_MEM_TABLE, MemoryTable((region,)).encode(), [fd])

    def start_ring(self, index: int, ring: Ring) -> None:
        """Hand over a ring and enable it; the call descriptor before the kick, as QEMU does."""
        no_flags = VringAddressFlag(0)
        address = VringAddress(index, no_flags, ring.desc, ring.used, ring.avail, 0)
        self._tell(Request.SET_VRING_NUM, VringState(index, ring.entries).encode())
        self._tell(Request.SET_VRING_BASE, VringState(index, 0).encode())
        self._tell(Request.SET_VRING_ADDR, address.encode())
        self._tell(Request.SET_VRING_CALL, VringFile(index, True).encode(), [ring.call_fd])
        self._tell(Request.SET_VRING_KICK, VringFile(index, True).encode(), [ring.kick_fd])
        self._tell(Request.SET_VRING_ENABLE, VringState(index, 1).encode())

    def _send(
        self, request: Request, payload: bytes, fds: Sequence[int], flags: HeaderFlag
    ) -> None:
        data = encode_message(request, payload, flags)
        try:
            sent = socket.send_fds(self._sock, [data], list(fds))
            self._sock.sendall(data[sent:])
        except OSError as error:
            raise Refused(f"it does not take {request.name}: {error}") from None

    def _receive(self, request: Request) -> bytes:
        try:
            header = Header.parse_untrusted(self._receive_exactly(Header.STRUCT.size))
            payload = self._receive_exactly(header.payload_bytes)
        except (OSError, BadMessage) as error:
            raise Refused(f"no reply to {request.name}: {error}") from None
        if header.request != request or not header.flags & HeaderFlag.REPLY:
            raise Refused(f"{header.request.name} for a reply to {request.name}")
        return payload

    def _receive_exactly(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            piece = self._sock.recv(size_bytes - len(data))
            if not piece:
                raise ConnectionResetError("it closed the connection")
            data += piece
        return data

    def _ask_u64(self, request: Request) -> int:
        self._send(request, b"", (), NO_FLAGS)
        try:
            return U64.parse_untrusted(self._receive(request)).value
        except BadMessage as error:
            raise Refused(f"{request.name}: {error}") from None

    def _tell(self, request: Request, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        if not self._protocol_features & ProtocolFeature.REPLY_ACK:
            self._send(request, payload, fds, NO_FLAGS)
            return
        self._send(request, payload, fds, HeaderFlag.NEED_REPLY)
        if any(self._receive(request)):
            raise Refused(f"it refuses {request.name}")
