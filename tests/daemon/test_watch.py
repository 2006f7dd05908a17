# SPDX-License-Identifier: BSD-3-Clause
"""``virtiofsd-py watch``, and the Python API below it, against a running daemon.

"Nothing more comes" is decided by a sentinel: what a watcher is told is one line in order.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.running import (
    COMMAND,
    DEADLINE_S,
    INSTRUMENTED,
    Daemon,
    named_threads,
    wait_until,
)
from tests.daemon.watching import Watcher, short, watchers
from tests.frontend import ROOT_ID, Session

TAIL_OFFSET = 4096


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    with watchers() as start:
        yield start


@pytest.fixture
def watcher(daemon: Daemon, watch: Callable[..., Watcher]) -> Watcher:
    """Return one of the whole share, as JSON."""
    found = watch(daemon, "--json")
    found.ready()
    return found


class Following(Watcher):
    """A ``watch --follow`` whose daemon may not be there yet."""

    def __init__(self, socket_path: Path, *arguments: str) -> None:
        self._read = b""
        command = [COMMAND, "watch", "--follow", "--json", f"--socket-path={socket_path}"]
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def waits(self) -> None:
        """Return once it waits for the socket: it has an inotify watch and sleeps."""
        process = Path(f"/proc/{self.process.pid}")

        def is_waiting() -> bool:
            infos = []
            for info in (process / "fdinfo").iterdir():
                with suppress(FileNotFoundError):
                    infos.append(info.read_text())
            sleeping = (process / "stat").read_text().rpartition(") ")[2][0] == "S"
            return sleeping and any("inotify wd:" in info for info in infos)

        wait_until(is_waiting, "it waits for the socket")


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Callable[..., Following]]:
    with ExitStack() as stack:

        def run(*arguments: str) -> Following:
            watcher = Following(tmp_path / "vhost.sock", *arguments)
            stack.callback(watcher.kill)
            return watcher

        yield run


def test_a_daemon_is_waited_for_and_so_is_the_next(
    tmp_path: Path, following: Callable[..., Following]
) -> None:
    watcher = following()
    watcher.waits()
    for name in ("first", "second"):
        with Daemon(tmp_path) as daemon:
            watcher.ready()
            (daemon.share / name).mkdir()
            assert watcher.record()["path"] == name
            # Killed, it leaves its socket behind: that is no daemon.
            daemon.process.kill() if name == "first" else daemon.terminate()
            watcher.waits()
        (tmp_path / "share" / name).rmdir()
    watcher.process.send_signal(signal.SIGTERM)
    assert watcher.end() == (0, "", "")


def test_other_names_in_the_directory_are_not_the_daemon(
    tmp_path: Path, following: Callable[..., Following]
) -> None:
    watcher = following()
    watcher.waits()
    for name in ("vhost.sock", "vhost.sock.watch2", "other"):
        (tmp_path / name).touch()
        (tmp_path / name).unlink()
    (tmp_path / "vhost.sock.watch").touch()
    watcher.waits()
    (tmp_path / "vhost.sock.watch").unlink()
    with Daemon(tmp_path) as daemon:
        watcher.ready()
        (daemon.share / "d").mkdir()
        assert watcher.record()["path"] == "d"


def test_a_directory_that_is_not_there_is_not_waited_for(
    tmp_path: Path, following: Callable[..., Following]
) -> None:
    command = [COMMAND, "watch", "--follow", f"--socket-path={tmp_path}/none/fs.sock"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"virtiofsd-py: watch: {tmp_path}/none: No such file or directory\n"


def test_a_daemon_whose_directory_goes_is_waited_for_no_more(
    tmp_path: Path,
) -> None:
    place = tmp_path / "run"
    place.mkdir()
    watcher = Following(place / "fs.sock")
    try:
        watcher.waits()
        place.rmdir()
        status, out, err = watcher.end()
        assert (status, out) == (1, "")
        assert "No such file or directory" in err
    finally:
        watcher.kill()


def ready_with(watcher: Watcher, count: int) -> None:
    """Wait until each of `count` paths is watched."""
    ready = 0
    while ready < count:
        ready += watcher.record().get("status") == "ready"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("moved", ["a", "a/b", "a/b/c"])
def test_a_path_is_not_followed_out_of_the_share(
    daemon: Daemon, watch: Callable[..., Watcher], moved: str, late: bool
) -> None:
    (daemon.share / "a/b/c/d").mkdir(parents=True)
    (daemon.share / "kept").mkdir()
    target = daemon.share.parent / "secret-place"
    watcher = watch(daemon, "--json", "a/b/c", "kept")
    ready_with(watcher, 2)
    with daemon.stopped() if late else nullcontext():
        (daemon.share / moved).rename(target)
        there = target / Path("a/b/c").relative_to(moved)
        (there / "secret-file").touch()
        (there / "secret-directory").mkdir()
        (there / "secret-directory/secret-file").touch()
        (there / "d/secret-file").touch()
        (daemon.share / "kept/seen").touch()
    records = watcher.until_sentinel(daemon.share / "kept")
    assert [r for r in records if "secret" in r["path"]] == []
    gone = {"type": "watch", "status": "gone", "path": "a/b/c", "error": 0, "watch": 0}
    assert records.count(gone) == 1
    assert ("create", "kept/seen") in short(records)


def test_a_path_that_left_while_events_were_lost_is_not_followed(
    daemon: Daemon, watch: Callable[..., Watcher]
) -> None:
    limit = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
    if limit > 20000 or INSTRUMENTED:
        pytest.skip("would take too long")
    (daemon.share / "a/b").mkdir(parents=True)
    (daemon.share / "kept").mkdir()
    # Not of what is made: its ring stays empty.
    watcher = watch(daemon, "--json", "--type=event:delete", "a/b", "kept")
    ready_with(watcher, 2)
    with daemon.stopped():
        for number in range(limit + 100):
            (daemon.share / f"kept/{number}").touch()
        (daemon.share / "a").rename(daemon.share.parent / "secret-place")
    told: set[str] = set()
    while not {"loss", "gone"} <= told:
        record = watcher.record()
        told.add(record.get("status") or record["type"])
    secret = daemon.share.parent / "secret-place/b/secret-file"
    secret.touch()
    secret.unlink()
    records = watcher.until_sentinel(daemon.share / "kept")
    assert not [r for r in records if "secret" in r.get("path", "")]


@pytest.mark.parametrize("moved", ["a", "a/b", "a/b/c"])
def test_a_path_is_followed_within_the_share(
    daemon: Daemon, watch: Callable[..., Watcher], moved: str
) -> None:
    (daemon.share / "a/b/c").mkdir(parents=True)
    watcher = watch(daemon, "--json", "a/b/c")
    ready_with(watcher, 1)
    target = daemon.share / "target"
    (daemon.share / moved).rename(target)
    there = target / Path("a/b/c").relative_to(moved)
    (there / "new").mkdir()
    records = watcher.until_sentinel(there)
    assert ("create", "a/b/c/new") in short(records)
    # And when it leaves then?
    target.rename(daemon.share.parent / "target")
    told = watcher.record()
    while told["type"] == "event":
        assert told["event"] == "move_self"
        told = watcher.record()
    assert told["status"] == "gone"


def test_a_path_stays_watched_while_others_are_moved(
    daemon: Daemon, watch: Callable[..., Watcher]
) -> None:
    for name in ("a/b/c", "a/other", "other"):
        (daemon.share / name).mkdir(parents=True)
    watcher = watch(daemon, "--json", "a/b/c")
    ready_with(watcher, 1)
    (daemon.share / "other").rename(daemon.share / "a/b/other")
    (daemon.share / "a/other").rename(daemon.share.parent / "other")
    (daemon.share / "a/b/c/seen").touch()
    records = watcher.until_sentinel(daemon.share / "a/b/c")
    assert [r for r in records if r["type"] == "watch"] == []
    assert ("create", "a/b/c/seen") in short(records)


def test_what_the_host_does(daemon: Daemon, watcher: Watcher) -> None:
    (daemon.share / "f").write_bytes(b"x")
    (daemon.share / "f").rename(daemon.share / "g")
    (daemon.share / "g").chmod(0o600)
    (daemon.share / "g").unlink()
    records = watcher.until_sentinel(daemon.share)
    assert short(records) == [
        ("create", "f"),
        ("modify", "f"),
        ("moved_from", "f"),
        ("moved_to", "g"),
        ("attrib", "g"),
        ("delete", "g"),
    ]
    assert {r["origin"] for r in records} == {"host"}
    cookies = [r["cookie"] for r in records if r["event"].startswith("moved")]
    assert cookies[0] == cookies[1] != 0


def test_what_a_guest_does_is_told_as_such(daemon: Daemon, watcher: Watcher) -> None:
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        made = session.fuse.mkdir(ROOT_ID, "d").nodeid
        session.fuse.listdir(made)
        session.fuse.rename(ROOT_ID, "d", ROOT_ID, "e")
        session.fuse.rmdir(ROOT_ID, "e")
        records = watcher.until_sentinel(daemon.share)
    assert short(records) == [
        ("create", "d"),
        ("moved_from", "d"),
        ("moved_to", "e"),
        ("delete", "e"),
    ]
    assert {(r["origin"], r["dir"]) for r in records} == {("guest", True)}


def test_directories_that_come_and_go(
    daemon: Daemon, watch: Callable[..., Watcher], tmp_path: Path
) -> None:
    (daemon.share / "old/deep").mkdir(parents=True)
    outside = tmp_path / "outside"
    (outside / "brought").mkdir(parents=True)
    watcher = watch(daemon, "--json")
    watcher.ready()
    (daemon.share / "old/deep/f").touch()
    # What is in a new directory before it is watched is found.
    (daemon.share / "new/deep").mkdir(parents=True)
    (daemon.share / "new/deep/f").touch()
    want = {("create", p) for p in ("old/deep/f", "new", "new/deep", "new/deep/f")}
    while want:
        want -= set(short([watcher.record()]))
    watcher.until_sentinel(daemon.share)
    # A directory that moves takes what is in it along.
    (daemon.share / "old").rename(daemon.share / "new/moved")
    (daemon.share / "new/moved/deep/g").touch()
    told = short(watcher.until_sentinel(daemon.share))
    assert ("create", "new/moved/deep/g") in told
    # One that leaves the share is none of our business any more, one that comes is.
    (daemon.share / "new/moved").rename(outside / "moved")
    (outside / "moved/deep/secret").touch()
    (outside / "brought").rename(daemon.share / "brought")
    assert not any("secret" in path for _, path in short(watcher.until_sentinel(daemon.share)))
    (outside / "moved/deep/secret2").touch()
    (daemon.share / "brought/f").touch()
    told = short(watcher.until_sentinel(daemon.share))
    assert ("create", "brought/f") in told
    assert not any("secret" in path for _, path in told)


def test_other_paths_are_not_told(daemon: Daemon, watch: Callable[..., Watcher]) -> None:
    for name in ("a", "b"):
        (daemon.share / name / "deep").mkdir(parents=True)
    (daemon.share / "b/file").touch()
    (daemon.share / "b/other").touch()
    watcher = watch(daemon, "--json", "a", "/b/file")
    ready = [watcher.record(), watcher.record()]
    assert sorted((r["status"], r["path"], r["watch"]) for r in ready) == [
        ("ready", "a", 0),
        ("ready", "b/file", 1),
    ]
    for path in ("a/deep/f", "b/deep/f", "b/f", "f"):
        (daemon.share / path).touch()
    (daemon.share / "b/file").write_bytes(b"x")
    (daemon.share / "b/other").write_bytes(b"x")
    records = watcher.until_sentinel(daemon.share / "a")
    # Truncated and written to: one modification, or two.
    assert {(r["event"], r["path"], r["watch"]) for r in records} == {
        ("create", "a/deep/f", 0),
        ("modify", "b/file", 1),
    }
    # What is watched goes by the name that was asked for; and ends.
    (daemon.share / "b/file").rename(daemon.share / "b/renamed")
    (daemon.share / "b/renamed").unlink()
    told = [watcher.record() for _ in range(4)]
    assert [r.get("event") or r.get("status") for r in told] == [
        "move_self",
        "attrib",
        "delete_self",
        "gone",
    ]
    assert {r["path"] for r in told} == {"b/file"}


def test_type_filter(daemon: Daemon, watch: Callable[..., Watcher]) -> None:
    (daemon.share / "f").touch()
    wide, narrow = (
        watch(daemon, "--json", f"--type={kinds}")
        for kinds in ("event:create,event:delete,event:open", "event:create,event:delete")
    )
    wide.ready()
    narrow.ready()
    (daemon.share / "f").read_bytes()
    (daemon.share / "f").write_bytes(b"modified")
    assert set(short(wide.until_sentinel(daemon.share))) == {("open", "f")}
    assert short(narrow.until_sentinel(daemon.share)) == []


def test_filters_of_the_python_interface(daemon: Daemon, watcher: Watcher) -> None:
    """A mask for each watch, and subtypes for all of them."""
    from virtiofsd_py.fsnotify import Event, EventKind, RecordType, Request, Subscription, Watch

    (daemon.share / "a").mkdir()
    (daemon.share / "b/deep").mkdir(parents=True)
    create, delete, attrib = (
        1 << kind for kind in (EventKind.CREATE, EventKind.DELETE, EventKind.ATTRIB)
    )
    request = Request(
        watches=(Watch("a", create | attrib), Watch("b", delete | attrib, recursive=False)),
        subtypes={RecordType.FSNOTIFY: create | delete},
    )
    with Subscription(f"{daemon.socket}.watch", request) as events:
        for name in ("a/f", "b/f", "b/deep/f", "f"):
            (daemon.share / name).touch()
            (daemon.share / name).chmod(0o600)
            (daemon.share / name).unlink()
        watcher.until_sentinel(daemon.share)
        told = []
        for record in events:
            if isinstance(record, Event):
                told.append((record.kind, record.path, record.watch))
            if told and told[-1][1] == "b/f":
                break
        assert told == [(EventKind.CREATE, "a/f", 0), (EventKind.DELETE, "b/f", 1)]


def test_who_reads_a_directory(daemon: Daemon, watch: Callable[..., Watcher]) -> None:
    """The host's reading is told; a guest's cannot be told from the daemon's own looking."""
    (daemon.share / "d").mkdir()
    watcher = watch(daemon, "--json", "--type=event:open,event:create,event:delete")
    watcher.ready()
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        session.fuse.listdir(session.fuse.lookup(ROOT_ID, "d").nodeid)
        (daemon.share / "new").mkdir()  # which the daemon looks through
        os.listdir(daemon.share / "d")
        records = watcher.until_sentinel(daemon.share)
    assert [(r["event"], r["path"], r["origin"]) for r in records] == [
        ("create", "new", "host"),
        ("open", "d", "host"),
    ]


