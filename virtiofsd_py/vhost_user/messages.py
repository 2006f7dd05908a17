# SPDX-License-Identifier: BSD-3-Clause
"""The vhost-user wire: request codes, feature bits and one frozen type for each payload.

Every `parse_untrusted` reads peer bytes and raises `BadMessage` and nothing else; it checks what
can be seen in the bytes alone. What depends on the state of the connection is the server's.

All integers are in the machine's byte order without padding.

Spec: QEMU docs/interop/vhost-user.rst, "Message Specification".
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, Self

from virtiofsd_py.vhost_user.errors import BadMessage

PROTOCOL_VERSION: Final = 1
MAX_MEMORY_SLOTS: Final = 509
"""Most memory regions that any back-end offers (also the limit of the kernel's vhost)."""
MAX_CONFIG_BYTES: Final = 256
"""Size of the virtio configuration space that a front-end may address."""
MAX_FDS: Final = 253
"""Most descriptors that one message can carry: the kernel's SCM_MAX_FD."""
MAX_QUEUES: Final = 256
"""Rings are numbered by 8 bits where a descriptor is passed."""

_U64_LIMIT: Final = 1 << 64
_VERSION_MASK: Final = 3


class Request(enum.IntEnum):
    """Messages from the front-end. Those that `Server` has no rule for are refused.

    Spec: vhost-user.rst, "Front-end message types".
    """

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
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    CREATE_CRYPTO_SESSION = 26
    CLOSE_CRYPTO_SESSION = 27
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GPU_SET_SOCKET = 33
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40
    GET_SHARED_OBJECT = 41
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43
    GET_SHMEM_CONFIG = 44


class BackendRequest(enum.IntEnum):
    """Messages from the back-end, on the channel of SET_BACKEND_REQ_FD.

    Spec: vhost-user.rst, "Back-end message types".
    """

    IOTLB_MSG = 1
    CONFIG_CHANGE_MSG = 2
    VRING_HOST_NOTIFIER_MSG = 3
    VRING_CALL = 4
    VRING_ERR = 5
    SHARED_OBJECT_ADD = 6
    SHARED_OBJECT_REMOVE = 7
    SHARED_OBJECT_LOOKUP = 8
    SHMEM_MAP = 9
    SHMEM_UNMAP = 10


class HeaderFlag(enum.IntFlag):
    """Header flags above the two version bits."""

    REPLY = 1 << 2
    NEED_REPLY = 1 << 3


# Plain integers, because the complement of an IntFlag lacks the bits that it does not know.
_HEADER_BITS: Final = int(_VERSION_MASK | HeaderFlag.REPLY | HeaderFlag.NEED_REPLY)


class ProtocolFeature(enum.IntFlag):
    """Protocol feature bits.

    Spec: vhost-user.rst, "Protocol features".
    """

    MQ = 1 << 0
    LOG_SHMFD = 1 << 1
    RARP = 1 << 2
    REPLY_ACK = 1 << 3
    MTU = 1 << 4
    BACKEND_REQ = 1 << 5
    CROSS_ENDIAN = 1 << 6
    CRYPTO_SESSION = 1 << 7
    PAGEFAULT = 1 << 8
    CONFIG = 1 << 9
    BACKEND_SEND_FD = 1 << 10
    HOST_NOTIFIER = 1 << 11
    INFLIGHT_SHMFD = 1 << 12
    RESET_DEVICE = 1 << 13
    INBAND_NOTIFICATIONS = 1 << 14
    CONFIGURE_MEM_SLOTS = 1 << 15
    STATUS = 1 << 16
    XEN_MMAP = 1 << 17
    SHARED_OBJECT = 1 << 18
    DEVICE_STATE = 1 << 19


class VirtioFeature(enum.IntFlag):
    """Feature bits of GET_FEATURES that are no device's own.

    Spec: VIRTIO 1.3, "Reserved Feature Bits"; vhost-user.rst, "Communication".
    """

    LOG_ALL = 1 << 26
    RING_INDIRECT_DESC = 1 << 28
    RING_EVENT_IDX = 1 << 29
    PROTOCOL_FEATURES = 1 << 30
    VERSION_1 = 1 << 32
    ACCESS_PLATFORM = 1 << 33
    RING_PACKED = 1 << 34
    IN_ORDER = 1 << 35
    ORDER_PLATFORM = 1 << 36
    NOTIFICATION_DATA = 1 << 38
    RING_RESET = 1 << 40


class VringAddressFlag(enum.IntFlag):
    """Flags of SET_VRING_ADDR."""

    LOG = 1 << 0


class ConfigFlag(enum.IntFlag):
    """Flags of GET_CONFIG and SET_CONFIG; no flag means an ordinary driver's access."""

    LIVE_MIGRATION = 1 << 0


class TransferDirection(enum.IntEnum):
    """Which way a device's state goes.

    Spec: vhost-user.rst, "Device state transfer parameters".
    """

    SAVE = 0
    LOAD = 1


class TransferPhase(enum.IntEnum):
    """In which phase of a migration it does."""

    STOPPED = 0


class Payload(Protocol):
    """What every payload type does."""

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode peer bytes; raises `BadMessage` only."""

    def encode(self) -> bytes:
        """Return the wire form."""


def _unpack(layout: struct.Struct, raw: bytes, what: str) -> tuple[int, ...]:
    if len(raw) != layout.size:
        raise BadMessage(f"{what}: {len(raw)} bytes instead of {layout.size}")
    return layout.unpack(raw)


@dataclass(frozen=True, slots=True)
class Header:
    """12-byte header of every message, in either direction.

    Spec: vhost-user.rst, "Header".
    """

    request: Request
    flags: HeaderFlag
    payload_bytes: int
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=III")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one header.

        Args:
            raw: exactly ``STRUCT.size`` bytes.

        Raises:
            BadMessage: wrong length, version, flags, request or payload size. Nothing else.
        """
        code, bits, payload_bytes = _unpack(cls.STRUCT, raw, "header")
        version = bits & _VERSION_MASK
        if version != PROTOCOL_VERSION:
            raise BadMessage(f"header: version {version} instead of {PROTOCOL_VERSION}")
        if bits & ~_HEADER_BITS:
            raise BadMessage(f"header: unknown flags {bits:#x}")
        try:
            request = Request(code)
        except ValueError:
            raise BadMessage(f"header: unknown request {code}") from None
        if payload_bytes > MAX_PAYLOAD_BYTES:
            raise BadMessage(f"header: payload of {payload_bytes} bytes")
        return cls(request, HeaderFlag(bits & ~_VERSION_MASK), payload_bytes)

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(self.request, self.flags | PROTOCOL_VERSION, self.payload_bytes)


@dataclass(frozen=True, slots=True)
class NoPayload:
    """The payload of a message that has none."""

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Check that there is none.

        Raises:
            BadMessage: there is one. Nothing else.
        """
        if raw:
            raise BadMessage(f"{len(raw)} bytes of payload where none belong")
        return cls()

    def encode(self) -> bytes:
        """Return the wire form."""
        return b""


@dataclass(frozen=True, slots=True)
class U64:
    """A single 64-bit integer."""

    value: int
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=Q")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one integer.

        Raises:
            BadMessage: wrong length. Nothing else.
        """
        return cls(*_unpack(cls.STRUCT, raw, "u64"))

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(self.value)


@dataclass(frozen=True, slots=True)
class VringState:
    """A ring and a number: its size, its base, or whether it is enabled.

    Spec: vhost-user.rst, "A vring state description".
    """

    index: int
    num: int
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=II")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one state.

        Raises:
            BadMessage: wrong length. Nothing else.
        """
        return cls(*_unpack(cls.STRUCT, raw, "vring state"))

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(self.index, self.num)


@dataclass(frozen=True, slots=True)
class VringAddress:
    """Where the three parts of a ring are, in the front-end's own address space.

    Spec: vhost-user.rst, "A vring address description"; alignment: VIRTIO 1.3, "Split Virtqueues".
    """

    index: int
    flags: VringAddressFlag
    desc_user_address: int
    used_user_address: int
    avail_user_address: int
    log_guest_address: int
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=IIQQQQ")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one address message.

        Raises:
            BadMessage: wrong length, unknown flags or a misaligned part. Nothing else.
        """
        index, flags, desc, used, avail, log = _unpack(cls.STRUCT, raw, "vring address")
        if flags & ~VringAddressFlag.LOG.value:
            raise BadMessage(f"vring address: unknown flags {flags:#x}")
        if desc % 16 or avail % 2 or used % 4:
            raise BadMessage("vring address: a part of the ring is misaligned")
        return cls(index, VringAddressFlag(flags), desc, used, avail, log)

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(
            self.index,
            self.flags,
            self.desc_user_address,
            self.used_user_address,
            self.avail_user_address,
            self.log_guest_address,
        )


@dataclass(frozen=True, slots=True)
class VringFile:
    """The ring that a descriptor is for, and whether one comes along.

    Spec: vhost-user.rst, "VHOST_USER_SET_VRING_KICK".
    """

    index: int
    has_fd: bool
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=Q")
    INDEX_MASK: ClassVar[int] = 0xFF
    NO_FD: ClassVar[int] = 1 << 8

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one ring file message.

        Raises:
            BadMessage: wrong length or reserved bits. Nothing else.
        """
        (value,) = _unpack(cls.STRUCT, raw, "vring file")
        if value & ~(cls.INDEX_MASK | cls.NO_FD):
            raise BadMessage(f"vring file: reserved bits in {value:#x}")
        return cls(value & cls.INDEX_MASK, not value & cls.NO_FD)

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(self.index | (0 if self.has_fd else self.NO_FD))


@dataclass(frozen=True, slots=True)
class RegionDescription:
    """One region of guest memory, without its descriptor. Every end fits 64 bits.

    Spec: vhost-user.rst, "Memory regions description".
    """

    guest_address: int
    size_bytes: int
    user_address: int
    mmap_offset_bytes: int
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=QQQQ")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one region.

        Raises:
            BadMessage: wrong length, an empty region, or one that wraps around. Nothing else.
        """
        guest, size, user, offset = _unpack(cls.STRUCT, raw, "memory region")
        if not size:
            raise BadMessage("memory region: empty")
        if guest > _U64_LIMIT - size or user > _U64_LIMIT - size:
            raise BadMessage("memory region: addresses wrap around")
        # A file offset is signed.
        if offset >= _U64_LIMIT >> 1 or size > (_U64_LIMIT >> 1) - offset:
            raise BadMessage("memory region: beyond the end of any file")
        return cls(guest, size, user, offset)

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(
            self.guest_address, self.size_bytes, self.user_address, self.mmap_offset_bytes
        )


@dataclass(frozen=True, slots=True)
class MemoryTable:
    """The whole memory table of SET_MEM_TABLE.

    Spec: vhost-user.rst, "Memory regions description".
    """

    regions: tuple[RegionDescription, ...]
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=II")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode a table.

        Entries behind the counted ones are ignored: User-mode Linux always sends room for two.

        Raises:
            BadMessage: wrong length, too many regions, or a bad region. Nothing else.
        """
        head, entry = cls.STRUCT.size, RegionDescription.STRUCT.size
        if len(raw) < head or (len(raw) - head) % entry:
            raise BadMessage(f"memory table: {len(raw)} bytes")
        count, _padding = cls.STRUCT.unpack_from(raw)
        if count > min(MAX_MEMORY_SLOTS, (len(raw) - head) // entry):
            raise BadMessage(f"memory table: {count} regions in {len(raw)} bytes")
        starts = range(head, head + count * entry, entry)
        return cls(tuple(RegionDescription.parse_untrusted(raw[at : at + entry]) for at in starts))

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(len(self.regions), 0) + b"".join(r.encode() for r in self.regions)


@dataclass(frozen=True, slots=True)
class SingleRegion:
    """The region of ADD_MEM_REG and REM_MEM_REG.

    Spec: vhost-user.rst, "Single memory region description".
    """

    region: RegionDescription
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=Q")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one region behind its padding.

        Raises:
            BadMessage: wrong length or a bad region. Nothing else.
        """
        return cls(RegionDescription.parse_untrusted(raw[cls.STRUCT.size :]))

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(0) + self.region.encode()


@dataclass(frozen=True, slots=True)
class ConfigSpace:
    """A piece of the device's configuration space; its bytes follow in both directions.

    Spec: vhost-user.rst, "Virtio device config space".
    """

    offset_bytes: int
    flags: ConfigFlag
    data: bytes
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=III")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one piece.

        Raises:
            BadMessage: wrong length, unknown flags, or beyond the space. Nothing else.
        """
        head = cls.STRUCT.size
        if len(raw) < head:
            raise BadMessage(f"config: {len(raw)} bytes")
        offset, size, flags = cls.STRUCT.unpack_from(raw)
        if size != len(raw) - head:
            raise BadMessage(f"config: {size} bytes announced, {len(raw) - head} sent")
        if not size or offset > MAX_CONFIG_BYTES or size > MAX_CONFIG_BYTES - offset:
            raise BadMessage(f"config: {size} bytes at {offset}")
        if flags & ~ConfigFlag.LIVE_MIGRATION.value:
            raise BadMessage(f"config: unknown flags {flags:#x}")
        return cls(offset, ConfigFlag(flags), raw[head:])

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(self.offset_bytes, len(self.data), self.flags) + self.data


@dataclass(frozen=True, slots=True)
class LogArea:
    """The dirty log of SET_LOG_BASE, without its descriptor: a bit for each 4 KiB of the guest.

    Spec: vhost-user.rst, "Log description", "Migration".
    """

    size_bytes: int
    mmap_offset_bytes: int
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=QQ")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode one log description.

        Raises:
            BadMessage: wrong length, an empty log, or one beyond the end of any file. Nothing else.
        """
        size, offset = _unpack(cls.STRUCT, raw, "log")
        if not size:
            raise BadMessage("log: empty")
        if offset >= _U64_LIMIT >> 1 or size > (_U64_LIMIT >> 1) - offset:
            raise BadMessage("log: beyond the end of any file")
        return cls(size, offset)

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(self.size_bytes, self.mmap_offset_bytes)


@dataclass(frozen=True, slots=True)
class StateTransfer:
    """The parameters of SET_DEVICE_STATE_FD.

    Spec: vhost-user.rst, "Device state transfer parameters".
    """

    direction: TransferDirection
    phase: TransferPhase
    STRUCT: ClassVar[struct.Struct] = struct.Struct("=II")

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Decode the parameters.

        Raises:
            BadMessage: wrong length, an unknown direction or phase. Nothing else.
        """
        direction, phase = _unpack(cls.STRUCT, raw, "state transfer")
        try:
            return cls(TransferDirection(direction), TransferPhase(phase))
        except ValueError as error:
            raise BadMessage(f"state transfer: {error}") from None

    def encode(self) -> bytes:
        """Return the wire form."""
        return self.STRUCT.pack(self.direction, self.phase)


MAX_PAYLOAD_BYTES: Final = (
    MemoryTable.STRUCT.size + MAX_MEMORY_SLOTS * RegionDescription.STRUCT.size
)
"""Size of the longest payload that is worth reading."""


NO_FLAGS: Final = HeaderFlag(0)


def encode_message(request: Request, payload: bytes = b"", flags: HeaderFlag = NO_FLAGS) -> bytes:
    """Return header and payload of one message."""
    return Header(request, flags, len(payload)).encode() + payload


def encode_reply(request: Request, payload: bytes = b"") -> bytes:
    """Return one reply: the request's own code and exactly the reply flag."""
    return encode_message(request, payload, HeaderFlag.REPLY)
