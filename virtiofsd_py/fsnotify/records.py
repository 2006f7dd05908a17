# SPDX-License-Identifier: BSD-3-Clause
"""What a watch client receives, as frozen records.

Events of everything that is watched, and of names in watched directories, are reported, whether the
host or a guest has caused them. `Origin` says which, where the host reports it (fanotify). That a
guest reads a directory is not reported, because it looks the same as the daemon's own scans.

A `Loss` stands where records are missing, because the reader was slow or the host's own queue was
full. Directories that appeared meanwhile are found all the same, and watched from then on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias

from virtiofsd_py._records import (
    WATCH_EVENT_PAYLOAD,
    WATCH_MOUNT_PAYLOAD,
    MountChange,
    MountFlags,
    Origin,
    RecordType,
    Status,
    SuperblockChange,
    WatchEventFlags,
    WatchEventPayload,
    WatchMountPayload,
)
from virtiofsd_py.errors import VirtiofsdError
from virtiofsd_py.fsnotify.ring import RingEntry

_IS_DIR: Final = 0x4000_0000


class BadRecord(VirtiofsdError):
    """A record is malformed: its writer is not the daemon, or is another version of it."""


class EventKind(IntEnum):
    """What happened, as the number of its bit in inotify(7) and fanotify(7)."""

    ACCESS = 0
    MODIFY = 1
    ATTRIB = 2
    CLOSE_WRITE = 3
    CLOSE_NOWRITE = 4
    OPEN = 5
    MOVED_FROM = 6
    MOVED_TO = 7
    CREATE = 8
    DELETE = 9
    DELETE_SELF = 10
    MOVE_SELF = 11


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a file or directory.

    Attributes:
        kind: what.
        path: where, as it was called then, from the share on; empty for the share itself. What is
            watched itself goes by the path that was asked for, even after it was renamed. Bytes
            that are no UTF-8 are as `os.fsdecode` has them.
        is_dir: whether it is a directory.
        cookie: the same in both halves of a rename, else 0.
        origin: who has caused it.
        found: the daemon's first scan of a new directory found it. The event of its creation may
            come as well.
        watch: index of the `Watch` in the request that this is for.
    """

    kind: EventKind
    path: str
    is_dir: bool
    cookie: int
    origin: Origin
    found: bool
    watch: int

    def __str__(self) -> str:
        """Return the line that ``virtiofsd-py watch`` prints, as each record does."""
        path = (self.path or ".") + ("/" if self.is_dir else "")
        return f"{self.kind.name.lower():<13} {self.origin.name.lower():<7} {path}"

    def as_object(self) -> dict[str, Any]:
        """Return what its ``--json`` prints, as each record does."""
        return {
            "type": "event",
            "event": self.kind.name.lower(),
            "path": self.path,
            "dir": self.is_dir,
            "cookie": self.cookie,
            "origin": self.origin.name.lower(),
            "found": self.found,
            "watch": self.watch,
        }


@dataclass(frozen=True, slots=True)
class Loss:
    """Records are missing here.

    Attributes:
        count: how many; what the host itself lost counts as one.
    """

    count: int

    def __str__(self) -> str:
        """Return the line."""
        return f"{'lost':<13} {self.count}"

    def as_object(self) -> dict[str, Any]:
        """Return the object."""
        return {"type": "loss", "count": self.count}


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """The state of a watch has changed.

    Attributes:
        status: READY: from here on no event is missed. FAILED: it is not watched. INCOMPLETE: this
            directory below it, and what that contains, is not. GONE: what was watched has been
            removed, or moved out of the share. NO_ERRORS: the errors of this filesystem are not
            reported, for want of CAP_SYS_ADMIN, or because it reports none at all.
        path: of what.
        error: errno of a failure, else 0.
        watch: see `Event`.
    """

    status: Status
    path: str
    error: int
    watch: int

    def __str__(self) -> str:
        """Return the line."""
        reason = f": {os.strerror(self.error)}" if self.error else ""
        return f"{self.status.name.lower():<13} {self.path or '.'}{reason}"

    def as_object(self) -> dict[str, Any]:
        """Return the object."""
        return {
            "type": "watch",
            "status": self.status.name.lower(),
            "path": self.path,
            "error": self.error,
            "watch": self.watch,
        }


