# SPDX-License-Identifier: BSD-3-Clause
"""The file by which an agent in the guest gets events, and guests that lie as the agent.

Whatever the agent's thread asks for, nothing is done on the host; whoever lies fools only itself.
"""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, InitFlag, Session
from tests.frontend.fuse import FuseClient
from tests.frontend.fuse_wire import Opcode
from tests.frontend.session import DEFAULT_FEATURES
from tests.frontend.vhost import F_FS_NOTIFICATION

FILE: Final = b".virtiofsd-agent"
ELSEWHERE: Final = b".virtiofsd-elsewhere"
NODE: Final = 0x1FFFFFFF0
MARK: Final = 32 << 20
MAGIC: Final = 0x47415646
HELLO, ACK, WATCH = 1, 2, 3
CREATE, DELETE, RENAME, MOVED_OUT, MOVED_IN, MODIFY, ATTRIB = range(1, 8)
ENDED, FORGOTTEN, LOSS = 13, 14, 15
ALL: Final = 0xFFF
STOCK: Final = DEFAULT_FEATURES & ~F_FS_NOTIFICATION
STRANGER: Final = 4711
"""A pid that is not the agent's."""

_BATCH = struct.Struct("=IHHIIQ")
_RECORD = struct.Struct("=IHHQQQQIIIIIHH")
_MESSAGE = struct.Struct("=IHHQQIIII")


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a batch."""

    kind: int
    sequence: int
    node: int
    child: int
    other: int
    mode: int
    cookie: int
    name: bytes
    other_name: bytes


def parse(batch: bytes) -> list[Record]:
    """Decode a batch strictly."""
    magic, version, count, size, padding, sequence = _BATCH.unpack_from(batch)
    assert (magic, version, size, padding) == (MAGIC, 1, len(batch), 0)
    at = _BATCH.size
    records = []
    for number in range(count):
        size, kind, _, seq, node, child, other, *_, mode, cookie, n1, n2 = _RECORD.unpack_from(
            batch, at
        )
        assert seq == sequence + number
        names = batch[at + _RECORD.size : at + _RECORD.size + n1 + n2]
        records.append(Record(kind, seq, node, child, other, mode, cookie, names[:n1], names[n1:]))
        at += size
    assert at == len(batch)
    return records


def message(
    kind: int, *, node: int = 0, sequence: int = 0, generation: int = 0, mask: int = 0, pid: int = 0
) -> bytes:
    return _MESSAGE.pack(MAGIC, 1, kind, node, sequence, generation, mask, pid, 0)


class Agent:
    """An agent as the daemon sees it, on the first request queue of a session."""

    def __init__(self, guest: Session, *, hello: bool = True) -> None:
        self.fuse = guest.fuse
        self.fh = self.fuse.open(NODE, os.O_RDWR).fh
        if hello:
            self.write(message(HELLO, pid=self.fuse.pid))

    def write(self, data: bytes) -> int:
        return self.fuse.write(NODE, self.fh, 0, data)

    def ack(self, record: Record) -> None:
        self.write(message(ACK, sequence=record.sequence))

    def watch(self, node: int, mask: int = ALL) -> None:
        self.write(message(WATCH, node=node, mask=mask))

    def read(self) -> list[Record]:
        """Return what is due; there is something."""
        return parse(self.fuse.read(NODE, self.fh, 0, 32768))

    def as_stranger(self) -> _Stranger:
        return _Stranger(self)


class _Stranger:
    """While it lasts, requests come from another thread."""

    def __init__(self, agent: Agent) -> None:
        self._fuse = agent.fuse
        self._pid = agent.fuse.pid

    def __enter__(self) -> None:
        self._fuse.pid = STRANGER

    def __exit__(self, *_: object) -> None:
        self._fuse.pid = self._pid


@pytest.fixture
def daemon(start: Callable[..., Daemon]) -> Daemon:
    return start("--guest-agent=on")


@pytest.fixture
def guest(daemon: Daemon) -> Iterator[Session]:
    with Session.connect(daemon.socket, features=STOCK) as session:
        session.fuse.init()
        yield session


def refused(call: Callable[[], object]) -> int:
    """Return the errno that `call` fails with."""
    with pytest.raises(FuseError) as failure:
        call()
    assert failure.value.errno is not None
    return failure.value.errno


def listing(share: Path) -> list[str]:
    return sorted(path.name for path in share.iterdir())


def test_the_file_is_in_no_listing(guest: Session, daemon: Daemon) -> None:
    (daemon.share / "f").touch()
    entry = guest.fuse.lookup(ROOT_ID, FILE)
    assert entry.attr.mode == 0o100600
    assert entry.attr.uid == 0
    names = {entry.name for entry in guest.fuse.listdir(ROOT_ID)}
    assert FILE not in names
    assert b"f" in names
    assert refused(lambda: guest.fuse.unlink(ROOT_ID, FILE)) == errno.ENOENT


def test_off_by_default(start: Callable[..., Daemon]) -> None:
    daemon = start()
    with Session.connect(daemon.socket, features=STOCK) as session:
        session.fuse.init()
        assert refused(lambda: session.fuse.lookup(ROOT_ID, FILE)) == errno.ENOENT
        assert refused(lambda: session.fuse.open(NODE, os.O_RDWR)) == errno.ESTALE


def test_not_for_a_guest_with_the_queue(start: Callable[..., Daemon]) -> None:
    daemon = start("--guest-agent=on")
    with Session.connect(daemon.socket) as session:
        session.fuse.init(InitFlag.INIT_EXT | InitFlag.HAS_FSNOTIFY)
        assert refused(lambda: session.fuse.open(NODE, os.O_RDWR)) == errno.EOPNOTSUPP


def test_one_session_at_a_time(guest: Session) -> None:
    agent = Agent(guest)
    for _ in range(1000):
        assert refused(lambda: guest.fuse.open(NODE, os.O_RDWR)) == errno.EBUSY
    guest.fuse.release(NODE, agent.fh)
    Agent(guest)


def test_only_what_is_watched_is_reported(guest: Session, daemon: Daemon) -> None:
    agent = Agent(guest)
    for name in ("watched", "other"):
        (daemon.share / name).mkdir()
    watched = guest.fuse.lookup(ROOT_ID, "watched").nodeid
    guest.fuse.lookup(ROOT_ID, "other")
    agent.watch(watched, 0x100)
    (daemon.share / "other" / "a").mkdir()
    (daemon.share / "watched" / "b").mkdir()
    (daemon.share / "watched" / "b").rmdir()
    (daemon.share / "watched" / "c").mkdir()
    seen: list[tuple[int, int, bytes]] = []
    while len(seen) < 2:
        seen += [(r.kind, r.node, r.name) for r in agent.read()]
    assert seen == [(CREATE, watched, b"b"), (CREATE, watched, b"c")]


def test_a_read_waits_for_what_happens(guest: Session, daemon: Daemon) -> None:
    agent = Agent(guest)
    agent.watch(ROOT_ID, 0x100)
    pending = guest.fuse.submit(
        Opcode.READ, NODE, struct.pack("=QQIIQII", agent.fh, 0, 32768, 0, 0, 0, 0)
    )
    (daemon.share / "f").mkdir()
    records = parse(guest.fuse.wait(pending).check())
    assert [(r.kind, r.name) for r in records] == [(CREATE, b"f")]


def test_a_read_that_waits_ends_with_the_session(guest: Session) -> None:
    agent = Agent(guest)
    pending = guest.fuse.submit(
        Opcode.READ, NODE, struct.pack("=QQIIQII", agent.fh, 0, 32768, 0, 0, 0, 0)
    )
    guest.fuse.release(NODE, agent.fh)
    assert guest.fuse.wait(pending).error == -errno.EIO
    Agent(guest)


def test_nothing_is_done_on_the_host(guest: Session, daemon: Daemon) -> None:
    """Every record of a file's life, done again by the book: the host has it once."""
    agent = Agent(guest)
    fuse = guest.fuse
    agent.watch(ROOT_ID, ALL)
    os.mknod(daemon.share / "f")
    [record] = agent.read()
    assert (record.kind, record.name) == (CREATE, b"f")
    assert fuse.getattr(ROOT_ID).attr.blksize == MARK
    assert refused(lambda: fuse.lookup(ROOT_ID, "f")) == errno.ENOENT
    entry = fuse.mknod(ROOT_ID, "f", 0o100600)
    assert entry.attr.ino == (daemon.share / "f").stat().st_ino
    assert refused(lambda: fuse.mknod(ROOT_ID, "f", 0o100600)) == errno.EPERM

    (daemon.share / "f").rename(daemon.share / "g")
    [record] = agent.read()
    assert (record.kind, record.name, record.other_name) == (RENAME, b"f", b"g")
    assert fuse.lookup(ROOT_ID, "f").nodeid == entry.nodeid
    assert refused(lambda: fuse.lookup(ROOT_ID, "g")) == errno.ENOENT
    fuse.rename2(ROOT_ID, "f", ROOT_ID, "g", 0)
    assert listing(daemon.share) == ["g"]

    (daemon.share / "g").unlink()
    deleted = [record for record in agent.read() if record.kind == DELETE]
    assert [record.name for record in deleted] == [b"g"]


