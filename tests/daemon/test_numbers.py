# SPDX-License-Identifier: BSD-3-Clause
"""Inode numbers where a guest has one filesystem for several of the host.

Three tmpfs, one in the other, which give the same numbers in the same order. The host is a mount
namespace that ends with its process, and all mounts with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.daemon.running import Daemon
from tests.daemon.test_mounts import Host
from tests.frontend import ROOT_ID, InitFlag, Session
from tests.frontend.fuse import DEFAULT_INIT_FLAGS
from tests.frontend.fuse_wire import Dirent, Entry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")

FILESYSTEMS = ["", "m/", "m/deep/m/"]
WITH_SUBMOUNTS = DEFAULT_INIT_FLAGS | InitFlag.SUBMOUNTS
ATTR_SUBMOUNT = 1
DOTS = (b".", b"..")


class World:
    """The host's filesystems, as the host and as a guest see them.

    Attributes:
        root: of the share, by a way into the host's namespace.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.root = Path(f"/proc/{host.process.pid}/root{host.share}")

    def mount(self) -> None:
        """Mount them, with the same in each."""
        for place in FILESYSTEMS:
            self.host.run("mount", "-t", "tmpfs", "none", str(self.host.share / place))
            for name in ("m", "deep/m"):
                (self.root / place / name).mkdir(parents=True)
            self.fill(place, [("f", "g"), ("deep/f", "deep/g")])

    def fill(self, place: str, files: list[tuple[str, str]]) -> None:
        """Make files with second names."""
        for name, other in files:
            path = self.root / place / name
            path.write_text(place)
            (self.root / place / other).hardlink_to(path)

    def identity(self, path: str) -> tuple[int, int]:
        """Return what tells it from all others of the host."""
        found = (self.root / path).lstat()
        return found.st_dev, found.st_ino


