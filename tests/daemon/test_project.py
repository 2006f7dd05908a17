# SPDX-License-Identifier: BSD-3-Clause
"""Project ids, by which a host limits what space a share takes: a guest does not change them."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon.disks import KINDS, loop_disk
from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, Session

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")

GETFLAGS, SETFLAGS, SETFLAGS32 = 0x8008_6601, 0x4008_6602, 0x4004_6602
FSGETXATTR, FSSETXATTR = 0x801C_581F, 0x401C_5820
FSXATTR = struct.Struct("=IIIII8x")
FS_NODUMP_FL, FS_PROJINHERIT_FL = 0x40, 0x2000_0000
NODUMP, PROJINHERIT = 0x80, 0x200
PROJECT = 42
NOT_PERMITTED = "Operation not permitted"


def attributes(path: Path) -> tuple[int, ...]:
    """Return flags, extent size, number of extents, project and another extent size."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return FSXATTR.unpack(fcntl.ioctl(fd, FSGETXATTR, bytes(FSXATTR.size)))
    finally:
        os.close(fd)


@pytest.fixture(params=KINDS)
def share(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Yield a directory that belongs to a project, as all that is made in it."""
    options = {"ext4": ["-O", "project"], "xfs": []}[request.param]
    with ExitStack() as stack:
        make = loop_disk(tmp_path / "image", tmp_path / "disk", request.param, *options)
        try:
            disk = stack.enter_context(make)
        except subprocess.CalledProcessError:
            if request.param == "xfs":
                raise
            pytest.skip("this kernel has no projects on ext4")
        (disk / "share").mkdir()
        fd = os.open(disk / "share", os.O_RDONLY)
        fcntl.ioctl(fd, FSSETXATTR, FSXATTR.pack(PROJINHERIT, 0, 0, PROJECT, 0))
        os.close(fd)
        yield disk / "share"


@pytest.fixture
def serve(start: Callable[..., Daemon], share: Path) -> Iterator[Callable[..., Session]]:
    with ExitStack() as stack:

        def run(*arguments: str) -> Session:
            socket = start(*arguments, share=share).socket
            guest = stack.enter_context(Session.connect(socket))
            guest.fuse.init()
            return guest

        yield run


@pytest.mark.parametrize("uid", [0, 1000])
def test_projects_are_the_hosts(serve: Callable[..., Session], share: Path, uid: int) -> None:
    fuse = serve().fuse
    share.chmod(0o777)
    fuse.uid = fuse.gid = uid
    entry, opened = fuse.create(ROOT_ID, "f")
    directory = fuse.mkdir(ROOT_ID, "d")
    targets = [(entry.nodeid, opened.fh, share / "f")]
    targets.append((directory.nodeid, fuse.opendir(directory.nodeid).fh, share / "d"))
    if uid == 0:
        targets.append((ROOT_ID, fuse.opendir(ROOT_ID).fh, share))
    for node, fh, path in targets:
        before = flags, size, extents, project, cow = attributes(path)
        assert project == PROJECT
        flags32 = int.from_bytes(fuse.ioctl(node, fh, GETFLAGS, out_bytes=4), "little")
        changed = (flags32 ^ FS_PROJINHERIT_FL).to_bytes(4, "little")
        for command, data in (
            (FSSETXATTR, FSXATTR.pack(flags, size, extents, 0, cow)),
            (FSSETXATTR, FSXATTR.pack(flags, size, extents, PROJECT + 1, cow)),
            (FSSETXATTR, FSXATTR.pack(flags ^ PROJINHERIT, size, extents, PROJECT, cow)),
            (FSSETXATTR, FSXATTR.pack(0, 0, 0, 0, 0)),
            (SETFLAGS, changed),
            (SETFLAGS32, changed),
        ):
            with pytest.raises(FuseError, match=NOT_PERMITTED):
                fuse.ioctl(node, fh, command, data)
        assert attributes(path) == before
        # What has nothing to do with it may be changed.
        data = FSXATTR.pack(flags | NODUMP, size, extents, PROJECT, cow)
        fuse.ioctl(node, fh, FSSETXATTR, data)
        assert attributes(path) == (flags | NODUMP, size, extents, PROJECT, cow)
        fuse.ioctl(node, fh, SETFLAGS, flags32.to_bytes(4, "little"))
        assert attributes(path) == before


def test_projects_may_be_the_guests(serve: Callable[..., Session], share: Path) -> None:
    fuse = serve("--allow-project-ids").fuse
    directory = fuse.mkdir(ROOT_ID, "d").nodeid
    fh = fuse.opendir(directory).fh
    flags = int.from_bytes(fuse.ioctl(directory, fh, GETFLAGS, out_bytes=4), "little")
    fuse.ioctl(directory, fh, FSSETXATTR, FSXATTR.pack(PROJINHERIT, 0, 0, 7, 0))
    assert attributes(share / "d")[3] == 7
    fuse.ioctl(directory, fh, SETFLAGS, (flags & ~FS_PROJINHERIT_FL).to_bytes(4, "little"))
    assert not attributes(share / "d")[0] & PROJINHERIT
