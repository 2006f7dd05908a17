# SPDX-License-Identifier: BSD-3-Clause
"""The server's rules, one at a time. What any order of messages does is the state machine's."""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.vhost_user.recording import STEP, RecordingBackend, count_fds, new_fd
from virtiofsd_py.vhost_user import (
    DEFAULT_PROTOCOL_FEATURES,
    Header,
    HeaderFlag,
    MessageRefused,
    ProtocolFeature,
    ProtocolViolation,
    Request,
    Server,
)

F_PROTOCOL_FEATURES = 1 << 30
F_VERSION_1 = 1 << 32
F_LOG_ALL = 1 << 26
BASE = 0x7000_0000
SIZE = 0x10_0000
ADDRESS = (BASE, BASE + 0x2000, BASE + 0x1000)  # desc, used, avail


class Peer:
    """Sends messages to a server without any socket."""

    def __init__(self, server: Server, backend: RecordingBackend) -> None:
        self.server = server
        self.backend = backend

    def send(
        self, request: Request, payload: bytes = b"", fds: int = 0, *, need_reply: bool = False
    ) -> bytes | None:
        """Return the reply's payload, its header checked."""
        flags = HeaderFlag.NEED_REPLY if need_reply else HeaderFlag(0)
        header = Header(request, flags, len(payload))
        return unwrap(request, self.server.receive(header, payload, [new_fd() for _ in range(fds)]))

    def u64(self, request: Request, value: int, fds: int = 0) -> bytes | None:
        return self.send(request, struct.pack("=Q", value), fds)

    def ring(self, request: Request, index: int, num: int = 0) -> bytes | None:
        return self.send(request, struct.pack("=II", index, num))

    def address(self, index: int, parts: tuple[int, int, int], flags: int = 0) -> None:
        payload = struct.pack("=IIQQQQ", index, flags, *parts, (1 << 64) - 1)
        self.send(Request.SET_VRING_ADDR, payload)

    def ask_u64(self, request: Request) -> int:
        reply = self.send(request)
        assert reply is not None
        (value,) = struct.unpack("=Q", reply)
        return int(value)

    def memory(self, *regions: tuple[int, int, int], fds: int | None = None) -> None:
        payload = struct.pack("=II", len(regions), 0)
        payload += b"".join(struct.pack("=4Q", *region, 0) for region in regions)
        self.send(Request.SET_MEM_TABLE, payload, len(regions) if fds is None else fds)

    def prepare(self, *, features: int = F_PROTOCOL_FEATURES | F_VERSION_1) -> None:
        """Go as far as to the first ring's kick."""
        self.u64(Request.SET_PROTOCOL_FEATURES, DEFAULT_PROTOCOL_FEATURES)
        self.send(Request.SET_OWNER)
        self.u64(Request.SET_FEATURES, features)
        self.memory((0, SIZE, BASE))
        self.ring(Request.SET_VRING_NUM, 0, 128)
        self.ring(Request.SET_VRING_BASE, 0, 5)
        self.address(0, ADDRESS)

    def start(self, *, features: int = F_PROTOCOL_FEATURES | F_VERSION_1) -> None:
        self.prepare(features=features)
        self.u64(Request.SET_VRING_KICK, 0, fds=1)


def unwrap(request: Request, reply: bytes | None) -> bytes | None:
    if reply is None:
        return None
    assert struct.unpack_from("=III", reply) == (request, 0b101, len(reply) - 12)
    return reply[12:]


@pytest.fixture
def backend() -> RecordingBackend:
    return RecordingBackend()


@pytest.fixture
def peer(backend: RecordingBackend) -> Iterator[Peer]:
    with Server(backend) as server:
        yield Peer(server, backend)


def test_offers(peer: Peer) -> None:
    assert peer.ask_u64(Request.GET_FEATURES) == F_VERSION_1 | F_PROTOCOL_FEATURES | F_LOG_ALL | 1
    assert peer.ask_u64(Request.GET_PROTOCOL_FEATURES) == 0b1001_1000_0010_0010_1011
    assert peer.ask_u64(Request.GET_QUEUE_NUM) == 3


