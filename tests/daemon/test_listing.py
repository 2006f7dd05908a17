# SPDX-License-Identifier: BSD-3-Clause
"""Directories that are listed over and over: entries known by their numbers, and never wrongly.

What is asked of the host is seen by strace; what the guest is told is compared with what the host
says. Files have to be some seconds old before a number can stand for one.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.running import DEADLINE_S, Daemon
from tests.daemon.test_mounts import Host
from tests.daemon.test_syscalls import DOTS, WAITING, Tracer, traced
from tests.frontend import ROOT_ID, InitFlag, Session
from tests.frontend.fuse import DEFAULT_INIT_FLAGS
from tests.frontend.fuse_wire import Dirent
from tests.frontend.notify import FSN_UNLINKED

__all__ = ["traced"]

NAMES = [f"f{i}" for i in range(12)]
HOT = 4
OLD_S = 6.1
QUICK_S = 0.5
IN_DELETE_SELF, IN_ATTRIB = 0x400, 0x4


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories for the tests to use up, old enough."""
    place = tmp_path_factory.mktemp("trees")
    for number in range(16):
        tree = place / str(number)
        (tree / "d").mkdir(parents=True)
        for name in NAMES:
            (tree / name).write_text(name)
    youngest = time.time()
    while time.time() < youngest + OLD_S:
        time.sleep(0.1)
    return place


@pytest.fixture
def tree(trees: Path) -> Path:
    """Return one that no other test has."""
    found = min(trees.glob("[0-9]*"), key=lambda path: int(path.name))
    return found.rename(trees / f"used-{found.name}")


@pytest.fixture
def daemon(start: Callable[..., Daemon], tree: Path) -> Daemon:
    """Share it."""
    return start("--cache=never", share=tree)


def listing(
    guest: Session, nodeid: int = ROOT_ID, *, fh: int | None = None, size: int = 65536
) -> dict[str, Dirent]:
    """Read a directory from its start to its end, without the dots."""
    opened = guest.fuse.opendir(nodeid).fh if fh is None else fh
    found: list[Dirent] = []
    while batch := guest.fuse.readdirplus(
        nodeid, opened, found[-1].offset if found else 0, size=size
    ):
        found += batch
    if fh is None:
        guest.fuse.releasedir(nodeid, opened)
    names = [entry.name.decode() for entry in found]
    assert len(set(names)) == len(names), "a name twice"
    return {name: entry for name, entry in zip(names, found, strict=True) if name not in DOTS}


def heat(guest: Session, fh: int | None = None) -> dict[str, Dirent]:
    """List so often that numbers do, and once more."""
    for _ in range(HOT):
        found = listing(guest, fh=fh)
    return found


def told(entry: Dirent) -> tuple[int, ...]:
    """Return what the guest learns of an entry."""
    assert entry.entry is not None
    attr = entry.entry.attr
    mtime, ctime = (attr.mtime, attr.mtimensec), (attr.ctime, attr.ctimensec)
    return (attr.ino, attr.mode, attr.nlink, attr.size, attr.uid, *mtime, *ctime)


def truth(path: Path) -> tuple[int, ...]:
    """Return the same from the host."""
    st = path.lstat()
    mtime, ctime = divmod(st.st_mtime_ns, 10**9), divmod(st.st_ctime_ns, 10**9)
    return (st.st_ino, st.st_mode, st.st_nlink, st.st_size, st.st_uid, *mtime, *ctime)


def check(found: dict[str, Dirent], share: Path) -> None:
    """See that the guest was told what is so."""
    assert {name: told(entry) for name, entry in found.items()} == {
        path.name: truth(path) for path in share.iterdir()
    }


def by_name(lines: list[str]) -> set[str]:
    """Return the names that were looked up."""
    calls = (line.split('"') for line in lines if line.startswith(("statx(", "name_to_handle_at(")))
    return {parts[1] for parts in calls if len(parts) > 1 and parts[1]}