def test_text(daemon: Daemon, watch: Callable[..., Watcher]) -> None:
    watcher = watch(daemon)
    assert watcher.line().split() == ["ready", "."]
    (daemon.share / "d").mkdir()
    (daemon.share / "new\nline\x1b").touch()
    assert watcher.line().split() == ["create", "host", "d/"]
    assert watcher.line().split() == ["create", "host", r"new\nline\x1b"]


def test_host_is_watched_only_where_somebody_asks(
    daemon: Daemon, watch: Callable[..., Watcher]
) -> None:
    for name in ("a", "b"):
        (daemon.share / name).mkdir()
    first = watch(daemon, "--json", "a", "--type=event:create,event:delete")
    second = watch(daemon, "--json", "--type=event:delete,event:attrib")
    first.record()
    second.ready()
    assert len(daemon.fanotify_marks()) == 3

    def masks() -> list[int]:
        return sorted(int(m.partition(" mask:")[2].split()[0], 16) for m in daemon.fanotify_marks())

    both = masks()
    second.process.send_signal(signal.SIGINT)
    assert second.end()[0] == 0
    daemon.wait_for_log("event=consumer_gone")
    (one,) = masks()
    assert one in both
    (daemon.share / "a/f").touch()
    assert short([first.record()]) == [("create", "a/f")]
    first.process.send_signal(signal.SIGINT)
    assert first.end()[0] == 0
    daemon.wait_for_log("event=consumer_gone")
    assert daemon.fanotify_marks() == []
    assert "vfsd-watch" not in named_threads(daemon.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(watcher: Watcher, number: signal.Signals) -> None:
    watcher.process.send_signal(number)
    assert watcher.end() == (0, "", "")


def test_daemon_ends(daemon: Daemon, watcher: Watcher) -> None:
    (daemon.share / "last").touch()
    assert short([watcher.record()]) == [("create", "last")]
    assert daemon.terminate() == 0
    assert watcher.end() == (0, "", "")
    assert not Path(f"{daemon.socket}.watch").exists()


def test_daemon_is_killed(daemon: Daemon, watcher: Watcher) -> None:
    daemon.process.kill()
    assert watcher.end() == (0, "", "")


def test_reader_has_seen_enough(daemon: Daemon, watcher: Watcher) -> None:
    assert watcher.process.stdout is not None
    watcher.process.stdout.close()
    (daemon.share / "f").touch()
    assert watcher.process.wait(DEADLINE_S) == 0
    assert watcher.process.stderr is not None
    assert watcher.process.stderr.read() == b""


# A build with an instrumented core has nothing to add to these.
COMMAND_LINE = pytest.mark.skipif(INSTRUMENTED, reason="nothing of the core")


@COMMAND_LINE
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--type=nothing"], "event"),
        (["--type=event:nothing"], "event:create"),
        (["--no-such-option"], "--no-such-option"),
        (["--socket-path="], "path"),
        (["--socket-path"], "--socket-path"),
        ([], "--socket-path"),
        (["--json=yes", "--socket-path=s"], "--json"),
    ],
)
def test_wrong_options(arguments: list[str], named: str) -> None:
    if arguments and arguments[0].startswith("--type"):
        arguments = ["--socket-path=s", *arguments]
    done = run(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert named in line
    assert done.stdout == ""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "watch", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@COMMAND_LINE
def test_help() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--socket-path", "--json", "--type", "event", "moved_from"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("path", "cause"),
    [("none", "No such file"), ("../x", "leads upwards"), ("link/d", "symbolic links")],
)
def test_what_cannot_be_watched(daemon: Daemon, path: str, cause: str) -> None:
    (daemon.share / "link").symlink_to("/etc")
    done = run(f"--socket-path={daemon.socket}", path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert cause in line


@COMMAND_LINE
def test_no_daemon(tmp_path: Path) -> None:
    done = run(f"--socket-path={tmp_path}/none")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No such file" in line


def test_socket_of_its_own(start: Callable[..., Daemon], watch: Callable[..., Watcher]) -> None:
    daemon = start("--watch-socket=none")
    assert not Path(f"{daemon.socket}.watch").exists()
    path = daemon.socket.parent / "elsewhere"
    daemon = start(f"--watch-socket={path}")
    assert path.stat().st_mode & 0o777 == 0o600
    watcher = watch(daemon, "--json", f"--watch-socket={path}")
    watcher.ready()
    daemon.terminate()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("uid", "answer"), [(0, "ring_bytes"), (12345, "not permitted")])