def test_each_protocol_feature_can_be_left_out(backend: RecordingBackend) -> None:
    for feature in DEFAULT_PROTOCOL_FEATURES:
        left = DEFAULT_PROTOCOL_FEATURES & ~feature
        with Server(backend, protocol_features=left) as server:
            peer = Peer(server, backend)
            assert peer.ask_u64(Request.GET_PROTOCOL_FEATURES) == left
            with pytest.raises(ProtocolViolation):
                peer.u64(Request.SET_PROTOCOL_FEATURES, feature)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_queue_size": 1000},
        {"max_queue_size": 65536},
        {"max_memory_slots": 0},
        {"max_memory_slots": 510},
        {"protocol_features": ProtocolFeature.PAGEFAULT},
    ],
)
def test_arguments_are_checked(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"not a|cannot offer"):
        Server(RecordingBackend(), **arguments)  # type: ignore[arg-type]


def test_ring_starts_disabled_at_its_kick(peer: Peer) -> None:
    peer.start()
    setup = peer.backend.running[0]
    assert (setup.num, setup.base, setup.enabled) == (128, 5, False)
    assert (setup.desc_user_address, setup.used_user_address, setup.avail_user_address) == ADDRESS
    peer.ring(Request.SET_VRING_ENABLE, 0, 1)
    assert peer.backend.enabled[0]


def test_backend_hears_of_changes_only(peer: Peer) -> None:
    peer.start()
    for num in (0, 1, 1, 0, 0):
        peer.ring(Request.SET_VRING_ENABLE, 0, num)
    assert peer.backend.calls.count("set_vring_enabled") == 2


def test_ring_starts_enabled_without_protocol_features(peer: Peer) -> None:
    peer.start(features=F_VERSION_1)
    assert peer.backend.enabled[0]
    with pytest.raises(MessageRefused, match="PROTOCOL_FEATURES"):
        peer.ring(Request.SET_VRING_ENABLE, 0, 0)


def test_ring_may_be_enabled_before_its_kick(peer: Peer) -> None:
    peer.prepare()
    peer.ring(Request.SET_VRING_ENABLE, 0, 1)
    peer.u64(Request.SET_VRING_KICK, 0, fds=1)
    assert peer.backend.enabled[0]


def test_get_vring_base_stops(peer: Peer) -> None:
    peer.start()
    assert peer.ring(Request.GET_VRING_BASE, 0) == struct.pack("=II", 0, 5 + STEP)
    assert not peer.backend.running
    assert peer.ring(Request.GET_VRING_BASE, 0) == struct.pack("=II", 0, 5 + STEP)
    assert peer.backend.calls.count("stop_vring") == 1


def test_stopped_ring_goes_on_where_it_was(peer: Peer) -> None:
    peer.start()
    peer.u64(Request.SET_VRING_CALL, 0, fds=1)
    peer.ring(Request.GET_VRING_BASE, 0)
    peer.u64(Request.SET_VRING_KICK, 0, fds=1)
    assert peer.backend.running[0].base == 5 + STEP
    assert peer.backend.running[0].call_fd is not None


def test_second_kick_moves_a_running_ring(peer: Peer) -> None:
    peer.start()
    peer.u64(Request.SET_VRING_KICK, 0, fds=1)
    assert peer.backend.calls[-2:] == ["stop_vring", "start_vring"]
    assert peer.backend.running[0].base == 5 + STEP


def test_call_of_every_ring_at_any_time(peer: Peer) -> None:
    """QEMU does so when it is started, before anything is negotiated."""
    for index in range(3):
        peer.u64(Request.SET_VRING_CALL, index, fds=1)
        peer.u64(Request.SET_VRING_ERR, index, fds=1)
    peer.start()
    assert peer.backend.running[0].call_fd is not None
    assert peer.backend.running[0].err_fd is not None
    peer.u64(Request.SET_VRING_CALL, 0, fds=1)
    peer.u64(Request.SET_VRING_CALL, 0 | 1 << 8)
    assert peer.backend.fds[0]["call"] is None
    assert peer.backend.calls[-2:] == ["set_vring_call"] * 2


