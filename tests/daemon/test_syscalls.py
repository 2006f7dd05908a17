# SPDX-License-Identifier: BSD-3-Clause
"""How many system calls a request costs: each short way, and its twin that cannot be short.

strace tells. What the ring's thread does to wait and to be heard (poll, and the eventfds' preadv2
and write) is counted apart.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.daemon.running import DEADLINE_S, INSTRUMENTED, Daemon, named_threads
from tests.frontend import ROOT_ID, Opcode, Session
from tests.frontend import fuse_wire as wire

GETATTR = wire.GETATTR_IN.pack(0, 0, 0)
WAITING = {"poll", "ppoll", "preadv2", "write", "restart_syscall"}
if INSTRUMENTED:
    WAITING |= {"mmap", "munmap"}  # its allocator's
# Files that have been there for longer than a birth must be past to tell inodes apart.
OLD = Path(__file__).resolve().parent
IN_MODIFY = 0x2
WRITE_KILL_SUIDGID = 1 << 2
TIMES = 10
DOTS = (".", "..")


def ring_thread(daemon: Daemon, guest: Session) -> int:
    """Return the thread that serves ordinary requests."""
    name = f"vfsd-ring-{guest.rings.index(guest.fuse.ring)}"
    (task,) = named_threads(daemon.pid)[name]
    return int(task.name)


class Trace:
    """The system calls of one thread. They are complete when the block has ended.

    Attributes:
        calls: their names, in order.
        lines: how strace writes them.
    """

    def __init__(self, thread: int, log: Path) -> None:
        """Attach to `thread`."""
        self.calls: list[str] = []
        self.lines: list[str] = []
        self._log = log
        self._strace = subprocess.Popen(
            ["strace", "-o", str(log), "-p", str(thread)], stderr=subprocess.PIPE
        )
        self._wait_for("attached")

    def _wait_for(self, text: str) -> None:
        assert self._strace.stderr is not None
        end = time.monotonic() + DEADLINE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._strace.stderr, selectors.EVENT_READ)
            said = ""
            while text not in said:
                assert selector.select(end - time.monotonic()), f"strace only said {said!r}"
                got = os.read(self._strace.stderr.fileno(), 4096).decode()
                assert got, f"strace ended: {said!r}"
                said += got

    def wait_until_asleep(self, served: int) -> None:
        """Wait until it has answered that many times, and sleeps until it is kicked."""
        end = time.monotonic() + DEADLINE_S
        while True:
            lines = self._log.read_text().splitlines()
            answers = sum(line.startswith("statx(") for line in lines)
            if answers == served and lines[-1].startswith("poll(") and ", -1" in lines[-1]:
                return
            assert time.monotonic() < end, lines
            os.sched_yield()

    def end(self) -> None:
        """Detach."""
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=DEADLINE_S)
        self.lines = self._log.read_text().splitlines()
        self.calls = [line.partition("(")[0] for line in self.lines if "(" in line]

    def served(self) -> list[str]:
        """Return the calls that served requests."""
        return [call for call in self.calls if call not in WAITING]

    def signals(self) -> int:
        """Return how often the driver was signalled."""
        return self.calls.count("write")


Tracer = Callable[[Daemon, Session], AbstractContextManager[Trace]]


@pytest.fixture
def traced(tmp_path: Path) -> Tracer:
    """Trace the ring's thread for the length of a block."""

    @contextmanager
    def trace(daemon: Daemon, guest: Session) -> Iterator[Trace]:
        tracing = Trace(ring_thread(daemon, guest), tmp_path / "strace")
        try:
            yield tracing
        finally:
            tracing.end()

    return trace


@pytest.fixture
def old(start: Callable[..., Daemon]) -> Iterator[tuple[Daemon, Session]]:
    """Yield a daemon that shares old files, and its guest."""
    daemon = start("--readonly", share=OLD)
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        yield daemon, session


