# SPDX-License-Identifier: BSD-3-Clause
"""A directory that the host removes, and makes anew, while the guest has the old one cached.

Whatever takes a name in the removed one is answered ESTALE, at which a guest's kernel looks the
path up again. A name that is not there in a living directory stays ENOENT.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, Session
from tests.frontend.fuse import FuseClient

# What is done in a directory, another one living beside it, where the file "f" is.
Act = Callable[[FuseClient, int, int], object]
IN: dict[str, Act] = {
    "lookup": lambda fuse, there, _: fuse.lookup(there, "absent"),
    "unlink": lambda fuse, there, _: fuse.unlink(there, "absent"),
    "rmdir": lambda fuse, there, _: fuse.rmdir(there, "absent"),
    "rename from": lambda fuse, there, beside: fuse.rename(there, "absent", beside, "g"),
    "rename2 from": lambda fuse, there, beside: fuse.rename2(there, "absent", beside, "g", 1),
}
INTO: dict[str, Act] = {
    "create": lambda fuse, there, _: fuse.create(there, "new"),
    "create O_EXCL": lambda fuse, there, _: fuse.create(
        there, "new", flags=os.O_CREAT | os.O_EXCL | os.O_RDWR
    ),
    "mkdir": lambda fuse, there, _: fuse.mkdir(there, "new"),
    "mknod": lambda fuse, there, _: fuse.mknod(there, "new"),
    "symlink": lambda fuse, there, _: fuse.symlink(there, "new", "f"),
    "link": lambda fuse, there, beside: fuse.link(fuse.lookup(beside, "f").nodeid, there, "new"),
    "rename into": lambda fuse, there, beside: fuse.rename(beside, "f", there, "new"),
    "rename2 into": lambda fuse, there, beside: fuse.rename2(beside, "f", there, "new", 1),
    "tmpfile": lambda fuse, there, _: fuse.tmpfile(there),
}


def answer(fuse: FuseClient, act: Act, there: int, beside: int) -> int:
    try:
        act(fuse, there, beside)
    except FuseError as error:
        return error.errno or 0
    return 0


@pytest.fixture(params=["prefer", "never"])
def running(
    request: pytest.FixtureRequest, start: Callable[..., Daemon]
) -> Iterator[tuple[Daemon, FuseClient]]:
    daemon = start(f"--inode-file-handles={request.param}")
    (daemon.share / "beside").mkdir()
    (daemon.share / "beside" / "f").write_text("f")
    with ExitStack() as stack:
        guest = stack.enter_context(Session.connect(daemon.socket))
        guest.fuse.init()
        yield daemon, guest.fuse


@pytest.mark.parametrize("known", [False, True], ids=["looked-up", "just-used"])
@pytest.mark.parametrize("name", IN | INTO)
def test_a_name_in_a_removed_directory(
    running: tuple[Daemon, FuseClient], name: str, known: bool
) -> None:
    daemon, fuse = running
    act = (IN | INTO)[name]
    beside = fuse.lookup(ROOT_ID, "beside").nodeid
    directory = daemon.share / "d"
    directory.mkdir()
    old = fuse.lookup(ROOT_ID, "d").nodeid
    if known:  # by a descriptor that is kept for a moment
        assert answer(fuse, IN["lookup"], old, beside) == errno.ENOENT
        fuse.getattr(old)
    directory.rmdir()
    assert answer(fuse, act, old, beside) == errno.ESTALE
    # Anew: there the guest finds it when it looks again.
    directory.mkdir()
    if name != "tmpfile":
        assert answer(fuse, act, old, beside) == errno.ESTALE
    assert sorted(os.listdir(daemon.share / "beside")) == ["f"]
    new = fuse.lookup(ROOT_ID, "d").nodeid
    assert answer(fuse, act, new, beside) == (errno.ENOENT if name in IN else 0)


@pytest.mark.parametrize("name", IN)
def test_an_honest_absence(running: tuple[Daemon, FuseClient], name: str) -> None:
    _, fuse = running
    beside = fuse.lookup(ROOT_ID, "beside").nodeid
    assert answer(fuse, IN[name], beside, ROOT_ID) == errno.ENOENT
    assert answer(fuse, IN[name], ROOT_ID, beside) == errno.ENOENT


@pytest.mark.parametrize("name", ["rename from", "rename2 from", "rename into", "rename2 into"])
def test_absent_here_and_gone_there(running: tuple[Daemon, FuseClient], name: str) -> None:
    """Whichever of both directories it is."""
    daemon, fuse = running
    (daemon.share / "d").mkdir()
    old = fuse.lookup(ROOT_ID, "d").nodeid
    fuse.getattr(old)
    (daemon.share / "d").rmdir()
    assert answer(fuse, (IN | INTO)[name], old, ROOT_ID) == errno.ESTALE


def test_whoever_holds_it_comes_back(running: tuple[Daemon, FuseClient]) -> None:
    """A removed directory that is open can be listed, and a file without a name is refused."""
    daemon, fuse = running
    (daemon.share / "d").mkdir()
    old = fuse.lookup(ROOT_ID, "d").nodeid
    fuse.opendir(old)
    fuse.getattr(old)
    (daemon.share / "d").rmdir()
    with pytest.raises(FuseError) as refused:
        fuse.opendir(old)
    assert refused.value.errno == errno.ESTALE
    listed = fuse.opendir(old)
    with pytest.raises(FuseError) as refused:  # which libraries take for the end
        fuse.readdir(old, listed.fh)
    assert refused.value.errno == errno.ENOENT
    # Another user of the cached name is told, too.
    fuse.pid += 1
    with pytest.raises(FuseError) as refused:
        fuse.opendir(old)
    assert refused.value.errno == errno.ESTALE
    assert answer(fuse, INTO["tmpfile"], old, ROOT_ID) == errno.ESTALE
    assert answer(fuse, INTO["tmpfile"], old, ROOT_ID) == errno.EPERM