def test_unused_ring_may_be_enabled(peer: Peer) -> None:
    """QEMU enables and disables the last ring although the driver never set it up."""
    peer.start()
    peer.ring(Request.SET_VRING_ENABLE, 2, 1)
    peer.ring(Request.SET_VRING_ENABLE, 2, 0)
    assert "set_vring_enabled" not in peer.backend.calls


def test_uml_binds_its_driver_again(peer: Peer) -> None:
    """User-mode Linux only disables the rings, never stops them, and then sets up everything."""
    peer.start()
    peer.ring(Request.SET_VRING_ENABLE, 0, 1)
    peer.ring(Request.SET_VRING_ENABLE, 0, 0)
    peer.ask_u64(Request.GET_FEATURES)
    peer.u64(Request.SET_FEATURES, F_PROTOCOL_FEATURES | F_VERSION_1)
    peer.memory((0, SIZE, BASE))
    peer.u64(Request.SET_VRING_CALL, 0, fds=1)
    peer.ring(Request.SET_VRING_NUM, 0, 64)
    assert not peer.backend.running
    peer.ring(Request.SET_VRING_BASE, 0, 0)
    peer.address(0, ADDRESS)
    peer.u64(Request.SET_VRING_KICK, 0, fds=1)
    setup = peer.backend.running[0]
    assert (setup.num, setup.base) == (64, 0)
    assert setup.call_fd is not None


def test_running_ring_is_not_reconfigured(peer: Peer) -> None:
    peer.start()
    peer.ring(Request.SET_VRING_ENABLE, 0, 1)
    with pytest.raises(MessageRefused, match="is running"):
        peer.ring(Request.SET_VRING_NUM, 0, 64)
    with pytest.raises(MessageRefused, match="is running"):
        peer.ring(Request.SET_VRING_BASE, 0, 0)
    with pytest.raises(MessageRefused, match="is running"):
        peer.address(0, (BASE + 0x4000, *ADDRESS[1:]))
    with pytest.raises(MessageRefused, match="while a ring is running"):
        peer.u64(Request.SET_FEATURES, F_PROTOCOL_FEATURES | F_VERSION_1 | 1)
    peer.address(0, ADDRESS)
    peer.u64(Request.SET_FEATURES, F_PROTOCOL_FEATURES | F_VERSION_1)
    assert peer.backend.calls.count("set_features") == 1
    assert list(peer.backend.running) == [0]


