# SPDX-License-Identifier: BSD-3-Clause
"""A guest that lies: each lie gets an error reply or stops its ring; the other rings go on."""

from __future__ import annotations

import errno
import os
import select
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.running import Daemon
from tests.frontend import (
    ROOT_ID,
    Buffer,
    DriverRing,
    FuseClient,
    FuseError,
    GuestMemory,
    Opcode,
    Session,
)
from tests.frontend import fuse_wire as wire
from tests.frontend.vring import DESC, DESC_INDIRECT, DESC_NEXT, DESC_WRITE

U32 = 0xFFFF_FFFF
U64 = 0xFFFF_FFFF_FFFF_FFFF
DEADLINE_MS = 30_000
VICTIM = 3  # ring index; 2 is the other request queue


@pytest.fixture
def daemon(start: Callable[..., Daemon]) -> Daemon:
    return start("--num-request-queues=2")


def serves(client: FuseClient, daemon: Daemon) -> None:
    """Assert that requests on this ring do something on the host."""
    client.mkdir(ROOT_ID, "alive")
    assert (daemon.share / "alive").is_dir()
    client.rmdir(ROOT_ID, "alive")


# -- rings -----------------------------------------------------------------------------------------

Lie = Callable[[DriverRing, GuestMemory], None]


def loop(ring: DriverRing, memory: GuestMemory) -> None:
    at = memory.alloc(64)
    ring.lie(0, [(at, 64, DESC_NEXT, 1), (at, 64, DESC_NEXT, 0)])


