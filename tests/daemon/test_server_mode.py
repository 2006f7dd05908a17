# SPDX-License-Identifier: BSD-3-Clause
"""``--fsnotify=server``: what inotify can tell, for everybody's doing, each once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.events import (
    ALL,
    ATTRIB,
    CREATE,
    DELETE,
    MODIFY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ON_CHILD,
    Watched,
)
from tests.daemon.running import DELAYED, DELAYED_WITHOUT_BARRIER, FAULTY, Daemon, root_only
from tests.frontend import ROOT_ID, FuseError, InitFlag, Session
from tests.frontend.notify import FS_ISDIR, FSN_PARENT_ONLY, FSN_UNLINKED

ROUNDS = 50
SERVER_MASK = CREATE | DELETE | MOVED_FROM | MOVED_TO | MOVE_SELF | MODIFY | ATTRIB


@pytest.fixture
def daemon(start: Callable[..., Daemon]) -> Daemon:
    return start("--fsnotify=server")


@pytest.fixture
def guest(daemon: Daemon) -> Iterator[Session]:
    with Session.connect(daemon.socket) as session:
        reply = session.fuse.init()
        assert InitFlag.HAS_FSNOTIFY in reply.flags
        assert reply.fsnotify_server_mask == SERVER_MASK
        yield session


@pytest.fixture
def watched(daemon: Daemon, guest: Session) -> Watched:
    return Watched(daemon, guest)


def test_doing_of_the_host(watched: Watched) -> None:
    (watched.path / "n").write_bytes(b"x")
    (watched.path / "n").chmod(0o600)
    (watched.path / "n").unlink()
    assert [(r.mask, r.name, r.flags) for r in watched.events()] == [
        (CREATE, b"n", 0),
        (MODIFY, b"n", FSN_PARENT_ONLY),
        (ATTRIB, b"n", FSN_PARENT_ONLY),
        (DELETE, b"n", 0),
    ]


def test_doing_of_the_guest_comes_from_here_too(watched: Watched) -> None:
    fuse = watched.guest.fuse
    opened = fuse.open(watched.file, os.O_RDWR)
    fuse.write(watched.file, opened.fh, 0, b"guest")
    fuse.release(watched.file, opened.fh, os.O_RDWR)
    fuse.mkdir(watched.dir, "sub")
    fuse.rename(watched.dir, "f", watched.dir, "g")
    fuse.rmdir(watched.dir, "sub")
    assert watched.short() == [
        (MODIFY, b"f"),
        (CREATE | FS_ISDIR, b"sub"),
        (MOVED_FROM, b"f"),
        (MOVED_TO, b"g"),
        (DELETE | FS_ISDIR, b"sub"),
    ]


def test_rename_has_one_cookie(watched: Watched) -> None:
    (watched.path / "f").rename(watched.path / "g")
    moved_from, moved_to = watched.events()
    assert moved_from.cookie == moved_to.cookie != 0
    assert moved_to.child in {0, watched.file}


def test_what_is_renamed_is_told_itself(watched: Watched) -> None:
    watched.guest.fuse.fsnotify(watched.file, ALL)
    expected = {(watched.dir, MOVED_FROM), (watched.dir, MOVED_TO), (watched.file, MOVE_SELF)}
    (watched.path / "f").rename(watched.path / "g")
    assert {(r.nodeid, r.mask) for r in watched.events()} == expected
    watched.guest.fuse.rename(watched.dir, "g", watched.dir, "f")
    assert {(r.nodeid, r.mask) for r in watched.events()} == expected


def test_watched_file_and_its_directory_are_told_apart(watched: Watched) -> None:
    watched.guest.fuse.fsnotify(watched.file, ALL)
    with (watched.path / "f").open("r+b") as file:
        file.write(b"x")
    (watched.path / "f").unlink()
    told = {(r.nodeid, r.mask, r.flags, r.name) for r in watched.events()}
    assert told == {
        (watched.dir, MODIFY, FSN_PARENT_ONLY, b"f"),
        (watched.file, MODIFY, 0, b""),
        (watched.file, ATTRIB, 0, b""),
        (watched.file, 0, FSN_UNLINKED, b""),
        (watched.dir, DELETE, 0, b"f"),
    }


def test_end_of_a_file_that_the_host_has_open_comes_with_its_close(watched: Watched) -> None:
    watched.guest.fuse.fsnotify(watched.file, ALL)
    with (watched.path / "f").open("rb"):
        (watched.path / "f").unlink()
        assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [
            (watched.file, ATTRIB, 0),
            (watched.dir, DELETE, 0),
        ]
    assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [
        (watched.file, 0, FSN_UNLINKED)
    ]


def test_end_of_a_directory(watched: Watched, daemon: Daemon) -> None:
    (daemon.share / "lone").mkdir()
    lone = watched.guest.fuse.lookup(ROOT_ID, "lone").nodeid
    watched.guest.fuse.fsnotify(lone, ALL | ON_CHILD)
    (daemon.share / "lone").rmdir()
    assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [(lone, 0, FSN_UNLINKED)]


def test_watches_come_and_go(watched: Watched, daemon: Daemon) -> None:
    def host_watches() -> int:
        return sum(line.startswith("inotify wd:") for line in daemon.fdinfo())

    assert host_watches() == 1
    for mask in (MODIFY, MODIFY | ATTRIB, ATTRIB):
        watched.guest.fuse.fsnotify(watched.file, mask)
        assert host_watches() == 2
    watched.guest.fuse.fsnotify(watched.file, 0)
    assert host_watches() == 1
    for _ in range(20):  # add, end, and the same name again
        watched.guest.fuse.fsnotify(watched.file, MODIFY)
        (watched.path / "f").unlink()
        (watched.path / "f").touch()
        watched.guest.fuse.forget(watched.file)
        watched.file = watched.guest.fuse.lookup(watched.dir, "f").nodeid
        watched.events()
    watched.guest.fuse.destroy()
    assert host_watches() == 0


def test_limit_of_watches(start: Callable[..., Daemon]) -> None:
    daemon = start("--fsnotify=server", "--fsnotify-max-watches=1")
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        watched = Watched(daemon, guest)
        with pytest.raises(FuseError, match="No space"):
            guest.fuse.fsnotify(watched.file, MODIFY)
        guest.fuse.fsnotify(watched.dir, 0)
        guest.fuse.fsnotify(watched.file, MODIFY)


def test_barrier_places_older_events_before_the_reply(watched: Watched) -> None:
    assert watched.guest.notifications is not None
    for round_ in range(200):
        name = f"v{round_}"
        (watched.path / name).touch()
        watched.guest.notifications.read_now()
        os.truncate(watched.path / name, 1)
        watched.guest.fuse.unlink(watched.dir, name)
        told = [(r.mask, r.name) for r in watched.guest.notifications.read_now()]
        assert (MODIFY, name.encode()) in told
        assert told[-1] == (DELETE, name.encode())


def without(*limits: str) -> list[str]:
    """Return what runs a command where nothing of these limits of the user's is left."""
    zeroes = "; ".join(f"echo 0 >/proc/sys/user/{limit}" for limit in limits)
    alone = ["setpriv", "--clear-groups", "unshare", "--user", "--map-root-user"]
    return [*alone, "sh", "-c", f'{zeroes}; exec "$@"', "sh"]