@pytest.mark.parametrize(
    "missing", [Request.SET_FEATURES, Request.SET_MEM_TABLE, Request.SET_VRING_NUM]
)
def test_nothing_starts_before_it_is_known(
    peer: Peer, missing: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = peer.send

    def send_all_but_one(
        request: Request, payload: bytes = b"", fds: int = 0, *, need_reply: bool = False
    ) -> bytes | None:
        return None if request is missing else send(request, payload, fds, need_reply=need_reply)

    monkeypatch.setattr(peer, "send", send_all_but_one)
    with pytest.raises(MessageRefused):
        peer.start()
    assert not peer.backend.running


@pytest.mark.parametrize(
    "parts",
    [
        (BASE - 16, BASE + 0x2000, BASE + 0x1000),
        (BASE + SIZE - 16 * 128 + 16, BASE + 0x2000, BASE + 0x1000),
        (BASE, BASE + SIZE - 4, BASE + 0x1000),
        (BASE, BASE + 0x2000, BASE + SIZE - 2),
        ((1 << 64) - 16, BASE + 0x2000, BASE + 0x1000),
    ],
)
def test_ring_has_to_lie_in_guest_memory(peer: Peer, parts: tuple[int, int, int]) -> None:
    peer.prepare()
    peer.address(0, parts)
    with pytest.raises(MessageRefused, match="outside of guest memory"):
        peer.u64(Request.SET_VRING_KICK, 0, fds=1)


def test_ring_may_fill_its_region_to_the_end(peer: Peer) -> None:
    peer.prepare()
    used = BASE + SIZE - 8 * 128 - 8
    peer.address(0, (BASE, used, BASE + 0x1000))
    peer.u64(Request.SET_VRING_KICK, 0, fds=1)
    assert peer.backend.running[0].used_user_address == used


@pytest.mark.parametrize("num", [0, 3, 100, 2048, 1 << 31, (1 << 32) - 1])
def test_ring_sizes(peer: Peer, num: int) -> None:
    with pytest.raises(MessageRefused, match="not a queue size"):
        peer.ring(Request.SET_VRING_NUM, 0, num)


@pytest.mark.parametrize(
    ("request_", "payload", "fds"),
    [
        (Request.SET_VRING_NUM, struct.pack("=II", 3, 64), 0),
        (Request.SET_VRING_BASE, struct.pack("=II", 3, 0), 0),
        (Request.SET_VRING_BASE, struct.pack("=II", 0, 1 << 16), 0),
        (Request.SET_VRING_ADDR, struct.pack("=IIQQQQ", 1 << 31, 0, 0, 0, 0, 0), 0),
        (Request.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 0, 8, 0, 0, 0), 0),
        (Request.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 0, 0, 2, 0, 0), 0),
        (Request.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 0, 0, 0, 1, 0), 0),
        (Request.SET_VRING_ENABLE, struct.pack("=II", 3, 1), 0),
        (Request.SET_VRING_ENABLE, struct.pack("=II", 0, 2), 0),
        (Request.SET_VRING_KICK, struct.pack("=Q", 0 | 1 << 8), 0),
        (Request.SET_VRING_KICK, struct.pack("=Q", 3), 1),
        (Request.SET_VRING_KICK, struct.pack("=Q", 0), 0),
        (Request.SET_VRING_KICK, struct.pack("=Q", 0), 2),
        (Request.SET_VRING_CALL, struct.pack("=Q", 0 | 1 << 8), 1),
        (Request.SET_VRING_CALL, struct.pack("=Q", 255), 1),
        (Request.SET_VRING_ERR, struct.pack("=Q", 0), 3),
        (Request.SET_OWNER, b"", 1),
        (Request.SET_OWNER, b"x", 0),
        (Request.SET_STATUS, struct.pack("=Q", 256), 0),
        (Request.SET_BACKEND_REQ_FD, b"", 0),
        (Request.SET_BACKEND_REQ_FD, b"", 2),
        (Request.SET_CONFIG, struct.pack("=III", 0, 2, 0) + b"x", 0),
        (Request.SET_CONFIG, struct.pack("=III", 0, 1, 1) + b"x", 0),
        (Request.SET_FEATURES, struct.pack("=Q", 1 << 63), 0),
        (Request.SET_FEATURES, b"", 0),
        (Request.SET_LOG_FD, b"", 0),
        (Request.SET_LOG_FD, b"x", 1),
        (Request.RESET_DEVICE, b"", 0),
        (Request.SEND_RARP, bytes(8), 0),
    ],
)
def test_refusals_are_acknowledged_and_survived(
    peer: Peer, request_: Request, payload: bytes, fds: int
) -> None:
    peer.start()
    with pytest.raises(MessageRefused) as caught:
        peer.send(request_, payload, fds, need_reply=True)
    assert caught.value.survives
    assert unwrap(request_, caught.value.reply) == struct.pack("=Q", 1)
    with pytest.raises(MessageRefused) as caught:
        peer.send(request_, payload, fds)
    assert caught.value.reply is None


@pytest.mark.parametrize(
    ("request_", "payload", "fds"),
    [
        (Request.GET_VRING_BASE, struct.pack("=II", 3, 0), 0),
        (Request.GET_FEATURES, b"", 1),
        (Request.GET_FEATURES, b"x", 0),
        (Request.SET_PROTOCOL_FEATURES, struct.pack("=Q", 1 << 63), 0),
        (Request.SET_PROTOCOL_FEATURES, struct.pack("=Q", 1 << 14), 0),
        (Request.GET_INFLIGHT_FD, bytes(20), 0),
    ],
)
def test_questions_without_an_answer_end_the_connection(
    peer: Peer, request_: Request, payload: bytes, fds: int
) -> None:
    peer.start()
    with pytest.raises(ProtocolViolation) as caught:
        peer.send(request_, payload, fds, need_reply=True)
    assert not caught.value.survives
    assert caught.value.reply is None


def test_reply_from_the_front_end_ends_the_connection(peer: Peer) -> None:
    with pytest.raises(ProtocolViolation):
        peer.server.receive(Header(Request.SET_OWNER, HeaderFlag.REPLY, 0), b"", [])


