# SPDX-License-Identifier: BSD-3-Clause
"""Mounts below the share: finds what has changed by comparing two readings of the mount table.

Where the kernel has events of mounts, they say when to read: as long as there is no consumer, the
table is not read for what is mounted elsewhere. Consumers also receive what is made read-only, of
which the kernel has no event; for them, and on older kernels, the table is read whenever any mount
has changed.

A filesystem that is mounted and unmounted between two readings is not reported, nor is one that is
made read-only and read-write. A mount that moves is reported as unmounted and mounted. See
`virtiofsd_py.sandbox.mountinfo` for which of the host's mounts the daemon can see.

Spec: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from virtiofsd_py._records import MountChange, RecordType, SuperblockChange
from virtiofsd_py.structures import MountReport

_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_READ_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table.

    Attributes:
        number: the mount's own.
        major: of the superblock.
        minor: likewise.
        part: path of what is mounted, within its filesystem.
        path: where, from the share on; empty for what the share itself is on.
        kind: type of filesystem.
        readonly: whether this mount is.
        superblock_readonly: whether the filesystem is.
    """

    number: int
    major: int
    minor: int
    part: bytes
    path: bytes
    kind: bytes
    readonly: bool
    superblock_readonly: bool


def _unescape(raw: bytes) -> bytes:
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), raw)


def parse(table: bytes, share: bytes) -> dict[int, Mount]:
    """Read the table.

    Args:
        table: the contents of /proc/self/mountinfo.
        share: the share's path there, without a slash at its end but for "/".

    Returns:
        The mounts below the share, and the one that it is on, by their numbers.
    """
    found: dict[int, Mount] = {}
    above: Mount | None = None
    above_bytes = -1
    base = b"" if share == b"/" else share
    for line in table.splitlines():
        fields = line.split(b" ")
        rest = fields[fields.index(b"-", 6) + 1 :]
        place = _unescape(fields[4])
        below = place.startswith(base + b"/") and place != share
        major, minor = fields[2].split(b":")
        mount = Mount(
            number=int(fields[0]),
            major=int(major),
            minor=int(minor),
            part=_unescape(fields[3]),
            path=place[len(base) + 1 :] if below else b"",
            kind=rest[0],
            readonly=b"ro" in fields[5].split(b","),
            superblock_readonly=b"ro" in rest[2].split(b","),
        )
        if below:
            found[mount.number] = mount
        elif (place in (b"/", share) or share.startswith(place + b"/")) and len(
            place
        ) >= above_bytes:
            # Of several mounts at one place the last is on top.
            above, above_bytes = mount, len(place)
    if above is not None:
        found[above.number] = above
    return found


def compare(before: Mapping[int, Mount], after: Mapping[int, Mount]) -> Iterator[MountReport]:
    """Yield what has changed from one table to the next."""
    gone = [m for n, m in before.items() if n not in after or after[n].path != m.path]
    for mount in reversed(gone):
        if mount.path:
            yield _record(RecordType.MOUNT, MountChange.UNMOUNTED, mount)
    known = {(m.major, m.minor) for m in before.values()}
    for number, mount in after.items():
        old = before.get(number)
        if not old or old.path != mount.path:
            bound = mount.part != b"/" or (mount.major, mount.minor) in known
            change = MountChange.BOUND if bound else MountChange.MOUNTED
            known.add((mount.major, mount.minor))
            if mount.path:
                yield _record(RecordType.MOUNT, change, mount)
        elif mount.path and old.readonly != mount.readonly:
            change = MountChange.READONLY if mount.readonly else MountChange.READWRITE
            yield _record(RecordType.MOUNT, change, mount)
        if old and old.superblock_readonly != mount.superblock_readonly:
            made = (
                SuperblockChange.READONLY
                if mount.superblock_readonly
                else SuperblockChange.READWRITE
            )
            yield _record(RecordType.SUPERBLOCK, made, mount)


def _record(kind: RecordType, change: MountChange | SuperblockChange, mount: Mount) -> MountReport:
    return MountReport(
        type=kind,
        subtype=change,
        number=mount.number,
        major=mount.major,
        minor=mount.minor,
        readonly=mount.readonly,
        superblock_readonly=mount.superblock_readonly,
        path=mount.path,
        kind=mount.kind,
    )


