# SPDX-License-Identifier: BSD-3-Clause
"""What a node id means after the guest has forgotten it, or has removed the last name of the inode.

A guest makes file handles of node ids: they are to be found again for as long as there is such an
inode below the share, and to mean nothing else. And what a guest removes it may still hold, by
O_PATH or as a working directory, of which the host never hears.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from errno import ENOENT, ENOTEMPTY, ESTALE
from pathlib import Path

import pytest

from tests.daemon.running import Daemon
from tests.daemon.test_operations import refused
from tests.frontend import ROOT_ID, Opcode, Session
from tests.frontend import fuse_wire as wire
from tests.frontend.fuse import DEFAULT_INIT_FLAGS
from tests.frontend.fuse_wire import InitFlag

EXPORTING = DEFAULT_INIT_FLAGS | InitFlag.EXPORT_SUPPORT
KINDS = ["file", "directory", "symlink", "fifo"]
REMEMBERED = 65536
RACES = 2000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="file handles need root")


@pytest.fixture
def guest(daemon: Daemon) -> Iterator[Session]:
    """Yield a driver that opens file handles, as every kernel does."""
    with Session.connect(daemon.socket) as session:
        session.fuse.init(EXPORTING)
        yield session


def make(path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_bytes(b"content")
        case "directory":
            path.mkdir()
        case "symlink":
            path.symlink_to("target")
        case "fifo":
            os.mkfifo(path)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


def forgotten(guest: Session, parent: int, name: str) -> int:
    """Return the id of what the guest has looked up and forgotten."""
    nodeid = guest.fuse.lookup(parent, name).nodeid
    guest.fuse.forget(nodeid)
    with refused(ESTALE):
        guest.fuse.getattr(nodeid)
    return nodeid


# Forgotten.


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_found_while_it_is_forgotten(guest: Session, daemon: Daemon, kind: str) -> None:
    """FORGET and the LOOKUP of the same id come on two rings, in any order."""
    make(daemon.share / "x", kind)
    nodeid = guest.fuse.lookup(ROOT_ID, "x").nodeid
    forget = wire.FORGET_IN.pack(1)
    for _ in range(RACES):
        end = guest.fuse.submit(
            Opcode.FORGET, nodeid, forget, wants_reply=False, ring=guest.fuse.hiprio
        )
        assert guest.fuse.lookup(nodeid, ".").nodeid == nodeid
        guest.fuse.wait_raw(end)


@pytest.mark.parametrize("kind", KINDS)
def test_found_again_by_its_id(guest: Session, daemon: Daemon, kind: str) -> None:
    make(daemon.share / "x", kind)
    nodeid = forgotten(guest, ROOT_ID, "x")
    for _ in range(3):
        assert guest.fuse.lookup(nodeid, ".").nodeid == nodeid
        assert guest.fuse.getattr(nodeid).attr.ino == (daemon.share / "x").lstat().st_ino
        guest.fuse.forget(nodeid)
        with refused(ESTALE):
            guest.fuse.getattr(nodeid)


@pytest.mark.parametrize("kind", KINDS)
def test_found_again_by_its_name(guest: Session, daemon: Daemon, kind: str) -> None:
    """A handle that was made of the id still has to mean it."""
    make(daemon.share / "x", kind)
    nodeid = forgotten(guest, ROOT_ID, "x")
    (daemon.share / "x").rename(daemon.share / "y")
    assert guest.fuse.lookup(ROOT_ID, "y").nodeid == nodeid
    assert guest.fuse.lookup(nodeid, ".").nodeid == nodeid


def test_opened_and_written_by_its_id(guest: Session, daemon: Daemon) -> None:
    fuse = guest.fuse
    entry, opened = fuse.create(ROOT_ID, "f")
    fuse.release(entry.nodeid, opened.fh, os.O_RDWR)
    fuse.forget(entry.nodeid)
    fuse.lookup(entry.nodeid, ".")
    fh = fuse.open(entry.nodeid, os.O_RDWR).fh
    fuse.write(entry.nodeid, fh, 0, b"by handle")
    assert (daemon.share / "f").read_bytes() == b"by handle"


def test_way_up_from_a_directory(guest: Session, daemon: Daemon) -> None:
    (daemon.share / "a" / "b").mkdir(parents=True)
    outer = guest.fuse.lookup(ROOT_ID, "a").nodeid
    inner = forgotten(guest, outer, "b")
    guest.fuse.forget(outer)
    guest.fuse.lookup(inner, ".")
    assert guest.fuse.lookup(inner, "..").nodeid == outer


@pytest.mark.parametrize("kind", KINDS)
def test_removed(guest: Session, daemon: Daemon, kind: str) -> None:
    make(daemon.share / "x", kind)
    nodeid = forgotten(guest, ROOT_ID, "x")
    remove(daemon.share / "x")
    with refused(ESTALE):
        guest.fuse.lookup(nodeid, ".")


@pytest.mark.parametrize("kind", KINDS)
def test_made_anew(guest: Session, daemon: Daemon, kind: str) -> None:
    """The new inode may well have the number of the old one."""
    make(daemon.share / "x", kind)
    nodeid = forgotten(guest, ROOT_ID, "x")
    for _ in range(20):
        remove(daemon.share / "x")
        make(daemon.share / "x", kind)
        with refused(ESTALE):
            guest.fuse.lookup(nodeid, ".")
        assert guest.fuse.lookup(ROOT_ID, "x").nodeid != nodeid
        guest.fuse.forget(guest.fuse.lookup(ROOT_ID, "x").nodeid, 2)


@pytest.mark.parametrize("sandbox", ["none", "chroot", "namespace"])
@pytest.mark.parametrize("kind", KINDS)
def test_moved_out_of_the_share(
    start: Callable[..., Daemon], tmp_path: Path, kind: str, sandbox: str
) -> None:
    daemon = start(f"--sandbox={sandbox}")
    (daemon.share / "d").mkdir()
    make(daemon.share / "d" / "x", kind)
    outside = tmp_path / "x"
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init(EXPORTING)
        parent = guest.fuse.lookup(ROOT_ID, "d").nodeid
        nodeid = forgotten(guest, parent, "x")
        (daemon.share / "d" / "x").rename(outside)
        with refused(ESTALE):
            guest.fuse.lookup(nodeid, ".")
        outside.rename(daemon.share / "back")
        assert guest.fuse.lookup(nodeid, ".").nodeid == nodeid


def drop_names() -> None:
    """Have the host forget the names of files that nobody uses, as it does when memory is short."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("2")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False], ids=["parent-known", "parent-forgotten"])