def loop_onto_itself(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(0, [(memory.alloc(64), 64, DESC_NEXT, 0)])


def head_out_of_range(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(ring.num)


def next_out_of_range(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(0, [(memory.alloc(64), 64, DESC_NEXT, 0xFFFF)])


def unmapped(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(0, [(0x10, 64, 0, 0)])


def past_the_end(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(0, [(memory.guest_base + memory.size_bytes - 32, 64, 0, 0)])


def address_wraps(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(0, [(U64 - 15, 64, 0, 0)])


def longer_than_memory(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(0, [(memory.guest_base, U32, 0, 0)])


def readable_after_writable(ring: DriverRing, memory: GuestMemory) -> None:
    at = memory.alloc(64)
    ring.lie(0, [(at, 64, DESC_WRITE | DESC_NEXT, 1), (at, 64, 0, 0)])


def _table(ring: DriverRing, memory: GuestMemory, raw: bytes, size: int | None = None) -> None:
    at = memory.alloc(max(16, len(raw)))
    memory.write(at, raw)
    ring.lie(0, [(at, len(raw) if size is None else size, DESC_INDIRECT, 0)])


def nested_table(ring: DriverRing, memory: GuestMemory) -> None:
    _table(ring, memory, DESC.pack(memory.alloc(64), 64, DESC_INDIRECT, 0))


def looping_table(ring: DriverRing, memory: GuestMemory) -> None:
    at = memory.alloc(64)
    _table(ring, memory, DESC.pack(at, 64, DESC_NEXT, 1) + DESC.pack(at, 64, DESC_NEXT, 0))


def crooked_table(ring: DriverRing, memory: GuestMemory) -> None:
    _table(ring, memory, DESC.pack(memory.alloc(64), 64, 0, 0), 15)


def empty_table(ring: DriverRing, memory: GuestMemory) -> None:
    _table(ring, memory, b"", 0)


def huge_table(ring: DriverRing, memory: GuestMemory) -> None:
    _table(ring, memory, DESC.pack(memory.alloc(64), 64, 0, 0), 16 * 65536)


def unmapped_table(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(0, [(0x1000, 16, DESC_INDIRECT, 0)])


def table_and_next(ring: DriverRing, memory: GuestMemory) -> None:
    ring.lie(0, [(memory.alloc(16), 16, DESC_INDIRECT | DESC_NEXT, 1)])


def index_jumps(ring: DriverRing, memory: GuestMemory) -> None:
    ring.set_avail_idx(ring.num + 7)
    ring.kick()


RING_LIES: tuple[Lie, ...] = (
    loop,
    loop_onto_itself,
    head_out_of_range,
    next_out_of_range,
    unmapped,
    past_the_end,
    address_wraps,
    longer_than_memory,
    readable_after_writable,
    nested_table,
    looping_table,
    crooked_table,
    empty_table,
    huge_table,
    unmapped_table,
    table_and_next,
    index_jumps,
)


@pytest.mark.parametrize("lie", RING_LIES)
def test_broken_ring_stops_alone(guest: Session, daemon: Daemon, lie: Lie) -> None:
    err_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        guest.front_end.set_vring_err(VICTIM, err_fd)
        lie(guest.rings[VICTIM], guest.memory)
        assert "broken ring" in daemon.wait_for_log(f"ring={VICTIM}")
        poller = select.poll()
        poller.register(err_fd, select.POLLIN)
        assert poller.poll(DEADLINE_MS), "the front-end was not told"
    finally:
        os.close(err_fd)
    serves(guest.clients[0], daemon)
    # A driver that starts over is served again.
    guest.reset()
    for client in guest.clients:
        client.deadline_s = 30
    guest.fuse.init()
    serves(guest.clients[1], daemon)
    assert sum("broken ring" in line for line in daemon.log) == 1


def test_broken_notification_ring_stops_alone(guest: Session, daemon: Daemon) -> None:
    guest.fuse.fsnotify(ROOT_ID, 0x100 | 0x0800_0000)
    ring = guest.rings[1]
    ring.set_avail_idx(ring.num + 99)
    for i in range(40):  # past the buffers that the device has seen already
        (daemon.share / f"f{i}").touch()
    daemon.wait_for_log("broken notification ring")
    serves(guest.clients[0], daemon)
    serves(guest.clients[1], daemon)


def test_tiny_notification_buffers_break_the_ring(guest: Session, daemon: Daemon) -> None:
    guest.front_end.set_vring_enable(1, False)
    guest.front_end.stop_ring(1)
    ring = guest.rings[1]
    ring.reset()
    guest.front_end.start_ring(1, ring)
    ring.submit([], [Buffer(guest.memory.alloc(64), 64)])
    guest.fuse.fsnotify(ROOT_ID, 0x100 | 0x0800_0000)
    (daemon.share / "f").touch()
    daemon.wait_for_log("broken notification ring")
    serves(guest.clients[0], daemon)


def test_memory_that_goes_away_under_load(guest: Session, daemon: Daemon) -> None:
    for i in range(64):
        guest.fuse.submit(Opcode.LOOKUP, ROOT_ID, b"%d\0" % i)
    guest.front_end.set_mem_table()
    assert "memory table" in daemon.wait_for_log("ring lost")
    guest.reset()
    guest.fuse.init()
    serves(guest.fuse, daemon)


@pytest.mark.parametrize("into", [[], [8], [15]])
def test_request_without_room_for_a_reply(guest: Session, daemon: Daemon, into: list[int]) -> None:
    header = wire.IN_HEADER.pack(wire.IN_HEADER.size + 2, Opcode.MKDIR, 7, ROOT_ID, 0, 0, 0, 0, 0)
    pending = guest.fuse.submit_raw([header, b"d\0"], into)
    assert guest.fuse.wait_raw(pending) == b""
    assert list(daemon.share.iterdir()) == []  # what cannot be answered is not done
    serves(guest.fuse, daemon)


def test_empty_chain_comes_back(guest: Session, daemon: Daemon) -> None:
    ring = guest.rings[VICTIM]
    ring.lie(0, [(guest.memory.alloc(16), 0, 0, 0)])
    used = ring.wait_used()
    assert (used.head, used.written_bytes) == (0, 0)
    serves(guest.clients[1], daemon)


def test_reply_over_its_own_request(guest: Session, daemon: Daemon) -> None:
    """Input and output in the same memory: the request was copied before anything is written."""
    (daemon.share / "target").mkdir()
    memory, ring = guest.memory, guest.rings[VICTIM]
    at = memory.alloc(4096)
    body = b"target\0"
    memory.write(
        at,
        wire.IN_HEADER.pack(
            wire.IN_HEADER.size + len(body), Opcode.LOOKUP, 9, ROOT_ID, 0, 0, 0, 0, 0
        )
        + body,
    )
    ring.lie(0, [(at, wire.IN_HEADER.size + len(body), DESC_NEXT, 1), (at, 4096, DESC_WRITE, 0)])
    used = ring.wait_used()
    size, error, unique = wire.OUT_HEADER.unpack(memory.read(at, 16))
    assert (size, error, unique) == (used.written_bytes, 0, 9)


# -- requests --------------------------------------------------------------------------------------

EVIL_NAMES = [b"", b".", b"..", b"a/b", b"/", b"../x", b"x/..", b"n" * 256, b"n" * 4000]


def _rename(parent: int, old: bytes, new: bytes) -> bytes:
    return wire.RENAME_IN.pack(parent) + old + b"\0" + new + b"\0"


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_names_that_are_not_names(guest: Session, daemon: Daemon, name: bytes) -> None:
    (daemon.share / "d").mkdir()
    (daemon.share / "d/x").touch()
    (daemon.share / "x").touch()
    d = guest.fuse.lookup(ROOT_ID, "d").nodeid
    x = guest.fuse.lookup(d, "x").nodeid
    raw = name + b"\0"
    attempts: list[tuple[Opcode, int, bytes]] = [
        (Opcode.LOOKUP, d, raw),
        (Opcode.MKDIR, d, wire.MKDIR_IN.pack(0o755, 0) + raw),
        (Opcode.MKNOD, d, wire.MKNOD_IN.pack(0o100644, 0, 0, 0) + raw),
        (Opcode.SYMLINK, d, raw + b"target\0"),
        (Opcode.LINK, d, wire.LINK_IN.pack(x) + raw),
        (Opcode.UNLINK, d, raw),
        (Opcode.RMDIR, d, raw),
        (Opcode.CREATE, d, wire.CREATE_IN.pack(os.O_RDWR, 0o644, 0, 0) + raw),
        (Opcode.RENAME, d, _rename(d, name, b"y")),
        (Opcode.RENAME, d, _rename(d, b"x", name)),
        (Opcode.RENAME2, d, wire.RENAME2_IN.pack(d, 0, 0) + raw + b"y\0"),
        (Opcode.RENAME2, d, wire.RENAME2_IN.pack(d, 0, 0) + b"x\0" + raw),
    ]
    before = sorted(p.relative_to(daemon.share) for p in daemon.share.rglob("*"))
    for opcode, nodeid, body in attempts:
        with pytest.raises(FuseError) as refused:
            guest.fuse.request(opcode, nodeid, body)
        assert refused.value.errno in {errno.EINVAL, errno.ENAMETOOLONG}, opcode.name
    assert sorted(p.relative_to(daemon.share) for p in daemon.share.rglob("*")) == before


@pytest.mark.parametrize("body", [b"name", b"", b"na\0me\0", b"a\0b\0"])
def test_names_without_their_end(guest: Session, body: bytes) -> None:
    for opcode in (Opcode.LOOKUP, Opcode.UNLINK, Opcode.RMDIR):
        with pytest.raises(FuseError) as refused:
            guest.fuse.request(opcode, ROOT_ID, body)
        assert refused.value.errno == errno.EINVAL, opcode.name


def test_links_of_the_host_lead_nowhere(guest: Session, daemon: Daemon, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (daemon.share / "dir").symlink_to(outside)
    (daemon.share / "file").symlink_to(outside / "secret")
    fuse = guest.fuse
    directory, file = (fuse.lookup(ROOT_ID, name) for name in ("dir", "file"))
    assert directory.attr.mode >> 12 == file.attr.mode >> 12 == 0o12
    attempts: list[Callable[[], object]] = [
        lambda: fuse.lookup(directory.nodeid, "secret"),
        lambda: fuse.open(file.nodeid, os.O_RDONLY),
        lambda: fuse.open(file.nodeid, os.O_RDWR | os.O_TRUNC),
        lambda: fuse.opendir(directory.nodeid),
        lambda: fuse.mkdir(directory.nodeid, "made"),
        lambda: fuse.create(directory.nodeid, "made"),
        lambda: fuse.unlink(directory.nodeid, "secret"),
        lambda: fuse.create(ROOT_ID, "file", os.O_WRONLY | os.O_TRUNC),
        lambda: fuse.setattr(file.nodeid, size=0),
    ]
    for attempt in attempts:
        with pytest.raises(FuseError):
            attempt()
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("secret", "secret")]


def test_invented_numbers(guest: Session, daemon: Daemon) -> None:
    (daemon.share / "f").write_text("content")
    (daemon.share / "g").write_text("other")
    fuse = guest.fuse
    f, g = (fuse.lookup(ROOT_ID, name).nodeid for name in "fg")
    fh = fuse.open(f).fh
    for nodeid in (0, 2, 7, f + 1, f | 1 << 63, f ^ 1 << 32, U64):
        if nodeid in {f, g}:
            continue
        with pytest.raises(FuseError) as refused:
            fuse.getattr(nodeid)
        assert refused.value.errno == errno.ESTALE
    for wrong in (fh + 1, fh ^ 1 << 32, U64):
        with pytest.raises(FuseError) as refused:
            fuse.read(f, wrong, 0, 10)
        assert refused.value.errno == errno.EBADF
    with pytest.raises(FuseError):
        fuse.read(g, fh, 0, 10)  # a handle belongs to its node
    assert fuse.read(f, fh, 0, 10) == b"content"


@pytest.mark.parametrize("value", [U64, 1 << 63, (1 << 63) - 1, U32 << 12])
@pytest.mark.parametrize("size", [U32, 1 << 31, (1 << 20) + 1, 0])
def test_sizes_and_offsets_at_the_extremes(
    guest: Session, daemon: Daemon, value: int, size: int
) -> None:
    (daemon.share / "f").write_text("content")
    fuse = guest.fuse
    f = fuse.lookup(ROOT_ID, "f").nodeid
    fh = fuse.open(f, os.O_RDWR).fh
    dh = fuse.opendir(ROOT_ID).fh
    read = wire.READ_IN.pack(fh, value, size, 0, 0, 0, 0)
    attempts = [
        (Opcode.READ, f, read),
        (Opcode.WRITE, f, wire.WRITE_IN.pack(fh, value, size, 0, 0, 0, 0) + b"data"),
        (Opcode.WRITE, f, wire.WRITE_IN.pack(fh, 0, size, U32, 0, U32, 0)),
        (Opcode.READDIR, ROOT_ID, wire.READ_IN.pack(dh, value, size, 0, 0, 0, 0)),
        (Opcode.READDIRPLUS, ROOT_ID, wire.READ_IN.pack(dh, value, size, 0, 0, 0, 0)),
        (
            Opcode.SETATTR,
            f,
            wire.SETATTR_IN.pack(U32, U32, value, value, 0, value, value, value, *[U32] * 8),
        ),
        (Opcode.FSNOTIFY, f, wire.FSNOTIFY_IN.pack(value, U32, U32)),
        (Opcode.FALLOCATE, f, wire.FALLOCATE_IN.pack(fh, value, value, 0x03, U32)),
        (Opcode.FALLOCATE, f, wire.FALLOCATE_IN.pack(fh, value, size, U32, U32)),
        (Opcode.LSEEK, f, wire.LSEEK_IN.pack(fh, value, os.SEEK_HOLE, U32)),
        (Opcode.LSEEK, f, wire.LSEEK_IN.pack(fh, value, size, U32)),
        (Opcode.COPY_FILE_RANGE, f, wire.COPY_FILE_RANGE_IN.pack(fh, 0, f, fh, value, value, 0)),
        (
            Opcode.COPY_FILE_RANGE_64,
            f,
            wire.COPY_FILE_RANGE_IN.pack(fh, value, f, fh, value, value, 0),
        ),
        (
            Opcode.COPY_FILE_RANGE_64,
            f,
            wire.COPY_FILE_RANGE_IN.pack(fh, 0, f, fh, 8, value, value),
        ),
        (Opcode.IOCTL, f, wire.IOCTL_IN.pack(fh, U32, 0x8008_6601, value, size, U32)),
        (Opcode.IOCTL, f, wire.IOCTL_IN.pack(fh, U32, 0x4008_6602, value, size, size)),
        (Opcode.STATX, f, wire.STATX_IN.pack(U32, U32, fh, U32, U32)),
        (Opcode.ACCESS, f, wire.ACCESS_IN.pack(U32, U32)),
        (Opcode.SYNCFS, f, wire.SYNCFS_IN.pack(value)),
        (Opcode.TMPFILE, ROOT_ID, wire.CREATE_IN.pack(U32, U32, U32, U32) + b"/\0"),
        (Opcode.CREATE, ROOT_ID, wire.CREATE_IN.pack(U32, U32, U32, U32) + b"c\0"),
        (Opcode.OPEN, f, wire.OPEN_IN.pack(U32, U32)),
        (Opcode.MKNOD, ROOT_ID, wire.MKNOD_IN.pack(U32, U32, U32, U32) + b"n\0"),
        (Opcode.FORGET, f, struct.pack("=Q", value)),
        (Opcode.BATCH_FORGET, 0, wire.BATCH_FORGET_IN.pack(U32, U32) + struct.pack("=QQ", f, 1)),
    ]
    for opcode, nodeid, body in attempts:
        pending = fuse.submit(opcode, nodeid, body)
        if opcode in {Opcode.FORGET, Opcode.BATCH_FORGET}:
            assert fuse.wait_raw(pending) == b""
        else:
            fuse.wait(pending)  # well-formed, whatever it says
    serves(fuse, daemon)


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 1 << 20, 1 << 31, U32])
def test_attributes_of_any_size(start: Callable[..., Daemon], size: int) -> None:
    daemon = start("--posix-acl", "--xattrmap=:map::user.virtiofs.:")
    with Session.connect(daemon.socket) as guest:
        fuse = guest.fuse
        fuse.init((1 << 60) - 1)
        names = (
            b"user.a\0",
            b"\0",
            b"user.a",
            b"",
            b"n" * 300 + b"\0",
            b"system.posix_acl_access\0",
        )
        for name in names:
            for body, opcode in (
                (wire.GETXATTR_IN.pack(size, U32), Opcode.GETXATTR),
                (wire.GETXATTR_IN.pack(size, U32), Opcode.LISTXATTR),
                (wire.SETXATTR_IN.pack(size, U32, U32, U32), Opcode.SETXATTR),
                (wire.SETXATTR_IN.pack(size, 0, 0, 0), Opcode.SETXATTR),
                (b"", Opcode.REMOVEXATTR),
            ):
                for value in (b"", b"v", b"v" * 65537):
                    for room in (0, 1, 8, 4096):
                        fuse.wait(
                            fuse.submit(opcode, ROOT_ID, body + name + value, reply_bytes=room)
                        )
        serves(fuse, daemon)


def test_forgetting_the_root_changes_nothing(guest: Session, daemon: Daemon) -> None:
    guest.fuse.forget(ROOT_ID, U64)
    guest.fuse.forget(ROOT_ID, U64)
    serves(guest.fuse, daemon)


@pytest.mark.parametrize("opcode", [0, 7, 19, 31, 32, 33, 37, 40, 54, 100, 3071, 3073, 4096, U32])
def test_unknown_requests_are_not_implemented(guest: Session, daemon: Daemon, opcode: int) -> None:
    with pytest.raises(FuseError) as refused:
        guest.fuse.request(opcode, ROOT_ID, bytes(200))
    assert refused.value.errno == errno.ENOSYS
    serves(guest.fuse, daemon)


def test_every_request_cut_off_at_every_byte(guest: Session, daemon: Daemon) -> None:
    (daemon.share / "f").write_text("content")
    fuse = guest.fuse
    whole = {
        Opcode.LOOKUP: b"f\0",
        Opcode.SETATTR: wire.SETATTR_IN.pack(*[0] * 16),
        Opcode.MKNOD: wire.MKNOD_IN.pack(0o100600, 0, 0, 0) + b"n\0",
        Opcode.RENAME2: wire.RENAME2_IN.pack(ROOT_ID, 0, 0) + b"a\0b\0",
        Opcode.OPEN: wire.OPEN_IN.pack(0, 0),
        Opcode.READ: wire.READ_IN.pack(0, 0, 0, 0, 0, 0, 0),
        Opcode.WRITE: wire.WRITE_IN.pack(0, 0, 0, 0, 0, 0, 0),
        Opcode.ACCESS: wire.ACCESS_IN.pack(0, 0),
        Opcode.IOCTL: wire.IOCTL_IN.pack(0, 0, 0, 0, 0, 0),
        Opcode.FALLOCATE: wire.FALLOCATE_IN.pack(0, 0, 0, 0, 0),
        Opcode.LSEEK: wire.LSEEK_IN.pack(0, 0, 0, 0),
        Opcode.COPY_FILE_RANGE: wire.COPY_FILE_RANGE_IN.pack(*[0] * 7),
        Opcode.COPY_FILE_RANGE_64: wire.COPY_FILE_RANGE_IN.pack(*[0] * 7),
        Opcode.SYNCFS: wire.SYNCFS_IN.pack(0),
        Opcode.TMPFILE: wire.CREATE_IN.pack(os.O_RDWR, 0o100600, 0, 0) + b"/\0",
        Opcode.STATX: wire.STATX_IN.pack(0, 0, 0, 0, 0),
        Opcode.FSNOTIFY: wire.FSNOTIFY_IN.pack(0, 0, 0),
        Opcode.INIT: wire.INIT_IN.pack(7, 41, 0, 0, 0, *[0] * 11)[:16],
    }
    for opcode, body in whole.items():
        header = wire.IN_HEADER.pack(
            wire.IN_HEADER.size + len(body), opcode, 5, ROOT_ID, 0, 0, 0, 0, 0
        )
        raw = header + body
        for cut in range(len(raw)):
            reply = fuse.wait_raw(fuse.submit_raw([raw[:cut]], [16, 512]))
            size, error, _ = wire.OUT_HEADER.unpack_from(reply)
            assert (size, error) == (16, -errno.EINVAL), (opcode.name, cut)
    serves(fuse, daemon)
