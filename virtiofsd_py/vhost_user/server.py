# SPDX-License-Identifier: BSD-3-Clause
"""The back-end's side of the conversation: a state machine that does no I/O.

`Server.receive` takes one message and returns the reply to send, if any. What is refused changes
nothing (exceptions are noted below) and leaves every other ring running.

Where the specification leaves a choice:

- A ring starts at SET_VRING_KICK and not at the first kick: nothing tells the two apart, because a
  backend finds the ring empty. Number, address, memory and features have to be known by then.
- Kick-less polling is refused: an idle device must not spin.
- A ring that was disabled but never stopped is stopped by being configured anew. User-mode Linux
  does so when its driver is bound again. A ring that runs enabled must be stopped first.
- A second SET_VRING_KICK to a running ring moves it to the new descriptor where it stands.
- Call and error descriptors outlast a stop; so do number and addresses.
- A refused SET_FEATURES leaves no features acknowledged, so that no ring can start with a format
  that the driver does not have in mind.
- Status 0 stops all rings: it is the driver's reset.
- LOG_ALL may change while rings run, in a SET_FEATURES that is otherwise the same; not without a
  log, though. QEMU does not look at the reply to SET_LOG_BASE, so a front-end whose log was refused
  cannot have the state saved either: its copy of guest memory would not be whole.

Thread: all calls from one thread.

Spec: QEMU docs/interop/vhost-user.rst.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from virtiofsd_py.vhost_user.backend import (
    Backend,
    DirtyLog,
    GuestAddress,
    UserAddress,
    VringSetup,
)
from virtiofsd_py.vhost_user.errors import (
    BackendError,
    BadMessage,
    MessageRefused,
    ProtocolError,
    ProtocolViolation,
)
from virtiofsd_py.vhost_user.fds import ReceivedFds, close_fds, duplicate_fds
from virtiofsd_py.vhost_user.memory import GuestMemory
from virtiofsd_py.vhost_user.messages import (
    MAX_MEMORY_SLOTS,
    MAX_QUEUES,
    U64,
    ConfigFlag,
    ConfigSpace,
    Header,
    HeaderFlag,
    LogArea,
    MemoryTable,
    NoPayload,
    ProtocolFeature,
    Request,
    SingleRegion,
    StateTransfer,
    TransferDirection,
    VirtioFeature,
    VringAddress,
    VringAddressFlag,
    VringFile,
    VringState,
    encode_reply,
)
from virtiofsd_py.vhost_user.rings import LARGEST_RING, Ring, RingParts

_log = logging.getLogger(__name__)

SUPPORTED_PROTOCOL_FEATURES: Final = (
    ProtocolFeature.MQ
    | ProtocolFeature.LOG_SHMFD
    | ProtocolFeature.REPLY_ACK
    | ProtocolFeature.BACKEND_REQ
    | ProtocolFeature.CONFIG
    | ProtocolFeature.RESET_DEVICE
    | ProtocolFeature.CONFIGURE_MEM_SLOTS
    | ProtocolFeature.STATUS
    | ProtocolFeature.DEVICE_STATE
)
"""What `Server` can serve."""
DEFAULT_PROTOCOL_FEATURES: Final = SUPPORTED_PROTOCOL_FEATURES & ~ProtocolFeature.RESET_DEVICE
"""What it offers unless told otherwise."""

_NO_FEATURE: Final = ProtocolFeature(0)
# A plain integer: the complement of an IntFlag lacks the bits that it does not know.
_PROTOCOL_FEATURES_BIT: Final = VirtioFeature.PROTOCOL_FEATURES.value
_LOG_ALL_BIT: Final = VirtioFeature.LOG_ALL.value
_NO_STATE_FD: Final = 1 << 8
_REFUSED: Final = 1

# These have a reply of their own kind: no acknowledgement can stand in for it.
_QUERIES: Final = frozenset(
    {
        Request.GET_FEATURES,
        Request.GET_VRING_BASE,
        Request.GET_PROTOCOL_FEATURES,
        Request.GET_QUEUE_NUM,
        Request.GET_CONFIG,
        Request.GET_MAX_MEM_SLOTS,
        Request.GET_STATUS,
        Request.IOTLB_MSG,
        Request.CREATE_CRYPTO_SESSION,
        Request.POSTCOPY_ADVISE,
        Request.POSTCOPY_END,
        Request.GET_INFLIGHT_FD,
        Request.GET_SHARED_OBJECT,
        Request.GET_SHMEM_CONFIG,
    }
)
# These can say no in their own way.
_NEGATIVE_REPLIES: Final = {
    Request.GET_CONFIG: b"",
    Request.SET_LOG_BASE: U64(_REFUSED).encode(),
    Request.SET_DEVICE_STATE_FD: U64(_NO_STATE_FD | _REFUSED).encode(),
    Request.CHECK_DEVICE_STATE: U64(_REFUSED).encode(),
}


class Server:
    """Drives one `Backend` for one connection."""

    def __init__(
        self,
        backend: Backend,
        *,
        protocol_features: ProtocolFeature = DEFAULT_PROTOCOL_FEATURES,
        max_queue_size: int = 1024,
        max_memory_slots: int = MAX_MEMORY_SLOTS,
    ) -> None:
        """Start before the first message.

        Args:
            backend: the device; borrowed.
            protocol_features: what to offer, a subset of `SUPPORTED_PROTOCOL_FEATURES`.
            max_queue_size: most entries of a ring, a power of two up to 32768.
            max_memory_slots: most memory regions, up to 509.

        Raises:
            ValueError: an argument, or the backend's number of rings, is out of bounds.
        """
        if protocol_features.value & ~SUPPORTED_PROTOCOL_FEATURES.value:
            raise ValueError(f"cannot offer all of {protocol_features!r}")
        if max_queue_size not in (1 << n for n in range(LARGEST_RING.bit_length())):
            raise ValueError(f"not a queue size: {max_queue_size}")
        if not 1 <= max_memory_slots <= MAX_MEMORY_SLOTS:
            raise ValueError(f"not a number of memory slots: {max_memory_slots}")
        if not 1 <= backend.num_queues <= MAX_QUEUES:
            raise ValueError(f"not a number of rings: {backend.num_queues}")
        self._backend = backend
        self._offered = protocol_features
        self._max_queue_size = max_queue_size
        self._memory = GuestMemory(max_memory_slots, backend.replace_memory)
        self._rings = [Ring() for _ in range(backend.num_queues)]
        self._negotiated = _NO_FEATURE
        self._features: int | None = None
        self._status = 0
        self._has_log = False
        self._log_refused = False
        self._logging = False
        self._transferring = False
        self._open = True

    @property
    def protocol_features(self) -> ProtocolFeature:
        """Protocol features in force."""
        return self._negotiated

    @property
    def features(self) -> int | None:
        """Virtio features acknowledged, with VHOST_USER_F_PROTOCOL_FEATURES; None: none yet."""
        return self._features

    def receive(self, header: Header, payload: bytes, fds: Sequence[int]) -> bytes | None:
        """Handle one message.

        Args:
            header: the decoded header.
            payload: exactly ``header.payload_bytes`` bytes.
            fds: descriptors that came along; the server's from now on, also when it raises.

        Returns:
            The encoded reply to send, or None.

        Raises:
            MessageRefused: nothing changed; send its `reply`, if any, and go on.
            ProtocolViolation: close the connection.
        """
        with ReceivedFds(fds) as received:
            try:
                answer = self._dispatch(header, payload, received)
            except (BadMessage, MessageRefused, BackendError) as error:
                raise self._refusal(header, error) from error
        if answer is not None:
            return encode_reply(header.request, answer)
        return self._acknowledgement(header, 0)

    def close(self) -> None:
        """Stop the rings and take memory and channel from the backend; for the connection's end."""
        if not self._open:
            return
        self._open = False
        steps: list[Callable[[], object]] = [
            self._stop_all,
            self._give_up_transfer,
            lambda: self._set_logging(False),
            lambda: self._backend.set_log(None),
            lambda: self._backend.set_log_fd(None),
            lambda: self._backend.set_backend_channel(None),
            lambda: self._backend.replace_memory([]),
        ]
        for step in steps:
            try:
                step()
            except BackendError as error:
                _log.warning("action=close error=%s", error)
        for ring in self._rings:
            ring.close()
        self._memory.close()

    def __enter__(self) -> Self:
        """Be open for the length of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _dispatch(self, header: Header, payload: bytes, fds: ReceivedFds) -> bytes | None:
        if HeaderFlag.REPLY in header.flags:
            raise ProtocolViolation(f"{header.request.name}: a reply to nothing")
        if len(payload) != header.payload_bytes:
            raise ProtocolViolation(f"{header.request.name}: {len(payload)} bytes of payload")
        rule = _RULES.get(header.request)
        if rule is None:
            raise MessageRefused("not supported")
        if rule.needs & ~self._negotiated:
            raise MessageRefused(f"{rule.needs.name} is not negotiated")
        if not rule.takes_fds:
            fds.expect(0)
        return rule.handle(self, payload, fds)

    def _acknowledgement(self, header: Header, result: int) -> bytes | None:
        # Asked after the message was handled: User-mode Linux wants the very message that
        # negotiates REPLY_ACK to be acknowledged.
        wanted = HeaderFlag.NEED_REPLY in header.flags
        if wanted and ProtocolFeature.REPLY_ACK in self._negotiated:
            return encode_reply(header.request, U64(result).encode())
        return None

    def _refusal(self, header: Header, error: Exception) -> ProtocolError:
        reason = f"{header.request.name}: {error}"
        if header.request is Request.SET_LOG_BASE:
            self._log_refused = True
            if ProtocolFeature.LOG_SHMFD not in self._negotiated:  # then it has no reply
                return MessageRefused(reason, self._acknowledgement(header, _REFUSED))
        if header.request in _NEGATIVE_REPLIES:
            answer = encode_reply(header.request, _NEGATIVE_REPLIES[header.request])
            return MessageRefused(reason, answer)
        if header.request in _QUERIES:
            return ProtocolViolation(reason)
        return MessageRefused(reason, self._acknowledgement(header, _REFUSED))

    # Features.

    def _get_features(self, payload: bytes, _fds: ReceivedFds) -> bytes:
        NoPayload.parse_untrusted(payload)
        return U64(self._device_features | _PROTOCOL_FEATURES_BIT).encode()

    def _set_features(self, payload: bytes, _fds: ReceivedFds) -> None:
        features = U64.parse_untrusted(payload).value
        running = [ring for ring in self._rings if ring.running]
        if running and self._differ_in_logging_only(features):
            self._set_logging(bool(features & _LOG_ALL_BIT))
            self._features = features
            return
        if any(self._is_enabled(ring) for ring in running):
            raise MessageRefused("features cannot change while a ring is running")
        self._stop_all()
        self._features = None
        surplus = features & ~(self._device_features | _PROTOCOL_FEATURES_BIT)
        if surplus:
            raise MessageRefused(f"features {surplus:#x} were not offered")
        self._backend.set_features(features & ~_PROTOCOL_FEATURES_BIT & ~_LOG_ALL_BIT)
        self._set_logging(bool(features & _LOG_ALL_BIT))
        self._features = features

    def _get_protocol_features(self, payload: bytes, _fds: ReceivedFds) -> bytes:
        NoPayload.parse_untrusted(payload)
        return U64(self._offered).encode()

    def _set_protocol_features(self, payload: bytes, _fds: ReceivedFds) -> None:
        features = U64.parse_untrusted(payload).value
        surplus = features & ~self._offered.value
        if surplus:
            # From here on the front-end would speak a dialect that we do not.
            raise ProtocolViolation(f"protocol features {surplus:#x} were not offered")
        self._negotiated = ProtocolFeature(features)

    def _get_queue_num(self, payload: bytes, _fds: ReceivedFds) -> bytes:
        NoPayload.parse_untrusted(payload)
        # Legal as soon as the feature is seen, acknowledged or not.
        if ProtocolFeature.MQ not in self._offered:
            raise MessageRefused("MQ is not offered")
        return U64(len(self._rings)).encode()

    # The session.

    def _set_owner(self, payload: bytes, _fds: ReceivedFds) -> None:
        NoPayload.parse_untrusted(payload)

    def _reset_owner(self, payload: bytes, _fds: ReceivedFds) -> None:
        """Disable all rings, as the specification recommends for this relic."""
        NoPayload.parse_untrusted(payload)
        if self._rings_can_be_disabled:
            for index in range(len(self._rings)):
                self._enable(index, False)

    def _reset_device(self, payload: bytes, _fds: ReceivedFds) -> None:
        NoPayload.parse_untrusted(payload)
        self._stop_all()
        self._set_logging(False)
        self._backend.reset_device()
        for ring in self._rings:
            ring.forget()
        self._features = None
        self._status = 0

    def _set_status(self, payload: bytes, _fds: ReceivedFds) -> None:
        status = U64.parse_untrusted(payload).value
        if status > 0xFF:
            raise MessageRefused(f"not a device status: {status:#x}")
        if not status:
            self._stop_all()
        self._backend.set_status(status)
        self._status = status

    def _get_status(self, payload: bytes, _fds: ReceivedFds) -> bytes:
        NoPayload.parse_untrusted(payload)
        return U64(self._status).encode()

    def _get_config(self, payload: bytes, _fds: ReceivedFds) -> bytes:
        wanted = ConfigSpace.parse_untrusted(payload)
        data = self._backend.read_config(wanted.offset_bytes, len(wanted.data))
        if len(data) != len(wanted.data):
            raise BackendError(f"{len(data)} bytes of config instead of {len(wanted.data)}")
        return ConfigSpace(wanted.offset_bytes, wanted.flags, data).encode()

    def _set_config(self, payload: bytes, _fds: ReceivedFds) -> None:
        change = ConfigSpace.parse_untrusted(payload)
        if ConfigFlag.LIVE_MIGRATION in change.flags:
            raise MessageRefused("live migration is not supported")
        self._backend.write_config(change.offset_bytes, change.data)

    def _set_backend_req_fd(self, payload: bytes, fds: ReceivedFds) -> None:
        NoPayload.parse_untrusted(payload)
        fds.expect(1)
        self._backend.set_backend_channel(fds.take())

    # Memory.

    def _set_mem_table(self, payload: bytes, fds: ReceivedFds) -> None:
        self._memory.replace(MemoryTable.parse_untrusted(payload).regions, fds)

    def _get_max_mem_slots(self, payload: bytes, _fds: ReceivedFds) -> bytes:
        NoPayload.parse_untrusted(payload)
        return U64(self._memory.max_slots).encode()

    def _add_mem_reg(self, payload: bytes, fds: ReceivedFds) -> None:
        self._memory.add(SingleRegion.parse_untrusted(payload).region, fds)

    def _rem_mem_reg(self, payload: bytes, fds: ReceivedFds) -> None:
        if len(fds) > 1:  # One is a common mistake that the specification lets pass.
            fds.expect(0)
        self._memory.remove(SingleRegion.parse_untrusted(payload).region)

    # Rings.

    def _set_vring_num(self, payload: bytes, _fds: ReceivedFds) -> None:
        state = VringState.parse_untrusted(payload)
        self._ring(state.index)
        if not 1 <= state.num <= self._max_queue_size or state.num & (state.num - 1):
            raise MessageRefused(f"not a queue size: {state.num}")
        self._configurable(state.index).num = state.num

    def _set_vring_base(self, payload: bytes, _fds: ReceivedFds) -> None:
        state = VringState.parse_untrusted(payload)
        self._ring(state.index)
        if state.num > 0xFFFF:
            raise MessageRefused(f"not an available index: {state.num}")
        self._configurable(state.index).base = state.num

    def _set_vring_addr(self, payload: bytes, _fds: ReceivedFds) -> None:
        address = VringAddress.parse_untrusted(payload)
        ring = self._ring(address.index)
        log_address = None
        if VringAddressFlag.LOG in address.flags:
            if ProtocolFeature.LOG_SHMFD not in self._negotiated:
                raise MessageRefused("LOG_SHMFD is not negotiated")
            log_address = GuestAddress(address.log_guest_address)
        parts = RingParts(
            address.desc_user_address, address.avail_user_address, address.used_user_address
        )
        if not (ring.running and ring.parts == parts):
            self._configurable(address.index).parts = parts
        elif log_address != ring.log_address:
            self._backend.set_vring_log(address.index, log_address)
        ring.log_address = log_address

    def _set_vring_kick(self, payload: bytes, fds: ReceivedFds) -> None:
        file = VringFile.parse_untrusted(payload)
        ring = self._ring(file.index)
        fds.expect(int(file.has_fd))
        if not file.has_fd:
            raise MessageRefused("a ring without a kick descriptor would have to be polled")
        if self._features is None:
            raise MessageRefused("features are not acknowledged yet")
        num, parts = ring.num, ring.parts
        if num is None or parts is None:
            raise MessageRefused(f"ring {file.index} has no size or no address yet")
        if not all(self._memory.covers(*extent) for extent in parts.extents(num)):
            raise MessageRefused(f"ring {file.index} is outside of guest memory")
        call_fd, err_fd = duplicate_fds((ring.call_fd, ring.err_fd))
        if ring.running:
            self._stop(file.index)
        setup = VringSetup(
            num=num,
            desc_user_address=UserAddress(parts.desc),
            avail_user_address=UserAddress(parts.avail),
            used_user_address=UserAddress(parts.used),
            base=ring.base,
            kick_fd=fds.take(),
            call_fd=call_fd,
            err_fd=err_fd,
            enabled=self._is_enabled(ring),
            log_address=None if ring.log_address is None else GuestAddress(ring.log_address),
        )
        self._give_up_transfer()
        self._backend.start_vring(file.index, setup)
        ring.running = True

    def _set_vring_call(self, payload: bytes, fds: ReceivedFds) -> None:
        file = VringFile.parse_untrusted(payload)
        ring = self._ring(file.index)
        ring.call_fd = self._replace_fd(
            file, fds, ring.call_fd, self._backend.set_vring_call if ring.running else None
        )

    def _set_vring_err(self, payload: bytes, fds: ReceivedFds) -> None:
        file = VringFile.parse_untrusted(payload)
        ring = self._ring(file.index)
        ring.err_fd = self._replace_fd(
            file, fds, ring.err_fd, self._backend.set_vring_err if ring.running else None
        )

    def _set_vring_enable(self, payload: bytes, _fds: ReceivedFds) -> None:
        state = VringState.parse_untrusted(payload)
        self._ring(state.index)
        if state.num > 1:
            raise MessageRefused(f"neither enable nor disable: {state.num}")
        if not self._rings_can_be_disabled:
            raise MessageRefused("PROTOCOL_FEATURES is not acknowledged")
        self._enable(state.index, bool(state.num))

    def _get_vring_base(self, payload: bytes, _fds: ReceivedFds) -> bytes:
        index = VringState.parse_untrusted(payload).index
        ring = self._ring(index)
        if ring.running:
            self._stop(index)
        return VringState(index, ring.base).encode()

    # Migration.

    def _set_log_base(self, payload: bytes, fds: ReceivedFds) -> bytes:
        area = LogArea.parse_untrusted(payload)
        fds.expect(1)
        self._backend.set_log(DirtyLog(area.size_bytes, area.mmap_offset_bytes, fds.take()))
        self._has_log = True
        self._log_refused = False
        return U64(0).encode()

    def _set_log_fd(self, payload: bytes, fds: ReceivedFds) -> None:
        NoPayload.parse_untrusted(payload)
        fds.expect(1)
        self._backend.set_log_fd(fds.take())

    def _set_device_state_fd(self, payload: bytes, fds: ReceivedFds) -> bytes:
        wanted = StateTransfer.parse_untrusted(payload)
        fds.expect(1)
        if any(ring.running for ring in self._rings):
            raise MessageRefused("a ring is running")
        if wanted.direction is TransferDirection.SAVE and self._log_refused:
            raise MessageRefused("the dirty log was refused")
        self._give_up_transfer()
        self._backend.start_transfer(wanted.direction, fds.take())
        self._transferring = True
        return U64(_NO_STATE_FD).encode()

    def _check_device_state(self, payload: bytes, _fds: ReceivedFds) -> bytes:
        NoPayload.parse_untrusted(payload)
        if not self._transferring:
            raise MessageRefused("no state was transferred")
        self._transferring = False
        self._backend.finish_transfer()
        return U64(0).encode()

    def _give_up_transfer(self) -> None:
        if self._transferring:
            self._transferring = False
            self._backend.cancel_transfer()

    # Helpers.

    @property
    def _device_features(self) -> int:
        own = int(self._backend.device_features) & ~(_PROTOCOL_FEATURES_BIT | _LOG_ALL_BIT)
        return own | self._log_all_offered

    @property
    def _log_all_offered(self) -> int:
        return _LOG_ALL_BIT if ProtocolFeature.LOG_SHMFD in self._offered else 0

    def _differ_in_logging_only(self, features: int) -> bool:
        return self._features is not None and not (
            (features ^ self._features) & ~self._log_all_offered
        )

    def _set_logging(self, enabled: bool) -> None:
        if enabled == self._logging:
            return
        if enabled and not self._has_log and any(ring.running for ring in self._rings):
            raise MessageRefused("there is no log to write to")
        self._backend.set_logging(enabled)
        self._logging = enabled

    @property
    def _rings_can_be_disabled(self) -> bool:
        return bool((self._features or 0) & _PROTOCOL_FEATURES_BIT)

    def _is_enabled(self, ring: Ring) -> bool:
        return ring.enabled or not self._rings_can_be_disabled

    def _ring(self, index: int) -> Ring:
        if index >= len(self._rings):
            raise MessageRefused(f"there is no ring {index}")
        return self._rings[index]

    def _configurable(self, index: int) -> Ring:
        """Return a ring that is not running, by stopping it if it is disabled."""
        ring = self._ring(index)
        if ring.running:
            if self._is_enabled(ring):
                raise MessageRefused(f"ring {index} is running")
            self._stop(index)
        return ring

    def _enable(self, index: int, enabled: bool) -> None:
        ring = self._rings[index]
        if ring.running and ring.enabled != enabled:
            self._backend.set_vring_enabled(index, enabled)
        ring.enabled = enabled

    def _stop(self, index: int) -> None:
        ring = self._rings[index]
        ring.base = self._backend.stop_vring(index) & 0xFFFF
        ring.running = False

    def _stop_all(self) -> None:
        for index, ring in enumerate(self._rings):
            if ring.running:
                self._stop(index)

    def _replace_fd(
        self,
        file: VringFile,
        fds: ReceivedFds,
        old: int | None,
        update: Callable[[int, int | None], None] | None,
    ) -> int | None:
        """Return our new descriptor, having closed the `old` one; a refusal keeps `old`."""
        fds.expect(int(file.has_fd))
        new = fds.take() if file.has_fd else None
        try:
            if update is not None:
                (copy,) = duplicate_fds([new])
                update(file.index, copy)
        except BaseException:
            close_fds([new])
            raise
        close_fds([old])
        return new


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one request is served, and what it needs."""

    handle: Callable[[Server, bytes, ReceivedFds], bytes | None]
    needs: ProtocolFeature = _NO_FEATURE
    takes_fds: bool = False


