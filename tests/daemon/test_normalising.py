# SPDX-License-Identifier: BSD-3-Clause
"""What the host says in its own way reaches the guest as a local file system would have said it.

The daemon is stopped while the host acts, so that the host's queue holds all of it at once and
merges what it can. Actors are processes: fanotify merges only within one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.daemon.events import (
    ACCESS,
    ALL,
    ATTRIB,
    CLOSE_NOWRITE,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    MODIFY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ON_CHILD,
    OPEN,
    SENTINEL,
    Watched,
    until_sentinel,
)
from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, Record, Session
from tests.frontend.notify import FS_ISDIR

MODES = pytest.mark.parametrize("mode", ["merged", "server"])


def elsewhere(code: str, *arguments: str | Path) -> None:
    """Run Python in another process."""
    subprocess.run(
        [sys.executable, "-c", f"import os, sys; a = sys.argv[1:]; {code}", *map(str, arguments)],
        check=True,
    )


def names(records: list[Record]) -> list[tuple[int, bytes]]:
    return [(r.mask, r.name) for r in records]


@pytest.fixture
def make(start: Callable[..., Daemon], connect: Callable[..., Session]) -> Callable[[str], Watched]:
    """Make a watched directory in the given mode."""

    def run(mode: str) -> Watched:
        daemon = start(f"--fsnotify={mode}")
        return Watched(daemon, connect(daemon))

    return run


@MODES
def test_created_by_one_removed_by_another_and_created_again(
    make: Callable[[str], Watched], mode: str
) -> None:
    """The last CREATE is merged into the first, and the batch would end with a DELETE."""
    watched = make(mode)
    path = watched.path / "n"
    with watched.daemon.stopped():
        os.mknod(path)
        elsewhere("os.unlink(a[0])", path)
        os.mknod(path)
    assert watched.short() == [(CREATE, b"n"), (DELETE, b"n"), (CREATE, b"n")]


@MODES
def test_removed_by_one_created_by_another_and_removed_again(
    make: Callable[[str], Watched], mode: str
) -> None:
    watched = make(mode)
    path = watched.path / "f"
    with watched.daemon.stopped():
        path.unlink()
        elsewhere("os.mknod(a[0])", path)
        path.unlink()
    assert watched.short() == [(DELETE, b"f"), (CREATE, b"f"), (DELETE, b"f")]


@MODES
def test_comes_and_goes_of_one_process(make: Callable[[str], Watched], mode: str) -> None:
    """The host merges what one object does to one name, and no more."""
    watched = make(mode)
    path = watched.path / "n"
    with watched.daemon.stopped():
        for _ in range(3):
            os.mknod(path)
            path.unlink()
        (watched.path / "f").unlink()
        os.mknod(watched.path / "f")
    once = [(CREATE, b"n"), (DELETE, b"n")]
    assert watched.short() == [*once * 3, (DELETE, b"f"), (CREATE, b"f")]


def test_merged_bits_come_in_the_order_of_their_operation(make: Callable[[str], Watched]) -> None:
    watched = make("merged")
    path = watched.path / "f"
    with watched.daemon.stopped():
        with path.open("r+b") as file:
            file.read()
            file.write(b"x")
        path.chmod(0o600)
    assert watched.short() == [(bit, b"f") for bit in (OPEN, ACCESS, MODIFY, ATTRIB, CLOSE_WRITE)]
    with watched.daemon.stopped():
        path.read_bytes()
    assert watched.short() == [(bit, b"f") for bit in (OPEN, ACCESS, CLOSE_NOWRITE)]


@MODES
def test_renames_between_watched_and_unwatched_directories(
    make: Callable[[str], Watched], mode: str
) -> None:
    watched = make(mode)
    fuse, share = watched.guest.fuse, watched.path.parent
    for name in ("e", "u"):
        (share / name).mkdir()
    e = fuse.lookup(ROOT_ID, "e").nodeid
    fuse.fsnotify(e, ALL | ON_CHILD)
    with watched.daemon.stopped():
        (watched.path / "f").rename(share / "e" / "g")  # both watched
        (share / "e" / "g").rename(share / "u" / "h")  # from watched
        (share / "u" / "h").rename(share / "u" / "i")  # neither
        (share / "u" / "i").rename(watched.path / "f")  # to watched
    d = watched.dir
    events = watched.events()
    assert [(r.nodeid, r.mask, r.name) for r in events] == [
        (d, MOVED_FROM, b"f"),
        (e, MOVED_TO, b"g"),
        (e, MOVED_FROM, b"g"),
        (d, MOVED_TO, b"f"),
    ]
    first, second, third, fourth = (r.cookie for r in events)
    assert first == second != 0
    assert len({first, third, fourth}) == 3


@MODES
def test_moves_into_and_out_of_the_share(
    make: Callable[[str], Watched], mode: str, tmp_path: Path
) -> None:
    """What is outside has no name here, and its events are nobody's business."""
    watched = make(mode)
    fuse = watched.guest.fuse
    if mode == "merged":
        fuse.fsnotify(watched.file, ALL)
    outside = tmp_path / "outside"
    outside.mkdir()
    with watched.daemon.stopped():
        (watched.path / "f").rename(outside / "f")
        (outside / "new").mkdir()
        (outside / "new").rename(watched.path / "in")
        (outside / "other").touch()
    told = watched.events()
    assert [(r.mask, r.name) for r in told if r.nodeid == watched.dir] == [
        (MOVED_FROM, b"f"),
        (MOVED_TO | FS_ISDIR, b"in"),
    ]
    assert {r.name for r in told if r.nodeid != watched.dir} <= {b""}
    assert {r.mask for r in told if r.nodeid == watched.file} <= {MOVE_SELF}
    # Out there it is still what the guest knows and watches, by number; its name there is not told.
    with (outside / "f").open("ab") as file:
        file.write(b"x")
    assert all(r.name == b"" and r.nodeid == watched.file for r in watched.events())


