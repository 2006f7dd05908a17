# SPDX-License-Identifier: BSD-3-Clause
"""Which roots of whole filesystems a guest may watch, and what becomes of those that go."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon.disks import disk, mounted, unmount
from tests.daemon.events import CREATE, DELETE, MODIFY, MOVED_FROM, MOVED_TO
from tests.daemon.running import DEADLINE_S, Daemon
from tests.daemon.test_whole import FSNOTIFY_SB, PRIVILEGED
from tests.frontend import ROOT_ID, FuseError, InitFlag, Record, Session
from tests.frontend.fuse import DEFAULT_INIT_FLAGS
from tests.frontend.fuse_wire import FSNOTIFY_IN, Opcode
from tests.frontend.notify import FS_ISDIR

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")

MASK = CREATE | DELETE | MODIFY | MOVED_FROM | MOVED_TO | FS_ISDIR
INIT = DEFAULT_INIT_FLAGS | InitFlag.EXPORT_SUPPORT | InitFlag.SUBMOUNTS
ROOTS_MAX = 64


class World:
    """A share and its surroundings on one file system of the host, and a guest of it."""

    def __init__(self, top: Path, stack: ExitStack, start: Callable[..., Daemon]) -> None:
        self.stack = stack
        self.share, self.outside = top / "share", top / "outside"
        self.share.mkdir()
        self.outside.mkdir()
        self.start = start

    def run(self, *arguments: str) -> None:
        self.daemon = self.start(*PRIVILEGED, *arguments, share=self.share)
        self.guest = self.stack.enter_context(Session.connect(self.daemon.socket))
        self.fuse = self.guest.fuse
        self.fuse.init(INIT)

    def bind(self, source: Path, name: str) -> int:
        """Mount it in the share; return the guest's id of it."""
        (self.share / name).mkdir(exist_ok=True)
        self.stack.enter_context(mounted(self.share / name, "--bind", os.fspath(source)))
        return self.fuse.lookup(ROOT_ID, name).nodeid

    def watch(self, root: int, mask: int = MASK) -> None:
        self.fuse.fsnotify(root, mask, FSNOTIFY_SB)

    def marks(self) -> int:
        """Return how many of the host's file systems are marked."""
        return sum(line.startswith("fanotify sdev:") for line in self.daemon.fdinfo())

    def wait_for_marks(self, count: int) -> None:
        end = time.monotonic() + DEADLINE_S
        while self.marks() != count:
            assert time.monotonic() < end, self.daemon.fdinfo()
            os.sched_yield()

    def events(self) -> list[Record]:
        """Return all records up to now; the share's root is watched."""
        assert self.guest.notifications is not None
        (self.share / "sentinel").mkdir()
        (self.share / "sentinel").rmdir()
        records = self.guest.notifications.read_until(
            lambda r: (r.mask, r.name) == (DELETE | FS_ISDIR, b"sentinel")
        )
        # What is mounted, or was, is to be looked up again.
        return [r for r in records if r.name not in (b"sentinel", b"m")]

    def names(self) -> list[bytes]:
        return [r.name for r in self.events()]


