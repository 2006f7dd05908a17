# SPDX-License-Identifier: BSD-3-Clause
"""What fails has changed nothing.

What may run out (the quota of descriptors, places in tables, memory, room for the reply) is taken
before a request acts. Each test tells the whole share before from the whole share afterwards.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.disks import disk
from tests.daemon.running import FAULTY, Daemon
from tests.frontend import ROOT_ID, FuseError, Session
from tests.frontend.fuse import FuseClient

LIMIT = 256
HANDLES = pytest.mark.parametrize("handles", ["prefer", "never"])


class Scene:
    """A directory with something in it, of which the guest has the node ids."""

    def __init__(self, share: Path, guest: FuseClient, name: str) -> None:
        self.path = share / name
        self.path.mkdir()
        (self.path / "file").write_text("content")
        (self.path / "d").mkdir()
        (self.path / "l").symlink_to("file")
        self.directory = guest.lookup(ROOT_ID, name).nodeid
        self.file = guest.lookup(self.directory, "file").nodeid
        self.subdirectory = guest.lookup(self.directory, "d").nodeid

    def told(self) -> list[object]:
        return tell(self.path)

    def forget(self, guest: FuseClient) -> None:
        nodes = (self.file, self.subdirectory, self.directory)
        guest.batch_forget([(node, 1) for node in nodes])


def tell(path: Path) -> list[object]:
    """All that is there, with what would show that something was there for a moment."""
    found: list[object] = []
    for place in sorted([path, *path.rglob("*")]):
        st = place.lstat()
        found.append((place, st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size))
        found.append((st.st_mtime_ns, sorted(os.listxattr(place, follow_symlinks=False))))
        if place.is_symlink():
            found.append(os.readlink(place))
        elif place.is_file():
            found.append(place.read_bytes())
    return found


def create(flags: int, name: str) -> Act:
    return lambda guest, it: guest.create(it.directory, name, flags=os.O_RDWR | os.O_CREAT | flags)


Act = Callable[[FuseClient, Scene], object]
OPENS: dict[str, Act] = {
    "open O_TRUNC": lambda guest, it: guest.open(it.file, os.O_WRONLY | os.O_TRUNC),
    "create O_EXCL": create(os.O_EXCL, "new"),
    "create": create(0, "new"),
    "create O_TRUNC of what exists": create(os.O_TRUNC, "file"),
    "tmpfile": lambda guest, it: guest.tmpfile(it.directory),
}
MAKES: dict[str, Act] = {
    "mkdir": lambda guest, it: guest.mkdir(it.directory, "new"),
    "mknod": lambda guest, it: guest.mknod(it.directory, "new"),
    "mkfifo": lambda guest, it: guest.mknod(it.directory, "new", 0o010644),
    "symlink": lambda guest, it: guest.symlink(it.directory, "new", "target"),
}
SETS: dict[str, Act] = {
    "link": lambda guest, it: guest.link(it.file, it.directory, "new"),
    "setattr": lambda guest, it: guest.setattr(it.file, mode=0o600, size=0, mtime=(1, 1)),
    "setxattr": lambda guest, it: guest.setxattr(it.file, "user.a", b"1"),
    "rename": lambda guest, it: guest.rename(it.directory, "file", it.subdirectory, "new"),
    "rename over": lambda guest, it: guest.rename(it.directory, "l", it.directory, "file"),
    "unlink": lambda guest, it: guest.unlink(it.directory, "file"),
    "rmdir": lambda guest, it: guest.rmdir(it.directory, "d"),
}


def answer(guest: FuseClient, scene: Scene, act: Act) -> int:
    """0, or the error that came without any change."""
    before = scene.told()
    try:
        act(guest, scene)
    except FuseError as error:
        assert scene.told() == before
        return error.errno or errno.EIO
    return 0


def use_up(guest: FuseClient) -> list[int]:
    """Open directories until there are no descriptors left; return their handles."""
    opened: list[int] = []
    while len(opened) < LIMIT:
        try:
            opened.append(guest.opendir(ROOT_ID).fh)
        except FuseError as error:
            if error.errno != errno.ENFILE:
                raise
            return opened
    pytest.fail("no quota")


@HANDLES
def test_quota_is_taken_before(start: Callable[..., Daemon], handles: str) -> None:
    daemon = start(f"--rlimit-nofile={LIMIT}", f"--inode-file-handles={handles}", "--xattr")
    refused = OPENS | MAKES if handles == "never" else OPENS
    with Session.connect(daemon.socket) as session:
        guest = session.fuse
        guest.init()
        scenes = {name: Scene(daemon.share, guest, name) for name in OPENS | MAKES | SETS}
        use_up(guest)
        for name, act in (OPENS | MAKES | SETS).items():
            expected = errno.ENFILE if name in refused else 0
            assert answer(guest, scenes[name], act) == expected, name
    assert daemon.wait() == 0


@HANDLES
def test_one_descriptor_is_not_two(start: Callable[..., Daemon], handles: str) -> None:
    """A new file that is open needs one, and another one where descriptors hold inodes."""
    daemon = start(f"--rlimit-nofile={LIMIT}", f"--inode-file-handles={handles}")
    with Session.connect(daemon.socket) as session:
        guest = session.fuse
        guest.init()
        scene = Scene(daemon.share, guest, "s")
        opened = use_up(guest)
        guest.releasedir(ROOT_ID, opened.pop())
        # Over and over: what is refused gives back what it had taken already.
        for _ in range(3):
            assert answer(guest, scene, OPENS["tmpfile"]) == errno.ENFILE
            if handles == "never":
                assert answer(guest, scene, OPENS["create"]) == errno.ENFILE
        guest.release(scene.file, guest.open(scene.file).fh)
        guest.releasedir(ROOT_ID, opened.pop())
        entry, file = guest.tmpfile(scene.directory)
        guest.release(entry.nodeid, file.fh)
        guest.forget(entry.nodeid)
        guest.create(scene.directory, "new")
    assert daemon.wait() == 0


# So many things are taken by each: of the quota, of tables, of memory.
TAKES = {
    "prefer": {
        **dict.fromkeys(OPENS, 3),
        **dict.fromkeys(MAKES, 1),
        "open O_TRUNC": 2,
        "tmpfile": 4,
    },
    "never": {
        **dict.fromkeys(OPENS, 4),
        **dict.fromkeys(MAKES, 2),
        "open O_TRUNC": 2,
    },
}


@HANDLES
def test_each_thing_that_may_run_out(tmp_path: Path, handles: str) -> None:
    assert FAULTY.exists(), "make build-faults"
    acts = OPENS | MAKES | SETS
    failed = dict.fromkeys(acts, 0)
    for number in itertools.count(1):
        home = tmp_path / str(number)
        home.mkdir()
        daemon = Daemon(
            home,
            f"--inode-file-handles={handles}",
            "--xattr",
            launcher=("env", f"VFSD_FAULT_TAKE={number}"),
            command=str(FAULTY),
        )
        with daemon, Session.connect(daemon.socket) as session:
            session.fuse.init()
            before = sum(failed.values())
            for name, act in acts.items():
                scene = Scene(daemon.share, session.fuse, name)
                error = answer(session.fuse, scene, act)
                assert error in (0, errno.ENFILE, errno.ENOMEM), name
                failed[name] += error != 0
        if sum(failed.values()) == before:
            break
    assert failed == dict.fromkeys(SETS, 0) | TAKES[handles]


class Cramped(FuseClient):
    """A guest that leaves less room for replies than they need."""

    room_bytes = 0

    def request(
        self, opcode: int, nodeid: int, body: bytes = b"", *, reply_bytes: int = 0
    ) -> bytes:
        del reply_bytes
        return super().request(opcode, nodeid, body, reply_bytes=self.room_bytes)


@HANDLES
def test_room_for_the_reply(start: Callable[..., Daemon], handles: str) -> None:
    daemon = start(f"--inode-file-handles={handles}")
    replied = OPENS | MAKES | {name: SETS[name] for name in ("link", "setattr")}
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        cramped = Cramped(session.fuse.ring, hiprio=session.fuse.hiprio)
        for name, act in replied.items():
            scene = Scene(daemon.share, session.fuse, name)
            for cramped.room_bytes in (0, 1, 15):
                assert answer(cramped, scene, act) == errno.EINVAL, name
    assert daemon.wait() == 0


BEYOND = 1 << 62
NO_SIZE = 1 << 63
PARTS: dict[str, tuple[Act, set[int]]] = {
    "mode, size": (lambda g, it: g.setattr(it.file, mode=0o4711, size=BEYOND), {errno.EFBIG}),
    "owner, size": (lambda g, it: g.setattr(it.file, uid=7, gid=7, size=BEYOND), {errno.EFBIG}),
    "all": (
        lambda g, it: g.setattr(it.file, mode=0, uid=7, size=BEYOND, mtime=(1, 1)),
        {errno.EFBIG},
    ),
    "no size": (lambda g, it: g.setattr(it.file, mode=0, uid=7, size=NO_SIZE), {errno.EINVAL}),
    "of a directory": (
        lambda g, it: g.setattr(it.subdirectory, mode=0, uid=7, size=0),
        {errno.EISDIR, errno.EINVAL},
    ),
    "no time": (
        lambda g, it: g.setattr(it.file, mode=0, size=0, mtime=(0, 10**9)),
        {errno.EINVAL},
    ),
}


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Path]:
    """Yield a share whose files cannot be as large as anybody wants, which is so of ext4."""
    with disk(tmp_path, "ext4") as point:
        yield point / "share"


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_setattr(
    share: Path, start: Callable[..., Daemon], connect: Callable[..., Session], name: str
) -> None:
    guest = connect(start(share=share))
    scene = Scene(share, guest.fuse, "s")
    (scene.path / "file").chmod(0o6755)
    act, errors = PARTS[name]
    assert answer(guest.fuse, scene, act) in errors


def test_mode_is_what_was_asked_for(daemon: Daemon, guest: Session) -> None:
    """A new owner ends set-id bits, but not those that come with it."""
    scene = Scene(daemon.share, guest.fuse, "s")
    attr = guest.fuse.setattr(scene.file, mode=0o6711, uid=7, gid=8)
    assert attr.attr.mode & 0o7777 == 0o6711
    assert (attr.attr.uid, attr.attr.gid) == (7, 8)


CAPABILITY = "user.virtiofs.security.capability"


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda g, it: g.setxattr(it.file, "user.b", b"1", os.XATTR_REPLACE), errno.ENODATA),
        (lambda g, it: g.setxattr(it.file, "user.c", bytes(65537)), errno.E2BIG),
        (lambda g, it: g.setattr(it.file, size=BEYOND), errno.EFBIG),
    ],
    ids=["setxattr-replace", "setxattr-too-long", "truncate"],
)
def test_capabilities_stay(share: Path, start: Callable[..., Daemon], act: Act, error: int) -> None:
    """The host does not know them as such: the daemon ends them, if something happens."""
    daemon = start("--xattrmap=:map::user.virtiofs.:", share=share)
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        scene = Scene(daemon.share, session.fuse, "s")
        os.setxattr(scene.path / "file", CAPABILITY, b"caps")
        assert answer(session.fuse, scene, act) == error
        assert os.getxattr(scene.path / "file", CAPABILITY) == b"caps"
        session.fuse.setattr(scene.file, size=1)
        assert CAPABILITY not in os.listxattr(scene.path / "file")
    assert daemon.wait() == 0
