# SPDX-License-Identifier: BSD-3-Clause
"""The share's border, to a guest that watches all of the share: nothing comes across.

An event says where it happened by a node id, which the guest may not have known. Such an id is good
for what is inside, and while it is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.disks import exchange, mounted
from tests.daemon.events import CREATE, MODIFY
from tests.daemon.running import Daemon
from tests.daemon.test_whole import PRIVILEGED, Whole
from tests.frontend import ROOT_ID, FuseClient, FuseError, InitFlag, Session
from tests.frontend.fuse import DEFAULT_INIT_FLAGS
from tests.frontend.notify import FSN_UNKNOWN_DIR


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Whole]:
    """On a file system where nothing else happens: what is read at once is what was done here."""
    with (
        mounted(tmp_path, "-t", "tmpfs", "none"),
        Daemon(tmp_path, *PRIVILEGED) as daemon,
        Session.connect(daemon.socket) as guest,
    ):
        guest.fuse.init(DEFAULT_INIT_FLAGS | InitFlag.EXPORT_SUPPORT)
        yield Whole(daemon, guest)


Use = Callable[[FuseClient, int], object]
USES: dict[str, Use] = {
    "lookup": lambda fuse, nodeid: fuse.lookup(nodeid, "f"),
    "again": lambda fuse, nodeid: fuse.lookup(nodeid, "."),
    "parent": lambda fuse, nodeid: fuse.lookup(nodeid, ".."),
    "getattr": lambda fuse, nodeid: fuse.getattr(nodeid),
    "statx": lambda fuse, nodeid: fuse.statx(nodeid),
    "setattr": lambda fuse, nodeid: fuse.setattr(nodeid, mode=0o40700),
    "access": lambda fuse, nodeid: fuse.access(nodeid, os.R_OK),
    "opendir": lambda fuse, nodeid: fuse.opendir(nodeid),
    "create": lambda fuse, nodeid: fuse.create(nodeid, "planted"),
    "tmpfile": lambda fuse, nodeid: fuse.tmpfile(nodeid),
    "mkdir": lambda fuse, nodeid: fuse.mkdir(nodeid, "planted"),
    "mknod": lambda fuse, nodeid: fuse.mknod(nodeid, "planted"),
    "symlink": lambda fuse, nodeid: fuse.symlink(nodeid, "planted", "x"),
    "link": lambda fuse, nodeid: fuse.link(fuse.lookup(ROOT_ID, "own").nodeid, nodeid, "planted"),
    "unlink": lambda fuse, nodeid: fuse.unlink(nodeid, "f"),
    "rmdir": lambda fuse, nodeid: fuse.rmdir(nodeid, "sub"),
    "rename from": lambda fuse, nodeid: fuse.rename(nodeid, "f", ROOT_ID, "brought"),
    "rename to": lambda fuse, nodeid: fuse.rename(ROOT_ID, "own", nodeid, "planted"),
    "listxattr": lambda fuse, nodeid: fuse.listxattr(nodeid),
    "setxattr": lambda fuse, nodeid: fuse.setxattr(nodeid, "user.x", b"x"),
    "watch": lambda fuse, nodeid: fuse.fsnotify(nodeid, CREATE),
    "statfs": lambda fuse, nodeid: fuse.statfs(nodeid),
}


def tree(top: Path) -> list[tuple[str, int, bytes]]:
    """Return all that is there."""
    return sorted(
        (os.fspath(path), path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in (top, *top.rglob("*"))
    )


def id_by_event(whole: Whole, name: str) -> int:
    """Make a directory that the guest hears of, and does not look up; return its id."""
    directory = whole.share / name
    (directory / "sub").mkdir(parents=True)
    (directory / "f").write_bytes(b"secret")
    (record,) = [r for r in whole.events() if (r.mask, r.name) == (CREATE, b"f")]
    assert record.flags & FSN_UNKNOWN_DIR
    return record.nodeid


def is_stale(use: Callable[[], object]) -> bool:
    try:
        use()
    except FuseError as error:
        if error.errno not in (errno.ESTALE, errno.ENOSYS):
            raise
        return error.errno == errno.ESTALE
    return False


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_an_id_by_an_event_ends_at_the_border(whole: Whole, use: Use) -> None:
    fuse = whole.guest.fuse
    (whole.share / "own").touch()
    stays, leaves = id_by_event(whole, "stays"), id_by_event(whole, "leaves")
    (whole.share / "leaves").rename(whole.outside / "leaves")
    before = tree(whole.outside)
    assert is_stale(lambda: use(fuse, leaves))
    assert tree(whole.outside) == before
    assert not is_stale(lambda: use(fuse, stays))
    # Void for good, wherever the directory goes.
    (whole.outside / "leaves").rename(whole.share / "back")
    assert is_stale(lambda: fuse.getattr(leaves))
    assert fuse.lookup(fuse.lookup(ROOT_ID, "back").nodeid, "sub")


def test_it_is_looked_at_each_time(whole: Whole) -> None:
    """Unless the guest has looked up the directory itself, and as long as it has."""
    fuse = whole.guest.fuse
    leaves, held = id_by_event(whole, "leaves"), id_by_event(whole, "held")
    for nodeid in (leaves, held):
        fuse.getattr(nodeid)
        assert fuse.lookup(nodeid, ".").nodeid == nodeid
    fuse.forget(leaves)
    for name in ("leaves", "held"):
        (whole.share / name).rename(whole.outside / name)
    assert is_stale(lambda: fuse.getattr(leaves))
    assert not is_stale(lambda: fuse.getattr(held))
    fuse.forget(held)
    assert is_stale(lambda: fuse.getattr(held))


def test_a_watch_by_such_an_id_ends_there_too(whole: Whole) -> None:
    fuse = whole.guest.fuse
    leaves, held = id_by_event(whole, "leaves"), id_by_event(whole, "held")
    assert fuse.lookup(held, ".").nodeid == held
    for nodeid in (leaves, held):
        fuse.fsnotify(nodeid, CREATE)
    for name in ("leaves", "held"):
        (whole.share / name / "in").touch()
    assert [(r.nodeid, r.name) for r in whole.events()] == [(leaves, b"in"), (held, b"in")]
    for name in ("leaves", "held"):
        (whole.share / name).rename(whole.outside / name)
        (whole.outside / name / "outside").touch()
    told = [(r.nodeid, r.name) for r in whole.events() if r.mask & CREATE]
    assert told == [(held, b"outside")]


def test_what_has_left_when_it_is_told_gets_no_id(whole: Whole) -> None:
    fuse = whole.guest.fuse
    with whole.daemon.stopped():
        (whole.share / "d" / "s").mkdir(parents=True)
        (whole.share / "d" / "s" / "public").touch()
        (whole.share / "stays" / "s").mkdir(parents=True)
        (whole.share / "stays" / "s" / "kept").touch()
        (whole.share / "d").rename(whole.outside / "d")
        (whole.outside / "d" / "s" / "secret").touch()
    told = {r.name: r for r in whole.events()}
    assert b"secret" not in told
    assert told[b"s"].nodeid
    assert told[b"kept"].nodeid
    assert [told[b"public"].nodeid, told[b"public"].flags] == [0, FSN_UNKNOWN_DIR]
    before = tree(whole.outside)
    first = told[b"kept"].nodeid
    # Nor is one to be guessed: node ids are an index and a generation.
    for index in range(1, (first & 0xFFFFFFFF) + 8):
        for generation in range(max(0, (first >> 32) - 8), (first >> 32) + 8):
            nodeid = generation << 32 | index
            try:
                entry = fuse.lookup(nodeid, ".")
            except FuseError:
                continue
            path = {e.name for e in fuse.listdir(entry.nodeid)}
            assert not path & {b"secret", b"public"}
    assert tree(whole.outside) == before


def test_what_comes_back_gets_one_then(whole: Whole) -> None:
    with whole.daemon.stopped():
        (whole.share / "d").mkdir()
        (whole.share / "d" / "one").touch()
        (whole.share / "d").rename(whole.outside / "d")
    assert {r.nodeid for r in whole.events()} == {ROOT_ID, 0}
    (whole.outside / "d").rename(whole.share / "d")
    (whole.share / "d" / "two").touch()
    told = whole.events()[-1]
    assert told.name == b"two"
    assert whole.guest.fuse.lookup(told.nodeid, "one")


def test_what_leaves_further_on_in_the_queue(whole: Whole) -> None:
    """Behind what is read at once, but looked at for the sake of a name that came and went."""
    (whole.share / "d").mkdir()
    (whole.share / "d" / "before").touch()
    (whole.outside / "before").touch()
    whole.events()
    with whole.daemon.stopped():
        (whole.share / "d" / "early").touch()
        (whole.share / "back and forth").touch()
        (whole.share / "back and forth").unlink()
        for i in range(900):  # of some 56 bytes each
            (whole.share / f"{i}").touch()
        (whole.share / "d").rename(whole.outside / "d")
        (whole.outside / "d" / "secret").touch()
    names = [r.name for r in whole.events()]
    assert b"early" in names
    assert b"secret" not in names


def test_what_was_exchanged_across_the_border(whole: Whole) -> None:
    """Reported by the host as two renames, as if one directory had gone there and back."""
    (whole.share / "in").mkdir()
    (whole.outside / "out").mkdir()
    whole.events()
    with whole.daemon.stopped():
        (whole.outside / "out" / "secret").touch()
        exchange(whole.share / "in", whole.outside / "out")
        (whole.outside / "out" / "secret2").touch()
        (whole.share / "in" / "public").touch()
        (whole.outside / "out").rename(whole.outside / "elsewhere")
    names = [r.name for r in whole.events()]
    assert not [name for name in names if name.startswith(b"secret")]
    (whole.share / "in" / "then").touch()
    assert [r.name for r in whole.events()] == [b"then"]


def test_what_was_removed_but_is_open_somewhere(whole: Whole) -> None:
    """Its last place is not the one that it had before."""
    (whole.share / "d").mkdir()
    (whole.share / "d" / "public").touch()
    assert [r.name for r in whole.events()] == [b"d", b"public"]
    held = os.open(whole.share / "d", os.O_PATH)
    try:
        with whole.daemon.stopped():
            (whole.share / "d").rename(whole.outside / "d")
            (whole.outside / "d" / "secret").touch()
            (whole.outside / "d" / "secret").unlink()
            (whole.outside / "d" / "public").unlink()
            (whole.outside / "d").rename(whole.share / "e")
            (whole.share / "e").rmdir()
        names = [r.name for r in whole.events()]
    finally:
        os.close(held)
    assert b"e" in names
    assert b"secret" not in names


def test_what_was_between_directories_that_are_gone(whole: Whole) -> None:
    """A rename from and to what cannot be found any more may have crossed the border."""
    for top in (whole.share, whole.outside):
        (top / "gone").mkdir()
    (whole.share / "gone" / "d").mkdir()
    (whole.share / "gone" / "d" / "public").touch()
    whole.events()
    with whole.daemon.stopped():
        (whole.share / "gone" / "d").rename(whole.outside / "gone" / "d")
        (whole.outside / "gone" / "d" / "secret").touch()
        (whole.outside / "gone" / "d" / "secret").unlink()
        (whole.outside / "gone" / "d").rename(whole.share / "d")
        for top in (whole.share, whole.outside):
            (top / "gone").rmdir()
    assert b"secret" not in [r.name for r in whole.events()]


def test_what_a_directory_is_called_outside(whole: Whole) -> None:
    """In another one that the guest knows, and that has left before."""
    fuse = whole.guest.fuse
    for name in ("a", "b"):
        (whole.share / name).mkdir()
        fuse.lookup(ROOT_ID, name)
    whole.events()
    with whole.daemon.stopped():
        (whole.share / "a").chmod(0o700)
        (whole.share / "b").rename(whole.outside / "b")
        (whole.share / "a").rename(whole.outside / "b" / "secret")
    told = whole.events()
    assert not [r for r in told if r.name == b"secret"]


def test_files_that_nobody_has_looked_up(whole: Whole) -> None:
    """What is written to them is told by name, in directories known or not."""
    (whole.share / "f").touch()
    (whole.share / "d").mkdir()
    (whole.share / "d" / "g").touch()
    whole.events()
    for path in (whole.share / "f", whole.share / "d" / "g", whole.outside / "secret"):
        with path.open("ab") as file:
            file.write(b"more")
    known, unknown = whole.events()
    assert (known.nodeid, known.child, known.mask, known.name) == (ROOT_ID, 0, MODIFY, b"f")
    assert (unknown.child, unknown.mask, unknown.name) == (0, MODIFY, b"g")
    assert unknown.flags & FSN_UNKNOWN_DIR
    assert whole.guest.fuse.lookup(unknown.nodeid, "g")