def only_by_name(lines: list[str], expected: set[str]) -> None:
    """See which names were looked up: these, and the first, which the host may have put back."""
    names = by_name(lines)
    assert names >= expected
    assert len(names - expected) <= 1


def hot_listing(
    daemon: Daemon,
    guest: Session,
    traced: Tracer,
    fh: int | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Dirent], list[str]]:
    """List a directory that is listed often; return also the system calls that it took.

    Descriptors are kept for a second, and a machine that is busy may need that long: what took too
    long says nothing, and is done again, also what prepares for it.
    """
    end = time.monotonic() + DEADLINE_S
    with traced(daemon, guest) as trace:
        while True:
            prepare()
            begun = time.monotonic()
            heat(guest, fh)
            guest.fuse.statfs()  # where to look from
            found = listing(guest, fh=fh)
            if time.monotonic() - begun < QUICK_S:
                break
            assert time.monotonic() < end, "it is always slow"
    begin = max(at for at, line in enumerate(trace.lines) if line.startswith("fstatfs("))
    return found, trace.lines[begin + 1 :]


def statxes(lines: list[str]) -> int:
    """Return how often attributes were asked for."""
    return sum(line.startswith("statx(") for line in lines)


def test_listed_often_means_by_number(
    daemon: Daemon, guest: Session, tree: Path, traced: Tracer
) -> None:
    fh = guest.fuse.opendir(ROOT_ID).fh
    first = listing(guest, fh=fh)
    found, lines = hot_listing(daemon, guest, traced, fh)
    only_by_name(lines, set())
    assert statxes(lines) == len(NAMES) + 1
    calls = [line.partition("(")[0] for line in lines if "(" in line]
    others = [call for call in calls if call not in {"statx", *WAITING}]
    assert others == ["lseek", "getdents64", "getdents64"]
    assert {name: entry.entry and entry.entry.nodeid for name, entry in found.items()} == {
        name: entry.entry and entry.entry.nodeid for name, entry in first.items()
    }
    check(found, tree)


def test_listed_now_and_then_means_by_name(
    daemon: Daemon, guest: Session, tree: Path, traced: Tracer
) -> None:
    listing(guest)
    held = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    with traced(daemon, guest) as trace:
        check(listing(guest), tree)
    assert by_name(trace.lines) == {*NAMES, "d"}
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) == held


def test_idle_daemon_holds_none_of_them(daemon: Daemon, guest: Session) -> None:
    listing(guest)
    held = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    end = time.monotonic() + DEADLINE_S
    while len(os.listdir(f"/proc/{daemon.pid}/fd")) < held + len(NAMES):
        assert time.monotonic() < end
        heat(guest)
    while len(os.listdir(f"/proc/{daemon.pid}/fd")) > held:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_young_files_are_known_by_name(
    daemon: Daemon, guest: Session, tree: Path, traced: Tracer
) -> None:
    def make() -> None:
        (tree / "young").unlink(missing_ok=True)
        (tree / "young").write_text("y")

    found, lines = hot_listing(daemon, guest, traced, prepare=make)
    check(found, tree)
    only_by_name(lines, {"young"})


def test_files_with_two_names_are_known_by_name(
    daemon: Daemon, guest: Session, tree: Path, traced: Tracer
) -> None:
    (tree / "again").hardlink_to(tree / "f3")
    found, lines = hot_listing(daemon, guest, traced)
    check(found, tree)
    only_by_name(lines, {"f3", "again"})


def test_watched_files_are_known_by_name_and_end(
    daemon: Daemon, guest: Session, tree: Path, traced: Tracer
) -> None:
    """Were it held open, the host would not say that it has ended."""
    entry = heat(guest)["f3"].entry
    assert entry is not None
    guest.fuse.fsnotify(entry.nodeid, IN_ATTRIB | IN_DELETE_SELF)
    found, lines = hot_listing(daemon, guest, traced)
    check(found, tree)
    only_by_name(lines, {"f3"})
    (tree / "f3").unlink()
    assert guest.notifications is not None
    records = guest.notifications.read_until(lambda record: bool(record.flags & FSN_UNLINKED))
    assert records[-1].nodeid == entry.nodeid


