# SPDX-License-Identifier: BSD-3-Clause
"""The barrier: a reply that ends something comes after every event older than it.

Each round changes something on the host and at once has the guest remove it. What the host did must
be in the notification ring when the reply is there, in order and once. The faulty build delays host
events, so that the barrier alone can bring them in time, and can leave the barrier out: the same
rounds must then fail.

RACE_ROUNDS sets how many rounds each kind gets.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.events import (
    ALL,
    ATTRIB,
    CREATE,
    DELETE,
    MODIFY,
    MOVED_FROM,
    MOVED_TO,
    until_sentinel,
)
from tests.daemon.running import COMMAND, DELAYED, DELAYED_WITHOUT_BARRIER, FAULTY, Daemon
from tests.frontend import ROOT_ID, FuseError, Record, Session

ROUNDS = int(os.environ.get("RACE_ROUNDS", "500"))
DIRENT = CREATE | DELETE | MOVED_FROM | MOVED_TO

Key = tuple[int, int, bytes]
"""Object (the directory for CREATE, DELETE and MOVED), one bit of the mask, name."""


def key_of(record: Record) -> Key:
    if record.mask & DIRENT:
        return record.nodeid, record.mask & DIRENT, record.name
    return record.child or record.nodeid, record.mask, b""


class Arena:
    """A watched directory, and the guest and the host that race in it."""

    def __init__(self, daemon: Daemon, guest: Session) -> None:
        self.path = daemon.share / "arena"
        self.path.mkdir()
        self.guest = guest
        self.fuse = guest.fuse
        self.dir = self.fuse.lookup(ROOT_ID, "arena").nodeid
        self.fuse.fsnotify(self.dir, DIRENT)

    def host_file(self, name: str) -> int:
        """A file made by the host, watched by the guest. Returns its node id."""
        os.mknod(self.path / name)
        nodeid = self.fuse.lookup(self.dir, name).nodeid
        self.fuse.fsnotify(nodeid, ALL)
        return nodeid

    def host_touch(self, name: str) -> None:
        """MODIFY and ATTRIB, nothing else."""
        os.truncate(self.path / name, 1)
        (self.path / name).chmod(0o600)


@dataclass(frozen=True)
class Round:
    """What one round left: what the ring must hold by now, and what the guest forgets."""

    expected: list[Key]
    forget: list[int]


def unlink_after_touch(arena: Arena, name: str) -> Round:
    nodeid = arena.host_file(name)
    arena.host_touch(name)
    arena.fuse.unlink(arena.dir, name)
    return Round([(nodeid, MODIFY, b""), (nodeid, ATTRIB, b"")], [nodeid])


def rename_over_after_touch(arena: Arena, name: str) -> Round:
    nodeid = arena.host_file(name)
    mover = arena.fuse.mknod(arena.dir, "mover").nodeid
    arena.host_touch(name)
    arena.fuse.rename(arena.dir, "mover", arena.dir, name)
    (arena.path / name).unlink()
    arena.fuse.fsnotify(ROOT_ID, 0)  # another reply with a barrier
    expected = [(nodeid, MODIFY, b""), (nodeid, ATTRIB, b""), (arena.dir, DELETE, name.encode())]
    return Round(expected, [nodeid, mover])


def rmdir_after_emptying(arena: Arena, name: str) -> Round:
    """`rm -rf`, half of it by each."""
    (arena.path / name).mkdir()
    directory = arena.fuse.lookup(arena.dir, name).nodeid
    arena.fuse.fsnotify(directory, DIRENT)
    os.mknod(arena.path / name / "f")
    nodeid = arena.fuse.lookup(directory, "f").nodeid
    arena.fuse.fsnotify(nodeid, ALL)
    (arena.path / name / "f").unlink()
    arena.fuse.rmdir(arena.dir, name)
    return Round(
        [(directory, CREATE, b"f"), (nodeid, ATTRIB, b""), (directory, DELETE, b"f")],
        [nodeid, directory],
    )


def both_unlink(arena: Arena, name: str) -> Round:
    """The guest comes second and learns why."""
    nodeid = arena.host_file(name)
    (arena.path / name).unlink()
    with pytest.raises(FuseError) as refused:
        arena.fuse.unlink(arena.dir, name)
    assert refused.value.errno == errno.ENOENT
    return Round([(nodeid, ATTRIB, b""), (arena.dir, DELETE, name.encode())], [nodeid])


def unlink_while_the_host_holds_it(arena: Arena, name: str) -> Round:
    nodeid = arena.host_file(name)
    descriptor = os.open(arena.path / name, os.O_WRONLY)
    try:
        os.write(descriptor, b"x")
        arena.fuse.unlink(arena.dir, name)
    finally:
        os.close(descriptor)
    return Round([(nodeid, MODIFY, b"")], [nodeid])


def host_unlink_while_the_guest_holds_it(arena: Arena, name: str) -> Round:
    nodeid = arena.host_file(name)
    opened = arena.fuse.open(nodeid, os.O_RDWR)
    (arena.path / name).unlink()
    arena.fuse.fsnotify(nodeid, MODIFY)
    arena.fuse.release(nodeid, opened.fh, os.O_RDWR)
    return Round([(nodeid, ATTRIB, b""), (arena.dir, DELETE, name.encode())], [nodeid])


def watch_after_create(arena: Arena, name: str) -> Round:
    """What is older than a watch is told before the watch stands."""
    nodeid = arena.host_file(name)
    (arena.path / name).unlink()
    arena.fuse.fsnotify(nodeid, 0)
    return Round([(arena.dir, CREATE, name.encode()), (arena.dir, DELETE, name.encode())], [nodeid])


EACH_KIND = pytest.mark.parametrize(
    "kind",
    [
        unlink_after_touch,
        rename_over_after_touch,
        rmdir_after_emptying,
        both_unlink,
        unlink_while_the_host_holds_it,
        host_unlink_while_the_guest_holds_it,
        watch_after_create,
    ],
    ids=lambda kind: kind.__name__,
)


@dataclass
class Tally:
    """What went wrong in some rounds."""

    late: int = 0
    lost: int = 0
    doubled: int = 0


def race(arena: Arena, kind: Callable[[Arena, str], Round], rounds: int) -> Tally:
    """Race; look at the ring when the last reply of each round is there, and at the end."""
    assert arena.guest.notifications is not None
    expected: Counter[Key] = Counter()
    told: Counter[Key] = Counter()
    tally = Tally()
    for number in range(rounds):
        result = kind(arena, f"r{number}")
        in_time = Counter(map(key_of, arena.guest.notifications.read_now()))
        # Events of this round that an earlier reply brought were read with it: `told` has all.
        told += in_time
        tally.late += sum((Counter(result.expected) - told).values())
        expected.update(result.expected)
        for nodeid in result.forget:
            arena.fuse.forget(nodeid)
    told.update(map(key_of, until_sentinel(arena.guest, arena.path, arena.dir)))
    tally.lost = sum((expected - told).values())
    tally.doubled = sum(told[key] - count for key, count in expected.items() if told[key] > count)
    return tally


@contextmanager
def arena_of(
    directory: Path, environment: tuple[str, ...] = (), command: str = COMMAND
) -> Iterator[Arena]:
    """The arena of a daemon of its own."""
    with (
        Daemon(directory, launcher=("env", *environment), command=command) as daemon,
        Session.connect(daemon.socket, notify_buffers=64) as guest,
    ):
        guest.fuse.init()
        yield Arena(daemon, guest)


@contextmanager
def faulty_arena(directory: Path, faults: tuple[str, ...]) -> Iterator[Arena]:
    assert FAULTY.exists(), "make build-faults"
    with arena_of(directory, faults, str(FAULTY)) as arena:
        yield arena


@EACH_KIND
def test_the_reply_comes_after_the_events(
    tmp_path: Path, kind: Callable[[Arena, str], Round]
) -> None:
    with arena_of(tmp_path) as arena:
        assert race(arena, kind, ROUNDS) == Tally()


@EACH_KIND
def test_also_when_events_are_delayed(tmp_path: Path, kind: Callable[[Arena, str], Round]) -> None:
    with faulty_arena(tmp_path, DELAYED) as arena:
        assert race(arena, kind, ROUNDS) == Tally()


@EACH_KIND
def test_without_the_barrier_it_does_not(
    tmp_path: Path, kind: Callable[[Arena, str], Round]
) -> None:
    with faulty_arena(tmp_path, DELAYED_WITHOUT_BARRIER) as arena:
        tally = race(arena, kind, ROUNDS)
        assert tally.late > ROUNDS // 2


def test_an_ordinary_build_knows_no_faults(tmp_path: Path) -> None:
    with arena_of(tmp_path, DELAYED_WITHOUT_BARRIER) as arena:
        assert race(arena, unlink_after_touch, 20) == Tally()