def test_what_is_not_due_is_refused(guest: Session, daemon: Daemon) -> None:
    """Nothing is due: the agent's thread may look, and nothing else. Others do as they like."""
    agent = Agent(guest)
    fuse = guest.fuse
    (daemon.share / "f").write_bytes(b"data")
    (daemon.share / "d").mkdir()
    file = fuse.lookup(ROOT_ID, "f").nodeid
    before = (daemon.share / "f").stat()
    for change in (
        lambda: fuse.unlink(ROOT_ID, "f"),
        lambda: fuse.rmdir(ROOT_ID, "d"),
        lambda: fuse.mkdir(ROOT_ID, "new"),
        lambda: fuse.mknod(ROOT_ID, "new"),
        lambda: fuse.symlink(ROOT_ID, "new", "target"),
        lambda: fuse.link(file, ROOT_ID, "new"),
        lambda: fuse.rename(ROOT_ID, "f", ROOT_ID, "new"),
        lambda: fuse.rename2(ROOT_ID, "f", ROOT_ID, "d", 2),
        lambda: fuse.setattr(file, mode=0o600),
        lambda: fuse.setattr(file, size=0),
        lambda: fuse.create(ROOT_ID, "new"),
        lambda: fuse.open(file, os.O_RDWR),
        lambda: fuse.open(file, os.O_TRUNC),
        lambda: fuse.tmpfile(ROOT_ID),
        lambda: fuse.setxattr(file, "user.a", b"b"),
        lambda: fuse.removexattr(file, "user.a"),
    ):
        assert refused(change) == errno.EPERM
    assert listing(daemon.share) == ["d", "f"]
    assert (daemon.share / "f").stat() == before
    opened = fuse.open(file)
    assert fuse.read(file, opened.fh, 0, 10) == b"data"
    assert fuse.getattr(file).attr.blksize != MARK
    with agent.as_stranger():
        assert refused(lambda: fuse.lookup(ROOT_ID, ELSEWHERE)) == errno.ENOENT
        fuse.unlink(ROOT_ID, "f")
    assert listing(daemon.share) == ["d"]


