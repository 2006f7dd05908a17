# SPDX-License-Identifier: BSD-3-Clause
"""Nothing leaks: random trees inside and outside of the share, and what crosses its border.

A model follows what must be heard by a guest that has subscribed to the whole share, and by local
consumers of the share and of a path in it: each name that comes, goes or is written to inside, and
nothing that is done by a name outside. No name is used twice.
"""

from __future__ import annotations

import errno
import itertools
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.daemon.disks import mounted
from tests.daemon.events import CREATE, DELETE, MODIFY, MOVED_FROM, MOVED_TO
from tests.daemon.running import DEADLINE_S, Daemon
from tests.daemon.test_whole import FSNOTIFY_SB, PRIVILEGED
from tests.frontend import ROOT_ID, Record, Session
from tests.frontend.notify import FS_ISDIR, FS_Q_OVERFLOW
from virtiofsd_py import fsnotify
from virtiofsd_py.fsnotify import Event, MountChange, MountEvent, Subscription

MASK = CREATE | DELETE | MOVED_FROM | MOVED_TO | MODIFY | FS_ISDIR
EXAMPLES = 150
ROUNDS = 10_000
SENTINEL = "s"
_numbers = itertools.count()


class Pace(Enum):
    """When what happens is read: as soon as it has, as it comes, or when all of it has happened."""

    SETTLED = 0
    FREE = 1
    LATE = 2


Step = tuple[str, int, int]
"""A verb and which of the directories or files there are by then, modulo their number."""

VERBS = ["mkdir", "mkdir", "file", "file", "write", "link", "rename", "move", "move"]
VERBS += ["unlink", "rmdir"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(VERBS),
        st.integers(0, 1000),
        st.integers(0, 1000),
    ),
    min_size=20,
    max_size=60,
)


@dataclass(frozen=True)
class View:
    """What somebody can see of the host's tree.

    Attributes:
        shown: directories of the host, and what each is called there.
        hidden: one below those that is not part of it.
    """

    shown: Mapping[Path, str]
    hidden: Path | None = None

    def name(self, path: Path) -> str | None:
        """Return what `path` is called there, if it is to be seen."""
        for top, name in self.shown.items():
            if top in path.parents and self.hidden not in path.parents:
                return os.path.join(name, path.relative_to(top))
        return None


