# SPDX-License-Identifier: BSD-3-Clause
"""Daemons to measure: those that run already, and those that we start; their time and memory."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

END_DEADLINE_S: Final = 30.0
_CPUCLOCK_SCHED: Final = 2


def family(pid: int) -> list[int]:
    """Return `pid` and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def cpu_ns(pids: list[int]) -> int:
    """Return the processor time, user and system, of all threads these processes ever had."""
    # The clock id of a process, as clock_getcpuclockid(3) makes it.
    return sum(time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED) for pid in pids)


def sleeps(pids: list[int]) -> int:
    """Return how often the threads that these processes have now went to sleep."""
    count = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            with suppress(OSError):  # the thread has ended
                line = next(filter(_is_sleeps, status.read_text().splitlines()))
                count += int(line.split()[1])
    return count


def _is_sleeps(line: str) -> bool:
    return line.startswith("voluntary_ctxt_switches:")


def resident_bytes(pids: list[int]) -> int:
    """Return what these processes hold of the memory, what they share with each other once.

    They are forks of one another: the largest counts in whole, of the others what is theirs alone.
    """
    whole, own = [], []
    for pid in pids:
        kib: Counter[str] = Counter()
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in {"Rss", "Private_Clean", "Private_Dirty"}:
                kib[name] = int(rest.split()[0])
        whole.append(kib["Rss"])
        own.append(kib["Private_Clean"] + kib["Private_Dirty"])
    largest = whole.index(max(whole))
    return (whole[largest] + sum(own) - own[largest]) << 10


@contextmanager
def pinned(cpus: Set[int] | None) -> Iterator[None]:
    """Let this thread, and what it starts meanwhile, run on `cpus` only; None changes nothing."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def prioritise_session(pid: int | str, nice: int) -> int:
    """Set how nice the session of a process is to others; returns how nice it was.

    Where each session has its share of the processors (sched(7), autogroup), a process is nice only
    within its own. Does nothing elsewhere, or to somebody else's.
    """
    group = Path(f"/proc/{pid}/autogroup")
    with suppress(OSError):
        before = nice_of(group.read_text())
        if before is not None:
            group.write_text(str(nice))
            return before
    return 0


def nice_of(autogroup: str) -> int | None:
    """Return how nice /proc/PID/autogroup says a session is.

    None if it says nothing: the process was there before any session, or has none of its own.
    """
    _, _, nice = autogroup.rpartition(" nice ")
    return int(nice) if nice else None


@contextmanager
def prioritised(nice: int) -> Iterator[None]:
    """Let this process, its session and what it starts be so nice; 0 changes nothing."""
    before = 0
    if nice:
        os.nice(nice)
        before = prioritise_session("self", nice)
    try:
        yield
    finally:
        if nice:
            prioritise_session("self", before)


@contextmanager
def started(
    command: str, share: Path, cpus: Set[int] | None = None
) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Start a daemon on a socket that we listen at; yields a connection to it, and the process.

    Args:
        command: its command line, in which {fd} and {share} stand for the listening descriptor and
            the directory.
        share: that directory.
        cpus: where it may run.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("")  # an abstract name of the kernel's choice
        listener.listen(1)
        words = [w.format(fd=listener.fileno(), share=share) for w in shlex.split(command)]
        with pinned(cpus):
            process = subprocess.Popen(
                words, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL
            )
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(listener.getsockname())
            listener.close()
            yield connection, process
        finally:
            connection.close()
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """A daemon ends with its connection; see to it."""
    try:
        process.wait(END_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
