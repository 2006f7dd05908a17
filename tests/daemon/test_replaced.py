# SPDX-License-Identifier: BSD-3-Clause
"""The host replaces by rename what the guest has just looked up.

A guest's kernel that is answered ESTALE looks the name up once more and tries again, once. What
that lookup finds has to be there when the guest comes with the new id, however often the host
replaces it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, Session
from tests.frontend.fuse import FuseClient

REPLACED_TIMES = 300


def write_new(path: Path) -> None:
    path.write_text("new")


def link_new(path: Path) -> None:
    path.symlink_to("f")


def open_it(fuse: FuseClient, node: int) -> None:
    fuse.release(node, fuse.open(node).fh)


def truncate_it(fuse: FuseClient, node: int) -> None:
    fuse.release(node, fuse.open(node, os.O_WRONLY | os.O_TRUNC).fh)


def open_directory(fuse: FuseClient, node: int) -> None:
    fuse.releasedir(node, fuse.opendir(node).fh)


Use = Callable[[FuseClient, int], object]
ANYTHING: dict[str, Use] = {
    "getattr": FuseClient.getattr,
    "statx": FuseClient.statx,
    "access": lambda fuse, node: fuse.access(node, os.R_OK),
    "listxattr": FuseClient.listxattr,
    "statfs": FuseClient.statfs,
    "utimes": lambda fuse, node: fuse.setattr(node, mtime=(1, 0)),
    "chown": lambda fuse, node: fuse.setattr(node, uid=1),
}
FILE: dict[str, Use] = {
    **ANYTHING,
    "open": open_it,
    "open-truncate": truncate_it,
    "chmod": lambda fuse, node: fuse.setattr(node, mode=0o600),
    "truncate": lambda fuse, node: fuse.setattr(node, size=1),
    "setxattr": lambda fuse, node: fuse.setxattr(node, "user.a", b"1"),
    "syncfs": FuseClient.syncfs,
}
SYMLINK: dict[str, Use] = {**ANYTHING, "readlink": FuseClient.readlink}
DIRECTORY: dict[str, Use] = {
    **ANYTHING,
    "opendir": open_directory,
    "chmod": lambda fuse, node: fuse.setattr(node, mode=0o700),
}
KINDS = [
    pytest.param(write_new, FILE, id="file"),
    pytest.param(link_new, SYMLINK, id="symlink"),
    pytest.param(Path.mkdir, DIRECTORY, id="directory"),
]


def replace(make: Callable[[Path], None], path: Path) -> None:
    """Put another one in its place; the old one ends."""
    new = path.with_name("new")
    make(new)
    if path.is_dir() and not path.is_symlink():
        old = path.with_name("old")
        path.rename(old)
        new.rename(path)
        old.rmdir()
    else:
        new.rename(path)


@pytest.mark.parametrize("handles", ["prefer", "never"])
@pytest.mark.parametrize("cache", ["auto", "always", "never"])
@pytest.mark.parametrize(("make", "uses"), KINDS)
def test_looked_up_again_it_is_there(
    start: Callable[..., Daemon],
    make: Callable[[Path], None],
    uses: dict[str, Use],
    cache: str,
    handles: str,
) -> None:
    daemon = start(f"--inode-file-handles={handles}", f"--cache={cache}", "--xattr")
    path = daemon.share / "it"
    make(path)
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()

        def is_stale(use: Use) -> bool:
            entry = guest.fuse.lookup(ROOT_ID, "it")
            replace(make, path)
            try:
                if cache == "never":  # then it asks for the attributes before
                    guest.fuse.getattr(entry.nodeid)
                use(guest.fuse, entry.nodeid)
            except FuseError as error:
                if error.errno != errno.ESTALE:
                    raise
                return True
            finally:
                guest.fuse.forget(entry.nodeid)
            return False

        for name, use in uses.items():
            for _ in range(3):  # as often as a kernel tries
                assert not (is_stale(use) and is_stale(use)), name
    assert daemon.wait() == 0


def test_none_is_lost_when_others_expire(daemon: Daemon, guest: Session) -> None:
    """What was looked up just before the others' time has come is not closed with them."""
    path = daemon.share / "it"
    write_new(path)

    def is_stale() -> bool:
        entry = guest.fuse.lookup(ROOT_ID, "it")
        replace(write_new, path)
        guest.fuse.statfs()  # a request in between, after which descriptors are closed
        try:
            open_it(guest.fuse, entry.nodeid)
        except FuseError as error:
            if error.errno != errno.ESTALE:
                raise
            return True
        finally:
            guest.fuse.forget(entry.nodeid)
        return False

    for _ in range(REPLACED_TIMES):
        assert not (is_stale() and is_stale())


@pytest.mark.parametrize("flags", [0, os.O_TRUNC])
def test_create_opens_what_is_replaced(daemon: Daemon, guest: Session, flags: int) -> None:
    """CREATE of what exists looks up and opens by itself; nobody sees a moment in between."""
    path = daemon.share / "it"
    write_new(path)
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                replace(write_new, path)
        finally:
            os._exit(1)
    try:
        for _ in range(REPLACED_TIMES):
            entry, opened = guest.fuse.create(ROOT_ID, "it", flags=os.O_RDWR | os.O_CREAT | flags)
            guest.fuse.release(entry.nodeid, opened.fh)
            guest.fuse.forget(entry.nodeid)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
