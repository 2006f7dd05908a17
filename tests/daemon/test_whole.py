# SPDX-License-Identifier: BSD-3-Clause
"""A subscription to the whole filesystem: all that the host does below the share, and nothing else.

The host's file system holds much more than the share. "Nothing more comes" is decided as in
`test_events`: by a sentinel behind it in the one line of events.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.daemon.events import (
    ATTRIB,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    MODIFY,
    MOVED_FROM,
    MOVED_TO,
    ON_CHILD,
    OPEN,
)
from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, InitFlag, Record, Session
from tests.frontend.fuse import DEFAULT_INIT_FLAGS
from tests.frontend.notify import FS_ISDIR, FS_Q_OVERFLOW, FSN_UNKNOWN_DIR

FSNOTIFY_SB = 1
MASK = ATTRIB | MODIFY | CREATE | DELETE | MOVED_FROM | MOVED_TO | FS_ISDIR
FLOOD = """
import os, sys
os.chdir(sys.argv[1])
for number in range(25_000):
    name = str(number)
    os.mknod(name)
    os.chmod(name, 0o600)
    os.rename(name, "moved")
    os.truncate("moved", 1)
    os.unlink("moved")
"""
PRIVILEGED = ("--sandbox=none", "--modcaps=+sys_admin:+dac_read_search")


class Whole:
    """A guest that has subscribed to the share as a whole, and the host around it."""

    def __init__(self, daemon: Daemon, guest: Session, mask: int = MASK) -> None:
        self.daemon = daemon
        self.guest = guest
        self.share = daemon.share
        self.outside = daemon.share.parent / "outside"
        self.outside.mkdir()
        guest.fuse.fsnotify(ROOT_ID, mask, FSNOTIFY_SB)

    def events(self) -> list[Record]:
        """Return all records up to now."""
        assert self.guest.notifications is not None
        (self.share / "sentinel").mkdir()
        (self.share / "sentinel").rmdir()
        records = self.guest.notifications.read_until(
            lambda r: (r.nodeid, r.mask, r.name) == (ROOT_ID, DELETE | FS_ISDIR, b"sentinel")
        )
        return [r for r in records if r.name != b"sentinel"]

    def wait_reported(self, mask: int, name: bytes) -> None:
        """Wait for the event, or for the overflow of the host's queue that may have lost it."""
        assert self.guest.notifications is not None
        self.guest.notifications.read_until(
            lambda r: r.mask == FS_Q_OVERFLOW or (r.mask, r.name) == (mask, name)
        )

    def short(self) -> list[tuple[int, bytes]]:
        return [(r.mask & ~FS_ISDIR, r.name) for r in self.events()]


@pytest.fixture
def privileged(start: Callable[..., Daemon]) -> Daemon:
    return start(*PRIVILEGED)


@pytest.fixture
def whole(privileged: Daemon) -> Iterator[Whole]:
    with Session.connect(privileged.socket) as guest:
        guest.fuse.init(DEFAULT_INIT_FLAGS | InitFlag.EXPORT_SUPPORT)
        yield Whole(privileged, guest)


def test_without_privilege_it_is_refused(guest: Session) -> None:
    with pytest.raises(FuseError, match="not permitted"):
        guest.fuse.fsnotify(ROOT_ID, MASK, FSNOTIFY_SB)
    guest.fuse.fsnotify(ROOT_ID, 0, FSNOTIFY_SB)


def test_directories_that_nobody_has_looked_up(whole: Whole) -> None:
    deep = whole.share / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"x")
    events = whole.events()
    assert [(r.mask, r.name) for r in events] == [
        (CREATE | FS_ISDIR, b"a"),
        (CREATE | FS_ISDIR, b"b"),
        (CREATE, b"f"),
        (MODIFY, b"f"),
    ]
    assert [r.flags for r in events] == [0, *[FSN_UNKNOWN_DIR] * 3]
    # What they are called by can be used, though never looked up.
    assert whole.guest.fuse.lookup(events[1].nodeid, "b").nodeid == events[2].nodeid
    (deep / "f").unlink()
    # Now it has been looked up.
    assert [(r.mask, r.name, r.flags) for r in whole.events()] == [(DELETE, b"f", 0)]


def test_outside_nothing_is_told(whole: Whole) -> None:
    (whole.outside / "d").mkdir()
    (whole.outside / "d" / "f").write_bytes(b"x")
    (whole.outside / "d").rename(whole.outside / "e")
    (whole.share / "in").write_bytes(b"")
    (whole.outside / "e" / "f").unlink()
    assert whole.short() == [(CREATE, b"in")]


def test_what_crosses_the_border(whole: Whole) -> None:
    daemon = whole.daemon
    with daemon.stopped():  # All of it is read after it has happened.
        (whole.outside / "d").mkdir()
        (whole.outside / "d" / "secret").write_bytes(b"x")
        (whole.outside / "d" / "secret").unlink()
        (whole.outside / "d" / "s").mkdir()
        (whole.outside / "d" / "s" / "too").write_bytes(b"x")
        (whole.outside / "d").rename(whole.share / "d")
        (whole.share / "d" / "s" / "public").write_bytes(b"")
        (whole.share / "d").rename(whole.outside / "d")
        (whole.outside / "d" / "s" / "again").write_bytes(b"x")
    assert whole.short() == [(MOVED_TO, b"d"), (CREATE, b"public"), (MOVED_FROM, b"d")]