def test_acknowledgement_needs_to_be_negotiated(peer: Peer) -> None:
    assert peer.send(Request.SET_OWNER, need_reply=True) is None
    # User-mode Linux blocks until the message that negotiates it is itself acknowledged.
    payload = struct.pack("=Q", ProtocolFeature.REPLY_ACK)
    assert peer.send(Request.SET_PROTOCOL_FEATURES, payload, need_reply=True) == bytes(8)
    assert peer.send(Request.SET_OWNER, need_reply=True) == bytes(8)
    assert peer.send(Request.SET_OWNER) is None
    reply = peer.send(Request.GET_PROTOCOL_FEATURES, need_reply=True)
    assert reply == struct.pack("=Q", DEFAULT_PROTOCOL_FEATURES)


def test_refused_features_leave_none(peer: Peer) -> None:
    peer.prepare()
    with pytest.raises(MessageRefused, match="not offered"):
        peer.u64(Request.SET_FEATURES, 1 << 34)
    with pytest.raises(MessageRefused, match="not acknowledged"):
        peer.u64(Request.SET_VRING_KICK, 0, fds=1)


def test_features_without_the_transport_bit_reach_the_backend(peer: Peer) -> None:
    peer.prepare()
    assert peer.backend.features == F_VERSION_1
    assert peer.server.features == F_VERSION_1 | F_PROTOCOL_FEATURES


def test_config(peer: Peer) -> None:
    peer.u64(Request.SET_PROTOCOL_FEATURES, ProtocolFeature.CONFIG)
    peer.backend.config = bytes(range(44))
    for offset, size in ((0, 44), (36, 4), (40, 4), (43, 1)):
        head = struct.pack("=III", offset, size, 0)
        reply = peer.send(Request.GET_CONFIG, head + bytes(size))
        assert reply == head + bytes(range(offset, offset + size))
    peer.send(Request.SET_CONFIG, struct.pack("=III", 1, 2, 0) + b"ab")
    assert peer.backend.config[:4] == b"\0ab\3"


@pytest.mark.parametrize(
    "payload",
    [
        struct.pack("=III", 40, 5, 0) + bytes(5),
        struct.pack("=III", 0, 4, 0),
        struct.pack("=III", 0, 0, 0),
        struct.pack("=III", (1 << 32) - 1, 2, 0) + bytes(2),
    ],
)
def test_config_that_cannot_be_read_is_an_empty_reply(peer: Peer, payload: bytes) -> None:
    peer.u64(Request.SET_PROTOCOL_FEATURES, ProtocolFeature.CONFIG)
    with pytest.raises(MessageRefused) as caught:
        peer.send(Request.GET_CONFIG, payload)
    assert unwrap(Request.GET_CONFIG, caught.value.reply) == b""


def test_memory_slots(backend: RecordingBackend) -> None:
    with Server(backend, max_memory_slots=2) as server:
        peer = Peer(server, backend)
        peer.u64(Request.SET_PROTOCOL_FEATURES, ProtocolFeature.CONFIGURE_MEM_SLOTS)
        assert peer.ask_u64(Request.GET_MAX_MEM_SLOTS) == 2
        for n in (0, 1):
            payload = struct.pack("=5Q", 0, n * SIZE, SIZE, BASE + n * SIZE, 0)
            peer.send(Request.ADD_MEM_REG, payload, 1)
        assert [r.guest_address for r in backend.memory] == [0, SIZE]
        with pytest.raises(MessageRefused, match="more than 2"):
            peer.send(Request.ADD_MEM_REG, struct.pack("=5Q", 0, 1 << 40, 1, 1 << 40, 0), 1)
        # The offset does not matter, and one descriptor is tolerated.
        peer.send(Request.REM_MEM_REG, struct.pack("=5Q", 0, 0, SIZE, BASE, 77), 1)
        assert [r.guest_address for r in backend.memory] == [SIZE]
        with pytest.raises(MessageRefused, match="no memory region"):
            peer.send(Request.REM_MEM_REG, struct.pack("=5Q", 0, 0, SIZE, BASE, 0))