def test_name_that_the_host_has_to_search_for(
    guest: Session, daemon: Daemon, tmp_path: Path, kind: str, known: bool
) -> None:
    """The directory that it was in is all that is known of its place; elsewhere it is not found."""
    (daemon.share / "d").mkdir()
    for n in range(1000):
        (daemon.share / "d" / f"n{n}").touch()
    make(daemon.share / "d" / "x", kind)
    parent = guest.fuse.lookup(ROOT_ID, "d").nodeid
    nodeid = forgotten(guest, parent, "x")
    if not known:
        guest.fuse.forget(parent)
    for _ in range(3):
        drop_names()
        assert guest.fuse.lookup(nodeid, ".").nodeid == nodeid
        guest.fuse.forget(nodeid)
    outside = tmp_path / "x"
    (daemon.share / "d" / "x").rename(outside)
    drop_names()
    with refused(ESTALE):
        guest.fuse.lookup(nodeid, ".")
    remove(outside)


def test_directory_above_moved_out_of_the_share(
    guest: Session, daemon: Daemon, tmp_path: Path
) -> None:
    (daemon.share / "d").mkdir()
    (daemon.share / "d" / "f").touch()
    parent = guest.fuse.lookup(ROOT_ID, "d").nodeid
    nodeid = forgotten(guest, parent, "f")
    (daemon.share / "d").rename(tmp_path / "d")
    with refused(ESTALE):
        guest.fuse.lookup(nodeid, ".")


def test_invented(guest: Session, daemon: Daemon) -> None:
    (daemon.share / "f").touch()
    nodeid = forgotten(guest, ROOT_ID, "f")
    for other in (0, 2, nodeid ^ 1, nodeid + (1 << 32), nodeid - (1 << 32), (1 << 64) - 1):
        with refused(ESTALE):
            guest.fuse.lookup(other, ".")


@pytest.mark.parametrize("name", ["..", "f", "x"])
def test_nothing_else_is_done_by_a_forgotten_id(guest: Session, daemon: Daemon, name: str) -> None:
    (daemon.share / "d").mkdir()
    (daemon.share / "d" / "f").touch()
    nodeid = forgotten(guest, ROOT_ID, "d")
    with refused(ESTALE):
        guest.fuse.lookup(nodeid, name)
    with refused(ESTALE):
        guest.fuse.mkdir(nodeid, name)


