# SPDX-License-Identifier: BSD-3-Clause
"""A share that is one plain file: it is the guest's root, and there is nothing beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from errno import ENOTDIR
from pathlib import Path

import pytest

from tests.daemon.events import CLOSE_WRITE, MODIFY, OPEN
from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, Session

MODES = ["none", "chroot", "namespace"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Return each kind of sandbox in turn."""
    if request.param != "none" and os.geteuid() != 0:
        pytest.skip("needs root")
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file to share, with something beside it."""
    (tmp_path / "beside").write_bytes(b"not shared")
    path = tmp_path / "file"
    path.write_bytes(b"shared")
    return path


@pytest.fixture
def daemon(start: Callable[..., Daemon], mode: str, file: Path) -> Daemon:
    """Return a daemon that serves `file`."""
    return start(f"--sandbox={mode}", "--xattr", share=file)


def test_is_read_and_written(guest: Session, file: Path) -> None:
    fuse = guest.fuse
    attr = fuse.getattr(ROOT_ID).attr
    assert stat.S_ISREG(attr.mode)
    assert (attr.ino, attr.size) == (file.stat().st_ino, 6)
    opened = fuse.open(ROOT_ID, os.O_RDWR)
    assert fuse.read(ROOT_ID, opened.fh, 0, 100) == b"shared"
    assert fuse.write(ROOT_ID, opened.fh, 6, b" by two") == 7
    fuse.release(ROOT_ID, opened.fh, os.O_RDWR)
    assert file.read_bytes() == b"shared by two"
    fuse.setattr(ROOT_ID, mode=0o600, size=3)
    assert (stat.S_IMODE(file.stat().st_mode), file.read_bytes()) == (0o600, b"sha")


def test_has_nothing_beside_it(guest: Session, daemon: Daemon, mode: str) -> None:
    fuse = guest.fuse
    for act in (
        lambda: fuse.lookup(ROOT_ID, "beside"),
        lambda: fuse.mkdir(ROOT_ID, "new"),
        lambda: fuse.create(ROOT_ID, "new", os.O_RDWR),
        lambda: fuse.unlink(ROOT_ID, "file"),
        lambda: fuse.opendir(ROOT_ID),
    ):
        with pytest.raises(FuseError) as refusal:
            act()
        assert refusal.value.errno == ENOTDIR
    root = f"/proc/{daemon.pid}/root"
    shown = {"none": os.listdir("/"), "chroot": [], "namespace": ["share"]}[mode]
    assert sorted(os.listdir(root)) == sorted(shown)
    if mode != "none":
        why = {"chroot": "No such file", "namespace": "Read-only"}  # without a name, or read-only
        with pytest.raises(OSError, match=why[mode]):
            os.mkdir(f"{root}/new")


def test_its_watcher_hears_the_host(guest: Session, file: Path) -> None:
    assert guest.notifications is not None
    guest.fuse.fsnotify(ROOT_ID, OPEN | MODIFY | CLOSE_WRITE)
    (file.parent / "beside").write_bytes(b"nobody hears this")
    with file.open("r+b") as opened:
        opened.write(b"change")
    records = guest.notifications.read_until(lambda r: bool(r.mask & CLOSE_WRITE))
    assert {r.nodeid for r in records} == {ROOT_ID}
    assert [r.mask for r in records] == [OPEN, MODIFY, CLOSE_WRITE]


def test_a_guest_that_changes_it_hears_nothing_from_us(guest: Session, file: Path) -> None:
    assert guest.notifications is not None
    guest.fuse.fsnotify(ROOT_ID, OPEN | MODIFY | CLOSE_WRITE)
    opened = guest.fuse.open(ROOT_ID, os.O_WRONLY)
    guest.fuse.write(ROOT_ID, opened.fh, 0, b"guest")
    guest.fuse.release(ROOT_ID, opened.fh, os.O_WRONLY)
    os.close(os.open(file, os.O_RDONLY))
    (record,) = guest.notifications.read_until(lambda r: True)
    assert record.mask == OPEN


def test_nothing_else_is_shared(start: Callable[..., Daemon], tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(
        EOFError, match=f"--shared-dir {path}: neither a directory nor a plain file"
    ):
        start(share=path)