@pytest.mark.parametrize(
    "regions",
    [
        [(0, SIZE, BASE), (SIZE - 1, SIZE, BASE + SIZE)],
        [(0, SIZE, BASE), (SIZE, SIZE, BASE + SIZE - 1)],
        [(SIZE, SIZE, BASE), (0, SIZE + 1, BASE + SIZE)],
        [(0, SIZE, BASE), (0, SIZE, BASE)],
    ],
)
def test_regions_do_not_overlap(peer: Peer, regions: list[tuple[int, int, int]]) -> None:
    with pytest.raises(MessageRefused, match="overlap"):
        peer.memory(*regions)
    assert "replace_memory" not in peer.backend.calls


@pytest.mark.parametrize("fds", [0, 1, 3])
def test_memory_needs_one_descriptor_each(peer: Peer, fds: int) -> None:
    with pytest.raises(MessageRefused, match="descriptors"):
        peer.memory((0, SIZE, BASE), (SIZE, SIZE, BASE + SIZE), fds=fds)


def test_memory_may_change_under_running_rings(peer: Peer) -> None:
    peer.start()
    peer.memory((0, SIZE, BASE), (SIZE, SIZE, BASE + SIZE))
    assert len(peer.backend.memory) == 2
    assert list(peer.backend.running) == [0]


def test_status(peer: Peer) -> None:
    peer.start()
    peer.u64(Request.SET_STATUS, 15)
    assert peer.ask_u64(Request.GET_STATUS) == peer.backend.status == 15
    peer.u64(Request.SET_STATUS, 0)
    assert not peer.backend.running
    assert peer.ring(Request.GET_VRING_BASE, 0) == struct.pack("=II", 0, 5 + STEP)


def test_reset_device(backend: RecordingBackend) -> None:
    offered = DEFAULT_PROTOCOL_FEATURES | ProtocolFeature.RESET_DEVICE
    with Server(backend, protocol_features=offered) as server:
        peer = Peer(server, backend)
        peer.start()
        peer.u64(Request.SET_PROTOCOL_FEATURES, offered)
        peer.u64(Request.SET_STATUS, 15)
        peer.send(Request.RESET_DEVICE)
        assert backend.calls[-2:] == ["stop_vring", "reset_device"]
        assert peer.ask_u64(Request.GET_STATUS) == 0
        assert peer.server.features is None
        peer.u64(Request.SET_FEATURES, F_VERSION_1)
        with pytest.raises(MessageRefused, match="no size or no address"):
            peer.u64(Request.SET_VRING_KICK, 0, fds=1)


def test_guest_reset(peer: Peer) -> None:
    """QEMU repeats everything, and the backend has to hear of it."""
    peer.start()
    peer.ring(Request.GET_VRING_BASE, 0)
    peer.start()
    assert peer.backend.calls.count("set_features") == 2
    assert peer.backend.running[0].base == 5


def test_reset_owner_disables(peer: Peer) -> None:
    peer.start()
    peer.ring(Request.SET_VRING_ENABLE, 0, 1)
    peer.send(Request.RESET_OWNER)
    assert peer.backend.enabled == {0: False}


def test_channel_may_be_a_pipe(peer: Peer) -> None:
    peer.u64(Request.SET_PROTOCOL_FEATURES, ProtocolFeature.BACKEND_REQ)
    reader, writer = os.pipe()
    peer.server.receive(Header(Request.SET_BACKEND_REQ_FD, HeaderFlag(0), 0), b"", [writer])
    assert peer.backend.channel == writer
    peer.server.close()
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize(
    ("method", "provoke"),
    [
        ("set_features", lambda peer: peer.u64(Request.SET_FEATURES, F_VERSION_1)),
        ("replace_memory", lambda peer: peer.memory()),
        ("start_vring", lambda peer: peer.u64(Request.SET_VRING_KICK, 0, fds=1)),
        ("set_vring_call", lambda peer: peer.u64(Request.SET_VRING_CALL, 0, fds=1)),
        ("set_vring_enabled", lambda peer: peer.ring(Request.SET_VRING_ENABLE, 0, 1)),
        ("set_backend_channel", lambda peer: peer.send(Request.SET_BACKEND_REQ_FD, fds=1)),
        ("set_status", lambda peer: peer.u64(Request.SET_STATUS, 1)),
    ],
)
def test_what_the_backend_refuses_is_refused(
    peer: Peer, method: str, provoke: Callable[[Peer], object]
) -> None:
    peer.start()
    peer.backend.fail.add(method)
    with pytest.raises(MessageRefused, match=f"{method} was told to fail"):
        provoke(peer)
    peer.backend.fail.clear()
    assert len(peer.backend.memory) == 1
    assert peer.backend.enabled in ({}, {0: False})


