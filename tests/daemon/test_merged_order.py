# SPDX-License-Identifier: BSD-3-Clause
"""What is made, changed and removed before the daemon reads of it arrives as a local watch sees it.

The daemon is stopped while the host acts, so that the host's queue holds all of it at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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
    Watched,
    until_sentinel,
)
from tests.daemon.running import FAULTY, Daemon
from tests.daemon.test_normalising import elsewhere
from tests.frontend import ROOT_ID, Session
from tests.frontend.notify import FS_ISDIR

KINDS = CREATE | DELETE | MOVED_FROM | MOVED_TO | ATTRIB | MODIFY | CLOSE_WRITE | FS_ISDIR
ROUNDS = 100


@pytest.fixture
def old_host(tmp_path: Path) -> Iterator[Watched]:
    """As `told`, on a host before Linux 5.17."""
    assert FAULTY.exists(), "make build-faults"
    launcher = ("env", "VFSD_FAULT_OLD_HOST=1")
    with (
        Daemon(tmp_path, launcher=launcher, command=str(FAULTY)) as daemon,
        Session.connect(daemon.socket) as guest,
    ):
        guest.fuse.init()
        yield Watched(daemon, guest, KINDS | ON_CHILD)


@pytest.fixture
def told(daemon: Daemon, guest: Session) -> Watched:
    """Watched for what changes things; not for visits."""
    return Watched(daemon, guest, KINDS | ON_CHILD)


def life(name: str) -> list[tuple[int, bytes]]:
    return [(bit | FS_ISDIR, os.fsencode(name)) for bit in (CREATE, ATTRIB, DELETE)]


def live(path: Path) -> None:
    path.mkdir()
    path.chmod(0o700)
    path.rmdir()


def test_life_of_a_directory(told: Watched) -> None:
    for number in range(ROUNDS):
        with told.daemon.stopped():
            live(told.path / f"s{number}")
        assert told.short() == life(f"s{number}")


def test_lives_of_directories_of_one_name(told: Watched) -> None:
    with told.daemon.stopped():
        for _ in range(ROUNDS):
            live(told.path / "s")
    assert told.short() == life("s") * ROUNDS


def test_lives_of_directories_one_after_the_other(told: Watched) -> None:
    with told.daemon.stopped():
        for number in range(ROUNDS):
            live(told.path / f"s{number % 7}")
    assert told.short() == [e for number in range(ROUNDS) for e in life(f"s{number % 7}")]


def test_lives_of_directories_at_the_same_time(told: Watched) -> None:
    """Each ATTRIB has the name of what it happened to, whatever order that was in."""
    a, b, c = (told.path / name for name in "abc")
    with told.daemon.stopped():
        for path in (a, b, c):
            path.mkdir()
        for path in (c, a):
            path.chmod(0o700)
        for path in (b, a, c):
            path.rmdir()
    seen = told.short()
    assert [e for e in seen if e[1] == b"a"] == life("a")
    assert [e for e in seen if e[1] == b"b"] == [life("b")[0], life("b")[2]]
    assert [e for e in seen if e[1] == b"c"] == life("c")


def test_life_of_a_directory_by_several_processes(told: Watched) -> None:
    path = told.path / "s"
    with told.daemon.stopped():
        path.mkdir()
        elsewhere("os.chmod(a[0], 0o700)", path)
        path.rmdir()
    assert told.short() == life("s")


def test_life_of_a_directory_that_is_renamed(told: Watched) -> None:
    old, new = told.path / "old", told.path / "new"
    with told.daemon.stopped():
        old.mkdir()
        old.chmod(0o700)
        old.rename(new)
        elsewhere("os.chmod(a[0], 0o750)", new)
        new.rmdir()
    assert [(mask & ~FS_ISDIR, name) for mask, name in told.short()] == [
        (CREATE, b"old"),
        (ATTRIB, b"old"),
        (MOVED_FROM, b"old"),
        (MOVED_TO, b"new"),
        (ATTRIB, b"new"),
        (DELETE, b"new"),
    ]


def test_end_of_a_directory_that_was_there(told: Watched) -> None:
    (told.path / "s").mkdir()
    told.events()
    with told.daemon.stopped():
        (told.path / "s").chmod(0o700)
        (told.path / "s").rmdir()
    assert told.short() == life("s")[1:]


def test_watched_for_changes_of_attributes_only(told: Watched) -> None:
    """The host has to say what the directory was called all the same."""
    told.guest.fuse.fsnotify(told.dir, ATTRIB | FS_ISDIR | ON_CHILD)
    with told.daemon.stopped():
        live(told.path / "s")
    told.guest.fuse.fsnotify(told.dir, KINDS | ON_CHILD)
    assert life("s")[1] in told.short()


def test_life_of_a_directory_in_one_that_nobody_watches(told: Watched) -> None:
    """It is not taken for one of the same name, or of the same time, in the watched one."""
    other = told.path.parent / "other"
    other.mkdir()
    nodeid = told.guest.fuse.lookup(ROOT_ID, "other").nodeid
    told.guest.fuse.fsnotify(nodeid, CREATE | DELETE | FS_ISDIR)
    with told.daemon.stopped():
        (told.path / "s").mkdir()
        (told.path / "s").rmdir()
        live(other / "s")
    told.guest.fuse.fsnotify(nodeid, 0)
    seen = [(r.nodeid, r.mask, r.name) for r in until_sentinel(told.guest, told.path, told.dir)]
    create, _, delete = life("s")
    assert seen == [(node, *e) for node in (told.dir, nodeid) for e in (create, delete)]


def test_life_of_a_file(told: Watched) -> None:
    for number in range(ROUNDS):
        path = told.path / f"n{number}"
        with told.daemon.stopped():
            path.write_bytes(b"x")
            path.unlink()
        assert [e for e in told.short() if e[0] != ATTRIB] == [
            (bit, os.fsencode(path.name)) for bit in (CREATE, MODIFY, CLOSE_WRITE, DELETE)
        ]


def test_lives_of_files_of_one_name(told: Watched) -> None:
    path = told.path / "n"
    with told.daemon.stopped():
        for _ in range(ROUNDS):
            path.write_bytes(b"x")
            path.unlink()
    bits = (CREATE, MODIFY, CLOSE_WRITE, DELETE)
    assert [e for e in told.short() if e[0] != ATTRIB] == [(bit, b"n") for bit in bits] * ROUNDS


def test_file_that_is_used_after_it_was_unlinked(told: Watched) -> None:
    """What was read before the file went is no evidence for what comes behind."""
    path = told.path / "n"
    with path.open("wb", buffering=0) as file:
        assert told.short() == [(CREATE, b"n")]
        path.unlink()
        assert [e for e in told.short() if e[0] != ATTRIB] == [(DELETE, b"n")]
        file.write(b"x")
    assert told.short() == [(MODIFY, b"n"), (CLOSE_WRITE, b"n")]


def test_atomic_replacement(told: Watched) -> None:
    """What an editor does."""
    path = told.path
    with told.daemon.stopped():
        for _ in range(3):
            with (path / "t").open("wb") as file:
                file.write(b"new")
            (path / "t").rename(path / "f")
    once = [
        (CREATE, b"t"),
        (MODIFY, b"t"),
        (CLOSE_WRITE, b"t"),
        (MOVED_FROM, b"t"),
        (MOVED_TO, b"f"),
    ]
    assert told.short() == once * 3


def test_without_what_a_name_was_of(old_host: Watched) -> None:
    """Nothing of a file is lost, and a name comes before it goes; nobody knows more."""
    path = old_host.path
    with old_host.daemon.stopped():
        (path / "n").write_bytes(b"x")
        (path / "n").unlink()
        live(path / "s")
    seen = old_host.short()
    assert {e for e in seen if e[1] == b"n"} == {
        (bit, b"n") for bit in (CREATE, MODIFY, CLOSE_WRITE, DELETE)
    }
    assert seen.index((CREATE, b"n")) < seen.index((DELETE, b"n"))
    assert [e for e in seen if e[1] == b"s"] == [life("s")[0], life("s")[2]]