def held_by_handle(daemon: Daemon, guest: Session) -> None:
    """Skip where inodes cannot be held by their handles alone."""
    nodeid = guest.fuse.lookup(ROOT_ID, "file").nodeid
    held = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    (daemon.share / "another").write_bytes(b"")
    guest.fuse.lookup(ROOT_ID, "another")
    guest.fuse.forget(nodeid)
    if len(os.listdir(f"/proc/{daemon.pid}/fd")) != held:
        pytest.skip("no file handles that can be opened here")


@pytest.fixture
def young(daemon: Daemon, guest: Session) -> Session:
    """Return a guest that shares a file just made."""
    (daemon.share / "file").write_bytes(b"x" * 65536)
    held_by_handle(daemon, guest)
    return guest


def test_getattr_is_one_call(daemon: Daemon, young: Session, traced: Tracer) -> None:
    nodeid = young.fuse.lookup(ROOT_ID, "file").nodeid
    young.fuse.getattr(nodeid)
    with traced(daemon, young) as trace:
        for _ in range(TIMES):
            young.fuse.getattr(nodeid)
    assert trace.served() == ["statx"] * TIMES


def test_getattr_of_a_watched_inode_pins_nothing(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    nodeid = young.fuse.lookup(ROOT_ID, "file").nodeid
    young.fuse.getattr(nodeid)
    young.fuse.fsnotify(nodeid, IN_MODIFY)
    with traced(daemon, young) as trace:
        for _ in range(TIMES):
            young.fuse.getattr(nodeid)
    assert trace.served() == ["open_by_handle_at", "statx", "close"] * TIMES


def test_lookup_is_one_call(old: tuple[Daemon, Session], traced: Tracer) -> None:
    name = Path(__file__).name
    daemon, guest = old
    nodeid = guest.fuse.lookup(ROOT_ID, name).nodeid
    with traced(daemon, guest) as trace:
        for _ in range(TIMES):
            assert guest.fuse.lookup(ROOT_ID, name).nodeid == nodeid
    assert trace.served() == ["statx"] * TIMES


def test_lookup_of_a_young_inode_asks_for_its_handle(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    nodeid = young.fuse.lookup(ROOT_ID, "file").nodeid
    with traced(daemon, young) as trace:
        assert young.fuse.lookup(ROOT_ID, "file").nodeid == nodeid
    assert trace.served() == ["statx", "name_to_handle_at"]


def test_lookup_of_an_unknown_inode_opens_nothing(
    old: tuple[Daemon, Session], traced: Tracer
) -> None:
    daemon, guest = old
    with traced(daemon, guest) as trace:
        guest.fuse.lookup(ROOT_ID, Path(__file__).name)
    assert trace.served() == ["statx", "name_to_handle_at", "statx"]


def test_lookup_of_an_unknown_young_inode_opens_it(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    (daemon.share / "another one").write_bytes(b"")
    with traced(daemon, young) as trace:
        young.fuse.lookup(ROOT_ID, "another one")
    assert trace.served() == ["statx", "openat", "statx", "name_to_handle_at", "close"]


def test_readdirplus_is_one_call_an_entry(old: tuple[Daemon, Session], traced: Tracer) -> None:
    daemon, guest = old
    fh = guest.fuse.opendir(ROOT_ID).fh
    with traced(daemon, guest) as trace:
        unknown = len(guest.fuse.readdirplus(ROOT_ID, fh, size=65536)) - len(DOTS)
        guest.fuse.readdirplus(ROOT_ID, fh, size=65536)
    calls = trace.served()
    again = calls.index("lseek")
    first = ["getdents64", "statx", "name_to_handle_at", "statx"]
    assert calls[:again] == first + ["name_to_handle_at", "statx"] * (unknown - 1)
    assert calls[again:] == ["lseek", "getdents64"] + ["statx"] * unknown


def test_create_asks_for_attributes_and_handle(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    young.fuse.create(ROOT_ID, "the first makes room for others")
    with traced(daemon, young) as trace:
        entry, opened = young.fuse.create(ROOT_ID, "new")
        young.fuse.release(entry.nodeid, opened.fh)
    assert trace.served() == ["openat", "statx", "name_to_handle_at", "close"]


def test_unlink_is_one_call(daemon: Daemon, young: Session, traced: Tracer) -> None:
    young.fuse.mkdir(ROOT_ID, "d")
    young.fuse.getattr(young.fuse.lookup(ROOT_ID, "d").nodeid)
    for i in range(TIMES):
        (daemon.share / f"f{i}").write_bytes(b"")
    with traced(daemon, young) as trace:
        for i in range(TIMES):
            young.fuse.unlink(ROOT_ID, f"f{i}")
    assert trace.served() == ["unlinkat"] * TIMES


def test_unlink_looks_whether_a_descriptor_of_it_is_kept(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    """The host tells the end of a file when the last descriptor of it is closed."""
    (daemon.share / "other").write_bytes(b"")
    young.fuse.getattr(young.fuse.lookup(ROOT_ID, "file").nodeid)
    with traced(daemon, young) as trace:
        young.fuse.unlink(ROOT_ID, "other")
        young.fuse.unlink(ROOT_ID, "file")
    other, file = ["name_to_handle_at", "unlinkat"], ["name_to_handle_at", "close", "unlinkat"]
    assert trace.served() == other + file


def test_file_without_a_name_needs_a_descriptor(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    young.fuse.create(ROOT_ID, "the first makes room for others")
    with traced(daemon, young) as trace:
        young.fuse.tmpfile(ROOT_ID)
    calls = ["openat", "fstat", "statx", "openat", "statx", "name_to_handle_at"]
    assert trace.served() == calls


def test_read_and_write_are_one_call(daemon: Daemon, young: Session, traced: Tracer) -> None:
    nodeid = young.fuse.lookup(ROOT_ID, "file").nodeid
    fh = young.fuse.open(nodeid, os.O_RDWR).fh
    with traced(daemon, young) as trace:
        for i in range(TIMES):
            young.fuse.write(nodeid, fh, i * 4096, b"y" * 4096)
            young.fuse.read(nodeid, fh, i * 4096, 4096)
    assert trace.served() == ["pwrite64", "pread64"] * TIMES


def test_scattered_read_and_write_are_one_call(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    """Odd lengths, so that the buffers have gaps between them in memory."""
    fuse = young.fuse
    nodeid = fuse.lookup(ROOT_ID, "file").nodeid
    fh = fuse.open(nodeid, os.O_RDWR).fh
    pieces = [b"a" * 1001, b"b" * 33, b"c" * 4097]
    size = sum(map(len, pieces))

    def header(opcode: Opcode, body: bytes, more: int) -> bytes:
        total = wire.IN_HEADER.size + len(body) + more
        return wire.IN_HEADER.pack(total, opcode, 1, nodeid, 0, 0, 0, 0, 0) + body

    write = header(Opcode.WRITE, wire.WRITE_IN.pack(fh, 5, size, 0, 0, 0, 0), size)
    read = header(Opcode.READ, wire.READ_IN.pack(fh, 5, size, 0, 0, 0, 0), 0)
    with traced(daemon, young) as trace:
        fuse.wait_raw(
            fuse.submit_raw([write, *pieces], [wire.OUT_HEADER.size, wire.WRITE_OUT.size])
        )
        got = fuse.wait_raw(fuse.submit_raw([read], [wire.OUT_HEADER.size, *map(len, pieces)]))
    assert got[wire.OUT_HEADER.size :] == b"".join(pieces)
    assert trace.served() == ["pwritev2", "preadv"]


def test_append_goes_to_the_end_in_one_call(daemon: Daemon, young: Session, traced: Tracer) -> None:
    nodeid = young.fuse.lookup(ROOT_ID, "file").nodeid
    before = (daemon.share / "file").read_bytes()
    fh = young.fuse.open(nodeid, os.O_RDWR).fh
    body = wire.WRITE_IN.pack(fh, 0, 3, 0, 0, os.O_APPEND, 0) + b"end"
    with traced(daemon, young) as trace:
        young.fuse.request(Opcode.WRITE, nodeid, body)
    assert trace.served() == ["pwritev2"]
    assert (daemon.share / "file").read_bytes() == before + b"end"


def test_write_that_ends_privileges_changes_its_own_first(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    nodeid = young.fuse.lookup(ROOT_ID, "file").nodeid
    fh = young.fuse.open(nodeid, os.O_RDWR).fh
    with traced(daemon, young) as trace:
        young.fuse.write(nodeid, fh, 0, b"y", write_flags=WRITE_KILL_SUIDGID)
    assert trace.served() == ["capget", "capset", "pwrite64", "capget", "capset"]


def ask_and_sleep(guest: Session, count: int) -> None:
    """Make requests all at once; ask for one signal, for the first reply."""
    ring = guest.fuse.ring
    before = ring.memory.load16(ring.avail + 2)
    batch = [guest.fuse.submit(Opcode.GETATTR, ROOT_ID, GETATTR, kick=False) for _ in range(count)]
    ring.arm_call()
    ring.publish()
    ring.kick_if_needed()
    assert ring.wait_call()
    end = time.monotonic() + DEADLINE_S
    # When it asks for the next kick it is done with all of them.
    while ring.memory.load16(ring.used + 4 + 8 * ring.num) != (before + count) & 0xFFFF:
        assert time.monotonic() < end
        os.sched_yield()
    for pending in batch:
        guest.fuse.wait(pending).check()


def test_batch_has_one_signal(daemon: Daemon, guest: Session, traced: Tracer) -> None:
    with traced(daemon, guest) as trace:
        ask_and_sleep(guest, 16)
    assert trace.served() == ["statx"] * 16
    assert trace.signals() == 1


def test_requests_apart_have_a_signal_each(daemon: Daemon, guest: Session, traced: Tracer) -> None:
    with traced(daemon, guest) as trace:
        for _ in range(TIMES):
            ask_and_sleep(guest, 1)
    assert trace.served() == ["statx"] * TIMES
    assert trace.signals() == TIMES


def test_idle_daemon_keeps_nothing_and_sleeps(
    daemon: Daemon, young: Session, traced: Tracer
) -> None:
    nodeid = young.fuse.lookup(ROOT_ID, "file").nodeid
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    with traced(daemon, young) as trace:
        asked, end = 0, time.monotonic() + DEADLINE_S
        while len(os.listdir(f"/proc/{daemon.pid}/fd")) == before:
            assert time.monotonic() < end  # a second is not long on a busy machine
            young.fuse.getattr(nodeid)
            asked += 1
        trace.wait_until_asleep(asked)
    once = ["open_by_handle_at", "statx", "close"]
    assert trace.served() == once * asked
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) == before


def ask_without_kick(guest: Session) -> bool:
    """Make one request; return whether the device found it by itself."""
    pending = guest.fuse.submit(Opcode.GETATTR, ROOT_ID, GETATTR, kick=False)
    guest.fuse.ring.publish()
    kicked = guest.fuse.ring.kick_if_needed()
    guest.fuse.wait(pending).check()
    return not kicked


def test_polling_daemon_needs_no_kick(start: Callable[..., Daemon]) -> None:
    daemon = start("--poll-us=1000")
    end = time.monotonic() + DEADLINE_S
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        while not all(ask_without_kick(guest) for _ in range(50)):
            assert time.monotonic() < end, "it always sleeps at once"


def test_polling_ends(start: Callable[..., Daemon], traced: Tracer) -> None:
    daemon = start("--poll-us=1000")
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        with traced(daemon, guest) as trace:
            for _ in range(TIMES):
                guest.fuse.getattr(ROOT_ID)
            trace.wait_until_asleep(TIMES)