@dataclass
class World:
    """The host's tree, half of it shared.

    Attributes:
        views: of everybody who listens.
        directories: all there are.
        late: nobody reads what happens until all of it has.
        files: all there are, by each of their names.
        done: masks and names of all that has happened.
        seen: for each view, every name that was to be seen there at some time.
        brought: directories that a move has brought to where somebody sees them.
    """

    views: tuple[View, ...]
    directories: list[Path]
    late: bool
    files: list[Path] = field(default_factory=list)
    done: list[tuple[int, Path]] = field(default_factory=list)
    brought: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roots = tuple(self.directories)
        self.seen = tuple(set("/".join(view.shown.values()).split("/")) for view in self.views)
        self.look()

    def look(self) -> None:
        """Note what is to be seen now."""
        for seen, view in zip(self.seen, self.views, strict=True):
            for path in (*self.directories, *self.files):
                seen.update((view.name(path) or "").split("/"))

    def tell(self, mask: int, path: Path) -> None:
        """`path` came, went or was written to by that name."""
        self.done.append((mask, path))

    def expected(self, view: View, roots_only: bool = False) -> set[tuple[int, str]]:
        """Return what was done by a name that is to be seen there."""
        named = [
            (mask, view.name(path))
            for mask, path in self.done
            if not roots_only or path.parent in self.roots
        ]
        return {(mask, name) for mask, name in named if name is not None}

    def fresh(self, directory: Path) -> Path:
        return directory / f"n{next(_numbers)}"

    def act(self, step: Step) -> None:
        """Do one step, if there is something to do it to; no link or rename crosses a mount."""
        try:
            self._act(step)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        self.look()

    def _act(self, step: Step) -> None:
        verb, first, second = step
        directory = self.directories[first % len(self.directories)]
        other = self.directories[second % len(self.directories)]
        file = self.files[second % len(self.files)] if self.files else None
        match verb:
            case "mkdir":
                path = self.fresh(directory)
                path.mkdir()
                self.directories.append(path)
                self.tell(CREATE | FS_ISDIR, path)
            case "file":
                path = self.fresh(directory)
                path.touch()
                self.files.append(path)
                self.tell(CREATE, path)
            case "write" if file:
                os.truncate(file, next(_numbers))
                self.tell(MODIFY, file)
            case "link" if file:
                path = self.fresh(directory)
                path.hardlink_to(file)
                self.files.append(path)
                self.tell(CREATE, path)
            case "rename" if file:
                path = self.fresh(directory)
                file.rename(path)
                self.files[self.files.index(file)] = path
                self.tell(MOVED_FROM, file)
                self.tell(MOVED_TO, path)
            case "move" if other not in (*self.roots, directory, *directory.parents):
                self.move(other, self.fresh(directory))
            case "unlink" if file:
                file.unlink()
                self.files.remove(file)
                self.tell(DELETE, file)
            case "rmdir" if other not in self.roots and not any(other.iterdir()):
                other.rmdir()
                self.directories.remove(other)
                self.tell(DELETE | FS_ISDIR, other)

    def move(self, old: Path, new: Path) -> None:
        old.rename(new)
        self.tell(MOVED_FROM | FS_ISDIR, old)
        self.tell(MOVED_TO | FS_ISDIR, new)

        def moved(path: Path) -> Path:
            below = old == path or old in path.parents
            return new / path.relative_to(old) if below else path

        self.directories = [moved(path) for path in self.directories]
        self.brought = [path for path in self.directories if path == new or new in path.parents]
        self.files = [moved(path) for path in self.files]
        self.look()
        # The host merges what nobody has read yet of one name, on whichever side it was done.
        if self.late and any((v.name(old) is None) != (v.name(new) is None) for v in self.views):
            self.files = [path for path in self.files if new not in path.parents]


class Consumer:
    """A local consumer of a path in the share."""

    def __init__(self, daemon: Daemon, path: str = "") -> None:
        watches = (fsnotify.Watch(path, MASK & ~FS_ISDIR),)
        self.subscription = Subscription(f"{daemon.socket}.watch", fsnotify.Request(watches))
        self.until(lambda record: isinstance(record, fsnotify.WatchStatus))

    def until(self, last: Callable[[fsnotify.Record], bool]) -> list[fsnotify.Record]:
        """Return what comes, up to and with the `last`."""
        taken: list[fsnotify.Record] = []
        end = time.monotonic() + DEADLINE_S
        while not taken or not last(taken[-1]):
            record = self.subscription.next_now()
            if record is not None:
                taken.append(record)
            elif self.subscription.ended or not wait_readable(self.subscription, end):
                raise TimeoutError(f"the last of {taken}")
        return taken

    def until_gone(self, path: str) -> list[fsnotify.Record]:
        """Return what comes until `path` is deleted."""
        return self.until(lambda r: short(r) == (DELETE | FS_ISDIR, path))

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.subscription.close()


def wait_readable(what: Subscription, end: float) -> bool:
    """Say whether there is something to read by then, of the monotonic clock."""
    return bool(select.select([what], [], [], max(0, end - time.monotonic()))[0])


def short(record: fsnotify.Record) -> tuple[int, str] | None:
    """Return mask and path of an event."""
    if not isinstance(record, Event):
        return None
    return 1 << record.kind | (FS_ISDIR if record.is_dir else 0), record.path


@dataclass
class Heard:
    """What came: to the guest, to the consumer of the share and to that of a path in it."""

    guest: list[Record] = field(default_factory=list)
    local: tuple[list[fsnotify.Record], ...] = field(default_factory=lambda: ([], []))

    def add(self, later: Heard) -> None:
        self.guest += later.guest
        for mine, more in zip(self.local, later.local, strict=True):
            mine.extend(more)