@MODES
def test_two_names_of_one_file(make: Callable[[str], Watched], mode: str) -> None:
    watched = make(mode)
    fuse, share = watched.guest.fuse, watched.path.parent
    (share / "e").mkdir()
    e = fuse.lookup(ROOT_ID, "e").nodeid
    fuse.fsnotify(e, ALL | ON_CHILD)
    watched.events()
    os.link(watched.path / "f", share / "e" / "second")
    assert [(r.nodeid, r.mask, r.name) for r in watched.events()][-1] == (e, CREATE, b"second")
    assert fuse.lookup(e, "second").nodeid == watched.file
    bits = [MODIFY] if mode == "server" else [OPEN, MODIFY, CLOSE_WRITE]
    for directory, path in ((watched.dir, watched.path / "f"), (e, share / "e" / "second")):
        with path.open("ab") as file:
            file.write(b"x")
        # By the name that was used, as the host does it, and by no other.
        name = os.fsencode(path.name)
        assert [(r.nodeid, r.child, r.mask, r.name) for r in watched.events()] == [
            (directory, watched.file, bit, name) for bit in bits
        ]
    (watched.path / "f").unlink()
    assert (DELETE, b"f") in names(watched.events())
    with (share / "e" / "second").open("ab") as file:
        file.write(b"x")
    assert {(r.nodeid, r.name) for r in watched.events()} == {(e, b"second")}


@MODES
def test_renamed_directory_under_a_watched_one(make: Callable[[str], Watched], mode: str) -> None:
    """Watches in the subtree stay with their inodes, wherever those have gone."""
    watched = make(mode)
    fuse = watched.guest.fuse
    (watched.path / "a" / "b").mkdir(parents=True)
    a = fuse.lookup(watched.dir, "a").nodeid
    b = fuse.lookup(a, "b").nodeid
    fuse.fsnotify(b, ALL | ON_CHILD)
    watched.events()
    with watched.daemon.stopped():
        (watched.path / "a").rename(watched.path / "z")
        os.mknod(watched.path / "z" / "b" / "x")
    told = watched.events()
    assert [(r.nodeid, r.mask, r.name) for r in told] == [
        (watched.dir, MOVED_FROM | FS_ISDIR, b"a"),
        (watched.dir, MOVED_TO | FS_ISDIR, b"z"),
        (b, CREATE, b"x"),
    ]
    assert told[1].child == a
    assert told[0].cookie == told[1].cookie != 0
    (watched.path / "a" / "b").mkdir(parents=True)  # the same path is another inode
    os.mknod(watched.path / "a" / "b" / "y")
    os.mknod(watched.path / "z" / "b" / "y")
    assert [(r.nodeid, r.name) for r in watched.events()] == [(watched.dir, b"a"), (b, b"y")]


