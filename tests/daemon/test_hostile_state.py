# SPDX-License-Identifier: BSD-3-Clause
"""States of a migration that somebody made up: they reach nothing outside of the share.

Share and outside are neighbours on one filesystem, where a file handle may mean either. Each state
names both, by path and by handle, in every wrong way there is. What is outside carries MARK in its
bytes and its names.
"""

from __future__ import annotations

import ctypes
import os
import random
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.disks import KINDS, loop_disk, mounted
from tests.daemon.events import CREATE, DELETE, MODIFY, ON_CHILD, until_sentinel
from tests.daemon.running import Daemon
from tests.daemon.test_whole import MASK, PRIVILEGED
from tests.frontend import ROOT_ID, FuseError, RefusedByBackend, Session
from tests.frontend.fuse import FuseClient
from tests.frontend.notify import FS_ISDIR, FS_Q_OVERFLOW

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and opens by handle")

MARK = b"OUTSIDE"
HEADER = struct.Struct("=QIIQIIIIQQQ")
INODE = struct.Struct("=QQIHHiI")
FILE = struct.Struct("=QQII")
WATCH = struct.Struct("=QQII")
LOST, BY_PATH, BY_HANDLE = range(3)
WHOLE = (1 << 64) - 1
FIRST_ID = 7 << 32 | 2
ROUNDS = 40
FIND_PATHS = "--migration-mode=find-paths"
FILE_HANDLES = "--migration-mode=file-handles"
GUEST_ERROR = "--migration-on-error=guest-error"
STALE = "Stale file handle"
libc = ctypes.CDLL(None, use_errno=True)


def handle_of(path: Path, dir_fd: int = -100) -> tuple[int, bytes]:
    """Return type and bytes of what name_to_handle_at(2) says."""
    buffer = ctypes.create_string_buffer(8 + 128)
    struct.pack_into("=I", buffer, 0, 128)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(dir_fd, os.fsencode(path), buffer, ctypes.byref(mount), 0) < 0:
        raise OSError(ctypes.get_errno(), "name_to_handle_at", str(path))
    size, kind = struct.unpack_from("=Ii", buffer)
    return kind, buffer.raw[8 : 8 + size]


@dataclass
class Inode:
    """One record. `works`: the target has to find it; None: it may."""

    nodeid: int
    type: int
    how: int
    path: bytes = b""
    handle: tuple[int, bytes] = (0, b"")
    works: bool | None = False
    nlookup: int = 1

    def pack(self) -> bytes:
        kind, data = self.handle
        head = (self.nodeid, self.nlookup, self.type, self.how, len(self.path), kind, len(data))
        text = self.path + data
        return INODE.pack(*head) + text + bytes(-len(text) % 8)


ROOT = Inode(ROOT_ID, stat.S_IFDIR, BY_PATH, works=True)


class Target:
    """A daemon that takes states, and a guest whose rings rest meanwhile."""

    def __init__(self, daemon: Daemon, stack: ExitStack) -> None:
        self.daemon = daemon
        self.guest = stack.enter_context(Session.connect(daemon.socket))
        self.guest.fuse.init()
        self.fuse = self.guest.fuse
        self._bases = self.guest.stop()
        self._head = list(HEADER.unpack_from(self.guest.front_end.save_state()))

    def state(
        self,
        inodes: list[Inode],
        files: list[tuple[int, int, int]] | None = None,
        watches: list[tuple[int, int, int]] | None = None,
    ) -> bytes:
        """Return the state; `files`: fh, nodeid, flags; `watches`: nodeid, owner, mask."""
        files, watches = files or [], watches or []
        inodes = [ROOT, *inodes]
        head = [*self._head[:8], len(inodes), len(files), len(watches)]
        packed = [inode.pack() for inode in inodes]
        packed += [FILE.pack(*file, 0) for file in files]
        packed += [WATCH.pack(*watch, 0) for watch in watches]
        return HEADER.pack(*head) + b"".join(packed)

    def load(self, state: bytes) -> bool:
        """Go on with it; False: it was refused, and the guest begins anew."""
        taken = True
        try:
            self.guest.front_end.load_state(state)
        except RefusedByBackend:
            taken = False
        for index, ring in enumerate(self.guest.rings):
            self.guest.front_end.start_ring(index, ring, self._bases[index])
        if not taken:
            with pytest.raises(FuseError):
                self.fuse.getattr(ROOT_ID)
            self.fuse.init()
        self.fuse.getattr(ROOT_ID)
        return taken

    def rest(self) -> None:
        self._bases = self.guest.stop()


