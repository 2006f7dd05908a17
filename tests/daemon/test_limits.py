# SPDX-License-Identifier: BSD-3-Clause
"""What one guest may use up of the host: a part.

Watches are those of a user namespace with few of them, so that the host's own stay as they are.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.running import INSTRUMENTED, Daemon
from tests.daemon.watching import Watcher
from tests.frontend import ROOT_ID, FuseError, InitFlag, Session
from virtiofsd_py.limits import files_of_daemon

HOST = 400
PART = HOST // 4
GROUPS = 3
MODIFY = 0x2
FEW_WATCHES = (
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    "cd /proc/sys/user"
    f" && for file in max_fanotify_marks max_inotify_watches; do echo {HOST} >$file; done"
    f" && for file in max_fanotify_groups max_inotify_instances; do echo {GROUPS} >$file; done"
    ' && cd / && exec "$@"',
    "sh",
)

Few = Callable[..., Daemon]


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Few]:
    """Start a daemon that has few watches; it ends with the test."""
    daemons: list[Daemon] = []

    def start(*arguments: str) -> Daemon:
        daemons.append(
            Daemon(
                tmp_path,
                "--sandbox=none",
                "--inode-file-handles=never",
                *arguments,
                launcher=FEW_WATCHES,
            )
        )
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.kill()


def limit_line(daemon: Daemon) -> str:
    (line,) = [line for line in daemon.log if "event=watch_limit" in line]
    return line.partition("event=watch_limit ")[2]


def count_watches(daemon: Daemon) -> int:
    """Watch files in a guest until that is refused."""
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        nodes = [guest.fuse.mknod(ROOT_ID, f"{n}", 0o100644).nodeid for n in range(HOST + 1)]
        for count, node in enumerate(nodes):
            try:
                guest.fuse.fsnotify(node, MODIFY)
            except FuseError as error:
                if error.errno != errno.ENOSPC:
                    raise
                # What is watched may change, and one that goes makes room for another.
                guest.fuse.fsnotify(nodes[0], MODIFY | 1)
                guest.fuse.fsnotify(nodes[0], 0)
                guest.fuse.fsnotify(node, MODIFY)
                return count
    return len(nodes)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "fs.fanotify.max_user_marks"),
        (["--fsnotify=server"], "fs.inotify.max_user_watches"),
    ],
)
def test_a_guest_gets_a_part_of_the_watches(few: Few, arguments: list[str], name: str) -> None:
    daemon = few(*arguments)
    assert limit_line(daemon) == f"guest={PART} consumers={PART} host={HOST} of={name}"
    assert count_watches(daemon) == PART


@pytest.mark.parametrize("number", [PART - 10, PART + 10])
def test_a_guest_gets_what_it_is_said_to_get(few: Few, number: int) -> None:
    daemon = few(f"--fsnotify-max-watches={number}")
    assert limit_line(daemon).startswith(f"guest={number} ")
    assert count_watches(daemon) == number


def test_a_number_beyond_the_host_s_limit_makes_that_the_limit(few: Few) -> None:
    assert PART < count_watches(few(f"--fsnotify-max-watches={10 * HOST}")) <= HOST


def test_consumers_get_a_part_of_the_watches(few: Few) -> None:
    daemon = few()
    for number in range(PART + 10):
        (daemon.share / f"d{number}").mkdir()
    watcher = Watcher(daemon, "--json")
    try:
        while (record := watcher.record())["status"] != "incomplete":
            assert record["status"] != "ready", "all of them are watched"
        assert record["error"] == errno.ENOSPC
    finally:
        watcher.kill()
    # The guest's are not among them.
    assert count_watches(daemon) == PART


@pytest.mark.parametrize("mode", ["merged", "server"])
def test_sessions_leave_groups_to_others(few: Few, mode: str) -> None:
    """Each has one, and no two are there at once."""
    with Session.connect(few(f"--fsnotify={mode}").socket) as guest:
        for _ in range(10 * GROUPS):
            assert guest.fuse.init().flags & InitFlag.HAS_FSNOTIFY
            guest.fuse.fsnotify(ROOT_ID, MODIFY)
            guest.fuse.destroy()


def test_a_daemon_leaves_descriptors_to_others(daemon: Daemon) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft, _ = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    assert soft in (files_of_daemon(), hard)


@pytest.mark.skipif(INSTRUMENTED, reason="it uses memory of its own")
def test_open_directories_keep_little(daemon: Daemon) -> None:
    """Each may have read more than its guest has taken, which together is bounded."""
    directory = daemon.share / "d"
    directory.mkdir()
    for number in range(3000):
        (directory / f"{number:064}").touch()
    handles = 1000
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        node = guest.fuse.lookup(ROOT_ID, "d").nodeid
        opened = [guest.fuse.opendir(node).fh for _ in range(handles)]
        before = daemon.resident_kib()
        first = [guest.fuse.readdir(node, fh, 0, 1024) for fh in opened]
        assert daemon.resident_kib() - before < 16 << 10
        # All of them go on, those whose rest was dropped as well.
        expected = {f"{number:064}".encode() for number in range(3000)}
        for fh, entries in ((opened[0], first[0]), (opened[-1], first[-1])):
            listed = list(entries)
            while more := guest.fuse.readdir(node, fh, listed[-1].offset, 1024):
                listed += more
            names = [entry.name for entry in listed if entry.name not in (b".", b"..")]
            assert len(names) == len(expected)
            assert set(names) == expected
