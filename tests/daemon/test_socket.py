# SPDX-License-Identifier: BSD-3-Clause
"""Who may connect, and what says whose socket it is."""

from __future__ import annotations

import fcntl
import grp
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.running import COMMAND, DEADLINE_S, Daemon


def test_owner_only(daemon: Daemon) -> None:
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_group(start: Callable[..., Daemon]) -> None:
    group = next(g for g in grp.getgrall() if g.gr_gid != 0)
    status = start(f"--socket-group={group.gr_name}").socket.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o770, group.gr_gid)


def complaint(share: Path, path: Path, *arguments: str) -> str:
    """Return the one line that a command says that cannot start."""
    done = subprocess.run(
        [COMMAND, f"--shared-dir={share}", f"--socket-path={path}", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


def test_unknown_group(tmp_path: Path) -> None:
    assert "no-such-group: no such group" in complaint(
        tmp_path, tmp_path / "s", "--socket-group=no-such-group"
    )
    assert list(tmp_path.iterdir()) == []


def test_lock_of_another_daemon(tmp_path: Path) -> None:
    """Even if its socket is not there yet, or any more."""
    lock = tmp_path / "s.pid"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        line = complaint(tmp_path, tmp_path / "s")
        assert f"{lock}: another daemon serves there" in line
    assert list(tmp_path.iterdir()) == [lock], "it is not ours to remove"


def test_lock_is_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "s.pid").symlink_to(victim)
    assert "s.pid: Too many levels of symbolic links" in complaint(tmp_path, tmp_path / "s")
    assert victim.read_text() == "precious"
