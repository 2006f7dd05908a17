# SPDX-License-Identifier: BSD-3-Clause
"""More events than anybody can take: bounded memory, losses told where they are, order kept.

``--host-events`` says how many the host makes at full speed (a million is the long form).
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.events import ATTRIB, CREATE, DELETE, ON_CHILD
from tests.daemon.running import INSTRUMENTED, Daemon
from tests.frontend import ROOT_ID, Record, Session
from tests.frontend.notify import FS_Q_OVERFLOW

_numbers = itertools.count()  # of sentinels, which guests of one share have in common
MODES = pytest.mark.parametrize("mode", ["merged", "server"])
RING_KIB = 256
# Decoded events that are read ahead, VFSD_FAN_AHEAD_MAX and one read more, with their hashes.
AHEAD_KIB = 1024
# What a daemon may take on for any number of events: ring, read buffer, allocators, events.
GROWTH_KIB = RING_KIB + 64 + 512 + AHEAD_KIB

# Makes and removes files 0, 1, 2, ... in the directory that is named, as fast as it can.
_WRITER = """
import os, sys
os.chdir(sys.argv[1])
for i in range(int(sys.argv[2])):
    name = str(i)
    os.mknod(name)
    os.unlink(name)
"""


@pytest.fixture
def pairs(request: pytest.FixtureRequest) -> int:
    """How many files the host makes and removes."""
    return int(request.config.getoption("--host-events")) // 2


class Hearing:
    """What one guest hears of a directory where a writer is at work."""

    def __init__(self, daemon: Daemon, guest: Session) -> None:
        self.daemon = daemon
        self.guest = guest
        self.path = daemon.share / "d"
        self.path.mkdir(exist_ok=True)
        assert guest.notifications is not None
        self.queue = guest.notifications
        self.records: list[Record] = []
        self.watch()

    def watch(self) -> None:
        """Look the directory up and watch it, as a guest that has just mounted the share."""
        self.dir = self.guest.fuse.lookup(ROOT_ID, "d").nodeid
        self.barrier()

    def take(self) -> None:
        """Read what comes within a moment."""
        try:
            self.records += self.queue.read(0.02)
        except TimeoutError:
            return
        self.records += self.queue.read_now()

    def settle(self) -> None:
        """Read up to now: up to a sentinel, made again as long as it gets lost itself."""
        while True:
            name = f"sentinel{next(_numbers)}"
            os.mknod(self.path / name)
            self.barrier()
            self.records += self.queue.read_now()
            if self.records and self.records[-1].name == os.fsencode(name):
                return

    def barrier(self) -> None:
        """Return once everything the host holds is in the ring: a request that waits for that."""
        self.guest.fuse.fsnotify(self.dir, CREATE | DELETE | ATTRIB | ON_CHILD)

    def check(self, count: int) -> int:
        """Everything in order, once, a loss before each gap or after it. Returns the losses."""
        position = losses = 0
        gap = owed = False
        for record in self.records:
            if record.mask == FS_Q_OVERFLOW:
                assert record.nodeid == 0
                gap = True
                owed = False
                losses += 1
                continue
            if record.name.startswith(b"sentinel"):
                continue
            assert record.nodeid == self.dir
            assert record.mask in {CREATE, DELETE}
            index = 2 * int(record.name) + (record.mask == DELETE)
            assert index >= position
            owed |= index > position and not gap
            position = index + 1
            gap = False
        assert not owed
        assert position == 2 * count or gap
        return losses

    def check_correct_again(self) -> None:
        """Nothing is lost any more once there is room."""
        self.settle()
        self.records.clear()
        for i in range(50):
            os.mknod(self.path / f"{i}")
            os.unlink(self.path / f"{i}")
        self.settle()
        assert self.check(50) == 0


def most_kib(daemon: Daemon) -> int:
    """Return the largest resident set that a daemon has had."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@contextmanager
def writer(path: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run it; it has ended, and well, afterwards."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, path, str(count)]) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0


@pytest.fixture
def hear(start: Callable[..., Daemon], connect: Callable[..., Session]) -> Callable[..., Hearing]:
    """Make guests, each with a daemon of its own, that watch one directory of one share."""
    daemons: list[Daemon] = []

    def make(mode: str, *, ring_kib: int = RING_KIB, notify_buffers: int = 128) -> Hearing:
        share = daemons[0].share if daemons else None
        daemons.append(start(f"--fsnotify={mode}", f"--fsnotify-ring-kib={ring_kib}", share=share))
        return Hearing(daemons[-1], connect(daemons[-1], notify_buffers=notify_buffers))

    return make


@MODES
def test_events_at_full_speed(hear: Callable[..., Hearing], mode: str, pairs: int) -> None:
    guest = hear(mode)
    before = most_kib(guest.daemon)
    with writer(guest.path, pairs) as process:
        while process.poll() is None:
            guest.take()
    guest.settle()
    guest.check(pairs)
    assert most_kib(guest.daemon) - before < GROWTH_KIB or INSTRUMENTED
    guest.check_correct_again()


@MODES
def test_guest_that_gives_no_buffers_back(
    hear: Callable[..., Hearing], mode: str, pairs: int
) -> None:
    mute, other = hear(mode, notify_buffers=2), hear(mode)
    mute.queue.repost = False
    before = most_kib(mute.daemon)
    answered = 0
    with writer(mute.path, pairs) as process:
        while process.poll() is None:
            other.take()
            mute.guest.fuse.getattr(ROOT_ID)
            mute.barrier()
            answered += 1
    assert answered > 0
    other.settle()
    # The other guest heard everything to the end while this one holds up only itself.
    other.check(pairs)
    assert most_kib(mute.daemon) - before < GROWTH_KIB or INSTRUMENTED
    mute.barrier()  # what is still on its way would meet a ring that is full again: lost once more
    mute.records = mute.queue.read_now()  # of the two buffers there were
    mute.queue.repost = True
    mute.queue.post()
    mute.settle()
    assert mute.check(pairs) == 1
    mute.check_correct_again()
    other.check_correct_again()


@MODES
def test_overflow_of_the_hosts_queue(hear: Callable[..., Hearing], mode: str) -> None:
    slow, other = hear(mode, ring_kib=1 << 14), hear(mode)  # the ring has room for all
    kind = "fanotify" if mode == "merged" else "inotify"
    limit = int(Path(f"/proc/sys/fs/{kind}/max_queued_events").read_text())
    # Both events of a name are one in the queue of fanotify.
    count = limit // (1 if mode == "merged" else 2) + 100
    with slow.daemon.stopped(), writer(slow.path, count) as process:
        while process.poll() is None:
            other.take()
    other.settle()
    slow.settle()
    other.check(count)
    # The second is for what came behind the host's overflow event, which the sentinel may have.
    assert slow.check(count) in {1, 2}
    # What was there first is still there.
    assert slow.records[0].name == b"0"
    for guest in (slow, other):
        guest.check_correct_again()


@MODES
def test_reset_under_pressure_leaves_nothing(hear: Callable[..., Hearing], mode: str) -> None:
    guest = hear(mode, notify_buffers=2)
    guest.queue.repost = False
    with writer(guest.path, 3000):
        pass
    guest.barrier()
    guest.queue.repost = True
    guest.guest.reset()  # which gives buffers before there is a session
    guest.guest.fuse.init()
    assert guest.queue.read_now() == []
    guest.watch()
    guest.check_correct_again()