class Listeners:
    """Two consumers and a guest that has subscribed to the whole share, for all examples."""

    def __init__(self, daemon: Daemon, guest: Session, whole: Consumer) -> None:
        self.daemon = daemon
        self.guest = guest
        self.whole = whole
        self.outside = daemon.share.parent / "outside"
        self.outside.mkdir()
        guest.fuse.fsnotify(ROOT_ID, MASK, FSNOTIFY_SB)

    @contextmanager
    def world(self, late: bool) -> Iterator[World]:
        """A tree on both sides, with a mount across the border in either direction.

        The one inside is to a guest another file system, and to consumers a directory of the share.
        """
        name = f"w{next(_numbers)}"
        inside, outside = self.daemon.share / name, self.outside / name
        lent, borrowed = outside / "lent", inside / "borrowed"
        lenders = (inside / "lender", outside / "lender")
        for path in (inside, outside, lent, borrowed, *lenders):
            path.mkdir()
        lender = {lent: f"{name}/lender"}
        views = (
            View({self.daemon.share: "", **lender}, borrowed),
            View({self.daemon.share: "", **lender, lenders[1]: f"{name}/borrowed"}),
            View({lenders[0]: f"{name}/lender", **lender}),
        )
        with (
            mounted(lent, "--bind", os.fspath(lenders[0])),
            mounted(borrowed, "--bind", os.fspath(lenders[1])),
            Consumer(self.daemon, f"{name}/lender") as part,
        ):
            self.consumers = (self.whole, part)
            self.sentinels = lenders[0]
            world = World(views, [inside, outside, *lenders, lent, borrowed], late)
            self.settle(world, [inside, borrowed])
            yield world
        self.whole.until(
            lambda r: (
                isinstance(r, MountEvent)
                and (r.change, r.path) == (MountChange.UNMOUNTED, f"{name}/borrowed")
            )
        )
        # What is not mounted any more is outside.
        (lenders[1] / "n").touch()
        (inside / SENTINEL).mkdir()
        (inside / SENTINEL).rmdir()
        last = f"{name}/{SENTINEL}"
        told = [short(record) for record in self.whole.until_gone(last)]
        assert told == [(CREATE | FS_ISDIR, last), (DELETE | FS_ISDIR, last)]

    def records(self) -> Heard:
        """Return all records up to now."""
        assert self.guest.notifications is not None
        sentinel = self.sentinels / f"{SENTINEL}{next(_numbers)}"
        sentinel.mkdir()
        sentinel.rmdir()
        path = os.fspath(sentinel.relative_to(self.daemon.share))
        name = os.fsencode(sentinel.name)
        records = self.guest.notifications.read_until(
            lambda r: (r.mask, r.name) == (DELETE | FS_ISDIR, name)
        )
        return Heard(records, tuple(consumer.until_gone(path) for consumer in self.consumers))

    def settle(self, world: World, directories: Sequence[Path]) -> Heard:
        """Return all records, once the consumers follow what happens in these directories.

        A new directory is watched when they are told of it, and what a move has brought a little
        later.
        """
        heard = self.records()
        waiting = {
            (i, path)
            for i, view in enumerate(world.views[1:])
            for path in directories
            if view.name(path / SENTINEL) is not None
        }
        end = time.monotonic() + DEADLINE_S
        while waiting:
            assert time.monotonic() < end, waiting
            names = {}
            for path in {path for _, path in waiting}:
                sentinel = path / f"{SENTINEL}{next(_numbers)}"
                sentinel.mkdir()
                sentinel.rmdir()
                names[sentinel.name] = path
            now = self.records()
            for i, records in enumerate(now.local):
                for record in records:
                    if isinstance(record, Event) and (
                        at := names.get(os.path.basename(record.path))
                    ):
                        waiting.discard((i, at))
            heard.add(now)
        return heard


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    """One daemon and guest for all examples; each has its own tree.

    On a file system where nothing else happens: the host's queue holds just so many events.
    """
    directory = tmp_path_factory.mktemp("leaks")
    with (
        mounted(directory, "-t", "tmpfs", "none"),
        Daemon(directory, *PRIVILEGED) as daemon,
        Session.connect(daemon.socket, notify_buffers=64) as guest,
        Consumer(daemon) as whole,
    ):
        guest.fuse.init()
        yield Listeners(daemon, guest, whole)


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps=STEPS, pace=st.sampled_from(Pace))
def test_all_hear_of_the_inside_and_of_nothing_else(
    listeners: Listeners, steps: list[Step], pace: Pace
) -> None:
    """However late it is read."""
    heard = Heard()
    late = pace is Pace.LATE
    with listeners.world(late) as world:
        with listeners.daemon.stopped() if late else nullcontext():
            for step in steps:
                # What was done in a directory is told if it can still be seen where that is.
                if step[0] == "rmdir":
                    if late:
                        continue
                    heard.add(listeners.records())
                world.act(step)
                if pace is Pace.SETTLED:
                    heard.add(listeners.settle(world, world.brought))
                    world.brought = []
        heard.add(listeners.records())
    check_guest(heard.guest, world)
    for i, records in enumerate(heard.local):
        check_consumer(records, world, i + 1, settled=pace is Pace.SETTLED)