def test_other_users_are_refused(daemon: Daemon, uid: int, answer: str) -> None:
    # Let them come as far as the socket, and beyond its mode.
    sock = Path(f"{daemon.socket}.watch")
    sock.chmod(0o777)
    sock.parent.chmod(0o755)
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "os.setresuid(*[int(sys.argv[2])] * 3)\n"
        "s.connect(sys.argv[1])\n"
        "try: s.send(sys.argv[3].encode())\n"
        "except BrokenPipeError: pass\n"
        "answer = b'!'\n"
        "while answer == b'!': answer = s.recv(4096)\n"
        "print(answer.decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, sock.name, str(uid), json.dumps(REQUEST)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=sock.parent,
    )
    assert answer in done.stdout, done.stderr


REQUEST = {
    "version": 1,
    "ring_bytes": 1 << 16,
    "subtypes": {"fsnotify": (1 << 64) - 1},
    "watches": [{"path": "", "mask": 0xFFF, "recursive": True}],
}


def connect(daemon: Daemon) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(DEADLINE_S)
    sock.connect(f"{daemon.socket}.watch")
    return sock


def subscribe(daemon: Daemon) -> tuple[socket.socket, dict[str, Any], list[int]]:
    """Ask by hand; return connection, answer and descriptors."""
    sock = connect(daemon)
    sock.send(json.dumps(REQUEST).encode())
    raw = b"!"
    fds: list[int] = []
    while raw == b"!":
        raw, fds, _, _ = socket.recv_fds(sock, 4096, 4)
    return sock, dict(json.loads(raw)), list(fds)