@pytest.mark.parametrize("room", [0, 1])
def test_a_process_without_descriptors_refuses(peer: Peer, room: int) -> None:
    peer.prepare()
    peer.u64(Request.SET_VRING_CALL, 0, fds=1)
    peer.u64(Request.SET_VRING_ERR, 0, fds=1)
    header = Header(Request.SET_VRING_KICK, HeaderFlag(0), 8)
    kick = new_fd()
    before = count_fds()
    lowest = os.dup(kick)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
    try:
        with pytest.raises(MessageRefused, match="cannot duplicate"):
            peer.server.receive(header, bytes(8), [kick])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not peer.backend.running
    assert count_fds() == before - 1


def test_close_takes_everything_back(peer: Peer) -> None:
    peer.start()
    peer.u64(Request.SET_VRING_CALL, 0, fds=1)
    peer.send(Request.SET_BACKEND_REQ_FD, fds=1)
    peer.server.close()
    assert not peer.backend.running
    assert not peer.backend.memory
    assert peer.backend.channel is None
    peer.server.close()


# Migration.

LOG = struct.pack("=QQ", 0x1000, 0)
SAVE, LOAD = struct.pack("=II", 0, 0), struct.pack("=II", 1, 0)


def test_logging_is_switched_while_rings_run(peer: Peer) -> None:
    peer.start()
    peer.ring(Request.SET_VRING_ENABLE, 0, 1)
    features = F_VERSION_1 | F_PROTOCOL_FEATURES

    def is_logging() -> bool:
        assert peer.backend.running
        assert peer.backend.features == F_VERSION_1
        return peer.backend.logging

    with pytest.raises(MessageRefused, match="no log"):
        peer.u64(Request.SET_FEATURES, features | F_LOG_ALL)
    assert not is_logging()
    assert peer.send(Request.SET_LOG_BASE, LOG, 1) == bytes(8)
    peer.u64(Request.SET_FEATURES, features | F_LOG_ALL)
    assert is_logging()
    peer.u64(Request.SET_FEATURES, features)
    assert not is_logging()
    with pytest.raises(MessageRefused, match="cannot change"):
        peer.u64(Request.SET_FEATURES, features | F_LOG_ALL | 1)


def test_log_address_of_a_running_ring(peer: Peer) -> None:
    peer.start()
    for flags, log, wanted in ((1, 0x40, 0x40), (1, 0x40, 0x40), (0, 0x40, None)):
        peer.send(Request.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, flags, *ADDRESS, log))
        assert peer.backend.vring_logs == {0: wanted}
    assert peer.backend.calls.count("set_vring_log") == 2


def test_log_address_of_a_ring_to_be_started(peer: Peer) -> None:
    peer.prepare()
    peer.send(Request.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 1, *ADDRESS, 0x123))
    peer.u64(Request.SET_VRING_KICK, 0, 1)
    assert peer.backend.running[0].log_address == 0x123