def test_what_was_moved_below_something_that_had_left_for_a_while(whole: Whole) -> None:
    with whole.daemon.stopped():
        for name in ("stays", "leaves"):
            (whole.share / name).mkdir()
        (whole.share / "leaves").rename(whole.outside / "away")
        (whole.share / "stays" / "meanwhile").mkdir()
        (whole.outside / "away").rename(whole.share / "back")
        (whole.share / "stays").rename(whole.share / "back" / "below")
        (whole.share / "back" / "below" / "then").mkdir()
    assert [name for _, name in whole.short()] == [
        b"stays",
        b"leaves",
        b"leaves",
        b"meanwhile",
        b"back",
        b"stays",
        b"below",
        b"then",
    ]


def test_life_of_a_directory_that_nobody_has_seen(whole: Whole) -> None:
    """Its place is told by what it was called, inside, and not at all outside."""
    with whole.daemon.stopped():
        for place in (whole.share, whole.outside):
            (place / "s").mkdir()
            (place / "s").chmod(0o700)
            (place / "s").rmdir()
    assert whole.short() == [(CREATE, b"s"), (ATTRIB, b"s"), (DELETE, b"s")]


def test_the_guests_own_doing_is_not_told(whole: Whole) -> None:
    fuse = whole.guest.fuse
    made = fuse.mkdir(ROOT_ID, "d")
    fuse.create(made.nodeid, "f")
    fuse.rename(made.nodeid, "f", ROOT_ID, "g")
    fuse.unlink(ROOT_ID, "g")
    assert whole.short() == []


def test_beside_a_watch_each_is_told_once(whole: Whole) -> None:
    directory = whole.share / "d"
    directory.mkdir()
    whole.events()
    nodeid = whole.guest.fuse.lookup(ROOT_ID, "d").nodeid
    whole.guest.fuse.fsnotify(nodeid, CREATE | OPEN | CLOSE_WRITE | MODIFY | ON_CHILD)
    (directory / "f").write_bytes(b"x")
    assert whole.short() == [(CREATE, b"f"), (OPEN, b"f"), (MODIFY, b"f"), (CLOSE_WRITE, b"f")]
    whole.guest.fuse.fsnotify(nodeid, 0)
    (directory / "g").write_bytes(b"x")
    assert whole.short() == [(CREATE, b"g"), (MODIFY, b"g")]


def test_after_its_end_nothing_is_told(whole: Whole) -> None:
    whole.guest.fuse.fsnotify(ROOT_ID, 0, FSNOTIFY_SB)
    (whole.share / "d").mkdir()
    (whole.share / "d" / "f").write_bytes(b"x")
    whole.guest.fuse.fsnotify(ROOT_ID, MASK, FSNOTIFY_SB)
    assert whole.short() == []


def test_names_of_a_link_outside_are_not_told(whole: Whole) -> None:
    (whole.share / "f").write_bytes(b"")
    os.link(whole.share / "f", whole.outside / "secret")
    fuse = whole.guest.fuse
    node = fuse.lookup(ROOT_ID, "f").nodeid
    whole.events()
    (whole.outside / "secret").write_bytes(b"x")
    assert whole.short() == []
    fuse.fsnotify(node, MODIFY)
    (whole.outside / "secret").write_bytes(b"y")
    assert [(r.nodeid, r.name) for r in whole.events() if r.mask == MODIFY][:1] == [(node, b"")]


def test_a_directory_can_be_found_by_its_parent(whole: Whole) -> None:
    """A guest opens a handle by looking up "." and "..", up to the root and never beyond."""
    (whole.share / "a" / "b").mkdir(parents=True)
    (whole.share / "a" / "b" / "f").write_bytes(b"")
    inner = whole.events()[-1].nodeid
    fuse = whole.guest.fuse
    assert fuse.lookup(inner, ".").nodeid == inner
    parent = fuse.lookup(inner, "..").nodeid
    assert fuse.lookup(parent, "b").nodeid == inner
    assert fuse.lookup(parent, "..").nodeid == ROOT_ID
    assert fuse.lookup(ROOT_ID, "..").nodeid == ROOT_ID
    (whole.share / "a" / "b").rename(whole.outside / "b")
    with pytest.raises(FuseError):
        fuse.lookup(inner, "..")


def test_a_flood_outside_keeps_nobody_waiting(whole: Whole) -> None:
    """As many events as a host's queue may hold, and more, none of which is for the guest."""
    for name in ("f", "g"):
        (whole.outside / name).touch()
    fuse = whole.guest.fuse
    (whole.share / "d").mkdir()
    nodeid = fuse.lookup(ROOT_ID, "d").nodeid
    fuse.fsnotify(nodeid, CREATE | DELETE)
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, os.fspath(whole.outside)])
    try:
        while flood.poll() is None:
            (whole.share / "d" / "new").touch()
            whole.wait_reported(CREATE, b"new")
            (whole.share / "d" / "new").unlink()
            whole.wait_reported(DELETE, b"new")
            fuse.fsnotify(nodeid, CREATE | DELETE | ATTRIB)
            fuse.fsnotify(nodeid, CREATE | DELETE)
    finally:
        flood.kill()
        flood.wait()
    with whole.daemon.stopped():
        subprocess.run([sys.executable, "-c", FLOOD, os.fspath(whole.outside)], check=True)
    assert whole.daemon.terminate() == 0