def changed(**said: object) -> bytes:
    return json.dumps(REQUEST | said).encode()


def test_what_is_no_request(daemon: Daemon, watcher: Watcher) -> None:
    one = {"path": "", "mask": 1, "recursive": True}
    for raw in (
        b"x",
        b"\xff\xfe\x00",
        b"[" * 60000,
        b"[]",
        b"{}",
        changed(version=2),
        changed(ring_bytes=65537),
        changed(ring_bytes=1 << 27),
        changed(ring_bytes=True),
        changed(subtypes={"skip": 1}),
        changed(subtypes={"fsnotify": 1 << 64}),
        changed(watches=[{}]),
        changed(watches=[one] * 65),
        changed(watches=[one | {"mask": 0x1000}]),
        changed(watches=[one | {"path": "a\0"}]),
        changed(watches=[one | {"path": "\ud800"}]),
        changed(watches=[one | {"path": "a/../.."}]),
    ):
        with connect(daemon) as sock:
            sock.send(raw)
            assert "error" in json.loads(sock.recv(4096)), raw
            assert sock.recv(4096) == b""
    # And nobody else notices.
    assert short(watcher.until_sentinel(daemon.share)) == []


def test_slow_consumer_is_told_its_loss_and_holds_up_nobody(
    daemon: Daemon, watcher: Watcher
) -> None:
    from virtiofsd_py.fsnotify import Event, Loss, Request, Subscription

    request = Request(ring_bytes=1 << 16)
    with Subscription(f"{daemon.socket}.watch", request) as slow:
        files = 2000
        for i in range(files):
            (daemon.share / f"f{i:06}").touch()
        told = short(watcher.until_sentinel(daemon.share))
        assert [p for e, p in told if e == "create"] == [f"f{i:06}" for i in range(files)]
        # Beside what fits it has a number for the rest, and its place is the end.
        records = []
        while (record := slow.next_now()) is not None:
            records.append(record)
        created = [r.path for r in records if isinstance(r, Event) and r.path.startswith("f")]
        assert 0 < len(created) < files
        assert created == [f"f{i:06}" for i in range(len(created))]
        (loss,) = [r for r in records if isinstance(r, Loss)]
        assert records[-1] is loss
        # And from then on all is told again.
        (daemon.share / "after").touch()
        iterator = iter(slow)
        after = next(iterator)
        assert isinstance(after, Event)
        assert after.path == "after"