def test_what_is_due_is_for_the_agent_alone(guest: Session, daemon: Daemon) -> None:
    agent = Agent(guest)
    agent.watch(ROOT_ID, 0x100)
    (daemon.share / "f").mkdir()
    [record] = agent.read()
    assert record.name == b"f"
    with agent.as_stranger():
        assert guest.fuse.lookup(ROOT_ID, "f").attr.ino == (daemon.share / "f").stat().st_ino
        assert guest.fuse.getattr(ROOT_ID).attr.blksize != MARK
        assert refused(lambda: guest.fuse.mkdir(ROOT_ID, "f")) == errno.EEXIST


def test_who_ends_without_a_word_leaves_nothing(guest: Session, daemon: Daemon) -> None:
    """A killed agent's descriptor is closed by its kernel; then its pid is anybody's."""
    agent = Agent(guest)
    agent.watch(ROOT_ID, ALL)
    (daemon.share / "f").mkdir()
    agent.read()
    guest.fuse.release(NODE, agent.fh)
    guest.fuse.rmdir(ROOT_ID, "f")
    assert listing(daemon.share) == []


def test_a_guest_that_begins_anew_has_no_agent(guest: Session, daemon: Daemon) -> None:
    agent = Agent(guest)
    guest.fuse.init()
    assert refused(lambda: agent.watch(ROOT_ID)) == errno.EBADF
    guest.fuse.mkdir(ROOT_ID, "d")
    assert listing(daemon.share) == ["d"]
    Agent(guest)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        message(HELLO)[:-1],
        message(HELLO) + b"\0",
        b"\0" * _MESSAGE.size,
        message(0),
        message(4),
        message(ACK, node=1),
        message(WATCH, node=1, sequence=1),
    ],
)
def test_what_is_no_message(guest: Session, data: bytes) -> None:
    agent = Agent(guest)
    assert refused(lambda: agent.write(data)) in (errno.EINVAL, errno.EBADMSG)


