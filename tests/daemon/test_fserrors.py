# SPDX-License-Identifier: BSD-3-Clause
"""Errors of host filesystems below the share: the first one and how many, of each filesystem.

An ext4 on a loop device says that it is broken whenever somebody asks it to, or when it is.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon.events import CREATE
from tests.daemon.running import Daemon
from tests.daemon.test_whole import FSNOTIFY_SB, PRIVILEGED
from tests.frontend import ROOT_ID, Record, Session

FS_ERROR = 0x8000
EFSCORRUPTED = errno.EUCLEAN
EFSBADCRC = errno.EBADMSG
BUFFERS = 4


class Disk:
    """An ext4 of its own, mounted at `path`; its directory ``broken`` is."""

    def __init__(self, image: Path, path: Path) -> None:
        self.path = path
        path.mkdir()
        content = image.with_suffix(".d")
        (content / "broken").mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(8 << 20)
        _run("mkfs.ext4", "-q", "-b", "1024", "-O", "metadata_csum", "-d", content, image)
        block = _run("debugfs", "-R", "blocks /broken", image).split()[0]
        with image.open("r+b") as file:  # The end of a directory's block is its checksum.
            file.seek((int(block) + 1) * 1024 - 4)
            file.write(b"none")
        _run("mount", "-o", "loop,errors=continue", image, path)
        device = os.stat(path).st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        self._trigger = Path(f"/sys/fs/ext4/{name}/trigger_fs_error")

    def fail(self, times: int = 1) -> None:
        """Have it report EFSCORRUPTED."""
        with self._trigger.open("wb", buffering=0) as trigger:
            for _ in range(times):
                trigger.write(b"test")

    def read_broken(self) -> None:
        """Have it report EFSBADCRC."""
        with pytest.raises(OSError, match="Bad message"):
            os.listdir(self.path / "broken")

    def close(self) -> None:
        _run("umount", "-l", self.path)


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return done.stdout


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    with ExitStack() as stack:

        def make(name: str, path: Path) -> Disk:
            disk = Disk(tmp_path / f"{name}.img", path)
            stack.callback(disk.close)
            return disk

        yield make


def errors(guest: Session, count: int) -> list[Record]:
    """Return records of errors until they tell of `count`."""
    assert guest.notifications is not None
    found: list[Record] = guest.notifications.read_now()
    while sum(r.cookie for r in found) < count:
        found += guest.notifications.read()
    assert sum(r.cookie for r in found) == count
    return found


@pytest.fixture
def broken(
    tmp_path: Path, start: Callable[..., Daemon], make_disk: Callable[..., Disk]
) -> Iterator[tuple[Disk, Session]]:
    """A share that is a disk, and a guest that listens for its errors."""
    disk = make_disk("share", tmp_path / "share")
    socket = start(*PRIVILEGED, share=disk.path).socket
    with Session.connect(socket, notify_buffers=BUFFERS) as guest:
        guest.fuse.init()
        yield disk, guest


def test_an_error_reaches_the_guest(broken: tuple[Disk, Session]) -> None:
    disk, guest = broken
    guest.fuse.fsnotify(ROOT_ID, FS_ERROR, FSNOTIFY_SB)
    disk.fail()
    (record,) = errors(guest, 1)
    assert record.cookie == 1
    assert (record.nodeid, record.mask, record.error, record.name) == (
        ROOT_ID,
        FS_ERROR,
        EFSCORRUPTED,
        b"",
    )


def test_a_flood_is_told_as_a_count_behind_the_first(
    broken: tuple[Disk, Session], request: pytest.FixtureRequest
) -> None:
    """A guest that gives no buffers meanwhile costs one record, whatever the number."""
    flood: int = request.config.getoption("--host-errors")
    disk, guest = broken
    queue = guest.notifications
    assert queue is not None
    guest.fuse.fsnotify(ROOT_ID, FS_ERROR, FSNOTIFY_SB)
    queue.repost = False
    disk.read_broken()
    disk.fail(flood)
    told: list[Record] = []
    for _ in range(BUFFERS):
        if sum(r.cookie for r in told) <= flood:
            told += queue.read()
    # Once more: it changes nothing, but before its answer what the host has to say is read.
    guest.fuse.fsnotify(ROOT_ID, FS_ERROR, FSNOTIFY_SB)
    queue.repost = True
    queue.post()
    rest = errors(guest, flood + 1 - sum(r.cookie for r in told))
    assert told[0].error == EFSBADCRC
    assert {r.error for r in told[1:] + rest} <= {EFSCORRUPTED}
    assert len(rest) <= 2


def test_the_first_of_those_that_wait_is_kept(broken: tuple[Disk, Session]) -> None:
    disk, guest = broken
    queue = guest.notifications
    assert queue is not None

    def subscribe() -> None:
        """Repeated it changes nothing, but before its answer what the host has to say is read."""
        guest.fuse.fsnotify(ROOT_ID, FS_ERROR, FSNOTIFY_SB)

    subscribe()
    queue.repost = False
    for _ in range(BUFFERS):
        disk.fail()
        assert [r.cookie for r in queue.read()] == [1]
    disk.fail()
    subscribe()
    disk.read_broken()
    subscribe()
    disk.fail(50)
    subscribe()
    queue.repost = True
    queue.post()
    told = [(r.error, r.cookie) for r in errors(guest, 52)]
    assert told == [(EFSCORRUPTED, 1), (EFSBADCRC, 51)]


def test_who_does_not_ask_for_errors_hears_of_none(broken: tuple[Disk, Session]) -> None:
    disk, guest = broken
    assert guest.notifications is not None
    guest.fuse.fsnotify(ROOT_ID, CREATE, FSNOTIFY_SB)
    disk.fail()
    (disk.path / "f").touch()
    assert [r.mask for r in guest.notifications.read()] == [CREATE]


def test_filesystems_do_not_hide_each_other(
    tmp_path: Path, start: Callable[..., Daemon], make_disk: Callable[..., Disk]
) -> None:
    (tmp_path / "share").mkdir()
    one = make_disk("one", tmp_path / "share" / "one")
    other = make_disk("other", tmp_path / "share" / "other")
    daemon = start(*PRIVILEGED, share=tmp_path / "share")
    with Session.connect(daemon.socket, notify_buffers=BUFFERS) as guest:
        guest.fuse.init()
        queue = guest.notifications
        assert queue is not None
        roots = [guest.fuse.lookup(ROOT_ID, name).nodeid for name in ("one", "other")]
        for root in roots:
            guest.fuse.fsnotify(root, FS_ERROR, FSNOTIFY_SB)
        queue.repost = False
        one.fail(50)
        other.read_broken()
        one.fail(50)
        other.fail(3)
        told: list[Record] = []
        while len(told) < BUFFERS and sum(r.cookie for r in told) < 104:
            told += queue.read()
        queue.repost = True
        queue.post()
        told += errors(guest, 104 - sum(r.cookie for r in told))
        counts = [sum(r.cookie for r in told if r.nodeid == root) for root in roots]
        assert counts == [100, 4]
        assert next(r for r in told if r.nodeid == roots[1]).error == EFSBADCRC
