# SPDX-License-Identifier: BSD-3-Clause
"""What is mounted below the share: told to consumers, and names that lead elsewhere then.

The host is a mount namespace that ends with its process, and all mounts with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon.events import CREATE, DELETE, MOVED_FROM, MOVED_TO
from tests.daemon.running import DEADLINE_S, Daemon
from tests.daemon.watching import Watcher, short, watchers
from tests.frontend import ROOT_ID, Session
from tests.frontend.notify import FS_ISDIR

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


class Host:
    """A mount namespace with a share that is a shared mount of its own."""

    def __init__(self, share: Path) -> None:
        self.share = share
        script = 'mount --bind "$0" "$0" && mount --make-shared "$0" && echo up && exec cat'
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, share],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"
        self.enter = ("nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt")

    def run(self, *command: str) -> None:
        """Run a command there, in the share."""
        subprocess.run(
            [*self.enter, "sh", "-c", 'cd "$0" && exec "$@"', self.share, *command],
            check=True,
            timeout=DEADLINE_S,
            capture_output=True,
        )

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Make one."""
    share = tmp_path / "share"
    (share / "a/deep").mkdir(parents=True)
    (share / "b").mkdir()
    found = Host(share)
    yield found
    found.close()


@pytest.fixture
def begin(host: Host, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start a daemon there."""
    with ExitStack() as stack:

        def run(*arguments: str) -> Daemon:
            return stack.enter_context(
                Daemon(tmp_path, *arguments, share=host.share, launcher=host.enter)
            )

        yield run


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    """Start watchers that are ready; each ends with the test."""
    with watchers("--json") as start:

        def run(daemon: Daemon, *arguments: str) -> Watcher:
            watcher = start(daemon, *arguments)
            watcher.ready()
            return watcher

        yield run


def next_mount(watcher: Watcher) -> tuple[str, str, str]:
    """Return the next record that is no event."""
    while (record := watcher.record())["type"] == "event":
        pass
    return record["type"], record["change"], record["path"]


@pytest.mark.parametrize("sandbox", ["namespace", "chroot", "none"])
def test_mounts_are_told(
    host: Host, begin: Callable[..., Daemon], watch: Callable[..., Watcher], sandbox: str
) -> None:
    daemon = begin(f"--sandbox={sandbox}")
    watcher = watch(daemon)
    # This one wants none of it, which makes no difference to the others.
    twin = watch(daemon, "--type=event:create,event:delete")
    host.run("mount", "-t", "tmpfs", "none", "a/deep")
    assert next_mount(watcher) == ("mount", "mounted", "a/deep")
    host.run("mount", "-o", "remount,ro", "a/deep")
    if sandbox != "namespace":
        # Each mount has its own; the daemon's copy stays as it is.
        assert next_mount(watcher) == ("mount", "readonly", "a/deep")
    assert next_mount(watcher) == ("superblock", "readonly", "a/deep")
    host.run("mount", "-o", "remount,rw", "a/deep")
    if sandbox != "namespace":
        assert next_mount(watcher) == ("mount", "readwrite", "a/deep")
    assert next_mount(watcher) == ("superblock", "readwrite", "a/deep")
    host.run("mount", "--bind", "b", "a")
    assert next_mount(watcher) == ("mount", "bound", "a")
    host.run("umount", "-l", "a")
    assert next_mount(watcher) == ("mount", "unmounted", "a")
    host.run("umount", "-l", "a/deep")
    assert next_mount(watcher) == ("mount", "unmounted", "a/deep")
    host.run("mkdir", "sentinel")
    host.run("rmdir", "sentinel")
    assert [twin.record()["event"], twin.record()["event"]] == ["create", "delete"]


def test_only_below_the_path(
    host: Host, begin: Callable[..., Daemon], watch: Callable[..., Watcher]
) -> None:
    daemon = begin()
    watcher = Watcher(daemon, "--json", "--type=mount", "b")
    try:
        watcher.record()
        host.run("mount", "-t", "tmpfs", "none", "a/deep")
        host.run("mount", "-t", "tmpfs", "none", "b")
        assert next_mount(watcher) == ("mount", "mounted", "b")
    finally:
        watcher.kill()


def test_what_is_mounted_is_watched(
    host: Host, begin: Callable[..., Daemon], watch: Callable[..., Watcher]
) -> None:
    watcher = watch(begin())
    host.run("mount", "-t", "tmpfs", "none", "a")
    assert next_mount(watcher) == ("mount", "mounted", "a")
    is_watched(host, watcher, "a/new")
    host.run("umount", "-l", "a")
    assert next_mount(watcher) == ("mount", "unmounted", "a")
    is_watched(host, watcher, "a/under")


def is_watched(host: Host, watcher: Watcher, path: str) -> None:
    """Have something come and go until it is told: that a directory is watched by now is not."""
    end = time.monotonic() + DEADLINE_S
    told: list[tuple[str, str]] = []
    while ("create", path) not in told:
        assert time.monotonic() < end, told
        for each in (path, "b/sentinel"):
            host.run("mkdir", each)
            host.run("rmdir", each)
        told.clear()
        while ("delete", "b/sentinel") not in told:
            told += short([watcher.record()])


def test_a_directory_at_two_places_is_watched_once(
    host: Host, begin: Callable[..., Daemon], watch: Callable[..., Watcher]
) -> None:
    """And stays so when one of the places goes."""
    daemon = begin()
    watcher = watch(daemon)
    host.run("mount", "--bind", "b", "a")
    assert next_mount(watcher) == ("mount", "bound", "a")
    host.run("mkdir", "a/new")
    assert short([watcher.record()]) == [("create", "b/new")]
    host.run("umount", "-l", "a")
    assert next_mount(watcher) == ("mount", "unmounted", "a")
    host.run("rmdir", "b/new")
    assert short([watcher.record()]) == [("delete", "b/new")]


Told = tuple[int, int, bytes]  # node, event, name


def expired(session: Session, host: Host) -> list[Told]:
    """Return what the guest was told of names, until a sentinel."""
    assert session.notifications is not None
    host.run("mkdir", "sentinel")
    host.run("rmdir", "sentinel")
    records = session.notifications.read_until(
        lambda r: r.name == b"sentinel" and bool(r.mask & DELETE)
    )
    return [(r.nodeid, r.mask & ~FS_ISDIR, r.name) for r in records if r.name != b"sentinel"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [(CREATE | DELETE, MOVED_FROM), (CREATE | DELETE | MOVED_FROM | MOVED_TO, CREATE)],
)
def test_guests_look_again(
    host: Host, begin: Callable[..., Daemon], wanted: int, told: int
) -> None:
    """By an event that no watcher there asked for, if there is one."""
    daemon = begin()
    with Session.connect(daemon.socket) as session:
        fuse = session.fuse
        fuse.init()
        covered = fuse.lookup(ROOT_ID, "a").nodeid
        fuse.lookup(ROOT_ID, "b")
        fuse.fsnotify(ROOT_ID, wanted)
        assert expired(session, host) == []
        host.run("mount", "-t", "tmpfs", "none", "a")
        wait_for(lambda: expired(session, host), [(ROOT_ID, told, b"a")])
        mounted = fuse.lookup(ROOT_ID, "a").nodeid
        assert mounted != covered
        # In a filesystem below as well; and nobody watches there.
        host.run("mkdir", "a/deep")
        host.run("mount", "--bind", "b", "a/deep")
        wait_for(lambda: expired(session, host), [(mounted, CREATE, b"deep")])
        host.run("umount", "-l", "a")
        # What is called that below is in another directory now.
        both = [(ROOT_ID, told, b"a"), (covered, CREATE, b"deep")]
        wait_for(lambda: expired(session, host), both)
        assert fuse.lookup(ROOT_ID, "a").nodeid == covered


def wait_for(ask: Callable[[], list[Told]], answer: list[Told]) -> None:
    """Mounts and files are told by two sources, so a sentinel of one says nothing of the other."""
    end = time.monotonic() + DEADLINE_S
    while not (got := ask()):
        assert time.monotonic() < end, "nothing comes"
    assert got == answer


def test_nobody_looks_when_submounts_are_not_announced(
    host: Host, begin: Callable[..., Daemon], watch: Callable[..., Watcher]
) -> None:
    daemon = begin("--no-announce-submounts")
    with Session.connect(daemon.socket) as session:
        fuse = session.fuse
        fuse.init()
        fuse.lookup(ROOT_ID, "a")
        fuse.fsnotify(ROOT_ID, CREATE | DELETE)
        host.run("mount", "-t", "tmpfs", "none", "a")
        assert expired(session, host) == []
        # A consumer that came now does not make up for it.
        watcher = watch(daemon, "--type=mount")
        host.run("mount", "-t", "tmpfs", "none", "b")
        assert next_mount(watcher) == ("mount", "mounted", "b")


def source(daemon: Daemon) -> str:
    """Return by what it hears of mounts, as it has said."""
    (line,) = (line for line in daemon.log if "event=mounts" in line)
    return line.partition(" by=")[2].split()[0]


# So many mounts, a hundred beside each other.
CROWD = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for i in range(int(sys.argv[2])):
    path = os.fsencode(f"{sys.argv[1]}/{i % 100}")
    if i < 100:
        os.mkdir(path)
    if libc.mount(path, path, None, ctypes.c_ulong(0x1000), None):  # MS_BIND
        sys.exit("mount")
"""

# Who has not the right to ask for events of mounts.
WITHOUT = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")


@pytest.fixture(params=["namespace", "chroot", "none mountinfo"])
def listening(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path, has_mount_events: bool
) -> Iterator[Daemon]:
    """A daemon that hears by events of mounts, and one that has not the right to."""
    sandbox, _, by = str(request.param).partition(" ")
    launcher = (*host.enter, *WITHOUT) if by else host.enter
    with Daemon(tmp_path, f"--sandbox={sandbox}", share=host.share, launcher=launcher) as daemon:
        assert source(daemon) == ("fanotify" if has_mount_events and not by else "mountinfo")
        yield daemon


@pytest.fixture(scope="module")
def has_mount_events() -> bool:
    """Whether the kernel has such events: Linux 6.15."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 15)


def test_many_mounts_at_once(listening: Daemon, host: Host, watch: Callable[..., Watcher]) -> None:
    """Each is told, and nothing of those elsewhere, nor of one that came and went unseen."""
    elsewhere = host.share.parent / "elsewhere"
    elsewhere.mkdir()
    watcher = watch(listening, "--type=mount")
    script = "for i in $(seq 40); do mkdir -p $i; mount -t tmpfs none $i; done"
    with listening.stopped():
        host.run("sh", "-c", f"{script}; cd {elsewhere}; {script}")
        host.run("sh", "-c", "mount -t tmpfs none a; umount a; mount -t tmpfs none b")
    told = [next_mount(watcher) for _ in range(41)]
    assert told == [("mount", "mounted", path) for path in [*map(str, range(1, 41)), "b"]]
    with listening.stopped():
        host.run("sh", "-c", f"umount -l {elsewhere}/* b; mount -t tmpfs none b; umount -l [0-9]*")
    told = [next_mount(watcher) for _ in range(42)]
    assert sorted(told) == sorted(
        [("mount", "unmounted", path) for path in [*map(str, range(1, 41)), "b"]]
        + [("mount", "mounted", "b")]
    )


def test_guests_look_again_by_either_source(listening: Daemon, host: Host) -> None:
    with Session.connect(listening.socket) as session:
        fuse = session.fuse
        fuse.init()
        fuse.lookup(ROOT_ID, "a")
        fuse.fsnotify(ROOT_ID, CREATE | DELETE)
        host.run("mount", "-t", "tmpfs", "none", "a")
        wait_for(lambda: expired(session, host), [(ROOT_ID, MOVED_FROM, b"a")])
        fuse.lookup(ROOT_ID, "a")
        host.run("umount", "-l", "a")
        wait_for(lambda: expired(session, host), [(ROOT_ID, MOVED_FROM, b"a")])


def test_the_table_is_not_read_for_mounts_elsewhere(
    host: Host, begin: Callable[..., Daemon], has_mount_events: bool
) -> None:
    if not has_mount_events:
        pytest.skip("the kernel has no events of mounts")
    elsewhere = host.share.parent / "elsewhere"
    elsewhere.mkdir()
    daemon = begin("--sandbox=none")
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        session.fuse.lookup(ROOT_ID, "a")
        session.fuse.fsnotify(ROOT_ID, CREATE | DELETE)
        table_bytes = len(Path(f"/proc/{daemon.pid}/mountinfo").read_bytes())
        before = bytes_read(daemon)
        for _ in range(20):
            host.run("mount", "-t", "tmpfs", "none", os.fspath(elsewhere))
            assert expired(session, host) == []
            host.run("umount", os.fspath(elsewhere))
        host.run("mount", "-t", "tmpfs", "none", "a")
        wait_for(lambda: expired(session, host), [(ROOT_ID, MOVED_FROM, b"a")])
        # For the last one; and for a few that had gone before the daemon could see where they were.
        assert table_bytes <= bytes_read(daemon) - before < 8 * table_bytes


def test_the_hosts_queue_of_mounts_overflows(host: Host, begin: Callable[..., Daemon]) -> None:
    """Then the table says what nothing else did."""
    limit = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
    if limit > 20000:
        pytest.skip("would take too long")
    elsewhere = host.share.parent / "elsewhere"
    elsewhere.mkdir()
    daemon = begin("--sandbox=none")
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        session.fuse.lookup(ROOT_ID, "a")
        session.fuse.fsnotify(ROOT_ID, CREATE | DELETE)
        with daemon.stopped():
            host.run(sys.executable, "-c", CROWD, os.fspath(elsewhere), str(limit + 100))
            host.run("mount", "-t", "tmpfs", "none", "a")
        wait_for(lambda: expired(session, host), [(ROOT_ID, MOVED_FROM, b"a")])


def bytes_read(daemon: Daemon) -> int:
    """Return how many bytes it has ever read: proc_pid_io(5)."""
    line = Path(f"/proc/{daemon.pid}/io").read_text().splitlines()[0]
    return int(line.removeprefix("rchar: "))
