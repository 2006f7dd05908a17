# SPDX-License-Identifier: BSD-3-Clause
"""IN_EXCL_UNLINK: events by a name that was gone say so, for watches that want none of them.

Only where a watch has asked for it; and an event that came before its name went does not say so,
however late it is read. The daemon is stopped where the host's queue has to hold all of it at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.daemon.events import (
    ACCESS,
    ALL,
    ATTRIB,
    CLOSE_NOWRITE,
    CLOSE_WRITE,
    MODIFY,
    ON_CHILD,
    OPEN,
    Watched,
)
from tests.daemon.running import Daemon
from tests.daemon.test_normalising import elsewhere
from tests.frontend import Session
from tests.frontend.notify import FSN_UNNAMED

EXCL_UNLINK = 0x0400_0000
BY_NAME = OPEN | ACCESS | MODIFY | CLOSE_WRITE | CLOSE_NOWRITE


@pytest.fixture(params=["merged", "server"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(
    start: Callable[..., Daemon], connect: Callable[..., Session], mode: str
) -> Callable[[int], Watched]:
    """Make a watched directory, with these bits in the mask beside all events."""

    def run(extra: int) -> Watched:
        daemon = start(f"--fsnotify={mode}")
        return Watched(daemon, connect(daemon), ALL | ON_CHILD | extra)

    return run


@pytest.fixture
def excluding(make: Callable[[int], Watched]) -> Watched:
    return make(EXCL_UNLINK)


@pytest.fixture
def file(excluding: Watched) -> Iterator[IO[bytes]]:
    """``f``, open on the host, which has been told."""
    with (excluding.path / "f").open("r+b", buffering=0) as file:
        excluding.events()
        yield file


def told(watched: Watched, kinds: int = MODIFY) -> list[tuple[int, bytes, bool]]:
    """What was told of `kinds`: bit, name, and whether the name was gone."""
    return [
        (r.mask, r.name, bool(r.flags & FSN_UNNAMED)) for r in watched.events() if r.mask & kinds
    ]


def test_writes_before_and_after_the_unlink(excluding: Watched, file: IO[bytes]) -> None:
    file.write(b"x")
    assert told(excluding) == [(MODIFY, b"f", False)]
    (excluding.path / "f").unlink()
    excluding.events()
    file.write(b"y")
    assert told(excluding) == [(MODIFY, b"f", True)]
    os.fchmod(file.fileno(), 0o600)  # locally told to everybody: it is by no name
    assert told(excluding, ATTRIB) == [(ATTRIB, b"f", False)]


def test_nobody_has_asked(make: Callable[[int], Watched]) -> None:
    watched = make(0)
    with (watched.path / "f").open("r+b", buffering=0) as file:
        (watched.path / "f").unlink()
        file.write(b"y")
        assert told(watched) == [(MODIFY, b"f", False)]


def test_nobody_asks_any_more(excluding: Watched, file: IO[bytes]) -> None:
    excluding.guest.fuse.fsnotify(excluding.dir, ALL | ON_CHILD)
    (excluding.path / "f").unlink()
    file.write(b"y")
    assert told(excluding) == [(MODIFY, b"f", False)]


def test_unlinked_before_there_was_a_watch(excluding: Watched, file: IO[bytes]) -> None:
    excluding.guest.fuse.fsnotify(excluding.dir, 0)
    (excluding.path / "f").unlink()
    excluding.guest.fuse.fsnotify(excluding.dir, ALL | ON_CHILD | EXCL_UNLINK)
    file.write(b"y")
    assert told(excluding) == [(MODIFY, b"f", True)]


def test_read_at_once(excluding: Watched, file: IO[bytes]) -> None:
    """Three processes, whose events the host does not merge."""
    path = excluding.path / "f"
    with excluding.daemon.stopped():
        elsewhere("os.truncate(a[0], 1)", path)
        elsewhere("os.unlink(a[0])", path)
        file.write(b"x")
    assert told(excluding) == [(MODIFY, b"f", False), (MODIFY, b"f", True)]


@pytest.mark.parametrize("moved", [False, True], ids=["within", "out"])
def test_written_before_it_was_renamed(
    excluding: Watched, file: IO[bytes], tmp_path: Path, moved: bool
) -> None:
    target = tmp_path / "elsewhere" if moved else excluding.path / "g"
    with excluding.daemon.stopped():
        file.write(b"x")
        (excluding.path / "f").rename(target)
    assert told(excluding) == [(MODIFY, b"f", False)]
    file.write(b"x")
    assert told(excluding) == ([] if moved else [(MODIFY, b"g", False)])


def test_whole_life_read_at_once(excluding: Watched) -> None:
    """The host has merged DELETE into CREATE, before all else: nothing is known to be gone."""
    with excluding.daemon.stopped():
        (excluding.path / "n").write_bytes(b"x")
        (excluding.path / "n").unlink()
    events = told(excluding, BY_NAME)
    assert (MODIFY, b"n", False) in events
    assert not any(gone for _, _, gone in events)


def test_written_before_and_after_the_unlink_by_one_process(
    excluding: Watched, file: IO[bytes], mode: str
) -> None:
    """What fanotify has merged with the DELETE may have come before it: in doubt it is told."""
    with excluding.daemon.stopped():
        file.write(b"x")
        (excluding.path / "f").unlink()
        file.write(b"y")
    seen = [(MODIFY, b"f", False), (MODIFY, b"f", True)]
    assert told(excluding) == (seen[:1] if mode == "merged" else seen)


def test_a_name_that_is_there_again(excluding: Watched, file: IO[bytes], mode: str) -> None:
    """Fanotify says of which object an event is, inotify does not."""
    (excluding.path / "other").write_bytes(b"x")
    (excluding.path / "other").rename(excluding.path / "f")
    excluding.events()
    file.write(b"y")
    assert told(excluding) == [(MODIFY, b"f", mode == "merged")]
    with (excluding.path / "f").open("ab") as new:
        new.write(b"z")
    assert told(excluding) == [(MODIFY, b"f", False)]


def test_one_of_two_names(excluding: Watched, file: IO[bytes]) -> None:
    """It is the name by which it was opened that counts."""
    os.link(excluding.path / "f", excluding.path / "second")
    (excluding.path / "f").unlink()
    excluding.events()
    file.write(b"y")
    assert told(excluding) == [(MODIFY, b"f", True)]
    with (excluding.path / "second").open("ab") as second:
        second.write(b"z")
    assert told(excluding) == [(MODIFY, b"second", False)]


def test_watch_of_the_file_itself(excluding: Watched, file: IO[bytes]) -> None:
    fuse = excluding.guest.fuse
    fuse.fsnotify(excluding.dir, 0x100 | 0x200)  # the sentinel's
    fuse.fsnotify(excluding.file, MODIFY | EXCL_UNLINK)
    with excluding.daemon.stopped():
        elsewhere("os.truncate(a[0], 1)", excluding.path / "f")
        elsewhere("os.unlink(a[0])", excluding.path / "f")
    assert [gone for _, _, gone in told(excluding)] == [False]
    file.write(b"y")
    assert [gone for _, _, gone in told(excluding)] == [True]