def test_hosts_queue_overflows(start: Callable[..., Daemon], watch: Callable[..., Watcher]) -> None:
    """What came meanwhile is found, and is watched from then on."""
    limit = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
    if limit > 20000 or INSTRUMENTED:
        pytest.skip("would take too long")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as share:  # where files come and go fast
        daemon = start(share=Path(share))
        watcher = watch(daemon, "--json")
        watcher.ready()
        # Its ring stays empty, so that what it loses is the host's loss.
        quiet = watch(daemon, "--json", "--type=event:move_self")
        quiet.ready()
        overflow(daemon, watcher, limit)
        assert quiet.record() == {"type": "loss", "count": 1}


def overflow(daemon: Daemon, watcher: Watcher, limit: int) -> None:
    (daemon.share / "many").mkdir()
    assert short([watcher.record()]) == [("create", "many")]
    with daemon.stopped():
        for i in range(limit + 100):
            (daemon.share / f"many/{i}").mkdir()
            (daemon.share / f"many/{i}").rmdir()
        (daemon.share / "new").mkdir()
    kinds = set()
    while "loss" not in kinds:
        kinds.add(watcher.record()["type"])
    (daemon.share / "many/last").touch()
    while watcher.record().get("path") != "many/last":
        pass
    # In a directory whose CREATE nobody was told of; until it is looked through, nothing comes.
    end = time.monotonic() + DEADLINE_S
    seen = False
    while not seen and time.monotonic() < end:
        (daemon.share / "new/f").touch()
        (daemon.share / "new/f").unlink()
        records = watcher.until_sentinel(daemon.share)
        seen = any(r.get("path") == "new/f" for r in records)
    assert seen