def test_guest_that_opens_no_handles(daemon: Daemon) -> None:
    (daemon.share / "f").touch()
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init(EXPORTING & ~InitFlag.EXPORT_SUPPORT)
        nodeid = forgotten(guest, ROOT_ID, "f")
        with refused(ESTALE):
            guest.fuse.lookup(nodeid, ".")


def test_session_ends(guest: Session, daemon: Daemon) -> None:
    (daemon.share / "f").touch()
    nodeid = forgotten(guest, ROOT_ID, "f")
    guest.fuse.init(EXPORTING)
    with refused(ESTALE):
        guest.fuse.lookup(nodeid, ".")


def test_without_file_handles(start: Callable[..., Daemon]) -> None:
    """Nothing finds an inode that no descriptor holds; one that is held is found."""
    daemon = start("--inode-file-handles=never")
    (daemon.share / "f").touch()
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init(EXPORTING)
        held = guest.fuse.lookup(ROOT_ID, "f").nodeid
        assert guest.fuse.lookup(held, ".").nodeid == held
        guest.fuse.forget(held, 2)
        with refused(ESTALE):
            guest.fuse.lookup(held, ".")


def test_the_oldest_make_room(guest: Session, daemon: Daemon) -> None:
    (daemon.share / "first").touch()
    (daemon.share / "second").touch()
    first = forgotten(guest, ROOT_ID, "first")
    second = forgotten(guest, ROOT_ID, "second")
    count, batch = REMEMBERED + 2048, 1024
    for start in range(0, count, batch):
        if start == count // batch // 2 * batch:
            assert guest.fuse.lookup(first, ".").nodeid == first
            guest.fuse.forget(first)  # the second is the oldest now
        names = [f"n{n}" for n in range(start, start + batch)]
        for name in names:
            (daemon.share / name).touch()
        ids = [guest.fuse.lookup(ROOT_ID, name).nodeid for name in names]
        guest.fuse.batch_forget([(nodeid, 1) for nodeid in ids])
    with refused(ESTALE):
        guest.fuse.lookup(second, ".")
    assert guest.fuse.lookup(first, ".").nodeid == first


# Removed, but held.


def flags(*, says: bool) -> int:
    """Return what a guest offers: ours, which says what it uses, or any other."""
    return EXPORTING | InitFlag.HAS_HOLD if says else EXPORTING & ~InitFlag.HAS_FSNOTIFY


@pytest.fixture(params=["prefer", "never"])
def handles(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["any-guest", "guest-that-says"])
def holder(
    start: Callable[..., Daemon], handles: str, request: pytest.FixtureRequest
) -> Iterator[tuple[Session, Path, Callable[[int], None]]]:
    """Yield a guest, its share, and what it does before it removes what it holds."""
    daemon = start(f"--inode-file-handles={handles}", "--xattr")
    with Session.connect(daemon.socket) as session:
        session.fuse.init(flags(says=request.param))

        def hold(nodeid: int) -> None:
            if request.param:
                session.fuse.hold(nodeid)

        yield session, daemon.share, hold


Holder = tuple[Session, Path, Callable[[int], None]]


@pytest.mark.parametrize("over", [False, True], ids=["unlink", "rename-over"])
def test_removed_file_is_used(holder: Holder, over: bool) -> None:
    guest, share, hold = holder
    fuse = guest.fuse
    (share / "f").write_bytes(b"content")
    (share / "g").touch()
    nodeid = fuse.lookup(ROOT_ID, "f").nodeid
    hold(nodeid)
    if over:
        fuse.rename(ROOT_ID, "g", ROOT_ID, "f")
    else:
        fuse.unlink(ROOT_ID, "f")
    assert fuse.getattr(nodeid).attr.nlink == 0
    fuse.setattr(nodeid, mode=0o600)
    fuse.setattr(nodeid, uid=1, gid=1)
    fuse.setattr(nodeid, size=3)
    fuse.setxattr(nodeid, "user.a", b"b")
    assert fuse.getxattr(nodeid, "user.a") == b"b"
    fuse.access(nodeid, os.R_OK)
    fh = fuse.open(nodeid, os.O_RDWR).fh
    assert fuse.read(nodeid, fh, 0, 10) == b"con"
    fuse.release(nodeid, fh, os.O_RDWR)
    attr = fuse.getattr(nodeid).attr
    assert (stat.S_IMODE(attr.mode), attr.uid, attr.gid) == (0o600, 1, 1)
    with refused(ENOENT):
        fuse.link(nodeid, ROOT_ID, "again")


