# SPDX-License-Identifier: BSD-3-Clause
"""Event bits, a watched directory, and what came up to now: for all tests of events."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, Record, Session
from tests.frontend.notify import FS_ISDIR, FSN_UNLINKED

ACCESS, MODIFY, ATTRIB, CLOSE_WRITE, CLOSE_NOWRITE, OPEN = 1, 2, 4, 8, 0x10, 0x20
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = (
    0x40,
    0x80,
    0x100,
    0x200,
    0x400,
    0x800,
)
ALL = 0xFFF
ON_CHILD = 0x0800_0000
SENTINEL = b"sentinel"


class Watched:
    """A watched directory ``d`` with a file ``f`` in it, as guest and host see them."""

    def __init__(self, daemon: Daemon, guest: Session, mask: int = ALL | ON_CHILD) -> None:
        self.path = daemon.share / "d"
        self.path.mkdir()
        (self.path / "f").write_bytes(b"12345")
        self.daemon = daemon
        self.guest = guest
        self.dir = guest.fuse.lookup(ROOT_ID, "d").nodeid
        self.file = guest.fuse.lookup(self.dir, "f").nodeid
        guest.fuse.fsnotify(self.dir, mask)

    def events(self) -> list[Record]:
        """Return all records up to now."""
        return until_sentinel(self.guest, self.path, self.dir)

    def short(self) -> list[tuple[int, bytes]]:
        return [(r.mask, r.name) for r in self.events()]


def until_sentinel(guest: Session, path: Path, nodeid: int) -> list[Record]:
    """Make a sentinel in a directory that is watched for CREATE; return what came before it."""
    assert guest.notifications is not None
    (path / os.fsdecode(SENTINEL)).mkdir()
    (path / os.fsdecode(SENTINEL)).rmdir()
    records = guest.notifications.read_until(
        lambda r: (r.nodeid, r.mask, r.name) == (nodeid, DELETE | FS_ISDIR, SENTINEL)
    )
    return [r for r in records if r.name != SENTINEL]


def with_its_end(records: list[Record]) -> list[Record]:
    """Join the ATTRIB of a last unlink with the end that is told next.

    They are one record or two: the daemon may have read the first before the host had the second.
    """
    joined: list[Record] = []
    for record in records:
        before = joined[-1] if joined else None
        if (
            before is not None
            and (before.nodeid, before.mask, before.flags) == (record.nodeid, ATTRIB, 0)
            and (record.mask, record.flags) == (0, FSN_UNLINKED)
        ):
            joined[-1] = replace(before, flags=FSN_UNLINKED)
        else:
            joined.append(record)
    return joined