@dataclass(frozen=True, slots=True)
class MountEvent:
    """A mount below the share has appeared, gone or changed, or its filesystem has.

    Attributes:
        change: what happened.
        path: where, from the share on; empty for the filesystem that the share itself is on.
        filesystem: its type.
        device: major and minor number of the superblock.
        readonly: whether the mount is, now or at last.
        superblock_readonly: whether the filesystem is.
        watch: see `Event`.
    """

    change: MountChange | SuperblockChange
    path: str
    filesystem: str
    device: tuple[int, int]
    readonly: bool
    superblock_readonly: bool
    watch: int

    def __str__(self) -> str:
        """Return the line."""
        what = self.change.name.lower()
        return f"{what:<13} {self._type:<10} {self.path or '.'} ({self.filesystem})"

    def as_object(self) -> dict[str, Any]:
        """Return the object."""
        return {
            "type": self._type,
            "change": self.change.name.lower(),
            "path": self.path,
            "filesystem": self.filesystem,
            "device": ":".join(map(str, self.device)),
            "readonly": self.readonly,
            "superblock_readonly": self.superblock_readonly,
            "watch": self.watch,
        }

    @property
    def _type(self) -> str:
        return "mount" if isinstance(self.change, MountChange) else "superblock"


@dataclass(frozen=True, slots=True)
class FilesystemError:
    """A filesystem of the host has reported an error.

    Attributes:
        path: the directory at fault, if that is watched; else the root of the filesystem.
        error: errno of the first error.
        count: how many there were since the last record, this one included.
        watch: see `Event`.
    """

    path: str
    error: int
    count: int
    watch: int

    def __str__(self) -> str:
        """Return the line."""
        return f"{'error':<13} {self.path or '.'}: {os.strerror(self.error)} ({self.count})"

    def as_object(self) -> dict[str, Any]:
        """Return the object."""
        return {
            "type": "error",
            "error": self.error,
            "count": self.count,
            "path": self.path,
            "watch": self.watch,
        }


TYPES: Final[Mapping[str, tuple[RecordType, type[IntEnum] | None]]] = {
    "event": (RecordType.FSNOTIFY, EventKind),
    "error": (RecordType.ERROR, None),
    "mount": (RecordType.MOUNT, MountChange),
    "superblock": (RecordType.SUPERBLOCK, SuperblockChange),
}
"""What a client may choose to receive: each type by name, with the kinds of it (subtypes)."""

Record: TypeAlias = Event | FilesystemError | MountEvent | Loss | WatchStatus


def decode_untrusted(entry: RingEntry) -> Record | None:
    """Make a record of what is in the ring.

    Args:
        entry: each byte is copied once, for the producer may still write to it.

    Returns:
        The record, or None for a type that this version does not know.

    Raises:
        BadRecord: its contents contradict each other. Nothing else.
    """
    if entry.type == RecordType.LOSS:
        return Loss(entry.lost)
    if entry.type in (RecordType.MOUNT, RecordType.SUPERBLOCK):
        return _mount_untrusted(entry)
    if entry.type not in (RecordType.FSNOTIFY, RecordType.WATCH, RecordType.ERROR):
        return None
    raw, path_raw = _split(entry, WATCH_EVENT_PAYLOAD.size)
    fields = WatchEventPayload._make(WATCH_EVENT_PAYLOAD.unpack(raw))
    if fields.path_bytes != len(path_raw):
        raise BadRecord(f"event ring: a path of {fields.path_bytes} bytes in {len(path_raw)}")
    path = os.fsdecode(path_raw)
    if entry.type == RecordType.ERROR:
        return FilesystemError(path, fields.error, fields.cookie, entry.watch)
    try:
        if entry.type == RecordType.WATCH:
            return WatchStatus(Status(entry.subtype), path, fields.error, entry.watch)
        return Event(
            EventKind(entry.subtype),
            path,
            bool(fields.mask & _IS_DIR),
            fields.cookie,
            Origin(fields.origin),
            bool(fields.flags & WatchEventFlags.FOUND),
            entry.watch,
        )
    except ValueError as error:
        raise BadRecord(f"event ring: {error}") from None


def _split(entry: RingEntry, fixed_bytes: int) -> tuple[bytes, bytes]:
    """Return a copy of what a record begins with, and one of what follows."""
    raw = bytes(entry.payload)
    if len(raw) < fixed_bytes:
        raise BadRecord(f"event ring: a record of {len(raw)} bytes")
    return raw[:fixed_bytes], raw[fixed_bytes:]


def _mount_untrusted(entry: RingEntry) -> MountEvent:
    raw, text = _split(entry, WATCH_MOUNT_PAYLOAD.size)
    fields = WatchMountPayload._make(WATCH_MOUNT_PAYLOAD.unpack(raw))
    if fields.path_bytes + fields.kind_bytes != len(text):
        raise BadRecord(f"event ring: a path of {fields.path_bytes} bytes in {len(text)}")
    changes = MountChange if entry.type == RecordType.MOUNT else SuperblockChange
    try:
        change = changes(entry.subtype)
    except ValueError as error:
        raise BadRecord(f"event ring: {error}") from None
    return MountEvent(
        change,
        os.fsdecode(text[: fields.path_bytes]),
        os.fsdecode(text[fields.path_bytes :]),
        (fields.major, fields.minor),
        bool(fields.flags & MountFlags.MOUNT_READONLY),
        bool(fields.flags & MountFlags.SUPERBLOCK_READONLY),
        entry.watch,
    )