@MODES
@pytest.mark.parametrize("name", [b"\xff", b"\xc3\x28", b"\x01\x7f\\x", "\u00e4".encode("latin-1")])
def test_names_that_are_not_utf8(make: Callable[[str], Watched], mode: str, name: bytes) -> None:
    watched = make(mode)
    path, plain = watched.path / os.fsdecode(name), watched.path / "n"
    os.mknod(path)
    assert names(watched.events()) == [(CREATE, name)]
    path.rename(plain)
    assert names(watched.events()) == [(MOVED_FROM, name), (MOVED_TO, b"n")]
    plain.rename(path)
    assert names(watched.events()) == [(MOVED_FROM, b"n"), (MOVED_TO, name)]
    path.unlink()
    assert names(watched.events()) == [(DELETE, name)]


@MODES
def test_renamed_between_its_creation_and_its_end(
    make: Callable[[str], Watched], mode: str
) -> None:
    watched = make(mode)
    with watched.daemon.stopped():
        os.mknod(watched.path / "a")
        (watched.path / "a").rename(watched.path / "b")
        (watched.path / "b").rename(watched.path / "a")
        (watched.path / "a").unlink()
    assert watched.short() == [
        (CREATE, b"a"),
        (MOVED_FROM, b"a"),
        (MOVED_TO, b"b"),
        (MOVED_FROM, b"b"),
        (MOVED_TO, b"a"),
        (DELETE, b"a"),
    ]


@MODES
def test_created_again_after_it_was_renamed(make: Callable[[str], Watched], mode: str) -> None:
    """Both CREATEs are one event, before the renames."""
    watched = make(mode)
    a = watched.path / "a"
    with watched.daemon.stopped():
        os.mknod(a)
        a.rename(watched.path / "b")
        os.mknod(a)
        a.rename(watched.path / "c")
        os.mknod(a)
    assert watched.short() == [
        (CREATE, b"a"),
        (MOVED_FROM, b"a"),
        (MOVED_TO, b"b"),
        (CREATE, b"a"),
        (MOVED_FROM, b"a"),
        (MOVED_TO, b"c"),
        (CREATE, b"a"),
    ]


@MODES
def test_renamed_there_and_back_and_there(make: Callable[[str], Watched], mode: str) -> None:
    """The third rename is merged into the first."""
    watched = make(mode)
    f, g = watched.path / "f", watched.path / "g"
    with watched.daemon.stopped():
        f.rename(g)
        g.rename(f)
        f.rename(g)
    told = watched.events()
    assert [(r.mask, r.name) for r in told] == [
        (MOVED_FROM, b"f"),
        (MOVED_TO, b"g"),
        (MOVED_FROM, b"g"),
        (MOVED_TO, b"f"),
        (MOVED_FROM, b"f"),
        (MOVED_TO, b"g"),
    ]
    cookies = [r.cookie for r in told]
    assert cookies[::2] == cookies[1::2]
    assert len(set(cookies)) == 3


