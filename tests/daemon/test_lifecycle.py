# SPDX-License-Identifier: BSD-3-Clause
"""Start, end and complaints of the command, as a user and a management tool meet them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.running import COMMAND, DEADLINE_S, Daemon
from tests.frontend import ROOT_ID, Session
from tests.frontend.vhost import FrontEnd


def run(*arguments: str, pass_fds: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        pass_fds=pass_fds,
    )


def one_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


def test_ends_with_its_front_end_and_leaves_no_socket(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        assert daemon.socket.exists()
    assert daemon.wait() == 0
    assert list(daemon.socket.parent.iterdir()) == [daemon.share]


def test_ends_with_a_front_end_that_says_nothing(daemon: Daemon) -> None:
    FrontEnd.connect(daemon.socket).close()
    assert daemon.wait() == 0
    assert not daemon.socket.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("connected", [False, True])
def test_signals_end_it_cleanly(daemon: Daemon, number: signal.Signals, connected: bool) -> None:
    if connected:
        with Session.connect(daemon.socket) as session:
            session.fuse.init()
            daemon.process.send_signal(number)
            assert daemon.wait() == 0
    else:
        daemon.process.send_signal(number)
        assert daemon.wait() == 0
    assert not daemon.socket.exists()


def test_missing_share(tmp_path: Path) -> None:
    done = run(f"--shared-dir={tmp_path}/none", f"--socket-path={tmp_path}/s")
    assert done.returncode == 1
    assert f"{tmp_path}/none: No such file" in one_line(done.stderr)
    assert not (tmp_path / "s").exists()


def test_unreadable_directory(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0)
    command = [COMMAND, f"--shared-dir={private}", f"--socket-path={tmp_path}/s"]
    if os.geteuid() == 0:
        # Root reads everything. Another user must still reach the interpreter to be told.
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
        private.chmod(0)
        os.chown(private, 1, 1)
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert f"{private}: Permission denied" in one_line(done.stderr)


def test_busy_socket(daemon: Daemon) -> None:
    done = run(f"--shared-dir={daemon.share}", f"--socket-path={daemon.socket}")
    assert done.returncode == 1
    assert str(daemon.socket) in one_line(done.stderr)
    # And the first one is unharmed.
    with Session.connect(daemon.socket) as session:
        session.fuse.init()


def test_stale_socket_is_replaced(start: Callable[..., Daemon], tmp_path: Path) -> None:
    first = start()
    first.process.kill()
    first.wait()
    assert first.socket.exists()
    with (
        Daemon(first.socket.parent) as second,
        Session.connect(second.socket) as session,
    ):
        session.fuse.init()


def test_listening_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "handed-over"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        process = subprocess.Popen(
            [COMMAND, f"--shared-dir={tmp_path}", f"--fd={listener.fileno()}"],
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
        )
        try:
            with Session.connect(path) as session:
                session.fuse.init()
            _, log = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 0, log
    assert path.exists()  # it is not ours


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--cache=sometimes"], "--cache"),
        (["--num-request-queues=0"], "--num-request-queues"),
        (["--fsnotify=maybe"], "--fsnotify"),
        (["--no-such-option"], "--no-such-option"),
        (["--fsnotify-ring-kib=63"], "--fsnotify-ring-kib"),
    ],
)
def test_wrong_options_name_themselves(tmp_path: Path, arguments: list[str], named: str) -> None:
    done = run(f"--shared-dir={tmp_path}", f"--socket-path={tmp_path}/s", *arguments)
    assert done.returncode == 2
    assert named in one_line(done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_help_is_for_stdout() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for option in (
        "--shared-dir",
        "--socket-path",
        "--cache",
        "--fsnotify",
        "--num-request-queues",
    ):
        assert option in done.stdout


def test_service_manager_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE_S)
        manager.bind(str(tmp_path / "notify"))
        process = subprocess.Popen(
            [COMMAND, f"--shared-dir={tmp_path}", f"--socket-path={tmp_path}/s"],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(64) == b"READY=1"
        finally:
            process.terminate()
            assert process.wait(DEADLINE_S) == 0


def test_idle_daemon_uses_no_time(start: Callable[..., Daemon]) -> None:
    """With 1 000 watches and a driver that is there; the deadline is the length of the look."""
    daemon = start()
    with Session.connect(daemon.socket, memory_bytes=64 << 20) as session:
        session.fuse.init()
        for i in range(1000):
            (daemon.share / f"f{i}").touch()
            session.fuse.fsnotify(session.fuse.lookup(ROOT_ID, f"f{i}").nodeid, 0xFFF)
        assert len(daemon.fanotify_marks()) == 1000

        def ticks() -> dict[str, tuple[int, int]]:
            found = {}
            for task in Path(f"/proc/{daemon.pid}/task").iterdir():
                fields = (task / "stat").read_text().rpartition(")")[2].split()
                found[task.name] = (int(fields[11]), int(fields[12]))
            return found

        def rest(duration_s: float) -> None:
            with pytest.raises(TimeoutError):
                daemon.wait_for_log("never said", deadline_s=duration_s)

        rest(2)  # what is kept for a second goes then, which takes time
        before = ticks()
        rest(8)
        assert ticks() == before