def look(path: Path) -> dict[str, object]:
    """Return all that there is to see below `path`, to compare; not when names came and went."""
    seen: dict[str, object] = {}
    for one in [path, *sorted(path.rglob("*"))]:
        st = one.lstat()
        what = one.read_bytes() if stat.S_ISREG(st.st_mode) else b""
        changed = 0 if one == path else st.st_mtime_ns
        seen[str(one)] = (st.st_mode, st.st_uid, st.st_ino, st.st_size, changed, what)
    return seen


def populate(rng: random.Random, top: Path, mark: bytes, count: int = 12) -> list[Path]:
    """Make a tree of everything; return what is in it."""
    directories = [top]
    made = []
    for number in range(count):
        path = rng.choice(directories) / f"{os.fsdecode(mark)}{number}"
        kind = rng.choice(["file", "file", "directory", "directory", "fifo", "link", "device"])
        if kind == "file":
            path.write_bytes(mark + b"%d" % number)
        elif kind == "directory":
            path.mkdir()
            directories.append(path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(rng.choice([str(top), "..", "/etc"]))
        else:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        made.append(path)
    return made


class World:
    """Trees inside, outside, and below a mount that covers them.

    Attributes:
        share: what is served.
        outside: its neighbour.
        inside: what the guest may name.
        beyond: what it may not.
        texts: what is in files inside.
        hints: whether handles come with paths.
    """

    hints = True

    def __init__(self, rng: random.Random, disk: Path, stack: ExitStack) -> None:
        self._rng = rng
        self.share, self.outside = disk / "share", disk / "outside"
        self.share.mkdir()
        self.outside.mkdir()
        self.inside = populate(rng, self.share, b"in")
        self.beyond = [*populate(rng, self.outside, MARK), self.outside, disk, Path("/etc")]
        covered = self.share / "covered"
        covered.mkdir()
        self.beyond += populate(rng, covered, MARK, 4)
        # By handle only: by the name of what is covered there is something else.
        self.handles = {path: handle_of(path) for path in self.inside + self.beyond}
        self.types = {path: stat.S_IFMT(path.lstat().st_mode) for path in self.handles}
        self.covered = [covered, *covered.rglob("*")]
        stack.enter_context(mounted(covered, "-t", "tmpfs", "tmpfs"))
        (self.share / "out").symlink_to(self.outside)
        (self.share / "up").symlink_to("..")
        self.before = look(self.outside)
        self.texts = {
            path: path.read_bytes() for path in self.inside if self.types[path] == stat.S_IFREG
        }

    def relative(self, path: Path) -> bytes:
        return os.fsencode(os.path.relpath(path, self.share))

    def honest(self, nodeid: int, path: Path, by_handle: bool) -> Inode:
        """Return a record as a source writes it, or one without its hint."""
        how = self._rng.choice([BY_PATH, BY_HANDLE])
        name = self.relative(path)
        hint = self.hints and self._rng.random() < 0.7
        if how == BY_HANDLE and not hint:
            name = b""
        return Inode(
            nodeid,
            self.types[path],
            how,
            name,
            self.handles[path] if how == BY_HANDLE or hint else (0, b""),
            works=True if name else (None if by_handle else False),
        )

    def forged(self, nodeid: int, path: Path) -> Inode:
        """Return a record that names what is outside, in one of many ways."""
        rng = self._rng
        name = self.relative(path)
        names = [
            name,  # begins with ".."
            os.fsencode(path),
            b"/" + name,
            b"./" + name,
            b"out/" + os.fsencode(path.name),
            b"out",
            b"out/.",
            b"up/outside/" + os.fsencode(path.name),
            b"covered/../../outside",
            b"..",
            b"/",
            b"../share/../outside",
        ]
        how = rng.choice([BY_PATH, BY_HANDLE, BY_HANDLE])
        typ = self.types[path]
        if rng.random() < 0.2:
            typ = rng.choice([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK])
        if how == BY_PATH:
            name = rng.choice(names)
            if name == b"out":
                typ = stat.S_IFDIR  # as a symbolic link it is inside
            if path in self.covered:
                name = b"../" + name
            return Inode(nodeid, typ, how, name, rng.choice([self.handles[path], (0, b"")]))
        # With the name of something inside, perhaps.
        hints = [b"", rng.choice(names), self.relative(rng.choice(self.inside)), b"covered"]
        hint = rng.choice(hints) if self.hints else b""
        return Inode(nodeid, typ, how, hint, self.handles[path])


def attempt(fuse: FuseClient, inode: Inode, fh: int) -> list[bytes]:
    """Do to an inode what guests do; return all that was answered but errors."""
    node = inode.nodeid
    operations: list[Callable[[], object]] = [
        lambda: fuse.getattr(node),
        lambda: fuse.lookup(node, ".."),
        lambda: fuse.mkdir(node, "planted"),
        lambda: fuse.create(node, "made"),
        lambda: fuse.symlink(node, "linked", "x"),
        lambda: fuse.link(node, ROOT_ID, "stolen"),
        lambda: fuse.rename(node, "OUTSIDE0", ROOT_ID, "moved"),
        lambda: fuse.unlink(node, "OUTSIDE0"),
        lambda: fuse.listdir(node),
        lambda: fuse.readlink(node),
        lambda: fuse.setattr(node, mode=0o777),
        lambda: fuse.setattr(node, size=0),
        lambda: fuse.setxattr(node, "user.x", b"y"),
        lambda: fuse.listxattr(node),
        lambda: fuse.read(node, fh, 0, 100),
        lambda: fuse.write(node, fh, 0, b"overwritten"),
        lambda: fuse.readdir(node, fh),
        lambda: fuse.fallocate(node, fh, 0, 0, 1 << 16),
        lambda: fuse.read(node, fuse.open(node).fh, 0, 100),
        lambda: fuse.open(node, os.O_RDWR | os.O_TRUNC),
        lambda: fuse.fsnotify(node, MODIFY | CREATE | ON_CHILD),
    ]
    answers = []
    for operation in operations:
        with suppress(FuseError):
            answers.append(repr(operation()).encode())
    return answers


def is_found(fuse: FuseClient, inode: Inode) -> bool:
    try:
        fuse.getattr(inode.nodeid)
    except FuseError as error:
        if STALE in str(error):
            return False
        raise
    return True


FLAGS = [
    os.O_RDONLY,
    os.O_RDWR,
    os.O_RDWR | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    os.O_PATH,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDWR | os.O_NOFOLLOW | os.O_DIRECT | os.O_NOATIME,
]


@pytest.mark.parametrize("mode", [FIND_PATHS, FILE_HANDLES])
@pytest.mark.parametrize("sandbox", ["none", "chroot", "namespace"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_outside(
    start: Callable[..., Daemon], tmp_path: Path, kind: str, sandbox: str, mode: str
) -> None:
    rng = random.Random(f"{kind} {sandbox} {mode}")
    hold = "--inode-file-handles=" + ("never" if sandbox == "none" else "prefer")
    options = [*PRIVILEGED, f"--sandbox={sandbox}", mode, GUEST_ERROR, hold]
    with ExitStack() as stack:
        disk = stack.enter_context(loop_disk(tmp_path / "image", tmp_path / "disk", kind))
        world = World(rng, disk, stack)
        target = Target(start(*options, share=world.share), stack)
        worked = 0
        for round_number in range(ROUNDS):
            world.hints = round_number % 2 == 0
            inodes: list[Inode] = []
            for path in rng.sample(world.inside, 5):
                inodes.append(world.honest(FIRST_ID + len(inodes), path, mode == FILE_HANDLES))
            for path in rng.choices(world.beyond, k=10):
                inodes.append(world.forged(FIRST_ID + len(inodes), path))
            rng.shuffle(inodes)
            files = [(1 << 32 | n, i.nodeid, rng.choice(FLAGS)) for n, i in enumerate(inodes)]
            watches = [
                (inode.nodeid, owner, rng.getrandbits(32) | CREATE)
                for inode in inodes
                for owner in (0, WHOLE)
            ]
            watches.append((ROOT_ID, 0, CREATE | DELETE | FS_ISDIR))
            assert target.load(target.state(inodes, files, watches))
            (world.outside / "event").write_bytes(b"x")
            (world.outside / "event").unlink()
            for number, inode in enumerate(inodes):
                found = is_found(target.fuse, inode)
                assert inode.works in (None, found), inode
                worked += found
                if inode.works is False:
                    assert attempt(target.fuse, inode, 1 << 32 | number) == []
            records = until_sentinel(target.guest, world.share, ROOT_ID)
            assert not [r for r in records if r.name == b"event"]
            assert look(world.outside) == world.before
            assert all(path.read_bytes() == text for path, text in world.texts.items())
            target.rest()
        assert worked > ROUNDS


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(MARK)
    (tmp_path / "share").mkdir()
    return tmp_path / "share"


@pytest.fixture
def target(start: Callable[..., Daemon], share: Path) -> Iterator[Callable[..., Target]]:
    """Start a daemon for the share, with a guest whose rings rest."""
    with ExitStack() as stack:
        yield lambda *options: Target(start(*options, share=share), stack)


def by_handle(path: Path, hint: bytes = b"") -> Inode:
    return Inode(FIRST_ID, stat.S_IFMT(path.lstat().st_mode), BY_HANDLE, hint, handle_of(path))


@pytest.mark.parametrize("options", [[], [FILE_HANDLES]])
@pytest.mark.parametrize("what", ["outside", "outside/secret", ".", "/"])
def test_the_outside_by_handle_is_refused(
    target: Callable[..., Target], share: Path, what: str, options: list[str]
) -> None:
    one = target(*options)
    inode = by_handle(share.parent / what)
    assert not one.load(one.state([inode], [(1 << 32, FIRST_ID, os.O_RDWR)]))
    line = one.daemon.wait_for_log(f"nodeid={FIRST_ID}")
    assert ("comes by handle" in line) == (not options)


@pytest.mark.parametrize(
    "path", [b"..", b"../outside/secret", b"/outside", b"out", b"out/secret", b"d/../../outside"]
)
def test_the_outside_by_path_is_refused(
    target: Callable[..., Target], share: Path, path: bytes
) -> None:
    (share / "out").symlink_to("../outside")
    (share / "d").mkdir()
    one = target("--sandbox=none")
    typ = stat.S_IFREG if path.endswith(b"secret") else stat.S_IFDIR
    assert not one.load(one.state([Inode(FIRST_ID, typ, BY_PATH, path)]))


def test_files_by_handle_have_a_name_below_the_share(
    target: Callable[..., Target], share: Path
) -> None:
    """With names changed meanwhile, one of several, or one that only a search finds."""
    outside = share.parent / "outside"
    (share / "d").mkdir()
    names = ["moved", "linked", "both", "unlinked", "left"]
    for name in names:
        (share / name).write_bytes(name.encode())
    inodes = [by_handle(share / name, name.encode()) for name in names]
    directory = by_handle(share / "d")
    directory.nodeid = 9 << 32 | 100
    opened = (share / "unlinked").open("rb")
    (share / "moved").rename(share / "d" / "elsewhere")
    (share / "d" / "other").hardlink_to(share / "linked")
    (share / "linked").unlink()
    (outside / "both").hardlink_to(share / "both")
    (share / "both").rename(share / "d" / "both")
    (share / "unlinked").unlink()
    (share / "left").rename(outside / "left")
    for number, inode in enumerate(inodes):
        inode.nodeid += number
    with opened:
        # What was used last is the name that the host's cache tells.
        os.stat(outside / "both")
        one = target(FILE_HANDLES, GUEST_ERROR)
        assert one.load(one.state([*inodes, directory]))
    found = {}
    for name, inode in zip(names, inodes, strict=True):
        with suppress(FuseError):
            fh = one.fuse.open(inode.nodeid).fh
            found[name] = one.fuse.read(inode.nodeid, fh, 0, 20)
    assert found == {name: name.encode() for name in ("moved", "linked", "both")}


def test_what_the_host_has_forgotten_is_searched_for(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(loop_disk(tmp_path / "image", tmp_path / "disk", "ext4"))
        for where in ("share", "outside"):
            (disk / where).mkdir()
            for number in range(50):
                (disk / where / f"{number}").write_bytes(b"%d" % number)
        os.sync()
        paths = sorted((disk / "share").iterdir()) + sorted((disk / "outside").iterdir())
        inodes = [by_handle(path) for path in paths]
        for number, inode in enumerate(inodes):
            inode.nodeid += number
        one = Target(start(FILE_HANDLES, GUEST_ERROR, share=disk / "share"), stack)
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert one.load(one.state(inodes))
        for number, inode in enumerate(inodes):
            if number < 50:
                assert one.fuse.getattr(inode.nodeid).attr.ino == paths[number].lstat().st_ino
            else:
                with pytest.raises(FuseError, match=STALE):
                    one.fuse.getattr(inode.nodeid)


def test_deeper_than_a_path_reaches(
    target: Callable[..., Target], share: Path, request: pytest.FixtureRequest
) -> None:
    fd = os.open(share, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    # Neither does what removes it afterwards.
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", share], check=True))
    request.addfinalizer(lambda: os.close(fd))
    os.close(os.open("f", os.O_CREAT, dir_fd=fd))
    directory = Inode(FIRST_ID, stat.S_IFDIR, BY_HANDLE, handle=handle_of(Path(), fd))
    file = Inode(FIRST_ID + 1, stat.S_IFREG, BY_HANDLE, handle=handle_of(Path("f"), fd))
    one = target(FILE_HANDLES)
    assert one.load(one.state([file, directory]))
    assert one.fuse.lookup(directory.nodeid, "f").nodeid == file.nodeid


def test_whole_filesystems_begin_with_a_mount(target: Callable[..., Target], share: Path) -> None:
    (share / "d").mkdir()
    inode = Inode(FIRST_ID, stat.S_IFDIR, BY_PATH, b"d")
    one = target(*PRIVILEGED)
    assert not one.load(one.state([inode], watches=[(FIRST_ID, WHOLE, MASK)]))
    one.rest()
    assert one.load(one.state([inode], watches=[(ROOT_ID, WHOLE, MASK)]))
    (share.parent / "outside" / "event").touch()
    (share / "d" / "seen").touch()
    records = until_sentinel(one.guest, share, ROOT_ID)
    assert [(r.nodeid, r.mask, r.name) for r in records] == [
        (0, FS_Q_OVERFLOW, b""),
        (FIRST_ID, CREATE, b"seen"),
    ]


def test_what_no_source_writes_is_refused(target: Callable[..., Target], share: Path) -> None:
    (share / "f").write_bytes(b"x")
    os.mkfifo(share / "p")
    one = target(GUEST_ERROR)
    regular = Inode(FIRST_ID, stat.S_IFREG, BY_PATH, b"f")
    lost = Inode(FIRST_ID + 1, stat.S_IFREG, LOST)
    fh = 1 << 32
    bad = [
        one.state([Inode(0, stat.S_IFREG, LOST)]),
        one.state([Inode(2, stat.S_IFREG, LOST)]),  # of no generation
        one.state([Inode(7 << 32 | 1, stat.S_IFREG, LOST)]),
        one.state([Inode((1 << 64) - 1, stat.S_IFREG, LOST)]),
        one.state([Inode(FIRST_ID, stat.S_IFREG, LOST, nlookup=0)]),
        one.state([Inode(FIRST_ID, 0o060001, LOST)]),
        one.state([Inode(FIRST_ID, stat.S_IFREG, 3)]),
        one.state([lost, lost]),
        one.state([ROOT]),
        one.state([regular], [(fh, FIRST_ID, os.O_RDONLY)] * 2),
        one.state([regular], [(fh, FIRST_ID + 1, os.O_RDONLY)]),
        one.state([regular], [(fh, FIRST_ID, os.O_ACCMODE)]),
        one.state([regular], [(1 << 32 | (1 << 32) - 1, FIRST_ID, os.O_RDONLY)]),
        one.state([regular], watches=[(FIRST_ID, 0, 0)]),
        one.state([regular], watches=[(FIRST_ID, 1, MODIFY)]),
        one.state([regular], watches=[(FIRST_ID + 1, 0, MODIFY)]),
    ]
    descriptors = len(os.listdir(f"/proc/{one.daemon.pid}/fd"))
    for state in bad:
        assert not one.load(state)
        assert one.fuse.lookup(ROOT_ID, "f").attr.size == 1
        one.rest()
    # The same without what is wrong.
    fifo = Inode(FIRST_ID + 2, stat.S_IFIFO, BY_PATH, b"p", nlookup=(1 << 64) - 1)
    files = [(fh, FIRST_ID, FLAGS[2]), (fh + 1, FIRST_ID + 2, os.O_WRONLY)]
    assert one.load(one.state([regular, lost, fifo], files, [(FIRST_ID, 0, MODIFY)]))
    assert one.fuse.read(FIRST_ID, fh, 0, 9) == b"x"
    with pytest.raises(FuseError, match=STALE):
        one.fuse.write(FIRST_ID + 2, fh + 1, 0, b"x")
    one.rest()
    assert not one.load(bad[0])
    one.rest()
    assert len(os.listdir(f"/proc/{one.daemon.pid}/fd")) == descriptors
