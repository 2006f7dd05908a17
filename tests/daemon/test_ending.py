# SPDX-License-Identifier: BSD-3-Clause
"""The daemon ends when it is to, whatever its threads wait for: front-end, lease or filesystem."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.events import CREATE, ON_CHILD
from tests.daemon.hanging import frozen_filesystem, silent_filesystem
from tests.daemon.running import COMMAND, DEADLINE_S, Daemon
from tests.frontend import ROOT_ID, Opcode, Session, vhost
from tests.frontend import fuse_wire as wire
from tests.frontend.fuse import Pending
from tests.frontend.session import DEFAULT_FEATURES

NOTIFICATIONS, REQUESTS = 1, 2
# Each reply and each event is signalled.
FEATURES = DEFAULT_FEATURES & ~vhost.F_RING_EVENT_IDX
PAGE = 4096
# fs.lease-break-time is 45 s.
BEFORE_THE_LEASE_BREAKS_S = 40.0

Start = Callable[..., Daemon]
End = Callable[[Daemon, Session], None]


def by_signal(daemon: Daemon, guest: Session) -> None:
    daemon.process.send_signal(signal.SIGTERM)


def by_two_signals(daemon: Daemon, guest: Session) -> None:
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGINT)


def by_hang_up(daemon: Daemon, guest: Session) -> None:
    guest.front_end.close()


ENDS = pytest.mark.parametrize("end", [by_signal, by_hang_up])
SANDBOXES = pytest.mark.parametrize("sandbox", ["namespace", "none"])


def was_clean(daemon: Daemon) -> bool:
    return not any("forced_end" in line or "event=killed" in line for line in daemon.log)


class Full:
    """A descriptor that is written to: full, in blocking mode, and nobody reads from it."""

    def __init__(self, kind: str) -> None:
        """Make a pipe or an eventfd, with room yet."""
        if kind == "pipe":
            self._reader, self.fd = os.pipe()
        else:
            self._reader = self.fd = os.eventfd(0, os.EFD_CLOEXEC)

    def fill(self) -> None:
        """Fill it; the daemon may do so too meanwhile."""
        os.set_blocking(self.fd, False)
        if self._reader == self.fd:
            if select.select([self.fd], [], [], 0)[0]:
                os.eventfd_read(self.fd)
            os.eventfd_write(self.fd, 0xFFFF_FFFF_FFFF_FFFE)
        else:
            for size in (PAGE, 1):
                while select.select([], [self.fd], [], 0)[1]:
                    try:
                        os.write(self.fd, bytes(size))
                    except BlockingIOError:
                        break
        os.set_blocking(self.fd, True)

    def close(self) -> None:
        for fd in {self._reader, self.fd}:
            os.close(fd)


@pytest.fixture(params=["pipe", "eventfd"])
def full(request: pytest.FixtureRequest) -> Iterator[Full]:
    made = Full(request.param)
    yield made
    made.close()


def wait_polled(done: Callable[[], bool]) -> None:
    """Wait for what nobody signals."""
    end = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.001)


@ENDS
def test_a_full_call_descriptor_stops_no_reply(daemon: Daemon, full: Full, end: End) -> None:
    with Session.connect(daemon.socket, features=FEATURES) as guest:
        guest.fuse.init()
        guest.front_end.set_vring_call(REQUESTS, full.fd)
        guest.fuse.ring.arm_call()
        full.fill()
        for _ in range(3):
            guest.fuse.submit(Opcode.STATFS, ROOT_ID)
            wait_polled(lambda: guest.fuse.ring.pop_used() is not None)
        # Nobody who wants something of the ring waits either.
        guest.front_end.set_vring_call(REQUESTS, full.fd)
        guest.front_end.stop_ring(REQUESTS)
        end(daemon, guest)
        assert daemon.wait() == 0
    assert was_clean(daemon)


@ENDS
def test_a_full_call_descriptor_stops_no_event(daemon: Daemon, full: Full, end: End) -> None:
    with Session.connect(daemon.socket, features=FEATURES) as guest:
        guest.fuse.init()
        guest.fuse.fsnotify(ROOT_ID, CREATE | ON_CHILD)
        guest.front_end.set_vring_call(NOTIFICATIONS, full.fd)
        full.fill()
        for number in range(3):
            (daemon.share / f"{number}").mkdir()
            wait_polled(lambda: guest.rings[NOTIFICATIONS].pop_used() is not None)
        # Requests that have events before them, and who stops the ring.
        guest.fuse.mkdir(ROOT_ID, "d")
        guest.fuse.rmdir(ROOT_ID, "d")
        guest.front_end.set_vring_call(NOTIFICATIONS, full.fd)
        guest.front_end.stop_ring(NOTIFICATIONS)
        end(daemon, guest)
        assert daemon.wait() == 0
    assert was_clean(daemon)


@pytest.mark.parametrize("index", [NOTIFICATIONS, REQUESTS])
def test_a_full_error_descriptor_stops_nothing(daemon: Daemon, full: Full, index: int) -> None:
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        guest.front_end.set_vring_err(index, full.fd)
        full.fill()
        guest.fuse.fsnotify(ROOT_ID, CREATE | ON_CHILD)
        # An index that is further ahead than the ring is long breaks it.
        guest.rings[index].set_avail_idx(guest.rings[index].num * 2 + 1)
        guest.rings[index].kick()
        (daemon.share / "made").touch()
        daemon.wait_for_log("broken")
        guest.front_end.stop_ring(index)
        by_signal(daemon, guest)
        assert daemon.wait() == 0
    assert was_clean(daemon)


def test_a_full_log_descriptor_stops_no_reply(daemon: Daemon, full: Full) -> None:
    with Session.connect(daemon.socket, features=FEATURES) as guest:
        guest.fuse.init()
        size = -(-(guest.memory.guest_base + guest.memory.size_bytes) // (8 * PAGE))
        log = os.memfd_create("log", os.MFD_CLOEXEC)
        try:
            os.ftruncate(log, size)
            guest.front_end.set_log_base(log, size)
        finally:
            os.close(log)
        guest.front_end.set_log_fd(full.fd)
        full.fill()
        ring = guest.fuse.ring
        user = ring.memory.user_address
        guest.front_end.set_vring_addr(
            REQUESTS, user(ring.desc), user(ring.used), user(ring.avail), 1, ring.used
        )
        for _ in range(3):
            guest.fuse.statfs()
        guest.front_end.stop_ring(REQUESTS)
        by_signal(daemon, guest)
        assert daemon.wait() == 0
    assert was_clean(daemon)


@contextmanager
def leased(path: Path) -> Iterator[Callable[[], None]]:
    """Have a lease on a file; yields what waits until somebody opens it."""
    path.write_text("content")
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    broken = threading.Event()
    before = signal.signal(signal.SIGIO, lambda *_: broken.set())
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield lambda: wait_polled(broken.is_set)
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, before)


def submit_open(guest: Session, name: str) -> Pending:
    return submit_open_node(guest, guest.fuse.lookup(ROOT_ID, name).nodeid)


def submit_open_node(guest: Session, node: int) -> Pending:
    return guest.fuse.submit(Opcode.OPEN, node, wire.OPEN_IN.pack(os.O_RDONLY, 0))


@pytest.mark.parametrize("end", [by_signal, by_two_signals, by_hang_up])
@SANDBOXES
def test_a_lease_does_not_hold_the_end_up(start: Start, sandbox: str, end: End) -> None:
    daemon = start(f"--sandbox={sandbox}")
    with (
        leased(daemon.share / "f") as wait_opened,
        Session.connect(daemon.socket) as guest,
    ):
        guest.fuse.init()
        submit_open(guest, "f")
        wait_opened()
        end(daemon, guest)
        assert daemon.wait(BEFORE_THE_LEASE_BREAKS_S) == 0
    assert was_clean(daemon)
    assert not daemon.socket.exists()


def test_a_lease_does_not_hold_the_end_up_while_its_ring_stops(daemon: Daemon) -> None:
    with (
        leased(daemon.share / "f") as wait_opened,
        Session.connect(daemon.socket) as guest,
    ):
        guest.fuse.init()
        submit_open(guest, "f")
        wait_opened()
        guest.front_end.send(vhost.Req.GET_VRING_BASE, bytes([REQUESTS, *bytes(7)]))
        by_signal(daemon, guest)
        assert daemon.wait(BEFORE_THE_LEASE_BREAKS_S) == 0
    assert was_clean(daemon)


def test_a_request_that_waits_is_not_interrupted_by_its_ring_s_stop(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        with leased(daemon.share / "f") as wait_opened:
            pending = submit_open(guest, "f")
            wait_opened()
            guest.front_end.send(vhost.Req.GET_VRING_BASE, bytes([REQUESTS, *bytes(7)]))
        guest.front_end.receive()
        assert guest.fuse.wait(pending).error == 0
        by_signal(daemon, guest)
        assert daemon.wait() == 0


def test_a_kick_that_was_taken_back_holds_nobody_up(daemon: Daemon) -> None:
    with Session.connect(daemon.socket, features=FEATURES) as guest:
        guest.fuse.init()
        with leased(daemon.share / "f") as wait_opened:
            node = guest.fuse.lookup(ROOT_ID, "f").nodeid
            # Else the kick of the LOOKUP might be taken together with that of the OPEN.
            wait_polled(guest.fuse.ring.device_sleeps)
            pending = submit_open_node(guest, node)
            wait_opened()
            # It has been seen, and is read from its descriptor once the request is served.
            os.set_blocking(guest.fuse.ring.kick_fd, False)
            os.eventfd_read(guest.fuse.ring.kick_fd)
            os.set_blocking(guest.fuse.ring.kick_fd, True)
        assert guest.fuse.wait(pending).error == 0
        guest.front_end.stop_ring(REQUESTS)
        by_signal(daemon, guest)
        assert daemon.wait() == 0
    assert was_clean(daemon)


@ENDS
@SANDBOXES
def test_a_silent_filesystem_does_not_hold_the_end_up(
    start: Start, tmp_path: Path, sandbox: str, end: End
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    with silent_filesystem(share / "hung") as silent:
        daemon = start(f"--sandbox={sandbox}", share=share)
        with Session.connect(daemon.socket) as guest:
            guest.fuse.init()
            hung = guest.fuse.lookup(ROOT_ID, "hung").nodeid
            silent.fall_silent()
            guest.fuse.submit(Opcode.LOOKUP, hung, b"name\0")
            assert silent.wait_asked(DEADLINE_S)
            end(daemon, guest)
            assert daemon.wait() == 0
        assert [line for line in daemon.log if "event=forced_end" in line]
        assert not daemon.socket.exists()
        assert not Path(f"{daemon.socket}.pid").exists()


@ENDS
def test_a_frozen_filesystem_does_not_hold_the_end_up(
    start: Start, tmp_path: Path, end: End
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    with frozen_filesystem(share / "frozen", tmp_path / "image"):
        daemon = start(share=share)
        with Session.connect(daemon.socket) as guest:
            guest.fuse.init()
            frozen = guest.fuse.lookup(ROOT_ID, "frozen").nodeid
            guest.fuse.submit(Opcode.MKDIR, frozen, wire.MKDIR_IN.pack(0o755, 0) + b"d\0")
            wait_polled(lambda: waits_for_thaw(daemon))
            end(daemon, guest)
            # The kernel cannot let the process go before it is thawed.
            assert daemon.process.wait(DEADLINE_S) == 0
            assert not daemon.socket.exists()
            assert not Path(f"{daemon.socket}.pid").exists()
    daemon.wait()
    assert [line for line in daemon.log if "event=left_behind" in line]


@SANDBOXES
def test_a_silent_filesystem_does_not_hold_the_start_up(tmp_path: Path, sandbox: str) -> None:
    """What is to end before it serves does."""
    socket = tmp_path / "socket"
    with silent_filesystem(tmp_path / "share") as silent:
        silent.fall_silent()
        process = subprocess.Popen(
            [
                COMMAND,
                f"--shared-dir={tmp_path}/share",
                f"--socket-path={socket}",
                f"--sandbox={sandbox}",
            ]
        )
        try:
            assert silent.wait_asked(DEADLINE_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == -signal.SIGTERM
        finally:
            process.kill()
            process.wait()
        assert not socket.exists()


def waits_for_thaw(daemon: Daemon) -> bool:
    return any(
        "percpu_rwsem" in (task / "wchan").read_text() or "D (" in (task / "status").read_text()
        for task in Path(f"/proc/{daemon.pid}/task").iterdir()
    )
