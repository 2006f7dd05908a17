# SPDX-License-Identifier: BSD-3-Clause
"""Messages in any order, against a model of the rules, with every descriptor accounted for."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.vhost_user.recording import STEP, RecordingBackend, count_fds, new_fd
from virtiofsd_py.vhost_user import (
    SUPPORTED_PROTOCOL_FEATURES,
    Header,
    HeaderFlag,
    MessageRefused,
    ProtocolFeature,
    ProtocolViolation,
    Request,
    Server,
)

QUEUES = 3
MAX_SIZE = 256
SLOTS = 3
BIT30 = 1 << 30
LOG_ALL = 1 << 26
OFFERED = 1 << 32 | 1 | BIT30 | LOG_ALL
PAGE = 0x1000
USER = 0x5000_0000

# Regions are slots of one page: numbers that meet the next one's make an overlap.
Region = tuple[int, int, int]  # guest address, size, user address
# How these say no.
NEGATIVE = {
    Request.GET_CONFIG: b"",
    Request.SET_LOG_BASE: struct.pack("=Q", 1),
    Request.SET_DEVICE_STATE_FD: struct.pack("=Q", 0x101),
    Request.CHECK_DEVICE_STATE: struct.pack("=Q", 1),
}

regions = st.tuples(
    st.integers(0, 3).map(lambda n: n * PAGE),
    st.sampled_from([PAGE, PAGE, PAGE, PAGE + 1]),
    st.integers(0, 3).map(lambda n: USER + n * PAGE),
)
# Three parts within, or partly outside of, the page at USER.
parts = st.sampled_from(
    [
        (USER, USER + 0x800, USER + 0x400),
        (USER, USER + 0x800, USER + 0x400),
        (USER + PAGE, USER + 0x800, USER + 0x400),
        (USER + 0xFF0, USER + 0x800, USER + 0x400),
        (USER + 8, USER + 0x800, USER + 0x400),
    ]
)
indices = st.sampled_from([0, 0, 0, 1, 2, QUEUES, 255])
surplus = st.sampled_from([0] * 9 + [1])
need_reply = st.booleans()


@dataclass
class ModelRing:
    num: int | None = None
    parts: tuple[int, int, int] | None = None
    base: int = 0
    enabled: bool = False
    running: bool = False
    started_base: int = 0
    call: bool = False
    err: bool = False
    log: int | None = None


@dataclass
class Model:
    """What the server ought to know."""

    negotiated: int = 0
    features: int | None = None
    status: int = 0
    table: list[Region] = field(default_factory=list)
    rings: list[ModelRing] = field(default_factory=lambda: [ModelRing() for _ in range(QUEUES)])
    channel: bool = False
    log: bool = False
    log_refused: bool = False
    log_fd: bool = False
    logging: bool = False
    transfer: bool = False

    def has(self, feature: ProtocolFeature) -> bool:
        return bool(self.negotiated & feature)

    def is_enabled(self, ring: ModelRing) -> bool:
        return ring.enabled or not (self.features or 0) & BIT30

    def stop(self, ring: ModelRing) -> None:
        if ring.running:
            ring.running = False
            ring.base = (ring.started_base + STEP) & 0xFFFF

    def configurable(self, ring: ModelRing) -> bool:
        if ring.running and self.is_enabled(ring):
            return False
        self.stop(ring)
        return True

    def mapped(self, ring: ModelRing) -> bool:
        assert ring.num is not None
        assert ring.parts is not None
        desc, used, avail = ring.parts
        return all(
            any(user <= start and start + size <= user + room for _, room, user in self.table)
            for start, size in (
                (desc, 16 * ring.num),
                (used, 6 + 8 * ring.num),
                (avail, 6 + 2 * ring.num),
            )
        )

    def open_fds(self) -> int:
        """Ours and the backend's: of each region two, of each running ring a kick and copies."""
        rings = sum(
            (ring.call + ring.err) * (2 if ring.running else 1) + ring.running
            for ring in self.rings
        )
        migration = self.log + self.log_fd + self.transfer
        return 2 * len(self.table) + rings + self.channel + migration