def check_guest(heard: list[Record], world: World) -> None:
    assert not any(record.mask & FS_Q_OVERFLOW for record in heard)
    # Without an event: a node that the guest knows has ended. What is mounted is told when somebody
    # has noticed.
    told = [
        (record.mask, name)
        for record in heard
        if record.mask and not (name := record.name.decode()).startswith((SENTINEL, "borrowed"))
    ]
    assert set(told) == {(m, os.path.basename(p)) for m, p in world.expected(world.views[0])}
    assert_once(told)


def check_consumer(heard: list[fsnotify.Record], world: World, view: int, settled: bool) -> None:
    """In directories that were new, what was done before they were watched may be missing."""
    told = []
    for record in heard:
        assert isinstance(record, Event | MountEvent)
        names = record.path.split("/")
        if names[-1].startswith(SENTINEL):
            names.pop()
        elif isinstance(record, Event) and not record.found:
            told.append((1 << record.kind | (FS_ISDIR if record.is_dir else 0), record.path))
        assert world.seen[view].issuperset(names)
    expected = world.expected(world.views[view])
    assert expected.issuperset(told)
    assert world.expected(world.views[view], roots_only=not settled).issubset(told)
    assert_once(told)


def assert_once(told: Sequence[tuple[int, str]]) -> None:
    once = [event for event in told if not event[0] & MODIFY]
    assert len(once) == len(set(once))


def test_what_has_left_when_it_is_looked_into(tmp_path: Path) -> None:
    """A new directory is looked through; what is in it by then may be nobody's business."""
    with (
        mounted(tmp_path, "-t", "tmpfs", "none"),
        Daemon(tmp_path, "--sandbox=none") as daemon,
        Consumer(daemon) as consumer,
    ):
        share, outside = os.fspath(daemon.share), os.fspath(tmp_path / "outside")
        os.mkdir(outside)
        for number in range(ROUNDS):
            os.mkdir(f"{share}/{number}")
            for _ in range(number % 40):
                os.stat("/")  # so that the daemon is at any of its steps
            os.rename(f"{share}/{number}", f"{outside}/{number}")
            os.mknod(f"{outside}/{number}/secret")
            if number % 50 == 0:
                os.mkdir(f"{share}/{SENTINEL}")
                os.rmdir(f"{share}/{SENTINEL}")
                told = consumer.until_gone(SENTINEL)
                assert not [r for r in told if isinstance(r, Event) and "secret" in r.path]
