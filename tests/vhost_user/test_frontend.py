# SPDX-License-Identifier: BSD-3-Clause
"""Both ends together: the front-end double drives a device through library, socket and rings."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.frontend import (
    ROOT_ID,
    Buffer,
    DriverRing,
    FrontEnd,
    FuseError,
    GuestMemory,
    InitFlag,
    Opcode,
    Session,
    parse_notification,
    vhost,
)
from tests.frontend.fuse_wire import OUT_HEADER, Dirent
from tests.frontend.session import DEFAULT_FEATURES
from tests.vhost_user.pydevice import NOTIFY_BUF_BYTES, PyDevice
from virtiofsd_py.vhost_user import Connection, Server, serve


@contextmanager
def session(
    features: int = DEFAULT_FEATURES,
    protocol_features: int = ~0,
    queue_size: int = 16,
    chunk_bytes: int | None = None,
) -> Iterator[tuple[Session, PyDevice]]:
    theirs, ours = socket.socketpair()
    device = PyDevice()

    def run() -> None:
        with Connection(ours) as connection, Server(device) as server:
            serve(connection, server)
        assert device.mapped is not None
        device.mapped.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with Session(
            FrontEnd(theirs),
            features=features,
            protocol_features=protocol_features,
            memory_bytes=4 << 20,
            queue_size=queue_size,
            chunk_bytes=chunk_bytes,
        ) as up:
            yield up, device
    finally:
        theirs.close()
        thread.join(30)
        assert not thread.is_alive()


ALL = DEFAULT_FEATURES
KINDS = {
    "all": (ALL, ~0),
    "no event index": (ALL & ~vhost.F_RING_EVENT_IDX, ~0),
    "no indirect": (ALL & ~vhost.F_RING_INDIRECT, ~0),
    "no notification": (ALL & ~vhost.F_FS_NOTIFICATION, ~0),
    "no acknowledgements": (ALL & ~vhost.F_FS_NOTIFICATION, ~vhost.P_REPLY_ACK),
    "no protocol features": (ALL & ~vhost.F_FS_NOTIFICATION, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_requests_of_every_kind_of_ring(kind: str) -> None:
    features, protocol_features = KINDS[kind]
    with session(features, protocol_features) as (up, device):
        granted = up.fuse.init()
        assert granted.flags == InitFlag.INIT_EXT | InitFlag.HAS_FSNOTIFY
        assert granted.fsnotify_server_mask == 0x1234
        with pytest.raises(FuseError) as caught:
            up.fuse.lookup(ROOT_ID, "missing")
        assert caught.value.errno == errno.ENOSYS
        for size in (1, 4096, 100_000):
            assert up.fuse.read(2, 3, 5, size)[:3] == bytes([5, 6, 7])[:size]
            assert up.fuse.write(2, 3, 0, bytes(size)) == size
        up.fuse.forget(42)
        assert device.forgotten == [42]
        assert up.memory.free_bytes > 3 << 20


def test_ring_wraps_around_many_times() -> None:
    with session(queue_size=4) as (up, _device):
        before = up.memory.free_bytes
        for _ in range(100):
            up.fuse.read(2, 3, 0, 16)
        assert up.memory.free_bytes == before


def test_requests_cut_like_pages() -> None:
    with session(queue_size=64, chunk_bytes=512) as (up, _device):
        assert up.fuse.read(2, 3, 0, 10_000) == (bytes(range(256)) * 40)[:10_000]


def test_many_in_flight_come_back_in_any_order() -> None:
    with session(ALL & ~vhost.F_RING_INDIRECT, queue_size=64) as (up, _device):
        body = [struct.pack("=QQIIQII", 3, n, 8, 0, 0, 0, 0) for n in range(10)]
        pending = [up.fuse.submit(Opcode.READ, 2, b, kick=False) for b in body]
        up.fuse.ring.publish()
        up.fuse.ring.kick_if_needed()
        for n in reversed(range(10)):
            assert up.fuse.wait(pending[n]).check() == bytes(range(n, n + 8))


def test_notifications() -> None:
    with session() as (up, _device):
        assert up.notifications is not None
        assert up.notify_buf_bytes == NOTIFY_BUF_BYTES
        for cookie in range(40):  # more than there are buffers
            up.fuse.fsnotify(9, 0x100)
            records = up.notifications.read()
            assert [r.nodeid for r in records] == [9, 9], cookie
            assert (records[0].mask, records[0].cookie) == (0x100, 7)
            assert records[0].name == b"a name of 17 byte"
            assert (records[1].mask, records[1].flags, records[1].name) == (0, 1, b"")
        assert up.notifications.read_now() == []


def test_guest_reset() -> None:
    with session() as (up, device):
        up.fuse.init()
        up.reset()
        assert up.fuse.init().major == 7
        up.fuse.fsnotify(9, 1)
        assert up.notifications is not None
        assert up.notifications.read()[0].nodeid == 9
        assert sorted(device.running) == [0, 1, 2]
        assert up.stop() == [0, 1, 2]


def test_ring_without_a_device_times_out() -> None:
    with GuestMemory() as memory:
        ring = DriverRing(memory, 8)
        ring.submit([Buffer(memory.alloc(16), 16)], [])
        with pytest.raises(TimeoutError):
            ring.wait_used(0)
        assert ring.in_flight == 1
        assert os.eventfd_read(ring.kick_fd) == 1
        ring.close()


def test_full_ring() -> None:
    with GuestMemory() as memory:
        ring = DriverRing(memory, 2)
        buffer = Buffer(memory.alloc(16), 16)
        with pytest.raises(BufferError):
            ring.add([buffer] * 2, [buffer])
        ring.add([buffer] * 2, [buffer], indirect=True)
        ring.close()


@given(st.lists(st.tuples(st.integers(1, 5000), st.sampled_from([16, 4096])), max_size=20))
def test_allocator(wanted: list[tuple[int, int]]) -> None:
    with GuestMemory(1 << 20) as memory:
        got = []
        for size, align in wanted:
            address = memory.alloc(size, align)
            assert address % align == 0
            memory.write(address, b"x" * size)
            got.append((address, size))
        for i, (address, size) in enumerate(sorted(got)[:-1]):
            assert address + size <= sorted(got)[i + 1][0]
        for address, _ in got:
            memory.free(address)
        assert memory.free_bytes == 1 << 20
        assert memory.alloc(1 << 20)


def record(name: bytes = b"", padding: bytes = b"", namelen: int | None = None) -> bytes:
    length = len(name) if namelen is None else namelen
    body = struct.pack("=QQQIIIIiI", 1, 0, 2, 0, 0, 0, 0, 0, length) + name + padding
    return OUT_HEADER.pack(16 + len(body), 1024, 0) + body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        OUT_HEADER.pack(16, 1024, 0),
        OUT_HEADER.pack(17, 1024, 0) + b"x",
        record()[:-1],
        record(b"abcdefgh"),
        record(b"abc", b"\0\0\0\0x"),
        record(b"a/c", bytes(5)),
        record(b"abc", bytes(13)),
        record(b"abc", bytes(5), namelen=256),
    ],
)
def test_malformed_notifications_are_noticed(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"notification|length|left over|name"):
        parse_notification(raw)


def test_well_formed_notifications() -> None:
    assert [r.name for r in parse_notification(record(b"abc", bytes(5)))] == [b"abc"]
    assert [r.name for r in parse_notification(record(b"abcdefgh", bytes(8)))] == [b"abcdefgh"]
    assert [r.name for r in parse_notification(record())] == [b""]


def test_directory_entries() -> None:
    raw = struct.pack("=QQII", 5, 6, 3, 8) + b"abc" + bytes(5)
    assert Dirent.parse_all(raw + raw) == [Dirent(5, 6, 8, b"abc")] * 2
    plus = Dirent.parse_all(bytes(40 + 88) + raw, plus=True)
    assert plus[0].name == b"abc"
    assert plus[0].entry is not None


def test_lies_reach_the_ring() -> None:
    with GuestMemory() as memory:
        ring = DriverRing(memory, 8)
        ring.lie(7, [(1 << 63, 0xFFFF_FFFF, 1, 0)])
        assert memory.read(ring.desc, 16) == struct.pack("<QIHH", 1 << 63, 0xFFFF_FFFF, 1, 0)
        assert memory.load16(ring.avail + 2) == 1
        assert memory.load16(ring.avail + 4) == 7
        ring.close()