def test_consumer_that_scribbles_is_let_go(daemon: Daemon, watcher: Watcher) -> None:
    import mmap

    sock, answer, (ring,) = subscribe(daemon)
    with sock, mmap.mmap(ring, 0) as memory:
        assert answer == {"ring_bytes": 1 << 16}
        with pytest.raises(PermissionError):
            os.ftruncate(ring, 4096)
        assert len(memory) == 8192 + (1 << 16)
        # Everything that is the daemon's to write: it does not read that.
        memory[:4096] = b"\xff" * 4096
        memory[8192:] = b"\xff" * (1 << 16)
        (daemon.share / "a").touch()
        assert short(watcher.until_sentinel(daemon.share)) == [("create", "a")]
        # And the cursor, by which it goes.
        memory[TAIL_OFFSET : TAIL_OFFSET + 8] = struct.pack("=Q", 1 << 40)
        (daemon.share / "b").touch()
        assert short(watcher.until_sentinel(daemon.share)) == [("create", "b")]
        daemon.wait_for_log("event=consumer_gone")
        while sock.recv(16):
            pass
    os.close(ring)


def test_consumer_that_takes_no_wakeup_blocks_nobody(daemon: Daemon, watcher: Watcher) -> None:
    """It empties its ring and never its socket."""
    from virtiofsd_py.fsnotify.ring import ShmReader

    sock, _, (ring,) = subscribe(daemon)
    reader = ShmReader(ring)
    os.close(ring)
    with sock:
        for i in range(1000):
            (daemon.share / f"f{i}").touch()
            while reader.next() is not None:
                pass
        told = short(watcher.until_sentinel(daemon.share))
        assert len([e for e, _ in told if e == "create"]) == 1000
    reader.close()