class Actor:
    """A process that does to names what it is told."""

    def __init__(self) -> None:
        """Start it."""
        code = (
            "import os, sys\n"
            "for line in sys.stdin:\n"
            "    verb, *paths = line.split()\n"
            "    getattr(os, verb)(*paths)\n"
            "    print(flush=True)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, verb: str, *paths: Path) -> None:
        """Return when it is done."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join([verb, *map(str, paths)]) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "\n"

    def end(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def actors() -> Iterator[list[Actor]]:
    actors = [Actor(), Actor()]
    yield actors
    for actor in actors:
        actor.end()


Told = list[tuple[int, bytes]]
THREE_NAMES = (b"a", b"b", b"c")
OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 1), st.sampled_from(THREE_NAMES), st.sampled_from([None, *THREE_NAMES])
    ),
    min_size=1,
    max_size=10,
)


def _act(
    actors: list[Actor], path: Path, operations: list[tuple[int, bytes, bytes | None]]
) -> tuple[Told, bool]:
    """Do what can be done; return what a local watch sees, and whether a host may merge of it."""
    present: set[bytes] = set()
    seen: Told = []
    keys: list[object] = []
    for who, name, to in operations:
        here = path / os.fsdecode(name)
        if to is not None and to != name and name in present:
            actors[who].do("rename", here, path / os.fsdecode(to))
            present = (present - {name}) | {to}
            seen += [(MOVED_FROM, name), (MOVED_TO, to)]
            keys.append((who, name, to))
        elif to is None:
            actors[who].do("unlink" if name in present else "mknod", here)
            seen.append((DELETE if name in present else CREATE, name))
            present ^= {name}
            keys.append((who, name))
    return seen, len(set(keys)) < len(keys)


@MODES
def test_names_come_and_go_in_turns_and_end_as_they_are(
    make: Callable[[str], Watched], actors: list[Actor], mode: str
) -> None:
    """Whatever two processes do to three names, in what order, and however the host merges it."""
    watched = make(mode)

    @settings(max_examples=200, deadline=None)
    @given(OPERATIONS)
    def check(operations: list[tuple[int, bytes, bytes | None]]) -> None:
        for name in THREE_NAMES:
            (watched.path / os.fsdecode(name)).unlink(missing_ok=True)
        watched.events()
        with watched.daemon.stopped():
            seen, merged = _act(actors, watched.path, operations)
        records = watched.events()
        told = [(r.mask, r.name) for r in records]
        if mode == "server" or not merged:
            assert told == seen
        # An event that is DELETE and CREATE at once does not tell what there was before.
        present: dict[bytes, bool] = {}
        for mask, name in told:
            comes = mask in (CREATE, MOVED_TO)
            assert mask == MOVED_TO or present.get(name) is not comes, (seen, told)
            present[name] = comes
        there = {name: (watched.path / os.fsdecode(name)).exists() for name in THREE_NAMES}
        assert {name: present.get(name, False) for name in there} == there, (seen, told)
        cookies = [r.cookie for r in records if r.cookie]
        assert cookies[::2] == cookies[1::2], (seen, told)

    check()


def mount(*arguments: str | Path) -> None:
    """Mount, or skip where this machine lets nobody."""
    try:
        subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode(errors="replace").strip()
        pytest.skip(f"cannot mount here: {said or error}")


@pytest.fixture
def mounts() -> Iterator[list[Path]]:
    """Mount points to undo, the last first."""
    points: list[Path] = []
    yield points
    for point in reversed(points):
        subprocess.run(["umount", str(point)], check=True)


@pytest.fixture
def folding(tmp_path: Path, mounts: list[Path]) -> Path:
    """A share on ext4 with directories that fold case."""
    image, point = tmp_path / "image", tmp_path / "folding"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        subprocess.run(
            ["mkfs.ext4", "-q", "-O", "casefold", "-E", "encoding=utf8", str(image)],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mkfs.ext4 that knows casefold: {error}")
    mount("-o", "loop", image, point)
    mounts.append(point)
    share = point / "share"  # an empty directory; what is made in it folds too
    share.mkdir()
    try:
        subprocess.run(["chattr", "+F", str(share)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this kernel does not fold case: {error}")
    return share


@MODES
def test_folded_names_are_told_as_they_are_stored(
    start: Callable[..., Daemon], folding: Path, mode: str
) -> None:
    daemon = start(f"--fsnotify={mode}", share=folding)
    try:
        with Session.connect(daemon.socket) as guest:
            guest.fuse.init()
            watched = Watched(daemon, guest)
            (watched.path / "Name").touch()
            assert (CREATE, b"Name") in names(watched.events())
            assert guest.fuse.lookup(watched.dir, "nAME").nodeid
            with (watched.path / "NAME").open("ab") as file:
                file.write(b"x")
            (modify,) = [r for r in watched.events() if r.mask == MODIFY]
            assert modify.name.lower() == b"name"
            assert modify.child == guest.fuse.lookup(watched.dir, "name").nodeid
            (watched.path / "name").rename(watched.path / "NAME2")
            moved_from, moved_to = [r for r in watched.events() if r.cookie]
            assert moved_from.name.lower() == b"name"
            assert moved_to.name == b"NAME2"
            (watched.path / "name2").unlink()
            (gone,) = [r for r in watched.events() if r.mask == DELETE]
            assert gone.name.lower() == b"name2"
    finally:
        daemon.kill()


@pytest.fixture(params=["tmpfs", "bind"])
def below(request: pytest.FixtureRequest, tmp_path: Path, mounts: list[Path]) -> Path:
    """A share with another file system, or another place of the same, mounted at ``d/m``."""
    share = tmp_path / "share"
    (share / "d" / "m").mkdir(parents=True)
    if request.param == "tmpfs":
        mount("-t", "tmpfs", "none", share / "d" / "m")
    else:
        (tmp_path / "source").mkdir()
        mount("--bind", tmp_path / "source", share / "d" / "m")
    mounts.append(share / "d" / "m")
    return share


@MODES
@pytest.mark.parametrize("sandbox", ["namespace", "none"])
def test_events_below_a_mount_in_the_share(
    start: Callable[..., Daemon], below: Path, mode: str, sandbox: str
) -> None:
    daemon = start(f"--fsnotify={mode}", f"--sandbox={sandbox}", share=below)
    try:
        with Session.connect(daemon.socket) as guest:
            guest.fuse.init()
            d = guest.fuse.lookup(ROOT_ID, "d").nodeid
            m = guest.fuse.lookup(d, "m").nodeid
            guest.fuse.fsnotify(d, ALL | ON_CHILD)
            guest.fuse.fsnotify(m, ALL | ON_CHILD)
            (below / "d" / "m" / "x").write_bytes(b"x")
            (below / "d" / "m" / "x").rename(below / "d" / "m" / "y")
            (below / "d" / "m" / "y").unlink()
            told = until_sentinel(guest, below / "d", d)
            # Each file system has its own order; the sentinel speaks for that of the share only.
            told += until_sentinel(guest, below / "d" / "m", m)
            assert {r.nodeid for r in told if r.name != SENTINEL} == {m}
            kept = (CREATE, MODIFY, MOVED_FROM, MOVED_TO, DELETE)
            assert [(r.mask, r.name) for r in told if r.mask in kept] == [
                (CREATE, b"x"),
                (MODIFY, b"x"),
                (MOVED_FROM, b"x"),
                (MOVED_TO, b"y"),
                (DELETE, b"y"),
            ]
            guest.fuse.fsnotify(m, 0)
            (below / "d" / "m" / "unseen").touch()
            assert until_sentinel(guest, below / "d", d) == []
    finally:
        daemon.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@MODES
@pytest.mark.parametrize("options", [["--modcaps=-dac_read_search"], []], ids=["not", "all"])
def test_what_cannot_be_told_without_file_handles_is_said_at_the_start(
    start: Callable[..., Daemon], mode: str, options: list[str]
) -> None:
    daemon = start(f"--fsnotify={mode}", *options)
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        watched = Watched(daemon, session)
        (daemon.share / "lone").mkdir()
        lone = session.fuse.lookup(ROOT_ID, "lone").nodeid
        session.fuse.fsnotify(lone, ALL | ON_CHILD)
        (daemon.share / "lone").rmdir()
        ends = [r for r in watched.events() if r.nodeid == lone]
    daemon.terminate()
    said = [line for line in daemon.log if "CAP_DAC_READ_SEARCH" in line]
    assert (len(said), len(ends)) == ((1, 0) if options else (0, 1))
