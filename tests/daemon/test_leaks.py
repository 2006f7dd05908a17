# SPDX-License-Identifier: BSD-3-Clause
"""Nothing leaks: random trees inside and outside of the share, and what crosses its border.

A model follows what a guest that has subscribed to the whole share must hear: each name that comes,
goes or is written to inside, and nothing that is done by a name outside. No name is used twice.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.daemon.running import Daemon
from tests.daemon.test_events import CREATE, DELETE, MODIFY, MOVED_FROM, MOVED_TO
from tests.daemon.test_whole import FSNOTIFY_SB, PRIVILEGED
from tests.frontend import ROOT_ID, Record, Session
from tests.frontend.notify import FS_ISDIR, FS_Q_OVERFLOW

MASK = CREATE | DELETE | MOVED_FROM | MOVED_TO | MODIFY | FS_ISDIR
EXAMPLES = 150
_numbers = itertools.count()

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


@dataclass
class World:
    """The host's tree, half of it shared, and what the guest has to hear.

    Attributes:
        share: what is shared.
        lent: outside, a mount of a directory inside.
        borrowed: inside, a mount of a directory outside: to the guest another file system.
        directories: all there are.
        late: nobody reads what happens until all of it has.
        files: all there are, by each of their names.
        expected: masks and names.
    """

    share: Path
    lent: Path
    borrowed: Path
    directories: list[Path]
    late: bool
    files: list[Path] = field(default_factory=list)
    expected: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roots = tuple(self.directories)

    def is_inside(self, path: Path) -> bool:
        if self.lent in path.parents:
            return True
        return self.share in path.parents and self.borrowed not in path.parents

    def tell(self, mask: int, path: Path) -> None:
        """`path` came, went or was written to by that name."""
        if self.is_inside(path):
            self.expected.append((mask, path.name))

    def fresh(self, directory: Path) -> Path:
        return directory / f"n{next(_numbers)}"

    def act(self, step: Step) -> None:
        """Do one step, if there is something to do it to; no link or rename crosses a mount."""
        try:
            self._act(step)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise

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
        # The host merges what nobody has read yet of one name, on whichever side it was done.
        if self.late and self.is_inside(old) != self.is_inside(new):
            self.files = [path for path in self.files if old not in path.parents]
        self.files = [moved(path) for path in self.files]


class Subscriber:
    """A guest that has subscribed to the whole share, for all examples."""

    def __init__(self, daemon: Daemon, guest: Session) -> None:
        self.daemon = daemon
        self.guest = guest
        self.outside = daemon.share.parent / "outside"
        self.outside.mkdir()
        guest.fuse.fsnotify(ROOT_ID, MASK, FSNOTIFY_SB)

    @contextmanager
    def world(self, late: bool) -> Iterator[World]:
        """A tree on both sides, with a mount across the border in either direction."""
        name = f"w{next(_numbers)}"
        inside, outside = self.daemon.share / name, self.outside / name
        lent, borrowed = outside / "lent", inside / "borrowed"
        for path in (inside, outside, lent, borrowed, inside / "lender", outside / "lender"):
            path.mkdir()
        with bound(inside / "lender", lent), bound(outside / "lender", borrowed):
            self.events()
            directories = [inside, outside, inside / "lender", lent, outside / "lender", borrowed]
            yield World(self.daemon.share, lent, borrowed, directories, late)

    def events(self) -> list[Record]:
        """All records up to now."""
        assert self.guest.notifications is not None
        sentinel = self.daemon.share / f"n{next(_numbers)}"
        sentinel.mkdir()
        sentinel.rmdir()
        name = os.fsencode(sentinel.name)
        records = self.guest.notifications.read_until(
            lambda r: (r.mask, r.name) == (DELETE | FS_ISDIR, name)
        )
        # What is mounted is told when somebody has noticed.
        return [r for r in records if r.name not in (name, b"borrowed")]


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """A bind mount."""
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", target], check=True)


@pytest.fixture(scope="module")
def subscriber(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subscriber]:
    """One daemon and guest for all examples; each has its own tree."""
    with (
        Daemon(tmp_path_factory.mktemp("leaks"), *PRIVILEGED) as daemon,
        Session.connect(daemon.socket, notify_buffers=64) as guest,
    ):
        guest.fuse.init()
        yield Subscriber(daemon, guest)


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps=STEPS, late=st.booleans())
def test_the_guest_hears_of_the_inside_and_of_nothing_else(
    subscriber: Subscriber, steps: list[Step], late: bool
) -> None:
    """Read at once, or `late`: after all of it has happened."""
    heard: list[Record] = []
    with subscriber.world(late) as world:
        with subscriber.daemon.stopped() if late else nullcontext():
            for step in steps:
                # What was done in a directory is told if it can still be seen where that is.
                if step[0] == "rmdir":
                    if late:
                        continue
                    heard += subscriber.events()
                world.act(step)
        heard += subscriber.events()
        assert not any(record.mask & FS_Q_OVERFLOW for record in heard)
        # Without an event: a node that the guest knows has ended.
        told = [(record.mask, record.name.decode()) for record in heard if record.mask]
        assert set(told) == set(world.expected)
        once = [event for event in told if not event[0] & MODIFY]
        assert len(once) == len(set(once))
