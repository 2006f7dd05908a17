# SPDX-License-Identifier: BSD-3-Clause
"""A guest's session moves from one daemon to another: what it knew and held goes on working."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.daemon.events import CREATE, DELETE, MODIFY, ON_CHILD, until_sentinel
from tests.daemon.running import Daemon
from tests.daemon.test_whole import FSNOTIFY_SB, PRIVILEGED
from tests.frontend import ROOT_ID, FrontEnd, FuseError, InitFlag, RefusedByBackend, Session
from tests.frontend.fuse import DEFAULT_INIT_FLAGS
from tests.frontend.fuse_wire import Dirent
from tests.frontend.notify import FS_ISDIR, FS_Q_OVERFLOW, FSN_UNKNOWN_DIR
from tests.frontend.vhost import P_DEVICE_STATE

HEADER = struct.Struct("=QIIQIIIIQQQ")
STALE = "Stale file handle"


class Mover:
    """A source with a guest, and what is needed to start destinations on the same share."""

    def __init__(self, start: Callable[..., Daemon], stack: ExitStack, share: Path) -> None:
        self._start = start
        self._stack = stack
        self.share = share
        share.mkdir()
        self.targets: list[Daemon] = []
        self.log: list[str] = []

    def source(self, *arguments: str, flags: int = DEFAULT_INIT_FLAGS) -> Session:
        """Return a guest that has said INIT."""
        self.daemon = self._start(*arguments, share=self.share)
        self.guest = self._stack.enter_context(Session.connect(self.daemon.socket))
        self.guest.fuse.init(flags)
        return self.guest

    def save(self) -> bytes:
        """Stop the source's guest and return its state."""
        self.guest.stop()
        return self.guest.front_end.save_state()

    def target(self, state: bytes, *arguments: str) -> Session:
        """Return the guest on another daemon."""
        self.targets.append(self._start(*arguments, share=self.share))
        return self._stack.enter_context(Session.connect(self.targets[-1].socket, state=state))

    def move(self, *arguments: str) -> Session:
        """Save and load; the source is gone afterwards."""
        state = self.save()
        guest = self.target(state, *arguments)
        self.guest.close()
        assert self.daemon.wait() == 0
        return guest

    def refused(self, state: bytes, *arguments: str) -> str:
        """Return the reason why a target, which lives on, does not take the state."""
        daemon = self._start(*arguments, share=self.share)
        with pytest.raises(RefusedByBackend):
            self._stack.enter_context(Session.connect(daemon.socket, state=state))
        reason = daemon.wait_for_log("not loaded")
        self.log = daemon.log
        return reason


@pytest.fixture
def mover(start: Callable[..., Daemon], tmp_path: Path) -> Iterator[Mover]:
    """Yield what starts sources and targets; all of them end with the test."""
    with ExitStack() as stack:
        yield Mover(start, stack, tmp_path / "share")