@root_only
def test_is_what_merged_falls_back_to(tmp_path: Path) -> None:
    launcher = without("max_fanotify_groups")
    with (
        Daemon(tmp_path, "--sandbox=none", launcher=launcher) as daemon,
        Session.connect(daemon.socket) as session,
    ):
        (said,) = [line for line in daemon.log if "event=fsnotify_fallback" in line]
        assert "mode=server" in said
        assert os.strerror(errno.EMFILE) in said
        assert session.fuse.init().fsnotify_server_mask == SERVER_MASK
        watched = Watched(daemon, session)
        session.fuse.mkdir(watched.dir, "guest")
        (watched.path / "host").mkdir()
        assert watched.short() == [(CREATE | FS_ISDIR, b"guest"), (CREATE | FS_ISDIR, b"host")]


@root_only
def test_where_nothing_works_local_events_are_left(tmp_path: Path) -> None:
    launcher = without("max_fanotify_groups", "max_inotify_instances")
    with (
        Daemon(tmp_path, "--sandbox=none", launcher=launcher) as daemon,
        Session.connect(daemon.socket) as session,
    ):
        assert any("event=no_remote_fsnotify" in line for line in daemon.log)
        assert InitFlag.HAS_FSNOTIFY not in session.fuse.init().flags


def test_is_not_taken_without_need(start: Callable[..., Daemon]) -> None:
    daemon = start()
    assert not any("fallback" in line for line in daemon.log)
    with Session.connect(daemon.socket) as session:
        assert session.fuse.init().fsnotify_server_mask == 0


@pytest.mark.parametrize("faults", [DELAYED, DELAYED_WITHOUT_BARRIER], ids=["barrier", "none"])
def test_what_the_guest_does_is_told_before_it_goes_on(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    """CREATE before the guest's own OPEN, MODIFY before its CLOSE, however late the host is."""
    assert FAULTY.exists(), "make build-faults"
    launcher = ("env", *faults)
    with (
        Daemon(tmp_path, "--fsnotify=server", launcher=launcher, command=str(FAULTY)) as daemon,
        Session.connect(daemon.socket, notify_buffers=64) as guest,
    ):
        guest.fuse.init()
        watched = Watched(daemon, guest)
        assert guest.notifications is not None
        in_time = 0
        for number in range(ROUNDS):
            name = f"r{number}"
            entry, opened = guest.fuse.create(watched.dir, name)
            created = [(r.mask, r.name) for r in guest.notifications.read_now()]
            guest.fuse.write(entry.nodeid, opened.fh, 0, b"x")
            guest.fuse.flush(entry.nodeid, opened.fh)
            modified = [(r.mask, r.name) for r in guest.notifications.read_now()]
            guest.fuse.release(entry.nodeid, opened.fh, os.O_RDWR)
            in_time += (CREATE, name.encode()) in created
            in_time += (MODIFY, name.encode()) in modified
        assert in_time == 2 * ROUNDS if faults == DELAYED else in_time < ROUNDS
