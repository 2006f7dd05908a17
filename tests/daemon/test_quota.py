# SPDX-License-Identifier: BSD-3-Clause
"""A guest that wants more descriptors than it may have: ENFILE for it, and the daemon goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, Session

LIMIT = 256


def count_fds(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def until_refused(ask: Callable[[int], int]) -> list[int]:
    """Return what `ask` gave until it failed with ENFILE, which must come before `LIMIT`."""
    got: list[int] = []
    while len(got) < LIMIT:
        try:
            got.append(ask(len(got)))
        except FuseError as error:
            if error.errno != errno.ENFILE:
                raise
            return got
    pytest.fail("no quota")


@pytest.mark.parametrize("handles", ["never", "prefer"])
def test_one_quota_for_inodes_and_open_files(start: Callable[..., Daemon], handles: str) -> None:
    daemon = start(f"--rlimit-nofile={LIMIT}", f"--inode-file-handles={handles}")
    for i in range(LIMIT):
        (daemon.share / str(i)).touch()
    with Session.connect(daemon.socket) as guest:
        fuse = guest.fuse
        fuse.init()
        before = count_fds(daemon)
        opened = until_refused(lambda _: fuse.opendir(ROOT_ID).fh)
        assert count_fds(daemon) == before + len(opened)
        # Full is full, for inodes too where they need descriptors.
        if handles == "never":
            with pytest.raises(FuseError) as refused:
                fuse.lookup(ROOT_ID, "0")
            assert refused.value.errno == errno.ENFILE
        with pytest.raises(FuseError) as refused:
            fuse.create(ROOT_ID, "new")
        assert refused.value.errno == errno.ENFILE
        # What needs none is served, and so is what fits again.
        fuse.mkdir(ROOT_ID, "d") if handles == "prefer" else fuse.unlink(ROOT_ID, "1")
        fuse.releasedir(ROOT_ID, opened.pop())
        fuse.releasedir(ROOT_ID, fuse.opendir(ROOT_ID).fh)
        for fh in opened:
            fuse.releasedir(ROOT_ID, fh)
        assert count_fds(daemon) <= before + 1
        if handles == "never":
            nodes = until_refused(lambda i: fuse.lookup(ROOT_ID, str(i + 2)).nodeid)
            fuse.batch_forget([(node, 1) for node in nodes])
        else:
            for i in range(2, LIMIT):
                fuse.lookup(ROOT_ID, str(i))
        assert count_fds(daemon) <= before + 2
        # A guest that goes without a word leaves nothing either.
        until_refused(lambda _: fuse.opendir(ROOT_ID).fh)
        fuse.init()
        assert count_fds(daemon) <= before
    assert daemon.wait() == 0