@pytest.mark.parametrize("over", [False, True], ids=["rmdir", "rename-over"])
def test_removed_directory_is_used(holder: Holder, over: bool) -> None:
    guest, share, hold = holder
    fuse = guest.fuse
    (share / "d").mkdir()
    (share / "e").mkdir()
    nodeid = fuse.lookup(ROOT_ID, "d").nodeid
    hold(nodeid)
    if over:
        fuse.rename(ROOT_ID, "e", ROOT_ID, "d")
    else:
        fuse.rmdir(ROOT_ID, "d")
    assert stat.S_ISDIR(fuse.getattr(nodeid).attr.mode)
    # Another one may have its name by now: the VFS looks once more before it insists.
    with refused(ESTALE):
        fuse.opendir(nodeid)
    fuse.releasedir(nodeid, fuse.opendir(nodeid).fh)


def test_removed_symlink_is_read(holder: Holder) -> None:
    guest, share, hold = holder
    (share / "l").symlink_to("target")
    nodeid = guest.fuse.lookup(ROOT_ID, "l").nodeid
    hold(nodeid)
    guest.fuse.unlink(ROOT_ID, "l")
    assert guest.fuse.readlink(nodeid) == b"target"


def test_one_of_two_names_is_removed(holder: Holder) -> None:
    guest, share, hold = holder
    (share / "f").touch()
    os.link(share / "f", share / "g")
    nodeid = guest.fuse.lookup(ROOT_ID, "f").nodeid
    hold(nodeid)
    guest.fuse.unlink(ROOT_ID, "f")
    guest.fuse.forget(nodeid)
    assert guest.fuse.lookup(ROOT_ID, "g").nodeid
    os.unlink(share / "g")


def holds(daemon: Daemon, name: str) -> bool:
    links = []
    for fd in Path(f"/proc/{daemon.pid}/fd").iterdir():
        try:
            links.append(os.readlink(fd))
        except FileNotFoundError:
            continue
    return any(link.endswith(f"/{name} (deleted)") for link in links)


@pytest.mark.parametrize("says", [False, True], ids=["any-guest", "guest-that-says"])
def test_it_ends_when_it_is_forgotten(daemon: Daemon, says: bool) -> None:
    """The daemon keeps the host's disk space for no longer than the guest wants it."""
    (daemon.share / "f").touch()
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init(flags(says=says))
        nodeid = guest.fuse.lookup(ROOT_ID, "f").nodeid
        if says:
            guest.fuse.hold(nodeid)
        guest.fuse.unlink(ROOT_ID, "f")
        guest.fuse.getattr(nodeid)
        assert holds(daemon, "f")
        guest.fuse.forget(nodeid)
        assert not holds(daemon, "f")


def test_guest_that_says_does_not_hold_it(daemon: Daemon) -> None:
    """Whoever watches the file hears of its end at once."""
    (daemon.share / "f").touch()
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init(flags(says=True))
        nodeid = guest.fuse.lookup(ROOT_ID, "f").nodeid
        guest.fuse.unlink(ROOT_ID, "f")
        assert not holds(daemon, "f")
        with refused(ESTALE):
            guest.fuse.getattr(nodeid)


def test_removal_that_fails(holder: Holder) -> None:
    guest, share, hold = holder
    (share / "d").mkdir()
    (share / "d" / "f").touch()
    nodeid = guest.fuse.lookup(ROOT_ID, "d").nodeid
    hold(nodeid)
    with refused(ENOTEMPTY):
        guest.fuse.rmdir(ROOT_ID, "d")
    assert guest.fuse.lookup(nodeid, "f").nodeid


def test_removing_needs_no_descriptor_to_spare(start: Callable[..., Daemon]) -> None:
    """A guest that holds more than it may can still remove files, which then end."""
    daemon = start("--rlimit-nofile=256")
    count = 400
    for n in range(count):
        (daemon.share / f"f{n}").touch()
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init(flags(says=False))
        ids = [guest.fuse.lookup(ROOT_ID, f"f{n}").nodeid for n in range(count)]
        for n in range(count):
            guest.fuse.unlink(ROOT_ID, f"f{n}")
        assert not os.listdir(daemon.share)
        assert guest.fuse.getattr(ids[0]).attr.nlink == 0
        guest.fuse.batch_forget([(nodeid, 1) for nodeid in ids])
        (daemon.share / "g").touch()
        opened = guest.fuse.lookup(ROOT_ID, "g").nodeid
        guest.fuse.open(opened)


def test_unknown_node_is_not_held(guest: Session) -> None:
    with refused(ESTALE):
        guest.fuse.request(Opcode.HOLD, 1 << 40)
