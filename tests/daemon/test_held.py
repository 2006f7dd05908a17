# SPDX-License-Identifier: BSD-3-Clause
"""Who looks a name up holds its dentry, and the host ends nothing that is held.

So what the host removes in just that moment loses its name first, and ends when we let go. Locally
the end comes first, and so it must be told. The faulty build holds what it looks up until the host
has removed it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.daemon.events import (
    ALL,
    ATTRIB,
    CREATE,
    DELETE,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ON_CHILD,
    Watched,
    with_its_end,
)
from tests.daemon.running import DEADLINE_S, FAULTY, Daemon
from tests.daemon.test_normalising import MODES
from tests.frontend import Session
from tests.frontend.notify import FS_ISDIR, FSN_UNLINKED


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str, int], Watched]]:
    """Make a watched directory, of a daemon in the given mode that holds what is said."""
    assert FAULTY.exists(), "make build-faults"
    with ExitStack() as stack:

        def run(mode: str, hold: int) -> Watched:
            launcher = ("env", f"VFSD_FAULT_HOLD={hold}")
            daemon = stack.enter_context(
                Daemon(tmp_path, f"--fsnotify={mode}", launcher=launcher, command=str(FAULTY))
            )
            guest = stack.enter_context(Session.connect(daemon.socket))
            guest.fuse.init()
            watched = Watched(daemon, guest, (ALL & ~CREATE) | ON_CHILD)
            guest.fuse.fsnotify(watched.file, ALL)
            return watched

        yield run


def wait_until_held(daemon: Daemon, name: str) -> None:
    """Wait for a descriptor of what is called so."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        for fd in Path(f"/proc/{daemon.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                if os.readlink(fd).endswith(f"/{name}"):
                    return
        os.sched_yield()
    raise TimeoutError(f"nobody holds {name!r}")


def told(watched: Watched) -> list[tuple[int, int, int, bytes]]:
    return [(r.nodeid, r.mask, r.flags, r.name) for r in with_its_end(watched.events())]


@MODES
def test_file_ends_before_its_name(make: Callable[[str, int], Watched], mode: str) -> None:
    watched = make(mode, 1)
    (watched.path / "f").rename(watched.path / "g")
    wait_until_held(watched.daemon, "g")
    (watched.path / "g").unlink()
    assert told(watched) == [
        (watched.dir, MOVED_FROM, 0, b"f"),
        (watched.dir, MOVED_TO, 0, b"g"),
        (watched.file, MOVE_SELF, 0, b""),
        (watched.file, ATTRIB, FSN_UNLINKED, b""),
        (watched.dir, DELETE, 0, b"g"),
    ]


@MODES
def test_file_that_the_host_has_open_ends_when_it_is_closed(
    make: Callable[[str, int], Watched], mode: str
) -> None:
    watched = make(mode, 1)
    with (watched.path / "f").open("rb"):
        (watched.path / "f").rename(watched.path / "g")
        wait_until_held(watched.daemon, "g")
        (watched.path / "g").unlink()
        assert told(watched)[-2:] == [
            (watched.file, ATTRIB, 0, b""),
            (watched.dir, DELETE, 0, b"g"),
        ]
    assert told(watched)[-1] == (watched.file, 0, FSN_UNLINKED, b"")


@MODES
def test_directory_ends_before_its_name(make: Callable[[str, int], Watched], mode: str) -> None:
    watched = make(mode, 2)
    fuse = watched.guest.fuse
    sub = watched.path / "sub"
    sub.mkdir()
    inner = fuse.lookup(watched.dir, "sub").nodeid
    fuse.fsnotify(inner, ALL)
    (sub / "x").touch()
    wait_until_held(watched.daemon, "x")
    (sub / "x").unlink()
    sub.rmdir()
    of_names = [event for event in told(watched) if event[1] & (CREATE | DELETE) or event[2]]
    assert of_names == [
        (inner, CREATE, 0, b"x"),
        (inner, DELETE, 0, b"x"),
        (inner, 0, FSN_UNLINKED, b""),
        (watched.dir, DELETE | FS_ISDIR, 0, b"sub"),
    ]


@MODES
def test_directory_in_a_directory_pins_that_too(
    make: Callable[[str, int], Watched], mode: str
) -> None:
    watched = make(mode, 3)
    fuse = watched.guest.fuse
    sub, deep = watched.path / "sub", watched.path / "sub" / "deep"
    deep.mkdir(parents=True)
    outer = fuse.lookup(watched.dir, "sub").nodeid
    inner = fuse.lookup(outer, "deep").nodeid
    fuse.fsnotify(outer, ALL)
    fuse.fsnotify(inner, ALL)
    (deep / "x").touch()
    wait_until_held(watched.daemon, "x")
    (deep / "x").unlink()
    deep.rmdir()
    sub.rmdir()
    of_names = [event for event in told(watched) if event[1] & (CREATE | DELETE) or event[2]]
    assert of_names == [
        (inner, CREATE, 0, b"x"),
        (inner, DELETE, 0, b"x"),
        (inner, 0, FSN_UNLINKED, b""),
        (outer, DELETE | FS_ISDIR, 0, b"deep"),
        (outer, 0, FSN_UNLINKED, b""),
        (watched.dir, DELETE | FS_ISDIR, 0, b"sub"),
    ]