class View:
    """What a guest is told of all there is."""

    def __init__(self, session: Session) -> None:
        self.fuse = session.fuse
        self.nodes: list[int] = []
        self.found: dict[str, Entry] = {}

    def _note(self, path: str, entry: Entry) -> int:
        assert self.found.setdefault(path, entry).attr.ino == entry.attr.ino
        self.nodes.append(entry.nodeid)
        return entry.nodeid

    def _entries(self, nodeid: int, fh: int) -> Iterator[Dirent]:
        offset = 0
        while batch := self.fuse.readdirplus(nodeid, fh, offset):
            yield from batch
            offset = batch[-1].offset

    def walk(self, nodeid: int = ROOT_ID, path: str = "", up: int | None = None) -> None:
        """Look all up, in every way there is."""
        here = self.fuse.getattr(nodeid).attr.ino
        assert self.fuse.statx(nodeid).ino == here
        plain = {each.name: each.ino for each in self.fuse.listdir(nodeid)}
        fh = self.fuse.opendir(nodeid).fh
        plus = list(self._entries(nodeid, fh))
        self.fuse.releasedir(nodeid, fh)
        assert {each.name: each.ino for each in plus} == plain
        assert (plain[b"."], plain[b".."]) == (here, here if up is None else up)
        for each in plus:
            if each.name in DOTS:
                continue
            assert each.entry is not None
            assert each.entry.attr.ino == each.ino
            below = f"{path}{os.fsdecode(each.name)}"
            self._note(below, each.entry)
            child = self._note(below, self.fuse.lookup(nodeid, each.name))
            assert self.fuse.getattr(child).attr.ino == each.ino
            if each.type == 4:
                self.walk(child, below + "/", here)

    def forget(self) -> None:
        """Forget all that was looked up."""
        self.fuse.batch_forget([(nodeid, 1) for nodeid in self.nodes])
        self.nodes.clear()

    def numbers(self) -> dict[str, int]:
        """Return the number of each path."""
        return {path: entry.attr.ino for path, entry in self.found.items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return the host's filesystems."""
    share = tmp_path / "share"
    share.mkdir()
    host = Host(share)
    try:
        world = World(host)
        world.mount()
        yield world
    finally:
        host.close()


@pytest.fixture
def connect(world: World, tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Connect to a new daemon."""
    with ExitStack() as stack:
        count = 0

        def run(*arguments: str, flags: int = DEFAULT_INIT_FLAGS) -> Session:
            nonlocal count
            count += 1
            place = tmp_path / str(count)
            place.mkdir()
            launcher = world.host.enter
            daemon = Daemon(place, *arguments, share=world.host.share, launcher=launcher)
            session = stack.enter_context(Session.connect(stack.enter_context(daemon).socket))
            session.fuse.init(flags)
            return session

        yield run


def check_one_filesystem(world: World, numbers: dict[str, int]) -> None:
    """What is one inode has one number, and nothing else has."""
    identities = {path: world.identity(path) for path in numbers}
    assert len(set(identities.values())) == len(set(numbers.values()))
    assert len(set(zip(identities.values(), numbers.values(), strict=True))) == len(
        set(numbers.values())
    )
    device = world.identity("")[0]
    own = {path for path, identity in identities.items() if identity[0] == device}
    assert {path: numbers[path] for path in own} == {path: identities[path][1] for path in own}
    assert len(own) < len(numbers)


@pytest.mark.parametrize("handles", ["prefer", "never"])
def test_numbers_are_of_one_filesystem(
    world: World, connect: Callable[..., Session], handles: str
) -> None:
    session = connect("--no-announce-submounts", f"--inode-file-handles={handles}")
    view = View(session)

    @settings(max_examples=10, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(FILESYSTEMS), st.sampled_from("abc")), max_size=8))
    def check(more: list[tuple[str, str]]) -> None:
        for place, name in more:
            for link in (name, name + "2"):
                (world.root / place / link).unlink(missing_ok=True)
            world.fill(place, [(name, name + "2")])
        view.found.clear()
        view.walk()
        numbers = view.numbers()
        check_one_filesystem(world, numbers)
        view.forget()
        view.walk()
        assert view.numbers() == numbers
        view.forget()

    check()
    last = view.numbers()
    session.fuse.init()
    again = View(session)
    again.walk()
    assert again.numbers() == last
    other = View(connect("--no-announce-submounts"))
    other.walk()
    assert other.numbers() == last


def test_guest_that_knows_no_submounts(world: World, connect: Callable[..., Session]) -> None:
    view = View(connect())
    fuse = view.fuse
    first = fuse.lookup(ROOT_ID, "m")
    view.walk()
    check_one_filesystem(world, view.numbers())
    assert view.numbers()["m"] == first.attr.ino


def test_made_by_the_guest(world: World, connect: Callable[..., Session]) -> None:
    fuse = connect("--no-announce-submounts").fuse
    numbers = []
    parents = [ROOT_ID]
    for name in ("m", "deep", "m"):
        parents.append(fuse.lookup(parents[-1], name).nodeid)
    for parent in (parents[0], parents[1], parents[3]):
        made = [fuse.mkdir(parent, "new"), fuse.mknod(parent, "node")]
        made += [fuse.symlink(parent, "link", "to"), fuse.create(parent, "made")[0]]
        made.append(fuse.link(made[1].nodeid, parent, "node2"))
        assert made[4].attr.ino == made[1].attr.ino
        for entry in made:
            assert fuse.getattr(entry.nodeid).attr.ino == entry.attr.ino
            assert fuse.setattr(entry.nodeid, uid=0).attr.ino == entry.attr.ino
        numbers += [entry.attr.ino for entry in made[:4]]
    assert len(set(numbers)) == len(numbers)


def test_submounts_have_the_hosts_numbers(world: World, connect: Callable[..., Session]) -> None:
    """A guest that has a filesystem for each sees what the host sees."""
    fuse = connect(flags=WITH_SUBMOUNTS).fuse
    mount = fuse.lookup(ROOT_ID, "m")
    assert mount.attr.flags == ATTR_SUBMOUNT
    assert mount.attr.ino == world.identity("m")[1]
    assert fuse.lookup(mount.nodeid, "f").attr.ino == world.identity("m/f")[1]
    listed = {each.name: each.ino for each in fuse.listdir(mount.nodeid)}
    assert listed[b"g"] == world.identity("m/g")[1] == world.identity("g")[1]


def test_mounted_on_a_file(world: World, connect: Callable[..., Session]) -> None:
    """That is no submount, so it has to have a number among those of where it is."""
    share = world.host.share
    world.host.run("mount", "--bind", str(share / "m/f"), str(share / "deep/f"))
    fuse = connect(flags=WITH_SUBMOUNTS).fuse
    deep = fuse.lookup(ROOT_ID, "deep").nodeid
    assert world.identity("deep/f")[1] == world.identity("f")[1]
    assert world.identity("deep/f")[0] != world.identity("f")[0]
    found = fuse.lookup(deep, "f")
    assert found.attr.ino != fuse.lookup(ROOT_ID, "f").attr.ino
    assert fuse.getattr(found.nodeid).attr.ino == found.attr.ino