def test_messages_out_of_turn(guest: Session, daemon: Daemon) -> None:
    agent = Agent(guest, hello=False)
    assert refused(lambda: agent.watch(ROOT_ID)) == errno.EINVAL
    assert refused(agent.read) == errno.EINVAL
    guest.fuse.pid = 0
    assert refused(lambda: agent.write(message(HELLO, pid=5))) == errno.EPERM
    guest.fuse.pid = 5
    agent.write(message(HELLO, pid=77))  # what it says is not asked
    assert refused(lambda: guest.fuse.mkdir(ROOT_ID, "d")) == errno.EPERM
    assert refused(lambda: agent.write(message(HELLO, pid=5))) == errno.EINVAL
    assert refused(lambda: agent.write(message(ACK, sequence=1))) == errno.EINVAL
    assert refused(lambda: agent.watch(12345)) == errno.ESTALE
    assert (
        refused(lambda: agent.write(message(WATCH, node=1, generation=1, mask=1))) == errno.ESTALE
    )
    assert refused(lambda: guest.fuse.read(NODE, agent.fh, 0, 100)) == errno.EINVAL
    assert refused(lambda: guest.fuse.read(NODE, agent.fh + 1, 0, 32768)) == errno.EBADF
    agent.watch(ROOT_ID, 0x100)
    (daemon.share / "f").mkdir()
    (daemon.share / "g").mkdir()
    records = agent.read()
    if len(records) == 1:
        records = agent.read()
    assert refused(lambda: agent.ack(Record(0, 10**9, 0, 0, 0, 0, 0, b"", b""))) == errno.EINVAL
    for record in records:
        agent.ack(record)
    assert refused(lambda: agent.ack(records[-1])) == errno.EINVAL


def test_who_never_reads_loses_and_is_told(start: Callable[..., Daemon]) -> None:
    """The ring is all the memory that it costs."""
    daemon = start("--guest-agent=on", "--fsnotify-ring-kib=64")
    with Session.connect(daemon.socket, features=STOCK) as session:
        session.fuse.init()
        agent = Agent(session)
        agent.watch(ROOT_ID, 0x300)
        for number in range(2000):
            (daemon.share / f"n{number}").mkdir()
            (daemon.share / f"n{number}").rmdir()
        kinds: list[int] = []
        while LOSS not in kinds:
            kinds += [record.kind for record in agent.read()]
        assert set(kinds) == {CREATE, DELETE, LOSS}
        assert len(kinds) < 2000