@pytest.fixture(params=["ext4", "xfs"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, start: Callable[..., Daemon]
) -> Iterator[World]:
    """Make one; `World.run` starts daemon and guest."""
    with ExitStack() as stack:
        yield World(stack.enter_context(disk(tmp_path, request.param)), stack, start)


def refused(world: World, nodeid: int) -> None:
    with pytest.raises(FuseError) as caught:
        world.watch(nodeid)
    assert caught.value.errno == errno.EINVAL


def test_no_other_directory_is_a_root(world: World) -> None:
    world.run()
    for made in (world.fuse.mkdir(ROOT_ID, "d"), world.fuse.mknod(ROOT_ID, "f")):
        refused(world, made.nodeid)
        world.watch(made.nodeid, 0)
    assert world.marks() == 0
    world.watch(ROOT_ID)
    refused(world, world.fuse.lookup(ROOT_ID, "d").nodeid)
    assert world.marks() == 1
    (world.share / "d/in").touch()
    assert world.names() == [b"in"]


def test_numbers_of_a_removed_directory_are_no_root(world: World) -> None:
    """The host gives them to something outside, which is nobody's business."""
    world.run()
    numbers = set()
    for i in range(60):
        made = world.fuse.mkdir(ROOT_ID, f"d{i}")
        numbers.add(made.attr.ino)
        refused(world, made.nodeid)
    world.watch(ROOT_ID)
    for i in range(60):
        world.fuse.rmdir(ROOT_ID, f"d{i}")
    for i in range(120):
        path = world.outside / f"h{i}"
        path.mkdir()
        (path / "secret").touch()
    assert numbers & {path.stat().st_ino for path in world.outside.iterdir()}
    assert world.names() == []


def test_what_is_mounted_is_a_root(world: World) -> None:
    world.run()
    (world.outside / "lent").mkdir()
    root = world.bind(world.outside / "lent", "m")
    world.watch(root)
    world.watch(ROOT_ID)
    (world.outside / "lent/in").touch()
    (world.outside / "secret").touch()
    assert [(r.nodeid, r.name) for r in world.events()] == [(root, b"in")]
    world.watch(root, 0)
    (world.outside / "lent/more").touch()
    assert world.names() == []


def test_what_it_is_mounted_in_is_none(world: World) -> None:
    """Looked up from within, by ".."."""
    world.run()
    (world.share / "a").mkdir()
    above = world.fuse.lookup(ROOT_ID, "a").nodeid
    (world.share / "a/m").mkdir()
    world.stack.enter_context(mounted(world.share / "a/m", "--bind", os.fspath(world.outside)))
    mounted_root = world.fuse.lookup(above, "m")
    assert mounted_root.attr.flags & 1
    up = world.fuse.lookup(mounted_root.nodeid, "..")
    assert (up.nodeid, up.attr.flags & 1) == (above, 0)
    refused(world, up.nodeid)
    world.watch(mounted_root.nodeid)


def test_to_who_is_told_of_no_mounts_there_is_but_one_root(world: World) -> None:
    world.run("--no-announce-submounts")
    root = world.bind(world.outside, "m")
    refused(world, root)
    world.watch(ROOT_ID)


def test_what_was_unmounted_is_no_root(world: World) -> None:
    """And what it was is outside."""
    world.run()
    lent = world.outside / "lent"
    lent.mkdir()
    root = world.bind(lent, "m")
    world.watch(root)
    assert world.marks() == 1
    unmount(world.share / "m")
    world.wait_for_marks(0)
    refused(world, root)
    world.watch(root, 0)
    world.watch(ROOT_ID)
    (lent / "secret").touch()
    assert world.names() == []
    # There, anew, is something else.
    again = world.bind(world.outside, "m")
    assert again != root
    world.watch(again)
    (world.outside / "in").touch()
    assert [(r.nodeid, r.name) for r in world.events()] == [(again, b"in")]


def test_what_was_unmounted_unnoticed_is_no_root(world: World) -> None:
    """Nothing is told between the host's umount and that somebody has noticed."""
    world.run()
    (world.outside / "lent").mkdir()
    root = world.bind(world.outside / "lent", "m")
    world.watch(root)
    world.watch(ROOT_ID)
    (world.outside / "lent/in").touch()
    assert world.names() == [b"in"]
    with world.daemon.stopped():
        unmount(world.share / "m")
        (world.outside / "lent/secret").touch()
    assert b"secret" not in world.names()


@pytest.mark.parametrize("at_once", [False, True])
def test_what_is_mounted_for_a_while_is_inside_for_a_while(world: World, at_once: bool) -> None:
    """In a guest that takes it all for one file system."""
    world.run("--no-announce-submounts")
    lent = world.outside / "lent"
    (lent / "sub").mkdir(parents=True)
    world.watch(ROOT_ID)
    world.bind(lent, "m")
    world.events()
    (lent / "sub/in").touch()
    assert world.names() == [b"in"]
    if at_once:
        with world.daemon.stopped():
            unmount(world.share / "m")
            (lent / "sub/secret").touch()
    else:
        unmount(world.share / "m")
        (lent / "sub/secret").touch()
    assert b"secret" not in world.names()


def test_what_was_removed_is_no_root(world: World) -> None:
    """What is mounted can be removed where it comes from."""
    world.run()
    lent = world.outside / "lent"
    lent.mkdir()
    root = world.bind(lent, "m")
    world.watch(root)
    assert world.marks() == 1
    lent.rmdir()
    world.wait_for_marks(0)
    world.watch(root, 0)
    world.watch(ROOT_ID)
    (world.outside / "secret").touch()
    assert world.names() == []


@pytest.mark.parametrize("end", ["forget", "unmount", "remove"])
def test_roots_that_have_gone_leave_their_places(world: World, end: str) -> None:
    world.run()
    for i in range(ROOTS_MAX + 6):
        lent = world.outside / str(i)
        lent.mkdir()
        root = world.bind(lent, "m")
        world.watch(root)
        if end == "forget":
            world.fuse.forget(root)
        elif end == "remove":
            lent.rmdir()
        unmount(world.share / "m")
    world.watch(ROOT_ID)
    (world.share / "in").touch()
    assert world.names() == [b"in"]
    world.watch(ROOT_ID, 0)
    world.wait_for_marks(0)


@pytest.mark.parametrize("end", ["destroy", "init", "reset"])
def test_a_session_takes_its_roots_along(world: World, end: str) -> None:
    world.run()
    root = world.bind(world.outside, "m")
    for nodeid in (root, ROOT_ID):
        world.watch(nodeid)
    if end == "destroy":
        world.fuse.destroy()
    elif end == "reset":
        world.guest.reset()
    if end != "destroy":
        world.fuse.init(INIT)
    assert world.marks() == 0


def test_when_it_ends_nothing_more_is_told(world: World) -> None:
    """Not even of a directory that the guest knows, and that has left, by what waits to be read."""
    world.run()
    for i in range(20):
        (world.share / f"d{i}").mkdir()
        world.fuse.lookup(ROOT_ID, f"d{i}")
        world.watch(ROOT_ID)
        with world.daemon.stopped():
            (world.share / f"d{i}").rename(world.outside / f"d{i}")
            (world.outside / f"d{i}" / "secret").touch()
            body = FSNOTIFY_IN.pack(0, FSNOTIFY_SB, 0)
            pending = world.fuse.submit(Opcode.FSNOTIFY, ROOT_ID, body)
        world.fuse.wait(pending).check()
    world.watch(ROOT_ID)
    assert b"secret" not in world.names()