def overlap(table: list[Region]) -> bool:
    return any(
        one[axis] < other[axis] + other[1] and other[axis] < one[axis] + one[1]
        for axis in (0, 2)
        for i, one in enumerate(table)
        for other in table[:i]
    )


class ServerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.fds_before = count_fds()
        self.connect()

    def connect(self) -> None:
        self.model = Model()
        self.backend = RecordingBackend(QUEUES, OFFERED & ~BIT30 & ~LOG_ALL)
        self.server = Server(
            self.backend,
            protocol_features=SUPPORTED_PROTOCOL_FEATURES,
            max_queue_size=MAX_SIZE,
            max_memory_slots=SLOTS,
        )

    def disconnect(self) -> None:
        self.server.close()
        assert count_fds() == self.fds_before

    def teardown(self) -> None:
        self.disconnect()

    @staticmethod
    def must_not_be(allowed: bool, error: Exception) -> None:
        if allowed:
            raise AssertionError("refused against the rules") from error

    def exchange(
        self,
        request: Request,
        payload: bytes,
        fds: int,
        wants_ack: bool,
        allowed: bool,
        answer: bytes | None = None,
    ) -> None:
        """Send one message; `allowed` and `answer` are what the model expects."""
        flags = HeaderFlag.NEED_REPLY if wants_ack else HeaderFlag(0)
        header = Header(request, flags, len(payload))
        acked = (
            wants_ack
            and not (request.name.startswith("GET_") or request in NEGATIVE)
            and self.model.has(ProtocolFeature.REPLY_ACK)
        )
        reply: bytes | None
        try:
            reply = self.server.receive(header, payload, [new_fd() for _ in range(fds)])
        except MessageRefused as error:
            self.must_not_be(allowed, error)
            assert not request.name.startswith("GET_") or request is Request.GET_CONFIG
            reply, answer = error.reply, NEGATIVE.get(request)
            if request is Request.SET_LOG_BASE and not self.model.has(ProtocolFeature.LOG_SHMFD):
                answer = None
                acked = wants_ack and self.model.has(ProtocolFeature.REPLY_ACK)
            result = 1
        except ProtocolViolation as error:
            self.must_not_be(allowed, error)
            assert request.name.startswith("GET_") or request is Request.SET_PROTOCOL_FEATURES
            self.disconnect()
            self.connect()
            return
        else:
            assert allowed, f"{request.name} was let through"
            result = 0
        if acked:
            answer = struct.pack("=Q", result)
        if answer is None:
            assert reply is None
        else:
            assert reply == struct.pack("=III", request, 0b101, len(answer)) + answer

    @rule(
        bits=st.one_of(
            st.sampled_from([SUPPORTED_PROTOCOL_FEATURES.value] * 3 + [0, 8, 1 << 2, 1 << 63]),
            st.integers(0, (1 << 20) - 1).map(lambda n: n & SUPPORTED_PROTOCOL_FEATURES),
        ),
        fds=surplus,
        ack=need_reply,
    )
    def set_protocol_features(self, bits: int, fds: int, ack: bool) -> None:
        allowed = not fds and not bits & ~SUPPORTED_PROTOCOL_FEATURES.value
        if allowed:
            self.model.negotiated = bits
        payload = struct.pack("=Q", bits)
        self.exchange(Request.SET_PROTOCOL_FEATURES, payload, fds, ack, allowed)

    @rule(
        bits=st.sampled_from(
            [
                *(OFFERED, OFFERED, OFFERED & ~LOG_ALL, OFFERED & ~LOG_ALL, OFFERED & ~BIT30),
                *(OFFERED & ~1, 1 << 34, 1 << 63),
            ]
        ),
        fds=surplus,
        ack=need_reply,
    )
    def set_features(self, bits: int, fds: int, ack: bool) -> None:
        model = self.model
        running = [ring for ring in model.rings if ring.running]
        allowed = not fds
        logs = bool(bits & LOG_ALL)
        if not allowed:
            pass
        elif running and model.features is not None and not (bits ^ model.features) & ~LOG_ALL:
            allowed = model.log or not logs or model.logging
            if allowed:
                model.features, model.logging = bits, logs
        else:
            allowed = not any(map(model.is_enabled, running))
            if allowed:
                for ring in running:
                    model.stop(ring)
                allowed = not bits & ~OFFERED
                model.features = bits if allowed else None
                if allowed:
                    model.logging = logs
        self.exchange(Request.SET_FEATURES, struct.pack("=Q", bits), fds, ack, allowed)

    @rule(
        index=indices, num=st.sampled_from([1, 16, 32, MAX_SIZE, 2 * MAX_SIZE, 0, 3]), fds=surplus
    )
    def set_vring_num(self, index: int, num: int, fds: int) -> None:
        allowed = index < QUEUES and not fds and num in (1, 16, 32, MAX_SIZE)
        if allowed and (allowed := self.model.configurable(self.model.rings[index])):
            self.model.rings[index].num = num
        payload = struct.pack("=II", index, num)
        self.exchange(Request.SET_VRING_NUM, payload, fds, True, allowed)

    @rule(index=indices, base=st.sampled_from([0, 65530, 0xFFFF, 0x10000]), fds=surplus)
    def set_vring_base(self, index: int, base: int, fds: int) -> None:
        allowed = index < QUEUES and not fds and base <= 0xFFFF
        if allowed and (allowed := self.model.configurable(self.model.rings[index])):
            self.model.rings[index].base = base
        payload = struct.pack("=II", index, base)
        self.exchange(Request.SET_VRING_BASE, payload, fds, True, allowed)

    @rule(index=indices, where=parts, fds=surplus, flags=st.sampled_from([0, 0, 0, 1, 1, 2]))
    def set_vring_addr(self, index: int, where: tuple[int, int, int], fds: int, flags: int) -> None:
        allowed = index < QUEUES and not fds and flags < 2 and not where[0] % 16
        if flags == 1:
            allowed = allowed and self.model.has(ProtocolFeature.LOG_SHMFD)
        if allowed:
            ring = self.model.rings[index]
            if not (ring.running and ring.parts == where):
                allowed = self.model.configurable(ring)
                if allowed:
                    ring.parts = where
            if allowed:
                ring.log = 0x40 if flags else None
        payload = struct.pack("=IIQQQQ", index, flags, *where, 0x40)
        self.exchange(Request.SET_VRING_ADDR, payload, fds, True, allowed)

    @rule(
        index=indices,
        fds=st.sampled_from([1, 1, 1, 1, 0, 2]),
        no_fd=st.sampled_from([False] * 5 + [True]),
        ack=need_reply,
    )
    def set_vring_kick(self, index: int, fds: int, no_fd: bool, ack: bool) -> None:
        model = self.model
        allowed = index < QUEUES and fds == 1 and not no_fd and model.features is not None
        if allowed:
            ring = model.rings[index]
            allowed = ring.num is not None and ring.parts is not None and model.mapped(ring)
            if allowed:
                model.stop(ring)
                ring.running, ring.started_base = True, ring.base
                model.transfer = False
        payload = struct.pack("=Q", index | no_fd << 8)
        self.exchange(Request.SET_VRING_KICK, payload, fds, ack, allowed)

    @precondition(lambda self: not any(ring.running for ring in self.model.rings))
    @rule(index=st.integers(0, QUEUES - 1), features=st.sampled_from([OFFERED, OFFERED & ~BIT30]))
    def whole_start(self, index: int, features: int) -> None:
        """The sequence that random messages seldom hit upon."""
        self.set_features(features, 0, True)
        self.set_mem_table([(0, PAGE, USER)], 0, False)
        self.set_vring_num(index, 16, 0)
        self.set_vring_addr(index, (USER, USER + 0x800, USER + 0x400), 0, 0)
        self.set_vring_kick(index, 1, False, True)

    @rule(
        index=indices,
        fds=st.sampled_from([1, 1, 0, 2]),
        no_fd=st.booleans(),
        err=st.booleans(),
        ack=need_reply,
    )
    def set_vring_call_or_err(
        self, index: int, fds: int, no_fd: bool, err: bool, ack: bool
    ) -> None:
        allowed = index < QUEUES and fds == (0 if no_fd else 1)
        if allowed:
            setattr(self.model.rings[index], "err" if err else "call", not no_fd)
        request = Request.SET_VRING_ERR if err else Request.SET_VRING_CALL
        self.exchange(request, struct.pack("=Q", index | no_fd << 8), fds, ack, allowed)

    @rule(index=indices, num=st.sampled_from([0, 1, 1, 2]), fds=surplus)
    def set_vring_enable(self, index: int, num: int, fds: int) -> None:
        negotiated = bool((self.model.features or 0) & BIT30)
        allowed = index < QUEUES and num < 2 and not fds and negotiated
        if allowed:
            self.model.rings[index].enabled = bool(num)
        payload = struct.pack("=II", index, num)
        self.exchange(Request.SET_VRING_ENABLE, payload, fds, True, allowed)

    @rule(index=indices, fds=surplus)
    def get_vring_base(self, index: int, fds: int) -> None:
        allowed = index < QUEUES and not fds
        answer = None
        if allowed:
            ring = self.model.rings[index]
            self.model.stop(ring)
            answer = struct.pack("=II", index, ring.base)
        payload = struct.pack("=II", index, 0)
        self.exchange(Request.GET_VRING_BASE, payload, fds, True, allowed, answer)

    @rule(table=st.lists(regions, max_size=SLOTS + 1), fds=surplus, ack=need_reply)
    def set_mem_table(self, table: list[Region], fds: int, ack: bool) -> None:
        allowed = not fds and len(table) <= SLOTS and not overlap(table)
        if allowed:
            self.model.table = list(table)
        payload = struct.pack("=II", len(table), 0)
        payload += b"".join(struct.pack("=4Q", *region, 0) for region in table)
        self.exchange(Request.SET_MEM_TABLE, payload, len(table) + fds, ack, allowed)

    @rule(region=regions, fds=st.sampled_from([1, 1, 1, 0, 2]), ack=need_reply)
    def add_mem_reg(self, region: Region, fds: int, ack: bool) -> None:
        table = [*self.model.table, region]
        allowed = self.model.has(ProtocolFeature.CONFIGURE_MEM_SLOTS) and fds == 1
        allowed = allowed and len(table) <= SLOTS and not overlap(table)
        if allowed:
            self.model.table = table
        payload = struct.pack("=5Q", 0, *region, 0)
        self.exchange(Request.ADD_MEM_REG, payload, fds, ack, allowed)

    @rule(region=regions, fds=st.sampled_from([0, 0, 1, 2]), ack=need_reply)
    def rem_mem_reg(self, region: Region, fds: int, ack: bool) -> None:
        allowed = self.model.has(ProtocolFeature.CONFIGURE_MEM_SLOTS) and fds < 2
        allowed = allowed and region in self.model.table
        if allowed:
            self.model.table.remove(region)
        payload = struct.pack("=5Q", 0, *region, 0)
        self.exchange(Request.REM_MEM_REG, payload, fds, ack, allowed)

    @rule(value=st.sampled_from([0, 1, 15, 15, 256]), fds=surplus)
    def set_status(self, value: int, fds: int) -> None:
        allowed = self.model.has(ProtocolFeature.STATUS) and value < 256 and not fds
        if allowed:
            self.model.status = value
            if not value:
                for ring in self.model.rings:
                    self.model.stop(ring)
        self.exchange(Request.SET_STATUS, struct.pack("=Q", value), fds, True, allowed)

    @rule(
        request=st.sampled_from(
            [
                Request.GET_FEATURES,
                Request.GET_PROTOCOL_FEATURES,
                Request.GET_QUEUE_NUM,
                Request.GET_MAX_MEM_SLOTS,
                Request.GET_STATUS,
            ]
        ),
        fds=surplus,
    )
    def get_u64(self, request: Request, fds: int) -> None:
        needs, value = {
            Request.GET_FEATURES: (None, OFFERED),
            Request.GET_PROTOCOL_FEATURES: (None, SUPPORTED_PROTOCOL_FEATURES.value),
            Request.GET_QUEUE_NUM: (None, QUEUES),
            Request.GET_MAX_MEM_SLOTS: (ProtocolFeature.CONFIGURE_MEM_SLOTS, SLOTS),
            Request.GET_STATUS: (ProtocolFeature.STATUS, self.model.status),
        }[request]
        allowed = not fds and (needs is None or self.model.has(needs))
        self.exchange(request, b"", fds, True, allowed, struct.pack("=Q", value))

    @rule(offset=st.sampled_from([0, 40, 43]), size=st.sampled_from([1, 4, 44, 0]), fds=surplus)
    def get_config(self, offset: int, size: int, fds: int) -> None:
        allowed = self.model.has(ProtocolFeature.CONFIG) and not fds
        allowed = allowed and size > 0 and offset + size <= 44
        payload = struct.pack("=III", offset, size, 0) + bytes(size)
        self.exchange(Request.GET_CONFIG, payload, fds, True, allowed, payload)

    @rule(fds=st.sampled_from([1, 1, 0, 2]), ack=need_reply)
    def set_backend_req_fd(self, fds: int, ack: bool) -> None:
        allowed = self.model.has(ProtocolFeature.BACKEND_REQ) and fds == 1
        self.model.channel = self.model.channel or allowed
        self.exchange(Request.SET_BACKEND_REQ_FD, b"", fds, ack, allowed)

    @rule(request=st.sampled_from([Request.SET_OWNER, Request.RESET_OWNER]), fds=surplus)
    def owner(self, request: Request, fds: int) -> None:
        if request is Request.RESET_OWNER and not fds and (self.model.features or 0) & BIT30:
            for ring in self.model.rings:
                ring.enabled = False
        self.exchange(request, b"", fds, True, not fds)

    @rule(size=st.sampled_from([0x1000, 0x1000, 0]), fds=st.sampled_from([1, 1, 1, 0, 2]))
    def set_log_base(self, size: int, fds: int) -> None:
        allowed = self.model.has(ProtocolFeature.LOG_SHMFD) and fds == 1 and size > 0
        self.model.log = self.model.log or allowed
        self.model.log_refused = not allowed
        payload = struct.pack("=QQ", size, 0)
        self.exchange(Request.SET_LOG_BASE, payload, fds, True, allowed, bytes(8))

    @rule(fds=st.sampled_from([1, 1, 0, 2]), ack=need_reply)
    def set_log_fd(self, fds: int, ack: bool) -> None:
        allowed = self.model.has(ProtocolFeature.LOG_SHMFD) and fds == 1
        self.model.log_fd = self.model.log_fd or allowed
        self.exchange(Request.SET_LOG_FD, b"", fds, ack, allowed)

    @rule(direction=st.sampled_from([0, 1, 2]), fds=st.sampled_from([1, 1, 1, 0, 2]))
    def set_device_state_fd(self, direction: int, fds: int) -> None:
        model = self.model
        allowed = model.has(ProtocolFeature.DEVICE_STATE) and fds == 1 and direction < 2
        allowed = allowed and not any(ring.running for ring in model.rings)
        allowed = allowed and not (direction == 0 and model.log_refused)
        model.transfer = model.transfer or allowed
        payload = struct.pack("=II", direction, 0)
        answer = struct.pack("=Q", 0x100)
        self.exchange(Request.SET_DEVICE_STATE_FD, payload, fds, True, allowed, answer)

    @rule(fds=surplus)
    def check_device_state(self, fds: int) -> None:
        allowed = self.model.has(ProtocolFeature.DEVICE_STATE) and not fds and self.model.transfer
        if allowed:
            self.model.transfer = False
        self.exchange(Request.CHECK_DEVICE_STATE, b"", fds, True, allowed, bytes(8))

    @rule(fds=surplus)
    def reset_device(self, fds: int) -> None:
        allowed = self.model.has(ProtocolFeature.RESET_DEVICE) and not fds
        if allowed:
            self.model.features, self.model.status, self.model.logging = None, 0, False
            self.model.rings = [ModelRing(call=r.call, err=r.err) for r in self.model.rings]
        self.exchange(Request.RESET_DEVICE, b"", fds, True, allowed)

    @rule(method=st.sampled_from(["replace_memory", "set_backend_channel", "set_vring_call"]))
    def backend_refuses(self, method: str) -> None:
        """Whatever the message, nothing changes."""
        self.backend.fail.add(method)
        index = next((i for i, ring in enumerate(self.model.rings) if ring.running), None)
        if method == "replace_memory":
            payload = struct.pack("=II4Q", 1, 0, 0, PAGE, USER, 0)
            self.exchange(Request.SET_MEM_TABLE, payload, 1, True, False)
        elif method == "set_backend_channel":
            self.exchange(Request.SET_BACKEND_REQ_FD, b"", 1, True, False)
        elif index is not None:
            self.exchange(Request.SET_VRING_CALL, struct.pack("=Q", index), 1, True, False)
        self.backend.fail.clear()

    @rule(request=st.sampled_from(Request), payload=st.binary(max_size=80), fds=st.integers(0, 3))
    def nonsense(self, request: Request, payload: bytes, fds: int) -> None:
        """Bytes that cannot mean anything: nothing has a payload of an odd length like this."""
        payload = payload[: len(payload) - len(payload) % 2] + b"!"
        if request in (Request.GET_CONFIG, Request.SET_CONFIG):
            return
        before = (self.server, dict(self.backend.running), list(self.backend.memory))
        if request is Request.SET_LOG_BASE:
            self.model.log_refused = True
        flags = HeaderFlag.NEED_REPLY
        try:
            self.server.receive(
                Header(request, flags, len(payload)), payload, [new_fd() for _ in range(fds)]
            )
        except MessageRefused:
            assert before == (self.server, self.backend.running, self.backend.memory)
        except ProtocolViolation:
            self.disconnect()
            self.connect()
        else:
            raise AssertionError(f"{request.name} took {payload!r}")

    @invariant()
    def backend_is_as_the_model_says(self) -> None:
        model, backend = self.model, self.backend
        assert self.server.features == model.features
        assert self.server.protocol_features == model.negotiated
        running = {i for i, ring in enumerate(model.rings) if ring.running}
        assert set(backend.running) == running
        for index in running:
            ring, setup = model.rings[index], backend.running[index]
            assert backend.enabled[index] == model.is_enabled(ring)
            assert (setup.num, setup.base) == (ring.num, ring.started_base)
            addresses = (setup.desc_user_address, setup.used_user_address, setup.avail_user_address)
            assert addresses == ring.parts
            fds = backend.fds[index]
            assert (fds["call"] is not None, fds["err"] is not None) == (ring.call, ring.err)
        table = [(r.guest_address, r.size_bytes, r.user_address) for r in backend.memory]
        assert table == model.table
        assert backend.logging == model.logging
        assert (backend.log is not None) == model.log
        assert (backend.transfer is not None) == model.transfer
        assert backend.vring_logs == {index: model.rings[index].log for index in running}

    @invariant()
    def every_descriptor_is_accounted_for(self) -> None:
        assert count_fds() - self.fds_before == self.model.open_fds()


ServerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestServerMachine = pytest.mark.slow(ServerMachine.TestCase)
