# SPDX-License-Identifier: BSD-3-Clause
"""The dirty log: every page that the device has written to is in it, if that was asked for.

Guest memory is compared from just before a request is published to when the ring has been stopped.
In between the driver writes to its available ring only; all else that has changed was the device.
"""

from __future__ import annotations

import mmap
import os
import select
from collections.abc import Callable, Iterator
from functools import partial
from typing import Self

import pytest

from tests.daemon.events import CREATE, ON_CHILD
from tests.daemon.running import DEADLINE_S, Daemon
from tests.frontend import ROOT_ID, DriverRing, GuestMemory, Opcode, RefusedByBackend, Session
from tests.frontend.fuse_wire import READ_IN
from tests.frontend.vhost import F_LOG_ALL, Req

PAGE = 4096
OFFSET = 2 * PAGE  # of the log in its file
REQUESTS = 2  # the first request ring
NOTIFICATIONS = 1


class DirtyLog:
    """A log that a guest's device may write to, and its memory as it was at the last snapshot."""

    def __init__(self, guest: Session, size_bytes: int | None = None) -> None:
        self.guest = guest
        memory = guest.memory
        self.needed = -(-(memory.guest_base + memory.size_bytes) // (8 * PAGE))
        self.size = self.needed if size_bytes is None else size_bytes
        self.fd = os.memfd_create("log", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, OFFSET + self.size)
        self._bits = mmap.mmap(self.fd, self.size, offset=OFFSET)
        self._before = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bits.close()
        os.close(self.fd)

    def share(self) -> Self:
        self.guest.front_end.set_log_base(self.fd, self.size, OFFSET)
        return self

    def snapshot(self) -> None:
        self._bits[:] = bytes(self.size)
        self._before = self._memory()

    def changed(self) -> set[int]:
        """Return numbers of pages of the guest that differ from the snapshot."""
        after = self._memory()
        first = self.guest.memory.guest_base // PAGE
        return {
            first + at // PAGE
            for at in range(0, len(after), PAGE)
            if after[at : at + PAGE] != self._before[at : at + PAGE]
        }

    def marked(self) -> set[int]:
        return {
            8 * at + bit
            for at, byte in enumerate(self._bits[:])
            if byte
            for bit in range(8)
            if byte >> bit & 1
        }

    def _memory(self) -> bytes:
        return self.guest.memory.read(self.guest.memory.guest_base, self.guest.memory.size_bytes)


def switch(guest: Session, enabled: bool) -> None:
    """Have buffers and used rings logged, or neither, as QEMU does: while the rings run."""
    front_end, user = guest.front_end, guest.memory.user_address
    front_end.tell_u64(Req.SET_FEATURES, front_end.features | (F_LOG_ALL if enabled else 0))
    for index, ring in enumerate(guest.rings):
        parts = (user(ring.desc), user(ring.used), user(ring.avail))
        front_end.set_vring_addr(index, *parts, int(enabled), ring.used)


def outcome(log: DirtyLog, index: int, act: Callable[[], object]) -> tuple[set[int], set[int]]:
    """Return the pages that the device changed on one ring while `act` ran, and those it marked."""
    ring, front_end = log.guest.rings[index], log.guest.front_end
    log.snapshot()
    act()
    front_end.set_vring_enable(index, False)
    try:
        return log.changed() - {ring.avail // PAGE}, log.marked()
    finally:
        front_end.set_vring_enable(index, True)


def request(
    log: DirtyLog, opcode: Opcode, nodeid: int, body: bytes, room: int
) -> tuple[set[int], set[int]]:
    """Make one request; see `outcome`."""
    fuse = log.guest.fuse
    pending = fuse.submit(opcode, nodeid, body, reply_bytes=room, kick=False)

    def publish() -> None:
        fuse.ring.publish()
        fuse.ring.kick()
        fuse.wait_raw(pending)

    return outcome(log, REQUESTS, publish)


def keep_rings_apart(guest: Session) -> None:
    """Fill the pages of rings up: no buffer's mark is to stand in for a ring's."""
    for ring in guest.rings:
        for size in (6 + 2 * ring.num, 6 + 8 * ring.num):
            guest.memory.alloc(-(-size // 16) * -16 % PAGE)


def used_page(ring: DriverRing) -> int:
    return ring.used // PAGE


@pytest.fixture
def logged(daemon: Daemon) -> Iterator[tuple[Daemon, Session]]:
    """Yield a guest with little memory, whose buffers are cut as pages cut them."""
    (daemon.share / "f").write_bytes(os.urandom(300_000))
    (daemon.share / "d").mkdir()
    for i in range(50):
        (daemon.share / "d" / f"{i:0100}").touch()
    with Session.connect(daemon.socket, memory_bytes=4 << 20, chunk_bytes=PAGE) as guest:
        keep_rings_apart(guest)
        guest.fuse.init()
        yield daemon, guest


@pytest.mark.parametrize("event_idx", [False, True])
def test_every_page_that_changes_is_marked(daemon: Daemon, event_idx: bool) -> None:
    (daemon.share / "f").write_bytes(os.urandom(300_000))
    features = ~0 if event_idx else ~(1 << 29)
    with (
        Session.connect(
            daemon.socket,
            features=features & (1 << 32 | 1 << 28 | 1 << 29 | 1),
            memory_bytes=4 << 20,
            queue_size=1024,  # so that a used ring has several pages
            chunk_bytes=PAGE,
        ) as guest,
        DirtyLog(guest) as log,
    ):
        keep_rings_apart(guest)
        guest.fuse.init()
        file = guest.fuse.lookup(ROOT_ID, "f").nodeid
        fh = guest.fuse.open(file).fh
        log.share()
        switch(guest, True)
        for offset, size in ((0, 1 << 17), (12345, 70_001), (299_999, 4096), (400_000, 4096)):
            body = READ_IN.pack(fh, offset, size, 0, 0, 0, 0)
            changed, marked = request(log, Opcode.READ, file, body, size)
            assert changed
            assert changed <= marked
            assert used_page(guest.fuse.ring) in marked
            assert len(changed) >= max(0, min(size, 300_000 - offset)) // PAGE
        for opcode, nodeid, body in (
            (Opcode.GETATTR, ROOT_ID, bytes(16)),
            (Opcode.LOOKUP, ROOT_ID, b"f\0"),
            (Opcode.LOOKUP, ROOT_ID, b"missing\0"),
            (Opcode.STATFS, ROOT_ID, b""),
            (Opcode.READ, file, READ_IN.pack(fh + 1, 0, 100, 0, 0, 0, 0)),
            (Opcode(3072), ROOT_ID, bytes(16)),
        ):
            changed, marked = request(log, opcode, nodeid, body, 4096)
            assert changed
            assert changed <= marked
            assert len(marked) <= 6  # the reply's, the used ring's, what the ring's start touches


def test_notifications_are_marked(logged: tuple[Daemon, Session]) -> None:
    daemon, guest = logged
    notifications = guest.notifications
    assert notifications is not None
    notifications.repost = False
    guest.fuse.fsnotify(guest.fuse.lookup(ROOT_ID, "d").nodeid, CREATE | ON_CHILD)

    def change(name: str) -> None:
        (daemon.share / "d" / name).touch()
        assert notifications.read()

    with DirtyLog(guest) as log:
        for enabled in (True, False):
            log.share()
            switch(guest, enabled)

            changed, marked = outcome(log, NOTIFICATIONS, partial(change, f"new-{enabled}"))
            changed -= {guest.rings[REQUESTS].avail // PAGE}
            assert used_page(guest.rings[NOTIFICATIONS]) in changed
            assert len(changed) >= 2
            assert changed <= marked if enabled else not marked


def test_nothing_is_marked_unless_asked_for(logged: tuple[Daemon, Session]) -> None:
    _, guest = logged
    with DirtyLog(guest) as log:
        log.share()
        for _ in range(2):
            changed, marked = request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
            assert changed
            assert not marked
            switch(guest, True)
            changed, marked = request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
            assert changed <= marked
            switch(guest, False)


def test_buffers_and_used_rings_are_logged_apart(logged: tuple[Daemon, Session]) -> None:
    _, guest = logged
    user = guest.memory.user_address
    ring = guest.fuse.ring
    parts = (user(ring.desc), user(ring.used), user(ring.avail))
    with DirtyLog(guest) as log:
        log.share()
        guest.front_end.tell_u64(Req.SET_FEATURES, guest.front_end.features | F_LOG_ALL)
        changed, marked = request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
        assert changed - marked == {used_page(ring)}
        # The log has the used ring where the front-end says, wherever it is.
        elsewhere = guest.memory.guest_base + guest.memory.size_bytes - PAGE
        guest.front_end.set_vring_addr(REQUESTS, *parts, 1, elsewhere)
        changed, marked = request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
        assert changed - marked == {used_page(ring)}
        assert elsewhere // PAGE in marked
        # Beyond the log is nowhere.
        guest.front_end.set_vring_addr(REQUESTS, *parts, 1, (1 << 64) - PAGE)
        request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)


def test_a_replaced_log_is_left_alone(logged: tuple[Daemon, Session]) -> None:
    _, guest = logged
    with DirtyLog(guest) as old, DirtyLog(guest) as new:
        old.share()
        switch(guest, True)
        new.share()
        old.snapshot()
        changed, marked = request(new, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
        assert changed <= marked
        guest.front_end.set_vring_enable(REQUESTS, False)
        assert not old.marked()


def test_logs_that_are_too_short_are_refused(logged: tuple[Daemon, Session]) -> None:
    _, guest = logged
    with DirtyLog(guest) as log, DirtyLog(guest, log.needed - 1) as short:
        with pytest.raises(RefusedByBackend):
            short.share()
        with pytest.raises(RefusedByBackend):
            guest.front_end.set_log_base(log.fd, log.size + 1, OFFSET)
        with pytest.raises(RefusedByBackend):
            guest.front_end.set_log_base(log.fd, log.size, 1 << 40)
        read_end, write_end = os.pipe()
        with pytest.raises(RefusedByBackend):
            guest.front_end.set_log_base(read_end, log.size, 0)
        os.close(read_end)
        os.close(write_end)
        with pytest.raises(RefusedByBackend):
            switch(guest, True)  # there is no log
        log.share()
        switch(guest, True)
        with pytest.raises(RefusedByBackend):
            short.share()
        changed, marked = request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
        assert changed <= marked


def test_memory_does_not_outgrow_the_log(logged: tuple[Daemon, Session]) -> None:
    _, guest = logged
    front_end = guest.front_end
    above = guest.memory.guest_base + (1 << 30)
    with DirtyLog(guest) as log, GuestMemory(PAGE, guest_base=above, user_base=PAGE) as more:
        log.share()
        switch(guest, True)
        with pytest.raises(RefusedByBackend):
            front_end.set_mem_table(guest.memory, more)
        changed, marked = request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
        assert changed <= marked
        switch(guest, False)
        front_end.set_mem_table(guest.memory, more)
        with pytest.raises(RefusedByBackend):
            switch(guest, True)
        with DirtyLog(guest, above // (8 * PAGE) + 1) as longer:
            longer.share()
            switch(guest, True)
            changed, marked = request(longer, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
            assert changed <= marked


def test_the_log_descriptor_is_written_to(logged: tuple[Daemon, Session]) -> None:
    _, guest = logged
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        with DirtyLog(guest) as log:
            guest.front_end.set_log_fd(fd)
            log.share()
            request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
            with pytest.raises(BlockingIOError):
                os.eventfd_read(fd)
            switch(guest, True)
            request(log, Opcode.GETATTR, ROOT_ID, bytes(16), 104)
            assert select.select([fd], [], [], DEADLINE_S)[0]
            assert os.eventfd_read(fd) > 0
    finally:
        os.close(fd)