class MountSink(Protocol):
    """What of `virtiofsd_py.engine.Engine` is needed here."""

    def report_mount(self, mount: MountReport) -> None:
        """See there."""

    def expire(self, dev: int, ino: int, name: bytes) -> None:
        """See there."""


class Events(Protocol):
    """What of `virtiofsd_py.sandbox.mountevents.MountEvents` is needed here."""

    def fileno(self) -> int:
        """See there."""

    def concern_share(self) -> bool:
        """See there."""

    def close(self) -> None:
        """See there."""


class MountWatch:
    """Watches the mount table while a guest or a consumer needs it; reports changes to the engine.

    The engine has the guest look up again each name at which a filesystem was mounted or unmounted.
    Until then the guest uses its cached entry.
    """

    def __init__(
        self,
        table_fd: int,
        notify_fd: int,
        share: str,
        root_fd: int,
        sink: MountSink,
        *,
        events: Events | None,
    ) -> None:
        """Take the descriptors; nothing is watched yet.

        Args:
            table_fd: /proc/self/mountinfo; owned.
            notify_fd: an epoll descriptor that is readable when the host has changed mounts; owned.
            share: path of the share in that table.
            root_fd: O_PATH descriptor of the share; owned.
            sink: receives the changes.
            events: of the mounts in that table; owned. None: it is polled.
        """
        self._table_fd = table_fd
        self._notify_fd = notify_fd
        self._share = os.fsencode(share).rstrip(b"/") or b"/"
        self._root_fd = root_fd
        self._sink = sink
        self._events = events
        self._epoll = select.epoll()
        self._interests = 0
        self._consumers = 0
        self._mounts: dict[int, Mount] = {}

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Stop watching, and close what is owned."""
        self._epoll.close()
        if self._events is not None:
            self._events.close()
        for fd in (self._table_fd, self._notify_fd, self._root_fd):
            os.close(fd)

    def hold(self) -> None:
        """Count a consumer that needs the table."""
        self._consumers += 1
        if self._consumers == 1:
            # Readable for all of the host's mounts. A guest needs no changes of superblocks, and
            # mounts below the share are in the daemon's own table.
            self._epoll.register(self._notify_fd, select.EPOLLIN)
        self.hold_for_guest()

    def hold_for_guest(self) -> None:
        """Count a guest that needs it, for mounts and not for superblocks."""
        self._interests += 1
        if self._interests > 1:
            return
        if self._events is not None:
            self._epoll.register(self._events, select.EPOLLIN)
            self._events.concern_share()  # Earlier changes are in the table.
        else:
            # A mount table is always readable; changes are exceptional: proc_pid_mountinfo(5).
            self._epoll.register(self._table_fd, select.EPOLLPRI)
        self._mounts = self._read()

    def release(self) -> None:
        """Count a consumer less."""
        self._consumers -= 1
        if self._consumers == 0:
            self._epoll.unregister(self._notify_fd)
        self._interests -= 1
        if self._interests == 0:
            self._epoll.unregister(self._events or self._table_fd)

    def serve(self) -> bool:
        """Report what has changed; always return True, to go on."""
        self._epoll.poll(0)
        if self._interests == 0:
            return True
        # The caller's poll has consumed the edge of `notify_fd`, so consumers always get a reading.
        if self._events is not None and not self._events.concern_share() and not self._consumers:
            return True
        before, self._mounts = self._mounts, self._read()
        changes = list(compare(before, self._mounts))
        for path in sorted({r.path for r in changes if r.type is RecordType.MOUNT}):
            self._expire(path)
        for record in changes:
            self._sink.report_mount(record)
        return True

    def _read(self) -> dict[int, Mount]:
        os.lseek(self._table_fd, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self._table_fd, _READ_BYTES):
            parts.append(part)
        return parse(b"".join(parts), self._share)

    def _expire(self, path: bytes) -> None:
        parent, name = os.path.split(path)
        try:
            seen = os.stat(parent or b".", dir_fd=self._root_fd, follow_symlinks=False)
        except OSError:
            return  # The directory is gone, and the name with it.
        self._sink.expire(seen.st_dev, seen.st_ino, name)
