# SPDX-License-Identifier: BSD-3-Clause
"""A guest whose kernel was built from the remote-inotify series of October 2021.

It tells the device each watch of each of its inotify instances (a group, which it names by a number
of its own), raises no local event at all, and hands what a notification says to every watch of that
inode. That last step is done here as well, so a test sees what each instance would read.

Spec: "[RFC PATCH 0/7] Inotify support in FUSE and virtiofs", linux-fsdevel, 25 October 2021.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.frontend import fuse_wire as wire
from tests.frontend.fuse_wire import InitFlag, InitReply, Opcode
from tests.frontend.session import Session

FSNOTIFY = 51
HAVE_FSNOTIFY = 1 << 30
NOTIFY_FSNOTIFY = 8
REMOVE, ADD = 0, 1

IN_ISDIR = 0x4000_0000
IN_Q_OVERFLOW = 0x4000
IN_MASK_ADD = 0x2000_0000
_ALL_EVENTS = 0xFFF
# What this kernel's FUSE offers besides.
_INIT_FLAGS = (
    InitFlag.ASYNC_READ | InitFlag.BIG_WRITES | InitFlag.ATOMIC_O_TRUNC | InitFlag.PARALLEL_DIROPS
)
_MINOR = 36

_IN = struct.Struct("=QQII")
_OUT = struct.Struct("=QQII")
_INIT_IN = struct.Struct("=IIII")


@dataclass(frozen=True, slots=True)
class Event:
    """struct fuse_notify_fsnotify_out of that series, with its name."""

    inode: int
    mask: int
    cookie: int
    name: bytes


def parse_event(raw: bytes) -> Event:
    """Decode one buffer, strictly: exactly one event.

    Raises:
        ValueError: a byte is not as the protocol has it.
    """
    size, code, unique = wire.OUT_HEADER.unpack_from(raw)
    if (size, code, unique) != (len(raw), NOTIFY_FSNOTIFY, 0):
        raise ValueError(f"length {size} of {len(raw)}, code {code}, unique {unique}")
    inode, mask, namelen, cookie = _OUT.unpack_from(raw, wire.OUT_HEADER.size)
    padded = raw[wire.OUT_HEADER.size + _OUT.size :]
    name = padded.rstrip(b"\0")
    if len(padded) != namelen or namelen % 16 or (namelen and not namelen - 16 <= len(name)):
        raise ValueError(f"a name of {namelen} bytes: {padded!r}")
    if namelen and len(name) == namelen:
        raise ValueError(f"{name!r} without a NUL")
    if (namelen and not name) or b"\0" in name or b"/" in name:
        raise ValueError(f"a name {name!r}")
    return Event(inode, mask, cookie, name)


@dataclass
class Group:
    """An inotify instance: its watches, and what it may read."""

    watches: dict[int, int] = field(default_factory=dict)
    queue: list[Event] = field(default_factory=list)

    def read(self) -> list[Event]:
        """Take everything."""
        events, self.queue = self.queue, []
        return events


class Guest:
    """Such a kernel over a session; groups are named by any 64-bit number.

    Attributes:
        fuse: for ordinary requests.
        groups: inotify instances by name.
        told: every event that came over the ring, in order, whoever wanted it.
    """

    def __init__(self, session: Session) -> None:
        """Use a session that has not said INIT."""
        assert session.notifications is not None
        self.session = session
        self.notifications = session.notifications
        self.fuse = session.fuse
        self.groups: dict[int, Group] = {}
        self.told: list[Event] = []

    def init(self, flags: int = _INIT_FLAGS | HAVE_FSNOTIFY) -> InitReply:
        """Say INIT as that kernel does: short, with bit 30 for remote fsnotify."""
        body = _INIT_IN.pack(wire.KERNEL_VERSION, _MINOR, 128 << 10, flags)
        return InitReply.parse(self.fuse.request(Opcode.INIT, 0, body))

    def request(self, nodeid: int, mask: int, group: int, action: int) -> None:
        """Send FUSE_FSNOTIFY with whatever is given."""
        body = _IN.pack(mask, group, action, 0)
        assert not self.fuse.request(FSNOTIFY, nodeid, body, reply_bytes=64)

    def add_watch(self, group: int, nodeid: int, mask: int) -> None:
        """inotify_add_watch(): a new watch, or another mask for one."""
        self.request(nodeid, mask, group, ADD)
        watches = self.groups.setdefault(group, Group()).watches
        before = watches.get(nodeid, 0) if mask & IN_MASK_ADD else 0
        watches[nodeid] = before | mask & _ALL_EVENTS

    def rm_watch(self, group: int, nodeid: int) -> None:
        """inotify_rm_watch(); the request carries the mask of the watch that ends."""
        self.request(nodeid, self.groups[group].watches.pop(nodeid), group, REMOVE)

    def close_group(self, group: int) -> None:
        """Close an inotify instance."""
        for nodeid in list(self.groups[group].watches):
            self.rm_watch(group, nodeid)
        del self.groups[group]

    def wanted(self, nodeid: int) -> int:
        """Return the union of all masks of one inode."""
        union = 0
        for group in self.groups.values():
            union |= group.watches.get(nodeid, 0)
        return union

    def hear_until(self, last: Callable[[Event], bool]) -> list[Event]:
        """Deliver what comes, up to and including the `last`; return it."""
        heard: list[Event] = []
        while not heard or not last(heard[-1]):
            heard.append(parse_event(self.notifications.read_raw()))
            self._deliver(heard[-1])
        self.told += heard
        return heard

    def _deliver(self, event: Event) -> None:
        for group in self.groups.values():
            if group.watches.get(event.inode, 0) & event.mask:
                group.queue.append(event)
