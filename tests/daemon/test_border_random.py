# SPDX-License-Identifier: BSD-3-Clause
"""The share's border under random trees: whatever the host moves, nothing of the outside comes in.

Every name outside carries a mark, every file outside a secret. A guest that watches all of the
share, and what is mounted in it, uses each node id that events have given it, however long ago.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.daemon.disks import disk, exchange, mounted, unmount
from tests.daemon.events import ATTRIB, CREATE, DELETE, MODIFY, MOVED_FROM, MOVED_TO
from tests.daemon.running import Daemon
from tests.daemon.test_whole import FSNOTIFY_SB, PRIVILEGED
from tests.frontend import ROOT_ID, FuseError, InitFlag, Record, Session
from tests.frontend.fuse import DEFAULT_INIT_FLAGS
from tests.frontend.notify import FS_ISDIR, FS_Q_OVERFLOW

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")

MASK = ATTRIB | CREATE | DELETE | MODIFY | MOVED_FROM | MOVED_TO | FS_ISDIR
MARK, SECRET = "OUT", b"SECRET"
STEPS_MAX, DIRECTORIES_MAX, IDS_AT_ONCE = 12, 50, 24
INODES_SPARE = 250  # for what is done until it is looked at again


class Host:
    """The host's tree on both sides, and what is done there.

    Attributes:
        inside: directories of the share, itself the first.
        outside: all others, their top the first.
        bound: `lent`, a directory outside, is mounted in the share.
        reused: how often a directory outside got the inode number of one that had been inside.
    """

    def __init__(self, top: Path, random: Random) -> None:
        self.random = random
        self.inside, self.outside = [top / "share"], [top / "outside"]
        for path in (*self.inside, *self.outside):
            path.mkdir()
        self.lent, self.mount_point = top / "outside" / f"{MARK}lent", top / "share" / "m"
        for path in (self.lent, self.mount_point):
            path.mkdir()
        self.bound = False
        self.reused = 0
        self._numbers: set[int] = set()
        self._count = 0

    def name(self, outside: bool) -> str:
        self._count += 1
        return f"{MARK if outside else 'n'}{self._count}"

    def pick(self, outside: bool) -> Path:
        return self.random.choice(self.outside if outside else self.inside)

    def fill(self, directory: Path, outside: bool) -> None:
        (directory / self.name(outside)).write_bytes(SECRET if outside else b"public")

    def make(self, outside: bool) -> None:
        path = self.pick(outside) / self.name(outside)
        path.mkdir()
        number = path.stat().st_ino
        if outside:
            self.reused += number in self._numbers
        else:
            self._numbers.add(number)
        self.fill(path, outside)
        (self.outside if outside else self.inside).append(path)

    def write(self, outside: bool) -> None:
        directory = self.pick(outside)
        files = [path for path in directory.iterdir() if path.is_file()]
        if not files:
            self.fill(directory, outside)
            return
        file = self.random.choice(files)
        with file.open("ab") as stream:
            stream.write(SECRET if outside else b"public")
        file.chmod(self.random.choice([0o600, 0o644]))

    def link(self) -> None:
        """A name outside for a file inside, for a moment."""
        files = [path for path in self.pick(False).iterdir() if path.is_file()]
        if files:
            other = self.pick(True) / self.name(True)
            other.hardlink_to(self.random.choice(files))
            other.chmod(0o640)
            other.unlink()

    def rename_all(self, top: Path, outside: bool) -> None:
        """Give all that is in a directory outside names, and files a content, for either side."""
        for base, directories, files in os.walk(top, topdown=False):
            for name in files:
                (Path(base) / name).write_bytes(SECRET if outside else b"public")
            for name in (*directories, *files):
                (Path(base) / name).rename(Path(base) / self.name(outside))

    def cross(self, leave: bool) -> None:
        """Move a directory across the border."""
        here, there = (self.inside, self.outside) if leave else (self.outside, self.inside)
        if len(here) < 2:
            return
        old = self.random.choice(here[1:])
        if not leave:
            self.rename_all(old, False)
        new = self.random.choice(there) / self.name(leave)
        old.rename(new)
        if leave:
            self.fill(new, True)
            self.rename_all(new, True)
        here[:] = [path for path in here if path != old and old not in path.parents]
        there += [new, *(path for path in new.rglob("*") if path.is_dir())]
        self._numbers.update(path.stat().st_ino for path in self.inside)

    def exchange(self) -> None:
        """Have two directories change places across the border."""
        if len(self.inside) < 2 or len(self.outside) < 2:
            return
        mine, theirs = (self.random.choice(side[1:]) for side in (self.inside, self.outside))
        self.rename_all(theirs, False)
        exchange(mine, theirs)
        self.fill(theirs, True)
        self.rename_all(theirs, True)
        for side, top in ((self.inside, mine), (self.outside, theirs)):
            side[:] = [path for path in side if top not in path.parents]
            side += [path for path in top.rglob("*") if path.is_dir()]

    def move(self) -> None:
        """Move a directory where it stays on its side."""
        outside = self.random.random() < 0.4
        side = self.outside if outside else self.inside
        if len(side) < 3:
            return
        old = self.random.choice(side[1:])
        others = [path for path in side if path != old and old not in path.parents]
        new = self.random.choice(others) / self.name(outside)
        old.rename(new)
        side[:] = [*others, new, *(path for path in new.rglob("*") if path.is_dir())]

    def remove(self, outside: bool) -> None:
        """Remove a directory, and have its number used again, on the other side as well."""
        side = self.outside if outside else self.inside
        if len(side) < 2:
            return
        path = self.random.choice(side[1:])
        shutil.rmtree(path)
        side[:] = [p for p in side if p != path and path not in p.parents]
        for _ in range(self.random.randrange(4)):
            self.make(self.random.random() < 0.8)

    def unbind(self) -> None:
        """Unmount what is mounted in the share: from now on it is outside."""
        if self.bound:
            unmount(self.mount_point)
            self.bound = False
            self.fill(self.lent, True)
            self.rename_all(self.lent, True)

    def write_bound(self) -> None:
        if self.bound:
            path = self.lent / self.name(False)
            path.mkdir()
            self.fill(path, False)

    def act(self) -> None:
        """Do something."""
        full = (
            len(self.inside) + len(self.outside) > DIRECTORIES_MAX
            or os.statvfs(self.lent).f_favail < INODES_SPARE
        )
        side = self.random.random() < 0.5
        acts: list[Callable[[], None]] = [
            *[lambda: self.make(side)] * (0 if full else 4),
            *[lambda: self.remove(side)] * (8 if full else 2),
            *[lambda: self.cross(side)] * 4,
            *[lambda: self.write(side)] * 3,
            *[self.move] * 2,
            self.exchange,
            self.link,
            self.unbind,
            self.write_bound,
        ]
        self.random.choice(acts)()

    def outsides(self) -> list[tuple[str, int, bytes]]:
        """Return all that is outside, and not mounted in the share."""
        return sorted(
            (os.fspath(path), path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in self.outside[0].rglob("*")
            if not self.bound or self.lent not in (path, *path.parents)
        )


class Guest:
    """Watches all of the share, and does what it can with each id that it hears of.

    Attributes:
        ids: by events, in the order in which they came.
        held: what it has looked up and not forgotten: that may go anywhere and remains its own.
        used, refused: how often one was good for something, or was not.
    """

    def __init__(self, session: Session, random: Random) -> None:
        self.session, self.random = session, random
        self.fuse = session.fuse
        self.ids: dict[int, None] = {}
        self.held = {0, ROOT_ID}
        self.used = self.refused = 0
        self._count = 0

    def hear(self, share: Path) -> None:
        """Read all records up to now. Where some were lost the last may be among them."""
        assert self.session.notifications is not None
        lost = True
        while lost:
            self._count += 1
            last = (DELETE | FS_ISDIR, b"sentinel%d" % self._count)
            (share / os.fsdecode(last[1])).mkdir()
            (share / os.fsdecode(last[1])).rmdir()
            records = self.session.notifications.read_until(
                partial(lambda last, r: r.mask & FS_Q_OVERFLOW or (r.mask, r.name) == last, last)
            )
            for record in records:
                self.take(record)
            lost = last not in [(r.mask, r.name) for r in records]

    def take(self, record: Record) -> None:
        assert MARK.encode() not in record.name, record
        for nodeid in (record.nodeid, record.child):
            if nodeid not in self.held:
                self.ids.pop(nodeid, None)
                self.ids[nodeid] = None

    def hold(self, path: Path) -> None:
        """Look up a directory by its path in the share, all the way."""
        nodeid = ROOT_ID
        for name in path.parts:
            nodeid = self.fuse.lookup(nodeid, name).nodeid
            self.held.add(nodeid)
            self.ids.pop(nodeid, None)

    def use_ids(self) -> None:
        """Use the latest ones, and some of those before."""
        known = list(self.ids)
        older, latest = known[:-IDS_AT_ONCE], known[-IDS_AT_ONCE:]
        for nodeid in (*self.random.sample(older, min(len(older), IDS_AT_ONCE)), *latest):
            self.use(nodeid)

    def use(self, nodeid: int) -> None:
        self._count += 1
        name = f"g{self._count}"
        tries: list[Callable[[], object]] = [
            lambda: self.look_into(nodeid),
            lambda: self.plant(nodeid, name),
            lambda: self.fuse.setattr(nodeid, mode=0o40711),
        ]
        self.random.shuffle(tries)
        for attempt in tries:
            try:
                attempt()
                self.used += 1
            except FuseError:
                self.refused += 1

    def plant(self, nodeid: int, name: str) -> None:
        made, opened = self.fuse.create(nodeid, name)
        self.fuse.write(made.nodeid, opened.fh, 0, b"planted")
        self.fuse.release(made.nodeid, opened.fh)
        self.fuse.forget(made.nodeid)
        self.fuse.unlink(nodeid, name)

    def look_into(self, nodeid: int) -> None:
        for entry in self.fuse.listdir(nodeid):
            assert MARK.encode() not in entry.name
            if entry.name not in (b".", b".."):
                self.read(nodeid, entry.name)

    def read(self, parent: int, name: bytes) -> None:
        found = self.fuse.lookup(parent, name)
        try:
            opened = self.fuse.open(found.nodeid)
            assert SECRET not in self.fuse.read(found.nodeid, opened.fh, 0, 4096)
            self.fuse.release(found.nodeid, opened.fh)
        except FuseError:  # a directory
            pass
        finally:
            self.fuse.forget(found.nodeid)


@pytest.fixture(params=["ext4", "xfs"])
def border(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[Random], tuple[Host, Guest, Daemon, ExitStack]]]:
    """Make both sides, for a given random order of things."""
    with ExitStack() as stack:

        def make(random: Random) -> tuple[Host, Guest, Daemon, ExitStack]:
            host = Host(stack.enter_context(disk(tmp_path, request.param)), random)
            daemon = stack.enter_context(Daemon(tmp_path, *PRIVILEGED, share=host.inside[0]))
            session = stack.enter_context(Session.connect(daemon.socket, notify_buffers=64))
            session.fuse.init(DEFAULT_INIT_FLAGS | InitFlag.EXPORT_SUPPORT | InitFlag.SUBMOUNTS)
            session.fuse.fsnotify(ROOT_ID, MASK, FSNOTIFY_SB)
            return host, Guest(session, random), daemon, stack

        yield make


@pytest.mark.parametrize("seed", range(2))
def test_nothing_of_the_outside_comes_in(
    border: Callable[[Random], tuple[Host, Guest, Daemon, ExitStack]],
    seed: int,
    request: pytest.FixtureRequest,
) -> None:
    random = Random(f"{seed} {request.node.name}")
    host, guest, daemon, stack = border(random)
    for _ in range(request.config.getoption("--border-rounds")):
        if not host.bound and random.random() < 0.1:
            shutil.rmtree(host.lent)
            host.lent.mkdir()
            stack.enter_context(mounted(host.mount_point, "--bind", os.fspath(host.lent)))
            host.bound = True
            root = guest.fuse.lookup(ROOT_ID, "m").nodeid
            guest.held.add(root)
            guest.fuse.fsnotify(root, MASK, FSNOTIFY_SB)
        if random.random() < 0.3:
            guest.hold(host.pick(False).relative_to(host.inside[0]))
        with daemon.stopped() if random.random() < 0.6 else nullcontext():
            for _ in range(random.randrange(1, STEPS_MAX)):
                host.act()
        guest.hear(host.inside[0])
        before = host.outsides()
        guest.use_ids()
        assert host.outsides() == before
    assert guest.used
    assert guest.refused
    assert host.reused