_RULES: Final[dict[Request, _Rule]] = {
    Request.GET_FEATURES: _Rule(Server._get_features),
    Request.SET_FEATURES: _Rule(Server._set_features),
    Request.GET_PROTOCOL_FEATURES: _Rule(Server._get_protocol_features),
    Request.SET_PROTOCOL_FEATURES: _Rule(Server._set_protocol_features),
    Request.GET_QUEUE_NUM: _Rule(Server._get_queue_num),
    Request.SET_OWNER: _Rule(Server._set_owner),
    Request.RESET_OWNER: _Rule(Server._reset_owner),
    Request.RESET_DEVICE: _Rule(Server._reset_device, ProtocolFeature.RESET_DEVICE),
    Request.SET_STATUS: _Rule(Server._set_status, ProtocolFeature.STATUS),
    Request.GET_STATUS: _Rule(Server._get_status, ProtocolFeature.STATUS),
    Request.GET_CONFIG: _Rule(Server._get_config, ProtocolFeature.CONFIG),
    Request.SET_CONFIG: _Rule(Server._set_config, ProtocolFeature.CONFIG),
    Request.SET_BACKEND_REQ_FD: _Rule(
        Server._set_backend_req_fd, ProtocolFeature.BACKEND_REQ, takes_fds=True
    ),
    Request.SET_MEM_TABLE: _Rule(Server._set_mem_table, takes_fds=True),
    Request.GET_MAX_MEM_SLOTS: _Rule(
        Server._get_max_mem_slots, ProtocolFeature.CONFIGURE_MEM_SLOTS
    ),
    Request.ADD_MEM_REG: _Rule(
        Server._add_mem_reg, ProtocolFeature.CONFIGURE_MEM_SLOTS, takes_fds=True
    ),
    Request.REM_MEM_REG: _Rule(
        Server._rem_mem_reg, ProtocolFeature.CONFIGURE_MEM_SLOTS, takes_fds=True
    ),
    Request.SET_VRING_NUM: _Rule(Server._set_vring_num),
    Request.SET_VRING_ADDR: _Rule(Server._set_vring_addr),
    Request.SET_VRING_BASE: _Rule(Server._set_vring_base),
    Request.GET_VRING_BASE: _Rule(Server._get_vring_base),
    Request.SET_VRING_KICK: _Rule(Server._set_vring_kick, takes_fds=True),
    Request.SET_VRING_CALL: _Rule(Server._set_vring_call, takes_fds=True),
    Request.SET_VRING_ERR: _Rule(Server._set_vring_err, takes_fds=True),
    Request.SET_VRING_ENABLE: _Rule(Server._set_vring_enable),
    Request.SET_LOG_BASE: _Rule(Server._set_log_base, ProtocolFeature.LOG_SHMFD, takes_fds=True),
    Request.SET_LOG_FD: _Rule(Server._set_log_fd, ProtocolFeature.LOG_SHMFD, takes_fds=True),
    Request.SET_DEVICE_STATE_FD: _Rule(
        Server._set_device_state_fd, ProtocolFeature.DEVICE_STATE, takes_fds=True
    ),
    Request.CHECK_DEVICE_STATE: _Rule(Server._check_device_state, ProtocolFeature.DEVICE_STATE),
}