def test_too_many_consumers(daemon: Daemon) -> None:
    with ExitStack() as stack:
        answers = []
        for _ in range(17):
            sock, answer, fds = subscribe(daemon)
            stack.enter_context(sock)
            for fd in fds:
                os.close(fd)
            answers.append("error" in answer)
        assert answers == [False] * 16 + [True]
        # There is room again when one has gone.
    for _ in range(16):
        daemon.wait_for_log("event=consumer_gone")
    sock, answer, fds = subscribe(daemon)
    sock.close()
    assert "ring_bytes" in answer
    os.close(fds[0])


@pytest.mark.parametrize(
    ("sandbox", "mode"), [("namespace", "off"), ("chroot", "merged"), ("none", "server")]
)
def test_in_every_sandbox_and_mode(
    start: Callable[..., Daemon], watch: Callable[..., Watcher], sandbox: str, mode: str
) -> None:
    if sandbox == "chroot" and os.geteuid() != 0:
        pytest.skip("only root can chroot")
    daemon = start(f"--sandbox={sandbox}", f"--fsnotify={mode}")
    (daemon.share / "d").mkdir()
    watcher = watch(daemon, "--json", "d", "--type=event:create,event:delete")
    watcher.record()
    (daemon.share / "d/f").touch()
    (daemon.share / "f").touch()
    assert short(watcher.until_sentinel(daemon.share / "d")) == [("create", "d/f")]
