# SPDX-License-Identifier: BSD-3-Clause
"""``--thread-pool-size``: a request that has to wait for the host keeps no other waiting."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.running import Daemon, named_threads
from tests.frontend import ROOT_ID, Opcode, Session
from tests.frontend import fuse_wire as wire
from tests.frontend.fuse import Pending

GETATTR = wire.GETATTR_IN.pack(0, 0, 0)
MTIME_NOW_AND_SIZE = wire.SetattrValid.SIZE | wire.SetattrValid.MTIME_NOW


@contextmanager
def lease(path: Path) -> Iterator[None]:
    """Hold a lease: whoever truncates the file waits until it is given back."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, before)


def truncate(guest: Session, nodeid: int) -> Pending:
    """Ask for a size of 0."""
    body = wire.SETATTR_IN.pack(
        MTIME_NOW_AND_SIZE, *[0] * (len(wire.SETATTR_IN.unpack(bytes(wire.SETATTR_IN.size))) - 1)
    )
    return guest.fuse.submit(Opcode.SETATTR, nodeid, body)


def truncated_and_asked(daemon: Daemon, guest: Session) -> tuple[Pending, Pending]:
    """Ask for what has to wait, then for what need not."""
    nodeid = guest.fuse.lookup(ROOT_ID, "f").nodeid
    return truncate(guest, nodeid), guest.fuse.submit(Opcode.GETATTR, ROOT_ID, GETATTR)


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """Return a share with a file."""
    path = tmp_path / "shared"
    path.mkdir()
    (path / "f").write_bytes(b"12345")
    return path


def test_slow_request_holds_up_no_other(start: Callable[..., Daemon], share: Path) -> None:
    daemon = start("--thread-pool-size=2", share=share)
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        with lease(share / "f"):
            slow, quick = truncated_and_asked(daemon, guest)
            guest.fuse.wait(quick).check()
            assert (share / "f").stat().st_size == 5
        guest.fuse.wait(slow).check()
        assert (share / "f").stat().st_size == 0


def test_without_a_pool_it_does(start: Callable[..., Daemon], share: Path) -> None:
    daemon = start(share=share)
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        with lease(share / "f"):
            slow, quick = truncated_and_asked(daemon, guest)
        first = guest.fuse.ring.wait_used()
        assert first.head == slow.head
        assert guest.fuse.ring.wait_used().head == quick.head


@pytest.mark.parametrize("size", [1, 2, 7])
def test_every_request_is_answered_once(
    start: Callable[..., Daemon], share: Path, size: int
) -> None:
    daemon = start(f"--thread-pool-size={size}", share=share)
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        nodeid = guest.fuse.lookup(ROOT_ID, "f").nodeid
        for _ in range(50):
            asked = [
                guest.fuse.submit(Opcode.GETATTR, node, GETATTR, kick=node == nodeid)
                for node in (ROOT_ID, nodeid) * 8
            ]
            for pending in reversed(asked):
                guest.fuse.wait(pending).check()
        bases = guest.stop()
        assert bases[guest.rings.index(guest.fuse.ring)] == 2 + 50 * 16


def test_pool_has_that_many_threads(start: Callable[..., Daemon], share: Path) -> None:
    daemon = start("--thread-pool-size=5", share=share)
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        threads = named_threads(daemon.pid)
        ring = guest.rings.index(guest.fuse.ring)
        assert len(threads[f"vfsd-ring-{ring}"]) == 5
        assert len(threads["vfsd-ring-0"]) == 1, "the urgent ones need none"