MODES = ["--migration-mode=find-paths", "--migration-mode=file-handles"]
HOLDS = ["--inode-file-handles=never", "--inode-file-handles=prefer"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("hold", HOLDS)
def test_names_files_and_directories_go_on(mover: Mover, mode: str, hold: str) -> None:
    (mover.share / "d" / "sub").mkdir(parents=True)
    (mover.share / "d" / "f").write_bytes(b"0123456789")
    (mover.share / "link").symlink_to("d/f")
    os.mkfifo(mover.share / "fifo")
    guest = mover.source(mode, hold)
    fuse = guest.fuse
    directory = fuse.lookup(ROOT_ID, "d").nodeid
    file = fuse.lookup(directory, "f").nodeid
    sub = fuse.lookup(directory, "sub").nodeid
    link = fuse.lookup(ROOT_ID, "link").nodeid
    fifo = fuse.lookup(ROOT_ID, "fifo").nodeid
    reads = fuse.open(file, os.O_RDONLY).fh
    writes = fuse.open(file, os.O_RDWR | os.O_TRUNC | os.O_APPEND).fh
    fuse.write(file, writes, 0, b"hello, world")
    made, made_fh = fuse.create(sub, "made", flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    opened = fuse.opendir(directory).fh
    first = fuse.readdir(directory, opened, 0, 64)

    fuse = mover.move(mode, hold).fuse
    # No truncation, no creation: only what was opened is open again.
    assert fuse.read(file, reads, 0, 100) == b"hello, world"
    assert fuse.write(file, writes, 7, b"there") == 5
    assert (mover.share / "d" / "f").read_bytes() == b"hello, there"
    with pytest.raises(FuseError, match="Bad file descriptor"):
        fuse.write(file, reads, 0, b"x")
    assert fuse.write(made.nodeid, made_fh.fh, 0, b"x") == 1
    rest: list[Dirent] = []
    while batch := fuse.readdir(directory, opened, (first + rest)[-1].offset):
        rest += batch
    assert sorted(entry.name for entry in first + rest) == [b".", b"..", b"f", b"sub"]
    assert fuse.readlink(link) == b"d/f"
    assert fuse.getattr(fifo).attr.mode & 0o170000 == 0o010000
    assert fuse.lookup(directory, "f").nodeid == file
    for nodeid, fh in ((file, reads), (file, writes), (made.nodeid, made_fh.fh)):
        fuse.release(nodeid, fh)
    fuse.releasedir(directory, opened)
    with pytest.raises(FuseError, match="Bad file descriptor"):
        fuse.read(file, reads, 0, 1)


def test_lookups_are_counted_as_before(mover: Mover) -> None:
    (mover.share / "f").touch()
    fuse = mover.source().fuse
    for _ in range(3):
        file = fuse.lookup(ROOT_ID, "f").nodeid
    fuse.forget(file, 1)
    fuse = mover.move().fuse
    fuse.forget(file, 1)
    fuse.getattr(file)
    fuse.forget(file, 1)
    with pytest.raises(FuseError, match=STALE):
        fuse.getattr(file)


def test_new_ids_are_none_that_the_guest_has_seen(mover: Mover) -> None:
    for i in range(20):
        (mover.share / f"f{i}").touch()
    fuse = mover.source().fuse
    seen = {fuse.lookup(ROOT_ID, f"f{i}").nodeid for i in range(10)}
    some = sorted(seen)[:5]
    handles = {fuse.open(some[-1]).fh for _ in range(3)}
    for nodeid in some[:-1]:
        fuse.forget(nodeid)
    for fh in handles:
        fuse.release(some[-1], fh)
    fuse = mover.move().fuse
    assert not {fuse.lookup(ROOT_ID, f"f{i}").nodeid for i in range(10, 20)} & seen
    assert not {fuse.open(some[-1]).fh for _ in range(3)} & handles


@pytest.mark.parametrize("mode", MODES)
def test_renamed_before_it_is_found_where_it_is(mover: Mover, mode: str) -> None:
    (mover.share / "old" / "deep").mkdir(parents=True)
    (mover.share / "old" / "deep" / "f").write_bytes(b"mine")
    (mover.share / "g").write_bytes(b"gift")
    fuse = mover.source(mode).fuse
    old = fuse.lookup(ROOT_ID, "old").nodeid
    deep = fuse.lookup(old, "deep").nodeid
    file = fuse.lookup(deep, "f").nodeid
    other = fuse.lookup(ROOT_ID, "g").nodeid
    fh = fuse.open(file).fh
    (mover.share / "old").rename(mover.share / "new")
    fuse.rename(ROOT_ID, "g", deep, "f (deleted)")
    fuse = mover.move().fuse
    assert fuse.read(file, fh, 0, 9) == b"mine"
    assert fuse.lookup(deep, "f").nodeid == file
    assert fuse.lookup(deep, "f (deleted)").nodeid == other


def lost_file(mover: Mover, *arguments: str) -> tuple[Session, int, int, int]:
    """Return a guest with two files open, one of which has no name any more."""
    (mover.share / "kept").write_bytes(b"kept")
    (mover.share / "gone").write_bytes(b"gone")
    guest = mover.source("--inode-file-handles=never", *arguments)
    gone = guest.fuse.lookup(ROOT_ID, "gone").nodeid
    kept = guest.fuse.lookup(ROOT_ID, "kept").nodeid
    fh = guest.fuse.open(gone).fh
    (mover.share / "gone").unlink()
    # What is called so now is another file.
    (mover.share / "gone").write_bytes(b"other")
    (mover.share / "gone (deleted)").write_bytes(b"decoy")
    return guest, gone, kept, fh


def test_lost_inode_fails_the_migration_at_its_source(mover: Mover) -> None:
    guest, gone, _, fh = lost_file(mover)
    bases = guest.stop()
    with pytest.raises(RefusedByBackend):
        guest.front_end.save_state()
    with pytest.raises(RefusedByBackend):
        guest.front_end.check_state()
    assert f"nodeid={gone}" in mover.daemon.wait_for_log("no path to save")
    mover.daemon.wait_for_log("not saved")
    # And the guest goes on where it is.
    for index, ring in enumerate(guest.rings):
        guest.front_end.start_ring(index, ring, bases[index])
    assert guest.fuse.read(gone, fh, 0, 9) == b"gone"


def test_lost_inode_fails_alone(mover: Mover) -> None:
    _, gone, kept, fh = lost_file(mover, "--migration-on-error=guest-error")
    fuse = mover.move("--migration-on-error=guest-error").fuse
    assert mover.targets[0].wait_for_log("lost=2")
    for fails in (
        lambda: fuse.getattr(gone),
        lambda: fuse.open(gone),
        lambda: fuse.read(gone, fh, 0, 9),
        lambda: fuse.getattr(gone, fh),
    ):
        with pytest.raises(FuseError, match=STALE):
            fails()
    fuse.getattr(kept)
    assert fuse.lookup(ROOT_ID, "gone").nodeid != gone
    fuse.release(gone, fh)
    with pytest.raises(FuseError, match="Bad file descriptor"):
        fuse.read(gone, fh, 0, 9)
    fuse.forget(gone)


def test_lost_inode_is_lost_for_the_target_too(mover: Mover) -> None:
    lost_file(mover, "--migration-on-error=guest-error")
    assert "errno=2" in mover.refused(mover.save())


def test_moved_meanwhile_is_found_by_handle_only(mover: Mover) -> None:
    (mover.share / "f").write_bytes(b"mine")
    for mode in MODES:
        fuse = mover.source(mode).fuse
        file = fuse.lookup(ROOT_ID, "f").nodeid
        fh = fuse.open(file).fh
        state = mover.save()
        (mover.share / "f").rename(mover.share / "g")
        if mode == MODES[0]:
            assert "errno=2" in mover.refused(state)
            target = mover.target(state, "--migration-on-error=guest-error").fuse
            with pytest.raises(FuseError, match=STALE):
                target.read(file, fh, 0, 9)
        else:
            # A handle may mean anything: who takes one has to have asked for it.
            assert "errno=2" in mover.refused(state)
            assert "--migration-mode" in " ".join(mover.log)
            assert mover.target(state, mode).fuse.read(file, fh, 0, 9) == b"mine"
        (mover.share / "g").rename(mover.share / "f")


@pytest.mark.skipif(os.geteuid() != 0, reason="opens by handle")
def test_inodes_that_descriptors_hold_are_found_by_handle_too(mover: Mover) -> None:
    options = [MODES[1], "--inode-file-handles=never"]
    (mover.share / "f").write_bytes(b"mine")
    file = mover.source(*options).fuse.lookup(ROOT_ID, "f").nodeid
    state = mover.save()
    (mover.share / "f").rename(mover.share / "g")
    assert mover.target(state, *options).fuse.getattr(file).attr.size == 4
    # This one may not open handles.
    assert "errno=2" in mover.refused(state, "--inode-file-handles=never")


@pytest.mark.parametrize("who", ["source", "target", "nobody"])
def test_verified_handles(mover: Mover, who: str) -> None:
    (mover.share / "f").write_bytes(b"mine")
    verify = "--migration-verify-handles"
    fuse = mover.source(*[verify] * (who == "source")).fuse
    file = fuse.lookup(ROOT_ID, "f").nodeid
    fh = fuse.open(file).fh
    state = mover.save()
    assert mover.target(state, *[verify] * (who == "target")).fuse.read(file, fh, 0, 9) == b"mine"
    (mover.share / "f").rename(mover.share / "g")
    (mover.share / "f").write_bytes(b"fake")
    if who == "nobody":
        assert mover.target(state).fuse.read(file, fh, 0, 9) == b"fake"
    else:
        assert "errno=2" in mover.refused(state, *[verify] * (who == "target"))


@pytest.mark.skipif(os.geteuid() != 0, reason="drops the host's caches")
def test_names_that_the_host_has_forgotten_are_looked_for(start: Callable[..., Daemon]) -> None:
    # On a filesystem that is not in memory, where names come and go.
    with ExitStack() as stack, tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        mover = Mover(start, stack, Path(home) / "share")
        (mover.share / "d").mkdir()
        for i in range(100):
            with (mover.share / "d" / f"{i}").open("wb") as file:
                file.write(b"%d" % i)
                file.flush()
                os.fsync(file.fileno())
        guest = mover.source("--inode-file-handles=prefer")
        directory = guest.fuse.lookup(ROOT_ID, "d").nodeid
        files = [guest.fuse.lookup(directory, f"{i}").nodeid for i in range(100)]
        Path("/proc/sys/vm/drop_caches").write_text("2")
        fuse = mover.move().fuse
        for i in range(100):
            assert fuse.getattr(files[i]).attr.size == len(f"{i}")
            assert fuse.lookup(directory, f"{i}").nodeid == files[i]


@contextmanager
def mounted_over(path: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
@pytest.mark.parametrize("confirm", [False, True])
def test_confirmed_paths(mover: Mover, confirm: bool) -> None:
    (mover.share / "d").mkdir()
    (mover.share / "d" / "f").write_bytes(b"mine")
    options = ["--sandbox=none", "--inode-file-handles=never", "--fsnotify=off"]
    fuse = mover.source(*options, *["--migration-confirm-paths"] * confirm).fuse
    fuse.lookup(fuse.lookup(ROOT_ID, "d").nodeid, "f")
    with mounted_over(mover.share / "d"):
        mover.guest.stop()
        if confirm:
            with pytest.raises(RefusedByBackend):
                mover.guest.front_end.save_state()
            mover.daemon.wait_for_log("no path to save")
        else:
            assert b"d/f" in mover.guest.front_end.save_state()
    if confirm:
        assert b"d/f" in mover.guest.front_end.save_state()


def test_symbolic_links_are_not_followed(mover: Mover, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    for secret in (tmp_path / "outside" / "f", tmp_path / "f"):
        secret.write_bytes(b"secret")
    (mover.share / "dd").mkdir()
    (mover.share / "dd" / "f").write_bytes(b"mine")
    fuse = mover.source("--sandbox=none").fuse
    directory = fuse.lookup(ROOT_ID, "dd").nodeid
    fuse.lookup(directory, "f")
    fuse.forget(directory)
    state = mover.save()
    assert state.count(b"dd/f") == 1
    mover.refused(state.replace(b"dd/f", b"../f"), "--sandbox=none")
    mover.refused(state.replace(b"dd/f", b"/../"), "--sandbox=none")
    (mover.share / "dd").rename(mover.share / "real")
    for target in ("real", "../outside", str(tmp_path / "outside")):
        (mover.share / "dd").symlink_to(target)
        mover.refused(state, "--sandbox=none")
        (mover.share / "dd").unlink()
    (mover.share / "real").rename(mover.share / "dd")
    mover.target(state, "--sandbox=none")


def test_watches_go_on_after_an_overflow(mover: Mover) -> None:
    for name in ("d", "quiet"):
        (mover.share / name).mkdir()
    guest = mover.source()
    watched = guest.fuse.lookup(ROOT_ID, "d").nodeid
    guest.fuse.lookup(ROOT_ID, "quiet")
    guest.fuse.fsnotify(watched, CREATE | DELETE | ON_CHILD)
    state = mover.save()
    (mover.share / "d" / "between").touch()
    guest = mover.target(state)
    assert guest.notifications is not None
    (mover.share / "quiet" / "unseen").touch()
    (mover.share / "d" / "seen").write_bytes(b"x")
    records = until_sentinel(guest, mover.share / "d", watched)
    # What happened in between nobody saw, so the guest is told first that it missed something.
    assert [(r.nodeid, r.mask, r.name) for r in records] == [
        (0, FS_Q_OVERFLOW, b""),
        (watched, CREATE, b"seen"),
    ]
    guest.fuse.fsnotify(watched, 0)
    assert mover.targets[0].fanotify_marks() == []


def test_without_watches_there_is_no_overflow(mover: Mover) -> None:
    (mover.share / "d").mkdir()
    guest = mover.source()
    directory = guest.fuse.lookup(ROOT_ID, "d").nodeid
    guest.fuse.fsnotify(directory, MODIFY)
    guest.fuse.fsnotify(directory, 0)
    guest = mover.move()
    guest.fuse.fsnotify(directory, CREATE | DELETE | ON_CHILD)
    assert until_sentinel(guest, mover.share / "d", directory) == []


def test_a_whole_filesystem_goes_on_after_an_overflow(mover: Mover, tmp_path: Path) -> None:
    (mover.share / "known").mkdir()
    (tmp_path / "outside").mkdir()
    guest = mover.source(*PRIVILEGED)
    known = guest.fuse.lookup(ROOT_ID, "known").nodeid
    guest.fuse.fsnotify(ROOT_ID, CREATE | DELETE | FS_ISDIR, FSNOTIFY_SB)
    (mover.share / "unknown").mkdir()
    (mover.share / "unknown" / "before").touch()
    before = until_sentinel(guest, mover.share, ROOT_ID)
    assert [r.name for r in before] == [b"unknown", b"before"]
    state = mover.save()
    # Who may not watch as much cannot go on.
    assert "errno=2" in mover.refused(state)
    (mover.share / "between").touch()
    guest = mover.target(state, *PRIVILEGED)
    (tmp_path / "outside" / "secret").touch()
    (mover.share / "known" / "after").touch()
    (mover.share / "unknown" / "after").touch()
    lost, first, other = until_sentinel(guest, mover.share, ROOT_ID)
    assert (lost.nodeid, lost.mask, lost.name) == (0, FS_Q_OVERFLOW, b"")
    assert (first.nodeid, first.mask, first.name, first.flags) == (known, CREATE, b"after", 0)
    assert (other.mask, other.name, other.flags) == (CREATE, b"after", FSN_UNKNOWN_DIR)
    # The directory has another id than the one that the source told, which was let go.
    assert other.nodeid not in {known, ROOT_ID, before[1].nodeid}
    assert guest.fuse.lookup(ROOT_ID, "unknown").nodeid == other.nodeid
    guest.fuse.fsnotify(ROOT_ID, 0, FSNOTIFY_SB)
    (mover.share / "known" / "unheard").touch()
    guest.fuse.fsnotify(ROOT_ID, CREATE | DELETE | FS_ISDIR, FSNOTIFY_SB)
    assert until_sentinel(guest, mover.share, ROOT_ID) == []


def test_server_mode_goes_on_in_server_mode(mover: Mover) -> None:
    (mover.share / "d").mkdir()
    guest = mover.source("--fsnotify=server")
    watched = guest.fuse.lookup(ROOT_ID, "d").nodeid
    guest.fuse.fsnotify(watched, CREATE | DELETE | ON_CHILD)
    state = mover.save()
    assert "errno=95" in mover.refused(state)
    assert "errno=95" in mover.refused(state, "--fsnotify=off")
    guest = mover.target(state, "--fsnotify=server")
    guest.fuse.mkdir(watched, "own")
    records = until_sentinel(guest, mover.share / "d", watched)
    assert [r.name for r in records] == [b"", b"own"]


@pytest.mark.parametrize(
    ("option", "flag"),
    [("--writeback", InitFlag.WRITEBACK_CACHE), ("--allow-mmap", InitFlag.DIRECT_IO_ALLOW_MMAP)],
)
def test_what_was_granted_must_be_granted_here(mover: Mover, option: str, flag: InitFlag) -> None:
    mover.source(option, flags=DEFAULT_INIT_FLAGS | flag)
    state = mover.save()
    assert "errno=95" in mover.refused(state)
    mover.target(state, option).fuse.getattr(ROOT_ID)


def test_files_that_write_are_not_for_a_readonly_share(mover: Mover) -> None:
    (mover.share / "f").touch()
    fuse = mover.source().fuse
    file = fuse.lookup(ROOT_ID, "f").nodeid
    fh = fuse.open(file, os.O_RDWR).fh
    state = mover.save()
    mover.refused(state, "--readonly")
    fuse = mover.target(state, "--readonly", "--migration-on-error=guest-error").fuse
    with pytest.raises(FuseError, match=STALE):
        fuse.read(file, fh, 0, 1)


def test_a_guest_without_a_session(mover: Mover) -> None:
    mover.source().fuse.destroy()
    guest = mover.move()
    with pytest.raises(FuseError):
        guest.fuse.getattr(ROOT_ID)
    guest.fuse.init()
    guest.fuse.getattr(ROOT_ID)


def test_a_migrated_guest_migrates_again(mover: Mover) -> None:
    (mover.share / "f").write_bytes(b"mine")
    fuse = mover.source().fuse
    file = fuse.lookup(ROOT_ID, "f").nodeid
    fh = fuse.open(file).fh
    state = mover.save()
    for _ in range(2):
        guest = mover.target(state)
        assert guest.fuse.read(file, fh, 0, 9) == b"mine"
        guest.stop()
        state = guest.front_end.save_state()


def big_session(mover: Mover) -> bytes:
    """Return a state longer than a pipe holds, with everything in it that there is."""
    (mover.share / "d").mkdir()
    guest = mover.source()
    directory = guest.fuse.lookup(ROOT_ID, "d").nodeid
    for i in range(600):
        name = f"{i:0200}"
        entry, opened = guest.fuse.create(directory, name)
        if i >= 20:
            guest.fuse.release(entry.nodeid, opened.fh)
        if i < 20:
            guest.fuse.fsnotify(entry.nodeid, MODIFY)
    state = mover.save()
    assert len(state) > 1 << 17
    return state


def test_nobody_waits_for_a_slow_pipe(mover: Mover) -> None:
    state = big_session(mover)
    front_end = mover.guest.front_end
    with os.fdopen(front_end.begin_save(), "rb") as pipe:
        assert front_end.ask_u64(1)  # GET_FEATURES: the conversation goes on
        assert pipe.read() == state
        front_end.check_state()
    # A front-end that asks for the end before it has read to it.
    with os.fdopen(front_end.begin_save(), "rb"):
        with pytest.raises(RefusedByBackend):
            front_end.check_state()
        mover.daemon.wait_for_log("not transferred")
    # One that goes away, and one that begins anew.
    os.close(front_end.begin_save())
    os.close(front_end.begin_save())
    assert front_end.save_state() == state


def test_a_load_whose_end_does_not_come(mover: Mover) -> None:
    state = big_session(mover)
    daemon = mover._start(share=mover.share)
    with FrontEnd.connect(daemon.socket) as front_end:
        front_end.negotiate()
        with os.fdopen(front_end.begin_load(), "wb", buffering=0) as pipe:
            pipe.write(state[:1000])
            with pytest.raises(RefusedByBackend):
                front_end.check_state()
        front_end.load_state(state)


def test_rings_have_to_rest(mover: Mover) -> None:
    guest = mover.source()
    with pytest.raises(RefusedByBackend):
        guest.front_end.save_state()
    with pytest.raises(RefusedByBackend):
        guest.front_end.begin_load()
    guest.fuse.getattr(ROOT_ID)


def test_states_that_are_cut_or_bent_are_refused_or_sound(mover: Mover) -> None:
    (mover.share / "d").mkdir()
    (mover.share / "d" / "f").write_bytes(b"mine")
    guest = mover.source()
    directory = guest.fuse.lookup(ROOT_ID, "d").nodeid
    file = guest.fuse.lookup(directory, "f").nodeid
    guest.fuse.open(file)
    guest.fuse.opendir(directory)
    guest.fuse.fsnotify(directory, CREATE | ON_CHILD)
    good = mover.save()
    daemon = mover._start("--migration-on-error=guest-error", share=mover.share)
    rng = random.Random(1)
    with FrontEnd.connect(daemon.socket) as front_end:
        front_end.negotiate()
        fds = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        for cut in range(0, len(good), 3):
            with pytest.raises(RefusedByBackend):
                front_end.load_state(good[:cut])
            daemon.wait_for_log("not loaded")
        with pytest.raises(RefusedByBackend):
            front_end.load_state(good + b"\0")
        taken = 0
        for _ in range(150):
            bent = bytearray(good)
            for _ in range(rng.choice((1, 1, 2, 8))):
                at = rng.randrange(len(bent))
                if rng.random() < 0.5:
                    bent[at] = rng.choice((0, 1, 2, 0x2F, 0x7F, 0x80, 0xFF))
                else:
                    value = rng.choice((0, 1, 2, 1 << 31, (1 << 32) - 1, (1 << 64) - 1))
                    struct.pack_into("=Q", bent, at // 8 * 8 % (len(bent) - 8), value)
            try:
                front_end.load_state(bytes(bent))
                taken += 1
                daemon.wait_for_log("loaded inodes=")
            except RefusedByBackend:
                daemon.wait_for_log("not loaded")
        assert 0 < taken < 150
        with pytest.raises(RefusedByBackend):
            front_end.load_state(b"")
        assert len(os.listdir(f"/proc/{daemon.pid}/fd")) == fds
        front_end.load_state(good)


@pytest.mark.parametrize("field", ["magic", "version"])
def test_other_formats_are_refused(mover: Mover, field: str) -> None:
    mover.source()
    fields = list(HEADER.unpack_from(state := mover.save()))
    fields[field == "version"] += 1
    assert "not loaded" in mover.refused(HEADER.pack(*fields) + state[HEADER.size :])


def test_migration_is_offered(daemon: Daemon) -> None:
    with FrontEnd.connect(daemon.socket) as front_end:
        front_end.negotiate()
        assert front_end.protocol_features & P_DEVICE_STATE