def test_what_was_read_earlier_is_looked_up_by_name(guest: Session, tree: Path) -> None:
    """What did not fit into a reply, ours or the host's, may have got another name since."""
    fh = guest.fuse.opendir(ROOT_ID).fh
    gone = 0
    for _ in range(20):
        heat(guest)
        first = guest.fuse.readdirplus(ROOT_ID, fh, size=1024)
        before = {path.name for path in tree.iterdir()}
        for name in before - {"d"}:
            (tree / name).rename(tree / name[::-1])
        rest = guest.fuse.readdirplus(ROOT_ID, fh, first[-1].offset, size=65536)
        for entry in rest:
            assert entry.entry is not None
            if entry.name.decode() in before - {path.name for path in tree.iterdir()}:
                gone += 1
                assert entry.entry.nodeid == 0, f"{entry.name!r} is no more"
    assert gone > 20, "hardly anything was read earlier"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_host_does_is_told(
    daemon: Daemon, guest: Session, tree: Path, seed: int
) -> None:
    choose = random.Random(seed)
    heat(guest)
    for step in range(300):
        paths = sorted(path for path in tree.iterdir() if not path.is_dir())
        path = choose.choice(paths)
        match choose.randrange(9):
            case 0:
                path.chmod(choose.randrange(0o1000))
            case 1:
                path.write_text("x" * choose.randrange(100))
            case 2:
                path.rename(choose.choice(paths))
            case 3:
                path.rename(tree / f"moved-{step}")
            case 4 if len(paths) > 4:
                path.unlink()
            case 5:
                (tree / f"new-{step}").write_text("")
            case 6:
                (tree / f"link-{step}").hardlink_to(path)
            case 7:
                os.utime(path, (step, step))
            case _:
                (tree / f"dir-{step}").mkdir()
                if choose.random() < 0.5:
                    (tree / f"dir-{step}").rmdir()
        check(listing(guest), tree)


def test_what_is_mounted_upon_a_name_is_told(tree: Path, tmp_path: Path, traced: Tracer) -> None:
    """Also a plain file, and at once, though the directory and its entries are as before."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    host = Host(tree)

    def sizes(found: dict[str, Dirent]) -> dict[str, int]:
        return {name: entry.entry.attr.size for name, entry in found.items() if entry.entry}

    try:
        (tree / "d/large").write_text("x" * 1000)
        with (
            Daemon(tmp_path, "--cache=never", share=tree, launcher=host.enter) as daemon,
            Session.connect(daemon.socket) as guest,
        ):
            guest.fuse.init(DEFAULT_INIT_FLAGS | InitFlag.SUBMOUNTS)
            before = sizes(heat(guest))
            for _ in range(5):
                host.run("mount", "--bind", "d/large", "f3")
                assert sizes(listing(guest)) == {**before, "f3": 1000}
                found, lines = hot_listing(daemon, guest, traced)
                assert sizes(found) == {**before, "f3": 1000}
                only_by_name(lines, {"f3"})
                host.run("umount", "-l", "f3")
                assert sizes(listing(guest)) == before
                found, lines = hot_listing(daemon, guest, traced)
                assert sizes(found) == before
                only_by_name(lines, set())
            host.run("mount", "-t", "tmpfs", "none", "d")
            mounted = listing(guest)["d"].entry
            assert mounted is not None
            assert mounted.attr.ino == int(
                subprocess.run(
                    [*host.enter, "stat", "-c", "%i", tree / "d"], check=True, capture_output=True
                ).stdout
            )
    finally:
        host.close()