def test_a_forgotten_node_has_to_be_watched_again(guest: Session, daemon: Daemon) -> None:
    agent = Agent(guest)
    (daemon.share / "d").mkdir()
    node = guest.fuse.lookup(ROOT_ID, "d").nodeid
    agent.watch(node, 0x100)
    guest.fuse.forget(node)
    assert [(r.kind, r.child) for r in agent.read()] == [(FORGOTTEN, node)]


def any_change(fuse: FuseClient, draw: random.Random, nodes: list[int], names: list[str]) -> None:
    """Ask for something; FuseError if it is refused."""
    node, other = draw.choice(nodes), draw.choice(nodes)
    name, new = draw.choice(names), draw.choice(names)
    calls: list[Callable[[], object]] = [
        lambda: fuse.unlink(node, name),
        lambda: fuse.rmdir(node, name),
        lambda: fuse.mkdir(node, name),
        lambda: fuse.rename2(node, name, other, new, 0),
        lambda: fuse.setattr(node, mode=0),
        lambda: fuse.setattr(node, size=0),
        lambda: fuse.open(node, os.O_RDWR | os.O_TRUNC),
        lambda: fuse.lookup(node, name),
        lambda: fuse.getattr(node),
        lambda: fuse.link(node, other, name),
    ]
    draw.choice(calls)()


def test_any_request_while_anything_is_due(guest: Session, daemon: Daemon) -> None:
    """Random requests of the agent's thread; the host has what the host did, and no more."""
    agent = Agent(guest)
    fuse = guest.fuse
    draw = random.Random(13)
    (daemon.share / "kept").mkdir()
    (daemon.share / "kept" / "file").write_bytes(b"data")
    kept = fuse.lookup(ROOT_ID, "kept").nodeid
    file = fuse.lookup(kept, "file").nodeid
    agent.watch(ROOT_ID, ALL)
    agent.watch(kept, ALL)
    away = fuse.lookup(ROOT_ID, ELSEWHERE).nodeid
    nodes = [ROOT_ID, kept, file, away, NODE, 0xFFFFFFFF_FFFFFFF2, 0]
    names = ["a", "b", "kept", "file", ".virtiofsd-elsewhere", ".virtiofsd-agent"]
    for number in range(200):
        (daemon.share / "a").mkdir()
        (daemon.share / "a").rename(daemon.share / "b")
        (daemon.share / "b").rmdir()
        (daemon.share / "kept" / "file").chmod(0o600 + number % 8)
        expected = (daemon.share / "kept" / "file").stat()
        for record in agent.read():
            for _ in range(8):
                with suppress(FuseError):
                    any_change(fuse, draw, nodes, names)
            agent.ack(record)
        assert listing(daemon.share) == ["kept"]
        assert listing(daemon.share / "kept") == ["file"]
        assert (daemon.share / "kept" / "file").stat() == expected
    assert (daemon.share / "kept" / "file").read_bytes() == b"data"


def test_what_the_guest_removed_itself_is_no_news(guest: Session, daemon: Daemon) -> None:
    agent = Agent(guest)
    for name in ("f", "d"):
        (daemon.share / name).mkdir()
    nodes = [guest.fuse.lookup(ROOT_ID, name).nodeid for name in ("f", "d")]
    for node in [ROOT_ID, *nodes]:
        agent.watch(node)
    with agent.as_stranger():
        guest.fuse.rmdir(ROOT_ID, "f")
    (daemon.share / "d").rmdir()
    seen: list[tuple[int, bytes | int]] = []
    while (DELETE, b"d") not in seen:
        seen += [(record.kind, record.name or record.child) for record in agent.read()]
    assert (ENDED, nodes[0]) not in seen
    assert (DELETE, b"f") not in seen


def test_the_daemon_ends_while_a_read_waits(guest: Session, daemon: Daemon) -> None:
    agent = Agent(guest)
    agent.watch(ROOT_ID)
    guest.fuse.submit(Opcode.READ, NODE, struct.pack("=QQIIQII", agent.fh, 0, 32768, 0, 0, 0, 0))
    guest.fuse.getattr(ROOT_ID)  # behind it, so that it waits by now
    assert daemon.terminate() == 0
