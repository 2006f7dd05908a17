# SPDX-License-Identifier: BSD-3-Clause
"""Looking at a daemon from outside, by /proc."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

DEADLINE_S: Final = 30.0
_INODE: Final = re.compile(r"^(?:fanotify|inotify) .*?\bino:([0-9a-f]+)", re.MULTILINE)


def eventually(holds: Callable[[], bool]) -> None:
    """Returns when ``holds``, for what raises no event to wait for.

    Raises:
        AssertionError: it does not within ``DEADLINE_S``.
    """
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def family(pid: int) -> list[int]:
    """``pid`` and all its descendants."""
    found = [pid]
    for known in found:
        for task in Path(f"/proc/{known}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def host_marks(pid: int) -> list[int]:
    """Inode numbers that a daemon's notification groups watch, once for each mark."""
    marks: list[int] = []
    for member in family(pid):
        for info in Path(f"/proc/{member}/fdinfo").iterdir():
            try:
                text = info.read_text()
            except FileNotFoundError:  # closed meanwhile
                continue
            marks += [int(inode, 16) for inode in _INODE.findall(text)]
    return marks


def cpu_ticks(pid: int) -> int:
    """User and system time of a daemon's threads so far, in clock ticks."""
    total = 0
    for member in family(pid):
        for stat in Path(f"/proc/{member}/task").glob("*/stat"):
            fields = stat.read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total


def idle_for(pid: int, seconds: float) -> bool:
    """Whether a daemon uses no tick for ``seconds``; a second window forgives a late straggler."""
    for _ in range(2):
        before = cpu_ticks(pid)
        time.sleep(seconds)  # the measurement itself
        if cpu_ticks(pid) == before:
            return True
    return False


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Lets every thread of a daemon rest meanwhile, so that the host's queues fill up."""
    members = family(pid)
    for member in members:
        os.kill(member, signal.SIGSTOP)
    try:
        while any(
            (task / "stat").read_text().rpartition(") ")[2][0] != "T"
            for member in members
            for task in Path(f"/proc/{member}/task").iterdir()
        ):
            os.sched_yield()  # the signal takes a moment to reach them all
        yield
    finally:
        for member in members:
            os.kill(member, signal.SIGCONT)