@pytest.mark.parametrize(
    ("request_", "payload", "fds", "no"),
    [
        (Request.SET_LOG_BASE, bytes(16), 1, 1),
        (Request.SET_LOG_BASE, LOG, 0, 1),
        (Request.SET_LOG_BASE, LOG, 2, 1),
        (Request.SET_LOG_BASE, LOG[:-1], 1, 1),
        (Request.SET_DEVICE_STATE_FD, SAVE, 1, 0x101),  # a ring is running
        (Request.SET_DEVICE_STATE_FD, LOAD, 0, 0x101),
        (Request.SET_DEVICE_STATE_FD, struct.pack("=II", 2, 0), 1, 0x101),
        (Request.SET_DEVICE_STATE_FD, struct.pack("=II", 0, 1), 1, 0x101),
        (Request.SET_DEVICE_STATE_FD, b"", 1, 0x101),
        (Request.CHECK_DEVICE_STATE, b"", 0, 1),  # nothing was transferred
        (Request.CHECK_DEVICE_STATE, b"x", 0, 1),
        (Request.CHECK_DEVICE_STATE, b"", 1, 1),
    ],
)
def test_refusals_in_the_reply_itself(
    peer: Peer, request_: Request, payload: bytes, fds: int, no: int
) -> None:
    peer.start()
    for need_reply in (False, True):
        with pytest.raises(MessageRefused) as caught:
            peer.send(request_, payload, fds, need_reply=need_reply)
        assert unwrap(request_, caught.value.reply) == struct.pack("=Q", no)
    assert peer.backend.running


def test_state_is_transferred_once(peer: Peer) -> None:
    peer.prepare()
    for direction in (SAVE, LOAD):
        reply = peer.send(Request.SET_DEVICE_STATE_FD, direction, 1)
        assert reply == struct.pack("=Q", 0x100)
        assert peer.backend.transfer is not None
        assert peer.send(Request.CHECK_DEVICE_STATE) == bytes(8)
        with pytest.raises(MessageRefused, match="no state"):
            peer.send(Request.CHECK_DEVICE_STATE)


@pytest.mark.parametrize("method", ["start_transfer", "finish_transfer"])
def test_a_failed_transfer_is_told_and_survived(peer: Peer, method: str) -> None:
    peer.prepare()
    peer.backend.fail.add(method)
    with pytest.raises(MessageRefused, match="told to fail"):  # noqa: PT012
        peer.send(Request.SET_DEVICE_STATE_FD, SAVE, 1)
        peer.send(Request.CHECK_DEVICE_STATE)
    peer.backend.fail.clear()
    peer.send(Request.SET_DEVICE_STATE_FD, SAVE, 1)
    peer.send(Request.CHECK_DEVICE_STATE)


def test_a_ring_that_starts_ends_the_transfer(peer: Peer) -> None:
    peer.prepare()
    peer.send(Request.SET_DEVICE_STATE_FD, SAVE, 1)
    peer.u64(Request.SET_VRING_KICK, 0, 1)
    assert peer.backend.transfer is None
    with pytest.raises(MessageRefused, match="no state"):
        peer.send(Request.CHECK_DEVICE_STATE)


def test_without_a_whole_log_nothing_is_saved(peer: Peer) -> None:
    """QEMU does not look at the reply to SET_LOG_BASE."""
    peer.prepare()
    peer.send(Request.SET_LOG_BASE, LOG, 1)
    peer.backend.fail.add("set_log")
    with pytest.raises(MessageRefused):
        peer.send(Request.SET_LOG_BASE, LOG, 1)
    with pytest.raises(MessageRefused, match="log was refused"):
        peer.send(Request.SET_DEVICE_STATE_FD, SAVE, 1)
    peer.send(Request.SET_DEVICE_STATE_FD, LOAD, 1)
    peer.backend.fail.clear()
    peer.send(Request.SET_LOG_BASE, LOG, 1)
    peer.send(Request.SET_DEVICE_STATE_FD, SAVE, 1)


def test_without_log_shmfd_nothing_is_logged(backend: RecordingBackend) -> None:
    left = DEFAULT_PROTOCOL_FEATURES & ~ProtocolFeature.LOG_SHMFD
    with Server(backend, protocol_features=left) as server:
        peer = Peer(server, backend)
        assert not peer.ask_u64(Request.GET_FEATURES) & F_LOG_ALL
        peer.u64(Request.SET_PROTOCOL_FEATURES, left)
        with pytest.raises(MessageRefused, match="LOG_SHMFD"):
            peer.address(0, ADDRESS, flags=1)
        with pytest.raises(MessageRefused) as caught:
            peer.send(Request.SET_LOG_BASE, LOG, 1)
        assert caught.value.reply is None  # in this dialect it has none
        with pytest.raises(MessageRefused, match="not offered"):
            peer.u64(Request.SET_FEATURES, F_VERSION_1 | F_PROTOCOL_FEATURES | F_LOG_ALL)
